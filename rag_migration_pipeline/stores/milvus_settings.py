"""How Milvus is reached: its settings and URLs.

Belongs here: addresses, options, secrets. Does not belong here: the connection (``milvus_connection.py``).
"""

import os
from dataclasses import dataclass
from typing import ClassVar

from pydantic import SecretStr

from rag_migration_pipeline.locators import Locator
from rag_migration_pipeline.names import NameRule
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.milvus_types import NAME_PATTERN

DEFAULT_PORT = 19_530


@dataclass(frozen=True, kw_only=True)
class MilvusSettings(StoreSettings):
    """How to reach Milvus: a server by ``host`` and ``port``, or a Milvus Lite folder by ``path``.

    Attributes:
        database: The database; ``default`` where none is named.
        is_tls: Whether the server is spoken to over TLS.
        ca_file: File of trusted roots (PEM), empty for the system's.
        tls_server_name: The name on the server's certificate, where it differs from the host.
        load_source: Whether a released collection may be loaded for reading; it is released again at the end.
        finish_timeout_s: Longest wait for flushing, indexing and loading.
    """

    name_rule: ClassVar[NameRule] = NameRule(NAME_PATTERN)

    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    database: str = "default"
    is_tls: bool = False
    ca_file: str = ""
    tls_server_name: str = ""
    token: SecretStr | None = None
    user: SecretStr | None = None
    password: SecretStr | None = None
    load_source: bool = False
    finish_timeout_s: float = 1800.0

    @property
    def address(self) -> str:
        """Canonical address without secrets."""
        query = "" if self.database == "default" else f"?database={self.database}"
        if self.path:
            return f"milvus+file://{os.path.realpath(self.path)}{query}"
        return f"milvus://{self.host.lower()}:{self.port}{query}"

    @property
    def endpoint(self) -> str:
        """The server as ``host:port``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def credentials(self) -> str:
        """What goes into the authorization header; a secret."""
        if self.token is not None:
            return self.token.get_secret_value()
        if self.user is not None and self.password is not None:
            return f"{self.user.get_secret_value()}:{self.password.get_secret_value()}"
        return ""

    def open(self, *, create: bool = False) -> VectorStore:
        """See `StoreSettings.open`."""
        from rag_migration_pipeline.stores.milvus import MilvusStore

        return MilvusStore(self, create=create)


def settings_from_locator(locator: Locator) -> MilvusSettings:
    """Return the settings of ``milvus://`` and ``milvus+file://`` URLs.

    Raises:
        SpecError: An unknown option.
    """
    is_file = locator.scheme == "milvus+file"
    server_options = () if is_file else ("tls", "ca_file", "tls_server_name")
    locator.refuse_unknown("database", "load_source", *server_options)
    return MilvusSettings(
        host=locator.host,
        port=locator.port or DEFAULT_PORT,
        path=locator.path,
        database=locator.options.get("database") or "default",
        is_tls=locator.is_tls,
        ca_file=locator.options.get("ca_file", ""),
        tls_server_name=locator.options.get("tls_server_name", ""),
        load_source=locator.flag("load_source"),
        token=locator.secrets.get("token"),
        user=locator.secrets.get("user"),
        password=locator.secrets.get("password"),
    )
