"""How the double says no: one exception that knows its HTTP status, its gRPC code and the server's wording.

What belongs here: the mapping from a refusal to both protocols, and from an engine exception to a refusal.
Source: qdrant/qdrant `lib/storage/src/content_manager/errors.rs` and `src/actix/helpers.rs`, read in 2026.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

_KINDS: dict[str, tuple[int, grpc.StatusCode, str]] = {
    "bad_input": (400, grpc.StatusCode.INVALID_ARGUMENT, "Wrong input: "),
    "bad_request": (400, grpc.StatusCode.INVALID_ARGUMENT, "Bad request: "),
    "format": (400, grpc.StatusCode.INVALID_ARGUMENT, ""),
    "validation": (422, grpc.StatusCode.INVALID_ARGUMENT, ""),
    "not_found": (404, grpc.StatusCode.NOT_FOUND, "Not found: "),
    # The server words a conflict like any wrong input; only the status differs.
    "already_exists": (409, grpc.StatusCode.ALREADY_EXISTS, "Wrong input: "),
    "unauthorized": (401, grpc.StatusCode.UNAUTHENTICATED, ""),
    "unsupported": (501, grpc.StatusCode.UNIMPLEMENTED, ""),
    "internal": (500, grpc.StatusCode.INTERNAL, "Service internal error: "),
    "timeout": (408, grpc.StatusCode.DEADLINE_EXCEEDED, "Timeout: "),
    "rate_limit": (429, grpc.StatusCode.RESOURCE_EXHAUSTED, "Rate limiting exceeded: "),
    "unavailable": (503, grpc.StatusCode.UNAVAILABLE, "Shard temporarily unavailable: "),
    # Not Qdrant's own answer (that is 400, see MAX_REST_BYTES), but a proxy's in front of it.
    "too_large": (413, grpc.StatusCode.RESOURCE_EXHAUSTED, ""),
}


class Refusal(Exception):  # noqa: N818 - the word of the domain: the server says no, nothing broke
    """A request that the server turns down, with its status in both protocols.

    Attributes:
        kind: Key of the table above.
        http_status: Status of the REST answer.
        grpc_code: Status of the gRPC answer.
        message: What the client reads, in the server's wording.
        retry_after_s: Seconds for the Retry-After header; None sends no header.
    """

    def __init__(self, kind: str, description: str, retry_after_s: int | None = None) -> None:
        self.kind = kind
        self.http_status, self.grpc_code, prefix = _KINDS[kind]
        self.message = prefix + description
        self.retry_after_s = retry_after_s
        super().__init__(self.message)


def kinds() -> frozenset[str]:
    """Name every kind of refusal."""
    return frozenset(_KINDS)


def missing_collection(name: str) -> Refusal:
    """Say that a collection does not exist."""
    return Refusal("not_found", f"Collection `{name}` doesn't exist!")


def unsupported(what: str) -> Refusal:
    """Say that the engine in process cannot serve this, instead of pretending."""
    return Refusal("unsupported", f"not implemented by this test double: {what}")


def invalid_point_id(value: object) -> Refusal:
    """Say that an id is neither an unsigned integer nor a UUID.

    Source: the server's answer to an id such as "abc", quoted in many public bug reports.
    """
    text = f"value {value} is not a valid point ID, valid values are either an unsigned integer or a UUID"
    return Refusal("format", f"Format error in JSON body: {text}")


def from_engine(error: Exception) -> Refusal:
    """Translate an exception of the engine, which has one class for everything, by its wording."""
    text = str(error)
    if text.startswith("No point with id"):
        return Refusal("not_found", f"{text} found")
    if text.endswith("Shard is not initialized"):
        # What a closed shard says: the collection was dropped between looking it up and using it.
        return Refusal("not_found", "Collection was dropped meanwhile")
    if text.startswith(("Service runtime error", "Service internal error")):
        return Refusal("internal", text)
    return Refusal("bad_input", text.splitlines()[0] if text else type(error).__name__)


@contextmanager
def engine_call() -> Iterator[None]:
    """Turn whatever the engine raises inside the block into a refusal."""
    try:
        yield
    except Refusal:
        raise
    # The binding raises bare Exception, so nothing narrower can be caught (qdrant-edge-py 0.9.0).
    except Exception as error:
        raise from_engine(error) from error
