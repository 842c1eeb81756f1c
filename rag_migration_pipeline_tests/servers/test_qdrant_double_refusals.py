"""What the double refuses, in the server's statuses and words, and what it breaks on command."""

import importlib.metadata
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.common.version_check import get_server_version, is_compatible
from qdrant_client.http.exceptions import UnexpectedResponse

from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

pytestmark = [
    pytest.mark.server,
    # Loopback without TLS is what these tests are about.
    pytest.mark.filterwarnings("ignore:.* is used with an insecure connection"),
]

VECTORS = models.VectorParams(size=4, distance=models.Distance.DOT)
TRANSPORTS = pytest.mark.parametrize("prefer_grpc", [False, True], ids=["rest", "grpc"])


@pytest.fixture(scope="module")
def double() -> Iterator[QdrantDouble]:
    with QdrantDouble() as running:
        yield running


@pytest.fixture(params=[False, True], ids=["rest", "grpc"])
def client(request: pytest.FixtureRequest, double: QdrantDouble) -> Iterator[QdrantClient]:
    opened = double.connect(prefer_grpc=request.param)
    yield opened
    double.clear_faults()
    opened.close()


@pytest.fixture
def name(client: QdrantClient) -> Iterator[str]:
    made = f"c-{uuid.uuid4()}"
    client.create_collection(made, vectors_config=VECTORS)
    yield made
    client.delete_collection(made)


def point(point_id: Any = 1, vector: Any = (1.0, 2.0, 3.0, 4.0), payload: Any = None) -> models.PointStruct:
    return models.PointStruct(id=point_id, vector=list(vector), payload=payload)


def refusal(call: Callable[[], Any]) -> tuple[int | grpc.StatusCode, str]:
    """Return status and sentence of the refusal that a call must meet, on either transport."""
    with pytest.raises((UnexpectedResponse, grpc.RpcError)) as caught:
        call()
    error = caught.value
    if isinstance(error, UnexpectedResponse):
        status = error.structured()["status"]["error"] if error.content.startswith(b"{") else error.content.decode()
        return error.status_code or 0, status
    return error.code(), error.details()


def expect(refused: tuple[int | grpc.StatusCode, str], http_status: int, code: grpc.StatusCode, words: str) -> None:
    assert refused[0] == (http_status if isinstance(refused[0], int) else code), refused
    assert words in refused[1], refused


def test_a_missing_collection_is_refused_by_every_call(client: QdrantClient) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: client.get_collection("nowhere"),
        lambda: client.upsert("nowhere", [point()]),
        lambda: client.scroll("nowhere"),
        lambda: client.retrieve("nowhere", [1]),
        lambda: client.count("nowhere"),
        lambda: client.delete("nowhere", [1]),
        lambda: client.query_points("nowhere", query=[1.0, 2.0, 3.0, 4.0]),
        lambda: client.create_payload_index("nowhere", "a", models.PayloadSchemaType.KEYWORD),
    ]
    for call in calls:
        expect(refusal(call), 404, grpc.StatusCode.NOT_FOUND, "Not found: Collection `nowhere` doesn't exist!")
    assert not client.collection_exists("nowhere")


def test_a_collection_is_not_created_twice(client: QdrantClient, name: str) -> None:
    client.upsert(name, [point()])
    refused = refusal(lambda: client.create_collection(name, vectors_config=VECTORS))
    expect(refused, 409, grpc.StatusCode.ALREADY_EXISTS, f"Wrong input: Collection `{name}` already exists!")
    assert client.count(name).count == 1


def test_a_wrong_dimension_is_refused_and_the_point_is_not_stored(client: QdrantClient, name: str) -> None:
    refused = refusal(lambda: client.upsert(name, [point(1), point(2, [1.0, 2.0])]))
    words = "Wrong input: Vector dimension error: expected dim: 4, got 2"
    expect(refused, 400, grpc.StatusCode.INVALID_ARGUMENT, words)
    # The engine checks point by point, in no order: of a refused request the good points may or may not be stored.
    assert client.retrieve(name, [2]) == []


def test_without_wait_a_failure_is_acknowledged_all_the_same(client: QdrantClient, name: str) -> None:
    result = client.upsert(name, [point(2, [1.0, 2.0])], wait=False)
    assert result.status == models.UpdateStatus.ACKNOWLEDGED
    assert client.count(name).count == 0


def test_an_unknown_vector_name_is_refused(client: QdrantClient, name: str) -> None:
    named = models.PointStruct(id=1, vector={"nope": [1.0, 2.0, 3.0, 4.0]})
    refused = refusal(lambda: client.upsert(name, [named]))
    expect(refused, 400, grpc.StatusCode.INVALID_ARGUMENT, "Wrong input: Not existing vector name error: nope")


