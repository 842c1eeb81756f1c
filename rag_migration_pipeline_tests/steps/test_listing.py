"""What is asked of a source to find out which ids it has, and which names new ones had before they were packed."""

from dataclasses import replace
from typing import Any

import pytest

from rag_migration_pipeline.envelope import ENVELOPE_KEY
from rag_migration_pipeline.envelope.notes import seal
from rag_migration_pipeline.errors import SchemaCompatibilityError, SourceChangedError
from rag_migration_pipeline.options import Detect
from rag_migration_pipeline.records import RecordId, id_text
from rag_migration_pipeline.steps.changes import detect_changes
from rag_migration_pipeline.steps.listing import list_ids
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.steps.syncing import plan_changes
from rag_migration_pipeline_tests.steps.support import World, fill, numbered, records, with_faults


def packed(world: World, stored: list[RecordId], originals: list[RecordId]) -> None:
    """Write records into the source as an earlier migration packed them."""
    pairs = zip(stored, originals, strict=True)
    fill(world, [{"n": 1, ENVELOPE_KEY: seal(now, {"id": id_text(before)})} for now, before in pairs], stored)


@pytest.mark.parametrize("narrowed", [{}, {"filter": {"n": {"$gte": 0}}}])
def test_unchanged_ids_cost_two_passes_over_them_and_nothing_else(world: World, narrowed: dict[str, Any]) -> None:
    migration = world.migration(**narrowed)
    world.fill(records(numbered(11)))
    assert world.run(migration)[1].is_proven
    asked: dict[str, list[str]] = {"source": [], "target": []}
    watched = replace(
        migration,
        source=with_faults(world.source, lambda _, name: asked["source"].append(name)),
        target=with_faults(world.target, lambda _, name: asked["target"].append(name)),
    )
    with world.opened(watched, plan=False) as context:
        for calls in asked.values():
            calls.clear()
        changes = detect_changes(context, Detect.IDS)
        assert changes.count == 0
        assert list(changes.listing.ids) == numbered(11)
    assert asked["source"].count("iter_ids") == 2
    assert set(asked["source"]) <= {"iter_ids", "count", "narrow", "spec", "describe", "close"}
    assert set(asked["target"]) <= {"close"}


def test_ids_without_originals_hold_still_as_others_do(world: World) -> None:
    world.fill(records(numbered(5)))
    added = iter(range(100))
    growing = with_faults(world.source, lambda store, _: store.upsert("docs", records([f"new{next(added)}"])))
    with growing.open() as source, pytest.raises(SourceChangedError, match="changing"):
        list_ids(source, "docs", with_originals=False)


def test_originals_are_those_of_the_envelopes_and_the_ids_themselves_elsewhere(world: World) -> None:
    world.fill(records(["a", "z"]))
    packed(world, ["p", "q"], ["before p", 7])
    listing = list_ids(world.a, "docs")
    assert (listing.ids, listing.originals) == (["a", "p", "q", "z"], ["a", "before p", 7, "z"])
    assert all(one is other for one, other in zip(listing.ids, listing.originals, strict=True) if one in ("a", "z"))
    assert list_ids(world.a, "docs", with_originals=False).originals == []


def test_a_record_that_was_packed_and_came_later_gets_the_name_that_it_had_before(world: World) -> None:
    packed(world, ["p0", "p1"], ["first", "second"])
    assert world.run()[1].is_proven
    packed(world, ["p2"], ["third"])
    for detect in (Detect.IDS, Detect.PAYLOAD):
        with world.opened(plan=False) as context:
            changes = detect_changes(context, detect)
            assert list(changes.added) == ["p2"]
    sync_by_ids(world)
    assert {i for page in world.b.iter_ids("docs") for i in page} == {"first", "second", "third"}


def test_a_packed_record_that_would_meet_another_is_refused_by_its_name_of_before(world: World) -> None:
    packed(world, ["p0"], ["first"])
    assert world.run()[1].is_proven
    packed(world, ["p1"], ["first"])
    with pytest.raises(SchemaCompatibilityError, match="string:first"):
        sync_by_ids(world)


def sync_by_ids(world: World) -> None:
    """Sync by ids, and prove it."""
    with world.opened(plan=False) as context:
        plan_changes(context, detect_changes(context, Detect.IDS))
    with world.opened(plan=False) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        assert prove_collection(context).is_proven
