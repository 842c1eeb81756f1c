"""The one comparison of records that the contract suite uses; nobody overrides it.

Belongs here: what "the same records" means. Does not belong here: where the records come from (laws and doors).

Order: ids as sets, then payloads with their types, then documents, then vectors as numbers. It shares no code with
the pipeline's own comparison, and it never passes on an empty answer unless emptiness was expected.
"""

import math
from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    MultiColumn,
    RecordBatch,
    SparseColumn,
    VectorColumn,
    VectorSpec,
)
from rag_migration_pipeline.stores.capabilities import Capabilities

_SHOWN = 5


def assert_same_records(
    expected: RecordBatch,
    actual: RecordBatch,
    spec: CollectionSpec,
    capabilities: Capabilities,
    *,
    is_empty_expected: bool = False,
) -> None:
    """Fail unless both batches hold the same records, in whatever order.

    Args:
        expected: What was given.
        actual: What was read.
        spec: The collection, for the metric of each vector.
        capabilities: Tolerance, and the metrics that the store normalises.
        is_empty_expected: Whether no records at all is a good answer.
    """
    if not len(expected) and not is_empty_expected:
        raise AssertionError("nothing was expected: a comparison of nothing proves nothing")
    position = _positions(expected, actual)
    differences: list[str] = []
    for row, record_id in enumerate(expected.ids):
        other = position[_typed(record_id)]
        differences += [
            f"{record_id!r}: {text}" for text in value_differences(expected.payloads[row], actual.payloads[other])
        ]
        texts = (_document(expected, row), _document(actual, other))
        if texts[0] != texts[1]:
            differences.append(f"{record_id!r}: document {_short(texts[0])} became {_short(texts[1])}")
    _fail(differences, "payloads or documents differ")
    order = [position[_typed(record_id)] for record_id in expected.ids]
    for vector in spec.vectors:
        promise = capabilities.tolerance_of(vector), capabilities.is_normalised(vector)
        differences += _vector_differences(expected, actual, order, vector, *promise)
    unknown = {*expected.vectors, *actual.vectors} - {vector.name for vector in spec.vectors}
    differences += [f"vector {name!r} is not in the spec" for name in sorted(unknown)]
    _fail(differences, "vectors differ")


def value_differences(expected: Any, actual: Any, path: str = "payload") -> list[str]:
    """Return where two values differ in type or value; -0.0 is not 0.0, NaN is NaN."""
    if type(expected) is not type(actual):
        return [f"{path}: {_short(expected)} of type {type(expected).__name__} became {_short(actual)}"]
    if isinstance(expected, dict):
        found = [f"{path}: key {key!r} is gone" for key in expected.keys() - actual.keys()]
        found += [f"{path}: key {key!r} came from nowhere" for key in actual.keys() - expected.keys()]
        for key in expected.keys() & actual.keys():
            found += value_differences(expected[key], actual[key], f"{path}.{key}")
        return found
    if isinstance(expected, list | tuple):
        if len(expected) != len(actual):
            return [f"{path}: a list of {len(expected)} became one of {len(actual)}"]
        pairs = enumerate(zip(expected, actual, strict=True))
        return [text for i, pair in pairs for text in value_differences(*pair, f"{path}[{i}]")]
    # Equal datetimes may have different zones, and NaN is not equal to itself.
    is_told = isinstance(expected, float | Decimal | datetime)
    is_same = repr(expected) == repr(actual) if is_told else expected == actual
    return [] if is_same else [f"{path}: {_short(expected)} became {_short(actual)}"]


def _positions(expected: RecordBatch, actual: RecordBatch) -> dict[Any, int]:
    """Return id -> row of the actual batch, after the ids were found to be the same set, each once."""
    wanted = [_typed(record_id) for record_id in expected.ids]
    if len(set(wanted)) != len(wanted):
        raise AssertionError("the expected records have an id twice: the test is wrong")
    given = Counter(_typed(record_id) for record_id in actual.ids)
    problems = {
        "missing": [key for key in wanted if key not in given],
        "extra": list(given.keys() - set(wanted)),
        "more than once": [key for key, times in given.items() if times > 1],
    }
    text = "; ".join(f"{len(keys)} {name}: {keys[:_SHOWN]}" for name, keys in problems.items() if keys)
    if text:
        raise AssertionError(f"ids differ (of {len(wanted)} expected, {len(actual)} read): {text}")
    return {_typed(record_id): row for row, record_id in enumerate(actual.ids)}


