"""A mapping does to records what it says, in its order, and names every record that it cannot be applied to.

Belongs here: each part of a mapping, by examples. Does not belong here: laws over generated records
(``test_mapper_laws.py``), and what a mapping may say (``test_mapping.py``).
"""

import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.mapping import parse_mapping
from rag_migration_pipeline.mapping.hooks import Record
from rag_migration_pipeline.mapping.mapper import MappingPlan
from rag_migration_pipeline.records import DenseColumn, RecordBatch, RecordId
from rag_migration_pipeline_tests.unit.mapper_samples import NOW, apply, batch_of
from rag_migration_pipeline_tests.unit.test_mapping import FEATURES


def mapped(values: dict[str, Any], *payloads: Any) -> list[Any]:
    """Return the payloads after a mapping that takes all of them."""
    found = apply(values, batch_of(list(payloads)))
    assert found.failed == {}
    return list(found.batch.payloads)


def reason(values: dict[str, Any], payload: Any, document: str | None = None) -> str:
    """Return why a record cannot be mapped; the one beside it can."""
    found = apply(values, batch_of([{}, payload], [None, document]) if "id" not in str(values) else batch_of([payload]))
    (said,) = found.failed.values()
    return said


def test_the_dict_of_the_feature_list_does_what_it_says() -> None:
    payload = {
        "doc_text": "words",
        "doc_id": "d-1",
        "timestamp": datetime(2025, 12, 27, 10, 30, 15, 250, tzinfo=UTC),
        "tags": ["a", "b"],
        "internal_cache": {"x": 1},
        "temp_data": None,
        "other": [1],
    }
    found = apply(FEATURES, batch_of([payload, {"doc_id": 7, "version": "1.0", "tags": "c"}], ids=["s1", "s2"]))
    at = FEATURES["defaults"]["migrated_at"]  # type: ignore[index]
    assert found.batch.ids == ["d-1", 7]
    assert found.batch.source_ids == ["s1", "s2"]
    assert list(found.batch.payloads) == [
        {"text": "words", "timestamp": 1766831415, "tags": "a,b", "other": [1], "version": "2.0", "migrated_at": at},
        {"tags": "c", "version": "1.0", "migrated_at": at},
    ]


