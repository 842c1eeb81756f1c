"""A mapping changes the records of a migration, and new ids are proven one to one before the first write."""

import unicodedata
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from rag_migration_pipeline.errors import (
    ConflictError,
    MigrationError,
    RecordRejectedError,
    SchemaCompatibilityError,
    SpecError,
    ValidationError,
)
from rag_migration_pipeline.events import BatchDone, FieldsDeprecated
from rag_migration_pipeline.ids import NAMESPACE, derived_uuid
from rag_migration_pipeline.mapping import parse_mapping
from rag_migration_pipeline.mapping.mapper import SCHEMA_VERSION_KEY, MappingPlan
from rag_migration_pipeline.quarantine import read_quarantine_if_any
from rag_migration_pipeline.records import Payload, RecordBatch, RecordId
from rag_migration_pipeline.spec import migration_from_spec
from rag_migration_pipeline.steps.lookup import source_ids_of, target_ids_of
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.replay import replay
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.steps.transform import transform_batches
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline_tests.steps.support import World, numbered, records, spec_of, with_faults
from rag_migration_pipeline_tests.unit.test_mapping import FEATURES

NAME = "6f1d6f0e-52a4-4ba1-9f0a-4d5d5a2f3d4e"


def fill(world: World, payloads: list[Payload], ids: list[RecordId] | None = None) -> None:
    batch = records(ids or numbered(len(payloads)))
    world.fill(replace(batch, payloads=payloads))


def held(store: VectorStore, collection: str = "docs") -> dict[RecordId, tuple[Payload, str | None]]:
    """Return what a store holds, by id."""
    found: dict[RecordId, tuple[Payload, str | None]] = {}
    for batch in store.scan(collection):
        documents = batch.documents or [None] * len(batch)
        found.update(zip(batch.ids, zip(batch.payloads, documents, strict=True), strict=True))
    return found


def test_the_dict_of_the_feature_list_maps_a_migration(world: World) -> None:
    at = datetime(2025, 12, 27, 10, 30, tzinfo=UTC)
    payloads = [
        {"doc_text": f"t{n}", "doc_id": f"d-{n}", "timestamp": at, "tags": ["a", "b"], "temp_data": n} for n in range(9)
    ]
    fill(world, payloads)
    _, report = world.run(world.migration(mapping=FEATURES))
    assert report.is_proven
    assert report.written == 9
    wanted = {"timestamp": int(at.timestamp()), "tags": "a,b", **FEATURES["defaults"]}  # type: ignore[dict-item]
    assert held(world.b) == {f"d-{n}": ({"text": f"t{n}", **wanted}, f"text {n}") for n in range(9)}


def test_without_a_mapping_the_same_iterator_comes_back() -> None:
    batches = iter([records(["a"])])
    assert transform_batches(batches, None, lambda *_: None) is batches


def test_without_a_mapping_nothing_is_timed_and_a_migration_is_the_one_it_was(world: World) -> None:
    assert world.migration().options.plan_fingerprint() == {"filter": None, "conflict": None}
    fill(world, [{"a": 1}])
    world.run()
    assert "transform" not in {event.step for event in world.events if isinstance(event, BatchDone)}
    world.run(world.migration(mapping={"field_mapping": {"a": "b"}}, conflict="overwrite"))
    assert "transform" in {event.step for event in world.events if isinstance(event, BatchDone)}


def test_another_mapping_is_another_migration(world: World) -> None:
    one, same, other = (world.migration(mapping={"defaults": {"a": value}}).identity for value in (1, 1, 2))
    assert one == same
    assert len({one, other, world.migration().identity, world.migration(ids="uuid5").identity}) == 4


# -- records that cannot be mapped ----------------------------------------------------------------------------


def test_a_record_that_cannot_be_mapped_is_set_aside_as_it_was_read_and_the_others_arrive(world: World) -> None:
    fill(world, [{"n": "7"} for _ in range(5)] + [{"n": "seven", "deep": {"a": [1]}}, {"n": "8"}])
    options: dict[str, Any] = {
        "mapping": {"transforms": {"n": "int"}, "field_mapping": {"n": "m"}},
        "range_count": 10,
    }
    migration = world.migration(**options)
    with pytest.raises(RecordRejectedError, match=r"r005.*expected a whole number, got a text that is none"):
        world.run(migration)
    assert sorted(held(world.b)) == ["r000", "r001", "r002", "r003", "r004", "r006"]
    _, report = world.run(world.migration(**options, max_rejected=1))
    assert (report.written, report.is_proven) == (6, True)
    with world.opened(migration, plan=False) as context:
        stored = read_quarantine_if_any(context.state.quarantine(context.manifest.ranges[0].key))
    assert stored is not None
    (rejection,) = stored.rejections
    assert (rejection.record_id, rejection.stage) == ("r005", "transform")
    assert next(iter(held(world.b).values()))[0] == {"m": 7}


