"""Small collections and records for the tests of Chroma's quirks.

Belongs here: what several test files of Chroma need. Does not belong here: the samples of the contract suite.
"""

import uuid
from typing import Any

import chromadb
import numpy as np

from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    Payload,
    RecordBatch,
    VectorSpec,
)
from rag_migration_pipeline.stores.chroma import ChromaStore

DIMENSION = 4


def spec_of(metric: Metric = Metric.L2, **changes: Any) -> CollectionSpec:
    """Return the spec of a collection with a new name."""
    given: dict[str, Any] = {
        "name": f"test_{uuid.uuid4().hex}",
        "vectors": (VectorSpec(DIMENSION, metric),),
        "id_kinds": frozenset({IdKind.STRING}),
        **changes,
    }
    return CollectionSpec(**given)


def batch_of(payloads: list[Payload], documents: list[str | None] | None = None, seed: int = 0) -> RecordBatch:
    """Return records r0, r1, ... with these payloads."""
    values = np.random.default_rng(seed).normal(size=(len(payloads), DIMENSION)).astype(np.float32)
    ids = [f"r{number}" for number in range(len(payloads))]
    return RecordBatch(ids, {DEFAULT_VECTOR: DenseColumn(values)}, payloads, documents)


def vendor(store: ChromaStore, name: str) -> chromadb.Collection:
    """Return the vendor's object for a collection, on the store's open engine or connection."""
    model = store.api.get_collection(name=name)
    return chromadb.Collection(client=store.api, model=model, embedding_function=None)
