"""Chroma's own quirks, each with the promise that the adapter makes of it; what every store promises is in the laws."""

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.errors import (
    CollectionNotFoundError,
    SchemaCompatibilityError,
    SpecError,
    StoreRequestError,
)
from rag_migration_pipeline.locators import parse_locator
from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    CollectionSpec,
    DenseColumn,
    Metric,
    Payload,
    VectorSpec,
)
from rag_migration_pipeline.stores.chroma import ChromaSettings, ChromaStore, settings_from_locator
from rag_migration_pipeline.stores.chroma_writing import write_part
from rag_migration_pipeline.stores.in_order import run_in_order
from rag_migration_pipeline_tests.stores.chroma_samples import DIMENSION, batch_of, spec_of, vendor


@pytest.fixture(scope="module", params=["folder", "server"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaStore]:
    """Chroma in both forms."""
    if request.param == "folder":
        settings = ChromaSettings(path=str(tmp_path_factory.mktemp("chroma") / "data"))
    else:
        settings = ChromaSettings(host="127.0.0.1", port=request.getfixturevalue("chroma_server").port)
    with settings.open(create=True) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> ChromaSettings:
    """Settings of a folder that does not exist yet."""
    return ChromaSettings(path=str(tmp_path / "data"))


# -- writing ------------------------------------------------------------------------------------------------------


def test_list_values_of_a_deleted_collection_are_not_inherited(store: ChromaStore) -> None:
    dirty = [{"k": "p", "tags": ["SECRET", "a"], "n": [1]}] * 30
    first, second, third = spec_of(), spec_of(), spec_of()
    for spec in (first, second, third):
        store.create(spec)
    for spec, payloads in ((first, dirty), (second, [{"k": "p"}] * 30)):
        batch = batch_of(payloads)
        vendor(store, spec.name).upsert(ids=batch.ids, embeddings=batch.dense().values, metadatas=batch.payloads)
        if spec is first:
            store.drop(first.name)
    inherited = vendor(store, second.name).get(include=["metadatas"])["metadatas"]
    assert {"k": "p"} not in inherited, "Chroma no longer does it: the reading back of writes may go"
    store.upsert(second.name, batch_of([{"k": "p"}] * 30))
    assert vendor(store, second.name).get(include=["metadatas"])["metadatas"] == [{"k": "p"}] * 30
    store.drop(second.name)
    payloads: list[Payload] = [{}, {"k": "p"}, {"tags": ["mine"]}] * 10
    store.upsert(third.name, batch_of(payloads))
    assert store.fetch(third.name, batch_of(payloads).ids).payloads == payloads


def test_what_is_deleted_and_written_again_inherits_nothing_either(folder: ChromaSettings) -> None:
    """Records that lose their document get new row numbers, which may be those of a deleted collection's lists."""
    first, second = spec_of(), spec_of()
    payloads: list[Payload] = [{"k": "p"}] * 10
    with folder.open(create=True) as store:
        store.create(first)
        store.upsert(first.name, batch_of([{"tags": ["SECRET"]}] * 60))
        store.drop(first.name)
        store.create(second)
        store.upsert(second.name, batch_of(payloads, ["text"] * 10))
        store.upsert(second.name, batch_of(payloads[:5]))
        assert vendor(store, second.name).get(include=["metadatas"])["metadatas"] == payloads


def test_a_record_stays_while_keys_are_removed(store: ChromaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of()
    store.create(spec)
    store.upsert(spec.name, batch_of([{"old": 1, "kept": 1, "list": ["a"]}], ["text"]))
    monkeypatch.setattr(type(store.api), "_delete", lambda *_, **__: pytest.fail("the record was deleted meanwhile"))
    store.upsert(spec.name, batch_of([{"kept": 2}], ["new"]))
    found = store.fetch(spec.name, ["r0"])
    assert (found.payloads, found.documents) == ([{"kept": 2}], ["new"])


def test_a_value_that_only_changes_its_type_is_replaced(store: ChromaStore) -> None:
    spec = spec_of()
    store.create(spec)
    values: list[Any] = [1, 1.0, True, "1", [1], [1.0], [True], ["1"]]
    for value in values:
        store.upsert(spec.name, batch_of([{"k": value}]))
        assert repr(store.fetch(spec.name, ["r0"]).payloads) == repr([{"k": value}])


def test_a_uri_travels_in_the_payload(store: ChromaStore) -> None:
    source, target = spec_of(), spec_of()
    store.create(source)
    store.create(target)
    vectors = batch_of([{}, {}]).dense().values
    held = vendor(store, source.name)
    held.add(ids=["r0", "r1"], embeddings=vectors, uris=["file:///a", ""], metadatas=[{"a": 1}, {"a": 2}])
    read = store.fetch(source.name, ["r0", "r1"])
    assert read.payloads == [{"a": 1, "chroma:uri": "file:///a"}, {"a": 2, "chroma:uri": ""}]
    assert store.upsert(target.name, read).written == 2
    assert vendor(store, target.name).get(include=["uris", "metadatas"])["uris"] == ["file:///a", ""]
    store.upsert(target.name, batch_of([{"a": 3}, {"chroma:uri": "b"}]))
    assert store.fetch(target.name, ["r0", "r1"]).payloads == [{"a": 3}, {"chroma:uri": "b"}]
    assert len(store.upsert(target.name, batch_of([{"chroma:uri": 5}])).rejections) == 1


@pytest.mark.parametrize("key", ["", "$", "$and", "#", "#document", "chroma:document", "chroma:x", "chroma:uri2"])
def test_keys_that_chroma_keeps_for_itself_are_rejected(store: ChromaStore, key: str) -> None:
    spec = spec_of()
    store.create(spec)
    result = store.upsert(spec.name, batch_of([{key: "v"}, {f"a{key}": "v"}]))
    assert [rejection.record_id for rejection in result.rejections] == ["r0"]
    assert store.fetch(spec.name, ["r1"]).payloads == [{f"a{key}": "v"}]


def test_floats_are_kept_to_the_last_bit_or_rejected(store: ChromaStore) -> None:
    spec = spec_of()
    store.create(spec)
    floats = [*np.random.default_rng(3).random(500).tolist(), -0.0, 0.0, 5e-324, 1.7976931348623157e308, 1.7e9 + 0.125]
    batch = batch_of([{"f": value, "l": [value, 0.5]} for value in floats])
    result = store.upsert(spec.name, batch)
    rejected = {rejection.record_id for rejection in result.rejections}
    assert 0 < len(rejected) < 150
    assert "r500" in rejected, "-0.0 loses its sign"
    kept = [record_id for record_id in batch.ids if record_id not in rejected]
    wanted = [batch.payloads[int(str(record_id)[1:])] for record_id in kept]
    assert repr([sorted(payload.items()) for payload in store.fetch(spec.name, kept).payloads]) == repr(
        [sorted(payload.items()) for payload in wanted]
    )


def test_lengths_that_a_cosine_collection_loses_are_rejected(store: ChromaStore) -> None:
    lengths = [0.0, 1e-40, 1e-25, 1e-17, 1.0, 1e18, 1e25, 1e38]
    values = np.outer(lengths, [0.5, 0.5, -0.5, 0.5]).astype(np.float32)
    batch = batch_of([{"n": number} for number in range(len(lengths))])
    batch = batch.with_columns(vectors={DEFAULT_VECTOR: DenseColumn(values)})
    for metric in (Metric.COSINE, Metric.L2):
        spec = spec_of(metric)
        store.create(spec)
        result = store.upsert(spec.name, batch)
        bad = {"r1", "r2", "r6", "r7"} if metric is Metric.COSINE else set()
        assert {rejection.record_id for rejection in result.rejections} == bad
        assert result.written == len(lengths) - len(bad)
        kept = batch.take(row for row, record_id in enumerate(batch.ids) if record_id not in bad)
        found = store.fetch(spec.name, kept.ids).dense().values
        assert np.allclose(found, kept.dense().values, rtol=1e-6, atol=0)


def test_vectors_are_kept_bit_for_bit_without_cosine(store: ChromaStore) -> None:
    bits = np.random.default_rng(5).integers(0, 2**32, size=(400, DIMENSION), dtype=np.uint32)
    values = bits.view(np.float32).copy()
    values[~np.isfinite(values)] = np.float32(-0.0)
    values[0] = np.finfo(np.float32).smallest_subnormal
    batch = batch_of([{}] * 400).with_columns(vectors={DEFAULT_VECTOR: DenseColumn(values)})
    for metric in (Metric.L2, Metric.DOT):
        spec = spec_of(metric)
        store.create(spec)
        assert store.upsert(spec.name, batch).written == 400
        assert store.fetch(spec.name, batch.ids).dense().values.tobytes() == values.tobytes()


def test_a_request_that_is_too_large_is_cut_until_it_fits_or_one_record_is_left() -> None:
    class SmallStore:
        name, address = "small", "chroma://nowhere"

        def __init__(self) -> None:
            self.held: dict[str, Payload] = {}
            self.sizes: list[int] = []

        def upsert(self, ids: list[str], _values: Any, payloads: list[Payload], _documents: Any) -> None:
            self.sizes.append(len(ids))
            if len(ids) > 2 or "r4" in ids:
                raise StoreRequestError("too large", status=413)
            self.held.update(zip(ids, payloads, strict=True))

        def read_payloads(self, ids: list[str]) -> dict[str, Payload]:
            return {record_id: self.held[record_id] for record_id in ids}

        def ids_with_document(self, ids: list[str]) -> set[str]:
            return set()

    small: Any = SmallStore()
    batch = batch_of([{"n": number} for number in range(7)])
    assert [rejection.record_id for rejection in write_part(small, batch)] == ["r4"]
    assert small.held == {record_id: {"n": n} for n, record_id in enumerate(batch.ids) if n != 4}
    assert max(small.sizes) == 7


# -- collections --------------------------------------------------------------------------------------------------


def test_collections_are_listed_across_pages(folder: ChromaSettings) -> None:
    with folder.open(create=True) as store:
        names = sorted(f"page_{number:03d}" for number in range(205))
        for name in names:
            store.api.create_collection(name)
        assert store.list_collections() == names


def test_what_chroma_cannot_keep_of_a_collection_is_kept_in_one_note(store: ChromaStore) -> None:
    metadata = {"a": 1, "b": [1, {"c": None}], "third": 1 / 3, "": "x", "rag_migration_pipeline": "theirs"}
    spec = spec_of(Metric.COSINE, metadata=metadata)
    store.create(spec)
    described = store.describe(spec.name).spec
    assert described.metadata == metadata
    assert described.vectors == spec.vectors
    assert set(store.api.get_collection(spec.name).metadata) == {"a", "third", "rag_migration_pipeline"}


def test_the_dimension_of_the_first_record_wins(store: ChromaStore) -> None:
    spec = spec_of()
    store.create(spec)
    assert store.describe(spec.name).spec.vectors[0].dimension == DIMENSION
    vendor(store, spec.name).add(ids=["a"], embeddings=[[1.0, 2.0]])
    with pytest.raises(SchemaCompatibilityError, match="expected dimension 2, got 4"):
        store.upsert(spec.name, batch_of([{}]))
    assert store.describe(spec.name).spec.vectors[0].dimension == 2


def test_index_settings_are_copied_from_chroma_to_chroma(store: ChromaStore) -> None:
    source = store.api.create_collection(
        f"test_{uuid.uuid4().hex}", configuration={"hnsw": {"space": "ip", "ef_construction": 42, "max_neighbors": 7}}
    )
    read = store.describe(source.name).spec
    assert read.settings["hnsw"]["ef_construction"] == 42
    copied = CollectionSpec(**{**vars(read), "name": spec_of().name, "vectors": (VectorSpec(3, Metric.DOT),)})
    store.create(copied)
    made = store.describe(copied.name).spec.settings["hnsw"]
    chosen = {"sync_threshold"}  # an engine in this process is given one that survives a kill
    assert {k: v for k, v in made.items() if k not in chosen} == {
        k: v for k, v in read.settings["hnsw"].items() if k not in chosen
    }


def test_a_metric_in_the_metadata_cannot_contradict_the_spec(store: ChromaStore) -> None:
    spec = spec_of(Metric.COSINE, metadata={"hnsw:space": "l2"})
    with pytest.raises(SchemaCompatibilityError, match="hnsw:space"):
        store.create(spec)
    assert not store.exists(spec.name)


# -- reading ------------------------------------------------------------------------------------------------------


def test_pages_come_in_order_and_an_early_stop_leaves_no_reader() -> None:
    begun: list[int] = []
    gate = threading.Event()

    def read(part: int) -> int:
        begun.append(part)
        if part == 0:
            gate.wait(10)  # the first part takes longest, and still comes first
        else:
            gate.set()
        return part

    pages = run_in_order(read, range(50), 2)
    assert [next(pages), next(pages)] == [0, 1]
    pages.close()
    assert len(begun) <= 6
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("chroma-reader")]
    with pytest.raises(ZeroDivisionError):
        list(run_in_order(lambda part: 1 // (3 - part), range(9), 2))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("chroma-reader")]


def test_a_replaced_collection_is_not_taken_for_the_old_one(store: ChromaStore) -> None:
    spec = spec_of()
    store.create(spec)
    store.upsert(spec.name, batch_of([{}] * 3))
    store.api.delete_collection(spec.name)
    store.api.create_collection(spec.name)
    with pytest.raises(CollectionNotFoundError):
        store.count(spec.name)
    assert store.count(spec.name) == 0


# -- settings -----------------------------------------------------------------------------------------------------


def test_urls_become_settings() -> None:
    url = "chroma://user:pw@Example.org:9000/docs?tenant=t&database=d&tls=true&token_header=X-Chroma-Token"
    settings = settings_from_locator(parse_locator(url, "source", {"CHROMA_TOKEN": "tok"}))
    assert (settings.host, settings.port, settings.is_tls) == ("example.org", 9000, True)
    assert (settings.tenant, settings.database, settings.token_header) == ("t", "d", "X-Chroma-Token")
    assert settings.token is not None
    assert settings.token.get_secret_value() == "tok"
    assert settings.address == "chroma://example.org:9000?tenant=t&database=d"
    embedded = settings_from_locator(parse_locator("chroma+file:///some/where/docs", "target", {}))
    assert embedded.address == "chroma+file:///some/where"
    for wrong in ("chroma://h/docs?tennant=t", "chroma+file:///f/docs?tls=true", "chroma://h/docs?token_header=Cookie"):
        with pytest.raises(SpecError):
            settings_from_locator(parse_locator(wrong, "source", {}))


@pytest.mark.parametrize(
    "given", [{}, {"path": "/a", "host": "b"}, {"host": "b", "tenant": ""}, {"host": "b", "database": "a/b"}]
)
def test_contradicting_settings_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        ChromaSettings(**given)


def test_the_adapter_is_imported_without_the_client() -> None:
    code = "import sys, rag_migration_pipeline.stores.chroma; print({'chromadb', 'httpx'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
