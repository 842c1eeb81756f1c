"""New ids are proven one to one before the first write, and the old ones are found by them.

Belongs here: ids from a field, and derived ones. Does not belong here: the rest of a mapping (``test_transform.py``).
"""

import unicodedata
import uuid
from dataclasses import replace
from typing import Any

import pytest

from rag_migration_pipeline.errors import (
    ConflictError,
    RecordRejectedError,
    SchemaCompatibilityError,
    SpecError,
    ValidationError,
)
from rag_migration_pipeline.ids import NAMESPACE, derived_uuid
from rag_migration_pipeline.records import RecordBatch, RecordId
from rag_migration_pipeline.spec import migration_from_spec
from rag_migration_pipeline.steps.lookup import source_ids_of, target_ids_of
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline_tests.steps.support import World, fill, from_field, held, records, with_faults

NAME = "6f1d6f0e-52a4-4ba1-9f0a-4d5d5a2f3d4e"


def test_ids_come_from_a_field_and_the_old_one_stays_under_a_key(world: World) -> None:
    fill(world, [{"ref": f"{n:03}"} for n in range(9)])
    migration = world.migration(ids=from_field(kind="int", keep_as="old"))
    assert world.run(migration)[1].is_proven
    assert held(world.b) == {n: ({"ref": f"{n:03}", "old": f"r{n:03}"}, f"text {n}") for n in range(9)}
    with world.opened(migration, plan=False) as context:
        assert source_ids_of(context.state, context.manifest, [7, 8, 99]) == {7: "r007", 8: "r008"}
        assert target_ids_of(context.state, context.manifest, ["r000", "none"]) == {"r000": 0}


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (["7", "007"], from_field(kind="int")),
        (["7", 7], from_field(kind="string")),
        ([NAME, NAME.upper()], from_field(kind="uuid")),
        ([NAME, f"urn:uuid:{NAME}"], from_field(kind="uuid")),
        ([f"{{{NAME}}}", NAME.replace("-", "")], from_field(kind="uuid")),
        (["same", "same"], from_field()),
        ([-7, "-7"], from_field(kind="int")),
        ([2**64 - 1, str(2**64 - 1)], from_field(kind="int")),
    ],
)
def test_ids_that_would_meet_are_refused_before_the_first_write(
    world: World, values: list[Any], ids: dict[str, Any]
) -> None:
    fill(world, [{"ref": "other" if ids.get("kind") in (None, "string") else str(uuid.uuid4())}])
    fill(world, [{"ref": value} for value in values], ["a", "b"])
    with pytest.raises(SchemaCompatibilityError, match="'string:a' and 'string:b' -> ") as caught:
        world.run(world.migration(ids=ids))
    assert "different in every record" in caught.value.todo
    assert world.b.list_collections() == []


