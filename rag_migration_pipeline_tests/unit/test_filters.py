"""The filter language means what docs/filters.md says, and refuses what it cannot mean."""

import contextlib
import datetime as dt
import json
import math
import re
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.filters.meaning import select_ids, select_rows
from rag_migration_pipeline.filters.nodes import Not, all_of, as_dict
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.records import DenseColumn, Payload, RecordBatch, RecordId
from rag_migration_pipeline_tests.filters import strategies

PAYLOADS: list[dict[str, Any]] = [
    {"year": 2024, "kind": "a", "flag": True},
    {"year": 2024.0, "kind": "b", "flag": 1},
    {"year": "2024", "kind": None, "flag": False},
    {"year": 2025, "tags": ["x", 1]},
    {"year": True, "kind": ""},
    {"nested": {"a": [1]}, "tags": ["x", 1.0]},
    {},
]
UUID = uuid.UUID("2f0d1c1e-0000-4000-8000-00000000abcd")


def batch_of(payloads: list[Payload], ids: list[RecordId] | None = None, documents: Any = None) -> RecordBatch:
    size = len(payloads)
    return RecordBatch(ids or [*range(size)], {"": DenseColumn(np.zeros((size, 1), np.float32))}, payloads, documents)


def taken(value: dict[str, Any] | str | None, payloads: list[Payload] = PAYLOADS) -> list[int]:
    return list(select_rows(batch_of(payloads), parse_filter(value)))


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
        ({"year": {"$in": [True, None]}}, [4]),
        ({"tags": ["x", 1]}, [3, 5]),
        ({"tags": {"$in": [["x", 1]]}}, [3, 5]),
        ({"tags": "x"}, []),
        ({"nested": {"a": [1]}}, [5]),
        ({"nested": {"a": [1], "b": 1}}, []),
        ({"year": 2024, "kind": "a"}, [0]),
        ({"missing": None}, []),
        ({"missing": {"$ne": None}}, [0, 1, 2, 3, 4, 5, 6]),
        ({"kind": {"$exists": True}}, [0, 1, 2, 4]),
        ({"kind": {"$exists": False}}, [3, 5, 6]),
        ({"tags": {"$contains": "x"}}, [3, 5]),
        ({"tags": {"$contains": 1}}, [3, 5]),
        ({"tags": {"$contains": True}}, []),
        ({"year": {"$contains": "02"}}, [2]),
        ({"year": {"$contains": 2024}}, []),
        ({"kind": {"$contains": ""}}, [0, 1, 4]),
        ({"tags": {"$not_contains": "x"}}, [0, 1, 2, 4, 6]),
        ({"nested.a": [1]}, [5]),
        ({"nested.a": {"$contains": 1}}, [5]),
        ({"nested.a.b": {"$exists": True}}, []),
        ({"kind.a": {"$exists": False}}, [0, 1, 2, 3, 4, 5, 6]),
        ({"year": {"$regex": "^20"}}, [2]),
        ({"kind": {"$regex": "(?i)A|^$"}}, [0, 4]),
        ({"year": {"$like": "20__"}}, [2]),
        ({"kind": {"$like": "%"}}, [0, 1, 4]),
        ({"$and": [{"year": 2024}, {"kind": "b"}]}, [1]),
        ({"$or": [{"year": 2025}, {"kind": "b"}]}, [1, 3]),
        ({"$or": [{}, {"kind": "b"}]}, [0, 1, 2, 3, 4, 5, 6]),
        ({"$not": {"year": 2024}}, [2, 3, 4, 5, 6]),
        ({"year": {"$not": {"$gt": 2024}}}, [0, 1, 2, 4, 5, 6]),
        ({"year": {"$not": {"$gte": 2024, "$lt": 2025}}}, [2, 3, 4, 5, 6]),
        ({"$or": [{"year": 2025}, {"$and": [{"year": 2024}, {"$not": {"kind": "a"}}]}]}, [1, 3]),
        ({"$and": [{"year": {"$exists": True}}], "flag": 1}, [1]),
    ],
)
def test_a_filter_takes_exactly_these_records(value: dict[str, Any] | None, rows: list[int]) -> None:
    assert taken(value) == rows


