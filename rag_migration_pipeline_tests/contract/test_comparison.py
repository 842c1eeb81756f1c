"""The comparison of the contract suite sees every difference that a record can have."""

import copy
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    MultiColumn,
    RecordBatch,
    SparseColumn,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.stores.memory import CAPABILITIES
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.comparison import assert_same_records

SPEC = CollectionSpec(
    "compared",
    (
        VectorSpec(4, Metric.L2),
        VectorSpec(None, Metric.DOT, "words", VectorKind.SPARSE),
        VectorSpec(4, Metric.L2, "tokens", VectorKind.MULTI),
    ),
    frozenset(IdKind),
)


def given() -> RecordBatch:
    """Return three records with everything that a record can have."""
    return RecordBatch(
        ids=["7", 7, uuid.UUID(int=7)],
        vectors={
            "": DenseColumn(samples.vectors(3, 4), np.array([True, True, False])),
            "words": SparseColumn(
                (np.array([1, 5], dtype=np.uint32), None, np.array([2], dtype=np.uint32)),
                (np.array([0.5, 1], dtype=np.float32), None, np.array([3], dtype=np.float32)),
            ),
            "tokens": MultiColumn((samples.vectors(2, 4), samples.vectors(1, 4), None)),
        },
        payloads=[{"a": 1, "b": [1.0, {"c": None}]}, {}, {"n": float("nan"), "z": -0.0}],
        documents=["text", "", None],
    )


def test_the_same_records_in_another_order_are_the_same() -> None:
    assert_same_records(given(), given().take([2, 0, 1]), SPEC, CAPABILITIES)


def test_no_documents_are_missing_documents() -> None:
    without = given().with_columns(documents=None)
    assert_same_records(without, given().with_columns(documents=[None] * 3), SPEC, CAPABILITIES)


def _payload(row: int, value: dict[str, Any]) -> Callable[[RecordBatch], RecordBatch]:
    def change(batch: RecordBatch) -> RecordBatch:
        payloads = copy.deepcopy(list(batch.payloads))
        payloads[row] = value
        return batch.with_columns(payloads=payloads)

    return change


def _ids(*ids: Any) -> Callable[[RecordBatch], RecordBatch]:
    return lambda batch: batch.with_columns(ids=list(ids))


def _documents(*texts: str | None) -> Callable[[RecordBatch], RecordBatch]:
    return lambda batch: batch.with_columns(documents=list(texts))


def _vector(name: str, column: Any) -> Callable[[RecordBatch], RecordBatch]:
    return lambda batch: batch.with_columns(vectors={**batch.vectors, name: column})


def _nudged() -> Any:
    values = samples.vectors(3, 4)
    values[1, 2] = np.nextafter(values[1, 2], np.float32(9))
    return values


_MASK = np.array([True, True, False])
_UUID = uuid.UUID(int=7)

