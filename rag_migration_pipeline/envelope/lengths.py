"""Lengths of vectors of which a target keeps the direction only: noted on the way there, given back on the way home.

Belongs here: which lengths are worth a note, scaling by them. Does not belong here: the note (``notes.py``).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from rag_migration_pipeline.records import DenseColumn, MultiColumn, SparseColumn, VectorColumn
from rag_migration_pipeline.vectors import FLOAT16_ROUNDING, FLOAT32, all_vectors, spans, with_vectors

Length = float | list[float]
"""Length of a vector; of a multi-vector the lengths of all of them."""

UNIT_LENGTH_TOLERANCE = 5e-7
"""A length this near to 1 is 1. What Qdrant normalised is off by up to 1.3e-7 (qdrant-edge-py 0.9.0, 4 to 1,536
dimensions), and it leaves vectors within 5e-7 as they are (``is_length_zero_or_normalized``: 1e-6 of the square)."""


def lengths_of(
    vectors: Mapping[str, VectorColumn], normalised: frozenset[str], element_types: Mapping[str, str]
) -> dict[str, list[Length | None]]:
    """Return per vector the lengths worth keeping: None where it is 1, 0 or not finite.

    Of a multi-vector all lengths are kept where one of them is worth it.

    Args:
        vectors: Columns by name.
        normalised: Names of the vectors of which the target keeps the direction only.
        element_types: Vector name -> element type in which the target keeps it.
    """
    norms: dict[str, list[Length | None]] = {}
    for name in normalised:
        column = vectors.get(name)
        if column is None or isinstance(column, SparseColumn):
            continue
        values, _ = all_vectors(column)
        lengths = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64))
        # What has the length 1 in float16 has it within that rounding, and the target's direction is no better.
        is_rounded = element_types.get(name, FLOAT32) != FLOAT32
        tolerance = FLOAT16_ROUNDING if is_rounded else UNIT_LENGTH_TOLERANCE
        keep = np.isfinite(lengths) & (lengths > 0) & (np.abs(lengths - 1) > tolerance)
        if isinstance(column, DenseColumn):
            norms[name] = [float(length) if kept else None for length, kept in zip(lengths, keep, strict=True)]
        else:
            known = np.where(np.isfinite(lengths), lengths, 1.0)
            norms[name] = [known[part].tolist() if keep[part].any() else None for part in spans(column)]
    return norms


def with_lengths(
    vectors: Mapping[str, VectorColumn], scales: Mapping[str, Mapping[int, Length]]
) -> Mapping[str, VectorColumn]:
    """Give vectors the lengths they had; computed in float64, kept as float32.

    Args:
        vectors: Columns by name.
        scales: Vector name -> row -> length, as `lengths_of` gave it.
    """
    if not scales:
        return vectors
    scaled = dict(vectors)
    for name, rows in scales.items():
        column = vectors.get(name)
        if column is None or isinstance(column, SparseColumn):
            continue
        values, _ = all_vectors(column)
        factors = np.ones(len(values))
        index, wanted = _places(column, rows)
        lengths = np.linalg.norm(values[index].astype(np.float64), axis=1)
        factors[index] = np.divide(wanted, lengths, out=np.ones_like(wanted), where=lengths > 0)
        scaled[name] = with_vectors(column, (values * factors[:, None]).astype(np.float32))
    return scaled


def _places(
    column: DenseColumn | MultiColumn, rows: Mapping[int, Length]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return which of all vectors have a length to get, and that length; a note on another layout says nothing."""
    if isinstance(column, DenseColumn):
        pairs = [(row, length) for row, length in rows.items() if isinstance(length, float)]
    else:
        parts = spans(column)
        pairs = [
            (place, length)
            for row, lengths in rows.items()
            if isinstance(lengths, list) and len(lengths) == parts[row].stop - parts[row].start
            for place, length in zip(range(parts[row].start, parts[row].stop), lengths, strict=True)
        ]
    return np.array([place for place, _ in pairs], dtype=np.intp), np.array([length for _, length in pairs])
