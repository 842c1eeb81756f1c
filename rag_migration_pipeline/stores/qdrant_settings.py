"""How to reach Qdrant through its client: a server by host and port, or a local folder by path.

Belongs here: settings and the URLs that describe them. Does not belong here: what is opened (``qdrant_server.py``,
``qdrant.py``).

    qdrant://host:6333/docs?grpc_port=6334&prefer_grpc=auto|true|false&tls=true&ca_file=/path
    qdrant+file:///dir/docs

``auto`` uses gRPC where it answers, else REST. The gRPC port is taken to be 6334 only where the REST port is 6333:
beside another REST port it could belong to another server, so there it must be named.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

from pydantic import SecretStr

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.locators import Locator
from rag_migration_pipeline.names import NameRule
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.qdrant_schema import NAME_RULE

GrpcPreference = Literal["auto", "true", "false"]

DEFAULT_PORT, DEFAULT_GRPC_PORT = 6333, 6334


@dataclass(frozen=True, kw_only=True)
class QdrantSettings(StoreSettings):
    """How to reach Qdrant: a server by host and port, or a local folder by path.

    Attributes:
        path: Absolute folder of the client's local mode; empty for a server.
        grpc_port: None means 6334 where ``port`` is 6333, and no gRPC elsewhere.
        prefer_grpc: auto (gRPC where it answers), true (nothing else), false (REST).
        ca_file: PEM file of the authority that signed the server's certificate; empty means the public ones.
        finish_timeout_s: Longest wait for the optimizers at the end of a load.
    """

    name_rule: ClassVar[NameRule] = NAME_RULE

    host: str = ""
    port: int = DEFAULT_PORT
    grpc_port: int | None = None
    prefer_grpc: GrpcPreference = "auto"
    is_tls: bool = False
    ca_file: str = ""
    api_key: SecretStr | None = None
    path: str = ""
    finish_timeout_s: float = 1800.0

    @property
    def address(self) -> str:
        """See `StoreSettings.address`."""
        return f"qdrant+file://{Path(self.path).resolve()}" if self.path else f"qdrant://{self.host}:{self.port}"

    @property
    def known_grpc_port(self) -> int | None:
        """Port of gRPC, or None where none is known."""
        if self.grpc_port is None and self.port == DEFAULT_PORT:
            return DEFAULT_GRPC_PORT
        return self.grpc_port

    def open(self, *, create: bool = False) -> VectorStore:
        """See `StoreSettings.open`."""
        from rag_migration_pipeline.stores.qdrant import QdrantFolderStore
        from rag_migration_pipeline.stores.qdrant_server import QdrantServerStore

        return QdrantFolderStore(self, create=create) if self.path else QdrantServerStore(self)


def settings_from_locator(locator: Locator) -> QdrantSettings:
    """Return the settings that a ``qdrant`` or ``qdrant+file`` URL describes.

    Raises:
        SpecError: Unknown option, or a value that makes no sense.
    """
    if locator.path:
        locator.refuse_unknown()
        return QdrantSettings(path=locator.path)
    locator.refuse_unknown("grpc_port", "prefer_grpc", "tls", "ca_file")
    preference = locator.options.get("prefer_grpc", "auto").lower()
    if preference not in get_args(GrpcPreference):
        raise SpecError(f"option prefer_grpc={preference!r} of a qdrant URL: expected auto, true or false.")
    grpc_port = locator.options.get("grpc_port")
    if grpc_port is not None and not (grpc_port.isascii() and grpc_port.isdigit() and 0 < int(grpc_port) < 2**16):
        raise SpecError(f"option grpc_port={grpc_port!r} of a qdrant URL: expected a port number.")
    settings = QdrantSettings(
        host=locator.host,
        port=locator.port or DEFAULT_PORT,
        grpc_port=None if grpc_port is None else int(grpc_port),
        prefer_grpc=preference,  # type: ignore[arg-type]  # checked against the literal's values above
        is_tls=locator.is_tls,
        ca_file=locator.options.get("ca_file", ""),
        api_key=locator.secrets.get("api_key"),
    )
    if preference == "true" and settings.known_grpc_port is None:
        raise SpecError(
            f"prefer_grpc=true needs the gRPC port of {settings.address}.", todo="Add grpc_port=... to the URL."
        )
    return settings
