"""A refusal that lies in the collection or the store is never searched for in the records; one that may, is."""

from types import SimpleNamespace
from typing import Any

import grpc
import httpx
import pytest
from chromadb.errors import InternalError, InvalidArgumentError
from qdrant_client.http.exceptions import UnexpectedResponse

from rag_migration_pipeline.errors import CollectionNotFoundError, StoreRequestError
from rag_migration_pipeline.steps.bisecting import may_lie_in_a_record
from rag_migration_pipeline.stores import chroma_errors, milvus_errors, qdrant_errors

URL = "http://host:1/"


def chroma(error: Exception) -> Any:
    return chroma_errors.translate(error, URL, "docs")


def chroma_status(status: int) -> Any:
    response = httpx.Response(status, request=httpx.Request("POST", URL), json={"message": "no"})
    return chroma(httpx.HTTPStatusError("no", request=response.request, response=response))


def milvus(code: int, *, is_lite: bool = False) -> Any:
    status = SimpleNamespace(code=code, error_code=0, reason="no", retriable=False)
    return milvus_errors.from_status(status, "Upsert", URL, is_lite=is_lite)


class Rpc(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "no"


def qdrant(error: Exception) -> Any:
    return qdrant_errors.translated(error, URL, "upsert", "docs")


def qdrant_status(status: int) -> Any:
    return qdrant(UnexpectedResponse(status, "no", b"no", httpx.Headers()))


CODES = grpc.StatusCode
IN_A_RECORD = [
    chroma_status(400),
    chroma_status(413),
    chroma_status(422),
    chroma_status(500),
    chroma(InvalidArgumentError("metadata")),
    chroma(ValueError("an embedding")),
    milvus(1100),
    milvus(65535),
    milvus(6, is_lite=True),
    milvus(1, is_lite=True),
    milvus_errors.from_rpc(Rpc(CODES.RESOURCE_EXHAUSTED), "Upsert", URL),
    milvus_errors.from_rpc(Rpc(CODES.INTERNAL), "Upsert", URL),
    qdrant_status(400),
    qdrant_status(500),
    qdrant(Rpc(CODES.INTERNAL)),
    qdrant_status(413),
    qdrant_status(422),
    qdrant(Rpc(CODES.INVALID_ARGUMENT)),
    qdrant(Rpc(CODES.OUT_OF_RANGE)),
    qdrant(Exception("a word of the engine")),
]
IN_NO_RECORD = [
    chroma_status(401),
    chroma_status(404),
    chroma_status(405),
    chroma_status(429),
    chroma_status(502),
    chroma_status(503),
    chroma(httpx.UnsupportedProtocol("ftp")),
    chroma(InternalError("error returned from database: (code: 13) database or disk is full")),
    milvus(9),  # the server denies writes: memory or disk
    milvus(100),
    milvus(101),
    milvus(101, is_lite=True),
    milvus(700),
    milvus(1),
    milvus_errors.from_rpc(Rpc(CODES.UNIMPLEMENTED), "Upsert", URL),
    milvus_errors.from_rpc(Rpc(CODES.UNAVAILABLE), "Upsert", URL),
    qdrant_status(403),
    qdrant_status(404),
    qdrant_status(405),
    qdrant_status(502),
    qdrant_status(503),
    qdrant(Rpc(CODES.UNAVAILABLE)),
    qdrant(Rpc(CODES.UNIMPLEMENTED)),
    qdrant(Rpc(CODES.FAILED_PRECONDITION)),
    qdrant(OSError(28, "No space left on device")),
]


@pytest.mark.parametrize("error", IN_A_RECORD, ids=str)
def test_these_refusals_may_lie_in_a_record(error: Any) -> None:
    assert may_lie_in_a_record(error)


@pytest.mark.parametrize("error", IN_NO_RECORD, ids=str)
def test_these_refusals_lie_in_no_record(error: Any) -> None:
    assert not may_lie_in_a_record(error)


def test_a_closed_store_is_not_searched_for_a_guilty_record() -> None:
    from rag_migration_pipeline.stores.memory import MemorySettings

    store = MemorySettings(name="blame").open(create=True)
    store.close()
    with pytest.raises(StoreRequestError) as caught:
        store.list_collections()
    assert not may_lie_in_a_record(caught.value)


def test_what_is_no_qdrant_server_is_told_as_that() -> None:
    """Another server at that address has no such page; a collection that is missing is another thing."""
    error = UnexpectedResponse(404, "Not Found", b"", httpx.Headers())
    found = qdrant_errors.translated(error, URL, "connect", None)
    assert type(found) is StoreRequestError
    assert "no Qdrant server" in found.todo
    assert type(qdrant_errors.translated(error, URL, "count", "docs")) is CollectionNotFoundError
