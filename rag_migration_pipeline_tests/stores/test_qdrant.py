"""Promises of the Qdrant adapter that are its own: transports, errors, limits, vectors of cosine collections.

Belongs here: what no other store has. Does not belong here: the laws of every store (``contract/``).
"""

import gc
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from pydantic import SecretStr
from qdrant_client import QdrantClient, models

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.errors import (
    AuthenticationError,
    CollectionExistsError,
    RateLimitedError,
    SpecError,
    StoreLockedError,
    StoreRequestError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from rag_migration_pipeline.locators import parse_locator
from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    UINT64_MAX,
    CollectionSpec,
    DenseColumn,
    FieldSpec,
    IdKind,
    Metric,
    RecordBatch,
    RecordId,
    RecordRange,
    VectorSpec,
)
from rag_migration_pipeline.stores.decimal_floats import parsed_from_text, survives_decimal_text
from rag_migration_pipeline.stores.qdrant import QdrantFolderStore
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings, settings_from_locator
from rag_migration_pipeline.stores.qdrant_transports import GrpcTransport, RestTransport
from rag_migration_pipeline_tests.servers.certificates import make_certificate
from rag_migration_pipeline_tests.servers.process import free_port
from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

KINDS = frozenset({IdKind.UINT64, IdKind.UUID})
TRANSPORTS = ("true", "false")


def make_spec(name: str, *vectors: VectorSpec, **changes: Any) -> CollectionSpec:
    return CollectionSpec(name, vectors or (VectorSpec(4, Metric.DOT),), KINDS, **changes)


def make_batch(ids: list[RecordId], dimension: int = 4, payloads: list[dict[str, Any]] | None = None) -> RecordBatch:
    values = np.random.default_rng(len(ids)).standard_normal((len(ids), dimension)).astype(np.float32)
    return RecordBatch(ids, {DEFAULT_VECTOR: DenseColumn(values)}, payloads or [{"n": n} for n in range(len(ids))])


@pytest.fixture(scope="module")
def double() -> Iterator[QdrantDouble]:
    server = QdrantDouble(api_key="right-key")
    server.start()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _well_behaved(request: pytest.FixtureRequest) -> None:
    if "double" in request.fixturenames:
        server = request.getfixturevalue("double")
        server.clear_faults()
        server.reset_counts()


def settings_of(server: QdrantDouble, preference: str = "true", **changes: Any) -> QdrantSettings:
    return QdrantSettings(
        host=server.host,
        port=server.http_port,
        grpc_port=server.grpc_port,
        prefer_grpc=preference,  # type: ignore[arg-type]
        api_key=SecretStr("right-key"),
        **changes,
    )


@pytest.fixture(params=TRANSPORTS, ids=["grpc", "rest"])
def store(request: pytest.FixtureRequest, double: QdrantDouble) -> Iterator[Any]:
    with settings_of(double, request.param).open() as opened:
        yield opened
        for name in opened.list_collections():
            opened.drop(name)


@pytest.fixture
def folder_store(tmp_path: Path) -> Iterator[Any]:
    with QdrantSettings(path=str(tmp_path / "folder")).open(create=True) as opened:
        yield opened


# -- settings -------------------------------------------------------------------------------------------------


def test_a_url_names_ports_transport_and_tls() -> None:
    url = "qdrant://db.example:7333/docs?grpc_port=7334&prefer_grpc=true&tls=true&ca_file=/etc/ca.pem"
    settings = settings_from_locator(parse_locator(url, "source", {"QDRANT_API_KEY": "s3cret"}))
    assert (settings.host, settings.port, settings.grpc_port) == ("db.example", 7333, 7334)
    assert settings.prefer_grpc == "true"
    assert settings.is_tls
    assert settings.ca_file == "/etc/ca.pem"
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)
    assert settings.address == "qdrant://db.example:7333"


