"""The option ``target_fields`` says what it means, is refused by name where it is wrong, and decides what is typed."""

from dataclasses import replace
from typing import Any

import pytest

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.inference import SchemaProfile
from rag_migration_pipeline.records import CollectionSpec, FieldSpec, IdKind
from rag_migration_pipeline.stores.abilities import abilities
from rag_migration_pipeline.target_fields import (
    FieldRequest,
    choose_fields,
    parse_target_fields,
    refuse_other_fields,
)
from rag_migration_pipeline_tests.unit.test_inference import batch_of

STORES = abilities()
SERVER, LITE, MEMORY = STORES["Milvus server"], STORES["Milvus Lite file"], STORES["memory"]
TYPED = (
    FieldSpec("title", "string", max_length_bytes=100, is_indexed=True),
    FieldSpec("maybe", "int", is_nullable=True),
    FieldSpec("small", "int", bits=8, default=7),
    FieldSpec("more", "json"),
    FieldSpec("tags", "array", element_type="float", bits=32, max_items=3),
    FieldSpec("document", "string", max_length_bytes=65_535),
)
SOURCE = CollectionSpec("c", (), frozenset({IdKind.STRING}), TYPED)


def chosen(
    value: Any, *, source: Any = SERVER, target: Any = SERVER, seen: SchemaProfile | None = None
) -> tuple[list[str], list[str]]:
    request = parse_target_fields(value)
    fields, problems = choose_fields(request, (SOURCE, source), target, taken={"id", "document"}, seen=seen)
    return [item.name for item in fields], problems


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("int64", FieldSpec("k", "int")),
        ("INT8", FieldSpec("k", "int", bits=8)),
        ("float", FieldSpec("k", "float", bits=32)),
        ("double", FieldSpec("k", "float")),
        ("bool", FieldSpec("k", "bool")),
        ("json", FieldSpec("k", "json")),
        ("varchar(512)", FieldSpec("k", "string", max_length_bytes=512)),
        ("array<varchar>", FieldSpec("k", "array", element_type="string")),
        ("array< VarChar >(20)", FieldSpec("k", "array", element_type="string", max_length_bytes=20)),
        ("array<int16>", FieldSpec("k", "array", element_type="int", bits=16)),
        ({"type": "varchar", "max_length_bytes": 512}, FieldSpec("k", "string", max_length_bytes=512)),
        ({"type": "array<bool>", "max_items": 5}, FieldSpec("k", "array", element_type="bool", max_items=5)),
        ({"type": "int32", "nullable": True, "default": 7}, FieldSpec("k", "int", True, bits=32, default=7)),
    ],
)
def test_a_type_is_written_in_milvus_words(given: Any, expected: FieldSpec) -> None:
    assert parse_target_fields({"k": given}) == FieldRequest((expected,))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("int", "expected a type, got 'int'"),
        ("varchar(x)", "expected a type"),
        ("array<array<int64>>", "expected a type"),
        (7, "expected a type"),
        (None, "expected a type"),
        ({"max_length_bytes": 5}, "expected a type"),
        ("int64(5)", "a length is for varchar"),
        ({"type": "varchar", "length": 5}, "unknown length"),
        ({"type": "varchar", "max_length_bytes": 0}, "positive integer, got 0"),
        ({"type": "varchar", "max_length_bytes": "5"}, "positive integer, got '5'"),
        ({"type": "varchar", "max_items": 5}, "max_items is for arrays"),
        ({"type": "int64", "nullable": "yes"}, "expected true or false"),
        ({"type": "int64", "default": "7"}, "'7' is no value of type int64"),
        ({"type": "int64", "default": True}, "True is no value"),
        ({"type": "json", "default": {}}, "no value of type json"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(given: Any, reason: str) -> None:
    with pytest.raises(SpecError, match="k") as caught:
        parse_target_fields({"fine": "int64", "k": given})
    assert reason in str(caught.value)


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(SpecError, match=r"'a'.*'b'"):
        parse_target_fields({"a": "x", "b": "y"})


@pytest.mark.parametrize("value", ["guess", ["year"], 5])
def test_something_else_than_fields_is_refused(value: Any) -> None:
    with pytest.raises(SpecError, match=r"'infer', 'none' or types"):
        parse_target_fields(value)


def test_a_store_without_typed_fields_is_refused_only_where_some_are_asked_for() -> None:
    for target in (MEMORY, STORES["Qdrant server"], STORES["Chroma folder"]):
        assert chosen(None, target=target) == ([], [])
        assert chosen("none", target=target) == ([], [])
        for value in ("infer", {"k": "int64"}):
            assert chosen(value, target=target)[1] == [f"{target.store} has no typed fields"]


def test_fields_that_the_target_cannot_have_are_named() -> None:
    given = {"a b": "int64", "maybe": {"type": "int64", "nullable": True}, "id": "int64", "t": "varchar(70000)"}
    names, problems = chosen(given)
    assert names == list(given)
    assert [word in " ".join(problems) for word in ("'a b'", "'maybe'", "'id'", "70000")] == [True] * 4
    assert len(chosen(given, target=LITE)[1]) == 3


def test_fields_of_a_source_of_the_same_kind_are_copied() -> None:
    """The document has a field of its own; what the target cannot hold stays untyped."""
    assert chosen(None)[0] == ["title", "small", "more", "tags"]
    assert chosen(None, source=LITE, target=LITE)[0] == ["title", "maybe", "small", "more", "tags"]
    assert chosen(None, source=LITE)[0] == ["title", "small", "tags"]  # Lite's JSON fields hold lists, the server's not
    assert chosen(None, source=MEMORY) == ([], [])
    assert chosen("none") == ([], [])


def test_a_field_that_the_records_no_longer_have_is_not_copied() -> None:
    """A mapping may have renamed, converted or left out what the source's field holds."""
    seen = SchemaProfile()
    seen.add(batch_of([{"title": "a", "small": 1, "tags": [0.5]}, {"title": "b", "small": "1", "tags": [0.5]}]))
    assert chosen(None, seen=seen)[0] == ["title", "tags"]


def test_fields_are_inferred_from_what_was_seen() -> None:
    seen = SchemaProfile()
    seen.add(batch_of([{"year": 1, "id": 2, "maybe": None}, {"year": 2, "id": 2, "maybe": 1}]))
    assert chosen("infer", seen=seen) == (["year"], [])
    assert chosen("infer", target=LITE, seen=seen) == (["year", "maybe"], [])


def test_lengths_in_characters_become_bytes() -> None:
    """Milvus Lite counts characters: 100 of them take up to 400 bytes."""
    lengths = {}
    for source in (SERVER, LITE):
        fields, _ = choose_fields(FieldRequest(is_copied=True), (SOURCE, source), SERVER, taken=())
        lengths[source.form] = {item.name: item.max_length_bytes for item in fields if item.type == "string"}
    assert lengths == {
        "server": {"title": 100, "document": 65_535},
        "file": {"title": 400, "document": 65_535},
    }


def test_an_existing_target_must_have_the_fields_that_are_asked_for() -> None:
    request = parse_target_fields({"title": "varchar(5)", "small": "int16", "tags": "array<float>", "new": "bool"})
    assert refuse_other_fields(request, SOURCE) == [
        "field 'small' is int8 there, expected int16",
        "the target has no field 'new'",
    ]
    assert refuse_other_fields(request, replace(SOURCE, fields=())) == [
        f"the target has no field {name!r}" for name in ("title", "small", "tags", "new")
    ]
