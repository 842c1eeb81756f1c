"""The two sets of stores that generated collections travel through: embedded ones, and servers; memory in both."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from rag_migration_pipeline.stores.chroma import ChromaSettings
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline.stores.milvus import MilvusSettings
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline_tests.contract.doors_chroma import ChromaDoor
from rag_migration_pipeline_tests.contract.doors_memory import MemoryDoor
from rag_migration_pipeline_tests.contract.doors_milvus import MilvusDoor
from rag_migration_pipeline_tests.contract.doors_qdrant import QdrantDoor, QdrantEdgeDoor
from rag_migration_pipeline_tests.matrix.places import Place, open_places


def _memory_door(settings: Any, _: Any) -> MemoryDoor:
    return MemoryDoor(settings)


def _memory(stack: ExitStack, name: str) -> tuple[MemorySettings, Any]:
    stack.callback(forget_space, name)
    return MemorySettings(name=name), _memory_door


@pytest.fixture(scope="session")
def embedded_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    """Memory, Chroma in a folder, Qdrant's engine in a folder, Milvus Lite in a folder."""
    folder = tmp_path_factory.mktemp("fidelity")
    with ExitStack() as stack:
        yield open_places(
            stack,
            {
                "memory": _memory(stack, "fidelity-embedded"),
                "chroma": (ChromaSettings(path=str(folder / "chroma")), ChromaDoor),
                "qdrant": (QdrantEdgeSettings(path=str(folder / "qdrant")), QdrantEdgeDoor),
                "milvus": (MilvusSettings(path=str(folder / "lite.db")), MilvusDoor),
            },
        )


@pytest.fixture(scope="session")
def server_stores(chroma_server: Any, qdrant_double: Any, milvus_server: Any) -> Iterator[dict[str, Place]]:
    """Memory, a Chroma server, the Qdrant double over gRPC, and Milvus 2.3.5."""
    qdrant = QdrantSettings(
        host=qdrant_double.host, port=qdrant_double.port, grpc_port=qdrant_double.grpc_port, prefer_grpc="true"
    )
    with ExitStack() as stack:
        yield open_places(
            stack,
            {
                "memory": _memory(stack, "fidelity-servers"),
                "chroma": (ChromaSettings(host=chroma_server.host, port=chroma_server.port), ChromaDoor),
                "qdrant": (qdrant, QdrantDoor),
                "milvus": (MilvusSettings(host=milvus_server.host, port=milvus_server.port), MilvusDoor),
            },
        )


@pytest.fixture(scope="session")
def local_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    """Memory, Chroma in a folder, and Qdrant's client in its local mode."""
    folder = tmp_path_factory.mktemp("fidelity-local")
    with ExitStack() as stack:
        yield open_places(
            stack,
            {
                "memory": _memory(stack, "fidelity-local"),
                "chroma": (ChromaSettings(path=str(folder / "chroma")), ChromaDoor),
                "qdrant": (QdrantSettings(path=str(folder / "qdrant")), QdrantDoor),
            },
        )
