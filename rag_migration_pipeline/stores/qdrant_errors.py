"""Qdrant's driver errors in our words: one place that decides whether trying again can help.

Belongs here: exceptions of the client (REST, gRPC, local mode) and of qdrant-edge. Does not belong here: retries.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rag_migration_pipeline.errors import (
    CONCERNS_ALL,
    IS_INTERNAL,
    AuthenticationError,
    CollectionExistsError,
    CollectionNotFoundError,
    MigrationError,
    RateLimitedError,
    StoreLockedError,
    StoreRequestError,
    StoreTimeoutError,
    StoreUnavailableError,
)

TOO_LARGE = "is_too_large"
"""Fact of a `StoreRequestError`: the request was refused for its size, so smaller ones may pass."""

_SHOWN_CHARS = 300

_RECORD_STATUS = frozenset({400, 413, 422, "INVALID_ARGUMENT", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED"})
"""Answers to a request that may lie in one of its records: HTTP numbers and gRPC names."""

_STATUS_NAMES = {
    "UNAVAILABLE": "unavailable",
    "ABORTED": "unavailable",
    "CANCELLED": "unavailable",  # the channel or the server went away during the call
    "INTERNAL": "unavailable",  # what REST answers as 500
    "UNKNOWN": "unavailable",  # a proxy's answer that is no gRPC
    "DEADLINE_EXCEEDED": "timeout",
    "RESOURCE_EXHAUSTED": "rate",
    "UNAUTHENTICATED": "credentials",
    "PERMISSION_DENIED": "credentials",
    "NOT_FOUND": "missing",
    "ALREADY_EXISTS": "exists",
    "OUT_OF_RANGE": "large",  # tonic: "decoded message length too large" (tonic 0.9 and later, codec/decode.rs)
}

_HTTP_KINDS = {
    401: "credentials",
    403: "credentials",
    404: "missing",
    408: "timeout",
    409: "exists",
    413: "large",
    429: "rate",
    504: "timeout",
}

_TODO = {
    "unavailable": "Check that the server runs and that host and port are right; then run again.",
    "timeout": "Run again; raise timeout_s if the server is slow.",
    "rate": "Run again later, or with fewer writers.",
    "stranger": "What answers there is no Qdrant server: check host and port.",
    "unreadable": "Read over REST: add prefer_grpc=false to the URL.",
    "credentials": "Check the api key (QDRANT_API_KEY, or SOURCE_/TARGET_QDRANT_API_KEY) and its rights.",
}


@contextmanager
def driver_errors(address: str, operation: str, collection: str | None = None) -> Iterator[None]:
    """Turn whatever the driver raises inside into one of our errors."""
    try:
        yield
    except MigrationError:
        raise
    except Exception as error:
        raise translated(error, address, operation, collection) from error


def translated(error: Exception, address: str, operation: str, collection: str | None) -> MigrationError:
    """Return our error for a driver's."""
    where = (
        f"{operation} in {address}" if collection is None else f"{operation} of collection {collection!r} in {address}"
    )
    kind, text, facts = _read(error)
    if kind == "missing" and collection is None:  # a server has no part that could be: this is another one
        kind = "stranger"
    return _build(kind, f"{where} failed: {text}.", {"address": address, "collection": collection, **facts})


def _build(kind: str, what: str, facts: dict[str, Any]) -> MigrationError:
    classes: dict[str, type[MigrationError]] = {
        "unavailable": StoreUnavailableError,
        "timeout": StoreTimeoutError,
        "rate": RateLimitedError,
        "credentials": AuthenticationError,
        "missing": CollectionNotFoundError,
        "exists": CollectionExistsError,
        "locked": StoreLockedError,
    }
    if kind == "large":
        facts[TOO_LARGE] = True
    if kind == "unavailable" and facts.get("status") in (500, "INTERNAL"):
        facts[IS_INTERNAL] = True
    if facts.get("status", 400) not in _RECORD_STATUS:
        facts[CONCERNS_ALL] = True
    return classes.get(kind, StoreRequestError)(what, todo=_TODO.get(kind, ""), **facts)


def _read(error: Exception) -> tuple[str, str, dict[str, Any]]:
    """Return what kind of failure an exception is, its text, and its facts."""
    import grpc
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if isinstance(error, ResourceExhaustedResponse):
        return "rate", str(error), {"retry_after_s": float(error.retry_after_s)}
    if isinstance(error, UnexpectedResponse):
        return _read_http(error)
    if isinstance(error, ResponseHandlingException):
        return _read_transport(error.source)
    if isinstance(error, grpc.RpcError):
        return _read_grpc(error)
    if isinstance(error, OSError):
        return "request", str(error), {CONCERNS_ALL: True}
    if type(error) is Exception:  # qdrant-edge-py 0.9.0 raises nothing but bare Exception with words
        return ("locked" if "WouldBlock" in str(error) else "request"), _short(str(error)), {}
    return "request", f"{type(error).__name__}: {_short(str(error))}", {}


def _read_http(error: Any) -> tuple[str, str, dict[str, Any]]:
    status = int(error.status_code or 0)
    kind = _HTTP_KINDS.get(status, "unavailable" if status >= 500 else "request")
    content = error.content.decode("utf-8", "replace") if isinstance(error.content, bytes) else str(error.content)
    # Qdrant (every version so far, on actix-web 4) answers a body above its limit with 400 and not with 413.
    if status == 400 and "is larger than allowed (limit:" in content:
        kind = "large"
    facts: dict[str, Any] = {"status": status}
    if kind == "rate":
        facts["retry_after_s"] = None
    return kind, f"HTTP {status} {error.reason_phrase}: {_short(content)}", facts


def _read_transport(source: Exception) -> tuple[str, str, dict[str, Any]]:
    """Read what httpx raised below the client's own exception."""
    import httpx

    cause: BaseException | None = source
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "request", f"the server's certificate is not trusted ({cause.verify_message})", {CONCERNS_ALL: True}
        cause = cause.__cause__ or cause.__context__
    if isinstance(source, httpx.TimeoutException):
        # Nobody answered the call to connect: the address is wrong or dead, rather than the server slow.
        kind = "unavailable" if isinstance(source, httpx.ConnectTimeout) else "timeout"
        return kind, f"no answer in time ({type(source).__name__})", {}
    if isinstance(source, httpx.TransportError):
        return "unavailable", f"{type(source).__name__}: {_short(str(source))}", {}
    return "request", f"{type(source).__name__}: {_short(str(source))}", {CONCERNS_ALL: True}


def _read_grpc(error: Any) -> tuple[str, str, dict[str, Any]]:
    code = error.code() if callable(getattr(error, "code", None)) else None
    name = code.name if code is not None else "UNKNOWN"
    details = _short(str(error.details() or "")) if callable(getattr(error, "details", None)) else _short(str(error))
    kind = _STATUS_NAMES.get(name, "request")
    # grpc core itself (1.5x to 1.7x) answers a message above its limit with the code of a rate limit; only the words
    # tell them apart: "Sent message larger than max", "Received message larger than max".
    if kind == "rate" and "message larger than max" in details:
        kind = "large"
    # The client itself could not read the answer (grpc/_channel.py, grpcio 1.85); asking again gives the same answer.
    # Seen for payloads nested more than about 32 deep: protobuf reads 100 messages inside each other.
    if name == "INTERNAL" and details == "Exception deserializing response!":
        return "unreadable", "the answer is nested too deeply for gRPC", {"status": name}
    return kind, f"{name}: {details}", {"status": name, **({"retry_after_s": None} if kind == "rate" else {})}


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN_CHARS else flat[: _SHOWN_CHARS - 3] + "..."
