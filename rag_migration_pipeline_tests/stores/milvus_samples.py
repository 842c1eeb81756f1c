"""Small collections and records for the tests of Milvus' quirks, and the vendor's client beside an open store.

Belongs here: what several test files of Milvus need. Does not belong here: the samples of the contract suite.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    Payload,
    RecordBatch,
    RecordId,
    VectorSpec,
)
from rag_migration_pipeline.stores.milvus import MilvusStore

DIMENSION = 4


def spec_of(kind: IdKind = IdKind.STRING, **changes: Any) -> CollectionSpec:
    """Return the spec of a collection with a new name."""
    given: dict[str, Any] = {
        "name": f"test_{uuid.uuid4().hex}",
        "vectors": (VectorSpec(DIMENSION, Metric.COSINE),),
        "id_kinds": frozenset({kind}),
        **changes,
    }
    return CollectionSpec(**given)


def batch_of(ids: list[RecordId], payloads: list[Payload] | None = None, seed: int = 0) -> RecordBatch:
    """Return records with these ids; without payloads each has its row as ``n``."""
    values = np.random.default_rng(seed).normal(size=(len(ids), DIMENSION)).astype(np.float32)
    return RecordBatch(ids, {DEFAULT_VECTOR: DenseColumn(values)}, payloads or [{"n": row} for row in range(len(ids))])


@contextmanager
def vendor(store: MilvusStore) -> Iterator[Any]:
    """Give the vendor's client on what answers the store."""
    from pymilvus import MilvusClient

    client = MilvusClient(uri=f"http://{store.endpoint}", dedicated=True)
    try:
        yield client
    finally:
        client.close()


def make_collection(client: Any, name: str, *fields: tuple[str, Any, dict[str, Any]], **options: Any) -> None:
    """Create a loaded collection as the vendor's documentation does, with an INT64 key ``id``.

    Args:
        client: The vendor's client.
        name: The collection.
        *fields: Name, vendor's type and further arguments of fields beside the key; vectors get an index.
        **options: ``auto_id``, ``dynamic`` and ``index`` (False makes none).
    """
    from pymilvus import DataType

    schema = client.create_schema(
        auto_id=options.get("auto_id", False), enable_dynamic_field=options.get("dynamic", True)
    )
    schema.add_field("id", DataType.INT64, is_primary=True)
    index = client.prepare_index_params()
    for field, kind, more in fields or (("vector", DataType.FLOAT_VECTOR, {"dim": DIMENSION}),):
        schema.add_field(field, kind, **more)
        if "VECTOR" in kind.name:
            is_sparse = kind is DataType.SPARSE_FLOAT_VECTOR
            index_type = "SPARSE_INVERTED_INDEX" if is_sparse else "AUTOINDEX"
            index.add_index(field, index_type=index_type, metric_type="IP" if is_sparse else "L2")
    client.create_collection(name, schema=schema, index_params=index if options.get("index", True) else None)
