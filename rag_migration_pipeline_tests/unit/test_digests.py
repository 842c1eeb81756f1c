"""Digests and sketches tell different records apart and equal ones not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.digests import (
    DIGEST_BYTES,
    digest_contents,
    digest_ids,
    digest_vectors,
    is_same_sketch,
    sketch_vectors,
    sketches_differ,
    unit_rows,
)
from rag_migration_pipeline.records import DenseColumn, RecordBatch
from rag_migration_pipeline_tests.contract.samples import AWKWARD_VALUES


def contents(values: list[object], documents: list[str | None] | None = None) -> list[bytes]:
    column = DenseColumn(np.zeros((len(values), 1), np.float32))
    return digest_contents(RecordBatch([*range(len(values))], {"": column}, [{"k": v} for v in values], documents))


def test_every_awkward_value_has_a_digest_of_its_own() -> None:
    digests = contents(list(AWKWARD_VALUES))
    assert {len(digest) for digest in digests} == {DIGEST_BYTES}
    texts = [repr(value) for value in AWKWARD_VALUES]
    assert len(set(digests)) == len(set(texts))
    assert digests == contents(list(AWKWARD_VALUES))


def test_documents_count_and_missing_is_not_empty() -> None:
    assert len(set(contents([1] * 4, [None, "", "a", "1"]))) == 4
    assert contents([1], None) == contents([1], [None])


def test_the_order_of_keys_does_not_count() -> None:
    column = DenseColumn(np.zeros((2, 1), np.float32))
    first, second = digest_contents(RecordBatch([1, 2], {"": column}, [{"a": 1, "b": None}, {"b": None, "a": 1}]))
    assert first == second


@given(st.lists(st.text(max_size=3), max_size=5), st.lists(st.text(max_size=3), max_size=5))
def test_lists_of_ids_share_a_digest_only_if_equal(first: list[str], second: list[str]) -> None:
    assert (digest_ids(first) == digest_ids(second)) is (first == second)


def test_ids_of_other_kinds_have_other_digests() -> None:
    assert digest_ids([7]) != digest_ids(["7"])
    assert digest_ids(["a", "b"]) != digest_ids(["astring:b"]), "where one id ends and the next begins counts"
    assert digest_ids(["a", "b"]) != digest_ids(["b", "a"])
    assert digest_ids(["\ud800"]) != digest_ids(["\ud801"])


def test_vector_digests_see_every_bit_but_the_sign_of_zero() -> None:
    base = np.array([[1.5, 0.0, 2.0]], np.float32)
    nearly = np.nextafter(base, np.float32(9)).astype(np.float32)
    assert digest_vectors(DenseColumn(base)) != digest_vectors(DenseColumn(nearly))
    assert digest_vectors(DenseColumn(base)) == digest_vectors(DenseColumn(base * np.float32([1, -1, 1])))
    wide = np.zeros((4, 6), np.float32)
    wide[:, ::2] = base
    assert digest_vectors(DenseColumn(wide[:, ::2])) == digest_vectors(DenseColumn(base)) * 4
    absent = digest_vectors(DenseColumn(np.zeros((2, 3), np.float32), np.array([True, False])))
    assert absent[0] != absent[1]


@pytest.mark.parametrize("dimension", [2, 8, 384, 1536])
def test_sketches_ignore_rounding_and_see_a_component(dimension: int) -> None:
    values = np.random.default_rng(dimension).normal(size=(200, dimension)).astype(np.float32)
    sketches = sketch_vectors(DenseColumn(values))
    assert sketches.shape == (200, 9)
    unit = unit_rows(values).astype(np.float32)
    rounded = np.nextafter(values, np.float32(9)).astype(np.float32)
    assert not sketches_differ(sketches, sketch_vectors(DenseColumn(rounded)), is_normalised=False).any()
    for same in (unit, values * np.float32(1000), unit * np.float32(0.37)):
        found = sketch_vectors(DenseColumn(same))
        assert not sketches_differ(sketches, found, is_normalised=True).any(), "only the direction counts here"
        assert sketches_differ(sketches, found, is_normalised=False).all(), "the length counts here"
    for row in range(0, 200, 7):
        changed = unit.copy()
        changed[row, row % dimension] += np.float32(3e-5)
        changed[row, (row + 1) % dimension] -= np.float32(3e-5)
        moved = sketches_differ(sketches, sketch_vectors(DenseColumn(changed)), is_normalised=True)
        assert np.flatnonzero(moved).tolist() == [row]


@pytest.mark.parametrize("dimension", [1, 8, 384, 1536, 4096])
def test_a_sketch_is_the_same_whatever_stands_beside_it_and_another_one_with_the_last_bit(dimension: int) -> None:
    values = np.random.default_rng(5).standard_normal((300, dimension)).astype(np.float32)
    values[7] = 0
    values[8] = np.nan
    together = sketch_vectors(DenseColumn(values))
    assert all(is_same_sketch(sketch_vectors(DenseColumn(values[n : n + 1]))[0], together[n]) for n in range(300))
    values[:, 0] = np.nextafter(values[:, 0], np.float32(9))
    changed = sketch_vectors(DenseColumn(values))
    seen = [n for n in range(300) if not is_same_sketch(changed[n], together[n])]
    large = np.abs(values[:, 0]) > 1e-2 * np.sqrt(dimension)
    assert set(np.flatnonzero(large).tolist()) - set(seen) == set()
    assert len(seen) > 200 or dimension > 1000


def test_sketches_see_presence_zero_and_nan() -> None:
    zero, one = np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
    kinds = {
        "absent": sketch_vectors(DenseColumn(zero, np.array([False]))),
        "zero": sketch_vectors(DenseColumn(zero)),
        "one": sketch_vectors(DenseColumn(one)),
        "minus": sketch_vectors(DenseColumn(-one)),
    }
    for a, expected in kinds.items():
        for b, found in kinds.items():
            for is_normalised in (True, False):
                assert sketches_differ(expected, found, is_normalised=is_normalised).tolist() == [a != b], (a, b)
    nan = sketch_vectors(DenseColumn(one * np.float32("nan")))
    assert sketches_differ(kinds["one"], nan, is_normalised=True).all()
    assert sketches_differ(nan, kinds["zero"], is_normalised=True).all()


def test_a_zero_vector_is_no_other_vector_and_nan_is_never_equal() -> None:
    values = np.array([[0, 0], [np.nan, 0], [np.inf, 1], [1e-40, 0]], np.float32)
    units = unit_rows(values)
    assert units[0].tolist() == [0, 0]
    assert np.isnan(units[1]).any()
    assert np.isnan(units[2]).any()
    assert units[3].tolist() == [1, 0]