def _typed(record_id: Any) -> tuple[str, Any]:
    return type(record_id).__name__, record_id


def _document(batch: RecordBatch, row: int) -> str | None:
    return None if batch.documents is None else batch.documents[row]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _fail(differences: list[str], what: str) -> None:
    if differences:
        shown = "\n  ".join(differences[:_SHOWN])
        raise AssertionError(f"{what} in {len(differences)} places:\n  {shown}")


def _vector_differences(
    expected: RecordBatch,
    actual: RecordBatch,
    order: list[int],
    vector: VectorSpec,
    tolerance: float,
    is_normalised: bool,
) -> list[str]:
    name = vector.name
    wanted = _rows(expected.vectors.get(name), len(expected))
    found = _rows(actual.vectors.get(name), len(actual))
    differences = []
    for row, record_id in enumerate(expected.ids):
        reason = _row_difference(wanted[row], found[order[row]], tolerance, is_normalised)
        if reason:
            differences.append(f"{record_id!r}: vector {name!r} {reason}")
    return differences


Row = npt.NDArray[Any] | tuple[npt.NDArray[Any], npt.NDArray[Any]] | None


def _rows(column: VectorColumn | None, count: int) -> list[Row]:
    """Return one array, one pair (sparse) or None per record."""
    if column is None:
        return [None] * count
    if isinstance(column, DenseColumn):
        mask = np.ones(count, dtype=bool) if column.present is None else column.present
        return [column.values[row] if mask[row] else None for row in range(count)]
    if isinstance(column, MultiColumn):
        return list(column.values)
    if not isinstance(column, SparseColumn):
        raise TypeError(f"a column of type {type(column).__name__} is no vector column")
    pairs = zip(column.indices, column.values, strict=True)
    return [None if i is None or v is None else (i, v) for i, v in pairs]


def _row_difference(expected: Row, actual: Row, tolerance: float, is_normalised: bool) -> str | None:
    if expected is None or actual is None:
        return None if expected is actual else f"present: {expected is not None} became {actual is not None}"
    if isinstance(expected, tuple) or isinstance(actual, tuple):
        return _sparse_difference(expected, actual, tolerance)
    if expected.shape != actual.shape:
        return f"shape {expected.shape} became {actual.shape}"
    if expected.dtype != actual.dtype:
        return f"element type {expected.dtype} became {actual.dtype}"
    if tolerance == 0.0 and not is_normalised:
        return None if expected.tobytes() == actual.tobytes() else "is not the same bit for bit"
    return _numeric_difference(expected.astype(np.float64), actual.astype(np.float64), tolerance, is_normalised)


def _numeric_difference(
    expected: npt.NDArray[np.float64], actual: npt.NDArray[np.float64], tolerance: float, is_normalised: bool
) -> str | None:
    if not np.isfinite(expected).all():
        return None if np.array_equal(expected, actual, equal_nan=True) else "lost its NaN or infinite components"
    if is_normalised:
        # Each vector of a multi-vector is normalised by itself; a zero vector has no direction and stays zero.
        lengths = np.linalg.norm(expected, axis=-1, keepdims=True)
        expected = np.divide(expected, lengths, out=np.zeros_like(expected), where=lengths > 0)
    length = float(np.linalg.norm(expected))
    distance = float(np.linalg.norm(expected - actual))
    error = distance if length == 0.0 else distance / length
    if math.isnan(error) or error > (0.0 if length == 0.0 else tolerance):
        return f"is off by {error:.3g} of its length, more than {tolerance:.3g}"
    return None


def _sparse_difference(expected: Row, actual: Row, tolerance: float) -> str | None:
    """Compare index/value pairs without regard to their order."""
    if not isinstance(expected, tuple) or not isinstance(actual, tuple):
        return "is sparse on one side only"
    wanted, found = (dict(zip(pair[0].tolist(), pair[1], strict=True)) for pair in (expected, actual))
    if len(found) != len(actual[0]) or wanted.keys() != found.keys():
        return f"has indices {sorted(found)[:_SHOWN]} instead of {sorted(wanted)[:_SHOWN]}"
    keys = sorted(wanted)
    return _row_difference(
        np.array([wanted[key] for key in keys], dtype=np.float32),
        np.array([found[key] for key in keys], dtype=np.float32),
        tolerance,
        is_normalised=False,
    )
