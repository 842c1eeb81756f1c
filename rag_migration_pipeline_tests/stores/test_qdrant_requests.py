"""Requests to a Qdrant server: small enough for it, waited for, and every refusal becomes the right error.

Belongs here: limits, errors, unreadable answers, the end of a load. Does not belong here: records (``test_qdrant.py``).
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import pytest

from rag_migration_pipeline.errors import (
    AuthenticationError,
    CollectionExistsError,
    RateLimitedError,
    StoreRequestError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble
from rag_migration_pipeline_tests.stores.qdrant_samples import TRANSPORTS, make_batch, make_spec, settings_of

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
    remote_store: Any, double: QdrantDouble, fault: dict[str, Any], expected: type[Exception]
) -> None:
    remote_store.create(make_spec("docs"))
    batch = make_batch([1, 2, 3])
    double.reset_counts()
    double.inject(**fault, operations=["upsert"])
    with pytest.raises(expected) as caught:
        remote_store.upsert("docs", batch)
    if isinstance(caught.value, RateLimitedError):
        assert caught.value.retry_after_s == fault.get("retry_after_s")
    assert double.requests("upsert") == 1
    assert remote_store.upsert("docs", batch).written == 3


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
    remote_store: Any, double: QdrantDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote_store.create(make_spec("docs"))
    monkeypatch.setattr(type(remote_store), "exists", lambda *_: False)
    with pytest.raises(CollectionExistsError, match="docs"):
        remote_store.create(make_spec("docs"))


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


# -- limits ---------------------------------------------------------------------------------------------------


@pytest.mark.server
def test_requests_stay_below_the_servers_limit_whatever_the_payloads(remote_store: Any, double: QdrantDouble) -> None:
    remote_store.create(make_spec("docs"))
    # Half the bytes are nested, where an estimate by top-level strings would miss them.
    payloads = [{"text": "é" * 300_000, "deep": {"inner": ["x" * 600_000]}} for _ in range(40)]
    batch = make_batch(list(range(40)), payloads=payloads)
    assert remote_store.upsert("docs", batch).written == 40
    assert double.largest_request_bytes("upsert") < 17 * 2**20
    assert double.requests("upsert") >= 3
    assert remote_store.fetch("docs", [39]).payloads == payloads[39:]


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


# -- the end of a load ----------------------------------------------------------------------------------------


@pytest.mark.server
def test_finishing_waits_for_green_and_gives_up_in_time(
    remote_store: Any, double: QdrantDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote_store.create(make_spec("docs"))
    double.reset_counts()
    remote_store.finish_loading("docs")
    assert double.requests("collection_info") == 2
    statuses = iter(["yellow", "grey", "green", "yellow", "green", "green"])
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(type(remote_store), "_optimizer_status", lambda *_: next(statuses))
    remote_store.finish_loading("docs")
    assert list(statuses) == []
    monkeypatch.setattr(type(remote_store), "_optimizer_status", lambda *_: "yellow")
    remote_store.settings = replace(remote_store.settings, finish_timeout_s=0.0)
    with pytest.raises(StoreTimeoutError, match="yellow"):
        remote_store.finish_loading("docs")