@pytest.mark.parametrize("bad", ["abc", "", "12", "1234-5"])
def test_text_that_is_no_uuid_is_no_id(client: QdrantClient, name: str, bad: str) -> None:
    refused = refusal(lambda: client.upsert(name, [point(bad)]))
    words = f"value {bad} is not a valid point ID" if isinstance(refused[0], int) else f"Unable to parse UUID: {bad}"
    expect(refused, 400, grpc.StatusCode.INVALID_ARGUMENT, words)


@pytest.mark.parametrize("bad", [-1, 2**64, 1.5, True, None])
def test_a_number_that_is_no_unsigned_64_bit_integer_is_no_id(double: QdrantDouble, bad: Any) -> None:
    client = double.connect(prefer_grpc=False)
    client.create_collection("ids", vectors_config=VECTORS)
    body = {"points": [{"id": bad, "vector": [1, 2, 3, 4]}]}
    response = httpx.put(f"{double.url}/collections/ids/points?wait=true", json=body)
    assert response.status_code == 400
    assert "is not a valid point ID" in response.json()["status"]["error"]
    assert client.count("ids").count == 0
    client.delete_collection("ids")
    client.close()


def test_broken_json_and_unknown_fields_are_told_as_format_errors(double: QdrantDouble) -> None:
    client = double.connect(prefer_grpc=False)
    client.create_collection("formats", vectors_config=VECTORS)
    for method, path, body in (
        ("PUT", "points", b'{"points": [{"id": 1'),
        ("PUT", "points", b'{"points": [{"id": 1}]}'),
        ("PUT", "points", b'{"points": [{"id": 1, "vector": [1, 2, 3, 4], "payload": 7}]}'),
        ("POST", "points/scroll", b'{"limit": "many"}'),
        ("POST", "points", b"{}"),
    ):
        response = httpx.request(method, f"{double.url}/collections/formats/{path}", content=body)
        assert response.status_code == 400, response.text
        assert response.json()["status"]["error"].startswith("Format error in JSON body: ")
    client.delete_collection("formats")
    client.close()


def test_a_rest_request_over_32_mib_is_refused_unread(double: QdrantDouble) -> None:
    client = double.connect(prefer_grpc=False, timeout=60)
    client.create_collection("large", vectors_config=VECTORS)
    big = point(payload={"text": "x" * (32 * 1024 * 1024)})
    refused = refusal(lambda: client.upsert("large", [big]))
    assert refused[0] == 400
    assert refused[1].startswith("Payload error: JSON payload (")
    assert refused[1].endswith("bytes) is larger than allowed (limit: 33554432 bytes).")
    client.upsert("large", [point(payload={"text": "x" * (32 * 1024 * 1024 - 4096)})])
    assert client.count("large").count == 1
    client.delete_collection("large")
    client.close()


