"""Records that are gone before they are carried, where more comes together: others' records, kills, other runs."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from rag_migration_pipeline.errors import ManifestError, SourceChangedError, StoreUnavailableError, ValidationError
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.orchestration.staging import stage_extract
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps import manifest as manifest_module
from rag_migration_pipeline.steps import validate
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.leaving_out import gone_digest, without_gone
from rag_migration_pipeline.steps.manifest import open_manifest, proven_keys
from rag_migration_pipeline.steps.range import RangeOptions, migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline_tests.steps.support import World, numbered, records
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
)


def carry(context: MigrationContext) -> None:
    """Carry what is left of every range; what the source lost fails it, and is noted."""
    for entry in context.manifest.ranges:
        if entry.key not in proven_keys(context.state, context.manifest):
            with suppress(SourceChangedError):
                migrate_range(context, entry.key)


def lose(world: World, migration: Migration, *ids: str) -> None:
    """Let the source lose records that are planned, and a run notice it."""
    world.a.delete("docs", list(ids))
    with world.opened(migration, plan=False) as context:
        carry(context)


@pytest.mark.parametrize("deletes", ["mirror", "tombstone", "keep"])
@pytest.mark.parametrize("is_written", [False, True])
def test_a_record_of_others_is_left_as_it_is_found(world: World, deletes: str, is_written: bool) -> None:
    """Whether an attempt that was cut short wrote over it is not known; it was there before the migration."""
    world.fill(records(numbered(8)))
    world.fill_target(records(["r002", "theirs"], start=500))
    migration = world.migration(deletes=deletes, conflict="overwrite")
    with world.opened(migration):
        pass
    with breaking(world, migration, 2 if is_written else 0) as context, suppress(StoreUnavailableError):
        run_pending(context)
    before = numbers(world)
    assert before["r002"] == (2 if is_written else 500)
    lose(world, migration, "r002")
    report = follow(world, migration)
    assert report.is_proven
    assert (numbers(world)["r002"], numbers(world)["theirs"]) == (before["r002"], 501)
    assert all("deleted_at" not in payload for payload in world.b.fetch("docs", ["r002", "theirs"]).payloads)
    assert sync(world, migration)[2].is_proven


def test_a_record_of_others_that_was_written_over_and_proven_goes_like_any_other(world: World) -> None:
    world.fill_target(records(["r002"], start=500))
    migration = world.migration(deletes="mirror", conflict="overwrite")
    start(world, migration, 8)
    world.fill(records(["r002", "r003"], start=70))
    plan(world, migration)
    lose(world, migration, "r002")
    assert follow(world, migration).is_proven
    assert contents(world)[1] == contents(world)[0]


@pytest.mark.parametrize("deletes", ["mirror", "tombstone", "keep"])
@pytest.mark.parametrize("after", range(9))
def test_a_record_that_is_back_after_leaving_out_was_cut_short_is_there(world: World, deletes: str, after: int) -> None:
    migration = world.migration(deletes=deletes)
    start(world, migration)
    world.fill(records(["r002", "r005", "r009"], start=70))
    plan(world, migration)
    held = world.a.fetch("docs", ["r002"])
    lose(world, migration, "r002")
    with stopping(after), suppress(StoppedError), world.opened(migration, plan=False) as context:
        without_gone(context)
    world.fill(held)
    assert follow(world, migration).is_proven
    assert contents(world)[1] == contents(world)[0]


@pytest.mark.parametrize("deletes", ["mirror", "tombstone", "keep"])
@pytest.mark.parametrize("after", range(6))
def test_a_new_record_that_is_lost_after_its_range_was_half_booked(world: World, deletes: str, after: int) -> None:
    migration = world.migration(deletes=deletes)
    start(world, migration)
    world.fill(records(["r100"], start=70))
    plan(world, migration)
    with stopping(after), suppress(StoppedError), world.opened(migration, plan=False) as context:
        run_pending(context)
    lose(world, migration, "r100")
    assert follow(world, migration).is_proven
    source, target = contents(world)
    assert {i: target[i] for i in source} == source
    assert target.keys() - source.keys() <= (set() if deletes == "mirror" else {"'r100'"})


@pytest.mark.parametrize("deletes", ["mirror", "keep"])
def test_what_a_narrowed_launch_was_to_carry_once_more_may_be_lost(world: World, deletes: str) -> None:
    migration = world.migration(deletes=deletes)
    start(world, migration, 8)
    narrowed = replace(migration, only=parse_filter({"n": {"$gte": 1}}))
    with world.opened(narrowed, plan=False) as context:
        stage_extract(context, context.manifest.ranges[0].key)
    lose(world, migration, "r002")
    assert follow(world, migration).is_proven
    source, target = contents(world)
    assert target.keys() - source.keys() == (set() if deletes == "mirror" else {"'r002'"})
    assert {i: target[i] for i in source} == source


@pytest.mark.parametrize("deletes", ["mirror", "tombstone"])
@pytest.mark.parametrize("is_back", [False, True])
def test_a_planning_that_was_cut_short_says_nothing_to_leaving_out(world: World, deletes: str, is_back: bool) -> None:
    migration = world.migration(deletes=deletes)
    start(world, migration)
    held = world.a.fetch("docs", ["r009"])
    world.a.delete("docs", ["r009"])
    with stopping(1), suppress(StoppedError):
        plan(world, migration)
    if is_back:
        world.fill(held)
    world.b.delete("docs", ["r001"])
    with world.opened(migration, plan=False) as context, pytest.raises(ValidationError):
        prove_collection(context)
    lose(world, migration, "r003")
    assert follow(world, migration).is_proven
    source, target = contents(world)
    assert {i: target[i] for i in source} == source
    assert deletes == "tombstone" or target == source


def test_a_run_that_began_before_another_one_planned_on_goes_on_from_that(world: World) -> None:
    migration = world.migration(deletes="mirror")
    start(world, migration)
    world.fill(records(["r002", "r005", "r009"], start=70))
    plan(world, migration)
    lose(world, migration, "r002")
    with world.opened(migration, plan=False) as second:
        with world.opened(migration, plan=False) as first:
            context = without_gone(first)
            world.a.delete("docs", ["r005"])
            with pytest.raises(SourceChangedError):
                migrate_range(context, context.manifest.ranges[1].key)  # all of it once more
        later = without_gone(second)
        assert (context.manifest.count, later.manifest.count) == (10, 9)
        assert later.manifest.generation == context.manifest.generation + 1
    assert follow(world, migration).is_proven
    assert contents(world)[1] == contents(world)[0]


def test_nothing_is_noted_as_pending_while_another_run_plans_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the stored plan and the note nobody stores another one: it would not know of the note."""
    world.fill(records(numbered(11)))
    away = world.poisoned_away("r009")
    with world.opened(away):
        pass
    world.a.delete("docs", ["r001"])
    with world.opened(away, plan=False) as context:
        first, _, last = (entry.key for entry in context.manifest.ranges)
        with pytest.raises(SourceChangedError):
            migrate_range(context, first)
        store, booking = manifest_module.store_manifest, []

        def store_slowly(*arguments: Any) -> None:
            booking.append(pool.submit(migrate_range, context, last, RangeOptions(on_failure=lambda _batch: None)))
            with pytest.raises(TimeoutError):  # it waits for the plan
                booking[0].result(1.0)
            store(*arguments)

        with monkeypatch.context() as patch, world.opened(away, plan=False) as other, ThreadPoolExecutor(1) as pool:
            patch.setattr(manifest_module, "store_manifest", store_slowly)
            after = without_gone(other)
            assert isinstance(booking[0].exception(30.0), ManifestError)
        assert last not in proven_keys(after.state, after.manifest)
    assert follow(world, world.migration()).written == 10