def test_under_the_policy_fail_a_record_of_the_sample_stops_the_planning(world: World) -> None:
    fill(world, [{"n": "7"}, {"n": "x"}])
    with pytest.raises(RecordRejectedError, match="1 records cannot be mapped: 'string:r001'"):
        world.run(world.migration(mapping={"transforms": {"n": "int"}, "on_error": "fail"}, max_rejected=9))
    assert world.b.list_collections() == []


def test_under_the_policy_fail_a_batch_stops_and_nobody_is_set_aside() -> None:
    plan = MappingPlan([parse_mapping({"transforms": {"n": "bool"}, "on_error": "fail"})], datetime.now(UTC))
    batches = [replace(records(["a"]), payloads=[{"n": True}]), records(["b", "c"], start=5)]
    aside: list[Any] = []
    passing = transform_batches(batches, plan, lambda *given: aside.append(given))
    assert next(passing).ids == ["a"]
    with pytest.raises(RecordRejectedError, match="2 records cannot be mapped: 'string:b'") as caught:
        next(passing)
    assert [item.record_id for item in caught.value.facts["rejections"]] == ["b", "c"]
    assert aside == []


def test_a_hook_that_fails_is_told_before_the_first_write(world: World) -> None:
    fill(world, [{"n": 1}])
    with pytest.raises(SpecError, match="the hook builtins:len returned int, expected a RecordBatch"):
        world.run(world.migration(mapping={"post_hooks": len}))
    assert world.b.list_collections() == []


def test_a_mapped_record_that_the_target_refuses_is_kept_as_it_was_read(world: World) -> None:
    payloads = [{"ref": f"x{n}", "n": n, **({"poison": True} if n in (1, 4) else {})} for n in range(6)]
    fill(world, [{"ref": 5}, *payloads[1:]])
    mapping = {"field_mapping": {"n": "m"}, "transforms": {"ref": "upper"}}
    migration = world.poisoned(ids=from_field(), mapping=mapping, max_rejected=3, range_count=10)
    _, report = world.run(migration)
    assert (report.written, report.rejected, report.is_proven) == (3, 3, True)
    with world.opened(migration, plan=False) as context:
        stored = read_quarantine_if_any(context.state.quarantine(context.manifest.ranges[0].key))
    assert stored is not None
    found = {
        item.record_id: (item.stage, target) for item, target in zip(stored.rejections, stored.target_ids, strict=True)
    }
    assert found == {"r000": ("transform", None), "r001": ("load", "x1"), "r004": ("load", "x4")}
    assert list(stored.records.payloads) == [{"ref": 5}, payloads[1], payloads[4]]


def test_a_repaired_record_is_mapped_when_it_is_replayed(world: World) -> None:
    payloads: list[Payload] = [{"ref": f"x{n}", "n": "six" if n in (2, 6) else str(n)} for n in range(8)]
    fill(world, payloads)
    mapping = {"transforms": {"n": "int"}, "field_mapping": {"n": "m"}}
    migration = world.migration(mapping=mapping, ids=from_field(), max_rejected=2, range_count=10)
    assert world.run(migration)[1].rejected == 2
    with world.opened(migration, plan=False) as context:
        path = context.state.quarantine(context.manifest.ranges[0].key)
        frame = pd.read_feather(path)
        frame["payload"] = frame["payload"].str.replace("six", "6").str.replace("x2", "x3")
        frame.to_feather(path)
        report = replay(context, path)
    assert report.loaded == 1
    (still,) = report.rejections
    assert still.record_id == "r002"
    assert "the id 'string:x3' in the target is that of 'string:r003'" in still.reason
    assert held(world.b)["x6"] == ({"ref": "x6", "m": 6}, "text 6")
    assert held(world.b)["x3"] == ({"ref": "x3", "m": 3}, "text 3")


def test_deprecated_fields_are_told(world: World) -> None:
    fill(world, [{"old": 1}, {"new": 2}, {"old": 3}])
    world.run(world.migration(mapping={"deprecated": {"old": {"use": "new"}}}))
    told = [event for event in world.events if isinstance(event, FieldsDeprecated)]
    assert [dict(event.fields) for event in told] == [{"old": 2}]
    assert [payload for payload, _ in held(world.b).values()] == [{"new": 1}, {"new": 2}, {"new": 3}]


