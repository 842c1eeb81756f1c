"""A mapping changes the records of a migration, and sets aside by name those that it cannot be applied to.

Belongs here: mapped records, and schema versions. Does not belong here: new ids (``test_new_ids.py``), and a mapping
without a migration (``unit/test_mapper.py``).
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from rag_migration_pipeline.errors import MigrationError, RecordRejectedError, SchemaCompatibilityError, SpecError
from rag_migration_pipeline.events import BatchDone, FieldsDeprecated
from rag_migration_pipeline.mapping import parse_mapping
from rag_migration_pipeline.mapping.mapper import SCHEMA_VERSION_KEY, MappingPlan
from rag_migration_pipeline.quarantine import read_quarantine_if_any
from rag_migration_pipeline.records import Payload
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.replay import replay
from rag_migration_pipeline.steps.transform import transform_batches
from rag_migration_pipeline_tests.steps.support import World, fill, from_field, held, records, spec_of
from rag_migration_pipeline_tests.unit.test_mapping import FEATURES


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
