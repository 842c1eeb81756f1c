"""Where collections lie: servers and folders, fresh for every measured run.

Belongs here: starting and removing servers and folders, addresses for the pipeline and for the scripts. Does not belong
here: what is done with a collection.

Targets are fresh: Chroma 1.5.9 gives the records of a new collection list values of a deleted one, so every run that
writes to Chroma has a folder of its own. Milvus takes long to start and gets a new collection instead.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.straight_line import ChromaScript, EdgeScript, MilvusScript, QdrantScript, Script

COLLECTION = "benchmark"
SERVER_KINDS = ("chroma", "milvus", "qdrant_double")
KINDS = {
    "chroma": "Chroma server",
    "chroma_folder": "Chroma folder",
    "milvus": "Milvus server",
    "milvus_lite": "Milvus Lite folder",
    "qdrant_edge": "Qdrant edge folder",
    "qdrant_double": "Qdrant server double (gRPC)",
}
"""Kinds of stores, and what they are called in the table."""


@dataclass(frozen=True)
class Place:
    """One collection in one store.

    Attributes:
        path: Folder of an embedded store.
        port: Port of a server on this machine.
    """

    kind: str
    collection: str = COLLECTION
    path: str = ""
    port: int = 0
    grpc_port: int = 0

    @property
    def url(self) -> str:
        """The address that the pipeline takes."""
        schemes = {"chroma_folder": "chroma+file", "milvus_lite": "milvus+file", "qdrant_edge": "qdrant+edge"}
        if self.path:
            return f"{schemes[self.kind]}://{self.path}/{self.collection}"
        query = f"?grpc_port={self.grpc_port}" if self.grpc_port else ""
        return f"{self.kind.partition('_')[0]}://127.0.0.1:{self.port}/{self.collection}{query}"

    def open_script(self) -> Script:
        """Open the vendor's client on it."""
        if self.kind in ("chroma", "chroma_folder"):
            return ChromaScript(self.collection, path=self.path, port=self.port)
        if self.kind in ("milvus", "milvus_lite"):
            return MilvusScript(self.collection, self.path or f"http://127.0.0.1:{self.port}")
        if self.kind == "qdrant_edge":
            return EdgeScript(self.collection, self.path)
        return QdrantScript(self.collection, self.port, self.grpc_port)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


class Places:
    """Servers and folders of one benchmark; closing it removes them all."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder that everything lies in."""
        self._folder = folder
        self._opened = ExitStack()
        self._milvus: Any = None
        self._sources: dict[tuple[str, int], Place] = {}
        self._numbers = itertools.count()

    def close(self) -> None:
        """Stop the servers."""
        self._opened.close()

    def source(self, kind: str, count: int, fill: Callable[[Place], None]) -> Place:
        """Return a filled collection of that many records, made at the first call."""
        if (kind, count) not in self._sources:
            place = self._opened.enter_context(self._fresh(kind))
            fill(place)
            self._sources[kind, count] = place
        return self._sources[kind, count]

    @contextmanager
    def target(self, kind: str) -> Iterator[Place]:
        """Give a place without the collection; everything in it is removed afterwards."""
        with self._fresh(kind) as place:
            yield place

    @contextmanager
    def _fresh(self, kind: str) -> Iterator[Place]:
        folder = self._folder / f"{kind}-{next(self._numbers)}"
        if kind == "milvus":
            yield from self._fresh_milvus(folder.name.replace("-", "_"))
            return
        folder.mkdir(parents=True)
        try:
            if kind == "chroma":
                yield from _chroma_server(folder)
            elif kind == "qdrant_double":
                yield from _qdrant_double(folder)
            else:
                yield Place(kind, path=str(folder / ("lite.db" if kind == "milvus_lite" else "data")))
        finally:
            shutil.rmtree(folder)

    def _fresh_milvus(self, name: str) -> Iterator[Place]:
        from pymilvus import MilvusClient

        from rag_migration_pipeline_tests.servers.milvus import MilvusServer

        if self._milvus is None:
            self._milvus = self._opened.enter_context(MilvusServer(self._folder / "milvus"))
        yield Place("milvus", f"{COLLECTION}_{name}", port=self._milvus.port)
        client = MilvusClient(self._milvus.uri)
        client.drop_collection(f"{COLLECTION}_{name}")
        client.close()


def _chroma_server(folder: Path) -> Iterator[Place]:
    from rag_migration_pipeline_tests.servers.chroma import ChromaServer

    with ChromaServer(folder / "data") as server:
        yield Place("chroma", port=server.port)


def _qdrant_double(folder: Path) -> Iterator[Place]:
    from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

    with QdrantDouble(folder / "data") as server:
        yield Place("qdrant_double", port=server.http_port, grpc_port=server.grpc_port)