def test_now_is_one_moment_for_all_ranges_and_after_an_interruption(world: World) -> None:
    fill(world, [{} for _ in range(9)])
    migration = world.migration(mapping={"defaults": {"at": "now"}})
    for plan in (True, False, False):
        with world.opened(migration, plan=plan) as context:
            waiting = [
                e.key for e in context.manifest.ranges if e.key not in proven_keys(context.state, context.manifest)
            ]
            migrate_range(context, waiting[0])
    moments = {payload["at"] for payload, _ in held(world.b).values()}
    assert (len(held(world.b)), moments) == (9, {context.manifest.created_at})


# -- ids ------------------------------------------------------------------------------------------------------


def from_field(field: str = "ref", **options: Any) -> dict[str, Any]:
    return {"strategy": "from_field", "field": field, **options}


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
        {"id_from": "ref", "pre_hooks": "rag_migration_pipeline_tests.steps.test_transform:move_up"},
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


# -- versions -------------------------------------------------------------------------------------------------

CHAIN = {
    "versions": [
        {"version": 2, "field_mapping": {"a": "b"}},
        {"version": 3, "field_mapping": {"b": "c"}},
    ]
}


def test_the_version_is_kept_with_the_target_and_read_when_it_becomes_a_source(world: World) -> None:
    world.a.create(replace(spec_of("docs"), metadata={"team": "search", SCHEMA_VERSION_KEY: 1}))
    fill(world, [{"a": n} for n in range(6)])
    world.run(world.migration(mapping=CHAIN))
    assert world.b.describe("docs").spec.metadata == {"team": "search", SCHEMA_VERSION_KEY: 3}
    assert [payload for payload, _ in held(world.b).values()] == [{"c": n} for n in range(6)]
    there = world.migration(mapping={**CHAIN, "to_version": 1})
    back = replace(there, source=world.target, target=world.source, target_name="home")
    world.run(back)
    assert [payload for payload, _ in held(world.a, "home").values()] == [{"a": n} for n in range(6)]
    assert world.a.describe("home").spec.metadata == {"team": "search", SCHEMA_VERSION_KEY: 1}


def test_a_mapping_for_another_version_is_refused_before_the_first_write(world: World) -> None:
    world.a.create(replace(spec_of("docs"), metadata={SCHEMA_VERSION_KEY: 2}))
    fill(world, [{"a": 1}])
    for mapping, said in (
        ({"version": 2}, "records schema version 2, the mapping makes 2 of 1"),
        ({**CHAIN, "from_version": 1}, "records schema version 2, the mapping says from_version 1"),
    ):
        with pytest.raises(MigrationError, match=said):
            world.run(world.migration(mapping=mapping))
    assert world.b.list_collections() == []


def test_a_mapping_without_a_version_leaves_none_with_the_target(world: World) -> None:
    world.a.create(replace(spec_of("docs"), metadata={SCHEMA_VERSION_KEY: 2}))
    fill(world, [{"a": 1}])
    world.run(world.migration(mapping={"field_mapping": {"a": "b"}}))
    assert world.b.describe("docs").spec.metadata == {}


def test_records_of_another_version_are_refused_by_a_target_that_records_one(world: World) -> None:
    fill(world, [{"a": 1}])
    world.b.create(replace(spec_of("docs"), metadata={SCHEMA_VERSION_KEY: 3}))
    with pytest.raises(SchemaCompatibilityError, match="schema version: the target records 3, the records are of 2"):
        world.run(world.migration(mapping={"version": 2}))
    assert world.run(world.migration(mapping={"version": 3}))[1].is_proven


def test_the_plan_says_what_a_mapping_takes_away(world: World) -> None:
    fill(world, [{"a": 1, "b": 2, "c": 3}])
    mapping = {"version": 4, "exclude_fields": ["a"], "deprecated": {"b": {"drop_at": 4}}}
    with world.opened(world.migration(mapping=mapping, ids=from_field("c"))) as context:
        found = {verdict.subject: (verdict.level.value, verdict.how) for verdict in context.manifest.plan.verdicts}
    assert found["mapping of id"] == ("note", "from the field 'c'")
    assert found["mapping of a"] == found["mapping of b"] == ("note", "left out")
    assert found["schema version"] == ("exact", "4, kept in the target's metadata")
    assert "field a" not in found, "the other verdicts are on the records as they are mapped"