# -- fields ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("renames", "payload", "wanted"),
    [
        ({"a": "b", "b": "a"}, {"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ({"a": "b", "b": "c"}, {"a": 1, "b": 2}, {"b": 1, "c": 2}),
        ({"a": "b"}, {"a": None}, {"b": None}),
        ({"a": "b"}, {"b": 1}, {"b": 1}),
        ({"a": "meta.a"}, {"a": 1, "meta": {"b": 2}}, {"meta": {"a": 1, "b": 2}}),
        ({"meta.a": "a"}, {"meta": {"a": 1}}, {"a": 1}),
        ({"meta.a": "a"}, {"meta": {"a": 1, "b": 2}}, {"a": 1, "meta": {"b": 2}}),
        ({"meta.*": "*"}, {"meta": {"a": 1, "b": {"c": 2}}, "d": 3}, {"a": 1, "b": {"c": 2}, "d": 3}),
        ({"meta.*": "m_*", "meta.id": "ref"}, {"meta": {"id": 1, "b": 2}}, {"ref": 1, "m_b": 2}),
        ({"m_*": "meta.*"}, {"m_a": 1, "m_": 2, "x": 3}, {"meta": {"a": 1, "": 2}, "x": 3}),
        ({"a.b": "a"}, {"a": {"b": 1}}, {"a": 1}),
        ({r"a\.b": "c"}, {"a.b": 1, "a": {"b": 2}}, {"c": 1, "a": {"b": 2}}),
        ({"a.b": "c"}, {"a.b": 1}, {"c": 1}),
        ({"x": r"\id", "y": r"\document"}, {"x": 1, "y": 2}, {"id": 1, "document": 2}),
        (
            {"id": "own_id", "": "empty", "\U0001f984": "horn"},
            {"id": 1, "": 2, "\U0001f984": 3},
            {"own_id": 1, "empty": 2, "horn": 3},
        ),
    ],
)
def test_fields_move_all_at_once(renames: dict[str, str], payload: Any, wanted: Any) -> None:
    before = copy.deepcopy(payload)
    assert mapped({"field_mapping": renames}, payload) == [wanted]
    assert payload == before, "what comes in is not changed"


@pytest.mark.parametrize(
    ("values", "payload", "said"),
    [
        ({"field_mapping": {"a": "b"}}, {"a": 1, "b": 2}, "already has the key 'b'"),
        ({"field_mapping": {"a": "m.b"}}, {"a": 1, "m": {"b": 2}}, "already has the key 'm.b'"),
        ({"field_mapping": {"a": "m.b"}}, {"a": 1, "m": 2}, "cannot put 'm.b' into 'm', which is no object"),
        ({"field_mapping": {"m.*": "*"}}, {"m": {"x": 1}, "x": 2}, "already has the key 'x'"),
        ({"field_mapping": {"m.x": "y"}}, {"m": [1]}, "leads into 'm', which is no object but a value of type list"),
        ({"field_mapping": {"a": "document"}}, {"a": 5}, "the document has to be a text, got int"),
        ({"field_mapping": {"a": "document"}}, {"a": None}, "the document has to be a text, got NoneType"),
        ({"transforms": {"n": "int"}}, {"n": "1.5"}, "field 'n': int: expected a whole number, got a text"),
        ({"transforms": {"n": len}}, {"n": 5}, "field 'n': builtins:len raised TypeError"),
        ({"transforms": {"n": np.float64}}, {"n": 5}, "a value of type float64 has no JSON form"),
        ({"transforms": {"n": "hashlib:sha256"}}, {"n": None}, "hashlib:sha256 raised TypeError"),
        ({"exclude_fields": ["a.b"]}, {"a": 5}, "leads into 'a'"),
        ({"defaults": {"a.b": 1}}, {"a": 5}, "leads into 'a'"),
    ],
)
def test_a_record_that_cannot_be_mapped_is_named_with_the_reason(values: Any, payload: Any, said: str) -> None:
    assert said in reason(values, payload)


def test_the_order_of_things_is_the_documented_one() -> None:
    values = {
        "pre_hooks": [seen_by_pre_hook],
        "transforms": {"a": lambda value: [*value, "transform"]},
        "field_mapping": {"a": "b"},
        "defaults": {"b": "not needed", "c": ["default"]},
        "exclude_fields": ["gone"],
        "per_record": [seen_per_record],
        "post_hooks": [seen_by_post_hook],
    }
    assert mapped(values, {"a": [], "gone": 1}) == [
        {"b": ["pre", "transform", "record", "post"], "c": ["default", "record", "post"]}
    ]


def seen_by_pre_hook(batch: RecordBatch) -> RecordBatch:
    return batch.with_columns(payloads=[{**p, "a": [*p["a"], "pre"]} for p in batch.payloads])


def seen_per_record(record: Record) -> Record:
    for value in record.payload.values():
        value.append("record")
    return record


def seen_by_post_hook(batch: RecordBatch) -> RecordBatch:
    assert all("gone" not in payload for payload in batch.payloads)
    for payload in batch.payloads:
        for value in payload.values():
            value.append("post")
    return batch


def test_including_keeps_the_named_fields_and_the_document() -> None:
    payload = {"a": 1, "meta": {"b": 2, "c": 3}, "tag_x": 4, "z": 5}
    found = apply({"include_fields": ["a", "meta.b", "tag_*", "none"]}, batch_of([payload], ["text"]))
    assert list(found.batch.payloads) == [{"a": 1, "meta": {"b": 2}, "tag_x": 4}]
    assert found.batch.documents == ["text"]


def test_excluding_takes_stars_and_the_document() -> None:
    payload = {"tmp_a": 1, "tmp_": 2, "keep": 3, "meta": {"x": 1, "y": 2}}
    found = apply({"exclude_fields": ["tmp_*", "meta.x", "$document"]}, batch_of([payload], ["text"]))
    assert list(found.batch.payloads) == [{"keep": 3, "meta": {"y": 2}}]
    assert found.batch.documents == [None]


def test_defaults_fill_what_is_missing_and_nothing_else() -> None:
    defaults = {
        "a": 1,
        "n": None,
        "l": [1],
        "m.x": 2,
        "document": "none",
        "at": "now",
        "day": datetime(2020, 1, 1, tzinfo=UTC),
    }
    found = apply({"defaults": defaults}, batch_of([{}, {"a": None, "m": {"x": 0, "y": 1}}], [None, ""]))
    first, second = found.batch.payloads
    assert first == {
        "a": 1,
        "n": None,
        "l": [1],
        "m": {"x": 2},
        "at": NOW,
        "day": datetime(2020, 1, 1, tzinfo=UTC),
    }
    assert second == {**first, "a": None, "m": {"x": 0, "y": 1}}
    assert found.batch.documents == ["none", ""]
    first["l"].append(2)
    assert second["l"] == [1], "no two records share a list"


def test_a_transform_may_give_a_default_where_it_fails() -> None:
    price = {"apply": ["strip", "float"], "on_error": {"default": 0.0}}
    rows = mapped({"transforms": {"price": price}}, {"price": " 1.5 "}, {"price": "free"}, {"price": None}, {})
    assert rows == [{"price": 1.5}, {"price": 0.0}, {"price": None}, {}]


def test_the_policy_of_a_transform_wins_over_that_of_the_mapping() -> None:
    values = {"transforms": {"a": {"apply": "int", "on_error": "fail"}, "b": "int"}}
    assert apply(values, batch_of([{"b": "x"}])).is_fatal is False
    assert apply(values, batch_of([{"a": "x"}])).is_fatal is True
    assert apply({**values, "on_error": "fail"}, batch_of([{"b": "x"}])).is_fatal is True


def test_a_document_can_be_transformed_moved_and_copied() -> None:
    batch = batch_of([{"text": "T", "n": 1}, {}], [None, " D "])
    found = apply({"transforms": {"$document": "strip"}, "field_mapping": {"text": "document"}}, batch).batch
    assert (found.documents, found.payloads) == (["T", "D"], [{"n": 1}, {}])
    found = apply({"document_from": "text"}, batch).batch
    assert (found.documents, found.payloads) == (["T", " D "], [{"text": "T", "n": 1}, {}])
    found = apply({"field_mapping": {"$document": "body", "text": "document"}}, batch).batch
    assert (found.documents, found.payloads) == (["T", None], [{"n": 1}, {"body": " D "}])
    taken = apply({"field_mapping": {"text": "document"}}, batch_of([{"text": "T"}], ["D"]))
    assert taken.failed == {0: "the record already has a document"}


# -- ids ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "new"),
    [
        (None, "007", "007"),
        (None, 7, 7),
        (None, -(2**63), -(2**63)),
        (None, 2**64 - 1, 2**64 - 1),
        ("int", "007", 7),
        ("int", "-7", -7),
        ("string", 7, "7"),
        ("string", "e\u0301 ", "e\u0301 "),
    ],
)
def test_an_id_comes_from_a_field(kind: str | None, value: Any, new: RecordId) -> None:
    values = {"id_from": "ref", **({"id_kind": kind} if kind else {})}
    found = apply(values, batch_of([{"ref": value}], ids=["old"]))
    assert found.batch.ids == [new]
    assert found.batch.source_ids == ["old"]
    assert list(found.batch.payloads) == [{"ref": value}], "the field stays"
    plan = MappingPlan([parse_mapping(values)], NOW)
    assert plan.id_mapper is not None
    assert plan.id_mapper.map_id({"ref": value}) == new


