"""Stores as the Python API names them: reached when they are first used, shared by migrations and threads.

Belongs here: `StoreService` and the three functions that make one. Does not belong here: what a store does
(``stores/``).

    source = get_chromadb_service(host="localhost", port=8000)
    target = get_qdrant_service(path="/data/qdrant")
"""

import os
import re
import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.locators import Locator, Role, parse_locator
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.registry import open_source, open_target, settings_for

_ANY_COLLECTION = "-"
"""A service concerns a store, not a collection; a locator wants one all the same."""


class StoreService:
    """A store that is opened when it is first used; may be used as a source and as a target, by several threads.

    Attributes:
        settings: How it is reached.
    """

    def __init__(self, settings: StoreSettings) -> None:
        """Name the store; nothing is opened yet."""
        self.settings = settings
        self._turn = threading.Lock()
        self._store: VectorStore | None = None

    @property
    def address(self) -> str:
        """Where it is, without secrets."""
        return self.settings.address

    @property
    def store(self) -> VectorStore:
        """The store, open for reading only; it stays open until `close`.

        Raises:
            CollectionNotFoundError: A folder that does not exist is not made to look at it.
            StoreUnavailableError: Nothing answers at that address.
        """
        with self._turn:
            if self._store is None:
                self._store = open_source(self.settings)
            return self._store

    def list_collections(self) -> list[str]:
        """Return the names of all collections, sorted."""
        return self.store.list_collections()

    def count(self, collection: str) -> int:
        """Return the exact number of records in a collection.

        Raises:
            CollectionNotFoundError: There is none of that name.
        """
        return self.store.count(collection)

    def drop(self, collection: str) -> None:
        """Remove a collection with all its records; quiet where there is none."""
        with open_target(self.settings) as store:
            store.drop(collection)
        with self._turn:
            if self._store is not None:
                self._store.forget_spec(collection)

    def close(self) -> None:
        """Release what was opened; more than once is fine."""
        with self._turn:
            store, self._store = self._store, None
        if store is not None:
            store.close()

    def __enter__(self) -> Self:
        """Return the service."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Show the address."""
        return f"StoreService({self.address!r})"


def get_chromadb_service(
    host: str = "localhost",
    port: int = 8000,
    *,
    path: str | Path | None = None,
    tenant: str | None = None,
    database: str | None = None,
    token: str | None = None,
    tls: bool = False,
    **options: Any,
) -> StoreService:
    """Return Chroma: a server, or with ``path`` a folder with the engine in this process.

    Args:
        host: The server.
        port: Its port.
        path: A folder, as given to ``chromadb.PersistentClient``; then there is no server.
        tenant: Chroma's tenant.
        database: Chroma's database.
        token: A token; None takes ``CHROMA_TOKEN``.
        tls: Whether the server speaks TLS.
        options: Further options of the store's URL, such as ``ca_file``, ``timeout_s`` or ``document_key``.

    Raises:
        SpecError: An option is unknown, or a value makes no sense.
    """
    named = {"tenant": tenant, "database": database, **options}
    return _service("chroma", host, port, path, tls=tls, secrets={"token": token}, options=named)


def get_qdrant_service(
    host: str = "localhost",
    port: int = 6333,
    *,
    path: str | Path | None = None,
    engine: str = "local",
    api_key: str | None = None,
    tls: bool = False,
    **options: Any,
) -> StoreService:
    """Return Qdrant: a server, or with ``path`` a folder of the client's local mode or of the real engine.

    Args:
        host: The server.
        port: Its REST port; gRPC is used where it answers (``grpc_port``, 6334).
        path: A folder; then there is no server.
        engine: Of a folder: ``local`` (the client's own, small and slow) or ``edge`` (the real engine).
        api_key: A key; None takes ``QDRANT_API_KEY``.
        tls: Whether the server speaks TLS.
        options: Further options of the store's URL, such as ``grpc_port``, ``prefer_grpc`` or ``timeout_s``.

    Raises:
        SpecError: An option is unknown, or a value makes no sense.
    """
    forms = {"local": "file", "edge": "edge"}
    if engine not in forms:
        raise SpecError(f"engine {engine!r} of Qdrant: expected local or edge.")
    return _service(
        "qdrant", host, port, path, tls=tls, secrets={"api_key": api_key}, options=options, form=forms[engine]
    )


def get_milvus_service(
    host: str = "localhost",
    port: int = 19530,
    *,
    path: str | Path | None = None,
    database: str | None = None,
    token: str | None = None,
    user: str | None = None,
    password: str | None = None,
    tls: bool = False,
    **options: Any,
) -> StoreService:
    """Return Milvus: a server, or with ``path`` a Milvus Lite folder in this process.

    Args:
        host: The server.
        port: Its gRPC port.
        path: A Milvus Lite folder (``lite.db``); then there is no server.
        database: Milvus' database.
        token: A token; None takes ``MILVUS_TOKEN``.
        user: A user; None takes ``MILVUS_USER``.
        password: The user's password; None takes ``MILVUS_PASSWORD``.
        tls: Whether the server speaks TLS.
        options: Further options of the store's URL, such as ``load_source`` or ``timeout_s``.

    Raises:
        SpecError: An option is unknown, or a value makes no sense.
    """
    secrets = {"token": token, "user": user, "password": password}
    return _service("milvus", host, port, path, tls=tls, secrets=secrets, options={"database": database, **options})


def store_at(url: str, role: Role = "source") -> StoreService:
    """Return the store of a URL such as ``qdrant://localhost:6333``; a collection in it is not looked at.

    An embedded store's URL names its folder, and ends in ``/`` or in a collection.

    Args:
        url: See ``locators.py``.
        role: Whose secrets to take from the environment.

    Raises:
        SpecError: The URL is not of a known form.
    """
    head, mark, query = url.partition("?")
    is_complete = re.search(r"[^/]/[^/]+$", head) or re.match(r"memory://[^/]", head)
    named = head if is_complete else f"{head.rstrip('/')}/{_ANY_COLLECTION}"
    return StoreService(settings_for(parse_locator(f"{named}{mark}{query}", role)))


def _service(
    family: str,
    host: str,
    port: int,
    path: str | Path | None,
    *,
    tls: bool,
    secrets: dict[str, str | None],
    options: dict[str, Any],
    form: str = "file",
) -> StoreService:
    known = parse_locator(f"{family}://{host}/{_ANY_COLLECTION}", "source", os.environ).secrets if path is None else {}
    given = {name: SecretStr(value) for name, value in secrets.items() if value}
    named = {name: _text(value) for name, value in options.items() if value is not None}
    if path is not None:
        folder = str(Path(path).expanduser().absolute())
        locator = Locator(f"{family}+{form}", _ANY_COLLECTION, path=folder, options=named)
    else:
        named |= {"tls": "true"} if tls else {}
        locator = Locator(family, _ANY_COLLECTION, host, port, options=named, secrets={**known, **given})
    settings = settings_for(locator)
    return StoreService(replace(settings, **locator.store_options()))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