@pytest.mark.parametrize(
    ("value", "matching"),
    [
        # The filters of the feature list, each with a record that it takes.
        ({"status": "published", "year": 2025}, {"status": "published", "year": 2025}),
        (
            {"document_type": "report", "department": "engineering", "confidential": False, "version": "2.0"},
            {"document_type": "report", "department": "engineering", "confidential": False, "version": "2.0"},
        ),
        ({"verified": True, "active": True}, {"verified": True, "active": True}),
        ({"priority": "high", "status": "active"}, {"priority": "high", "status": "active"}),
        ({"status": "archived", "year": {"$lt": 2024}}, {"status": "archived", "year": 2023}),
        ("status=active,year=2025", {"status": "active", "year": 2025}),
    ],
)
def test_every_filter_of_the_feature_list_means_the_obvious(value: Any, matching: Payload) -> None:
    others = [{**matching, key: "other"} for key in matching] + [{}]
    assert taken(value, [matching, *others]) == [0]


def test_integers_and_floats_compare_as_exact_numbers() -> None:
    payloads = [{"n": 2**53}, {"n": 2**53 + 1}, {"n": float(2**53)}, {"n": 2**64}, {"n": -0.0}, {"n": math.nan}]
    assert taken({"n": 2**53}, payloads) == [0, 2]
    assert taken({"n": 2**53 + 1}, payloads) == [1]
    assert taken({"n": float(2**53)}, payloads) == [0, 2]
    assert taken({"n": {"$in": [float(2**53), 2**64]}}, payloads) == [0, 2, 3]
    assert taken({"n": {"$gt": float(2**53)}}, payloads) == [1, 3]
    assert taken({"n": 0}, payloads) == [4]


def test_nan_equals_nothing_and_is_ordered_with_nothing() -> None:
    nan = math.nan
    payloads = [{"n": nan}, {"n": 1}, {"n": [nan]}]
    for wanted in (nan, [nan]):
        assert taken({"n": wanted}, payloads) == []
        assert taken({"n": {"$ne": wanted}}, payloads) == [0, 1, 2]
    assert taken({"n": {"$in": [nan, 1]}}, payloads) == [1]
    assert taken({"n": {"$contains": nan}}, payloads) == []
    assert [taken({"n": {name: 0}}, payloads) for name in ("$gt", "$lte")] == [[1], []]


def test_strings_are_ordered_by_code_point() -> None:
    texts = ["Z", "a", "z", "ä", "\ud7ff", "\uffff", "🜚"]
    payloads = [{"t": text} for text in texts]
    for position, text in enumerate(texts):
        assert taken({"t": {"$gt": text}}, payloads) == list(range(position + 1, len(texts)))


def test_a_key_with_dots_wins_over_a_path() -> None:
    payloads = [{"a.b": 1, "a": {"b": 2}}, {"a": {"b": 2}}, {"a": {"b": {"c": 3}}}, {"a": [{"b": 2}]}, {"a.b": None}]
    assert taken({"a.b": 1}, payloads) == [0]
    assert taken({"a.b": 2}, payloads) == [1]
    assert taken({"a.b.c": 3}, payloads) == [2]
    assert taken({"a.b": None}, payloads) == [4]
    assert taken({"a.b": {"$exists": False}}, payloads) == [3]


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("a%", ["a", "ab", "a%b", "a\nb"]),
        ("a\\%b", ["a%b"]),
        ("_", ["a", "%", ".", "🜚", "\\"]),
        ("%\\\\%", ["\\"]),
        (".", ["."]),
        ("%B", []),
        ("", []),
    ],
)
def test_like_matches_the_whole_string(pattern: str, texts: list[str]) -> None:
    every = ["a", "ab", "a%b", "a\nb", "%", ".", "🜚", "\\", "xyz"]
    found = taken({"t": {"$like": pattern}}, [{"t": text} for text in every])
    assert [every[row] for row in found] == texts


