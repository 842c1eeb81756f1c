"""Reading and writing embedded stores with the vendors' clients alone, to fill sources and to judge targets.

Belongs here: records as plain values, and their comparison. Does not belong here: anything imported from the pipeline:
a judgement that shares code with what it judges shares its bugs.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COLLECTION = "texts"
DIMENSION = 8
# Where the pipeline keeps what a store cannot hold natively (docs/fidelity.md); no payload here needs it.
RESERVED_KEY = "_rmp_envelope"
DOCUMENT_KEY = "document"
_NAMESPACE = uuid.UUID("11111111-2222-4333-8444-555555555555")


@dataclass(frozen=True)
class Plain:
    """A record as its vendor's client gives it."""

    vector: tuple[float, ...]
    document: str | None
    payload: Mapping[str, Any]


Plains = dict[str, Plain]


def make_records(count: int) -> Plains:
    """Return records by id; ids are UUID texts, which every store can hold in its own way."""
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((count, DIMENSION)).astype(np.float32)
    return {
        str(uuid.uuid5(_NAMESPACE, str(n))): Plain(
            tuple(float(x) for x in vectors[n]),
            f"Text {n}: naïve 漢字\n",
            {"number": n, "title": f"Titel {n}", "share": n / 8, "is_even": n % 2 == 0},
        )
        for n in range(count)
    }


def differences(expected: Plains, found: Plains) -> list[str]:
    """Return in words where two stores differ; nothing compared is a difference, too."""
    problems = [] if expected else ["nothing to compare"]
    problems += [f"missing: {i}" for i in sorted(expected.keys() - found.keys())]
    problems += [f"extra: {i}" for i in sorted(found.keys() - expected.keys())]
    for i in sorted(expected.keys() & found.keys()):
        one, other = expected[i], found[i]
        if one.document != other.document:
            problems.append(f"{i}: document {one.document!r} became {other.document!r}")
        if json.dumps(one.payload, sort_keys=True) != json.dumps(other.payload, sort_keys=True):
            problems.append(f"{i}: payload {one.payload} became {other.payload}")
        if not _is_same_direction(one.vector, other.vector):
            problems.append(f"{i}: vector {one.vector} became {other.vector}")
    return problems


def _is_same_direction(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Compare directions: an engine may keep cosine vectors at length one."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if a.shape != b.shape:
        return False
    return bool(np.abs(a / np.linalg.norm(a) - b / np.linalg.norm(b)).max() <= 2e-6)


def _record(vector: Any, document: str | None, payload: Mapping[str, Any] | None) -> Plain:
    kept = {key: value for key, value in (payload or {}).items() if key != RESERVED_KEY}
    return Plain(tuple(float(x) for x in vector), document, kept)


# -- Chroma -------------------------------------------------------------------------------------------------------


def _open_chroma(folder: Path) -> Any:
    import chromadb
    from chromadb.config import Settings

    return chromadb.PersistentClient(str(folder), Settings(_env_file=None, anonymized_telemetry=False))


def fill_chroma(
    folder: Path, records: Plains, collection: str = COLLECTION, settings: Mapping[str, Any] | None = None
) -> None:
    """Make a Chroma folder with these records; settings are those of the index."""
    with closing(_open_chroma(folder)) as client:
        configuration = {"hnsw": {"space": "cosine", **(settings or {})}}
        made = client.create_collection(collection, configuration=configuration, embedding_function=None)
        items = list(records.items())
        for start in range(0, len(items), 1_000):
            part = items[start : start + 1_000]
            made.add(
                ids=[i for i, _ in part],
                embeddings=[list(r.vector) for _, r in part],
                documents=[r.document or "" for _, r in part],
                metadatas=[dict(r.payload) for _, r in part],
            )


def read_chroma(folder: Path, collection: str = COLLECTION) -> Plains:
    """Return all records of a Chroma folder."""
    with closing(_open_chroma(folder)) as client:
        held = client.get_collection(collection, embedding_function=None)
        answer = held.get(include=["embeddings", "documents", "metadatas"])
        assert len(set(answer["ids"])) == len(answer["ids"]) == held.count()
        columns = zip(answer["embeddings"], answer["documents"], answer["metadatas"], strict=True)
        return {i: _record(*values) for i, values in zip(answer["ids"], columns, strict=True)}


def read_chroma_settings(folder: Path, collection: str = COLLECTION) -> Mapping[str, Any]:
    """Return the index settings of a Chroma collection."""
    with closing(_open_chroma(folder)) as client:
        return dict(client.get_collection(collection, embedding_function=None).configuration_json["hnsw"])


# -- Qdrant edge --------------------------------------------------------------------------------------------------


def fill_edge(folder: Path, records: Plains, collection: str = COLLECTION) -> None:
    """Make a Qdrant edge shard with these records."""
    import qdrant_edge as edge

    (folder / collection).mkdir(parents=True)
    params = edge.EdgeVectorParams(size=DIMENSION, distance=edge.Distance.Cosine)
    shard = edge.EdgeShard.create(str(folder / collection), edge.EdgeConfig(vectors=params))
    points = [
        edge.Point(uuid.UUID(i), list(r.vector), {**r.payload, DOCUMENT_KEY: r.document}) for i, r in records.items()
    ]
    shard.update(edge.UpdateOperation.upsert_points(points))
    shard.flush()
    shard.close()


def read_edge(folder: Path, collection: str = COLLECTION) -> Plains:
    """Return all records of a Qdrant edge shard."""
    import qdrant_edge as edge

    shard = edge.EdgeShard.load(str(folder / collection))
    try:
        found: Plains = {}
        offset = None
        while True:
            request = edge.ScrollRequest(offset=offset, limit=1_000, with_payload=True, with_vector=True)
            page, offset = shard.scroll(request)
            for point in page:
                payload = dict(point.payload or {})
                document = payload.pop(DOCUMENT_KEY, None)
                assert str(point.id) not in found
                found[str(point.id)] = _record(point.vector, document, payload)
            if offset is None:
                break
        assert shard.count(edge.CountRequest(exact=True)) == len(found)
        return found
    finally:
        shard.close()


# -- Milvus Lite --------------------------------------------------------------------------------------------------


def read_milvus(folder: Path, collection: str = COLLECTION) -> Plains:
    """Return all records of a Milvus Lite file."""
    from pymilvus import MilvusClient

    with closing(MilvusClient(str(folder / "lite.db"))) as client:
        client.load_collection(collection)  # Milvus Lite gives back a collection released when its process was killed
        fields = client.describe_collection(collection)["fields"]
        (key,) = [field["name"] for field in fields if field.get("is_primary")]
        (vector,) = [field["name"] for field in fields if "dim" in field.get("params", {})]
        found: Plains = {}
        rows = client.query(collection, filter="", output_fields=["*"], limit=16_000, consistency_level="Strong")
        counted = client.query(collection, filter="", output_fields=["count(*)"], consistency_level="Strong")
        for row in rows:
            payload = {name: value for name, value in row.items() if name not in (key, vector, DOCUMENT_KEY)}
            assert row[key] not in found
            found[row[key]] = _record(row[vector], row.get(DOCUMENT_KEY), payload)
        assert counted[0]["count(*)"] == len(rows) == len(found)
        return found


FILL: dict[str, Callable[[Path, Plains], None]] = {"chroma": fill_chroma, "edge": fill_edge}
READ: dict[str, Callable[[Path], Plains]] = {"chroma": read_chroma, "edge": read_edge, "milvus": read_milvus}
