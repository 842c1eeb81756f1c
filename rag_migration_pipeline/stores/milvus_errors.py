"""Milvus' refusals become ours: the one place that reads status codes and gRPC codes.

Belongs here: the tables of codes and the sentences. Does not belong here: sending requests (``milvus_connection.py``).

Milvus answers most refusals with a ``Status`` inside a successful gRPC answer (numbers of ``pkg/util/merr`` since 2.3,
an older enumeration beside them), and a few, such as wrong credentials, as gRPC codes. Words are never looked at.
"""

from typing import Any

from rag_migration_pipeline.errors import (
    CONCERNS_ALL,
    IS_INTERNAL,
    AuthenticationError,
    CollectionNotFoundError,
    MigrationError,
    RateLimitedError,
    StoreRequestError,
    StoreTimeoutError,
    StoreUnavailableError,
)

SUCCESS = 0
RATE_LIMIT = 8
FORCE_DENY = 9
COLLECTION_NOT_FOUND = 100
COLLECTION_NOT_LOADED = 101
INDEX_NOT_FOUND = 700
DATABASE_NOT_FOUND = 800

# merr of Milvus 2.3.5: not ready, unavailable, node lost, channel lost, segment moving.
_TRY_AGAIN = frozenset({1, 2, 3, 4, 10, 11, 103, 202, 400, 401, 500, 501, 503, 600, 601, 901, 902, 903})
_CANCELED_OR_TIMEOUT = frozenset({10000, 10001})
# 1400, 1401: not authenticated, not permitted; 1800, 1801: credentials needed, credentials malformed.
_CREDENTIALS = frozenset({1400, 1401, 1800, 1801})
# ``error_code`` of servers before 2.3, which leave ``code`` at zero.
_LEGACY_COLLECTION_NOT_FOUND = 4
_LEGACY_RATE_LIMIT = 49

# merr of 2.3.5 numbers what is wrong by its place: below 1100 are service, collection, partition, resource group,
# replica, channel, segment, index, database, node and disk; 1100 are parameters, 1700 fields, 65535 all the rest.
_FIRST_OF_REQUESTS = 1100
_LITE_CONCERNS_ALL = frozenset({COLLECTION_NOT_LOADED, INDEX_NOT_FOUND})

LITE_UNEXPECTED = 1
"""What Milvus Lite answers to every error that it has no number for; a server's 1 means "not ready"."""

# The server frees its request budget once a second (``quotaAndLimits`` of 2.3.5 counts per second).
RATE_LIMIT_WAIT_S = 1.0

_REASON_SHOWN = 400


def from_status(status: Any, what: str, address: str, *, is_lite: bool) -> MigrationError | None:
    """Return the error that a ``common.Status`` stands for, or None for success.

    Args:
        status: The answer's status.
        what: The request in words, e.g. ``Query of collection 'docs'``.
        address: The store's address without secrets.
        is_lite: Whether Milvus Lite answered, whose code 1 is permanent.
    """
    code = int(status.code) or (int(status.error_code) and _from_legacy(int(status.error_code)))
    if code == SUCCESS:
        return None
    sentence = f"{what} at {address} failed: {status.reason[:_REASON_SHOWN]} (code {code})."
    facts = {"code": code, "address": address}
    if code in (COLLECTION_NOT_FOUND, DATABASE_NOT_FOUND):
        return CollectionNotFoundError(sentence, todo="Check the name (case matters) and the database.", **facts)
    if code == RATE_LIMIT:
        return RateLimitedError(sentence, todo="Send less at a time.", retry_after_s=RATE_LIMIT_WAIT_S, **facts)
    if code in _CREDENTIALS:
        return AuthenticationError(sentence, todo="Check token, or user and password, and their privileges.", **facts)
    if code in _CANCELED_OR_TIMEOUT:
        return StoreTimeoutError(sentence, todo="Try again, or raise the timeout.", **facts)
    if not is_lite and (status.retriable or code in _TRY_AGAIN):
        return StoreUnavailableError(sentence, todo="The server asks to try again.", **facts)
    if code in _LITE_CONCERNS_ALL if is_lite else code < _FIRST_OF_REQUESTS:
        facts[CONCERNS_ALL] = True
    return StoreRequestError(sentence, todo=_todo(code), **facts)


def _from_legacy(error_code: int) -> int:
    return {_LEGACY_COLLECTION_NOT_FOUND: COLLECTION_NOT_FOUND, _LEGACY_RATE_LIMIT: RATE_LIMIT}.get(error_code, 65535)


def _todo(code: int) -> str:
    if code == COLLECTION_NOT_LOADED:
        return "Load the collection, or add ?load_source=true to its URL."
    if code == INDEX_NOT_FOUND:
        return "Create an index on the vector field, and load the collection."
    if code == FORCE_DENY:
        return "The server denies writes: free its memory or disk, or raise its quota."
    return "Trying again cannot help; see the reason."


def from_rpc(error: Any, what: str, address: str) -> MigrationError:
    """Return the error that a ``grpc.RpcError`` stands for.

    Args:
        error: The error, with ``code()`` and ``details()``.
        what: The request in words.
        address: The store's address without secrets.
    """
    name = error.code().name
    sentence = f"{what} at {address} failed: {(error.details() or 'no details')[:_REASON_SHOWN]} (gRPC {name})."
    facts: dict[str, Any] = {"code": name, "address": address}
    if name in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return AuthenticationError(sentence, todo="Check token, or user and password, and their privileges.", **facts)
    if name == "DEADLINE_EXCEEDED":
        return StoreTimeoutError(sentence, todo="Try again, or raise the timeout.", **facts)
    # INTERNAL and CANCELLED are what a connection that breaks under a request gives (RST_STREAM); UNAVAILABLE includes
    # GOAWAY, also the "too_many_pings" of Milvus Lite's server.
    if name in ("UNAVAILABLE", "INTERNAL", "CANCELLED", "ABORTED"):
        facts[IS_INTERNAL] = name == "INTERNAL"
        return StoreUnavailableError(sentence, todo="Check that the server runs at that address and port.", **facts)
    if name == "RESOURCE_EXHAUSTED":
        return StoreRequestError(sentence, todo="The message is larger than the server allows.", **facts)
    if name == "UNIMPLEMENTED":
        facts[CONCERNS_ALL] = True
        return StoreRequestError(sentence, todo="Check that this is Milvus' gRPC port, and its version.", **facts)
    return StoreRequestError(sentence, todo="Trying again cannot help; see the reason.", **facts)
