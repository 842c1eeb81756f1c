"""A sync that is cut short, and a source that loses records in the middle of one: nothing is lost, nothing stops."""

from contextlib import suppress
from pathlib import Path

import pytest

from rag_migration_pipeline.errors import (
    ManifestError,
    SourceChangedError,
    StoreUnavailableError,
)
from rag_migration_pipeline.events import RecordsGone
from rag_migration_pipeline.steps.context import open_migration
from rag_migration_pipeline.steps.leaving_out import without_gone
from rag_migration_pipeline.steps.range import RangeOptions, migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline_tests.steps.support import World, end_world, new_world, numbered, records
from rag_migration_pipeline_tests.steps.syncs import (
    StoppedError,
    breaking,
    contents,
    follow,
    numbers,
    plan,
    run_pending,
    start,
    stopping,
    sync,
    unfinished,
)


@pytest.mark.parametrize("deletes", ["mirror", "tombstone", "keep"])
def test_a_planning_that_was_cut_short_leaves_nothing_to_the_next_one(tmp_path: Path, deletes: str) -> None:
    """What a source lost and has again is neither deleted nor marked, wherever the planning in between was killed."""
    for after in range(20):
        world = new_world(tmp_path / str(after))
        migration = world.migration(deletes=deletes)
        start(world, migration)
        held = world.a.fetch("docs", ["r001", "r005"])
        world.a.delete("docs", ["r001", "r005"])
        world.fill(records(["r002", "r030"], start=70))
        is_stopped = True
        with stopping(after), suppress(StoppedError):
            plan(world, migration)
            is_stopped = False
        world.fill(held)
        world.fill(records(["r010"], start=90))
        assert follow(world, migration).is_proven
        source, target = contents(world)
        assert {i: target[i] for i in source} == source
        assert deletes == "keep" or target.keys() == source.keys()
        end_world(world)
        if not is_stopped:
            assert after > 4
            return
    raise AssertionError("the planning was stopped every time")


@pytest.mark.parametrize("deletes", ["mirror", "tombstone", "keep"])
@pytest.mark.parametrize("interruption", range(0, 16, 2))
def test_what_is_gone_before_it_is_carried_stops_nothing(world: World, deletes: str, interruption: int) -> None:
    migration = world.migration(deletes=deletes)
    start(world, migration)
    world.fill(records(["r002", "r009"], start=70))
    world.fill(records(["r020", "r021", "r022", "r023", "r024", "r025"], start=80))
    plan(world, migration)
    with breaking(world, migration, interruption) as context, suppress(StoreUnavailableError):
        run_pending(context)
    before = numbers(world).keys()
    world.a.delete("docs", ["r002", "r020", "r025"])
    report = follow(world, migration)
    source, target = contents(world)
    assert report.is_proven
    assert {i: target[i] for i in source} == source
    extra = numbers(world).keys() - {f"r{n:03d}" for n in (*range(2), *range(3, 11), 21, 22, 23, 24)}
    assert extra == (set() if deletes == "mirror" else {"r002", "r020", "r025"} & before)
    assert len(target) == len(source) + len(extra)
    marked = {i for i in extra if "deleted_at" in world.b.fetch("docs", [i]).payloads[0]}
    assert marked == (extra if deletes == "tombstone" else set())
    assert sync(world, migration)[0].count == 0


@pytest.mark.parametrize("interruption", range(1, 6))
def test_a_first_run_leaves_out_what_is_gone_and_says_so(world: World, interruption: int) -> None:
    world.fill(records(numbered(11)))
    migration = world.migration(deletes="mirror")
    with world.opened(migration):
        pass
    with breaking(world, migration, interruption) as context, suppress(StoreUnavailableError):
        run_pending(context)
    world.a.delete("docs", ["r006", "r009"])
    with world.opened(migration, plan=False) as context, pytest.raises(SourceChangedError, match="r006"):
        run_pending(without_gone(context))
    world.events.clear()
    assert follow(world, migration).is_proven
    gone = [event.ids for event in world.events if isinstance(event, RecordsGone)]
    assert [i for ids in gone for i in ids] == ["r006", "r009"]
    source, target = contents(world)
    assert target == source


def test_a_record_that_is_back_is_carried(world: World) -> None:
    world.fill(records(numbered(6)))
    with world.opened():
        pass
    held = world.a.fetch("docs", ["r001"])
    world.a.delete("docs", ["r001"])
    with world.opened(plan=False) as context, pytest.raises(SourceChangedError):
        run_pending(context)
    world.fill(held)
    assert follow(world, world.migration()).written == 6
    assert not any(isinstance(event, RecordsGone) for event in world.events)


def test_a_source_that_lost_most_of_what_was_planned_is_refused(world: World) -> None:
    world.fill(records(numbered(4)))
    with world.opened():
        pass
    world.a.delete("docs", ["r000", "r001", "r002"])
    for _ in range(2):
        with world.opened(plan=False) as context, pytest.raises(SourceChangedError, match="3 of 4"):
            run_pending(without_gone(context))


def test_a_step_of_before_notes_nothing_as_pending_in_a_plan_that_went_on(world: World) -> None:
    """Nobody would come back to it: the next plan reads what is pending in itself."""
    world.fill(records(numbered(11)))
    away = world.poisoned_away("r009")
    with world.opened(away):
        pass
    world.a.delete("docs", ["r001"])
    with world.opened(away, plan=False) as context:
        first, _, last = (entry.key for entry in context.manifest.ranges)
        with pytest.raises(SourceChangedError):
            migrate_range(context, first)
        with world.opened(away, plan=False) as other:
            assert without_gone(other).manifest.generation == 1
        with pytest.raises(ManifestError, match="generation 1"):
            migrate_range(context, last, RangeOptions(on_failure=lambda _batch: None))
    assert follow(world, world.migration()).written == 10


@pytest.mark.parametrize("after", range(12))
def test_leaving_out_that_is_cut_short_loses_nothing(world: World, after: int) -> None:
    migration = world.migration(deletes="mirror")
    start(world, migration)
    world.fill(records(["r002", "r005", "r009"], start=70))
    world.fill(records(["r020", "r021"], start=80))
    plan(world, migration)
    world.a.delete("docs", ["r002", "r020"])
    with world.opened(migration, plan=False) as context:
        for key in unfinished(world, migration) or ():
            with suppress(SourceChangedError):
                migrate_range(context, key)
    with stopping(after), suppress(StoppedError), world.opened(migration, plan=False) as context:
        without_gone(context)
    assert follow(world, migration).is_proven
    source, target = contents(world)
    assert target == source


@pytest.mark.parametrize("conflict", [None, "skip", "overwrite", "fail"])
def test_a_run_afresh_after_a_sync_that_was_cut_short_knows_its_own_records(world: World, conflict: str | None) -> None:
    migration = world.migration(conflict=conflict)
    start(world, migration)
    world.fill(records(["r002", "r009"], start=70))
    plan(world, migration)
    with open_migration(migration, world.state_dir, plan=True, fresh=True) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        report = prove_collection(context)
    assert (report.is_proven, report.written, report.skipped) == (True, 11, 0)
    source, target = contents(world)
    assert target == source
