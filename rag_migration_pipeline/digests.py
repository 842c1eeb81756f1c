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

from rag_migration_pipeline.payloads import encode_bytes
from rag_migration_pipeline.records import (
    DenseColumn,
    Float32Array,
    MultiColumn,
    Payload,
    RecordBatch,
    RecordId,
    SparseColumn,
    VectorColumn,
    id_text,
)
from rag_migration_pipeline.vectors import all_vectors, in_order, presence

DIGEST_BYTES = 16
SKETCH_DIMENSIONS = 8
SKETCH_WIDTH = SKETCH_DIMENSIONS + 1
"""Eight projections of the direction, then the length."""

SKETCH_TOLERANCE = 4e-6
"""Largest difference of two sketches of the same direction. A float32 unit vector is exact to about 1e-7 in sum; one
component that is off by 1e-5 (of length 1) moves at least one of the eight numbers by more than this."""

LENGTH_TOLERANCE = 1e-6
"""Largest relative difference of two lengths of the same vector."""

SKETCH_ROUNDING = 1e-13
"""Largest difference of two numbers of a sketch that is rounding alone: sums of up to 65,535 products in float64. One
float32 component of length 1e-3 that is off by its last bit moves a number by a hundred times as much."""


def digest_ids(ids: Iterable[RecordId]) -> str:
    """Return a digest of ids in order, as hex; each id is length-prefixed, so no two lists of ids share a text."""
    return digest_texts(id_text(record_id).encode("utf-8", "surrogatepass") for record_id in ids)


def digest_texts(texts: Iterable[bytes]) -> str:
    """Return what `digest_ids` returns, of the texts of `records.id_text` in UTF-8 with surrogates passed."""
    total = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for text in texts:
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
    content = encode_bytes(parts if partition is None else [payload, document, partition])
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def digest_vectors(column: VectorColumn) -> list[bytes]:
    """Return per record the digest of its vector, 16 bytes each; 16 zero bytes where it has none.

    Digests are of the numbers as float32, whatever type carries them: -0.0 counts as 0.0, every NaN as the same, and
    the order of a sparse vector's entries does not count.
    """
    if isinstance(column, DenseColumn):
        rows = [_digest(row.data) for row in _canonical(column.values)]
        if column.present is None:
            return rows
        return [row if present else _ABSENT for row, present in zip(rows, column.present, strict=True)]
    if isinstance(column, SparseColumn):
        return [_digest_sparse(*entries) for entries in zip(column.indices, column.values, strict=True)]
    return [_ABSENT if item is None else _digest(_shape(item), _canonical(item).data) for item in column.values]


_ABSENT = bytes(DIGEST_BYTES)


def _digest_sparse(indices: npt.NDArray[np.uint32] | None, values: Float32Array | None) -> bytes:
    if indices is None or values is None:
        return _ABSENT
    ordered, numbers = in_order(indices, values)
    return _digest(_shape(ordered), np.ascontiguousarray(ordered, "<u4").data, _canonical(numbers).data)


def _digest(*parts: "bytes | memoryview") -> bytes:
    total = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        total.update(part)
    return total.digest()


def _shape(values: npt.NDArray[Any]) -> bytes:
    """Return a shape as bytes, so that no two shapes of the same numbers share a digest."""
    return b",".join(str(size).encode() for size in values.shape) + b":"


def _canonical(values: npt.NDArray[Any]) -> Float32Array:
    """Return C-contiguous float32 in which equal numbers have equal bytes."""
    plain = np.ascontiguousarray(values.astype(np.float32, copy=False) + np.float32(0), dtype="<f4")
    odd = np.isnan(plain)
    if odd.any():
        plain[odd] = np.nan
    return plain


def sketch_vectors(column: DenseColumn | MultiColumn) -> npt.NDArray[np.float64]:
    """Return the sketch of each vector: array of shape (n_records, 9), float64.

    A fixed projection of the vector at length 1, and its length; zero vectors give zeros. An absent vector gives NaN.
    A multi-vector is sketched as the long vector that its vectors make one after the other, each at length 1.
    """
    sketches = _sketch_dense(column.values) if isinstance(column, DenseColumn) else _sketch_multi(column)
    sketches[~presence(column)] = np.nan
    return sketches