def test_what_was_noted_as_gone_is_forgotten_when_it_is_found(world: World) -> None:
    world.fill(records(numbered(8)))
    with world.opened() as context:
        held = world.a.fetch("docs", ["r001"])
        world.a.delete("docs", ["r001"])
        carry(context)
        assert gone_digest(context.state)
        world.fill(held)
        carry(context)
        assert not gone_digest(context.state)
        assert prove_collection(context).is_proven


def test_a_record_that_was_written_in_vain_and_left_the_filter_is_taken_from_a_mirror(world: World) -> None:
    world.fill(records(numbered(8)))
    migration = world.migration(deletes="mirror", filter={"n": {"$lt": 100}})
    with world.opened(migration):
        pass
    with breaking(world, migration, 3) as context, suppress(StoreUnavailableError):
        run_pending(context)
    assert "r001" in numbers(world)
    world.fill(records(["r001"], start=300))
    report = follow(world, migration)
    assert (report.is_proven, report.left_over) == (True, 0)
    assert numbers(world).keys() == {i for i in numbered(8) if i != "r001"}


def test_what_does_not_add_up_deletes_nothing_and_is_carried_whole_the_next_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration = world.migration(deletes="mirror")
    start(world, migration)
    world.fill(records(["r001"], start=70))
    world.a.delete("docs", ["r002"])
    plan(world, migration)
    merged = validate.merged

    def lossy(*arguments: Any) -> Any:
        receipt, seen = merged(*arguments)
        return replace(receipt, counts={**receipt.counts, "written": 1}), seen

    with monkeypatch.context() as patch, world.opened(migration, plan=False) as context:
        patch.setattr(validate, "merged", lossy)
        with pytest.raises(ValidationError, match="the steps account for"):
            run_pending(context)
    assert "r002" in numbers(world)
    assert follow(world, migration).is_proven
    assert contents(world)[1] == contents(world)[0]
    assert open_manifest(world.state(migration), migration).generation == 1
