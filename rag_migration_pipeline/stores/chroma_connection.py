"""Reaching Chroma: the engine over a folder in this process, or a server over HTTP.

Belongs here: opening, sharing and closing. Does not belong here: collections and records (``chroma.py``).

Both forms are used through the client's ``ServerAPI``, which is what ``PersistentClient`` and ``HttpClient`` wrap: the
same requests without an embedding function (which would be downloaded) and without vectors as 64-bit objects. It is
built from fresh settings each time: the client changes the settings that it is given, and a second client built from
them would talk to the first one's store in silence (chromadb 1.5.9).
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from rag_migration_pipeline.errors import CollectionNotFoundError, SpecError, StoreRequestError
from rag_migration_pipeline.stores.chroma_errors import driver_errors, refuse_by_status
from rag_migration_pipeline.stores.folder_lock import FolderLock
from rag_migration_pipeline.stores.new_folder import make_folder

CONNECT_TIMEOUT_S = 10.0
DATABASE_FILE = "chroma.sqlite3"
_SQLITE_MAGIC = b"SQLite format 3\x00"
TOKEN_HEADERS = ("Authorization", "X-Chroma-Token")
"""Headers that Chroma's own client knows for a token; the first one carries it as ``Bearer``."""

_CLOUD_DOMAIN = "trychroma.com"  # Chroma's own cloud wants X-Chroma-Token (chromadb 1.5.9, CloudClient)


@dataclass(frozen=True)
class ServerAddress:
    """What a connection to a server needs."""

    host: str
    port: int
    is_tls: bool
    token: SecretStr | None
    user: SecretStr | None
    password: SecretStr | None
    token_header: str | None
    ca_file: str | None
    timeout_s: float


@dataclass
class Connection:
    """An open way to Chroma.

    Attributes:
        api: The client's ``ServerAPI``.
        max_batch_count: Most records of one request, as the store says.
    """

    api: Any
    max_batch_count: int
    release: Callable[[], None]


@dataclass
class _Folder:
    """An engine over a folder, with the number of those who use it; ``is_ours``: we started it and stop it."""

    system: Any
    users: int
    is_ours: bool


_folders: dict[str, _Folder] = {}
_guard = threading.Lock()


def connect_folder(path: str, address: str, *, create: bool) -> Connection:
    """Open the folder, or share the engine that this process has over it.

    Every open adds a row to the engine's own table ``acquire_write``, and reading a small collection writes its index
    files again; no table with the user's data is changed (chromadb 1.5.9).

    Args:
        path: The folder.
        address: Named in messages.
        create: Whether a missing folder is created, and a folder of an older Chroma brought up to date.

    Raises:
        CollectionNotFoundError: There is no Chroma database and none must be created.
        StoreLockedError: Another process uses the folder.
        StoreRequestError: The engine cannot open it.
    """
    folder = os.path.realpath(path)
    if not create:
        _refuse_missing(folder)
    lock = FolderLock(folder)
    try:
        if create:
            make_folder(folder)
        with driver_errors(address):
            system = _share(folder, create=create)
    except BaseException:
        lock.release()
        raise

    def release() -> None:
        try:
            with driver_errors(address):
                _leave(folder)
        finally:
            lock.release()

    try:
        with driver_errors(address):
            api = _api(system, "RustBindingsAPI")
            return Connection(api, api.get_max_batch_size(), release)
    except BaseException:
        release()
        raise


def _refuse_missing(folder: str) -> None:
    file = Path(folder) / DATABASE_FILE
    try:
        with file.open("rb") as stream:
            is_database = stream.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    except OSError:
        is_database = False
    if not is_database:
        raise CollectionNotFoundError(
            f"there is no Chroma database in the folder {folder}: it has no readable {DATABASE_FILE}.",
            todo="Check the path; it is the folder that was given to chromadb.PersistentClient or `chroma run --path`.",
            folder=folder,
        )


def _share(folder: str, *, create: bool) -> Any:
    with _guard:
        held = _folders.get(folder)
        if held is None:
            # Without a lock of its own the client may start two engines over one folder when threads open it at once.
            foreign = _system_of_the_program(folder)
            system = foreign or _start(folder, "apply" if create else "validate")
            held = _folders[folder] = _Folder(system, 0, is_ours=foreign is None)
        held.users += 1
        return held.system


def _leave(folder: str) -> None:
    with _guard:
        held = _folders[folder]
        held.users -= 1
        if held.users == 0:
            del _folders[folder]
            if held.is_ours:
                held.system.stop()


def _start(folder: str, migrations: str) -> Any:
    """Start an engine; "validate" refuses a folder of an older Chroma, which "apply" would change."""
    from chromadb.api import ServerAPI
    from chromadb.config import System
    from chromadb.errors import InternalError

    system = System(
        _settings(
            chroma_api_impl="chromadb.api.rust.RustBindingsAPI",
            is_persistent=True,
            persist_directory=folder,
            migrations=migrations,
        )
    )
    system.instance(ServerAPI)
    try:
        system.start()
    except InternalError as error:
        raise StoreRequestError(
            f"the Chroma database in {folder} cannot be opened ({error}).",
            todo="If an older Chroma wrote it, a source must not be changed: open a copy of the folder with "
            "chromadb.PersistentClient once, which brings it up to date, and migrate from the copy.",
            folder=folder,
        ) from error
    return system