def _sketch_dense(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Sketch dense vectors: projected as they are and divided by their lengths then, which is eight numbers each.

    In parts so small that OpenBLAS multiplies each in this thread: its others wait for their next part in a loop, and
    take the time of the threads that read and write.
    """
    projection = _projection(values.shape[1])
    sketches = np.empty((len(values), SKETCH_WIDTH))
    step = max(1, _SINGLE_THREADED // max(1, projection.size))
    with np.errstate(invalid="ignore"):
        for start in range(0, len(values), step):
            wide = values[start : start + step].astype(np.float64)
            part = sketches[start : start + step]
            part[:, -1] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
            lengths = part[:, -1:]
            part[:, :-1] = np.divide(wide @ projection, lengths, out=np.zeros_like(part[:, :-1]), where=lengths != 0)
    return sketches


_SINGLE_THREADED = 1 << 18
"""So many multiplications of a matrix product OpenBLAS does not divide among threads (interface/gemm.c: 4 * 65,536)."""


def _sketch_multi(column: MultiColumn) -> npt.NDArray[np.float64]:
    """Sketch multi-vectors: the projections of their vectors, each weighted by its place, and the whole length."""
    values, owners = all_vectors(column)
    count = len(column.values)
    if not len(owners):
        return np.zeros((count, SKETCH_WIDTH))
    single = _sketch_dense(values)
    lengths = single[:, -1]
    sizes = np.bincount(owners, minlength=count)
    places = np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    weights = _weights(1 << int(sizes.max()).bit_length())[places] / np.sqrt(sizes[owners])[:, None]
    parts = single[:, :-1] * weights
    sketches = np.zeros((count, SKETCH_WIDTH))
    np.add.at(sketches[:, :-1], owners, parts)
    sketches[:, -1] = np.sqrt(np.bincount(owners, lengths**2, minlength=count))
    return sketches


def sketches_differ(
    expected: npt.NDArray[np.float64],
    found: npt.NDArray[np.float64],
    *,
    is_normalised: bool,
    tolerance: float = 0.0,
) -> npt.NDArray[np.bool_]:
    """Return a mask of shape (n_records,): which sketches are of different vectors, or differ in presence.

    Args:
        expected: Array of shape (n_records, 9), from `sketch_vectors`.
        found: The same, of what is there now.
        is_normalised: Whether only the direction counts.
        tolerance: Largest relative difference of a vector in this store; float32's needs no more than is allowed here
            anyway, float16's does. A random difference of that size moves a number by half of it; double is safe.
    """
    both_absent = np.isnan(expected).any(axis=1) & np.isnan(found).any(axis=1)
    allowed = max(SKETCH_TOLERANCE, 2 * tolerance)
    same = np.abs(expected[:, :-1] - found[:, :-1]).max(axis=1, initial=0.0) <= allowed
    if not is_normalised:
        allowed = max(LENGTH_TOLERANCE, tolerance)
        same &= np.abs(expected[:, -1] - found[:, -1]) <= allowed * np.abs(expected[:, -1])
    different: npt.NDArray[np.bool_] = ~(same | both_absent)  # NaN on one side only is never the same
    return different


def is_same_sketch(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> bool:
    """Return whether two sketches, of shape (9,), are of bit-identical vectors, as far as sketches tell.

    The same vector's may differ by rounding: how a matrix product is summed up depends on what stands beside it.
    """
    if np.array_equal(one, other, equal_nan=True):
        return True
    return bool(np.isclose(one, other, rtol=SKETCH_ROUNDING, atol=SKETCH_ROUNDING, equal_nan=True).all())


@lru_cache(maxsize=16)
def _projection(dimension: int) -> npt.NDArray[np.float64]:
    """Return a fixed matrix of shape (dimension, 8) with entries in [-1, 1), the same on every machine and version."""
    seed = hashlib.shake_256(f"rag_migration_pipeline sketch {dimension}".encode())
    raw = np.frombuffer(seed.digest(dimension * SKETCH_DIMENSIONS * 2), dtype="<i2")
    return raw.reshape(dimension, SKETCH_DIMENSIONS) / 32768.0


@lru_cache(maxsize=16)
def _weights(count: int) -> npt.NDArray[np.float64]:
    """Return a fixed matrix of shape (count, 8) with entries in [-1, 1); a larger one begins with the same rows."""
    seed = hashlib.shake_256(b"rag_migration_pipeline sketch, places of a multi-vector")
    raw = np.frombuffer(seed.digest(count * SKETCH_DIMENSIONS * 2), dtype="<i2")
    return raw.reshape(count, SKETCH_DIMENSIONS) / 32768.0


def unit_rows(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the rows at length 1 as float64; zero rows stay zero, rows with NaN or infinities become NaN."""
    wide = values.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        unit: npt.NDArray[np.float64] = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths != 0)
    return unit
