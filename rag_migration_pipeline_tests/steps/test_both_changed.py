"""Records that changed on both sides since the last sync are listed, and written over only where that is allowed."""

from contextlib import suppress

import pytest

from rag_migration_pipeline.errors import ConflictError, StoreUnavailableError, ValidationError
from rag_migration_pipeline.events import BothSidesChanged
from rag_migration_pipeline.steps.going_on import go_on
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline_tests.steps.support import World, dump, records
from rag_migration_pipeline_tests.steps.syncs import (
    StoppedError,
    breaking,
    contents,
    plan,
    run_pending,
    start,
    stopping,
    sync,
)


def found(world: World) -> list[tuple[str, ...]]:
    """Return the ids that a sync tells of."""
    return [tuple(map(str, event.ids)) for event in world.events if isinstance(event, BothSidesChanged)]


def change_sides(world: World) -> None:
    """Change r001 and r002 in the source, r003 in both, r004 in the target, and delete r005 here, change it there."""
    world.fill(records(["r001", "r002", "r003"], start=60))
    world.b.upsert("docs", records(["r003", "r004"], start=80))
    world.a.delete("docs", ["r005"])
    world.b.upsert("docs", records(["r005"], start=90))


def test_nothing_is_told_where_one_side_changed(world: World) -> None:
    migration = world.migration()
    start(world, migration)
    world.fill(records(["r001"], start=60))
    assert sync(world, migration)[2].is_proven
    assert found(world) == []


@pytest.mark.parametrize("deletes", ["mirror", "tombstone", "keep"])
def test_what_changed_on_both_sides_is_found_by_what_was_written(world: World, deletes: str) -> None:
    migration = world.migration(deletes=deletes)
    start(world, migration)
    change_sides(world)
    with suppress(ValidationError):  # r004, which only the target changed, contradicts the proof
        sync(world, migration)
    assert found(world) == [("r003",) if deletes == "keep" else ("r003", "r005")]  # what is kept is not written over


def test_under_fail_nothing_is_planned_or_written(world: World) -> None:
    migration = world.migration(both_changed="fail", deletes="mirror")
    start(world, migration)
    change_sides(world)
    before = dump(world.b)
    with pytest.raises(ConflictError, match=r"2 records changed in the source, and in .*string:r003, string:r005"):
        sync(world, migration)
    assert dump(world.b) == before
    with world.opened(migration, plan=False) as context:
        assert context.manifest.generation == 0


def test_what_the_source_has_is_written_and_the_ids_are_told(world: World) -> None:
    migration = world.migration(both_changed="overwrite")
    start(world, migration)
    world.fill(records(["r001", "r003"], start=60))
    world.b.upsert("docs", records(["r003"], start=80))
    _, _, report = sync(world, migration)
    assert report.is_proven
    source, target = contents(world)
    assert target == source
    assert found(world) == [("r003",)]


@pytest.mark.parametrize("deletes", ["mirror", "tombstone", "keep"])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_what_is_the_same_on_both_sides_is_settled(world: World, deletes: str, is_mapped: bool) -> None:
    mapping = {"field_mapping": {"n": "number"}} if is_mapped else None
    migration = world.migration(both_changed="fail", deletes=deletes, mapping=mapping)
    start(world, migration)
    world.fill(records(["r001", "r002"], start=60))
    theirs = records(["r001"], start=60)
    world.b.upsert("docs", theirs.with_columns(payloads=[{"number": 60}]) if is_mapped else theirs)
    world.a.delete("docs", ["r005"])
    world.b.delete("docs", ["r005"])
    assert sync(world, migration)[2].is_proven
    assert found(world) == []
    assert len(contents(world)[1]) == 10


def test_a_refusal_is_settled_by_making_both_sides_the_same(world: World) -> None:
    migration = world.migration(both_changed="fail")
    start(world, migration)
    world.fill(records(["r003"], start=60))
    world.b.upsert("docs", records(["r003"], start=80))
    with pytest.raises(ConflictError):
        sync(world, migration)
    world.a.upsert("docs", world.b.fetch("docs", ["r003"]))
    _, _, report = sync(world, migration)
    assert report.is_proven
    assert contents(world)[1] == contents(world)[0]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_what_changes_in_the_target_while_a_sync_is_interrupted_is_not_written_over(world: World, written: int) -> None:
    """What the sync itself wrote before it was cut short is no change of others."""
    migration = world.migration(both_changed="fail", deletes="mirror")
    start(world, migration)
    world.fill(records(["r001", "r005", "r009"], start=60))
    world.a.delete("docs", ["r006"])
    plan(world, migration)
    with breaking(world, migration, 2 * written) as context, suppress(StoreUnavailableError):
        run_pending(context)
    with world.opened(migration, plan=False) as context:
        assert go_on(context).manifest.generation == 1
    world.b.upsert("docs", records(["r009"], start=80))
    before = dump(world.b)
    with world.opened(migration, plan=False) as context, pytest.raises(ConflictError, match=r"1 records .*string:r009"):
        go_on(context)
    assert dump(world.b) == before
    with world.opened(world.migration(both_changed="overwrite", deletes="mirror"), plan=False) as context:
        _, only = run_pending(go_on(context))
        assert prove_collection(context, only).is_proven
    assert contents(world)[1] == contents(world)[0]


@pytest.mark.parametrize("deletes", ["mirror", "tombstone", "keep"])
@pytest.mark.parametrize("after", range(8))
def test_a_sync_is_not_refused_for_what_it_took_away_itself(world: World, deletes: str, after: int) -> None:
    """Also where a kill came between the deletion and its booking, and for a record that left the filter."""
    migration = world.migration(both_changed="fail", deletes=deletes, filter={"n": {"$lt": 50}}, push_down=False)
    start(world, migration)
    world.fill(records(["r001", "r005"], start=70))
    world.a.delete("docs", ["r006"])
    plan(world, migration)
    with stopping(after), suppress(StoppedError), world.opened(migration, plan=False) as context:
        run_pending(context)
    with world.opened(migration, plan=False) as context:
        _, only = run_pending(go_on(context))
        assert prove_collection(context, only).is_proven


def test_what_left_the_filter_and_was_changed_there_since_is_not_deleted(world: World) -> None:
    migration = world.migration(both_changed="fail", deletes="mirror", filter={"n": {"$lt": 50}}, push_down=False)
    start(world, migration)
    world.fill(records(["r001"], start=70))
    plan(world, migration)
    world.b.upsert("docs", records(["r001"], start=70))
    with world.opened(migration, plan=False) as context, pytest.raises(ConflictError, match="string:r001"):
        go_on(context)