@pytest.mark.parametrize(
    ("kind", "payload", "said"),
    [
        (None, {}, "the field 'ref', which becomes the id, is missing"),
        (None, {"ref": None}, "is null"),
        (None, {"ref": True}, "expected a text or a whole number, got bool"),
        (None, {"ref": 1.0}, "expected a text or a whole number, got float"),
        (None, {"ref": 2**64}, "outside the range of 64-bit integers"),
        (None, {"ref": ["a"]}, "got list"),
        ("int", {"ref": "x"}, "expected a whole number"),
        ("int", {"ref": "9" * 30}, "outside the range of 64-bit integers"),
        ("uuid", {"ref": "x"}, "expected a UUID"),
        ("string", {"ref": 1.5}, "got float"),
    ],
)
def test_a_record_without_such_an_id_is_named(kind: str | None, payload: Any, said: str) -> None:
    found = apply({"id_from": "ref", **({"id_kind": kind} if kind else {})}, batch_of([payload]))
    assert said in found.failed[0]
    assert len(found.batch) == 0


def test_the_old_id_can_be_kept_under_a_key() -> None:
    values = {"field_mapping": {"ref": "id", "$id": "old_id"}, "transforms": {"ref": ["strip", "int"]}}
    found = apply(values, batch_of([{"ref": " 5 ", "n": 1}, {"ref": "6", "old_id": 1}], ids=["x", "y"]))
    assert found.batch.ids == [5]
    assert list(found.batch.payloads) == [{"old_id": "x", "n": 1}]
    assert found.failed == {1: "the record already has the key 'old_id'"}


# -- users' callables -----------------------------------------------------------------------------------------


