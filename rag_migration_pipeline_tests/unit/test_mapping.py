"""A mapping is checked before anything is read: what is wrong is said with its place; its reverse."""

import functools
import importlib
import json
import subprocess
import sys
from datetime import datetime
from typing import Any

import pytest
from pydantic import TypeAdapter

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.mapping import AnyMapping, MappingChain, SchemaMapping, parse_mapping
from rag_migration_pipeline.mapping.callables import callable_fingerprint, import_callable
from rag_migration_pipeline.payloads import encode

FEATURES = {
    "field_mapping": {"doc_text": "text", "doc_id": "id"},
    "transforms": {
        "timestamp": lambda x: int(x.timestamp()),
        "tags": lambda x: ",".join(x) if isinstance(x, list) else x,
    },
    "exclude_fields": ["internal_cache", "temp_data"],
    "defaults": {"version": "2.0", "migrated_at": datetime.now()},  # noqa: DTZ005 - as the feature list has it
}


def test_the_dict_of_the_feature_list_is_accepted_as_it_stands() -> None:
    mapping = parse_mapping(FEATURES)
    assert mapping.field_mapping == {"doc_text": "text", "doc_id": "id"}
    assert mapping.exclude_fields == ("internal_cache", "temp_data")
    assert mapping.defaults == FEATURES["defaults"]
    assert set(mapping.transforms) == {"timestamp", "tags"}


