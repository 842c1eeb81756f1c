"""What the errors of fsspec's object stores mean, in one place.

Belongs here: which of their errors becomes which of ours, without a secret in it. Does not belong here: the files
(``remote_files.py``).

The drivers share no tree of exceptions: s3fs raises `OSError` or what botocore raises, gcsfs has an `HttpError` of its
own, adlfs passes Azure's. So an error is judged by its type and its causes': builtin types, names of classes, and the
HTTP status that each carries. Seen with s3fs 2026.9.0 and botocore 1.43.117; of gcsfs 2026.10.1 and adlfs 2026.8.0 what
is missing and what does not answer was seen, on emulators, and the rest is read off their sources.
"""

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from rag_migration_pipeline.errors import MigrationError, StagingError, StagingUnavailableError

STAGING_VARIABLE = "RAG_MIGRATE_STAGING"

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""Protocol -> extra of this package that brings its driver. Object stores alone: what is written there is there
completely or not at all, which a file on an FTP server is not."""

ENDPOINTS = {
    "s3": " (AWS_ENDPOINT_URL_S3 or FSSPEC_S3_ENDPOINT_URL)",
    "gcs": " (STORAGE_EMULATOR_HOST or FSSPEC_GS_ENDPOINT_URL)",
    "azure": " (AZURE_STORAGE_CONNECTION_STRING or FSSPEC_ABFS_ACCOUNT_HOST)",
}
"""Extra -> where another endpoint than the vendor's is named."""

PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
REFUSED_STATUSES = frozenset({401, 403})
UNREACHED = frozenset({"EndpointConnectionError", "ClientConnectorError", "ServiceRequestError", "TransportError"})
REFUSED = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}  # botocore
    | {"TokenRetrievalError", "ProfileNotFound"}  # botocore
    | {"DefaultCredentialsError", "RefreshError", "ClientAuthenticationError"}  # Google, Azure
)
PASSING = frozenset(
    {"ReadTimeoutError", "ConnectTimeoutError", "ConnectionClosedError", "ResponseStreamingError"}  # botocore
    | {"ServerDisconnectedError", "ClientPayloadError", "IncompleteRead", "IncompleteReadError"}  # aiohttp, http.client
    | {"ServiceResponseError", "FileExpired"}  # Azure; s3fs: the object was replaced while it was read
)
_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|CONNECTION_STRING|SAS")
_MIN_SECRET_LENGTH = 6


@contextmanager
def remote_errors(name: str, *, writing: bool = False) -> Iterator[None]:
    """Turn errors of a driver into ours.

    Args:
        name: URL of the file.
        writing: Whether it is written: where something is missing then, it is the bucket.

    Raises:
        StagingError: Somebody must change something.
        StagingUnavailableError: The same may succeed later.
    """
    try:
        yield
    except MigrationError:
        raise
    except Exception as error:  # noqa: BLE001 - drivers share no base; it goes on as ours
        ours, cause = translated(error, name, writing=writing)
        raise ours from cause


def translated(error: Exception, name: str, *, writing: bool) -> tuple[MigrationError, Exception | None]:
    """Return our error for one of a driver, and its cause; None where a secret would be seen in that."""
    if isinstance(error, MigrationError):
        return error, error.__cause__ if isinstance(error.__cause__, Exception) else None
    causes = list(_causes(error))
    said = f"{type(error).__name__}: {without_secrets(str(error))[:200]}"
    is_clean = all(without_secrets(str(item)) == str(item) for item in causes)
    what, todo, is_passing = _judged(causes, name, writing=writing)
    kind = StagingUnavailableError if is_passing else StagingError
    sentence = f"cannot {'write' if writing else 'read or remove'} the staged file {name}: {what} ({said})."
    return kind(sentence, todo=todo, path=name), error if is_clean else None


def without_secrets(text: str) -> str:
    """Return a driver's text without values of the environment that are secret, users in URLs and signed queries."""
    for variable, value in os.environ.items():
        if len(value) >= _MIN_SECRET_LENGTH and _SECRET_NAME.search(variable.upper()):
            text = text.replace(value, "***")
    return re.sub(r"\?[^\s\"'>]+=[^\s\"'>]*", "?***", re.sub(r"//[^/@\s\"']+@", "//***@", text))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    item: BaseException | None = error
    while item is not None and id(item) not in seen:
        seen.add(id(item))
        yield item
        item = item.__cause__ or item.__context__


def _judged(causes: list[BaseException], name: str, *, writing: bool) -> tuple[str, str, bool]:
    """Return what happened, what to do, and whether it may pass."""
    first = causes[0]
    names = {kind.__name__ for item in causes for kind in type(item).__mro__}
    status = next((found for item in causes if (found := _status(item)) is not None), None)
    protocol, _, path = name.partition("://")
    if isinstance(first, ImportError):
        extra = EXTRAS.get(protocol, protocol)
        return "its driver is not installed", f"Run: pip install 'rag_migration_pipeline[{extra}]'", False
    if names & UNREACHED or any(isinstance(item, ConnectionRefusedError | socket.gaierror) for item in causes):
        return (
            "nobody answers there",
            f"Check that it runs, and its endpoint{ENDPOINTS.get(EXTRAS.get(protocol, ''), '')}.",
            False,
        )
    if (
        status in PASSING_STATUSES
        or names & PASSING
        or isinstance(first, TimeoutError | ConnectionError)
        or _busy(first)
    ):
        return "the object store does not answer in time, or asks for fewer requests", "Run it again later.", True
    if status in REFUSED_STATUSES or names & REFUSED or isinstance(first, PermissionError):
        todo = "Check the keys in the environment (docs/deployment.md), and that they may read, write, list and delete."
        return "access is refused", todo, False
    if status == 404 or isinstance(first, FileNotFoundError):
        if writing:
            return f"there is no bucket {path.partition('/')[0]}", f"Make it, or correct {STAGING_VARIABLE}.", False
        return "it is not there", "Run it again: what is gone is made anew.", False
    return "the object store refuses", f"Check {STAGING_VARIABLE} and the options of the object store.", False


def _busy(error: BaseException) -> bool:
    """Whether s3fs says that it is to be tried again (SlowDown, ServiceUnavailable, OperationAborted)."""
    return isinstance(error, OSError) and bool(error.args) and error.args[0] == errno.EBUSY


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error carries: botocore's, Azure's, aiohttp's, gcsfs'."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return int(found) if found else None
    for attribute in ("status_code", "status", "code"):
        value = getattr(error, attribute, None)
        if isinstance(value, int):
            return value
        if isinstance(value, str) and value.isdecimal():
            return int(value)
    return None
