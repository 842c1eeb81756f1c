"""The two sets of stores that the matrix runs over, embedded ones and servers; memory and all forms of Qdrant."""

from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="session")
def embedded_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    """Chroma in a folder, Qdrant's engine in a folder, Milvus Lite in a folder."""
    folder = tmp_path_factory.mktemp("matrix")
    with ExitStack() as stack:
        yield open_places(
            stack,
            {
                "chroma": (ChromaSettings(path=str(folder / "chroma")), ChromaDoor),
                "qdrant": (QdrantEdgeSettings(path=str(folder / "qdrant")), QdrantEdgeDoor),
                "milvus": (MilvusSettings(path=str(folder / "lite.db")), MilvusDoor),
            },
        )


@pytest.fixture(scope="session")
def server_places(chroma_server: Any, qdrant_double: Any, milvus_server: Any) -> Iterator[dict[str, Place]]:
    """A Chroma server, the Qdrant double over gRPC, and Milvus 2.3.5."""
    qdrant = QdrantSettings(
        host=qdrant_double.host, port=qdrant_double.port, grpc_port=qdrant_double.grpc_port, prefer_grpc="true"
    )
    with ExitStack() as stack:
        yield open_places(
            stack,
            {
                "chroma": (ChromaSettings(host=chroma_server.host, port=chroma_server.port), ChromaDoor),
                "qdrant": (qdrant, QdrantDoor),
                "milvus": (MilvusSettings(host=milvus_server.host, port=milvus_server.port), MilvusDoor),
            },
        )


@pytest.fixture(params=["embedded", pytest.param("servers", marks=pytest.mark.server)])
def places(request: pytest.FixtureRequest) -> dict[str, Place]:
    """One open store of each kind: all embedded, or all servers."""
    found: dict[str, Place] = request.getfixturevalue(
        "embedded_places" if request.param == "embedded" else "server_places"
    )
    return found


@pytest.fixture(scope="module")
def open_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Place]]:
    """Open each form once, when it is asked for, with its back door."""
    places: dict[str, Place] = {}

    def settings_of(form: str) -> Any:
        if form == "memory":
            return MemorySettings(name="matrix of vectors")
        if form == "folder":
            return QdrantSettings(path=str(tmp_path_factory.mktemp("vectors") / form))
        if form == "edge":
            return QdrantEdgeSettings(path=str(tmp_path_factory.mktemp("vectors") / form))
        server, is_grpc = request.getfixturevalue("qdrant_double"), form == "grpc"
        port = server.grpc_port if is_grpc else None
        return QdrantSettings(
            host=server.host, port=server.port, grpc_port=port, prefer_grpc="true" if is_grpc else "false"
        )

    def get(form: str) -> Place:
        if form not in places:
            settings = settings_of(form)
            store = settings.open(create=True)
            makers: dict[str, Any] = {"memory": lambda s, _: MemoryDoor(s), "edge": QdrantEdgeDoor}
            places[form] = Place(settings, store, makers.get(form, QdrantDoor)(settings, store))
        return places[form]

    yield get
    for place in places.values():
        for name in place.store.list_collections():
            if name.startswith("matrix_"):
                place.store.drop(name)
        place.door.close()
        place.store.close()
    forget_space("matrix of vectors")
