"""The laws on Qdrant: local folder, edge folder, the double over gRPC and REST, and a real server where one is named.

Set QDRANT_URL (and QDRANT_API_KEY, QDRANT_GRPC_PORT where needed) to run them against a real server.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from rag_migration_pipeline.records import FieldSpec, IdKind
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline_tests.contract.doors import Door
from rag_migration_pipeline_tests.contract.doors_qdrant import QdrantDoor, QdrantEdgeDoor
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.laws import EmbeddedStoreLaws, ServerStoreLaws

QDRANT_URL = os.environ.get("QDRANT_URL", "")


INDEXED_FIELDS = tuple(
    FieldSpec(name, kind, is_nullable=True, is_indexed=True)
    for name, kind in (("title", "string"), ("year", "int"), ("score", "float"), ("is_public", "bool"))
)
ENGINE_SETTINGS: dict[str, Any] = {
    "hnsw_config": {"m": 8, "ef_construct": 60, "full_scan_threshold": 2_000, "on_disk": True},
    "quantization_config": {"scalar": {"type": "int8", "quantile": 0.75, "always_ram": True}},
    "on_disk_payload": False,
    "vectors": {"": {"on_disk": True, "hnsw_config": {"m": 24, "ef_construct": 80}}},
}


class QdrantForm(StoreForm):
    """What all forms of Qdrant share."""

    id_kind_sets = (frozenset({IdKind.UINT64, IdKind.UUID}),)
    vector_names = ("text", "Bild 漢字 🜚", "a.b", "one's $x{}")
    collection_metadata: ClassVar[dict[str, Any]] = {"purpose": "tests", "nested": {"list": [1, None]}}

    @classmethod
    def open_door(cls, settings: StoreSettings, store: VectorStore) -> Door:
        return QdrantDoor(settings, store)


class QdrantServerForm(QdrantForm, ServerStoreLaws):
    """What the forms of Qdrant over the network share."""

    is_server = True
    typed_fields = INDEXED_FIELDS
    index_settings: ClassVar[dict[str, Any]] = {
        **ENGINE_SETTINGS,
        "optimizer_config": {"indexing_threshold": 5_000},
        "wal_config": {"wal_capacity_mb": 16},
        "shard_number": 2,
        "replication_factor": 2,
    }

    @classmethod
    def settings_at(cls, settings: StoreSettings, host: str, ports: Sequence[int]) -> StoreSettings:
        assert isinstance(settings, QdrantSettings)
        grpc_port = ports[1] if len(ports) > 1 else None
        return replace(settings, host=host, port=ports[0], grpc_port=grpc_port, timeout_s=3.0)

    @classmethod
    def ports_of(cls, settings: StoreSettings) -> Sequence[int]:
        assert isinstance(settings, QdrantSettings)
        return [settings.port] if settings.known_grpc_port is None else [settings.port, settings.known_grpc_port]

    @classmethod
    def settings_with_secret(cls, settings: StoreSettings, secret: str) -> StoreSettings | None:
        assert isinstance(settings, QdrantSettings)
        return replace(settings, api_key=SecretStr(secret))


class TestQdrantFolder(QdrantForm, EmbeddedStoreLaws):
    """`qdrant+file://`: the local mode of the client, a folder with SQLite."""

    label = "Qdrant folder"
    bulk_count = 400  # one SQLite commit per point; there are no requests to cut

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory: pytest.TempPathFactory) -> StoreSettings:
        return QdrantSettings(path=str(tmp_path_factory.mktemp("qdrant_folder") / "store"))

    @classmethod
    def settings_in(cls, folder: Path) -> StoreSettings:
        return QdrantSettings(path=str(folder))


class TestQdrantEdge(QdrantForm, EmbeddedStoreLaws):
    """`qdrant+edge://`: the real engine, embedded."""

    label = "Qdrant edge"
    typed_fields = INDEXED_FIELDS
    index_settings = ENGINE_SETTINGS

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory: pytest.TempPathFactory) -> StoreSettings:
        return QdrantEdgeSettings(path=str(tmp_path_factory.mktemp("qdrant_edge") / "store"))

    @classmethod
    def settings_in(cls, folder: Path) -> StoreSettings:
        return QdrantEdgeSettings(path=str(folder))

    @classmethod
    def open_door(cls, settings: StoreSettings, store: VectorStore) -> Door:
        return QdrantEdgeDoor(settings, store)


@pytest.mark.server
class TestQdrantDoubleGrpc(QdrantServerForm):
    """`qdrant://` with gRPC, to the double in front of the real engine."""

    label = "Qdrant double, gRPC"
    documented_as = "Qdrant server"

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, qdrant_double: Any) -> StoreSettings:
        server = qdrant_double
        return QdrantSettings(host=server.host, port=server.port, grpc_port=server.grpc_port, prefer_grpc="true")


@pytest.mark.server
class TestQdrantDoubleRest(QdrantServerForm):
    """`qdrant://` with REST alone, to the double in front of the real engine."""

    label = "Qdrant double, REST"
    documented_as = "Qdrant server"

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, qdrant_double: Any) -> StoreSettings:
        return QdrantSettings(host=qdrant_double.host, port=qdrant_double.port, prefer_grpc="false")


@pytest.mark.server
@pytest.mark.skipif(not QDRANT_URL, reason="set QDRANT_URL to run the laws against a real Qdrant server")
class TestQdrantServer(QdrantServerForm):
    """`qdrant://` to the server that QDRANT_URL names."""

    label = "Qdrant server"
    is_away = not QDRANT_URL

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls) -> StoreSettings:
        parts = urlsplit(QDRANT_URL)
        key = os.environ.get("QDRANT_API_KEY")
        grpc_port = os.environ.get("QDRANT_GRPC_PORT")
        return QdrantSettings(
            host=parts.hostname or "localhost",
            port=parts.port or 6333,
            grpc_port=int(grpc_port) if grpc_port else None,
            is_tls=parts.scheme == "https",
            api_key=SecretStr(key) if key else None,
        )