def test_a_record_function_may_change_payload_and_document_alone() -> None:
    def change(record: Record) -> Record:
        return Record(record.id, {**record.payload, "n": len(record.document or "")}, (record.document or "") + "!")

    found = apply({"per_record": change}, batch_of([{"a": [1]}], ["abc"])).batch
    assert (found.payloads, found.documents) == ([{"a": [1], "n": 3}], ["abc!"])


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda record: None, "returned NoneType, expected the record"),
        (lambda record: record.payload, "returned dict, expected the record"),
        (lambda record: replace(record, id="other"), "returned a record with another id"),
        (lambda record: replace(record, payload=None), "the payload has to be a dict"),
        (lambda record: replace(record, payload={"a": object()}), "a value of type object has no JSON form"),
        (lambda record: replace(record, document=b"x"), "the document has to be a text or None, got bytes"),
        (lambda record: record.nothing, "raised AttributeError"),
    ],
)
def test_a_record_function_that_returns_something_else_sets_the_record_aside(function: Any, said: str) -> None:
    found = apply({"per_record": function}, batch_of([{"a": 1}]))
    assert said in found.failed[0]


@pytest.mark.parametrize("place", ["pre_hooks", "post_hooks"])
@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (lambda batch: None, "returned NoneType, expected a RecordBatch"),
        (lambda batch: batch.take([0]), "returned 1 records for 2"),
        (lambda batch: batch.take([1, 0]), "returned other ids"),
        (lambda batch: batch.with_columns(ids=["r0", "x"]), "returned other ids"),
        (lambda batch: batch.with_columns(vectors={}), "returned other vectors"),
        (lambda batch: batch.with_columns(vectors={"": DenseColumn(batch.dense().values + 1)}), "other vectors"),
        (lambda batch: batch.with_columns(payloads=[{}, {"a": object()}]), "a value of type object has no JSON form"),
        (lambda batch: batch.with_columns(documents=[None, 5]), "the document has to be a text or None, got int"),
        (lambda batch: batch.no_such_thing, "raised AttributeError"),
    ],
)
def test_a_hook_that_returns_something_else_stops_the_migration(place: str, hook: Any, said: str) -> None:
    with pytest.raises(SpecError, match="the hook rag_migration_pipeline_tests") as caught:
        apply({place: hook}, batch_of([{}, {}]))
    assert said in caught.value.what


def test_a_callable_cannot_reach_the_records_as_they_were_read() -> None:
    payloads = [{"deep": {"list": [1]}}]

    def spoil(batch: RecordBatch) -> RecordBatch:
        batch.payloads[0]["deep"]["list"].append(2)
        return batch

    assert mapped({"pre_hooks": spoil}, *payloads) == [{"deep": {"list": [1, 2]}}]
    assert mapped({"post_hooks": spoil}, *payloads) == [{"deep": {"list": [1, 2]}}]
    assert payloads == [{"deep": {"list": [1]}}]


# -- versions -------------------------------------------------------------------------------------------------


def test_deprecated_fields_travel_with_a_warning_until_they_are_dropped() -> None:
    deprecated = {"old": {"use": "new", "drop_at": 4}, "gone": {"drop_at": 3}, "kept": {}}
    batch = batch_of([{"old": 1, "gone": 2, "kept": 3}, {"old": 1}, {"x": 0}])
    early = apply({"version": 2, "deprecated": deprecated}, batch)
    assert list(early.batch.payloads) == [{"new": 1, "gone": 2, "kept": 3}, {"new": 1}, {"x": 0}]
    assert {name: count for name, count in early.deprecated.items() if count} == {"old": 2, "gone": 1, "kept": 1}
    later = apply({"version": 4, "deprecated": deprecated}, batch)
    assert list(later.batch.payloads) == [{"kept": 3}, {}, {"x": 0}]


def test_mappings_in_a_row_name_the_rows_of_the_batch_that_was_given() -> None:
    first = parse_mapping({"version": 2, "transforms": {"a": "int"}, "field_mapping": {"a": "b"}})
    second = parse_mapping({"version": 3, "transforms": {"b": "str", "c": "int"}})
    found = MappingPlan([first, second], NOW).apply(
        batch_of([{"a": "x"}, {"a": "1"}, {"a": "2", "c": "y"}, {"a": "3"}])
    )
    assert sorted(found.failed) == [0, 2]
    assert list(found.batch.payloads) == [{"b": "1"}, {"b": "3"}]
    assert found.batch.ids == ["r1", "r3"]
    assert found.batch.dense().values.tolist() == [[2.0, 3.0], [6.0, 7.0]]
