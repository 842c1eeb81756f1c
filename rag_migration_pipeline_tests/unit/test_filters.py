"""The filter language means what its page says, and refuses what it cannot mean."""

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.filters import parse_filter, select_rows
from rag_migration_pipeline.records import DenseColumn, RecordBatch

PAYLOADS: list[dict[str, Any]] = [
    {"year": 2024, "kind": "a", "flag": True},
    {"year": 2024.0, "kind": "b", "flag": 1},
    {"year": "2024", "kind": None, "flag": False},
    {"year": 2025, "tags": ["x", 1]},
    {"year": True, "kind": ""},
    {"nested": {"a": [1]}, "tags": ["x", 1.0]},
    {},
]


def taken(value: dict[str, Any] | None) -> list[int]:
    size = len(PAYLOADS)
    batch = RecordBatch([*range(size)], {"": DenseColumn(np.zeros((size, 1), np.float32))}, PAYLOADS)
    return list(select_rows(batch, parse_filter(value)))


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6]),
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"year": 2024}, [0, 1]),
        ({"year": {"$eq": 2024}}, [0, 1]),
        ({"year": "2024"}, [2]),
        ({"year": True}, [4]),
        ({"flag": True}, [0]),
        ({"flag": 1}, [1]),
        ({"kind": None}, [2]),
        ({"kind": ""}, [4]),
        ({"year": {"$ne": 2024}}, [2, 3, 4, 5, 6]),
        ({"year": {"$gte": 2024, "$lt": 2025}}, [0, 1]),
        ({"year": {"$gt": 2024}}, [3]),
        ({"year": {"$lte": "3"}}, [2]),
        ({"year": {"$in": [2025, "2024"]}}, [2, 3]),
        ({"year": {"$in": []}}, []),
        ({"year": {"$nin": [2024, 2025]}}, [2, 4, 5, 6]),
        ({"tags": ["x", 1]}, [3, 5]),
        ({"nested": {"a": [1]}}, [5]),
        ({"nested": {"a": [1], "b": 1}}, []),
        ({"year": 2024, "kind": "a"}, [0]),
        ({"missing": None}, []),
        ({"missing": {"$ne": None}}, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_filter_takes_exactly_these_records(value: dict[str, Any] | None, rows: list[int]) -> None:
    assert taken(value) == rows


@given(st.sampled_from(["year", "kind", "flag", "tags", "nested"]), st.none() | st.booleans() | st.integers(0, 3000))
def test_ne_and_nin_are_the_negations_of_eq_and_in(field: str, value: Any) -> None:
    everything = set(range(len(PAYLOADS)))
    assert set(taken({field: {"$ne": value}})) == everything - set(taken({field: {"$eq": value}}))
    assert set(taken({field: {"$nin": [value]}})) == everything - set(taken({field: {"$in": [value]}}))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"$and": []}, ["'$and'", "$gte"]),
        ({"year": {"$regex": "x"}}, ["'year'", "'$regex'", "$gte"]),
        ({"year": {"$gte": 1, "plain": 2}}, ["'year'", "'plain'"]),
        ({"year": {"$gt": None}}, ["'year'", "$gt", "NoneType"]),
        ({"year": {"$gt": True}}, ["'year'", "$gt", "bool"]),
        ({"year": {"$in": "abc"}}, ["'year'", "$in", "str"]),
        ({"year": {"$nin": {"a": 1}}}, ["'year'", "$nin", "dict"]),
        ({"day": dt.date(2024, 1, 1)}, ["'day'", "date", "quotes"]),
        ({"day": {"$in": ["2024", dt.datetime(2024, 1, 1)]}}, ["'day'", "$in[1]", "datetime", "quotes"]),  # noqa: DTZ001 - as YAML reads it
        ({"nested": {"a": {1: "x"}}}, ["'nested'", "$eq.a", "key 1"]),
        ({"raw": b"x"}, ["'raw'", "bytes"]),
    ],
)
def test_a_filter_that_means_nothing_is_refused_by_field(value: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_filter(value)
    assert all(word in str(caught.value) for word in words), str(caught.value)
