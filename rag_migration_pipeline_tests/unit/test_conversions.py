"""Every conversion takes what its meaning names and refuses the rest; what another one undoes comes back."""

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.mapping.conversions import conversion_names, parse_conversion

NAME = uuid.UUID("6f1d6f0e-52a4-4ba1-9f0a-4d5d5a2f3d4e")
NOON = datetime(2024, 1, 2, 12, 0, 0, tzinfo=UTC)
TAKEN: dict[str, list[tuple[Any, Any]]] = {
    "int": [(5, 5), ("12345", 12345), ("-007", -7), (3.0, 3), (2**70, 2**70), ("9" * 30, int("9" * 30))],
    "float": [(1.5, 1.5), (3, 3.0), ("1.5", 1.5), ("-2e3", -2000.0), (".5", 0.5)],
    "str": [("x", "x"), (7, "7"), (1.0, "1.0"), (True, "true"), (False, "false"), (NOON, NOON.isoformat())],
    "bool": [(True, True), (0, False), (1, True), ("true", True), ("FALSE", False)],
    "uuid": [(f"{{{str(NAME).upper()}}}", str(NAME)), (NAME.urn, str(NAME)), (NAME.hex, str(NAME)), (NAME, str(NAME))],
    "timestamp": [(NOON, 1704196800), ("2024-01-02T13:00:00+01:00", 1704196800), ("1969-12-31T23:59:59Z", -1)],
    "timestamp_ms": [("2024-01-02T12:00:00.25+00:00", 1704196800250)],
    'timestamp("UTC")': [("2024-01-02T12:00:00", 1704196800), ("2024-01-02T13:00:00+01:00", 1704196800)],
    'timestamp("Europe/Paris")': [("2024-01-02T13:00:00", 1704196800)],
    "iso_datetime": [(NOON, "2024-01-02T12:00:00+00:00"), (1704196800, "2024-01-02T12:00:00+00:00"), (0.5, None)],
    "datetime": [("2024-01-02T12:00:00+00:00", NOON)],
    "json": [({"b": [1, None], "a": "é"}, '{"a":"é","b":[1,null]}'), ("x", '"x"'), (2**70, str(2**70))],
    "from_json": [('{"a": [1.5, null]}', {"a": [1.5, None]}), (str(2**70), 2**70)],
    'join(",")': [(["a", "b"], "a,b"), ([], ""), (["a"], "a"), (["", ""], ",")],
    "split(', ')": [("a, b", ["a", "b"]), ("", []), ("a,b", ["a,b"])],
    r'split("\t")': [("a\tb", ["a", "b"])],
    "lower": [("ÄB", "äb")],
    "upper": [("äb", "ÄB")],
    "strip": [(" a\n", "a")],
    "nfc": [("e\u0301", "é")],
}
REFUSED: dict[str, list[Any]] = {
    "int": [1.5, True, "1.5", "", " 7", "1_000", "0x10", "٣", float("nan"), float("inf"), 2.0**60, [1], {}],
    "float": [True, "nan", "inf", "1e999", "", "1,5", "1_0.0", 2**53 + 1, [1.0]],
    "str": [["a"], {"a": 1}],
    "bool": ["yes", "1", "", 2, -1, 1.0, [True]],
    "uuid": ["7", "", 7, "6f1d6f0e"],
    "timestamp": [
        1704196800,
        "2024-01-02T12:00:00",
        datetime(2024, 1, 2),  # noqa: DTZ001 - without a zone on purpose
        "yesterday",
        NOON + timedelta(microseconds=1),
    ],
    "timestamp_ms": [NOON + timedelta(microseconds=1)],
    "iso_datetime": ["noon", float("inf"), 1e20, True, "2024-01-02T12:00:00"],
    "datetime": [1704196800, "2024-13-01"],
    "json": [NOON, {1: 2}, b"x", {"a": {1, 2}}],
    "from_json": ["{", "", 5],
    'join(",")': ["a,b", ["a,b"], [""], [1], ["a", None]],
    "split(', ')": [["a"], 5],
    "lower": [5, ["A"]],
}


@pytest.mark.parametrize(("text", "given_", "wanted"), [(t, *pair) for t, pairs in TAKEN.items() for pair in pairs])
def test_a_conversion_gives_what_its_meaning_says(text: str, given_: Any, wanted: Any) -> None:
    found = parse_conversion(text)(given_)
    if wanted is not None:
        assert (type(found), found) == (type(wanted), wanted)


@pytest.mark.parametrize(("text", "value"), [(t, value) for t, values in REFUSED.items() for value in values])
def test_what_a_conversion_does_not_name_is_refused_without_showing_it(text: str, value: Any) -> None:
    with pytest.raises(
        ValueError, match=r"expected|would be lost|no time zone|no JSON form|could not bring|is of type"
    ) as caught:
        parse_conversion(text)(value)
    assert not isinstance(value, str) or len(value) < 4 or value not in str(caught.value)


@pytest.mark.parametrize("name", conversion_names())
def test_null_stays_null(name: str) -> None:
    text = f'{name}(",")' if name in ("join", "split") else name
    assert parse_conversion(text)(None) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("integer", "unknown conversion 'integer'; known: bool, "),
        ("int(3)", "is no conversion"),
        ('int("3")', "takes no argument"),
        ("split", "takes the text between the items"),
        ('split("")', "takes the text between the items"),
        ('timestamp("Nowhere/Town")', "unknown time zone 'Nowhere/Town'"),
        ("", "is no conversion"),
        ("lower, upper", "is no conversion"),
        ("__import__('os')", "unknown conversion '__import__'"),
    ],
)
def test_what_is_no_conversion_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_conversion(text)
    assert said in str(caught.value)


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(value=values)
def test_from_json_undoes_json(value: Any) -> None:
    json = parse_conversion("json")
    assert json.reverse == "from_json"
    found = parse_conversion(json.reverse)(json(value))
    assert (type(found), found) == (type(value), value)


@given(items=st.lists(texts, max_size=4), separator=st.sampled_from([",", ", ", "ab", "|"]))
def test_split_undoes_join_or_join_refuses(items: list[str], separator: str) -> None:
    join = parse_conversion(f"join('{separator}')")
    split = parse_conversion(join.reverse or "")
    try:
        joined = join(items)
    except ValueError:
        assert items == [""] or any(separator in item for item in items) or separator.join(items).count(separator)
        return
    assert split(joined) == items


@given(text=texts, separator=st.sampled_from([",", ", ", "ab"]))
def test_join_undoes_split(text: str, separator: str) -> None:
    split = parse_conversion(f"split('{separator}')")
    assert parse_conversion(split.reverse or "")(split(text)) == text


def test_a_date_in_another_zone_is_the_same_moment() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert parse_conversion("timestamp")(there) == parse_conversion("timestamp")(NOON)
