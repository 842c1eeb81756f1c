"""Vector columns of every kind: element types, building columns, looking at all vectors of a column at once.

Belongs here: arithmetic that stores and steps share. Does not belong here: what a column is (``records.py``), whether
two columns are the same (``steps/compare.py``), what one store does to vectors (its adapter).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_migration_pipeline.records import (
    DenseColumn,
    MultiColumn,
    SparseColumn,
    VectorColumn,
    VectorKind,
    VectorSpec,
)

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]

FLOAT32 = "float32"
BINARY = "binary"

ELEMENT_TYPES: Mapping[str, type] = {
    FLOAT32: np.float32,
    "float16": np.float16,
    "bfloat16": np.float32,
    "int8": np.int8,
    "uint8": np.uint8,
    BINARY: np.uint8,
}
"""Declared element type -> NumPy's type that carries it on the way. NumPy has no bfloat16, whose values float32 holds
exactly. Binary vectors travel packed: eight dimensions to a byte, the first in the highest bit (``np.packbits``)."""

WIDENED = frozenset(ELEMENT_TYPES) - {FLOAT32, BINARY}
"""Element types whose every value float32 holds exactly."""

FLOAT16_ROUNDING = 6e-4
"""Largest relative change of a vector that is rounded to float16: half a unit in the last place is 2**-11 of a
component (4.9e-4), and a little for components below 6e-5, which have fewer digits."""


def element_type(dtype: str) -> "np.dtype[Any]":
    """Return NumPy's type that carries a declared element type; float32 for one that is not known."""
    return np.dtype(ELEMENT_TYPES.get(dtype, np.float32))


