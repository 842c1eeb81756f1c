"""A path in a mapping means one place, the same as in a filter; values are taken and put, the rest is not touched."""

import copy
from typing import Any

import pytest

from rag_migration_pipeline.filters.meaning import value_at
from rag_migration_pipeline.mapping.paths import MISSING, Role, parse_path, put, read, shown_path, take

PAYLOAD: dict[str, Any] = {
    "a": 1,
    "": "empty",
    "meta": {"b": 2, "deep": {"c": None}},
    "x.y": "flat",
    "id": "own",
    "\U0001f984": "horn",
    "star*": 5,
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a", 1),
        ("", "empty"),
        ("meta.b", 2),
        ("meta.deep.c", None),
        ("x.y", "flat"),
        (r"x\.y", "flat"),
        ("id", "own"),
        (r"\id", "own"),
        ("\U0001f984", "horn"),
        (r"star\*", 5),
        ("none", MISSING),
        ("meta.none", MISSING),
        ("none.b", MISSING),
        ("meta.deep.c.d", MISSING),
    ],
)
def test_a_path_reads_one_place(text: str, wanted: Any) -> None:
    assert read(PAYLOAD, parse_path(text)) is wanted or read(PAYLOAD, parse_path(text)) == wanted
    if "\\" not in text:
        assert value_at(PAYLOAD, text, MISSING) == wanted, "the same place as in a filter"


def test_a_path_into_a_scalar_is_refused() -> None:
    for text in ("a.b", "meta.b.c"):
        with pytest.raises(ValueError, match="which is no object but a value of type int"):
            read(PAYLOAD, parse_path(text))
    with pytest.raises(ValueError, match=r"cannot put 'a\.b' into 'a', which is no object") as caught:
        put(dict(PAYLOAD), ("a", "b"), 1)
    assert "int" in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [("a*b", "star before its end"), ("a\\", "ends with a backslash")])
def test_a_path_that_cannot_be_read_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_path(text)


def test_the_record_s_own_id_and_document_have_names() -> None:
    assert parse_path("id").role is Role.FIELD
    assert parse_path("id", is_target=True).role is Role.ID
    assert parse_path("$id").role is Role.ID
    assert parse_path("document", is_target=True).role is Role.DOCUMENT
    assert parse_path(r"\document", is_target=True).keys == ("document",)
    assert parse_path(r"\$id").keys == ("$id",)


@pytest.mark.parametrize(
    "keys", [("a",), ("a", "b"), ("a.b",), ("id",), ("$document",), ("\\", "*x"), ("",), ("a", "")]
)
def test_the_text_of_keys_reads_as_these_keys(keys: tuple[str, ...]) -> None:
    for is_target in (False, True):
        path = parse_path(shown_path(keys), is_target=is_target)
        assert (path.keys, path.role, path.has_star) == (keys, Role.FIELD, False)


def test_taking_leaves_the_original_and_removes_objects_that_become_empty() -> None:
    before = copy.deepcopy(PAYLOAD)
    work = dict(PAYLOAD)
    assert take(work, parse_path("meta.deep.c")) == [("c", None)]
    assert work["meta"] == {"b": 2}
    assert take(work, parse_path("meta.*")) == [("b", 2)]
    assert "meta" not in work
    assert take(work, parse_path("st*")) == [("ar*", 5)]
    assert take(work, parse_path("x.*")) == [("y", "flat")]
    assert take(work, parse_path("gone.*")) == []
    assert before == PAYLOAD


def test_an_object_that_was_empty_before_stays() -> None:
    work: dict[str, Any] = {"meta": {}}
    assert take(work, parse_path("meta.*")) == []
    assert work == {"meta": {}}


def test_nothing_is_put_over_a_value() -> None:
    for keys in (("a",), ("meta", "b"), ("x", "y")):
        with pytest.raises(ValueError, match="already has the key"):
            put(copy.deepcopy(PAYLOAD), keys, 0)
