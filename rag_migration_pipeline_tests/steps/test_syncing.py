"""After a sync the target holds what the source holds now, and nothing was carried that did not change."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.errors import (
    ConflictError,
    ManifestError,
    SchemaCompatibilityError,
    SourceChangedError,
    SpecError,
    StoreUnavailableError,
)
from rag_migration_pipeline.options import Detect
from rag_migration_pipeline.records import DenseColumn, RecordId
from rag_migration_pipeline.steps.changes import detect_by_watermark, detect_changes, newest_value
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.syncing import plan_changes
from rag_migration_pipeline_tests.steps.support import World, dump, end_world, new_world, numbered, records
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

Change = Callable[[World], None]


def test_a_source_that_did_not_change_costs_no_record(world: World) -> None:
    migration = world.migration()
    start(world, migration)
    for detect in ("ids", "payload", "full"):
        changes, carried, report = sync(world, world.migration(detect=detect))
        assert (changes.count, carried, report.is_proven, report.unread) == (0, 0, True, 11)


def test_only_new_changed_and_lost_records_are_carried(world: World) -> None:
    migration = world.migration(deletes="mirror")
    start(world, migration)
    world.fill(records(["r002", "r009"], start=70))
    world.fill(records(["r0045", "r011", "r012", "r013", "r014", "r015"], start=80))
    world.a.delete("docs", ["r000", "r010"])
    changes, carried, report = sync(world, migration)
    assert list(changes.added) == ["r0045", "r011", "r012", "r013", "r014", "r015"]
    assert sorted(i for ids in changes.changed.values() for i in ids) == ["r002", "r009"]
    assert sorted(i for ids in changes.gone.values() for i in ids) == ["r000", "r010"]
    assert carried == 8
    assert (report.is_proven, report.written, report.left_over) == (True, 15, 0)
    source, target = contents(world)
    assert target == source
    assert sync(world, migration)[0].count == 0


def test_ranges_keep_their_keys_and_their_size(world: World) -> None:
    migration = world.migration(deletes="mirror", max_deletes=1.0)
    start(world, migration)
    with world.opened(plan=False) as context:
        before = [entry.key for entry in context.manifest.ranges]
    world.a.delete("docs", numbered(4, 4))  # the second range, all of it
    world.fill(records(numbered(6, 11), start=50))
    sync(world, migration)
    with world.opened(plan=False) as context:
        first = {entry.key: entry.count for entry in context.manifest.ranges}
    assert list(first.values()) == [4, 0, 4, 4, 1]
    assert list(first)[:3] == before
    world.fill(records(["r020"], start=90))
    sync(world, migration)
    with world.opened(plan=False) as context:
        second = {entry.key: entry.count for entry in context.manifest.ranges}
    assert list(second.values()) == [4, 4, 4, 2], "the empty range is gone"
    assert set(second) < set(first)
    world.a.delete("docs", ["r016", "r020"])
    sync(world, migration)
    sync(world, migration)
    world.fill(records(["r030", "r031"], start=95))
    sync(world, migration)
    with world.opened(plan=False) as context:
        third = [entry.key for entry in context.manifest.ranges]
    assert third[-1] not in first, "the key of a range that is gone is never given again"
    source, target = contents(world)
    assert target == source


def test_what_the_source_lost_stays_and_is_counted_where_deletions_are_not_mirrored(world: World) -> None:
    migration = world.migration()
    start(world, migration)
    world.a.delete("docs", ["r001", "r005"])
    _, carried, report = sync(world, migration)
    assert (carried, report.is_proven, report.left_over, report.target_count) == (0, True, 2, 11)
    world.fill(records(["r001"], start=60))  # it is back
    _, carried, report = sync(world, migration)
    assert (carried, report.is_proven, report.left_over) == (1, True, 1)
    source, target = contents(world)
    assert source.items() <= target.items()


def test_ids_see_no_change_of_a_record_and_payloads_none_of_a_vector(world: World) -> None:
    start(world, world.migration())
    world.fill(records(["r002"], start=70))
    batch = world.a.fetch("docs", ["r003"])
    moved = batch.with_columns(vectors={"": DenseColumn(batch.dense().values + np.float32(1))})
    world.a.upsert("docs", moved)
    assert sync(world, world.migration(detect="ids"))[0].count == 0
    assert list(sync(world, world.migration(detect="payload"))[0].changed.values()) == [["r002"]]
    changes, carried, _ = sync(world, world.migration(detect="full"))
    assert (list(changes.changed.values()), carried) == ([["r003"]], 1)
    source, target = contents(world)
    assert target == source


def test_a_watermark_finds_what_has_a_later_value_and_says_what_is_newest(world: World) -> None:
    start(world, world.migration())
    world.fill(records(["r002"], start=70))
    world.fill(records(["r020"], start=80))
    world.fill(records(["r021"], start=3))
    world.a.write("docs", records(["r022"]).with_columns(payloads=[{"has": "no such field"}]))
    with world.opened(plan=False) as context:
        assert newest_value(context, "n") == 80
        changes, newest = detect_by_watermark(context, "n", 10)
        assert newest == 80
        assert (changes.added, list(changes.changed.values())) == (["r020", "r021", "r022"], [["r002"]])
        assert changes.compared == 3
    _, carried, report = sync(world, world.migration(detect="watermark", watermark="n"))
    assert (carried, report.is_proven) == (4, True)
    source, target = contents(world)
    assert target == source


def test_changes_wait_until_what_was_planned_before_is_done(world: World) -> None:
    start(world, world.migration())
    world.fill(records(["r002", "r020"], start=70))
    with world.opened(plan=False) as context:
        changes = detect_changes(context, Detect.PAYLOAD)
        plan_changes(context, changes)
    with world.opened(plan=False) as context, pytest.raises(ManifestError, match="2 of 3 ranges"):
        plan_changes(context, changes)


def test_a_watermark_needs_values_in_one_order(world: World) -> None:
    world.fill(records(numbered(2)))
    world.fill(records(["r002"], at="today"))
    world.fill(records(["r003"], at=7))
    world.fill(records(["r004"], is_new=True))
    world.run()
    with world.opened(plan=False) as context:
        assert newest_value(context, "missing") is None
        with pytest.raises(SpecError, match=r"'at' cannot be a watermark: it has a int beside a str"):
            newest_value(context, "at")
        with pytest.raises(SpecError, match=r"it has a bool\."):
            newest_value(context, "is_new")


@pytest.mark.parametrize(("deletes", "left"), [("keep", 2), ("mirror", 0), ("tombstone", 2)])
def test_records_that_a_filter_no_longer_takes_leave_a_mirror_and_stay_otherwise(
    world: World, deletes: str, left: int
) -> None:
    migration = world.migration(filter={"n": {"$lt": 50}}, push_down=False, deletes=deletes, conflict="overwrite")
    start(world, migration)
    world.fill(records(["r002", "r003"], start=70))
    _, carried, report = sync(world, migration)
    assert (carried, report.written, report.filtered) == (2 if deletes == "tombstone" else 0, 9, 2)  # two marks
    assert (report.is_proven, report.left_over) == (True, left)
    assert len(numbers(world)) == 9 + left
    changes, _, report = sync(world, migration)
    assert (changes.count, report.left_over) == (0, left)
    marked = sum("deleted_at" in payload for page in world.b.scan("docs") for payload in page.payloads)
    assert marked == (2 if deletes == "tombstone" else 0)


@pytest.mark.parametrize("deletes", ["mirror", "tombstone"])
@pytest.mark.parametrize("push_down", [False, True])
def test_records_that_leave_the_filter_count_as_lost(world: World, deletes: str, push_down: bool) -> None:
    migration = world.migration(filter={"n": {"$lt": 50}}, push_down=push_down, deletes=deletes, max_deletes=0.2)
    world.fill(records([f"x{n:03d}" for n in range(30)], start=100))  # that the filter never takes
    start(world, migration)
    world.fill(records(["r003", "r004", "r005"], start=70))
    with pytest.raises(SourceChangedError, match=r"3 of 11 records are gone .*or left the filter, and would be"):
        sync(world, migration)
    assert numbers(world) == {f"r{n:03d}": n for n in range(11)}
    world.fill(records(numbered(11)))
    assert sync(world, migration)[2].is_proven


def test_a_record_that_gets_another_id_is_not_there_twice(world: World) -> None:
    migration = world.migration(ids={"strategy": "from_field", "field": "n"})
    start(world, migration)
    world.fill(records(["r002"], start=70))
    _, carried, report = sync(world, migration)
    assert (carried, report.is_proven, report.left_over) == (1, True, 0)
    assert numbers(world) == {n: n for n in [0, 1, 70, *range(3, 11)]}


def test_two_records_that_swap_their_ids_both_survive(world: World) -> None:
    migration = world.migration(ids={"strategy": "from_field", "field": "n"}, deletes="mirror")
    start(world, migration)
    world.fill(records(["r002"], start=9))
    world.fill(records(["r009"], start=2))
    _, carried, report = sync(world, migration)
    assert (carried, report.is_proven, report.written) == (2, True, 11)
    assert len(contents(world)[1]) == 11
    world.a.delete("docs", ["r001"])
    world.fill(records(["r010"], start=1))  # takes the id of the one that goes, in another range
    _, carried, report = sync(world, migration)
    assert (carried, report.is_proven, report.written) == (1, True, 10)


def test_new_records_that_would_meet_others_are_refused_before_anything_is_done(world: World) -> None:
    migration = world.migration(ids={"strategy": "from_field", "field": "n"})
    start(world, migration)
    before = dump(world.b)
    world.fill(records(["r020"], start=5))
    with pytest.raises(SchemaCompatibilityError, match=r"1 new or changed records .*'string:r020' -> int:5"):
        sync(world, migration)
    assert dump(world.b) == before
    with world.opened(migration, plan=False) as context:
        assert len(proven_keys(context.state, context.manifest)) == 3


@pytest.mark.parametrize("policy", [None, "fail", "skip", "overwrite"])
def test_ids_of_others_follow_the_conflict_policy(world: World, policy: str | None) -> None:
    migration = world.migration(conflict=policy)
    start(world, migration)
    theirs = records(["r020"], start=500)
    world.fill_target(theirs)
    world.fill(records(["r020", "r021"], start=90))
    if policy in (None, "fail"):
        with pytest.raises(ConflictError):
            sync(world, migration)
        return
    _, carried, report = sync(world, migration)
    assert carried == (1 if policy == "skip" else 2)
    assert (report.is_proven, report.skipped) == (True, 1 if policy == "skip" else 0)
    held = world.b.fetch("docs", ["r020", "r021"])
    assert [p["n"] for p in held.payloads] == [500 if policy == "skip" else 90, 91]
    assert sync(world, migration)[0].count == 0


def test_a_source_that_lost_most_of_its_records_empties_no_mirror(world: World) -> None:
    migration = world.migration(deletes="mirror")
    start(world, migration)
    world.a.delete("docs", numbered(6))
    with pytest.raises(SourceChangedError, match=r"6 of 11 records are gone .*max_deletes allows 0.5 of them"):
        sync(world, migration)
    assert len(contents(world)[1]) == 11
    assert sync(world, world.migration(deletes="mirror", max_deletes=6))[2].written == 5
    assert sync(world, world.migration(deletes="mirror", max_deletes=1.0))[2].written == 5


def test_repairs_go_where_the_source_changes_and_stay_elsewhere(world: World) -> None:
    """Whoever corrects the source has the last word."""
    from rag_migration_pipeline_tests.steps.test_replay import cure, files, passed, repair, replayed

    migration = passed(world, "r001", "r005")
    for path in files(world):
        replayed(world, migration, repair(path, cure))
    assert world.run(world.poisoned())[1].is_proven
    world.fill(records(["r001"], start=70))
    _, carried, report = sync(world, world.poisoned())
    assert (carried, report.is_proven, report.rejected) == (1, True, 0)
    held = world.b.fetch("docs", ["r001", "r005"])
    assert held.payloads == [{"n": 70}, {"n": 5, "repaired": True}]


@given(data=st.data())
def test_however_a_source_changes_and_whenever_it_is_interrupted_the_target_follows(data: st.DataObject) -> None:
    """Several rounds of changes; the reference is a dictionary."""
    deletes = data.draw(st.sampled_from(["keep", "mirror"]), "deletes")
    detect = data.draw(st.sampled_from(["payload", "full"]), "detect")
    least = data.draw(st.sampled_from([None, 3]), "filter")
    options: dict[str, Any] = {
        "deletes": deletes,
        "detect": detect,
        "max_deletes": 1.0,
        "range_count": data.draw(st.integers(1, 6), "range_count"),
        "push_down": data.draw(st.booleans(), "push_down"),
        **({} if least is None else {"filter": {"n": {"$gte": least}}}),
    }
    with TemporaryDirectory() as folder:
        world = new_world(Path(folder))
        migration = world.migration(**options)
        held = {f"r{n:03d}": n for n in range(data.draw(st.integers(1, 8), "count"))}
        for record_id, value in held.items():
            world.fill(records([record_id], start=value))
        world.run(migration)
        for _ in range(data.draw(st.integers(1, 3), "rounds")):
            _change(data, world, held)
            cut_short = data.draw(st.none() | st.integers(0, 8), "planning cut short")
            if cut_short is not None:
                with stopping(cut_short), suppress(StoppedError):
                    plan(world, migration)
                _change(data, world, held)
            if unfinished(world, migration) is None:  # else the planning had come to its end
                plan(world, migration)
            interruption = data.draw(st.none() | st.integers(0, 12), "interruption")
            if interruption is not None:
                with (
                    breaking(world, migration, interruption) as context,
                    suppress(StoreUnavailableError, SourceChangedError),
                ):
                    run_pending(context)
                _change(data, world, held)
            report = follow(world, migration)
            taken = {i: n for i, n in held.items() if least is None or n >= least}
            target = numbers(world)
            assert {i: n for i, n in target.items() if i in taken} == taken
            assert deletes == "keep" or target == taken
            assert report.is_proven
            assert report.written == len(taken)
            assert report.left_over == len(target) - len(taken)
        end_world(world)


def _change(data: st.DataObject, world: World, held: dict[str, int]) -> None:
    ids: list[RecordId] = [*held]
    for record_id in data.draw(st.lists(st.sampled_from(ids), unique=True, max_size=4) if ids else st.just([])):
        assert isinstance(record_id, str)
        if data.draw(st.booleans()):
            del held[record_id]
            world.a.delete("docs", [record_id])
        else:
            held[record_id] = data.draw(st.integers(0, 9))
            world.fill(records([record_id], start=held[record_id]))
    for number in data.draw(st.lists(st.integers(0, 20), unique=True, max_size=4)):
        held[f"r{number:03d}"] = number
        world.fill(records([f"r{number:03d}"], start=number))
