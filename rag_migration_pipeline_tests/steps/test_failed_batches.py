"""A batch that fails does not stop its range; what was in it, and only that, is carried by the next run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.errors import MigrationInterruptedError, StoreUnavailableError
from rag_migration_pipeline.options import Detect
from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.changes import detect_changes
from rag_migration_pipeline.steps.load import FailedBatch
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.range import RangeOptions, migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.steps.syncing import plan_changes
from rag_migration_pipeline.stores.memory import MemorySettings
from rag_migration_pipeline_tests.steps.support import (
    AwaySettings,
    World,
    dump,
    end_world,
    new_world,
    numbered,
    records,
)


def away(world: World, migration: Migration, fails: set[RecordId], written: list[RecordId]) -> Migration:
    assert isinstance(world.target, MemorySettings)
    return replace(migration, target=AwaySettings(world.target.name, fails, written))


def run(world: World, migration: Migration, take: Callable[[FailedBatch], None], *, plan: bool = True) -> int:
    """Run what is not proven; return how many ranges are proven then."""
    with world.opened(migration, plan=plan) as context:
        done = set(proven_keys(context.state, context.manifest))
        for entry in context.manifest.ranges:
            if entry.key not in done:
                migrate_range(context, entry.key, RangeOptions(prefetch_bytes=1_000, on_failure=take))
        return len(proven_keys(context.state, context.manifest))


def test_the_other_batches_arrive_and_the_next_run_carries_what_failed_and_nothing_else(world: World) -> None:
    world.fill(records(numbered(16)))
    migration = world.migration(range_count=8, page_count=2)
    failed: list[FailedBatch] = []
    written: list[RecordId] = []
    assert run(world, away(world, migration, {"r003", "r006"}, written), failed.append) == 1
    assert [(batch.number, list(batch.source_ids)) for batch in failed] == [
        (2, ["r002", "r003"]),
        (4, ["r006", "r007"]),
    ]
    assert str(failed[0].error) == "answered 503"
    assert len(written) == 12
    written.clear()
    assert run(world, away(world, migration, set(), written), pytest.fail) == 2  # type: ignore[arg-type]
    assert written == ["r002", "r003", "r006", "r007"]
    with world.opened(migration) as context:
        report = prove_collection(context)
    assert (report.is_proven, report.written) == (True, 16)
    assert dump(world.a)["docs"][1] == dump(world.b)["docs"][1]


def test_a_range_of_which_everything_failed_is_carried_whole_by_the_next_run(world: World) -> None:
    world.fill(records(numbered(4)))
    failed: list[FailedBatch] = []
    assert run(world, away(world, world.migration(), set(numbered(4)), []), failed.append) == 0
    assert sum(len(batch.source_ids) for batch in failed) == 4
    assert run(world, world.migration(), pytest.fail) == 1  # type: ignore[arg-type]
    assert dump(world.a)["docs"][1] == dump(world.b)["docs"][1]


def test_whoever_takes_a_failure_may_end_the_range(world: World) -> None:
    world.fill(records(numbered(8)))

    def stop(batch: FailedBatch) -> None:
        raise batch.error

    with pytest.raises(StoreUnavailableError):
        run(world, away(world, world.migration(), {"r001"}, []), stop)
    assert run(world, world.migration(), pytest.fail) == 2  # type: ignore[arg-type]


def test_a_stop_between_batches_leaves_a_range_that_is_carried_again(world: World) -> None:
    world.fill(records(numbered(8)))
    asked = iter(range(1))

    def before() -> None:
        if next(asked, None) is None:
            raise MigrationInterruptedError("stopped on request.")

    with world.opened() as context:
        key = context.manifest.ranges[0].key
        with pytest.raises(MigrationInterruptedError):
            migrate_range(context, key, RangeOptions(prefetch_bytes=10, before_batch=before))
        assert proven_keys(context.state, context.manifest) == []
    assert world.run()[1].is_proven


@given(data=st.data())
def test_whatever_fails_and_changes_the_target_follows_the_source_in_the_end(data: st.DataObject) -> None:
    """Failures, changes of the source and failures again: the reference is the source itself."""
    deletes = data.draw(st.sampled_from(["mirror"]))
    with TemporaryDirectory() as folder:
        world = new_world(Path(folder))
        count = data.draw(st.integers(1, 12))
        world.fill(records(numbered(count)))
        migration = world.migration(
            range_count=data.draw(st.integers(1, 6)),
            page_count=data.draw(st.integers(1, 3)),
            deletes=deletes,
            max_deletes=1.0,
        )
        for _ in range(2):
            for _ in range(data.draw(st.integers(0, 2))):
                fails = data.draw(st.sets(st.sampled_from(numbered(20)), max_size=4))
                run(
                    world,
                    away(world, migration, {*fails}, []),
                    lambda _: None,
                    plan=not world.state().manifest.exists(),
                )
            run(world, migration, pytest.fail, plan=not world.state(migration).manifest.exists())  # type: ignore[arg-type]
            with world.opened(migration, plan=False) as context:
                assert prove_collection(context).is_proven
                assert dump(world.a)["docs"][1] == dump(world.b)["docs"][1]
            for record_id in data.draw(st.sets(st.sampled_from(numbered(20)), max_size=5)):
                if data.draw(st.booleans()):
                    world.a.delete("docs", [record_id])
                else:
                    world.fill(records([record_id], start=data.draw(st.integers(50, 60))))
            with world.opened(migration, plan=False) as context:
                changes = detect_changes(context, Detect.PAYLOAD)
                if changes.count:
                    plan_changes(context, changes)
        end_world(world)
