"""Back door of the memory store: it reaches into the space's dictionaries and builds columns in its own way."""

import copy

import numpy as np

from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    MultiColumn,
    RecordBatch,
    SparseColumn,
    VectorColumn,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.stores import memory
from rag_migration_pipeline_tests.contract.vector_samples import NUMBERS


class MemoryDoor:
    """Reads and writes a space without the store's methods."""

    def __init__(self, settings: memory.MemorySettings) -> None:
        self._collections = memory._spaces[settings.name].collections

    def raw_create(self, spec: CollectionSpec) -> None:
        """Put an empty collection into the space."""
        self._collections[spec.name] = memory._Collection(spec)

    def raw_collections(self) -> list[str]:
        """Return the space's keys."""
        return list(self._collections)

    def raw_write(self, collection: str, batch: RecordBatch) -> None:
        """Put one record after the other."""
        for row, record_id in enumerate(batch.ids):
            vectors = {}
            for name, column in batch.vectors.items():
                vector = _one(column, row)
                if vector is not None:
                    vectors[name] = vector
            document = batch.documents[row] if batch.documents is not None else None
            self._collections[collection].records[record_id] = memory._Record(
                vectors, copy.deepcopy(batch.payloads[row]), document
            )

    def raw_read(self, collection: str) -> RecordBatch:
        """Return the records as they lie there."""
        held = self._collections[collection]
        records = list(held.records.values())
        return RecordBatch(
            list(held.records),
            {vector.name: _all(vector, records) for vector in held.spec.vectors},
            [record.payload for record in records],
            [record.document for record in records],
        )

    def close(self) -> None:
        """Nothing was opened."""


def _one(column: VectorColumn, row: int) -> object:
    if isinstance(column, SparseColumn):
        if column.indices[row] is None:
            return None
        return memory._Sparse(np.array(column.indices[row]), np.array(column.values[row]))
    if isinstance(column, DenseColumn) and column.present is not None and not column.present[row]:
        return None
    return None if column.values[row] is None else np.array(column.values[row])


def _all(vector: VectorSpec, records: list[memory._Record]) -> VectorColumn:
    found = [record.vectors.get(vector.name) for record in records]
    if vector.kind is VectorKind.SPARSE:
        return SparseColumn(
            tuple(item.indices if item else None for item in found),
            tuple(item.values if item else None for item in found),
        )
    if vector.kind is VectorKind.MULTI:
        return MultiColumn(tuple(found))
    width = (vector.dimension or 0) // (8 if vector.dtype == "binary" else 1)
    empty = np.zeros(width, dtype=NUMBERS.get(vector.dtype, np.float32))
    return DenseColumn(
        np.stack([empty if item is None else item for item in found]) if found else np.zeros((0, empty.size)),
        np.array([item is not None for item in found], dtype=bool),
    )
