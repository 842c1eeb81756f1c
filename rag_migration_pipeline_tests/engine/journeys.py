"""Collections on servers, filled and read with the vendors' clients alone: where the engine's workers travel.

Belongs here: filling sources, reading targets, the settings of both. Does not belong here: what is run on them, and
anything of the adapters but their settings.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from rag_migration_pipeline.stores.base import StoreSettings
from rag_migration_pipeline.stores.chroma_settings import ChromaSettings
from rag_migration_pipeline.stores.milvus_settings import MilvusSettings
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline_tests.kill.vendor import DIMENSION, DOCUMENT_KEY, RESERVED_KEY, Plain, Plains
from rag_migration_pipeline_tests.servers.chroma import ChromaServer
from rag_migration_pipeline_tests.servers.milvus import MilvusLiteServer
from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

PAGE_COUNT = 1_000
TIMEOUT_S = 30.0


def fresh_name(prefix: str = "run") -> str:
    """Return a collection name that nobody else uses."""
    return f"{prefix}_{uuid.uuid4().hex[:8]}"


def _pages(records: Plains) -> Iterator[list[tuple[str, Plain]]]:
    items = list(records.items())
    for start in range(0, len(items), PAGE_COUNT):
        yield items[start : start + PAGE_COUNT]


def _plain(vector: Any, document: str | None, payload: Any) -> Plain:
    kept = {key: value for key, value in (payload or {}).items() if key != RESERVED_KEY}
    return Plain(tuple(float(x) for x in vector), document, kept)


# -- Chroma -------------------------------------------------------------------------------------------------------


@contextmanager
def _chroma(server: ChromaServer) -> Iterator[Any]:
    import chromadb
    from chromadb.config import Settings

    settings = Settings(_env_file=None, anonymized_telemetry=False)
    client = chromadb.HttpClient(host=server.host, port=server.direct_port, settings=settings)
    try:
        yield client
    finally:
        # The client leaves its connections open, and those of a second client that it makes (1.5.9).
        client._server._session.close()
        client._admin_client._server._session.close()
        client.close()


def fill_chroma(server: ChromaServer, collection: str, records: Plains) -> None:
    """Make a collection with these records."""
    with _chroma(server) as client:
        made = client.create_collection(
            collection, configuration={"hnsw": {"space": "cosine", "ef_construction": 10}}, embedding_function=None
        )
        for page in _pages(records):
            made.add(
                ids=[i for i, _ in page],
                embeddings=[list(r.vector) for _, r in page],
                documents=[r.document or "" for _, r in page],
                metadatas=[dict(r.payload) for _, r in page],
            )


def read_chroma(server: ChromaServer, collection: str) -> Plains:
    """Return all records."""
    found: Plains = {}
    with _chroma(server) as client:
        held = client.get_collection(collection, embedding_function=None)
        count = held.count()
        for offset in range(0, count, PAGE_COUNT):
            answer = held.get(include=["embeddings", "documents", "metadatas"], limit=PAGE_COUNT, offset=offset)
            columns = zip(answer["embeddings"], answer["documents"], answer["metadatas"], strict=True)
            found |= {i: _plain(*values) for i, values in zip(answer["ids"], columns, strict=True)}
        assert len(found) == count
    return found


def count_chroma(server: ChromaServer, collection: str) -> int:
    """Return the number of records; 0 where there is no collection."""
    with _chroma(server) as client:
        names = [item.name for item in client.list_collections()]
        return int(client.get_collection(collection, embedding_function=None).count()) if collection in names else 0


# -- Qdrant -------------------------------------------------------------------------------------------------------


def fill_qdrant(double: QdrantDouble, collection: str, records: Plains) -> None:
    """Make a collection with these records."""
    from qdrant_client import models

    params = models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE)
    with closing(double.connect(prefer_grpc=True, timeout=TIMEOUT_S)) as client:
        client.create_collection(collection, vectors_config=params)
        for page in _pages(records):
            points = [
                models.PointStruct(id=i, vector=list(r.vector), payload={**r.payload, DOCUMENT_KEY: r.document})
                for i, r in page
            ]
            client.upsert(collection, points, wait=True)


def read_qdrant(double: QdrantDouble, collection: str) -> Plains:
    """Return all records."""
    found: Plains = {}
    with closing(double.connect(prefer_grpc=True, timeout=TIMEOUT_S)) as client:
        offset = None
        while True:
            page, offset = client.scroll(
                collection, limit=PAGE_COUNT, offset=offset, with_payload=True, with_vectors=True
            )
            for point in page:
                payload = dict(point.payload or {})
                document = payload.pop(DOCUMENT_KEY, None)
                assert str(point.id) not in found
                found[str(point.id)] = _plain(point.vector, document, payload)
            if offset is None:
                break
        assert client.count(collection, exact=True).count == len(found)
    return found


def count_qdrant(double: QdrantDouble, collection: str) -> int:
    """Return the number of records; 0 where there is no collection."""
    with closing(double.connect(prefer_grpc=True, timeout=TIMEOUT_S)) as client:
        return int(client.count(collection, exact=True).count) if client.collection_exists(collection) else 0


# -- Milvus Lite --------------------------------------------------------------------------------------------------


@contextmanager
def _milvus(server: MilvusLiteServer) -> Iterator[Any]:
    from pymilvus import MilvusClient

    with closing(MilvusClient(server.uri, dedicated=True)) as client:
        yield client


def read_milvus(server: MilvusLiteServer, collection: str) -> Plains:
    """Return all records; one query answers up to 16,384."""
    found: Plains = {}
    with _milvus(server) as client:
        fields = client.describe_collection(collection)["fields"]
        (key,) = [field["name"] for field in fields if field.get("is_primary")]
        (vector,) = [field["name"] for field in fields if "dim" in field.get("params", {})]
        rows = client.query(collection, filter="", output_fields=["*"], limit=16_000, consistency_level="Strong")
        for row in rows:
            payload = {name: value for name, value in row.items() if name not in (key, vector, DOCUMENT_KEY)}
            assert row[key] not in found
            found[row[key]] = _plain(row[vector], row.get(DOCUMENT_KEY), payload)
    assert len(found) == count_milvus(server, collection)
    return found


def count_milvus(server: MilvusLiteServer, collection: str) -> int:
    """Return the number of records; 0 where there is no collection."""
    with _milvus(server) as client:
        if not client.has_collection(collection):
            return 0
        counted = client.query(collection, filter="", output_fields=["count(*)"], consistency_level="Strong")
        return int(counted[0]["count(*)"])


# -- all ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Station:
    """A server of a kind: how the pipeline reaches it, and the back doors."""

    settings: StoreSettings
    fill: Callable[[str, Plains], None]
    read: Callable[[str], Plains]
    count: Callable[[str], int]


def chroma_station(server: ChromaServer, **options: Any) -> Station:
    """Return a Chroma server; ``options`` change its settings."""
    settings = ChromaSettings(**{"host": server.host, "port": server.port, "timeout_s": TIMEOUT_S, **options})
    return Station(
        settings,
        lambda name, records: fill_chroma(server, name, records),
        lambda name: read_chroma(server, name),
        lambda name: count_chroma(server, name),
    )


def qdrant_station(double: QdrantDouble, **options: Any) -> Station:
    """Return the Qdrant double, by gRPC; ``options`` change its settings."""
    reached: dict[str, Any] = {"host": double.host, "port": double.http_port, "grpc_port": double.grpc_port}
    if double.api_key is not None:
        reached["api_key"] = SecretStr(double.api_key)
    settings = QdrantSettings(**{**reached, "timeout_s": TIMEOUT_S, **options})
    return Station(
        settings,
        lambda name, records: fill_qdrant(double, name, records),
        lambda name: read_qdrant(double, name),
        lambda name: count_qdrant(double, name),
    )


def milvus_station(server: MilvusLiteServer) -> Station:
    """Return a Milvus Lite server, which is only read here."""

    def fill(name: str, records: Plains) -> None:
        raise NotImplementedError("Milvus is a target here")

    settings = MilvusSettings(host=server.host, port=server.port, timeout_s=TIMEOUT_S)
    return Station(settings, fill, lambda name: read_milvus(server, name), lambda name: count_milvus(server, name))