@pytest.mark.parametrize(
    ("values", "place", "said"),
    [
        ({"transforms": {"year": "integer"}}, "transforms.year", "unknown conversion 'integer'; known: bool, "),
        ({"transforms": {"year": ["strip", "no.such:f"]}}, "transforms.year.1", "ModuleNotFoundError"),
        ({"transforms": {"year": "json:nothing"}}, "transforms.year", "the module json has no function nothing"),
        ({"transforms": {"year": "json:__name__"}}, "transforms.year", "the module json has no function __name__"),
        ({"transforms": {"year": {"apply": "int", "on_error": "skip"}}}, "transforms.year.on_error", "'quarantine'"),
        (
            {"transforms": {"year": {"apply": "int", "on_error": {"default": object()}}}},
            "transforms.year.on_error.default",
            "no JSON form",
        ),
        ({"transforms": {"year": 5}}, "transforms.year", "expected a callable or an import path"),
        ({"transforms": {"year": []}}, "transforms.year", "at least 1 item"),
        ({"transforms": {"$id": "lower"}}, "transforms.$id", "the record's id, which cannot stand here"),
        ({"transforms": {"meta.*": "lower"}}, "transforms.meta.*", "has a star"),
        ({"pre_hooks": ["os.path:join", "here"]}, "pre_hooks.1", "'here' is no import path"),
        ({"field_mapping": {"a": "x", "b": "x"}}, "field_mapping.b", "'a' -> 'x' and 'b' -> 'x' meet: the same"),
        ({"field_mapping": {"a": "x", "b": "x.y"}}, "field_mapping.b", "meet: one inside the other"),
        ({"field_mapping": {"a": "id", "b": "$id"}}, "field_mapping.b", "meet: the same"),
        ({"field_mapping": {"a": "a.b"}}, "field_mapping.a", "a field cannot be nested into itself"),
        ({"field_mapping": {"a": "x", "a.b": "y"}}, "field_mapping.a.b", "lie one inside the other"),
        ({"field_mapping": {"a.*": "b"}}, "field_mapping.a.*", "a star stands on both sides or on none"),
        ({"field_mapping": {"$document": "id"}}, "field_mapping.$document", "cannot become the record's id"),
        ({"field_mapping": {"a*b": "c"}}, "field_mapping.a*b", "a star before its end"),
        ({"field_mapping": {"a": "id"}, "id_from": "b"}, "field_mapping.a", "is also set by id_from"),
        ({"id_kind": "int"}, "id_kind", "no field becomes the id"),
        (
            {"id_from": "a", "transforms": {"a": {"apply": "int", "on_error": {"default": 1}}}},
            "transforms.a",
            "same id",
        ),
        ({"exclude_fields": ["a"], "field_mapping": {"a": "b"}}, "field_mapping.a", "left out by exclude_fields"),
        (
            {"exclude_fields": ["meta"], "transforms": {"meta.a": "int"}},
            "transforms.meta.a",
            "left out by exclude_fields",
        ),
        ({"exclude_fields": ["tmp_*"], "id_from": "tmp_id"}, "id_from", "left out by exclude_fields"),
        ({"include_fields": ["a"], "field_mapping": {"b": "c"}}, "field_mapping.b", "not among include_fields"),
        ({"include_fields": ["$document"]}, "include_fields.0", "the record's document, which cannot stand here"),
        ({"defaults": {"id": "x"}}, "defaults.id", "the record's id, which cannot stand here"),
        ({"defaults": {"document": 5}}, "defaults.document", "has to be a text"),
        ({"defaults": {"x": object()}}, "defaults", "no JSON form"),
        (
            {"deprecated": {"old": {"use": "new", "drop_at": 3}}},
            "deprecated.old",
            "drop_at needs the mapping to have a version",
        ),
        (
            {"deprecated": {"old": {}}, "field_mapping": {"old": "new"}},
            "deprecated.old",
            "also renamed by field_mapping",
        ),
        ({"field_maping": {"a": "b"}}, "field_maping", "there is no such option"),
        ({"field_mapping": {"a": 5}}, "field_mapping.a", "valid string (got int)"),
        ({"version": 0}, "version", "greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(values: dict[str, Any], place: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_mapping(values)
    assert f"{place}: " in caught.value.what
    assert said in caught.value.what


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse_mapping({"field_mapping": {"a": "x", "b": "x", "c": "c.d"}, "exclude_fields": ["a"]})
    assert len(caught.value.facts["problems"]) == 3
    with pytest.raises(SpecError) as caught:
        parse_mapping({"transforms": {"a": "integer", "b": "no:thing"}, "bogus": 1})
    assert len(caught.value.facts["problems"]) == 3


def test_no_value_of_a_description_is_shown() -> None:
    with pytest.raises(SpecError) as caught:
        parse_mapping({"bogus": "secret-7391", "defaults": "secret-7391", "version": "secret-7391"})
    assert "secret-7391" not in str(caught.value)


def test_a_swap_is_no_cycle() -> None:
    assert parse_mapping({"field_mapping": {"a": "b", "b": "a"}}).reverse().field_mapping == {"b": "a", "a": "b"}


# -- reverse --------------------------------------------------------------------------------------------------


def test_the_reverse_names_fields_as_they_lie_in_the_target() -> None:
    mapping = parse_mapping(
        {
            "field_mapping": {"meta.*": "m_*", "a": "deep.a", "text": "document", "doc_id": "id", "$id": "old_id"},
            "transforms": {"meta.tags": 'join(",")', "a": "json", "b.c": {"apply": "int", "reverse": "str"}},
            "version": 4,
        }
    )
    back = mapping.reverse()
    assert back.field_mapping == {"m_*": "meta.*", "deep.a": "a", "$document": "text", "$id": "doc_id", "old_id": "id"}
    assert list(back.transforms) == ["m_tags", "deep.a", "b.c"]
    assert [step.name for item in back.transforms.values() for step in item.apply] == ['split(",")', "from_json", "str"]
    assert back.version == 3
    assert back.reverse().field_mapping == mapping.field_mapping
    assert [item.apply for item in back.reverse().transforms.values()] == [i.apply for i in mapping.transforms.values()]


def test_every_part_that_has_no_reverse_is_named() -> None:
    values = {
        "field_mapping": {"doc_id": "id", "a.b": "a"},
        "include_fields": ["doc_id", "a", "n"],
        "exclude_fields": ["x"],
        "defaults": {"y": 1},
        "transforms": {"n": ["int", len], "doc_id": "strip"},
        "per_record": "copy:copy",
        "deprecated": {"o": {"drop_at": 1}},
        "document_from": "n",
        "version": 1,
    }
    with pytest.raises(SpecError, match="has no reverse") as caught:
        parse_mapping(values).reverse()
    places = {
        problem.place[0] if len(problem.place) == 1 else problem.place for problem in caught.value.facts["problems"]
    }
    assert places == {
        "field_mapping",
        ("field_mapping", "a.b"),
        "include_fields",
        "exclude_fields",
        ("defaults", "y"),
        ("transforms", "n"),
        ("transforms", "doc_id"),
        ("per_record", 0),
        ("deprecated", "o"),
        "document_from",
    }
    assert "nothing undoes int, builtins:len" in caught.value.what


# -- versions -------------------------------------------------------------------------------------------------


def chain(**options: Any) -> MappingChain:
    return MappingChain.model_validate(
        {
            "versions": [
                {"version": 2, "field_mapping": {"a": "b"}},
                {"version": 3, "field_mapping": {"b": "c"}},
                {"version": 4, "defaults": {"d": 1}},
            ],
            **options,
        }
    )


@pytest.mark.parametrize(
    ("options", "recorded", "versions"),
    [
        ({}, 1, [2, 3, 4]),
        ({}, 3, [4]),
        ({}, 4, []),
        ({"from_version": 2}, None, [3, 4]),
        ({"from_version": 2, "to_version": 3}, 2, [3]),
        ({"to_version": 1}, 3, [2, 1]),
    ],
)
def test_a_chain_leads_from_the_recorded_version_to_the_wanted(
    options: dict[str, Any], recorded: int | None, versions: list[int]
) -> None:
    steps = chain(**options).steps_from(recorded)
    assert [step.version or 1 for step in steps] == versions
    if versions == [2, 1]:
        assert [step.field_mapping for step in steps] == [{"c": "b"}, {"b": "a"}]


@pytest.mark.parametrize(
    ("options", "recorded", "said"),
    [
        ({}, None, "does not record a schema version"),
        ({"from_version": 1}, 2, "records schema version 2, the mapping says from_version 1"),
        ({}, 7, "has schema version 7, the mappings know 1 to 4"),
        ({"to_version": 1}, 4, "has no reverse: defaults.d"),
    ],
)
def test_a_version_that_the_chain_does_not_know_is_refused(
    options: dict[str, Any], recorded: int | None, said: str
) -> None:
    with pytest.raises(SpecError) as caught:
        chain(**options).steps_from(recorded)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("versions", "options"), [([2, 4], {}), ([None], {}), ([3, 2], {}), ([2, 3], {"to_version": 9}), ([], {})]
)
def test_a_chain_with_a_gap_is_refused(versions: list[int], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"each mapping needs a version|the versions go from|at least 1 item"):
        MappingChain.model_validate({"versions": [{"version": version} for version in versions], **options})


def test_one_mapping_and_a_chain_are_told_apart() -> None:
    either = TypeAdapter(AnyMapping)
    assert isinstance(either.validate_python({"field_mapping": {"a": "b"}}), SchemaMapping)
    assert isinstance(either.validate_python({"versions": [{"version": 2}]}), MappingChain)


# -- fingerprint ----------------------------------------------------------------------------------------------


def test_the_fingerprint_says_what_is_used_and_nothing_else() -> None:
    assert parse_mapping({}).fingerprint() == {}
    values = {"field_mapping": {"a": "b"}, "transforms": {"t": ["strip", 'split(",")']}, "on_error": "fail"}
    assert json.loads(encode(parse_mapping(values).fingerprint())) == {
        "field_mapping": {"a": "b"},
        "transforms": {"t": {"apply": ["strip", 'split(",")']}},
        "on_error": "fail",
    }


def test_a_callable_counts_by_name_and_code() -> None:
    def add(by: int, sign: str = "+") -> Any:
        return lambda value: (value, by, sign)

    ones = [callable_fingerprint(function) for function in (add(1), add(1), add(2), add(1, "-"), lambda value: value)]
    assert ones[0] == ones[1]
    assert len(set(ones)) == 4
    texts = {callable_fingerprint(function) for function in (lambda value: value + "a", lambda value: value + "b")}
    assert len(texts) == 2, "constants count"
    assert callable_fingerprint(functools.partial(int, base=2)) != callable_fingerprint(functools.partial(int, base=8))
    assert callable_fingerprint(len).startswith("builtins:len#")


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    code = (
        "from rag_migration_pipeline.mapping import parse_mapping;"
        "print(parse_mapping({'transforms': {'a': 'textwrap:dedent'}, 'pre_hooks': 'copy:copy'}).fingerprint())"
    )
    here = parse_mapping({"transforms": {"a": "textwrap:dedent"}, "pre_hooks": "copy:copy"}).fingerprint()
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(here)


def test_an_import_path_gives_the_function_itself() -> None:
    assert import_callable("importlib:import_module") is importlib.import_module
    assert import_callable("datetime:datetime.fromisoformat")("2024-01-02").year == 2024