@pytest.mark.parametrize(
    "query", ["prefer_grpc=maybe", "grpc_port=abc", "grpc_port=0", "grpc_port=65536", "grpcport=1", "tls=perhaps"]
)
def test_a_wrong_option_is_refused_by_name(query: str) -> None:
    with pytest.raises(SpecError, match=query.partition("=")[0]):
        settings_from_locator(parse_locator(f"qdrant://localhost:6333/docs?{query}", "source", {}))


def test_the_grpc_port_is_guessed_only_beside_the_usual_rest_port() -> None:
    assert settings_from_locator(parse_locator("qdrant://h:6333/docs", "source", {})).known_grpc_port == 6334
    assert settings_from_locator(parse_locator("qdrant://h/docs", "source", {})).known_grpc_port == 6334
    assert settings_from_locator(parse_locator("qdrant://h:7333/docs", "source", {})).known_grpc_port is None
    with pytest.raises(SpecError, match="gRPC port"):
        settings_from_locator(parse_locator("qdrant://h:7333/docs?prefer_grpc=true", "source", {}))


# -- connecting -----------------------------------------------------------------------------------------------


@pytest.mark.server
def test_auto_takes_grpc_where_it_answers_and_rest_elsewhere(double: QdrantDouble) -> None:
    with settings_of(double, "auto").open() as store:
        assert isinstance(store.points(), GrpcTransport)
    with replace(settings_of(double, "auto"), grpc_port=free_port()).open() as store:
        assert isinstance(store.points(), RestTransport)
        assert store.list_collections() == []
    with replace(settings_of(double, "auto"), grpc_port=None).open() as store:
        assert isinstance(store.points(), RestTransport)


@pytest.mark.server
@pytest.mark.parametrize("preference", ["auto", *TRANSPORTS])
def test_a_wrong_or_missing_key_is_an_authentication_error(double: QdrantDouble, preference: str) -> None:
    for key in (SecretStr("wrong-key"), None):
        with pytest.raises(AuthenticationError, match="QDRANT_API_KEY") as caught:
            replace(settings_of(double, preference), api_key=key).open()
        assert "wrong-key" not in str(caught.value)


@pytest.mark.parametrize("preference", ["auto", *TRANSPORTS])
def test_a_dead_address_is_named(preference: str) -> None:
    port = free_port()
    settings = QdrantSettings(host="127.0.0.1", port=port, grpc_port=free_port(), prefer_grpc=preference)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailableError, match=f"qdrant://127.0.0.1:{port}") as caught:
        settings.open()
    assert caught.value.todo


@pytest.mark.server
def test_a_key_without_tls_is_logged_and_not_shown(double: QdrantDouble, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), settings_of(double).open():
        pass
    assert "api_key_without_tls" in caplog.text
    assert "right-key" not in caplog.text


@pytest.mark.server
def test_tls_is_spoken_over_both_transports_and_strangers_are_not_trusted(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    server = QdrantDouble(
        api_key="right-key", tls_certificate=certificate.certificate_path, tls_key=certificate.key_path
    )
    server.start()
    try:
        for preference in TRANSPORTS:
            trusting = settings_of(server, preference, is_tls=True, ca_file=str(certificate.certificate_path))
            with trusting.open() as store:
                store.create(make_spec("docs"))
                store.upsert("docs", make_batch([1, 2]))
                assert store.fetch("docs", [2]).ids == [2]
                store.drop("docs")
        with pytest.raises(StoreRequestError, match="not trusted"):
            settings_of(server, "false", is_tls=True).open()
        with pytest.raises(StoreUnavailableError):
            settings_of(server, "true", is_tls=True, timeout_s=2.0).open()
    finally:
        server.close()


# -- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.server
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "rate_limit", "retry_after_s": 7}, RateLimitedError),
        ({"kind": "rate_limit"}, RateLimitedError),
        ({"kind": "unavailable"}, StoreUnavailableError),
        ({"kind": "internal"}, StoreUnavailableError),
        ({"kind": "timeout"}, StoreTimeoutError),
        ({"kind": "bad_input"}, StoreRequestError),
        ({"kind": "unauthorized"}, AuthenticationError),
    ],
    ids=lambda item: "-".join(map(str, item.values())) if isinstance(item, dict) else item.__name__,
)
def test_a_refusal_becomes_the_right_error_and_is_not_tried_again(
    store: Any, double: QdrantDouble, fault: dict[str, Any], expected: type[Exception]
) -> None:
    store.create(make_spec("docs"))
    batch = make_batch([1, 2, 3])
    double.reset_counts()
    double.inject(**fault, operations=["upsert"])
    with pytest.raises(expected) as caught:
        store.upsert("docs", batch)
    if expected is RateLimitedError:
        assert caught.value.retry_after_s == fault.get("retry_after_s")  # type: ignore[attr-defined]
    assert double.requests("upsert") == 1
    assert store.upsert("docs", batch).written == 3


