"""Whether two columns hold the same vectors, record by record.

Belongs here: comparing vectors of every kind. Does not belong here: comparing records (``steps/validate.py``), digests
for a proof without the vectors (``digests.py``).
"""

import numpy as np

from rag_migration_pipeline.digests import unit_rows
from rag_migration_pipeline.records import DenseColumn, MultiColumn, SparseColumn, VectorColumn
from rag_migration_pipeline.vectors import Array, BoolArray, all_vectors, changed_elements, in_order, presence


def changed_rows(
    a: VectorColumn | None, b: VectorColumn | None, count: int, *, is_normalised: bool, tolerance: float
) -> BoolArray:
    """Return which vectors differ by more than the tolerance, or in presence.

    Args:
        a: What should be there; None where there is no such column.
        b: What is there, in the same order.
        count: How many records there are.
        is_normalised: Whether only the direction counts; each vector of a multi-vector has one of its own.
        tolerance: Largest relative difference of a vector; 0.0 means equal, NaN being equal to NaN.

    Returns:
        Mask of shape (n_records,).
    """
    if type(a) is not type(b) or a is None or b is None:
        return np.ones(count, dtype=np.bool_)
    if isinstance(a, DenseColumn) and isinstance(b, DenseColumn):
        if a.values.shape != b.values.shape:
            return np.ones(count, dtype=np.bool_)
        changed = _changed_vectors(a.values, b.values, is_normalised=is_normalised, tolerance=tolerance)
        if a.present is None and b.present is None:
            return changed
    elif isinstance(a, MultiColumn) and isinstance(b, MultiColumn):
        changed = _changed_multi(a, b, is_normalised=is_normalised, tolerance=tolerance)
    elif isinstance(a, SparseColumn) and isinstance(b, SparseColumn):
        changed = _changed_sparse(a, b)
    different: BoolArray = changed | (presence(a) != presence(b))
    return different


def _changed_vectors(a: Array, b: Array, *, is_normalised: bool, tolerance: float) -> BoolArray:
    """Compare two arrays of shape (n_vectors, dimension), row by row."""
    if not is_normalised and tolerance == 0.0:
        same: BoolArray = (a == b).all(axis=1)
        if same.all():
            return ~same
        return np.asarray(changed_elements(a, b).any(axis=1), dtype=np.bool_)
    before, after = (unit_rows(a), unit_rows(b)) if is_normalised else (a.astype(np.float64), b.astype(np.float64))
    allowed = tolerance * np.linalg.norm(before, axis=1)
    # Written so that NaN on either side counts as a difference: no store that rounds keeps it.
    different: BoolArray = ~(np.linalg.norm(after - before, axis=1) <= allowed)
    return different


def _changed_multi(a: MultiColumn, b: MultiColumn, *, is_normalised: bool, tolerance: float) -> BoolArray:
    both = presence(a) & presence(b)
    pairs = zip(a.values, b.values, strict=True)
    shapes = [x is not None and y is not None and x.shape == y.shape for x, y in pairs]
    has_same_shape = np.array(shapes, dtype=np.bool_)
    rows = np.flatnonzero(has_same_shape)
    left, owners = all_vectors(a.take(rows))
    right, _ = all_vectors(b.take(rows))
    changed: BoolArray = both & ~has_same_shape
    changed[rows[owners[_changed_vectors(left, right, is_normalised=is_normalised, tolerance=tolerance)]]] = True
    return changed


def _changed_sparse(a: SparseColumn, b: SparseColumn) -> BoolArray:
    """Compare entries as sets; every store keeps sparse values bit for bit."""
    changed = np.zeros(len(a.values), dtype=np.bool_)
    for row, (i, x, j, y) in enumerate(zip(a.indices, a.values, b.indices, b.values, strict=True)):
        if i is not None and x is not None and j is not None and y is not None:
            (indices, values), (others, other_values) = in_order(i, x), in_order(j, y)
            is_same = np.array_equal(indices, others) and np.array_equal(values, other_values, equal_nan=True)
            changed[row] = not is_same
    return changed