def test_ids_are_compared_by_kind_and_a_uuid_by_its_canonical_text() -> None:
    ids: list[RecordId] = ["7", 7, "007", UUID, str(UUID), str(UUID).upper(), -1]

    def found(value: Any) -> list[int]:
        wanted = parse_filter({"$id": value})
        assert list(select_ids(ids, wanted)) == list(select_rows(batch_of([{}] * len(ids), ids), wanted))
        return list(select_ids(ids, wanted))

    assert found("7") == [0]
    assert found(7) == [1]
    assert found({"$in": [7, "007"]}) == [1, 2]
    assert found(str(UUID)) == [3, 4]
    assert found({"$uuid": str(UUID).upper()}) == found(UUID) == [3]
    assert found({"$in": [{"$uuid": str(UUID)}, "7"]}) == [0, 3]
    assert found({"$nin": [{"$uuid": str(UUID)}, "7"]}) == [1, 2, 4, 5, 6]
    assert found({"$like": "2f0d%"}) == [3, 4]
    assert found({"$lt": 7}) == [6]
    assert found({"$not": {"$gt": "1"}}) == [1, 2, 6]


def test_documents_are_texts_or_missing() -> None:
    batch = batch_of([{"document": "x"}] * 3, documents=["a text", "", None])
    assert select_rows(batch, parse_filter({"$document": {"$contains": "text"}})) == [0]
    assert select_rows(batch, parse_filter({"$document": ""})) == [1]
    assert select_rows(batch, parse_filter({"$document": {"$exists": False}})) == [2]
    assert select_rows(batch, parse_filter({"$document": {"$ne": ""}})) == [0, 2]
    assert select_rows(batch_of([{}]), parse_filter({"$document": {"$exists": True}})) == []


@given(strategies.filters(), st.lists(strategies.payloads(), min_size=1, max_size=6))
def test_a_negation_takes_exactly_the_others(wanted: Any, payloads: list[Payload]) -> None:
    batch = batch_of(payloads)
    assert sorted([*select_rows(batch, wanted), *select_rows(batch, Not(wanted))]) == list(range(len(payloads)))


@given(strategies.fields(), strategies.values(), st.lists(strategies.payloads(), min_size=1, max_size=6))
def test_ne_and_nin_are_the_negations_of_eq_and_in(field: str, value: Any, payloads: list[Payload]) -> None:
    everything = set(range(len(payloads)))
    pairs = {"$ne": ("$eq", value), "$nin": ("$in", [value]), "$not_contains": ("$contains", value)}
    for negation, (operator, operand) in pairs.items():
        got = set(taken({field: {negation: operand}}, payloads))
        assert got == everything - set(taken({field: {operator: operand}}, payloads))


