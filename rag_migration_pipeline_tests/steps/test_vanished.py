"""Records that no range claims and that are gone: told where they were others', and expected no longer."""

import pytest

from rag_migration_pipeline.errors import StagingError, ValidationError
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.going_on import go_on
from rag_migration_pipeline.steps.manifest import open_manifest, read_known_ids
from rag_migration_pipeline.steps.report import Report, prove_collection
from rag_migration_pipeline.steps.vanished import forget_vanished, note_vanished
from rag_migration_pipeline_tests.steps.support import World, numbered, records
from rag_migration_pipeline_tests.steps.syncs import contents, numbers, plan, run_pending, start, sync


def again(world: World, migration: Migration) -> Report:
    """Run once more."""
    with world.opened(migration, plan=False) as found:
        context = go_on(found)
        run_pending(context)
        return prove_collection(context)


def missing(world: World, migration: Migration) -> None:
    """Prove, and fail for records of others that are gone."""
    with pytest.raises(ValidationError, match="was in the target before the migration, and is gone") as caught:
        again(world, migration)
    assert "what is gone then too is expected no longer" in caught.value.todo


def vanishing(world: World, migration: Migration, *ids: str) -> Report:
    """Let others remove records from the target; the next proof fails for them, and the one after succeeds."""
    world.b.delete("docs", list(ids))
    missing(world, migration)
    report = again(world, migration)
    assert report.is_proven
    assert sync(world, migration)[2].is_proven
    assert not world.state(migration).vanished.exists()
    return report


@pytest.mark.parametrize("deletes", ["keep", "tombstone"])
def test_what_was_left_over_may_be_tidied_away(world: World, deletes: str) -> None:
    migration = world.migration(deletes=deletes)
    start(world, migration)
    world.a.delete("docs", ["r002", "r005"])
    assert sync(world, migration)[2].left_over == 2
    held = world.b.fetch("docs", ["r002"])
    world.b.delete("docs", ["r002"])
    for number, unread in ((70, 0), (80, 6)):  # the first time the counts differ, and everything is read back
        world.fill(records(["r001"], start=number))
        report = sync(world, migration)[2]
        assert (report.is_proven, report.left_over, report.unread) == (True, 1, unread)
    assert contents(world)[1].keys() - contents(world)[0].keys() == {"'r005'"}
    world.b.upsert("docs", held)
    assert again(world, migration).left_over == 2, "it is known as the migration's"


@pytest.mark.parametrize("conflict", ["overwrite", "skip"])
def test_others_may_remove_what_is_theirs(world: World, conflict: str) -> None:
    world.fill(records(numbered(5)))
    world.fill_target(records(["theirs", "more"], start=900))
    migration = world.migration(conflict=conflict)
    world.run(migration)
    assert vanishing(world, migration, "theirs").target_count == 6
    assert vanishing(world, migration, "more").target_count == 5


@pytest.mark.parametrize("record_id", ["theirs", "r002"])
def test_what_others_bring_back_is_theirs_as_before(world: World, record_id: str) -> None:
    world.fill(records(numbered(5)))
    world.fill_target(records(["r002", "theirs"], start=900))
    migration = world.migration(conflict="skip")
    world.run(migration)
    held = world.b.fetch("docs", [record_id])
    world.b.delete("docs", [record_id])
    for _ in range(2):
        missing(world, migration)
        world.b.upsert("docs", held)
        assert again(world, migration).is_proven
        world.b.delete("docs", [record_id])
    world.b.upsert("docs", held)
    assert world.b.fetch("docs", [record_id]).payloads == held.payloads
    with world.opened(migration, plan=False) as context:
        assert set(context.known_ids) == {"r002", "theirs"}


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_record_that_was_skipped_for_others_is_carried_when_theirs_is_gone(world: World, is_seen: bool) -> None:
    world.fill(records(numbered(9)))
    world.fill_target(records(["r002", "r006", "theirs"], start=900))
    migration = world.migration(conflict="skip")
    world.run(migration)
    if not is_seen:  # as an earlier version left it
        (path,) = world.state(migration).root.glob("sightings/*/*_000001.arrow")
        path.unlink()
    report = vanishing(world, migration, "r006", "theirs")
    assert (report.written, report.skipped) == (8, 1)
    assert numbers(world) == {f"r{n:03d}": 900 if n == 2 else n for n in range(9)}


def test_a_record_of_others_that_was_written_over_and_left_over_may_go(world: World) -> None:
    world.fill_target(records(["r002"], start=900))
    migration = world.migration(conflict="overwrite")
    start(world, migration)
    world.a.delete("docs", ["r002"])
    assert sync(world, migration)[2].is_proven
    world.b.delete("docs", ["r002"])
    assert again(world, migration).target_count == 10


def test_what_the_migration_took_away_itself_is_nobody_elses_loss(world: World) -> None:
    """A record of others was written over, then it changed and was set aside: its former version goes from a mirror."""
    world.fill_target(records(["r002"], start=900))
    migration = world.poisoned(conflict="overwrite", deletes="mirror", max_rejected=3)
    start(world, migration)
    world.fill(records(["r002"], start=50, poison=1))
    _, _, report = sync(world, migration)
    assert (report.is_proven, report.rejected) == (True, 1)
    assert "r002" not in numbers(world)
    assert sync(world, migration)[2].is_proven


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


def test_a_damaged_note_says_what_to_do(world: World) -> None:
    world.fill_target(records(["theirs"], start=900))
    migration = world.migration(conflict="overwrite")
    start(world, migration)
    with world.opened(migration, plan=False) as context:
        note_vanished(context, ["theirs"])
        context.state.vanished.write_bytes(b"{")
        with pytest.raises(StagingError, match="is damaged") as caught:
            go_on(context)
    assert "Remove it" in caught.value.todo