CHANGES = {
    "a record is missing": lambda batch: batch.slice(0, 2),
    "all records are missing": lambda batch: batch.slice(0, 0),
    "a record comes twice": lambda batch: batch.take([0, 1, 2, 2]),
    "a record is extra": lambda batch: batch.take([0, 1, 2, 0]).with_columns(ids=["7", 7, _UUID, "8"]),
    "a string id became a number": _ids(8, 7, _UUID),
    "a UUID became text": _ids("7", 7, str(_UUID)),
    "two ids are swapped": _ids(7, "7", _UUID),
    "an id became bool": _ids("7", True, _UUID),
    "int became float": _payload(0, {"a": 1.0, "b": [1.0, {"c": None}]}),
    "int became bool": _payload(0, {"a": True, "b": [1.0, {"c": None}]}),
    "int became text": _payload(0, {"a": "1", "b": [1.0, {"c": None}]}),
    "float became int in a list": _payload(0, {"a": 1, "b": [1, {"c": None}]}),
    "a nested null is gone": _payload(0, {"a": 1, "b": [1.0, {}]}),
    "a list is longer": _payload(0, {"a": 1, "b": [1.0, {"c": None}, 1]}),
    "a list is another order": _payload(0, {"a": 1, "b": [{"c": None}, 1.0]}),
    "a key is gone": _payload(0, {"a": 1}),
    "a key came": _payload(1, {"a": None}),
    "NaN became null": _payload(2, {"n": None, "z": -0.0}),
    "minus zero lost its sign": _payload(2, {"n": float("nan"), "z": 0.0}),
    "missing text became empty": _documents("text", "", ""),
    "empty text became missing": _documents("text", None, None),
    "a text changed": _documents("text ", "", None),
    "all texts are gone": lambda batch: batch.with_columns(documents=None),
    "one component moved by one bit": _vector("", DenseColumn(_nudged(), _MASK)),
    "float32 became float64": _vector("", DenseColumn(samples.vectors(3, 4).astype(np.float64), _MASK)),
    "a vector appeared": _vector("", DenseColumn(samples.vectors(3, 4), None)),
    "a vector is gone": _vector("", DenseColumn(samples.vectors(3, 4), np.array([True, False, False]))),
    "another dimension": _vector("", DenseColumn(samples.vectors(3, 5), _MASK)),
    "an unknown vector": _vector("new", DenseColumn(samples.vectors(3, 4))),
    "a whole column is gone": lambda batch: batch.with_columns(vectors={"": batch.vectors[""]}),
    "a multi-vector lost one": _vector("tokens", MultiColumn((samples.vectors(1, 4), samples.vectors(1, 4), None))),
    "a sparse value changed": _vector(
        "words",
        SparseColumn(
            (np.array([1, 5], dtype=np.uint32), None, np.array([2], dtype=np.uint32)),
            (np.array([0.5, 2], dtype=np.float32), None, np.array([3], dtype=np.float32)),
        ),
    ),
    "a sparse index changed": _vector(
        "words",
        SparseColumn(
            (np.array([1, 6], dtype=np.uint32), None, np.array([2], dtype=np.uint32)),
            (np.array([0.5, 1], dtype=np.float32), None, np.array([3], dtype=np.float32)),
        ),
    ),
}
CHANGES["a multi-vector appeared"] = _vector(
    "tokens", MultiColumn((samples.vectors(2, 4), samples.vectors(1, 4), samples.vectors(1, 4)))
)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_difference_is_seen(change: Callable[[RecordBatch], RecordBatch]) -> None:
    with pytest.raises(AssertionError):
        assert_same_records(given(), change(given()), SPEC, CAPABILITIES)


def test_nothing_compared_with_nothing_proves_nothing() -> None:
    empty = given().slice(0, 0)
    with pytest.raises(AssertionError, match="proves nothing"):
        assert_same_records(empty, empty, SPEC, CAPABILITIES)
    assert_same_records(empty, empty, SPEC, CAPABILITIES, is_empty_expected=True)
    with pytest.raises(AssertionError, match="extra"):
        assert_same_records(empty, given(), SPEC, CAPABILITIES, is_empty_expected=True)


@pytest.mark.parametrize(("error", "is_same"), [(0.5e-6, True), (2e-6, False)])
def test_the_tolerance_is_relative_to_the_length(error: float, is_same: bool) -> None:
    spec = CollectionSpec("c", (VectorSpec(4, Metric.COSINE),), frozenset({IdKind.STRING}))
    capabilities = replace(CAPABILITIES, vector_tolerance=1e-6)
    values = np.array([[3000.0, 0, 4000.0, 0]], dtype=np.float32)
    moved = values.copy()
    moved[0, 1] = 5000.0 * error
    expected, actual = (samples.batch_of(["a"], spec, values=array) for array in (values, moved))
    if is_same:
        assert_same_records(expected, actual, spec, capabilities)
    else:
        with pytest.raises(AssertionError, match="off by"):
            assert_same_records(expected, actual, spec, capabilities)


def test_a_store_that_keeps_directions_must_return_unit_vectors() -> None:
    spec = CollectionSpec("c", (VectorSpec(4, Metric.COSINE),), frozenset({IdKind.STRING}))
    capabilities = replace(CAPABILITIES, vector_tolerance=1e-6, normalised_metrics=frozenset({Metric.COSINE}))
    values = np.array([[3.0, 0, 4.0, 0], [0, 0, 0, 0]], dtype=np.float32)
    directions = np.array([[0.6, 0, 0.8, 0], [0, 0, 0, 0]], dtype=np.float32)
    expected = samples.batch_of(["a", "b"], spec, values=values)
    assert_same_records(expected, samples.batch_of(["a", "b"], spec, values=directions), spec, capabilities)
    for wrong in (values, directions * np.float32(1.00001), directions + np.float32(1e-30)):
        with pytest.raises(AssertionError, match="vectors differ"):
            assert_same_records(expected, samples.batch_of(["a", "b"], spec, values=wrong), spec, capabilities)
