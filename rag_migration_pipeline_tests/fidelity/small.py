"""Small collections for the ways to lose data, and the stores that they are tried with.

Belongs here: what several test files of the ways need. Does not belong here: generated collections (``strategies.py``).
"""

from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline_tests.matrix.places import Place, fresh_name

DIMENSION = 3
STORES = ("memory", "chroma", "qdrant", "milvus")
every_store = pytest.mark.parametrize("store", STORES)
every_target = pytest.mark.parametrize("target", STORES[1:])


def batch_of(ids: list[Any], payloads: list[dict[str, Any]] | None = None, documents: Any = None) -> RecordBatch:
    """Return records with these ids; without payloads each has its row as ``n``."""
    values = np.random.default_rng(len(ids)).normal(size=(len(ids), DIMENSION)).astype(np.float32)
    return RecordBatch(ids, {"": DenseColumn(values)}, payloads or [{"n": row} for row in range(len(ids))], documents)


def filled(place: Place, batch: RecordBatch, metric: Metric = Metric.COSINE) -> str:
    """Make a collection through the back door, with one id kind where the store wants one."""
    kinds = frozenset(IdKind)
    if place.store.capabilities.store != "memory":
        kinds = frozenset({IdKind.UINT64, IdKind.UUID} if isinstance(batch.ids[0], int) else {IdKind.STRING})
    if place.store.capabilities.store == "milvus" and isinstance(batch.ids[0], int):
        kinds = frozenset({IdKind.INT64})
    name = fresh_name()
    place.door.raw_create(CollectionSpec(name, (VectorSpec(DIMENSION, metric),), kinds, max_id_length_bytes=400))
    place.door.raw_write(name, batch)
    return name
