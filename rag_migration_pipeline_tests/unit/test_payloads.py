"""Payloads survive their text form with every value and type, and equal payloads have equal text."""

import datetime as dt
import json
import math
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.payloads import check_json, decode, encode, has_typed, natural_form
from rag_migration_pipeline.records import IdKind
from rag_migration_pipeline_tests.contract.comparison import value_differences
from rag_migration_pipeline_tests.contract.samples import ALIEN_VALUES, AWKWARD_VALUES
from rag_migration_pipeline_tests.contract.strategies import json_values


class Text(str):
    """A string that is not of type str."""

    __slots__ = ()


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


@pytest.mark.parametrize("value", ALIEN_VALUES, ids=lambda value: type(value).__name__)
def test_what_json_does_not_have_is_refused_with_its_place(value: object) -> None:
    with pytest.raises(TypeError, match=r"payload\.deep\[1\]"):
        check_json({"deep": [0, value]})


@pytest.mark.parametrize("value", ALIEN_VALUES, ids=lambda value: type(value).__name__)
def test_what_json_does_not_have_comes_back_with_its_type_or_is_refused(value: object) -> None:
    """Nothing is written as if it were something else: a tuple is no list, a UUID no text, an enum not its value."""
    if not has_typed(value):
        with pytest.raises(TypeError, match=r"payload\.deep\[1\]"):
            encode({"deep": [0, value]})
        return
    text = encode({"deep": [0, value]})
    found = decode(text)["deep"][1]
    assert type(found) is type(value)
    assert found == value
    assert text != encode({"deep": [0, natural_form(value)]})


def test_a_users_object_that_looks_like_a_tagged_value_is_kept() -> None:
    looks = [{"_rmp_type": "date", "value": "2024-01-02"}, {"_rmp_type": None}, {"_rmp_type": {"_rmp_type": b"x"}}]
    for value in (looks, *looks, "_rmp_type", ["_rmp_type"], {"a": {"_rmp_type": "object", "value": []}}):
        assert decode(encode(value)) == value


def test_a_damaged_tag_is_an_error_that_names_it() -> None:
    for name in ("datetime", "date", "bytes", "decimal", "uuid", "object", "nothing", None, []):
        for value in ("x", None, [1]):
            with pytest.raises(ValueError, match="damaged value of type"):
                decode(" " + json.dumps({"_rmp_type": name, "value": value}))


@pytest.mark.parametrize("key", [Text("k"), IdKind.UUID])
def test_a_key_that_is_almost_a_string_is_refused(key: str) -> None:
    with pytest.raises(TypeError, match="expected str"):
        encode({key: 1})


def test_equal_sets_have_equal_text() -> None:
    assert encode({"b", "a", 1}) == encode({1, "a", "b"})


def test_datetimes_in_utc_sort_as_text_by_time() -> None:
    zones = (dt.UTC, dt.timezone(dt.timedelta(hours=5)), dt.timezone(-dt.timedelta(hours=5)), ZoneInfo("Asia/Tokyo"))
    moments = [dt.datetime(2024, 1, 1 + day, 3, 4, 5, day * 7, zone) for day in range(3) for zone in zones]
    assert sorted(moments, key=natural_form) == sorted(moments)


def test_keys_that_are_no_strings_are_refused() -> None:
    for key in (1, None, True, (1,), np.int64(1), dt.date(2024, 1, 2)):
        with pytest.raises(TypeError, match="expected str"):
            encode({"a": {key: 1}})
