"""How to reach Chroma: a folder by path, or a server by host and port.

Belongs here: settings and the URLs that describe them. Does not belong here: what is opened (``chroma.py``), how it is
reached (``chroma_connection.py``).
"""

import os
from dataclasses import dataclass
from typing import ClassVar

from pydantic import SecretStr

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.locators import Locator
from rag_migration_pipeline.names import NameRule
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.chroma_connection import TOKEN_HEADERS, ServerAddress, connect_folder, connect_server
from rag_migration_pipeline.stores.chroma_schema import NAME_PATTERN

DEFAULT_PORT = 8000
DEFAULT_TENANT, DEFAULT_DATABASE = "default_tenant", "default_database"


@dataclass(frozen=True, kw_only=True)
class ChromaSettings(StoreSettings):
    """How to reach Chroma: a folder (``path``) or a server (``host``).

    Attributes:
        path: Folder that `chromadb.PersistentClient` or ``chroma run --path`` uses.
        token: Sent in ``token_header``: ``Authorization`` (as Bearer) or ``X-Chroma-Token``; by default the former,
            and the latter for Chroma's own cloud.
        user: For a proxy with basic authentication, with ``password``.
        ca_file: PEM file of the authority to trust besides the system's.
    """

    name_rule: ClassVar[NameRule] = NameRule(NAME_PATTERN)

    path: str | None = None
    host: str | None = None
    port: int = DEFAULT_PORT
    is_tls: bool = False
    tenant: str = DEFAULT_TENANT
    database: str = DEFAULT_DATABASE
    token: SecretStr | None = None
    user: SecretStr | None = None
    password: SecretStr | None = None
    token_header: str | None = None
    ca_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if (self.path is None) == (self.host is None):
            raise SpecError("Chroma settings need either a path (folder) or a host (server).")
        if self.token_header not in (None, *TOKEN_HEADERS):
            raise SpecError(f"token_header={self.token_header!r}: expected one of {', '.join(TOKEN_HEADERS)}.")
        for name, value in (("tenant", self.tenant), ("database", self.database)):
            if not value or value in (".", "..") or "/" in value:
                raise SpecError(f"{name}={value!r} cannot be the name of a Chroma {name}.")

    @property
    def address(self) -> str:
        """``chroma://host:port`` or ``chroma+file:///folder``, with tenant and database where they are not Chroma's."""
        if self.path is not None:
            base = f"chroma+file://{os.path.realpath(self.path)}"
        else:
            host = (self.host or "").lower()
            base = f"chroma://{f'[{host}]' if ':' in host else host}:{self.port}"
        if (self.tenant, self.database) == (DEFAULT_TENANT, DEFAULT_DATABASE):
            return base
        return f"{base}?tenant={self.tenant}&database={self.database}"

    def open(self, *, create: bool = False) -> VectorStore:
        """See `StoreSettings.open`."""
        from rag_migration_pipeline.stores.chroma import ChromaStore

        if self.path is not None:
            connection = connect_folder(self.path, self.address, create=create)
            return ChromaStore(self, "folder", connection)
        server = ServerAddress(
            host=self.host or "",
            port=self.port,
            is_tls=self.is_tls,
            token=self.token,
            user=self.user,
            password=self.password,
            token_header=self.token_header,
            ca_file=self.ca_file,
            timeout_s=self.timeout_s,
        )
        return ChromaStore(self, "server", connect_server(server, self.tenant, self.database, self.address))


def settings_from_locator(locator: Locator) -> ChromaSettings:
    """Return the settings that a ``chroma://`` or ``chroma+file://`` URL describes.

    Raises:
        SpecError: Unknown option.
    """
    tenant = locator.options.get("tenant", DEFAULT_TENANT)
    database = locator.options.get("database", DEFAULT_DATABASE)
    if locator.scheme == "chroma+file":
        locator.refuse_unknown("tenant", "database")
        return ChromaSettings(path=locator.path, tenant=tenant, database=database)
    locator.refuse_unknown("tenant", "database", "tls", "token_header", "ca_file")
    return ChromaSettings(
        host=locator.host,
        port=locator.port or DEFAULT_PORT,
        is_tls=locator.is_tls,
        token=locator.secrets.get("token"),
        user=locator.secrets.get("user"),
        password=locator.secrets.get("password"),
        token_header=locator.options.get("token_header"),
        ca_file=locator.options.get("ca_file"),
        tenant=tenant,
        database=database,
    )
