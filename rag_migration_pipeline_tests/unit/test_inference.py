"""A profile tells exactly what payloads hold, and a field that follows from it holds every value that was seen."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.inference import KeyProfile, SchemaProfile, ValueKind, infer_fields, profile_batches
from rag_migration_pipeline.records import INT64_MAX, INT64_MIN, DenseColumn, FieldSpec, RecordBatch
from rag_migration_pipeline.stores.capabilities import FieldRules, PayloadRules
from rag_migration_pipeline_tests.contract.strategies import json_values

RULES = FieldRules(
    types=frozenset({"string", "int64", "float64", "bool", "json", "array"}),
    element_types=frozenset({"string", "int64", "float64", "bool"}),
    has_nullable=False,
    has_json_lists=False,
    counts_characters=False,
    max_text_bytes=65_535,
    max_json_bytes=65_536,
    max_items=4_096,
    name_pattern=r"[A-Za-z_][A-Za-z0-9_]{0,254}",
)


def batch_of(payloads: list[dict[str, Any]], documents: list[str | None] | None = None) -> RecordBatch:
    return RecordBatch(
        list(range(len(payloads))), {"": DenseColumn(np.ones((len(payloads), 1), np.float32))}, payloads, documents
    )


def profile_of(*payloads: dict[str, Any], rules: PayloadRules | None = None) -> SchemaProfile:
    return profile_batches([batch_of(list(payloads))], rules)


def fields_of(*values: Any, rules: FieldRules = RULES) -> tuple[FieldSpec, ...]:
    """Return what is inferred for a key with these values, one per record."""
    return infer_fields(profile_of(*({"k": value} for value in values), rules=PayloadRules()), rules)


def test_missing_null_and_empty_are_three_things() -> None:
    profile = profile_of({"a": None, "b": "", "c": []}, {"a": 1}, {})
    assert {key: profile.missing(key) for key in ("a", "b", "c", "d")} == {"a": 1, "b": 2, "c": 2, "d": 3}
    assert profile.keys["a"].nulls == 1
    assert profile.keys["a"].kind is ValueKind.INT
    assert profile.keys["b"].kinds == {ValueKind.STRING: 1}
    assert profile.keys["c"].empty_lists == 1


def test_types_are_told_apart_as_json_does() -> None:
    profile = profile_of(*({"k": value} for value in (True, 1, 1.0, "1", None, [1], {"a": 1}, b"1", (1,))))
    assert profile.keys["k"].kinds == dict.fromkeys(ValueKind, 1) | {ValueKind.OTHER: 2}
    assert profile.keys["k"].kind is None


def test_lengths_are_bytes_and_ranges_include_items_of_lists() -> None:
    key = profile_of({"k": "漢字"}, {"k": ["ü" * 5, ""]}, {"k": [-7, 3.5, float("nan")]}, {"k": 9}).keys["k"]
    assert (key.max_bytes, key.max_item_bytes, key.max_items) == (6, 10, 3)
    assert (key.int_min, key.int_max, key.non_finite, key.mixed_lists) == (-7, 9, 1, 1)
    assert key.max_json_bytes == len('["üüüüü",""]'.encode())


def test_documents_are_profiled_beside_the_payload() -> None:
    profile = profile_batches([batch_of([{}, {}, {}], ["", None, "üü"]), batch_of([{}])])
    assert (profile.count, profile.documents.present, profile.documents.max_bytes) == (4, 2, 4)


def test_values_that_rules_refuse_are_counted_with_their_reasons() -> None:
    key = profile_of({"k": None}, {"k": None}, {"k": 2**70}, {"k": 1}, rules=PayloadRules(has_null=False)).keys["k"]
    assert key.refused == 3
    assert [reason[:16] for reason in key.reasons] == ["null", "an integer outsi"]
    assert profile_of({"k": None}).keys["k"].refused == 0


@given(payloads=st.lists(st.dictionaries(st.sampled_from("abc"), json_values(), max_size=3)), cut=st.integers(0, 5))
def test_a_profile_does_not_depend_on_the_cut_into_batches(payloads: list[dict[str, Any]], cut: int) -> None:
    """Whatever the batches, the profile is that of all records."""
    parts = [batch_of(payloads[:cut]), batch_of(payloads[cut:])]
    assert profile_batches(parts, PayloadRules()) == profile_batches([batch_of(payloads)], PayloadRules())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([True, False], FieldSpec("k", "bool")),
        ([INT64_MIN, INT64_MAX], FieldSpec("k", "int")),
        ([0.1, -0.0], FieldSpec("k", "float")),
        (["", "ü" * 100], FieldSpec("k", "string", max_length_bytes=400)),
        (["a"], FieldSpec("k", "string", max_length_bytes=64)),
        (["x" * 40_000], FieldSpec("k", "string", max_length_bytes=65_535)),
        ([{"a": [1, None]}, {}], FieldSpec("k", "json")),
        ([["a"], []], FieldSpec("k", "array", element_type="string", max_length_bytes=64, max_items=16)),
        ([[1] * 100], FieldSpec("k", "array", element_type="int", max_items=200)),
        ([[1.5]], FieldSpec("k", "array", element_type="float", max_items=16)),
        ([[True]], FieldSpec("k", "array", element_type="bool", max_items=16)),
    ],
)
def test_a_key_of_one_type_becomes_a_field_with_room(values: list[Any], expected: FieldSpec) -> None:
    assert fields_of(*values) == (expected,)


@pytest.mark.parametrize(
    "values",
    [
        [1, 1.0],
        [1, True],
        ["a", 1],
        ["a", None],
        [None],
        [INT64_MAX + 1],
        [float("inf")],
        ["x" * 65_536],
        ["\ud800"],
        [[]],
        [[1, "a"]],
        [[1], ["a"]],
        [[1, None]],
        [[[1]]],
        [[{"a": 1}]],
        [[1] * 4_097],
        [["x" * 65_536]],
        [[2**63]],
        [{"a": "x" * 65_536}],
        [{"a": float("nan")}],
        [[], {}],
        [b"bytes"],
    ],
)
def test_what_no_field_holds_exactly_stays_untyped(values: list[Any]) -> None:
    assert fields_of(*values) == ()


def test_a_key_that_a_record_lacks_stays_untyped() -> None:
    """A typed field would answer null, or a filler, where nothing was."""
    profile = profile_of({"always": 1, "once": 1}, {"always": 2})
    assert [item.name for item in infer_fields(profile, RULES)] == ["always"]


def test_null_makes_a_nullable_field_where_the_store_has_them() -> None:
    rules = replace(RULES, has_nullable=True)
    assert fields_of(1, None, rules=rules) == (FieldSpec("k", "int", is_nullable=True),)
    assert fields_of(None, rules=rules) == ()
    assert fields_of(1, None) == ()


def test_names_that_are_taken_or_not_allowed_stay_untyped() -> None:
    profile = profile_of({"id": 1, "a.b": 1, "": 1, "ü": 1, "$meta": 1, "fine_1": 1})
    assert [item.name for item in infer_fields(profile, RULES, {"id"})] == ["fine_1"]


@given(values=st.lists(json_values(), min_size=1, max_size=4))
def test_an_inferred_field_holds_every_value_seen(values: list[Any]) -> None:
    for item in fields_of(*values):
        for value in values:
            assert _holds(item, value), (item, value)


def _holds(item: FieldSpec, value: Any) -> bool:
    """Return whether a value is of the field's type and within its limits, told without the profile's code."""
    expected: dict[str, type] = {"string": str, "int": int, "float": float, "bool": bool, "json": dict, "array": list}
    if type(value) is not expected[item.type]:
        return False
    if item.type == "array":
        inner = FieldSpec("item", item.element_type or "", max_length_bytes=item.max_length_bytes)
        return len(value) <= (item.max_items or 0) and all(_holds(inner, part) for part in value)
    if item.type == "string":
        return len(value.encode()) <= (item.max_length_bytes or 0)
    return item.type != "int" or INT64_MIN <= value <= INT64_MAX


def test_profiles_start_empty() -> None:
    assert (KeyProfile().kind, SchemaProfile().missing("k")) == (None, 0)
