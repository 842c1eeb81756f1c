"""Ids become other ids by one frozen rule, one to one, and collisions are found."""

import copy
import json
import pickle
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.ids import NAMESPACE, IdRule, derived_uuid, find_collisions
from rag_migration_pipeline.records import IdKind, RecordId, id_from_text, id_text
from rag_migration_pipeline.uuids import parse_uuid
from rag_migration_pipeline_tests.contract.samples import EDGE_INTEGER_IDS, HOSTILE_STRING_IDS

STRINGS = IdRule(frozenset({IdKind.STRING}), has_empty=False)
SHORT = IdRule(frozenset({IdKind.STRING}), 36)
POINTS = IdRule(frozenset({IdKind.UINT64, IdKind.UUID}))
EITHER = IdRule(frozenset({IdKind.INT64, IdKind.STRING}), 64)
RULES = {"strings": STRINGS, "short": SHORT, "points": POINTS, "either": EITHER, "all": IdRule(frozenset(IdKind))}

ids = (
    st.integers(-(2**63), 2**64 - 1)
    | st.integers(-5, 5)
    | st.uuids()
    | st.text(max_size=40)
    | st.text(st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF), max_size=3)
    | st.sampled_from(
        ["7", "007", "", "6F1D6F0E-52A4-4BA1-9F0A-4D5D5A2F3D4E", "\\ud800", "a\\xed\\xa0\\x80", "a\ud800"]
    )
)


def test_the_rule_is_frozen() -> None:
    """Ids that were written once must be found again by every later version."""
    golden = json.loads(Path(__file__).with_name("golden_ids.json").read_text(encoding="utf-8"))
    assert golden["namespace"] == str(NAMESPACE)
    for entry in golden["ids"]:
        record_id = id_from_text(entry["id"])
        assert str(derived_uuid(record_id)) == entry["uuid5"], entry
        assert id_text(POINTS.native(record_id)) == entry["points"], entry
        assert id_text(STRINGS.native(record_id)) == entry["strings"], entry


def test_derived_uuids_are_the_standard_ones() -> None:
    for record_id in (*HOSTILE_STRING_IDS, *EDGE_INTEGER_IDS, uuid.UUID(int=7)):
        assert derived_uuid(record_id) == uuid.uuid5(NAMESPACE, id_text(record_id))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(found=st.lists(ids, max_size=30, unique_by=lambda i: (type(i).__name__, i)))
def test_different_ids_stay_different_or_are_named(rule: IdRule, found: list[RecordId]) -> None:
    natives = [rule.native(record_id) for record_id in found]
    collisions = find_collisions(found, rule)
    assert len(set(natives)) == len(found) - len(collisions)
    for first, second, native in collisions:
        assert first != second
        assert rule.native(first) == rule.native(second) == native
    for native in natives:
        assert rule.native(native) == native, "what a target holds is written as it is"


@given(record_id=ids)
def test_the_kinds_that_a_target_holds_pass_as_they_are(record_id: RecordId) -> None:
    assert type(POINTS.native(record_id)) in (int, uuid.UUID)
    assert isinstance(STRINGS.native(record_id), str)
    if isinstance(record_id, uuid.UUID) or (isinstance(record_id, int) and record_id >= 0):
        assert POINTS.native(record_id) == record_id
    if isinstance(record_id, str) and record_id and record_id.isprintable():
        assert STRINGS.native(record_id) == record_id


@pytest.mark.parametrize(
    ("found", "rule", "native"),
    [
        (["7", 7], STRINGS, "7"),
        ([uuid.UUID(int=7), str(uuid.UUID(int=7))], POINTS, uuid.UUID(int=7)),
        ([uuid.UUID(int=7), str(uuid.UUID(int=7))], STRINGS, str(uuid.UUID(int=7))),
        (["", str(derived_uuid(""))], STRINGS, str(derived_uuid(""))),
        (["a", derived_uuid("a")], POINTS, derived_uuid("a")),
    ],
)
def test_ids_that_meet_are_found(found: list[RecordId], rule: IdRule, native: RecordId) -> None:
    assert find_collisions([*found, "other"], rule) == [(found[0], found[1], native)]


_SPELLINGS = st.sampled_from([str, lambda u: u.hex, lambda u: u.urn, lambda u: f"{{{u}}}", lambda u: str(u).upper()])
_ALMOST = st.text("0123456789abcdefABCDEF-_ {}+x\u0663", min_size=30, max_size=40)


@given(text=st.builds(lambda spell, value: spell(value), _SPELLINGS, st.uuids()) | _ALMOST | st.text(max_size=40))
def test_a_parsed_uuid_is_the_standard_librarys(text: str) -> None:
    try:
        expected = uuid.UUID(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"hexadecimal|int\(\)"):
            parse_uuid(text)
        return
    found = parse_uuid(text)
    assert (found, hash(found), str(found)) == (expected, hash(expected), str(expected))
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == expected
    assert found.is_safe is expected.is_safe


def test_007_and_7_and_uuid_spellings_stay_apart() -> None:
    name = "6f1d6f0e-52a4-4ba1-9f0a-4d5d5a2f3d4e"
    found: list[RecordId] = ["7", "007", "7.0", 7, name, name.upper(), "{" + name + "}", "urn:uuid:" + name]
    assert find_collisions(found, POINTS) == []
    assert POINTS.native(name) == uuid.UUID(name)
    assert POINTS.native(name.upper()) != uuid.UUID(name)


def test_ids_that_are_too_long_or_not_allowed_become_derived_ones() -> None:
    assert SHORT.native("x" * 36) == "x" * 36
    assert SHORT.native("x" * 37) == str(derived_uuid("x" * 37))
    assert SHORT.native("ü" * 19) == str(derived_uuid("ü" * 19)), "bytes count, not characters"
    assert STRINGS.native("") == str(derived_uuid(""))
    assert SHORT.native("") == ""


@pytest.mark.parametrize(
    ("record_id", "rule"),
    [
        ("a", IdRule(frozenset({IdKind.INT64}))),
        (2**63, IdRule(frozenset({IdKind.INT64}))),
        (uuid.UUID(int=7), IdRule(frozenset({IdKind.INT64}))),
        (-1, IdRule(frozenset({IdKind.UINT64}))),
        ("x" * 11, IdRule(frozenset({IdKind.STRING}), 10)),
    ],
)
def test_an_id_that_cannot_be_written_is_refused_by_name(record_id: RecordId, rule: IdRule) -> None:
    with pytest.raises(SchemaCompatibilityError, match="does not fit") as caught:
        rule.native(record_id)
    assert id_text(record_id)[:80] in str(caught.value)
    assert caught.value.todo


def test_an_id_that_two_records_have_is_a_collision() -> None:
    """One is kept as it was, the other one stands under a derived id: both are the same record's in the next target."""
    rule = IdRule(frozenset(IdKind))
    assert find_collisions(["a", 7, "a", "7"], rule) == [("a", "a", "a")]
