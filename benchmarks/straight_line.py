"""The straight-line script: read a page, write a page, with the vendors' clients as their documentation shows them.

Belongs here: per store how a competent user reads and writes whole records in pages, without any check. Does not
belong here: anything of the pipeline.

A record is an id, a vector, a document and a payload. Qdrant and Milvus hold the document as one more field.
"""

import queue
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from benchmarks.data import Page

PAGE_COUNT = 1_000
PAGES_AHEAD = 4
DOCUMENT = "document"
_MAX_TEXT_BYTES = 65_535
_POLL_S = 0.2


class Script(Protocol):
    """What a straight-line script does with one collection of one store."""

    def create(self, dimension: int) -> None:
        """Make an empty collection that compares by cosine."""

    def read(self) -> Iterator[Page]:
        """Yield all records, page by page."""

    def write(self, page: Page) -> None:
        """Write a page; acknowledged when this returns."""

    def finish(self) -> None:
        """Wait until everything can be searched through the index."""

    def count(self) -> int:
        """Return the exact number of records."""

    def close(self) -> None:
        """Close the client."""


class ChromaScript:
    """Chroma by `get(limit, offset)` and `upsert`."""

    def __init__(self, name: str, *, path: str = "", port: int = 0) -> None:
        import chromadb
        from chromadb.config import Settings

        # A Settings of its own for every client: HttpClient changes the one it is given (chromadb 1.5.9).
        settings = Settings(anonymized_telemetry=False)
        if path:
            self._client = chromadb.PersistentClient(path, settings=settings)
        else:
            self._client = chromadb.HttpClient("127.0.0.1", port, settings=settings)
        self._name = name
        self._collection: Any = None

    @property
    def collection(self) -> Any:
        if self._collection is None:
            self._collection = self._client.get_collection(self._name, embedding_function=None)
        return self._collection

    def create(self, dimension: int) -> None:  # noqa: ARG002 - Chroma takes it from the first record
        self._client.create_collection(
            self._name, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None, get_or_create=False
        )

    def read(self) -> Iterator[Page]:
        offset = 0
        while True:
            found = self.collection.get(
                limit=PAGE_COUNT, offset=offset, include=["embeddings", "metadatas", "documents"]
            )
            if not found["ids"]:
                return
            yield Page(found["ids"], found["embeddings"], found["documents"], found["metadatas"])
            offset += len(found["ids"])

    def write(self, page: Page) -> None:
        self.collection.upsert(ids=page.ids, embeddings=page.vectors, documents=page.documents, metadatas=page.payloads)

    def finish(self) -> None:
        """Chroma indexes while it writes."""

    def count(self) -> int:
        return int(self.collection.count())

    def close(self) -> None:
        self._client.close()


class MilvusScript:
    """Milvus by `query_iterator` and `upsert`."""

    def __init__(self, name: str, uri: str) -> None:
        from pymilvus import MilvusClient

        self._client = MilvusClient(uri)
        self._name = name

    def create(self, dimension: int) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(enable_dynamic_field=True)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        schema.add_field(DOCUMENT, DataType.VARCHAR, max_length=_MAX_TEXT_BYTES)
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
        # With index parameters the client also loads the collection.
        self._client.create_collection(self._name, schema=schema, index_params=index)

    def read(self) -> Iterator[Page]:
        rows = self._client.query_iterator(self._name, batch_size=PAGE_COUNT, output_fields=["*"])
        while found := rows.next():
            ids, vectors, documents, payloads = [], [], [], []
            for row in found:
                record = dict(row)
                ids.append(record.pop("id"))
                vectors.append(record.pop("vector"))
                documents.append(record.pop(DOCUMENT))
                payloads.append(record)
            yield Page(ids, vectors, documents, payloads)
        rows.close()

    def write(self, page: Page) -> None:
        columns = zip(page.ids, page.vectors, page.documents, page.payloads, strict=True)
        self._client.upsert(
            self._name,
            [{"id": i, "vector": vector, DOCUMENT: text, **payload} for i, vector, text, payload in columns],
        )

    def finish(self) -> None:
        self._client.flush(self._name)
        # A server builds the index after the flush.
        while self._client.describe_index(self._name, "vector").get("pending_index_rows"):
            time.sleep(_POLL_S)
        self._client.load_collection(self._name)

    def count(self) -> int:
        found = self._client.query(self._name, output_fields=["count(*)"], consistency_level="Strong")
        return int(found[0]["count(*)"])

    def close(self) -> None:
        self._client.close()


