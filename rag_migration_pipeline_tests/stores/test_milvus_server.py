"""Milvus' own quirks on the real server 2.3.5, and logins over TLS; what every store promises is in the laws."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from rag_migration_pipeline import errors
from rag_migration_pipeline.records import INT64_MAX, FieldSpec, IdKind
from rag_migration_pipeline.stores.milvus import MilvusSettings, MilvusStore
from rag_migration_pipeline.stores.registry import open_source
from rag_migration_pipeline_tests.servers.certificates import make_certificate
from rag_migration_pipeline_tests.servers.milvus import MilvusServer
from rag_migration_pipeline_tests.stores.milvus_samples import batch_of, spec_of, vendor

pytestmark = pytest.mark.server


@pytest.fixture
def settings(milvus_server: Any) -> MilvusSettings:
    return MilvusSettings(host=milvus_server.host, port=milvus_server.port)


@pytest.fixture
def store(settings: MilvusSettings) -> Iterator[MilvusStore]:
    with settings.open(create=True) as opened:
        assert isinstance(opened, MilvusStore)
        before = opened.list_collections()
        yield opened
        for name in set(opened.list_collections()) - set(before):
            opened.drop(name)


def test_duplicate_keys_are_counted_but_answered_once(store: MilvusStore) -> None:
    """The difference between count and ids is how a source with duplicate keys is found out."""
    spec = spec_of(IdKind.INT64)
    store.create(spec)
    store.upsert(spec.name, batch_of([1, 2, 3]))
    with vendor(store) as client:
        client.insert(spec.name, [{"id": 2, "vector": [1, 2, 3, 4], "n": 7}])
    assert store.count(spec.name) == 4
    assert list(store.iter_ids(spec.name)) == [[1, 2, 3]]


def test_the_largest_key_is_rejected_because_it_cannot_be_read_back(store: MilvusStore) -> None:
    """2.3.5 accepts and counts 2**63 - 1, and answers it to nobody."""
    spec = spec_of(IdKind.INT64)
    store.create(spec)
    result = store.upsert(spec.name, batch_of([INT64_MAX - 1, INT64_MAX]))
    assert (result.written, [rejection.record_id for rejection in result.rejections]) == (1, [INT64_MAX])
    assert list(store.iter_ids(spec.name)) == [[INT64_MAX - 1]]
    with vendor(store) as client:
        client.insert(spec.name, [{"id": INT64_MAX, "vector": [1, 2, 3, 4]}])
        rows = client.query(spec.name, filter="id > 0", limit=9, consistency_level="Strong")
        assert [row["id"] for row in rows] == [INT64_MAX - 1]
    assert store.count(spec.name) == 2


def test_a_released_source_is_refused_and_loaded_only_when_asked(settings: MilvusSettings, store: MilvusStore) -> None:
    """Loading takes the server's memory, so it is the user's to allow; afterwards it is released again."""
    spec = spec_of()
    store.create(spec)
    store.upsert(spec.name, batch_of(["a", "b"]))
    with vendor(store) as client:
        client.release_collection(spec.name)
        with open_source(settings) as source:
            for read in (source.describe, source.count, lambda name: list(source.iter_ids(name))):
                with pytest.raises(errors.StoreRequestError, match="not loaded") as caught:
                    read(spec.name)
                assert "load_source=true" in caught.value.todo
        assert _load_state(client, spec.name) == "NotLoad"
        with open_source(replace(settings, load_source=True)) as source:
            assert source.describe(spec.name).count == 2
            assert _load_state(client, spec.name) == "Loaded"
        assert _load_state(client, spec.name) == "NotLoad"
        with settings.open(create=True) as target:
            assert target.count(spec.name) == 2
        assert _load_state(client, spec.name) == "Loaded"


def _load_state(client: Any, name: str) -> str:
    return str(client.get_load_state(name)["state"].name)


def test_a_record_of_another_partition_is_replaced_there(store: MilvusStore) -> None:
    """An upsert replaces within its own partition only, so the old record is deleted first."""
    spec = spec_of(IdKind.INT64)
    store.create(spec)
    with vendor(store) as client:
        client.create_partition(spec.name, "old")
        client.insert(spec.name, [{"id": 1, "vector": [1, 2, 3, 4], "n": 7}], partition_name="old")
    with store.settings.open(create=True) as again:
        assert again.describe(spec.name).spec.settings["partitions"] == ["_default", "old"]
        again.upsert(spec.name, batch_of([1, 2]))
        assert again.count(spec.name) == 2
        assert list(again.fetch(spec.name, [1]).payloads) == [{"n": 0}]


def test_the_dynamic_field_holds_what_the_screening_lets_pass(store: MilvusStore) -> None:
    spec = spec_of()
    store.create(spec)
    payloads = [{"x": "a" * 65_528}, {"x": "a" * 65_529}, {"x": "ü" * 32_764}]
    result = store.upsert(spec.name, batch_of(["a", "b", "c"], payloads))
    assert [rejection.record_id for rejection in result.rejections] == ["b"]
    assert list(store.fetch(spec.name, ["c", "a"]).payloads) == [payloads[2], payloads[0]]


def test_typed_text_holds_what_the_screening_lets_pass(store: MilvusStore) -> None:
    spec = spec_of(fields=(FieldSpec("document", "string", max_length_bytes=65_535),))
    store.create(spec)
    texts = ["", "d" * 65_535, "d" * 65_536, "ü" * 32_767]
    result = store.upsert(spec.name, batch_of(list("abcd"), [{"document": text, "n": 1} for text in texts]))
    assert [rejection.record_id for rejection in result.rejections] == ["c"]
    found = store.fetch(spec.name, ["a", "b", "d"])
    assert [payload["document"] for payload in found.payloads] == [texts[0], texts[1], texts[3]]


def test_nullable_fields_are_refused_by_servers_before_2_5(store: MilvusStore) -> None:
    """2.3.5 accepts the flag, drops it, and refuses the null later."""
    spec = spec_of(fields=(FieldSpec("maybe", "string", is_nullable=True),))
    with pytest.raises(errors.SchemaCompatibilityError, match=r"2\.3\.5 .*maybe.*nullable"):
        store.create(spec)
    assert not store.exists(spec.name)


@pytest.mark.slow
def test_answers_longer_than_the_server_allows_are_read_in_smaller_pages(store: MilvusStore) -> None:
    """1,700 records of 62 kB are 105 MB, above the 100 MiB of one answer of 2.3.5."""
    spec = spec_of(IdKind.INT64)
    store.create(spec)
    for start in range(0, 1_700, 100):
        ids = list(range(start, start + 100))
        store.upsert(spec.name, batch_of(ids, [{"x": chr(97 + number % 26) * 62_000} for number in ids]))
    found = [record_id for batch in store.scan(spec.name, 1_700) for record_id in batch.ids]
    assert found == list(range(1_700))
    assert len(store.fetch(spec.name, found)) == 1_700


def test_a_missing_database_is_named(settings: MilvusSettings) -> None:
    with pytest.raises(errors.CollectionNotFoundError, match=r"'nope'.*default"):
        replace(settings, database="nope").open(create=False)


def test_databases_are_kept_apart(settings: MilvusSettings, store: MilvusStore) -> None:
    spec = spec_of()
    with vendor(store) as client:
        client.create_database("other")
        try:
            with replace(settings, database="other").open(create=True) as other:
                other.create(spec)
                other.upsert(spec.name, batch_of(["a"]))
                assert other.count(spec.name) == 1
                assert other.address.endswith("?database=other")
                assert not store.exists(spec.name)
                other.drop(spec.name)
        finally:
            client.drop_database("other")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, milvus_unpack_dir: Path) -> Iterator[MilvusServer]:
    """A server that wants a login and speaks TLS only."""
    with MilvusServer(tmp_path_factory.mktemp("guarded"), auth=True, tls=True, unpack_dir=milvus_unpack_dir) as server:
        yield server


@pytest.fixture
def login(guarded: MilvusServer) -> MilvusSettings:
    assert guarded.certificate is not None
    ca_file = str(guarded.certificate.certificate_path)
    token = SecretStr(guarded.token)
    return MilvusSettings(host=guarded.host, port=guarded.port, is_tls=True, ca_file=ca_file, token=token)


def test_a_login_over_tls_reads_and_writes(login: MilvusSettings) -> None:
    spec = spec_of()
    with login.open(create=True) as store:
        store.create(spec)
        assert store.upsert(spec.name, batch_of(["a"])).written == 1
    user, _, password = (login.token.get_secret_value() if login.token else "").partition(":")
    with replace(login, token=None, user=SecretStr(user), password=SecretStr(password)).open(create=False) as store:
        assert store.count(spec.name) == 1


@pytest.mark.parametrize("token", ["root:wrong-S3cret", "nobody:wrong-S3cret", "wrong-S3cret", None])
def test_wrong_credentials_are_refused_at_once(login: MilvusSettings, token: str | None) -> None:
    wrong = replace(login, token=None if token is None else SecretStr(token))
    with pytest.raises(errors.AuthenticationError, match="MILVUS_TOKEN") as caught:
        wrong.open(create=False)
    assert "wrong-S3cret" not in str(caught.value)
    assert "wrong-S3cret" not in str(caught.value.__cause__)


def test_a_certificate_that_is_not_trusted_is_unreachable(login: MilvusSettings, tmp_path: Path) -> None:
    stranger = str(make_certificate(tmp_path).certificate_path)
    with pytest.raises(errors.StoreUnavailableError, match="TLS"):
        replace(login, ca_file=stranger).open(create=False)


def test_tls_without_tls_is_unreachable(login: MilvusSettings) -> None:
    with pytest.raises(errors.StoreUnavailableError, match="TLS"):
        replace(login, is_tls=False, timeout_s=1.0).open(create=False)
