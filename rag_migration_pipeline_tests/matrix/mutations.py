"""One value corrupted behind everybody's back, in each store, with the vendor's client alone.

Belongs here: finding a record through the back door, changing one thing of it, putting it back. Does not belong here:
who must notice (``test_mutations.py``).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from rag_migration_pipeline.records import DenseColumn, RecordBatch, RecordId
from rag_migration_pipeline_tests.matrix import awkward
from rag_migration_pipeline_tests.matrix.places import Place

Change = Callable[[RecordBatch], RecordBatch]


def one_component(record: RecordBatch) -> RecordBatch:
    """Move the largest component of the vector by a ten-thousandth of the vector's length."""
    values = record.dense().values.copy()
    place = int(np.abs(values[0]).argmin())
    values[0, place] += np.float32(1e-4 * np.linalg.norm(values[0]))
    return record.with_columns(vectors={"": DenseColumn(values)})


def one_value(record: RecordBatch) -> RecordBatch:
    """Change the last digit of one number in the payload."""
    payload = dict(record.payloads[0])
    payload["number"] += 1
    return record.with_columns(payloads=[payload])


def one_type(record: RecordBatch) -> RecordBatch:
    """Make an integer the same number as text."""
    payload = dict(record.payloads[0])
    payload["number"] = str(payload["number"])
    return record.with_columns(payloads=[payload])


def one_character(record: RecordBatch) -> RecordBatch:
    """Change the last character of the document."""
    if record.documents is not None:
        return record.with_columns(documents=[f"{(record.documents[0] or '')[:-1]}?"])
    payload = dict(record.payloads[0])
    payload["document"] = payload["document"][:-1] + "?"
    return record.with_columns(payloads=[payload])


def in_place(place: Place, collection: str, record_id: RecordId, change: Change) -> None:
    """Replace one record by a changed one under the same id."""
    _rewrite(place, collection, change(_taken(place, collection, [record_id])), [record_id])


def other_id(place: Place, collection: str, record_id: RecordId, new_id: RecordId) -> None:
    """Give one record another id."""
    record = _taken(place, collection, [record_id])
    _rewrite(place, collection, record.with_columns(ids=[new_id]), [record_id])


def swapped(place: Place, collection: str, first: RecordId, second: RecordId) -> None:
    """Exchange the ids of two records: all ids, payloads and vectors are still there."""
    pair = _taken(place, collection, [first, second])
    _rewrite(place, collection, pair.with_columns(ids=[second, first]), [first, second])


def _taken(place: Place, collection: str, ids: list[RecordId]) -> RecordBatch:
    raw = place.door.raw_read(collection)
    return raw.take([list(raw.ids).index(record_id) for record_id in ids])


def _rewrite(place: Place, collection: str, records: RecordBatch, gone: list[RecordId]) -> None:
    raw_delete(place, collection, gone)
    place.door.raw_write(collection, records)


def raw_delete(place: Place, collection: str, ids: list[RecordId]) -> None:
    """Delete records with the vendor's client."""
    door: Any = place.door
    kind = type(door).__name__
    if kind == "ChromaDoor":
        door._collection(collection).delete(ids=ids)
    elif kind == "MilvusDoor":
        door.client.delete(collection, ids=ids)
    elif kind == "QdrantDoor":
        door._client.delete(collection, points_selector=[i if isinstance(i, int) else str(i) for i in ids], wait=True)
    else:
        import qdrant_edge

        door._folder.shard(collection).update(qdrant_edge.UpdateOperation.delete_points(ids))


def ordinary_records(count: int) -> RecordBatch:
    """Return plain records that every store holds as they are, Chroma's way."""
    return RecordBatch(
        [f"r{number:03d}" for number in range(count)],
        {"": DenseColumn(np.random.default_rng(5).normal(size=(count, awkward.DIMENSION)).astype(np.float32) * 3)},
        [{"number": number, "name": f"n{number}"} for number in range(count)],
        [f"text {number}" for number in range(count)],
    )
