"""What a store is asked for contains what a filter takes: bounds lie outside, and only what is certain is left out."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.filters.meaning import select_rows
from rag_migration_pipeline.filters.nodes import Comparison, Filter
from rag_migration_pipeline.records import RecordBatch
from rag_migration_pipeline.stores.narrowing import (
    MAX_OTHERS,
    MAX_TEXTS,
    Dialect,
    Handling,
    Translated,
    is_plain_path,
    is_safe_text,
    narrow,
    range_of,
    translate,
)
from rag_migration_pipeline_tests.filters import strategies

FIELDS = ("a", "b", "c")
integers = st.integers(-(2**70), 2**70) | st.integers(2**53 - 3, 2**53 + 3)
numbers = strategies.numbers() | integers | st.floats()


class Sets(Dialect[frozenset[int]]):
    """A store whose queries are sets of rows: it knows the fields a and b, and gives more than it is asked for."""

    def __init__(self, payloads: Sequence[dict[str, Any]], extra: frozenset[int]) -> None:
        self._payloads = payloads
        self._extra = extra

    def comparison(self, node: Comparison, *, is_negated: bool) -> Translated[frozenset[int]] | None:
        assert node.operator in ("$eq", "$gt", "$gte", "$lt", "$lte", "$in", "$exists", "$contains", "$like", "$regex")
        assert node.operator != "$in" or node.value
        if node.field == "c" or (is_negated and node.field == "b"):
            return None
        rows = frozenset(select_rows(RecordBatch([*range(len(self._payloads))], {}, self._payloads), node))
        if is_negated:
            rows = frozenset(range(len(self._payloads))) - rows
        return Translated(rows, is_exact=True) if node.field == "a" else Translated(rows | self._extra)

    def all_of(self, queries: Sequence[frozenset[int]]) -> frozenset[int]:
        return frozenset.intersection(*queries)

    def any_of(self, queries: Sequence[frozenset[int]]) -> frozenset[int]:
        return frozenset.union(*queries)


@given(
    strategies.filters(st.sampled_from(FIELDS)),
    st.lists(st.dictionaries(st.sampled_from(FIELDS), strategies.values(), max_size=3), min_size=1, max_size=6),
    st.frozensets(st.integers(0, 5)),
)
def test_a_store_gives_at_least_what_the_filter_takes(
    wanted: Filter, payloads: list[dict[str, Any]], extra: frozenset[int]
) -> None:
    everything = frozenset(range(len(payloads)))
    taken = frozenset(select_rows(RecordBatch([*everything], {}, payloads), wanted))
    found = narrow([wanted], Sets(payloads, extra & everything))
    assert found.query is None or taken <= found.query
    if found.handling == (Handling.STORE,):
        assert found.query == taken


@example("$eq", 2**53 + 1, None)
@example("$gte", 2**53 + 3, None)
@example("$lte", -(2**53) - 3, None)
@given(st.sampled_from(["$eq", "$gt", "$gte", "$lt", "$lte"]), numbers, numbers | st.none())
def test_the_bounds_of_a_number_lie_outside(operator: str, operand: float, other: float | None) -> None:
    value = operand if other is None else other
    batch = RecordBatch([1], {}, [{"n": value}])
    if not select_rows(batch, parse_filter({"n": {operator: operand}})):
        return
    low, high = range_of(operator, operand)
    for seen in (value, _as_float(value)):  # as it is, and as a store that turns integers into floats has it
        assert low is None or low <= seen
        assert high is None or seen <= high
    assert all(bound is None or math.isfinite(bound) for bound in (low, high))


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


@pytest.mark.parametrize(
    ("value", "is_asked"),
    [
        ([str(n) for n in range(MAX_TEXTS)], True),
        ([str(n) for n in range(MAX_TEXTS + 1)], False),
        ([*range(MAX_OTHERS), "x"], True),
        ([*range(MAX_OTHERS + 1)], False),
        ([], False),
    ],
)
def test_long_lists_are_left_to_the_evaluator(value: list[Any], is_asked: bool) -> None:
    found = translate(parse_filter({"a": {"$in": value}}), Sets([{}], frozenset()))
    assert (found is not None) is is_asked


def test_only_plain_words_and_whole_strings_become_part_of_a_query() -> None:
    assert all(map(is_plain_path, ("a", "a_1", "1", "a.b", "in")))
    assert not any(map(is_plain_path, ("", ".", "a.", "a b", "a-b", "ü", "a[0]", 'a"', "a\\", "a\n")))
    assert all(map(is_safe_text, ("", "ü", "\n", '"', "\U0010ffff")))
    assert not any(map(is_safe_text, ("a\0", "\ud800")))
