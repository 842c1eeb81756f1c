"""Vectors of every kind: equal ones are found equal however they are carried, and any difference is found."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.arrow import from_arrow, to_arrow
from rag_migration_pipeline.batching import concatenate, cut
from rag_migration_pipeline.digests import digest_vectors, sketch_vectors, sketches_differ, unit_rows
from rag_migration_pipeline.envelope import ENVELOPE_KEY, layout_of, pack, unpack
from rag_migration_pipeline.envelope.notes import seal
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    MultiColumn,
    RecordBatch,
    SparseColumn,
    VectorColumn,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.steps.compare import changed_rows
from rag_migration_pipeline.stores.memory import CAPABILITIES
from rag_migration_pipeline.stores.screening import screen
from rag_migration_pipeline.vectors import ELEMENT_TYPES, column_of, converted, misfits, presence, rounded
from rag_migration_pipeline_tests.contract import strategies

SPARSE = VectorSpec(None, Metric.DOT, "words", VectorKind.SPARSE)
MULTI = VectorSpec(3, Metric.DOT, "tokens", VectorKind.MULTI)
DENSE = VectorSpec(3, Metric.DOT, "text")
NORMALISING = replace(
    CAPABILITIES, normalised_metrics=frozenset({Metric.COSINE}), vector_tolerance=7e-7, has_non_finite_vectors=False
)
kinds = pytest.mark.parametrize("vector", [DENSE, SPARSE, MULTI], ids=lambda vector: vector.kind.value)


def batch_of(*columns: tuple[VectorSpec, VectorColumn]) -> RecordBatch:
    count = len(columns[0][1].values)
    return RecordBatch([*range(count)], {vector.name: column for vector, column in columns}, [{}] * count)


def spec_of(*vectors: VectorSpec) -> CollectionSpec:
    return CollectionSpec("c", vectors, frozenset(IdKind))


def differs(vector: VectorSpec, a: Any, b: Any) -> bool:
    """Return whether two vectors are told apart, by comparison and by digest, which must agree."""
    columns = column_of(vector, [a]), column_of(vector, [b])
    rows = changed_rows(*columns, 1, is_normalised=False, tolerance=0.0)
    assert rows[0] == (digest_vectors(columns[0]) != digest_vectors(columns[1])), (a, b)
    return bool(rows[0])


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("vector", "first", "second"),
    [
        (DENSE, [1, 2, 0.0], [1, 2, -0.0]),
        (DENSE, [NAN, INF, 1], [-NAN, INF, 1]),
        (SPARSE, ([5, 2], [1, 0.5]), ([2, 5], [0.5, 1])),
        (SPARSE, ([7], [NAN]), ([7], [NAN])),
        (SPARSE, ([], []), ([], [])),
        (MULTI, [[1, 2, 3], [0.0, NAN, 0]], [[1, 2, 3], [-0.0, NAN, 0]]),
        *[(vector, None, None) for vector in (DENSE, SPARSE, MULTI)],
    ],
)
def test_equal_vectors_are_equal_in_any_form(vector: VectorSpec, first: Any, second: Any) -> None:
    assert not differs(vector, first, second)


@pytest.mark.parametrize(
    ("vector", "first", "second"),
    [
        (DENSE, [1, 2, 3], [1, 2, 3.0000002]),
        (DENSE, [1, 2, NAN], [1, 2, INF]),
        (DENSE, [0, 0, 0], None),
        (SPARSE, ([2, 5], [1, 0.5]), ([2, 5], [0.5, 1])),
        (SPARSE, ([2, 5], [1, 0.5]), ([2, 6], [1, 0.5])),
        (SPARSE, ([2, 5], [1, 0]), ([2], [1])),
        (SPARSE, ([2], [1]), ([2], [1.0000001])),
        (SPARSE, ([1, 2], [3, 4]), ([1], [2])),
        (SPARSE, ([], []), None),
        (MULTI, [[1, 2, 3], [4, 5, 6]], [[4, 5, 6], [1, 2, 3]]),
        (MULTI, [[1, 2, 3], [4, 5, 6]], [[1, 2, 3]]),
        (MULTI, [[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6.0000005]]),
        (MULTI, [[0, 0, 0]], None),
    ],
)
def test_any_difference_is_found(vector: VectorSpec, first: Any, second: Any) -> None:
    assert differs(vector, first, second)
    assert differs(vector, second, first)


@kinds
def test_a_column_of_another_kind_or_none_is_a_difference(vector: VectorSpec) -> None:
    column = column_of(vector, [None, None])
    for other in (None, *(column_of(v, [None, None]) for v in (DENSE, SPARSE, MULTI) if v is not vector)):
        assert changed_rows(column, other, 2, is_normalised=False, tolerance=0.0).all()


def test_the_same_numbers_in_another_element_type_have_the_same_digest() -> None:
    for dtype in ELEMENT_TYPES:
        vector = replace(DENSE, dtype=dtype, dimension=24 if dtype == "binary" else 3)
        column = column_of(vector, [[1, 2, 3]])
        assert digest_vectors(column) == digest_vectors(column_of(DENSE, [[1, 2, 3]]))


@pytest.mark.parametrize("count", [1, 2, 40, 700])
def test_sketches_of_multi_vectors_ignore_rounding_and_see_one_component(count: int) -> None:
    generator = np.random.default_rng(count)
    arrays = [generator.normal(size=(count, 16)).astype(np.float32) for _ in range(30)]
    sketches = sketch_vectors(MultiColumn((*arrays, None)))
    unit = [unit_rows(array).astype(np.float32) for array in arrays]

    def moved(changed: list[Any]) -> list[int]:
        found = sketch_vectors(MultiColumn((*changed, None)))
        return [int(row) for row in np.flatnonzero(sketches_differ(sketches, found, is_normalised=True))]

    assert moved(unit) == []
    for row in range(0, 30, 7):
        for change in (_one_component, _two_swapped, _one_gone):
            parts = [array.copy() for array in unit]
            parts[row] = change(parts[row])
            assert moved(parts) == ([row] if change is _one_component or count > 1 else []), change
    alone = sketch_vectors(MultiColumn((arrays[0],)))[0]
    assert np.allclose(alone, sketches[0], rtol=1e-12, atol=1e-12), "others have no part in it"


def _one_component(array: Any) -> Any:
    array[len(array) // 2, 3] += np.float32(5e-5 * len(array) ** 0.5)
    return array


def _two_swapped(array: Any) -> Any:
    array[[0, -1]] = array[[-1, 0]]
    return array


def _one_gone(array: Any) -> Any:
    return array[:-1] if len(array) > 1 else array


@pytest.mark.parametrize(
    ("vector", "row", "reason"),
    [
        (SPARSE, ([1, 1], [1, 2]), "index that comes twice"),
        (SPARSE, ([1], [NAN]), "NaN or infinite"),
        (SPARSE, ([1, 2], [1]), "2 indices and 1 values"),
        (MULTI, np.zeros((0, 3)), "no vectors"),
        (MULTI, [[1, 2, 3], [1, INF, 3]], "NaN or infinite"),
        (DENSE, [1, 2, -INF], "NaN or infinite"),
        (replace(DENSE, dtype="uint8"), None, "has no vector"),
    ],
)
def test_what_is_wrong_with_a_vector_is_said_by_name(vector: VectorSpec, row: Any, reason: str) -> None:
    strict = replace(CAPABILITIES, has_partial_vectors=False, has_non_finite_vectors=False)
    good = {"dense": [1, 2, 3], "sparse": ([3, 1], [0, 1]), "multi": [[1, 2, 3]]}[vector.kind.value]
    given = batch_of((vector, column_of(vector, [good, row, good])))
    kept, rejections = screen(given, spec_of(vector), strict, lambda *_: None)
    assert (kept.ids, [rejection.record_id for rejection in rejections]) == ([0, 2], [1])
    assert reason in rejections[0].reason
    assert repr(vector.name) in rejections[0].reason


@pytest.mark.parametrize(
    ("dtype", "value", "is_kept"),
    [
        ("float16", 0.5, True),
        ("float16", 0.1, False),
        ("float16", 70_000, False),
        ("float16", INF, True),
        ("float16", NAN, True),
        ("uint8", 255, True),
        ("uint8", 256, False),
        ("uint8", -1, False),
        ("uint8", 0.5, False),
        ("uint8", NAN, False),
        ("int8", -128, True),
        ("int8", 128, False),
        ("bfloat16", 1.5, True),
        ("bfloat16", 1.0 + 2**-10, False),
    ],
)
def test_numbers_that_an_element_type_lacks_are_told(dtype: str, value: float, is_kept: bool) -> None:
    column = column_of(DENSE, [[1, 2, 3], [1, 2, value]])
    vector = replace(DENSE, dtype=dtype)
    _, rejections = screen(batch_of((vector, column)), spec_of(vector), CAPABILITIES, lambda *_: None)
    assert [rejection.record_id for rejection in rejections] == ([] if is_kept else [1])
    assert all(dtype in rejection.reason for rejection in rejections)


def test_floats_are_rounded_to_what_the_target_holds_and_what_has_no_place_stays_to_be_told() -> None:
    given = column_of(DENSE, [[0.1, 1, 65_504], [0.1, 70_000, 1]])
    held = converted(given, "float16")
    assert isinstance(held, DenseColumn)
    assert held.values.dtype == np.float32
    assert misfits(held.values, "float16").tolist() == [False, True]
    assert held.values[0, 0] == np.float32(np.float16(0.1))
    fitting = converted(given.take(np.array([0])), "float16")
    assert isinstance(fitting, DenseColumn)
    assert fitting.values.dtype == np.float16
    wide = converted(fitting, "float32")
    assert isinstance(wide, DenseColumn)
    assert wide.values.tolist() == fitting.values.tolist()
    assert converted(given, "float32") is given
    whole = converted(column_of(DENSE, [[1, 2, 3], [1, 0.5, 3]]), "uint8")
    assert isinstance(whole, DenseColumn)
    assert whole.values.tolist() == [[1, 2, 3], [1, 0.5, 3]], "nothing is rounded to whole numbers"


@given(st.floats(width=32))
def test_bfloat16_is_the_nearest_of_sixteen_bits(value: float) -> None:
    (found,) = rounded(np.array([value], np.float32), "bfloat16")
    if np.isnan(value):
        assert np.isnan(found)
        return
    bits = int(np.float32(found).view(np.uint32))
    assert bits & 0xFFFF == 0
    near = [np.uint32(bits + step).view(np.float32) for step in (-0x10000, 0x10000) if 0 <= bits + step < 2**32]
    finite = [other for other in near if np.isfinite(other) and np.isfinite(found)]
    assert all(abs(float(found) - value) <= abs(float(other) - value) for other in finite)


@kinds
@given(data=st.data())
def test_any_column_survives_cutting_joining_and_the_file(vector: VectorSpec, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 7))
    column = data.draw(strategies.columns(vector, count, CAPABILITIES))
    batch = batch_of((vector, column))
    again = from_arrow(to_arrow(batch)).vectors[vector.name]
    assert not changed_rows(column, again, count, is_normalised=False, tolerance=0.0).any()
    parts = list(cut(batch, data.draw(st.integers(1, 4)), data.draw(st.integers(1, 200))))
    if parts:
        joined = concatenate([from_arrow(to_arrow(part)) for part in parts])
        assert digest_vectors(joined.vectors[vector.name]) == digest_vectors(column)
    assert presence(column).tolist() == presence(again).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", [VectorKind.DENSE, VectorKind.MULTI])
def test_lengths_come_home_from_a_target_that_keeps_directions(kind: VectorKind, dtype: str) -> None:
    vector = VectorSpec(3, Metric.COSINE, "v", kind, dtype)
    rows = [[3, 4, 0], [0, 0, 0], None, [0.6, 0.8, 0], [1e-4, 2, 1]]
    if kind is VectorKind.MULTI:
        rows = [None if row is None else [row, [1, 0, 0], [0, 5, 0]] for row in rows] + [[[1, 0, 0], [0, 1, 0]]]
    column = column_of(vector, rows)
    layout = layout_of(spec_of(vector), NORMALISING, "document")
    packed = pack(batch_of((vector, column)), layout)
    assert ENVELOPE_KEY not in packed.payloads[2]
    assert (ENVELOPE_KEY not in packed.payloads[3]) == (kind is VectorKind.DENSE)
    stored = packed.with_columns(vectors={"v": _directions(packed.vectors["v"])})
    home = unpack(stored, layout).vectors["v"]
    tolerance = NORMALISING.tolerance_of(vector)
    assert not changed_rows(column, home, len(rows), is_normalised=False, tolerance=tolerance).any()
    assert changed_rows(column, stored.vectors["v"], len(rows), is_normalised=False, tolerance=tolerance).any()


def _directions(column: VectorColumn) -> VectorColumn:
    """Do to vectors what Qdrant does under cosine."""
    if isinstance(column, MultiColumn):
        found = [None if item is None else unit_rows(item).astype(item.dtype) for item in column.values]
        return MultiColumn(tuple(found))
    assert isinstance(column, DenseColumn)
    return DenseColumn(unit_rows(column.values).astype(column.values.dtype), column.present)


def test_a_note_on_the_length_of_another_layout_changes_nothing() -> None:
    vector = VectorSpec(3, Metric.COSINE, "v", VectorKind.MULTI)
    layout = layout_of(spec_of(vector), NORMALISING, "document")
    column = column_of(vector, [[[1, 0, 0], [0, 1, 0]]])
    for lengths in (2.0, [2.0], [2.0, 3.0, 4.0]):
        notes = seal(0, {"norm": {"v": lengths}})
        batch = batch_of((vector, column)).with_columns(payloads=[{ENVELOPE_KEY: notes}])
        home = unpack(batch, layout)
        assert home.payloads == [{}]
        assert not changed_rows(column, home.vectors["v"], 1, is_normalised=False, tolerance=0.0).any()


def test_sparse_vectors_are_never_scaled_nor_converted() -> None:
    vector = replace(SPARSE, metric=Metric.COSINE)
    column = SparseColumn((np.array([3], np.uint32),), (np.array([9], np.float32),))
    assert converted(column, "float16") is column
    layout = layout_of(spec_of(vector), NORMALISING, "document")
    packed = pack(batch_of((vector, column)), layout)
    assert packed.payloads == [{}]
    assert packed.vectors["words"] is column