class QdrantScript:
    """A Qdrant server by `scroll` and `upsert`."""

    def __init__(self, name: str, port: int, grpc_port: int) -> None:
        from qdrant_client import QdrantClient

        self._client = QdrantClient(
            port=port, grpc_port=grpc_port, prefer_grpc=True, check_compatibility=False, timeout=60
        )
        self._name = name

    def create(self, dimension: int) -> None:
        from qdrant_client import models

        parameters = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
        self._client.create_collection(self._name, vectors_config=parameters)

    def read(self) -> Iterator[Page]:
        offset = None
        while True:
            points, offset = self._client.scroll(
                self._name, limit=PAGE_COUNT, offset=offset, with_payload=True, with_vectors=True
            )
            yield _page_of_points(points)
            if offset is None:
                return

    def write(self, page: Page) -> None:
        from qdrant_client import models

        columns = zip(page.ids, page.vectors, page.documents, page.payloads, strict=True)
        points = [
            models.PointStruct(id=i, vector=_floats(vector), payload={DOCUMENT: text, **payload})
            for i, vector, text, payload in columns
        ]
        self._client.upsert(self._name, points, wait=True)

    def finish(self) -> None:
        """Qdrant indexes in the background; the test double does not."""

    def count(self) -> int:
        return int(self._client.count(self._name, exact=True).count)

    def close(self) -> None:
        self._client.close()


class EdgeScript:
    """Qdrant's engine in this process by `scroll` and `update`."""

    def __init__(self, name: str, path: str) -> None:
        self._folder = Path(path) / name
        self._shard: Any = None

    @property
    def shard(self) -> Any:
        import qdrant_edge

        if self._shard is None:
            self._shard = qdrant_edge.EdgeShard.load(str(self._folder))
        return self._shard

    def create(self, dimension: int) -> None:
        import qdrant_edge

        self._folder.mkdir(parents=True)
        parameters = qdrant_edge.EdgeVectorParams(size=dimension, distance=qdrant_edge.Distance.Cosine)
        self._shard = qdrant_edge.EdgeShard.create(str(self._folder), qdrant_edge.EdgeConfig(vectors=parameters))

    def read(self) -> Iterator[Page]:
        import qdrant_edge

        offset = None
        while True:
            request = qdrant_edge.ScrollRequest(offset=offset, limit=PAGE_COUNT, with_payload=True, with_vector=True)
            points, offset = self.shard.scroll(request)
            yield _page_of_points(points)
            if offset is None:
                return

    def write(self, page: Page) -> None:
        import qdrant_edge

        columns = zip(page.ids, page.vectors, page.documents, page.payloads, strict=True)
        points = [
            qdrant_edge.Point(uuid.UUID(i), _floats(vector), {DOCUMENT: text, **payload})
            for i, vector, text, payload in columns
        ]
        self.shard.update(qdrant_edge.UpdateOperation.upsert_points(points))

    def finish(self) -> None:
        self.shard.optimize()
        self.shard.flush()

    def count(self) -> int:
        import qdrant_edge

        return int(self.shard.count(qdrant_edge.CountRequest(exact=True)))

    def close(self) -> None:
        if self._shard is not None:
            self._shard.close()


def _page_of_points(points: list[Any]) -> Page:
    documents = [point.payload.pop(DOCUMENT, None) for point in points]
    return Page(
        [str(point.id) for point in points],
        [point.vector for point in points],
        documents,
        [point.payload for point in points],
    )


def _floats(vector: Any) -> list[float]:
    return vector if isinstance(vector, list) else vector.tolist()


def copy(source: Script, target: Script) -> int:
    """Copy all records; return their number."""
    total = 0
    for page in source.read():
        target.write(page)
        total += len(page.ids)
    return total


def copy_pipelined(source: Script, target: Script) -> int:
    """Copy all records, reading in a thread while earlier pages are written; return their number."""
    waiting: queue.Queue[Page | BaseException | None] = queue.Queue(PAGES_AHEAD)

    def read() -> None:
        try:
            for page in source.read():
                waiting.put(page)
            waiting.put(None)
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            waiting.put(error)

    threading.Thread(target=read, daemon=True).start()
    total = 0
    while (page := waiting.get()) is not None:
        if isinstance(page, BaseException):
            raise page
        target.write(page)
        total += len(page.ids)
    return total


def fill(target: Script, pages: Iterable[Page]) -> None:
    """Write made-up records to an empty collection and wait until they can be searched."""
    for page in pages:
        target.write(page)
    target.finish()