@pytest.mark.parametrize(
    "values",
    [
        ["7", "007", 7, -7, 2**63, 2**64 - 1, -(2**63)],
        [NAME, NAME.upper(), f"urn:uuid:{NAME}", f"{{{NAME}}}"],
        [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")],
        ["a", "a ", " a", "a\t", "A"],
    ],
)
def test_values_that_only_look_alike_stay_apart(world: World, values: list[Any]) -> None:
    fill(world, [{"ref": value} for value in values])
    assert world.run(world.migration(ids=from_field()))[1].is_proven
    assert set(held(world.b)) == set(values)
    assert {type(record_id) for record_id in held(world.b)} == {type(value) for value in values}


def test_the_proof_reads_one_field_and_no_vectors(world: World) -> None:
    fill(world, [{"ref": f"x{n}"} for n in range(9)])
    seen: set[str] = set()
    source = with_faults(world.source, lambda _store, operation: seen.add(operation))
    for ids, has_scan in ((from_field(), False), (from_field("meta.ref"), True)):
        seen.clear()
        with world.opened(replace(world.migration(ids=ids), source=source)):
            assert ("scan" in seen or "read_range" in seen) is has_scan
            assert "iter_field" in seen


def test_a_field_that_changes_after_the_plan_so_that_ids_meet_is_found_by_the_proof(world: World) -> None:
    fill(world, [{"ref": f"x{n}"} for n in range(8)])
    migration = world.migration(ids=from_field())
    with world.opened(migration) as context:
        world.a.upsert("docs", replace(records(["r007"]), payloads=[{"ref": "x0"}]))
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        with pytest.raises(ValidationError, match="changed"):
            prove_collection(context)


def test_a_transform_that_makes_values_meet_is_found_before_the_first_write(world: World) -> None:
    fill(world, [{"ref": "a "}, {"ref": "a"}])
    with pytest.raises(SchemaCompatibilityError, match="'string:r000' and 'string:r001' -> 'string:a'"):
        world.run(world.migration(mapping={"field_mapping": {"ref": "id"}, "transforms": {"ref": "strip"}}))
    assert world.b.list_collections() == []


@pytest.mark.parametrize(
    "mapping",
    [
        {"id_from": "meta.ref"},
        {"id_from": "ref", "pre_hooks": "rag_migration_pipeline_tests.steps.test_new_ids:move_up"},
        {
            "versions": [{"version": 2, "field_mapping": {"meta.ref": "x"}}, {"version": 3, "id_from": "x"}],
            "from_version": 1,
        },
    ],
)
def test_ids_that_more_than_one_field_decides_about_are_worked_out_from_whole_records(
    world: World, mapping: dict[str, Any]
) -> None:
    fill(world, [{"meta": {"ref": f"x{n}"}} for n in range(6)])
    assert world.run(world.migration(mapping=mapping))[1].is_proven
    assert sorted(map(str, held(world.b))) == [f"x{n}" for n in range(6)]
    world.fill(replace(records(["twin"]), payloads=[{"meta": {"ref": "x3"}}]))
    with pytest.raises(SchemaCompatibilityError, match="'string:r003' and 'string:twin' -> 'string:x3'"):
        world.run(
            world.migration(
                mapping={**mapping, "on_error": "fail"} if "versions" not in mapping else mapping, conflict="skip"
            )
        )


def move_up(batch: RecordBatch) -> RecordBatch:
    """A hook that has a say in the ids."""
    return batch.with_columns(payloads=[payload["meta"] for payload in batch.payloads])


def test_records_that_the_filter_leaves_out_have_no_say_in_the_ids(world: World) -> None:
    fill(world, [{"ref": "x", "latest": n == 2} for n in range(4)])
    assert world.run(world.migration(ids=from_field(), filter={"latest": True}))[1].is_proven
    assert list(held(world.b)) == ["x"]


def test_a_record_without_the_field_is_set_aside_by_name(world: World) -> None:
    fill(world, [{"ref": "x"}, {}, {"ref": None}, {"ref": 1.5}])
    said = "'ref', which becomes the id, is missing.*is null.*got float"
    with pytest.raises(RecordRejectedError, match=said):
        world.run(world.migration(ids=from_field()))
    assert list(held(world.b)) == ["x"]


def test_the_conflict_policy_looks_at_the_new_ids(world: World) -> None:
    world.fill_target(records(["x1", "r000"]))
    fill(world, [{"ref": f"x{n}"} for n in range(3)])
    with pytest.raises(ConflictError, match=r"1 ids are already in .*string:x1;"):
        world.run(world.migration(ids=from_field(), conflict="fail"))
    _, report = world.run(world.migration(ids=from_field(), conflict="skip"))
    assert (report.written, report.skipped, report.is_proven) == (2, 1, True)
    assert held(world.b)["x1"][0] == {"n": 0}, "as the others left it"


@pytest.mark.parametrize("namespace", [None, uuid.NAMESPACE_URL])
def test_derived_ids_come_home_as_they_were(world: World, namespace: uuid.UUID | None) -> None:
    ids: list[RecordId] = ["7", "007", 7, -7, 2**64 - 1, NAME, NAME.upper(), uuid.UUID(NAME), "a ", "a", "é", "e\u0301"]
    world.fill(records(ids))
    before = held(world.a)
    option = "uuid5" if namespace is None else {"strategy": "uuid5", "namespace": str(namespace)}
    there = world.migration(ids=option)
    assert world.run(there)[1].is_proven
    derived = [derived_uuid(record_id, namespace or NAMESPACE) for record_id in ids]
    assert set(held(world.b)) == set(derived)
    with world.opened(there, plan=False) as context:
        assert source_ids_of(context.state, context.manifest, derived[:2]) == {derived[0]: "7", derived[1]: "007"}
    back = replace(
        there, source=world.target, target=world.source, target_name="home", options=world.migration().options
    )
    assert world.run(back)[1].is_proven
    assert held(world.a, "home") == before


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ("uuid4", "ids: Input should be 'keep', 'uuid5' or 'from_field'"),
        ({"strategy": "from_field"}, "ids: the strategy from_field needs a field"),
        ({"strategy": "keep", "field": "x"}, "ids: field cannot stand beside the strategy keep"),
        ({"strategy": "uuid5", "kind": "int"}, "ids: kind cannot stand beside the strategy uuid5"),
        ({"strategy": "from_field", "field": "a*"}, "has a star"),
        ({"strategy": "uuid5", "namespace": "x"}, "ids.namespace: "),
    ],
)
def test_a_wrong_strategy_is_refused(ids: Any, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        migration_from_spec({"name": "m", "source": "memory://a", "target": "memory://b", "ids": ids})
    assert said in caught.value.what


def test_an_id_that_is_set_twice_is_refused(world: World) -> None:
    fill(world, [{"a": 1, "b": 2}])
    with pytest.raises(ValueError, match=r"ids: the mapping sets the id too"):
        world.migration(ids=from_field("a"), mapping={"field_mapping": {"b": "id"}})
    versions = [{"version": n, "field_mapping": {name: "id"}} for n, name in ((2, "a"), (3, "b"))]
    with pytest.raises(SpecError, match="the id is set more than once"):
        world.run(world.migration(mapping={"versions": versions, "from_version": 1}))
