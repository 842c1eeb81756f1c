"""Payloads survive their text form with every value and type, and equal payloads have equal text."""

import datetime as dt
import math
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.payloads import check_json, decode, encode
from rag_migration_pipeline.records import IdKind
from rag_migration_pipeline_tests.contract.comparison import value_differences
from rag_migration_pipeline_tests.contract.samples import ALIEN_VALUES, AWKWARD_VALUES
from rag_migration_pipeline_tests.contract.strategies import json_values


@pytest.mark.parametrize("value", AWKWARD_VALUES, ids=lambda value: repr(value)[:30])
def test_awkward_values_survive(value: object) -> None:
    assert value_differences({"k": value}, decode(encode({"k": value}))) == []


@given(json_values())
def test_any_json_value_survives(value: object) -> None:
    assert value_differences(value, decode(encode(value))) == []


@given(st.dictionaries(st.text(), json_values(), max_size=5))
def test_the_order_of_keys_does_not_change_the_text(payload: dict[str, object]) -> None:
    assert encode(payload) == encode(dict(reversed(payload.items())))


def test_values_of_different_types_have_different_texts() -> None:
    values = [1, 1.0, True, "1", "true", None, "null", [], {}, "", 0, -0.0, 0.0, False, [1], ["1"], {"a": 1}, 2**70]
    assert len({encode(value) for value in values}) == len(values)


def test_text_is_text_for_files() -> None:
    """No lone surrogate reaches a file: the text always has a UTF-8 form."""
    for value in ("\ud800", {"\udfff": 1}, "naïve 漢字 🜚", float("nan"), -math.inf, 2**64):
        encode(value).encode("utf-8")


@pytest.mark.parametrize("value", ALIEN_VALUES, ids=lambda value: repr(value)[:30])
def test_what_json_does_not_have_is_refused_with_its_place(value: object) -> None:
    with pytest.raises(TypeError, match=r"payload\.deep\[1\]"):
        check_json({"deep": [0, value]})


def test_what_is_written_by_value_is_written_as_that_value() -> None:
    """Tuples, UUIDs and string enums have a text; no store gives them, and screening refuses them before a write."""
    assert encode([(1, 2), uuid.UUID(int=7), IdKind.UUID]) == encode([[1, 2], str(uuid.UUID(int=7)), "uuid"])
    others = [
        value for value in ALIEN_VALUES if not isinstance(value, tuple | uuid.UUID | str) and repr(value) != "[(1,)]"
    ]
    for value in others:
        with pytest.raises(TypeError):
            encode({"deep": value})


def test_keys_that_are_no_strings_are_refused() -> None:
    for key in (1, None, True, (1,), np.int64(1), dt.date(2024, 1, 2)):
        with pytest.raises(TypeError, match="expected str"):
            encode({"a": {key: 1}})
