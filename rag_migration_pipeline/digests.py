"""Digests and sketches of records: what a receipt keeps so that a proof needs neither staging nor source.

Belongs here: 128-bit digests of ids, payloads and vectors, and the sketch by which vectors are compared numerically.
Does not belong here: where they are kept (``receipts.py``), the comparison (``steps/validate.py``).
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.records import DenseColumn, Float32Array, Payload, RecordBatch, RecordId, id_text

DIGEST_BYTES = 16
SKETCH_DIMENSIONS = 8
SKETCH_WIDTH = SKETCH_DIMENSIONS + 1
"""Eight projections of the direction, then the length."""

SKETCH_TOLERANCE = 4e-6
"""Largest difference of two sketches of the same direction. A float32 unit vector is exact to about 1e-7 in sum; one
component that is off by 1e-5 (of length 1) moves at least one of the eight numbers by more than this."""

LENGTH_TOLERANCE = 1e-6
"""Largest relative difference of two lengths of the same vector."""


def digest_ids(ids: Iterable[RecordId]) -> str:
    """Return a digest of ids in order, as hex; each id is length-prefixed, so no two lists of ids share a text."""
    total = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for record_id in ids:
        text = id_text(record_id).encode("utf-8", "surrogatepass")
        total.update(len(text).to_bytes(4, "big") + text)
    return total.hexdigest()


def digest_contents(batch: RecordBatch) -> list[bytes]:
    """Return per record the digest of payload, document and partition, 16 bytes each.

    Types and missing against empty count; the default partition is the same as none.
    """
    none = [None] * len(batch)
    rows = zip(batch.payloads, batch.documents or none, batch.partitions or none, strict=True)
    return [_digest_content(*row) for row in rows]


def _digest_content(payload: Payload, document: str | None, partition: str | None) -> bytes:
    parts: list[Any] = [payload] if document is None else [payload, document]
    content = encode(parts if partition is None else [payload, document, partition])
    return hashlib.blake2b(content.encode(), digest_size=DIGEST_BYTES).digest()


def digest_vectors(column: DenseColumn) -> list[bytes]:
    """Return per record the digest of the float32 bytes of its vector, 16 bytes each; -0.0 counts as 0.0."""
    values = np.ascontiguousarray(column.values + np.float32(0), dtype="<f4")
    rows = [hashlib.blake2b(row.data, digest_size=DIGEST_BYTES).digest() for row in values]
    if column.present is not None:
        rows = [row if present else bytes(DIGEST_BYTES) for row, present in zip(rows, column.present, strict=True)]
    return rows


def sketch_vectors(column: DenseColumn) -> npt.NDArray[np.float64]:
    """Return the sketch of each vector: array of shape (n_records, 9), float64.

    A fixed projection of the vector at length 1, and its length; zero vectors give zeros. An absent vector gives NaN.
    """
    unit = unit_rows(column.values) @ _projection(column.values.shape[1])
    lengths = np.linalg.norm(column.values.astype(np.float64), axis=1, keepdims=True)
    sketches: npt.NDArray[np.float64] = np.hstack([unit, lengths])
    if column.present is not None:
        sketches[~column.present] = np.nan
    return sketches


def sketches_differ(
    expected: npt.NDArray[np.float64], found: npt.NDArray[np.float64], *, is_normalised: bool
) -> npt.NDArray[np.bool_]:
    """Return a mask of shape (n_records,): which sketches are of different vectors, or differ in presence.

    Args:
        expected: Array of shape (n_records, 9), from `sketch_vectors`.
        found: The same, of what is there now.
        is_normalised: Whether only the direction counts.
    """
    both_absent = np.isnan(expected).any(axis=1) & np.isnan(found).any(axis=1)
    same = np.abs(expected[:, :-1] - found[:, :-1]).max(axis=1, initial=0.0) <= SKETCH_TOLERANCE
    if not is_normalised:
        same &= np.abs(expected[:, -1] - found[:, -1]) <= LENGTH_TOLERANCE * np.abs(expected[:, -1])
    different: npt.NDArray[np.bool_] = ~(same | both_absent)  # NaN on one side only is never the same
    return different


@lru_cache(maxsize=16)
def _projection(dimension: int) -> npt.NDArray[np.float64]:
    """Return a fixed matrix of shape (dimension, 8) with entries in [-1, 1), the same on every machine and version."""
    seed = hashlib.shake_256(f"rag_migration_pipeline sketch {dimension}".encode())
    raw = np.frombuffer(seed.digest(dimension * SKETCH_DIMENSIONS * 2), dtype="<i2")
    return raw.reshape(dimension, SKETCH_DIMENSIONS) / 32768.0


def unit_rows(values: Float32Array) -> npt.NDArray[np.float64]:
    """Return the rows at length 1 as float64; zero rows stay zero, rows with NaN or infinities become NaN."""
    wide = values.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        unit: npt.NDArray[np.float64] = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths != 0)
    return unit
