"""Records that no range claims and that are gone: told once where they were others', and expected no longer."""

import pytest

from rag_migration_pipeline.errors import ValidationError
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.manifest import open_manifest, read_known_ids
from rag_migration_pipeline.steps.report import Report
from rag_migration_pipeline.steps.vanished import forget_vanished
from rag_migration_pipeline_tests.steps.support import World, numbered, records
from rag_migration_pipeline_tests.steps.syncs import contents, numbers, plan, start, sync


def vanishing(world: World, migration: Migration, *ids: str) -> Report:
    """Let others remove records from the target; the next proof fails for them, once, and the one after succeeds."""
    world.b.delete("docs", list(ids))
    with pytest.raises(ValidationError, match="was in the target before the migration, and is gone") as caught:
        world.run(migration)
    assert "run again, and they are not expected any more" in caught.value.todo
    report = world.run(migration)[1]
    assert report.is_proven
    assert sync(world, migration)[2].is_proven
    return report


@pytest.mark.parametrize("deletes", ["keep", "tombstone"])
def test_what_was_left_over_may_be_tidied_away(world: World, deletes: str) -> None:
    migration = world.migration(deletes=deletes)
    start(world, migration)
    world.a.delete("docs", ["r002", "r005"])
    assert sync(world, migration)[2].left_over == 2
    world.b.delete("docs", ["r002"])
    for number, unread in ((70, 0), (80, 6)):  # the first time the counts differ, and everything is read back
        world.fill(records(["r001"], start=number))
        report = sync(world, migration)[2]
        assert (report.is_proven, report.left_over, report.unread) == (True, 1, unread)
    assert contents(world)[1].keys() - contents(world)[0].keys() == {"'r005'"}


@pytest.mark.parametrize("conflict", ["overwrite", "skip"])
def test_others_may_remove_what_is_theirs(world: World, conflict: str) -> None:
    world.fill(records(numbered(5)))
    world.fill_target(records(["theirs", "more"], start=900))
    migration = world.migration(conflict=conflict)
    world.run(migration)
    assert vanishing(world, migration, "theirs").target_count == 6
    assert vanishing(world, migration, "more").target_count == 5


def test_a_record_that_was_skipped_for_others_is_carried_when_theirs_is_gone(world: World) -> None:
    world.fill(records(numbered(9)))
    world.fill_target(records(["r002", "r006", "theirs"], start=900))
    migration = world.migration(conflict="skip")
    world.run(migration)
    report = vanishing(world, migration, "r006", "theirs")
    assert (report.written, report.skipped) == (8, 1)
    assert numbers(world) == {f"r{n:03d}": 900 if n == 2 else n for n in range(9)}


def test_a_record_of_others_that_was_written_over_and_left_over_may_go(world: World) -> None:
    world.fill_target(records(["r002"], start=900))
    migration = world.migration(conflict="overwrite")
    start(world, migration)
    world.a.delete("docs", ["r002"])
    assert sync(world, migration)[2].is_proven
    assert vanishing(world, migration, "r002").target_count == 10


def test_nothing_is_forgotten_where_another_run_has_planned_on(world: World) -> None:
    world.fill_target(records(["theirs"], start=900))
    migration = world.migration(conflict="overwrite")
    start(world, migration)
    with world.opened(migration, plan=False) as context:
        world.a.delete("docs", ["r002"])
        plan(world, migration)
        forget_vanished(context, {"theirs"})
        stored = open_manifest(context.state, migration)
        assert (stored.generation, read_known_ids(context.state, stored)) == (1, ["theirs"])
