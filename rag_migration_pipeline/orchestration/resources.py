"""Store resources: how Dagster configures and holds the three clients.

Belongs here: resources whose secrets come from `dagster.EnvVar`, opened when first asked for and closed with the run.
Does not belong here: what a store does (``stores/``).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import PrivateAttr, SecretStr

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.locators import Locator
from rag_migration_pipeline.state import default_state_dir
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.registry import open_source, open_target, settings_for

_ANY_COLLECTION = "-"
"""Settings concern a store, not a collection; a locator wants one all the same."""


class VectorStoreResource(dg.ConfigurableResource[Any]):
    """A vector store that runs of this process open once and share between their ops.

    Attributes:
        document_key: Payload key of the document in stores without documents of their own.
        timeout_s: Longest wait for one answer, in seconds.
    """

    document_key: str = "document"
    timeout_s: float = 60.0
    _source: VectorStore | None = PrivateAttr(default=None)
    _target: VectorStore | None = PrivateAttr(default=None)

    def locator(self) -> Locator:
        """Return the store's address as parsed parts."""
        raise NotImplementedError

    def settings(self) -> StoreSettings:
        """Return the store's settings."""
        settings = settings_for(self.locator())
        return replace(settings, document_key=self.document_key, timeout_s=self.timeout_s)

    def open_source(self) -> VectorStore:
        """Return the store, open read-only."""
        if self._source is None:
            self._source = open_source(self.settings())
        return self._source

    def open_target(self) -> VectorStore:
        """Return the store, open for writing."""
        if self._target is None:
            self._target = open_target(self.settings())
        return self._target

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002 - Dagster's signature
        """Close what was opened."""
        for store in (self._source, self._target):
            if store is not None:
                store.close()
        self._source = self._target = None


def _secrets(**values: str) -> dict[str, SecretStr]:
    return {name: SecretStr(value) for name, value in values.items() if value}


def _options(**values: str | bool) -> dict[str, str]:
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items() if value}


def _located(family: str, path: str, host: str, port: int, embedded: str = "file", **parts: Any) -> Locator:
    """Return the locator of a folder or a server; exactly one of them must be named."""
    if bool(path) == bool(host):
        raise SpecError(
            f"a {family} resource names {'both a path and a host' if path else 'neither a path nor a host'}.",
            todo="Set path for an embedded store, or host and port for a server.",
        )
    if path:
        absolute = str(Path(path).expanduser().absolute())
        return Locator(f"{family}+{embedded}", _ANY_COLLECTION, path=absolute, secrets=parts["secrets"])
    return Locator(family, _ANY_COLLECTION, host, port, **parts)


class ChromaResource(VectorStoreResource):
    """Chroma: a folder (``path``) or a server (``host``, ``port``)."""

    path: str = ""
    host: str = ""
    port: int = 8000
    tls: bool = False
    tenant: str = ""
    database: str = ""
    token: str = ""

    def locator(self) -> Locator:
        """See `VectorStoreResource.locator`."""
        options = _options(tls=self.tls, tenant=self.tenant, database=self.database)
        return _located("chroma", self.path, self.host, self.port, options=options, secrets=_secrets(token=self.token))


class QdrantResource(VectorStoreResource):
    """Qdrant: a local folder or an edge folder (``path``, ``engine``), or a server (``host``, ``port``)."""

    path: str = ""
    engine: str = "local"
    host: str = ""
    port: int = 6333
    grpc_port: int = 6334
    tls: bool = False
    api_key: str = ""

    def locator(self) -> Locator:
        """See `VectorStoreResource.locator`."""
        if self.engine not in ("local", "edge"):
            raise SpecError(f"a qdrant resource has the engine {self.engine!r}; expected local or edge.")
        embedded = "edge" if self.engine == "edge" else "file"
        options = _options(tls=self.tls, grpc_port=str(self.grpc_port))
        secrets = _secrets(api_key=self.api_key)
        return _located("qdrant", self.path, self.host, self.port, embedded, options=options, secrets=secrets)


class MilvusResource(VectorStoreResource):
    """Milvus: a Lite file (``path``) or a server (``host``, ``port``)."""

    path: str = ""
    host: str = ""
    port: int = 19530
    tls: bool = False
    database: str = ""
    token: str = ""
    user: str = ""
    password: str = ""

    def locator(self) -> Locator:
        """See `VectorStoreResource.locator`."""
        options = _options(tls=self.tls, database=self.database)
        secrets = _secrets(token=self.token, user=self.user, password=self.password)
        return _located("milvus", self.path, self.host, self.port, options=options, secrets=secrets)


class MemoryResource(VectorStoreResource):
    """The reference store in this process's memory; for trying things out."""

    name: str = "default"

    def locator(self) -> Locator:
        """See `VectorStoreResource.locator`."""
        return Locator("memory", _ANY_COLLECTION, options=_options(name=self.name))


class StateResource(dg.ConfigurableResource[Any]):
    """Where migrations keep manifests, receipts, staged files and reports.

    Attributes:
        folder: The folder; empty takes ``RAG_MIGRATE_STATE_DIR``, else ``.rag_migrate`` in the working folder.
    """

    folder: str = ""

    def path(self) -> Path:
        """Return the state folder."""
        return Path(self.folder).expanduser().absolute() if self.folder else default_state_dir().absolute()