def row_width(vector: VectorSpec) -> int:
    """Return how many elements one dense vector takes in an array: its dimension, or its bytes where it is binary."""
    dimension = vector.dimension or 0
    return -(-dimension // 8) if vector.dtype == BINARY else dimension


def column_of(vector: VectorSpec, rows: Sequence[Any]) -> VectorColumn:
    """Return a column of one entry per record.

    Args:
        vector: What the rows are.
        rows: None where a record has no such vector, else: dense, a sequence of ``row_width`` numbers; sparse, a pair
            of indices and values; multi, a sequence of dense rows.
    """
    if vector.kind is VectorKind.SPARSE:
        return SparseColumn(
            tuple(None if row is None else np.asarray(row[0], np.uint32) for row in rows),
            tuple(None if row is None else np.asarray(row[1], np.float32) for row in rows),
        )
    held, width = element_type(vector.dtype), row_width(vector)
    if vector.kind is VectorKind.MULTI:
        return MultiColumn(tuple(None if row is None else np.asarray(row, held).reshape(-1, width) for row in rows))
    if all(row is not None for row in rows):
        return DenseColumn(np.array(rows, dtype=held).reshape(len(rows), width))
    values = np.zeros((len(rows), width), dtype=held)
    present = np.fromiter((row is not None for row in rows), dtype=np.bool_, count=len(rows))
    for position in np.flatnonzero(present).tolist():
        values[position] = rows[position]
    return DenseColumn(values, present)


def presence(column: VectorColumn) -> BoolArray:
    """Return a mask of shape (n_records,): which records have the vector."""
    if isinstance(column, DenseColumn):
        return np.ones(len(column.values), dtype=np.bool_) if column.present is None else column.present
    return np.fromiter((item is not None for item in column.values), dtype=np.bool_, count=len(column.values))


def all_vectors(column: DenseColumn | MultiColumn) -> tuple[Array, npt.NDArray[np.intp]]:
    """Return every dense vector of a column, and the record that each belongs to.

    Returns:
        Array of shape (n_vectors, width), the present ones only for multi-vectors; array of shape (n_vectors,).
    """
    if isinstance(column, DenseColumn):
        return column.values, np.arange(len(column.values))
    found = [item for item in column.values if item is not None]
    counts = [0 if item is None else len(item) for item in column.values]
    values = np.concatenate(found) if found else np.zeros((0, 0), dtype=np.float32)
    return values, np.repeat(np.arange(len(counts)), counts)


def all_entries(column: SparseColumn) -> tuple[Array, Array, npt.NDArray[np.intp]]:
    """Return every entry of a sparse column: indices, values, and the record that each belongs to, each (n_entries,).

    Indices and values of a record that differ in number are left out: they are no vector (see ``stores/screening``).
    """
    pairs = [
        (row, indices, values)
        for row, (indices, values) in enumerate(zip(column.indices, column.values, strict=True))
        if indices is not None and values is not None and len(indices) == len(values)
    ]
    if not pairs:
        return np.zeros(0, np.uint32), np.zeros(0, np.float32), np.zeros(0, np.intp)
    owners = np.repeat([row for row, _, _ in pairs], [len(indices) for _, indices, _ in pairs])
    return np.concatenate([i for _, i, _ in pairs]), np.concatenate([v for _, _, v in pairs]), owners.astype(np.intp)


def spans(column: MultiColumn) -> list[slice]:
    """Return per record where its vectors stand among `all_vectors`; an empty slice where there are none."""
    ends = np.cumsum([0 if item is None else len(item) for item in column.values], dtype=np.intp).tolist()
    return [slice(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]


def with_vectors(column: DenseColumn | MultiColumn, values: Array) -> DenseColumn | MultiColumn:
    """Return a column like this one with other numbers.

    Args:
        column: Where each vector belongs.
        values: Array of shape (n_vectors, width), in the order of `all_vectors`.
    """
    if isinstance(column, DenseColumn):
        return DenseColumn(values, column.present)
    pairs = zip(column.values, spans(column), strict=True)
    return MultiColumn(tuple(None if item is None else values[part] for item, part in pairs))


def in_order(indices: Array, values: Array) -> tuple[Array, Array]:
    """Return a sparse vector's entries in ascending order of their indices, in which they mean the same."""
    if len(indices) < 2 or bool((indices[1:] > indices[:-1]).all()):
        return indices, values
    order = np.argsort(indices, kind="stable")
    return indices[order], values[order]


def converted(column: VectorColumn, dtype: str) -> VectorColumn:
    """Return the column in another element type: the same object where it has that type already.

    Floats are rounded to the nearest float16 or bfloat16. Where a number has no place in the type (70,000 in float16,
    0.5 in uint8) the column keeps its wider type, so that a store may set aside the records concerned by name.
    """
    if isinstance(column, SparseColumn):
        return column
    values, _ = all_vectors(column)
    if values.dtype == element_type(dtype) and dtype != "bfloat16":
        return column
    held = rounded(values, dtype)
    is_lost = changed_elements(values, held) if held.dtype.kind in "iu" else np.isinf(held) & np.isfinite(values)
    if is_lost.any():
        held = np.where(is_lost, values, held.astype(values.dtype))
    return with_vectors(column, held)


def rounded(values: Array, dtype: str) -> Array:
    """Return the nearest values that an element type has, in NumPy's type that carries it."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == "bfloat16":
            bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
            nearest = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
            return np.where(np.isnan(values), np.float32(np.nan), nearest.view(np.float32))
        return values.astype(element_type(dtype))


def changed_elements(before: Array, after: Array) -> Array:
    """Return a mask of the arrays' shape: which elements are another number; NaN is NaN."""
    wide, other = before.astype(np.float64), after.astype(np.float64)
    changed: Array = ~((wide == other) | (np.isnan(wide) & np.isnan(other)))
    return changed


def misfits(values: Array, dtype: str) -> BoolArray:
    """Return a mask of shape (n_vectors,): which vectors an element type would change."""
    if values.dtype == element_type(dtype) and dtype != "bfloat16":
        return np.zeros(len(values), dtype=np.bool_)
    return np.asarray(changed_elements(values, rounded(values, dtype)).any(axis=1), dtype=np.bool_)