def test_a_grpc_request_over_the_limit_is_refused() -> None:
    with QdrantDouble(grpc_limit_bytes=1024 * 1024) as double:
        client = double.connect(prefer_grpc=True)
        client.create_collection("large", vectors_config=VECTORS)
        refused = refusal(lambda: client.upsert("large", [point(payload={"text": "x" * 1024 * 1024})]))
        assert refused[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in refused[1]
        client.close()


def test_numbers_that_json_does_not_know_are_refused_in_payloads(double: QdrantDouble) -> None:
    client = double.connect(prefer_grpc=True)
    client.create_collection("nan", vectors_config=VECTORS)
    refused = refusal(lambda: client.upsert("nan", [point(payload={"x": [float("nan")]})]))
    assert refused == (grpc.StatusCode.INVALID_ARGUMENT, "cannot convert to json number")
    client.delete_collection("nan")
    client.close()


@pytest.mark.parametrize("bad", ["a/b", "a:b", "x" * 256])
def test_names_that_no_collection_may_have_are_refused(double: QdrantDouble, bad: str) -> None:
    client = double.connect(prefer_grpc=True)
    refused = refusal(lambda: client.create_collection(bad, vectors_config=VECTORS))
    assert refused[0] == grpc.StatusCode.INVALID_ARGUMENT
    client.close()


def test_what_the_engine_cannot_do_is_refused_and_not_faked(client: QdrantClient, name: str) -> None:
    client.upsert(name, [point(1), point(2)])
    calls: list[Callable[[], Any]] = [
        lambda: client.create_snapshot(name),
        lambda: client.query_points(name, query=models.RecommendQuery(recommend=models.RecommendInput(positive=[1]))),
        lambda: client.create_collection("strict", strict_mode_config=models.StrictModeConfig(enabled=True)),
        lambda: client.create_shard_key(name, "tenant"),
    ]
    for call in calls:
        expect(refusal(call), 501, grpc.StatusCode.UNIMPLEMENTED, "not implemented")
    assert not client.collection_exists("strict")


@pytest.fixture(scope="module")
def locked() -> Iterator[QdrantDouble]:
    with QdrantDouble(api_key="right") as running:
        yield running


@TRANSPORTS
@pytest.mark.parametrize(
    ("key", "words"),
    [(None, "Must provide an API key or an Authorization bearer token"), ("wrong", "Invalid API key or JWT")],
)
def test_without_the_right_key_nothing_is_answered(
    locked: QdrantDouble, prefer_grpc: bool, key: str | None, words: str
) -> None:
    client = locked.connect(prefer_grpc=prefer_grpc, api_key=key, https=False)
    expect(refusal(client.get_collections), 401, grpc.StatusCode.UNAUTHENTICATED, words)
    expect(refusal(lambda: client.upsert("any", [point()])), 401, grpc.StatusCode.UNAUTHENTICATED, words)
    client.close()


@TRANSPORTS
def test_the_right_key_and_the_bearer_token_are_let_in(locked: QdrantDouble, prefer_grpc: bool) -> None:
    by_key = locked.connect(prefer_grpc=prefer_grpc)
    by_token = locked.connect(prefer_grpc=prefer_grpc, api_key=None, auth_token_provider=lambda: "right")
    for client in (by_key, by_token):
        assert client.get_collections().collections == []
        client.close()


def test_the_version_is_open_to_all_and_suits_the_client(locked: QdrantDouble) -> None:
    served = get_server_version(locked.url, {}, None, 10)
    assert is_compatible(importlib.metadata.version("qdrant-client"), served)
    for path in ("healthz", "readyz", "livez"):
        assert httpx.get(f"{locked.url}/{path}").status_code == 200


def test_rate_limits_on_command_tell_when_to_come_back(double: QdrantDouble, client: QdrantClient, name: str) -> None:
    double.inject("rate_limit", count=2, operations=["upsert"], retry_after_s=7)
    for _ in range(2):
        with pytest.raises(ResourceExhaustedResponse) as caught:
            client.upsert(name, [point()])
        assert caught.value.retry_after_s == 7
    client.upsert(name, [point()])
    assert client.count(name).count == 1
    assert double.pending_faults() == []


def test_unavailability_on_command_hits_the_request_it_was_ordered_for(
    double: QdrantDouble, client: QdrantClient, name: str
) -> None:
    double.inject("unavailable", skip=1, operations=["upsert"])
    client.upsert(name, [point(1)])
    refused = refusal(lambda: client.upsert(name, [point(2)]))
    expect(refused, 503, grpc.StatusCode.UNAVAILABLE, "temporarily unavailable")
    client.upsert(name, [point(3)])
    assert [record.id for record in client.scroll(name)[0]] == [1, 3]


def test_a_lost_acknowledgement_leaves_the_work_done(double: QdrantDouble, client: QdrantClient, name: str) -> None:
    double.inject("unavailable", operations=["upsert"], when="after")
    refusal(lambda: client.upsert(name, [point(1)]))
    assert client.count(name).count == 1


def test_a_proxy_that_refuses_large_requests_can_be_played(
    double: QdrantDouble, client: QdrantClient, name: str
) -> None:
    double.inject("too_large", operations=["upsert"])
    expect(refusal(lambda: client.upsert(name, [point()])), 413, grpc.StatusCode.RESOURCE_EXHAUSTED, "")


def test_a_delay_makes_the_client_wait_or_give_up(double: QdrantDouble, client: QdrantClient, name: str) -> None:
    double.inject("delay", operations=["count"], delay_s=0.5)
    started = time.monotonic()
    assert client.count(name).count == 0
    assert time.monotonic() - started >= 0.5


def test_a_fault_that_nobody_knows_is_refused(double: QdrantDouble) -> None:
    with pytest.raises(ValueError, match="unknown fault kind 'gremlin'"):
        double.inject("gremlin")
    with pytest.raises(ValueError, match="when must be"):
        double.inject("unavailable", when="someday")


def test_requests_are_counted_with_their_largest_size(double: QdrantDouble, client: QdrantClient, name: str) -> None:
    double.reset_counts()
    for length in (10, 5000, 20):
        client.upsert(name, [point(payload={"text": "x" * length})])
    client.scroll(name)
    assert (double.requests("upsert"), double.requests("scroll"), double.requests("delete")) == (3, 1, 0)
    assert 5000 < double.largest_request_bytes("upsert") < 6000