@given(strategies.filters())
def test_a_printed_filter_is_read_as_the_same_tree(wanted: Any) -> None:
    printed = as_dict(wanted)
    assert parse_filter(printed) == all_of([wanted])
    assert parse_filter(json.dumps(printed)) == all_of([wanted])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"$and": []}, ["'$and'", "at least one"]),
        ({"$or": {"a": 1}}, ["'$or'", "list", "dict"]),
        ({"$or": [{"a": 1}, {"year": {"$foo": 1}}]}, ["$or[1].year", "'$foo'", "$gte"]),
        ({"$or": [{"a": 1}, 3]}, ["$or[1]", "int"]),
        ({"$not": {"$and": [{"a": {"$not": {"$gt": []}}}]}}, ["$not.$and[0].a.$not", "'a'", "list"]),
        ({"$not": {}}, ["$not", "empty"]),
        ({"year": {"$not": 3}}, ["'year'", "$not", "$gt"]),
        ({"$nor": [{"a": 1}]}, ["'$nor'", "$or", "$id"]),
        ({2024: "x"}, ["2024", "int"]),
        ({"year": {"$gte": 1, "plain": 2}}, ["'year'", "'plain'"]),
        ({"year": {"$gt": None}}, ["'year'", "$gt", "NoneType"]),
        ({"year": {"$gt": True}}, ["'year'", "$gt", "bool"]),
        ({"year": {"$in": "abc"}}, ["'year'", "$in", "str"]),
        ({"year": {"$nin": {"a": 1}}}, ["'year'", "$nin", "dict"]),
        ({"year": {"$exists": 1}}, ["'year'", "$exists", "int"]),
        ({"year": {"$regex": "("}}, ["'year'", "regular expression"]),
        ({"year": {"$regex": 3}}, ["'year'", "$regex", "int"]),
        ({"year": {"$like": "a\\"}}, ["'year'", "backslash"]),
        ({"day": dt.date(2024, 1, 1)}, ["'day'", "date", "quotes"]),
        ({"day": {"$in": ["2024", dt.datetime(2024, 1, 1)]}}, ["'day'", "$in[1]", "datetime", "quotes"]),  # noqa: DTZ001 - as YAML reads it
        ({"nested": {"a": {1: "x"}}}, ["'nested'", "$eq.a", "key 1"]),
        ({"raw": b"x"}, ["'raw'", "bytes"]),
        ({"$id": True}, ["'$id'", "bool"]),
        ({"$id": {"$in": [1.5]}}, ["'$id'", "float"]),
        ({"$id": {"$uuid": "no"}}, ["'$id'", "$uuid", "'no'"]),
        ({"$id": {"$gt": {"$uuid": str(UUID)}}}, ["'$id'", "$gt", "UUID"]),
        ({"other": {"$uuid": str(UUID)}}, ["'other'", "'$uuid'"]),
        ({"$document": None}, ["'$document'", "NoneType", "$exists"]),
        ({"$document": {"$in": ["a", 1]}}, ["'$document'", "int"]),
        ('{"a": 1, "a": 2}', ["'a'", "twice"]),
        ("{a: 1}", ["JSON"]),
    ],
)
def test_a_filter_that_means_nothing_is_refused_by_its_place(value: Any, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_filter(value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_filter_that_is_nested_without_end_is_refused() -> None:
    value: dict[str, Any] = {"a": 1}
    field: Any = {"$gt": 1}
    deep: Any = 1
    for _ in range(2_000):
        value, field, deep = {"$not": value}, {"$not": field}, [deep]
    for wrong in (value, {"a": field}, {"a": deep}, '{"a":' + "[" * 100_000):
        with pytest.raises(SpecError):
            parse_filter(wrong)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        ("  ", {}),
        (
            "status=active,year>=2024,tag in (a,b)",
            {"status": "active", "year": {"$gte": 2024}, "tag": {"$in": ["a", "b"]}},
        ),
        (" status = active , year < 2024 ", {"status": "active", "year": {"$lt": 2024}}),
        ("year>=2020,year<2024", {"$and": [{"year": {"$gte": 2020}}, {"year": {"$lt": 2024}}]}),
        ("a!=1,b<=2.5,c>-1e3", {"a": {"$ne": 1}, "b": {"$lte": 2.5}, "c": {"$gt": -1000.0}}),
        (
            "a=true,b=FALSE,c=null,d=007,e=1.,f=0x1",
            {"a": True, "b": False, "c": None, "d": "007", "e": "1.", "f": "0x1"},
        ),
        ("""a='true',b="2024",c=''""", {"a": "true", "b": "2024", "c": ""}),
        (r"""a='it\'s',b="say \"x\\",c='C:\dir' """, {"a": "it's", "b": 'say "x\\', "c": r"C:\dir"}),
        ("'a b'=\"x, y (z)\"", {"a b": "x, y (z)"}),
        ("tag not in (a, 'b c' ,3)", {"tag": {"$nin": ["a", "b c", 3]}}),
        ("tag in ()", {"tag": {"$in": []}}),
        ("a exists,b not exists", {"a": {"$exists": True}, "b": {"$exists": False}}),
        ("a contains x,b not contains 3", {"a": {"$contains": "x"}, "b": {"$not_contains": 3}}),
        ("a like 'x%',b not like x_", {"a": {"$like": "x%"}, "$not": {"b": {"$like": "x_"}}}),
        ("meta.origin=http://x/?q&r;s", {"meta.origin": "http://x/?q&r;s"}),
        ("$id in (1,'1'),$document contains x", {"$id": {"$in": [1, "1"]}, "$document": {"$contains": "x"}}),
        ("in=1,not='x',exists>2", {"in": 1, "not": "x", "exists": {"$gt": 2}}),
        ("ü=漢字", {"ü": "漢字"}),
        ("a={}", {"a": "{}"}),
    ],
)
def test_the_short_form_is_read_as_its_long_form(text: str, value: dict[str, Any]) -> None:
    assert parse_filter(text) == parse_filter(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("status", ["position 7", "="]),
        ("status=", ["position 8", "a value", "the end"]),
        ("status=a b", ["position 10", "'b'", "comma"]),
        ("status=a,", ["position 10", "name of a field"]),
        ("=a", ["position 1", "name of a field"]),
        ("a==1", ["position 3", "'='"]),
        ("a=>1", ["position 3", "'>'"]),
        ("a='x", ["position 3", "does not end"]),
        ("a!1", ["position 2", "'!'"]),
        ("a in b", ["position 6", "opening bracket", "'b'"]),
        ("a in (b", ["position 8", "closing bracket"]),
        ("a in (b c)", ["position 9", "'c'"]),
        ("a in (b,)", ["position 9", "a value", "')'"]),
        ("a not 3", ["position 7", "'3'"]),
        ("a near 3", ["position 3", "'near'"]),
        ("$and=1", ["position 1", "$id"]),
        ("a>true", ["'a'", "position 2", "bool"]),
        ("$document=3", ["'$document'", "position 10", "int"]),
        ("a=1e999", ["position 3", "fits"]),
        ("a=" + "1" * 5_000, ["position 3", "fits"]),
        ("a=1)", ["position 4", "')'"]),
    ],
)
def test_a_short_form_that_means_nothing_is_refused_by_its_position(text: str, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_filter(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)


_SIGNS = {"$eq": "=", "$ne": "!=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def _written(value: Any) -> str:
    if isinstance(value, str):
        return '"' + re.sub(r'([\\"])', r"\\\1", value) + '"'
    return json.dumps(value)


@given(
    strategies.texts().filter(lambda name: not name.startswith("$")),
    st.sampled_from([*_SIGNS, "$in", "$nin"]),
    st.lists(strategies.texts() | strategies.numbers(), max_size=3),
)
def test_any_text_can_be_quoted_in_the_short_form(field: str, operator: str, values: list[Any]) -> None:
    operand: Any = values if operator in ("$in", "$nin") else (values or ["x"])[0]
    if operator in _SIGNS:
        text = f"{_written(field)}{_SIGNS[operator]}{_written(operand)}"
    else:
        listed = ", ".join(map(_written, operand))
        text = f"{_written(field)} {'not ' * (operator == '$nin')}in ({listed})"
    assert parse_filter(text) == parse_filter({field: {operator: operand}})


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | strategies.texts())
def test_any_text_is_a_filter_or_our_error(text: str) -> None:
    with contextlib.suppress(SpecError):
        parse_filter(text)


def test_options_keep_a_text_as_the_dict_that_means_the_same() -> None:
    options = MigrationOptions.model_validate({"filter": "status=active,year>=2024"})
    assert options.filter == {"status": "active", "year": {"$gte": 2024}}
    assert options.plan_fingerprint()["filter"] == options.filter
    assert MigrationOptions(filter={"$id": UUID}).filter == {"$id": {"$eq": {"$uuid": str(UUID)}}}


class _Untouchable(dict[str, Any]):
    """A payload that must not be looked at."""

    def get(self, *_: Any) -> Any:
        raise AssertionError("a record was looked at")

    __getitem__ = __contains__ = get  # type: ignore[assignment]


@pytest.mark.parametrize("value", [None, {}, ""])
def test_an_absent_filter_looks_at_no_record(value: Any) -> None:
    rows = select_rows(batch_of([_Untouchable(a=1)] * 3), parse_filter(value))
    assert rows == range(3), "positions without a list of them"
