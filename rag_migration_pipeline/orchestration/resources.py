"""Store resources: how Dagster configures and holds the three clients.

Belongs here: resources whose secrets come from `dagster.EnvVar`, opened when first asked for and closed with the run.
Does not belong here: what a store does (``stores/``).
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.locators import Locator
from rag_migration_pipeline.remote_files import AnyPath, location_of
from rag_migration_pipeline.state import default_staging, default_state_dir
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.registry import open_source, open_target, settings_for

_ANY_COLLECTION = "-"
"""Settings concern a store, not a collection; a locator wants one all the same."""


class VectorStoreResource(dg.ConfigurableResource[Any]):
    """A vector store that runs of this process open once and share between their ops.

    Attributes:
        document_key: Payload key of the document in stores without documents of their own.
        timeout_s: Longest wait for one answer, in seconds.

    The two may also be options of the store's URL, which then win.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # a secret of the wrong type is an input too

    document_key: str = "document"
    timeout_s: float = 60.0
    _source: VectorStore | None = PrivateAttr(default=None)
    _target: VectorStore | None = PrivateAttr(default=None)

    def locator(self) -> Locator:
        """Return the store's address as parsed parts."""
        raise NotImplementedError

    def settings(self) -> StoreSettings:
        """Return the store's settings."""
        locator = self.locator()
        fields = {"document_key": self.document_key, "timeout_s": self.timeout_s}
        return replace(settings_for(locator), **{**fields, **locator.store_options()})

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
        """Close what was opened; an error from one store does not keep the other open."""
        opened = [store for store in (self._target, self._source) if store is not None]
        self._source = self._target = None
        with ExitStack() as closing:
            for store in opened:
                closing.callback(store.close)


def _secrets(**values: str) -> dict[str, SecretStr]:
    return {name: SecretStr(value) for name, value in values.items() if value}


def _options(**values: str | bool) -> dict[str, str]:
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items() if value}


def _refuse_two_places(family: str, path: str, host: str) -> None:
    """Refuse a store that is neither a folder nor a server, or both.

    Raises:
        SpecError: See above.
    """
    if bool(path) == bool(host):
        raise SpecError(
            f"a {family} resource names {'both a path and a host' if path else 'neither a path nor a host'}.",
            todo="Set path for an embedded store, or host and port for a server.",
        )


class EmbeddedOrServerResource(VectorStoreResource):
    """A store that is a folder or file (``path``), or a server (``host``, ``port``).

    Attributes:
        options: Further options of the store's URL (docs/migrations.md), such as ``ca_file``.
    """

    path: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False
    options: dict[str, str] = {}  # noqa: RUF012 - a pydantic field, copied for each resource

    def family(self) -> str:
        """Return the URL scheme of the server form."""
        raise NotImplementedError

    def embedded_form(self) -> str:
        """Return what the embedded form adds to the scheme."""
        return "file"

    def secrets(self) -> dict[str, SecretStr]:
        """Return the secrets that are set."""
        raise NotImplementedError

    def locator(self) -> Locator:
        """See `VectorStoreResource.locator`.

        Raises:
            SpecError: Both a path and a host are named, or neither.
        """
        _refuse_two_places(self.family(), self.path, self.host)
        if self.path:
            folder = str(Path(self.path).expanduser().absolute())
            scheme = f"{self.family()}+{self.embedded_form()}"
            return Locator(scheme, _ANY_COLLECTION, path=folder, options=self.options)
        options = {**self.options, **_options(tls=self.tls)}
        return Locator(
            self.family(), _ANY_COLLECTION, self.host, self.port or None, options=options, secrets=self.secrets()
        )


class ChromaResource(EmbeddedOrServerResource):
    """Chroma: a folder (``path``) or a server (``host``, ``port``)."""

    token: str = Field(default="", repr=False)
    user: str = Field(default="", repr=False)
    password: str = Field(default="", repr=False)

    def family(self) -> str:
        """See `EmbeddedOrServerResource.family`."""
        return "chroma"

    def secrets(self) -> dict[str, SecretStr]:
        """See `EmbeddedOrServerResource.secrets`."""
        return _secrets(token=self.token, user=self.user, password=self.password)


class QdrantResource(EmbeddedOrServerResource):
    """Qdrant: a folder (``path``) of the client's local mode or of the real engine (``engine: edge``), or a server."""

    engine: str = "local"
    api_key: str = Field(default="", repr=False)

    def family(self) -> str:
        """See `EmbeddedOrServerResource.family`."""
        return "qdrant"

    def embedded_form(self) -> str:
        """See `EmbeddedOrServerResource.embedded_form`.

        Raises:
            SpecError: The engine is neither local nor edge.
        """
        forms = {"local": "file", "edge": "edge"}
        if self.engine not in forms:
            raise SpecError(f"a qdrant resource has the engine {self.engine!r}; expected local or edge.")
        return forms[self.engine]

    def secrets(self) -> dict[str, SecretStr]:
        """See `EmbeddedOrServerResource.secrets`."""
        return _secrets(api_key=self.api_key)


class MilvusResource(EmbeddedOrServerResource):
    """Milvus: a Lite file (``path``) or a server (``host``, ``port``)."""

    token: str = Field(default="", repr=False)
    user: str = Field(default="", repr=False)
    password: str = Field(default="", repr=False)

    def family(self) -> str:
        """See `EmbeddedOrServerResource.family`."""
        return "milvus"

    def secrets(self) -> dict[str, SecretStr]:
        """See `EmbeddedOrServerResource.secrets`."""
        return _secrets(token=self.token, user=self.user, password=self.password)


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
        staging: Where staged files lie: a folder, or a prefix on an object store such as ``s3://bucket/prefix``, whose
            keys and options come from the environment. Empty takes ``RAG_MIGRATE_STAGING``, else beside the rest.
    """

    folder: str = ""
    staging: str = ""

    def path(self) -> Path:
        """Return the state folder."""
        return Path(self.folder).expanduser().absolute() if self.folder else default_state_dir().absolute()

    def staging_place(self) -> AnyPath | None:
        """Return where staged files lie; None for beside the rest.

        Raises:
            StagingError: There is no such kind of place.
        """
        return location_of(self.staging) if self.staging else default_staging()