def _system_of_the_program(folder: str) -> Any:
    """Return the running engine of a ``PersistentClient`` that the program itself has over the folder, if any.

    Two engines over one folder do not see each other's index. The client keeps its engines in a private table
    (``SharedSystemClient._identifier_to_system``, chromadb 1.5.9); where that is gone, none is found.
    """
    from chromadb.api.shared_system_client import SharedSystemClient

    for system in list(getattr(SharedSystemClient, "_identifier_to_system", {}).values()):
        settings = system.settings
        is_running = getattr(system, "_running", False)
        if is_running and settings.is_persistent and os.path.realpath(settings.persist_directory) == folder:
            return system
    return None


def connect_server(server: ServerAddress, tenant: str, database: str, address: str) -> Connection:
    """Connect to a server, checking that it answers, takes the credentials and has the database.

    Raises:
        StoreUnavailableError: Nothing answers there.
        AuthenticationError: The credentials are refused.
        CollectionNotFoundError: There is no such tenant or database.
        StoreRequestError: What answers is not a Chroma server that the client understands.
        SpecError: The settings are wrong.
    """
    from chromadb.config import System

    session = _session(server)
    try:
        with driver_errors(address):
            system = System(
                _settings(
                    chroma_api_impl="chromadb.api.fastapi.FastAPI",
                    chroma_server_host=f"[{server.host}]" if ":" in server.host else server.host,
                    chroma_server_http_port=server.port,
                    chroma_server_ssl_enabled=server.is_tls,
                )
            )
            api = _api(system, "FastAPI")
            # The client's own session waits for ever and cannot be given a context of trust (chromadb 1.5.9).
            session.headers.update(api.get_request_headers())
            api._session.close()
            api._session = session
        _check_server(api, tenant, database, address)
        return Connection(api, api.get_max_batch_size(), session.close)
    except BaseException:
        session.close()
        raise


def _forget_circle(response: Any) -> None:
    """Take httpx's circle out of an answer, so that its megabytes go when nobody holds it any more.

    An answer holds a stream that holds the answer, only to note how long reading took (``BoundSyncStream``, httpx
    0.28). Such answers wait for the rare full collections of a process with many objects: reading 20,000 records back
    in a Dagster run kept up to 400 MB of them.
    """
    response.stream = getattr(response.stream, "_stream", response.stream)


def _check_server(api: Any, tenant: str, database: str, address: str) -> None:
    try:
        with driver_errors(address):
            api.get_max_batch_size()  # the client keeps the answer
    except CollectionNotFoundError as error:
        raise StoreRequestError(
            f"{address} answers, but has no Chroma interface of version 2.",
            todo="Check host and port; Chroma servers have it since 0.6.",
            address=address,
        ) from error
    try:
        with driver_errors(address):
            api.get_database(name=database, tenant=tenant)
    except CollectionNotFoundError as error:
        raise CollectionNotFoundError(
            f"there is no database {database!r} of tenant {tenant!r} at {address}.",
            todo="Check ?tenant= and ?database= of the URL, or create them with Chroma's AdminClient.",
            address=address,
        ) from error


def _session(server: ServerAddress) -> Any:
    import ssl

    import httpx

    headers, auth = {}, None
    if server.token is not None:
        name, value = _token_header(server), server.token.get_secret_value()
        if not (value.isascii() and value.isprintable() and " " not in value):
            raise SpecError("the Chroma token has characters that a header cannot carry.", todo="Check CHROMA_TOKEN.")
        headers[name] = f"Bearer {value}" if name == "Authorization" else value
    if server.user is not None:
        password = server.password.get_secret_value() if server.password else ""
        auth = httpx.BasicAuth(server.user.get_secret_value(), password)
    verify: Any = True
    if server.ca_file is not None:
        try:
            verify = ssl.create_default_context(cafile=server.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SpecError(f"ca_file={server.ca_file!r} cannot be read: {error}.") from error
    return httpx.Client(
        timeout=httpx.Timeout(server.timeout_s, connect=min(server.timeout_s, CONNECT_TIMEOUT_S)),
        verify=verify,
        headers=headers,
        auth=auth,
        event_hooks={"response": [_forget_circle, refuse_by_status]},
    )


def _token_header(server: ServerAddress) -> str:
    if server.token_header is not None:
        return server.token_header
    return TOKEN_HEADERS[1] if server.host.endswith(_CLOUD_DOMAIN) else TOKEN_HEADERS[0]


def _settings(**values: Any) -> Any:
    """Return fresh settings of the client, which read no ``.env`` file of the working directory."""
    from chromadb.config import Settings

    return Settings(_env_file=None, anonymized_telemetry=False, **values)


def _api(system: Any, expected: str) -> Any:
    """Return the system's API after checking that it is the one asked for (see the module's notes on settings)."""
    from chromadb.api import ServerAPI

    api = system.instance(ServerAPI)
    if type(api).__name__ != expected:
        raise StoreRequestError(f"the Chroma client made a {type(api).__name__} instead of a {expected}.")
    return api