@pytest.mark.server
@pytest.mark.parametrize("preference", TRANSPORTS)
def test_a_late_answer_is_a_timeout(double: QdrantDouble, preference: str) -> None:
    with settings_of(double, preference, timeout_s=1.0).open() as store:
        store.create(make_spec("late"))
        double.inject("delay", operations=["scroll"], delay_s=3.0)
        with pytest.raises(StoreTimeoutError):
            list(store.scan("late"))
        store.drop("late")


@pytest.mark.server
def test_a_collection_made_by_another_in_between_exists_already(
    store: Any, double: QdrantDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(make_spec("docs"))
    monkeypatch.setattr(type(store), "exists", lambda *_: False)
    with pytest.raises(CollectionExistsError, match="docs"):
        store.create(make_spec("docs"))


# -- requests -------------------------------------------------------------------------------------------------


@pytest.mark.server
def test_requests_stay_below_the_servers_limit_whatever_the_payloads(store: Any, double: QdrantDouble) -> None:
    store.create(make_spec("docs"))
    # Half the bytes are nested, where an estimate by top-level strings would miss them.
    payloads = [{"text": "é" * 300_000, "deep": {"inner": ["x" * 600_000]}} for _ in range(40)]
    batch = make_batch(list(range(40)), payloads=payloads)
    assert store.upsert("docs", batch).written == 40
    assert double.largest_request_bytes("upsert") < 17 * 2**20
    assert double.requests("upsert") >= 3
    assert store.fetch("docs", [39]).payloads == payloads[39:]


@pytest.mark.server
def test_requests_that_are_too_large_for_a_proxy_are_halved(double: QdrantDouble) -> None:
    with settings_of(double, "false").open() as store:
        store.create(make_spec("halved"))
        double.reset_counts()
        double.inject("too_large", operations=["upsert"])
        assert store.upsert("halved", make_batch(list(range(10)))).written == 10
        assert double.requests("upsert") == 3
        assert store.count("halved") == 10
        store.drop("halved")


@pytest.mark.server
def test_a_single_record_above_the_servers_limit_is_refused_for_good(double: QdrantDouble) -> None:
    with settings_of(double, "false").open() as store:
        store.create(make_spec("large"))
        with pytest.raises(StoreRequestError, match="larger than allowed"):
            store.upsert("large", make_batch([1], payloads=[{"text": "x" * (33 * 2**20)}]))
        assert store.count("large") == 0
        store.drop("large")


@pytest.mark.server
def test_a_small_grpc_limit_is_met_by_smaller_requests() -> None:
    server = QdrantDouble(api_key="right-key", grpc_limit_bytes=20_000)
    server.start()
    try:
        with settings_of(server).open() as store:
            store.create(make_spec("docs"))
            batch = make_batch(list(range(64)), payloads=[{"text": "x" * 1000} for _ in range(64)])
            assert store.upsert("docs", batch).written == 64
            assert store.count("docs") == 64
            with pytest.raises(StoreRequestError, match="larger than max"):
                store.upsert("docs", make_batch([99], payloads=[{"text": "x" * 30_000}]))
    finally:
        server.close()


# -- values ---------------------------------------------------------------------------------------------------


@pytest.mark.server
def test_integers_above_int64_are_read_exactly_over_grpc(double: QdrantDouble) -> None:
    payload = {"hash": UINT64_MAX, "list": [2**63, 1e19, 1], "n": 7, "honest": 1e19}
    with settings_of(double).open() as store:
        store.create(make_spec("docs"))
        client = _rest_client(double)
        client.upsert("docs", [models.PointStruct(id=1, vector=[1.0] * 4, payload=payload)], wait=True)
        client.close()
        for batch in (store.fetch("docs", [1]), next(store.scan("docs"))):
            assert batch.payloads == [payload]
            assert {key: type(value) for key, value in batch.payloads[0].items()} == {
                "hash": int,
                "list": list,
                "n": int,
                "honest": float,
            }
            assert [type(value) for value in batch.payloads[0]["list"]] == [int, float, int]
        store.drop("docs")


def _rest_client(double: QdrantDouble) -> QdrantClient:
    return QdrantClient(
        host=double.host,
        port=double.http_port,
        https=False,
        headers={"api-key": "right-key"},
        check_compatibility=False,
    )


@pytest.mark.server
def test_deep_payloads_are_read_over_rest_and_not_written(double: QdrantDouble) -> None:
    value = _nested(60)
    client = _rest_client(double)
    client.create_collection("deep", vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    client.upsert("deep", [models.PointStruct(id=1, vector=[1.0] * 4, payload={"k": value})], wait=True)
    client.close()
    with settings_of(double, "false").open() as store:
        assert store.fetch("deep", [1]).payloads == [{"k": value}]
        assert store.upsert("deep", make_batch([2], payloads=[{"k": value}])).written == 0
        assert store.upsert("deep", make_batch([3], payloads=[{"k": _nested(32)}])).written == 1
    with settings_of(double, "true").open() as store:
        assert store.fetch("deep", [3]).payloads == [{"k": _nested(32)}]
        assert store.upsert("deep", make_batch([3], payloads=[{"k": _nested(32)}])).written == 1
        store.drop("deep")


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def test_an_answer_that_the_client_cannot_read_is_not_asked_for_again() -> None:
    # A server in Rust can send what protobuf in Python does not read: messages more than 100 deep.
    deep = b""
    for _ in range(70):
        deep = b"\x3a" + _length(b"\x0a" + _length(deep))  # Value.list_value, ListValue.values
    point = b"\x12" + _length(b"\x0a\x01k\x12" + _length(deep))  # RetrievedPoint.payload, its key and value
    raw = b"\x0a" + _length(point)
    server = grpc.server(
        ThreadPoolExecutor(1), handlers=[_raw_handler({"Points/Scroll": raw, "Collections/List": b""})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with QdrantSettings(host="127.0.0.1", port=1, grpc_port=port, prefer_grpc="true").open() as store:
            with pytest.raises(StoreRequestError, match="prefer_grpc=false") as caught:
                next(store.iter_ids("docs"))
            assert caught.value.facts["status"] == "INTERNAL"
    finally:
        server.stop(None).wait()


def _length(data: bytes) -> bytes:
    number, out = len(data), b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number]) + data


def _raw_handler(answers: dict[str, bytes]) -> grpc.GenericRpcHandler:
    class Handler(grpc.GenericRpcHandler):
        def service(self, call: Any) -> Any:
            answer = answers[call.method.removeprefix("/qdrant.")]
            return grpc.unary_unary_rpc_method_handler(lambda request, context: answer)

    return Handler()


def test_the_rule_for_floats_is_the_arithmetic_of_the_parser() -> None:
    generator = random.Random(7)
    assert all(survives_decimal_text(round(generator.uniform(-1e6, 1e6), 6)) for _ in range(2_000))
    assert all(survives_decimal_text(value) for value in (0.0, -0.0, 0.1, 1e16, 5e-324, 1.5, 1e22, -2.5e-7))
    changed = [value for value in (generator.random() for _ in range(10_000)) if not survives_decimal_text(value)]
    assert 800 < len(changed) < 1_300
    assert all(abs(parsed_from_text(repr(value)) - value) <= 2 * np.spacing(value) for value in changed)


# -- vectors --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["grpc", "rest", "folder"])
def any_store(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "folder":
        yield request.getfixturevalue("folder_store")
        return
    server = request.getfixturevalue("double")
    with settings_of(server, "true" if request.param == "grpc" else "false").open() as opened:
        yield opened
        for name in opened.list_collections():
            opened.drop(name)


def test_cosine_vectors_of_any_length_keep_their_direction(any_store: Any) -> None:
    any_store.create(make_spec("docs", VectorSpec(16, Metric.COSINE)))
    direction = np.random.default_rng(1).standard_normal(16)
    direction /= np.linalg.norm(direction)
    lengths = [1e-40, 1e-30, 1e-5, 3e-4, 0.9999997, 1.0, 1.0000004, 1e5, 2e19, 1e38]
    values = np.array([direction * length for length in lengths], dtype=np.float32)
    expected = values.astype(np.float64) / np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
    given = values.copy()
    batch = RecordBatch(list(range(10)), {"": DenseColumn(values)}, [{} for _ in lengths])
    assert any_store.upsert("docs", batch).written == 10
    found = any_store.fetch("docs", list(range(10))).dense().values
    assert np.linalg.norm(found - expected, axis=1).max() <= any_store.capabilities.vector_tolerance
    assert np.array_equal(values, given), "the input was changed"


def test_named_vectors_may_be_missing_one_by_one(any_store: Any) -> None:
    spec = make_spec("docs", VectorSpec(3, Metric.L2, "image"), VectorSpec(2, Metric.DOT, "text"))
    any_store.create(spec)
    assert any_store.describe("docs").spec.vectors == spec.vectors
    image = DenseColumn(np.arange(12, dtype=np.float32).reshape(4, 3), np.array([True, False, True, False]))
    text = DenseColumn(np.arange(8, dtype=np.float32).reshape(4, 2), np.array([True, True, False, False]))
    ids: list[RecordId] = [3, 1, uuid.UUID(int=5), 2]
    assert any_store.upsert("docs", RecordBatch(ids, {"image": image, "text": text}, [{}] * 4)).written == 4
    for found in (any_store.fetch("docs", ids), concatenate(list(any_store.scan("docs", 1))).take([2, 0, 3, 1])):
        assert list(found.ids) == ids
        for name, column in (("image", image), ("text", text)):
            got = found.dense(name)
            assert got.present is not None
            assert got.present.tolist() == column.present.tolist()  # type: ignore[union-attr]
            assert got.values[got.present].tolist() == column.values[column.present].tolist()
            assert not got.values[~got.present].any()


@pytest.mark.server
def test_payload_indexes_are_made_and_described(store: Any) -> None:
    fields = tuple(
        FieldSpec(name, kind, is_nullable=True, is_indexed=True)
        for name, kind in (("lang", "string"), ("when", "datetime"), ("year", "int"))
    )
    tags = FieldSpec("tags", "array", is_indexed=True, element_type="string")
    plain = FieldSpec("plain", "string")
    store.create(make_spec("docs", fields=(*fields, tags, plain), metadata={"owner": "me", "list": [1, None]}))
    spec = store.describe("docs").spec
    tags_index = FieldSpec("tags", "string", is_nullable=True, is_indexed=True)
    assert set(spec.fields) == {*fields, tags_index}
    assert spec.metadata == {"owner": "me", "list": [1, None]}
    assert spec.settings["hnsw_config"]["m"] == 16


# -- ranges ---------------------------------------------------------------------------------------------------


def test_ranges_run_over_integers_and_uuids_and_survive_changes_of_the_source(any_store: Any) -> None:
    any_store.create(make_spec("docs"))
    uuids = [uuid.UUID(int=n << 100) for n in (1, 2, 3)]
    ids: list[RecordId] = [0, 5, 2**63, UINT64_MAX, *uuids]
    any_store.upsert("docs", make_batch(ids[::-1]))
    assert [i for page in any_store.iter_ids("docs", 2) for i in page] == ids

    def read(start: RecordId, stop: RecordId | None, known: list[RecordId], page_count: int) -> list[RecordId]:
        record_range = RecordRange("k", 0, start, stop, known, 0)
        return [i for batch in any_store.read_range("docs", record_range, page_count) for i in batch.ids]

    for page_count in (1, 2, 3, 100):
        assert read(5, uuids[1], ids[1:5], page_count) == ids[1:5]
        assert read(uuids[1], None, uuids[1:], page_count) == uuids[1:]
    any_store.delete("docs", [5])
    any_store.upsert("docs", make_batch([6, 7, uuid.UUID(int=7)]))
    assert read(5, uuids[0], [5], 2) == [6, 7, 2**63, UINT64_MAX, uuid.UUID(int=7)]
    assert read(uuid.UUID(int=2**128 - 1), None, [], 10) == []


def test_ids_that_qdrant_cannot_have_are_missing_and_not_errors(any_store: Any) -> None:
    any_store.create(make_spec("docs"))
    any_store.upsert("docs", make_batch([1, 2]))
    assert any_store.fetch("docs", ["1", -1, 2**64, 2, 2]).ids == [2, 2]
    any_store.delete("docs", ["1", -1, 77])
    assert any_store.count("docs") == 2


# -- the end of a load ----------------------------------------------------------------------------------------


@pytest.mark.server
def test_finishing_waits_for_green_and_gives_up_in_time(
    store: Any, double: QdrantDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(make_spec("docs"))
    double.reset_counts()
    store.finish_loading("docs")
    assert double.requests("collection_info") == 2
    statuses = iter(["yellow", "grey", "green", "yellow", "green", "green"])
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(type(store), "_optimizer_status", lambda *_: next(statuses))
    store.finish_loading("docs")
    assert list(statuses) == []
    monkeypatch.setattr(type(store), "_optimizer_status", lambda *_: "yellow")
    store.settings = replace(store.settings, finish_timeout_s=0.0)
    with pytest.raises(StoreTimeoutError, match="yellow"):
        store.finish_loading("docs")


# -- the local folder -----------------------------------------------------------------------------------------


def test_threads_may_use_one_folder_together(folder_store: QdrantFolderStore) -> None:
    folder_store.create(make_spec("docs"))
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with folder_store.settings.open() as own:
                for start in range(number * 100, number * 100 + 30, 10):
                    own.upsert("docs", make_batch(list(range(start, start + 10))))
                    own.fetch("docs", [start])
        except Exception as error:  # noqa: BLE001  whatever it is, the test shows it
            failures.append(error)

    _run_threads(work, 4)
    assert failures == []
    assert folder_store.count("docs") == 120


def _run_threads(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_folder_that_a_foreign_client_has_open_is_locked(tmp_path: Path) -> None:
    foreign = QdrantClient(path=str(tmp_path / "folder"))
    try:
        with pytest.raises(StoreLockedError, match="folder"):
            QdrantSettings(path=str(tmp_path / "folder")).open()
        gc.collect()  # the refused client leaves its lock file open for the collector
    finally:
        foreign.close()
    with QdrantSettings(path=str(tmp_path / "folder")).open() as store:
        assert store.list_collections() == []


def test_a_damaged_folder_is_one_of_our_errors(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(StoreRequestError, match="cannot be opened"):
        QdrantSettings(path=str(tmp_path)).open()
    (tmp_path / "meta.json").write_text('{"collections": {}, "aliases": {}}')
    with QdrantSettings(path=str(tmp_path)).open() as store:
        assert store.list_collections() == []
