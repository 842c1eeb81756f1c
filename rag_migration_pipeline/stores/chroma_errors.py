"""What Chroma's client raises, translated into our errors: the one place for that.

Belongs here: the decision by type and status code, and whether trying again helps. Does not belong here: who tries
again (a wrapper around the store).

The client turns answers of the server into exceptions by a name in the body and throws the status away where it does
not know the name (``BaseHTTPClient._raise_chroma_error``, chromadb 1.5.9: a proxy's 401 and 503 both become a bare
``Exception``). So our HTTP session raises on every refusal itself, see `refuse_by_status`. The engine of a folder has
no status codes; there the exception's type decides, and for the database inside it SQLite's result code.
"""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from rag_migration_pipeline.errors import (
    CONCERNS_ALL,
    IS_INTERNAL,
    AuthenticationError,
    CollectionExistsError,
    CollectionNotFoundError,
    MigrationError,
    RateLimitedError,
    StoreRequestError,
    StoreTimeoutError,
    StoreUnavailableError,
)

_SHOWN_CHARACTERS = 300
_SQLITE_CODE = re.compile(r"\(code: (\d+)\)")
_SQLITE_TRY_AGAIN = frozenset({5, 6})  # SQLITE_BUSY, SQLITE_LOCKED (sqlite.org/rescode.html), the lower eight bits
# Other results of SQLite's for which no record can be blamed: read-only, I/O, corrupt, full, cannot open (as above).
_SQLITE_CONCERNS_ALL = frozenset({8, 10, 11, 13, 14})
_RECORD_STATUS = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
_TIMEOUT_STATUS = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT})
_CREDENTIAL_STATUS = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED}
)


def refuse_by_status(response: Any) -> None:
    """Raise for a refusal before the client looks at it; an event hook of the HTTP session.

    Args:
        response: An ``httpx.Response`` whose body is not read yet.

    Raises:
        httpx.HTTPStatusError: The status is not 2xx.
    """
    if not response.is_success:
        response.read()
        response.raise_for_status()


@contextmanager
def driver_errors(address: str, collection: str | None = None) -> Iterator[None]:
    """Let no exception of the client out; wrap calls of the client and nothing else.

    Args:
        address: Named in messages.
        collection: The collection concerned, if any.
    """
    try:
        yield
    except MigrationError:
        raise
    except BaseException as error:
        ours = translate(error, address, collection)
        if ours is None:
            raise
        raise ours from error


def translate(error: BaseException, address: str, collection: str | None) -> MigrationError | None:
    """Return our error for an exception of the client, or None for what is not an error (interrupts, exits)."""
    import httpx

    facts: dict[str, Any] = {"address": address, "collection": collection}
    if isinstance(error, httpx.HTTPStatusError):
        return _from_status(error.response, address, facts)
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
        return _from_transport(error, address, facts)
    # The engine's panics derive from BaseException and cannot be imported (pyo3_runtime, chromadb 1.5.9).
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        return _from_engine(error, address, facts)
    return None


def _from_status(response: Any, address: str, facts: dict[str, Any]) -> MigrationError:
    status, message = response.status_code, _message(response)
    facts["status"] = status
    said = f"{address} answered {status}: {message}"
    if status in _CREDENTIAL_STATUS:
        return AuthenticationError(
            f"{address} refuses the credentials ({status}: {message}).",
            todo="Set CHROMA_TOKEN (or SOURCE_CHROMA_TOKEN, TARGET_CHROMA_TOKEN) to a valid token; servers that want "
            "it in another header need ?token_header=X-Chroma-Token.",
            **facts,
        )
    if status == HTTPStatus.NOT_FOUND:
        return CollectionNotFoundError(f"{said}.", todo="Check collection, tenant and database.", **facts)
    if status == HTTPStatus.CONFLICT:
        return CollectionExistsError(f"{said}.", todo="Choose another name, or drop what is there.", **facts)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        facts["retry_after_s"] = _retry_after_s(response.headers.get("Retry-After"))
        return RateLimitedError(f"{address} asks for fewer requests: {message}.", **facts)
    if status in _TIMEOUT_STATUS:
        return StoreTimeoutError(f"{said}.", **facts)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        facts[IS_INTERNAL] = status == HTTPStatus.INTERNAL_SERVER_ERROR
        return StoreUnavailableError(f"{said}.", todo="Look at the server's log if this goes on.", **facts)
    if status not in _RECORD_STATUS:
        facts[CONCERNS_ALL] = True
    return StoreRequestError(f"{said}.", **facts)


def _from_transport(error: Exception, address: str, facts: dict[str, Any]) -> MigrationError:
    import httpx

    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    facts[CONCERNS_ALL] = True
    if any(isinstance(item, ssl.SSLCertVerificationError) for item in _chain(error)):
        return StoreRequestError(
            f"the TLS certificate of {address} is not trusted ({reason}).",
            todo="Name the certificate of its authority with ?ca_file=/path/to/authority.pem.",
            **facts,
        )
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL | httpx.TooManyRedirects):
        return StoreRequestError(f"{address} cannot be asked ({reason}).", todo="Check host and port.", **facts)
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return StoreTimeoutError(
            f"{address} did not answer in time ({reason}).", todo="Raise timeout_s, or look at its load.", **facts
        )
    return StoreUnavailableError(
        f"{address} cannot be reached ({reason}).",
        todo="Check that the Chroma server runs there, and host, port and TLS of the URL.",
        **facts,
    )


def _from_engine(error: BaseException, address: str, facts: dict[str, Any]) -> MigrationError:
    from chromadb.errors import InternalError, NotFoundError

    said = f"Chroma refuses a request to {address} ({type(error).__name__}: {_short(str(error))})."
    if isinstance(error, NotFoundError):
        return CollectionNotFoundError(said, todo="Check collection, tenant and database.", **facts)
    if isinstance(error, InternalError):
        # The engine gives nothing but text here; SQLite's result code in it is a number, not wording (chromadb 1.5.9).
        code = _SQLITE_CODE.search(str(error))
        result = int(code[1]) & 0xFF if code else 0
        if result in _SQLITE_TRY_AGAIN:
            return StoreUnavailableError(said, todo="Close other programs that use the folder.", **facts)
        if result in _SQLITE_CONCERNS_ALL:
            facts[CONCERNS_ALL] = True
    return StoreRequestError(said, **facts)


def _message(response: Any) -> str:
    """Return what the server says, in one short line."""
    try:
        body = response.json()
        text = str(body["message"])
    except (ValueError, KeyError, TypeError):
        text = response.text or response.reason_phrase
    return _short(text)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "..."


def _chain(error: BaseException) -> Iterator[BaseException]:
    item: BaseException | None = error
    while item is not None:
        yield item
        item = item.__cause__ or item.__context__


def _retry_after_s(value: str | None) -> float | None:
    """Return seconds from a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
