"""Vectors of every kind for the laws: whole collections of them, made without randomness that changes between runs.

Belongs here: columns and records by the spec of their vectors. Does not belong here: ordinary records with one dense
vector (``samples.py``), random ones (``strategies.py``).
"""

from typing import Any

import numpy as np

from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    Metric,
    MultiColumn,
    RecordBatch,
    SparseColumn,
    VectorColumn,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline_tests.contract import samples

LAYOUTS: tuple[tuple[VectorKind, str], ...] = (
    *((VectorKind.DENSE, dtype) for dtype in ("float32", "float16", "bfloat16", "int8", "uint8", "binary")),
    (VectorKind.SPARSE, "float32"),
    *((VectorKind.MULTI, dtype) for dtype in ("float32", "float16", "uint8")),
)
"""Kinds of vectors with the element types that some store has for them."""

NUMBERS = {"float16": np.float16, "int8": np.int8, "uint8": np.uint8, "binary": np.uint8}
"""Element type -> NumPy's, where it is not float32."""

DIMENSION = 16  # whole bytes of a binary vector
MAX_INDEX = 2**32 - 2  # Milvus has no 2**32 - 1


def vector_of(kind: VectorKind, dtype: str, metric: Metric, name: str = "") -> VectorSpec:
    """Return the spec of a vector."""
    return VectorSpec(None if kind is VectorKind.SPARSE else DIMENSION, metric, name, kind, dtype)


def some_vectors(capabilities: Capabilities, names: tuple[str, ...]) -> tuple[VectorSpec, ...]:
    """Return one vector of each kind that the store declares, two of them dense, or one where it holds no more."""
    dense = samples.vector_spec(capabilities)
    if not capabilities.has_named_vectors:
        return (dense,)
    metric = max(capabilities.metrics)
    found = [VectorSpec(DIMENSION, dense.metric, names[0]), VectorSpec(3, metric, names[1])]
    if VectorKind.SPARSE in capabilities.vector_kinds:
        found.append(vector_of(VectorKind.SPARSE, "float32", Metric.DOT, names[2]))
    if VectorKind.MULTI in capabilities.vector_kinds:
        found.append(vector_of(VectorKind.MULTI, "float32", dense.metric, names[3]))
    return tuple(found)


def records(
    spec: CollectionSpec, count: int, *, start: int = 0, seed: int = 0, is_partial: bool = False
) -> RecordBatch:
    """Return records with all vectors of a collection.

    Args:
        spec: The collection.
        count: How many.
        start: Number of the first record; other numbers are other ids.
        seed: Another seed gives other vectors.
        is_partial: Whether the records take turns in which of their vectors they miss, all of them included.
    """
    columns: dict[str, VectorColumn] = {}
    for place, vector in enumerate(spec.vectors):
        column = column_of(vector, count, seed=seed * 100 + place)
        if is_partial:
            column = without(column, [row for row in range(count) if row >> place & 1])
        columns[vector.name] = column
    return RecordBatch(
        samples.sample_ids(count, spec.id_kinds, start), columns, [{"n": start + row} for row in range(count)]
    )


def column_of(vector: VectorSpec, count: int, *, seed: int = 0) -> VectorColumn:
    """Return a column that a store which declares the vector must hold."""
    generator = np.random.default_rng(seed)
    if vector.kind is VectorKind.SPARSE:
        sizes = [int(size) for size in generator.integers(1, 6, size=count)]
        indices = [generator.choice(np.array([0, 1, 7, 900, 30_000, MAX_INDEX]), size, replace=False) for size in sizes]
        # Not negative: Milvus Lite takes no such weights, and declares it; the odd values have some.
        values = [(np.abs(generator.standard_normal(size)) + 0.01).astype(np.float32) for size in sizes]
        return SparseColumn(tuple(item.astype(np.uint32) for item in indices), tuple(values))
    if vector.kind is VectorKind.MULTI:
        return MultiColumn(tuple(_numbers(vector, row % 4 + 1, generator) for row in range(count)))
    return DenseColumn(_numbers(vector, count, generator))


def _numbers(vector: VectorSpec, count: int, generator: np.random.Generator) -> Any:
    width = vector.dimension or 0
    if vector.dtype == "binary":
        return generator.integers(0, 256, size=(count, width // 8)).astype(np.uint8)
    if vector.dtype in ("int8", "uint8"):
        least = -128 if vector.dtype == "int8" else 0
        return generator.integers(least, least + 256, size=(count, width)).astype(vector.dtype)
    values = (generator.standard_normal((count, width)) * 3).astype(np.float32)
    if vector.dtype == "bfloat16":
        return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return values.astype(np.float16) if vector.dtype == "float16" else values


def without(column: VectorColumn, rows: list[int]) -> VectorColumn:
    """Return the column without the vectors of some records."""
    if isinstance(column, DenseColumn):
        values = column.values.copy()
        values[rows] = 0
        present = np.ones(len(values), dtype=bool)
        present[rows] = False
        return DenseColumn(values, present)
    gone = set(rows)
    values_left = tuple(None if row in gone else item for row, item in enumerate(column.values))
    if isinstance(column, MultiColumn):
        return MultiColumn(values_left)
    return SparseColumn(tuple(None if row in gone else item for row, item in enumerate(column.indices)), values_left)


def with_row(column: VectorColumn, row: int, value: Any) -> VectorColumn:
    """Return the column with another vector in one record: an array, or a pair of arrays where it is sparse."""
    if isinstance(column, DenseColumn):
        values = column.values.astype(np.result_type(column.values, value))
        values[row] = value
        return DenseColumn(values, column.present)
    if isinstance(column, MultiColumn):
        return MultiColumn((*column.values[:row], value, *column.values[row + 1 :]))
    return SparseColumn(
        (*column.indices[:row], value[0], *column.indices[row + 1 :]),
        (*column.values[:row], value[1], *column.values[row + 1 :]),
    )
