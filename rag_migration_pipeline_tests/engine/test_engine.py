"""A run without Dagster: afresh, resumed, incremental; what fails in parts is counted, what fails at all is raised."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from rag_migration_pipeline.engine import Engine, Outcome
from rag_migration_pipeline.errors import (
    CollectionNotFoundError,
    ManifestError,
    MigrationError,
    MigrationInterruptedError,
    MigrationLockedError,
    SpecError,
    StoreUnavailableError,
)
from rag_migration_pipeline.events import Event, RequestRepeated
from rag_migration_pipeline.progress import MigrationProgress
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.stopping import StopRequest
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline_tests.steps.support import World, dump, numbered, records, with_faults


def run(world: World, migration: Migration | None = None, **named: Any) -> Outcome:
    return Engine(migration or world.migration(), world.state_dir, **named).run()


def failing(world: World, fault: Callable[[VectorStore, str], Any], **options: Any) -> Migration:
    migration = world.migration(**options)
    return replace(migration, target=with_faults(world.target, fault))


def same(world: World) -> bool:
    return bool(dump(world.a)["docs"][1] == dump(world.b)["docs"][1])


def ledger(world: World, migration: Migration | None = None) -> Any:
    return orjson.loads(world.state(migration).ledger.read_bytes())


@pytest.mark.parametrize("workers", [1, 3])
def test_everything_arrives_and_is_proven(world: World, workers: int) -> None:
    world.fill(records(numbered(30)))
    outcome = run(world, world.migration(max_workers=workers))
    assert outcome.is_done
    assert (outcome.planned, outcome.migrated, outcome.failed, outcome.already) == (30, 30, 0, 0)
    assert outcome.report is not None
    assert outcome.report.is_proven
    assert same(world)
    found = ledger(world)
    assert (found["state"], found["holder"], found["report"]["is_proven"]) == ("done", None, True)
    assert [item["state"] for item in found["ranges"].values()] == ["done"] * 8
    assert {item["attempts"] for item in found["ranges"].values()} == {1}
    assert sum(item["written"] for item in found["ranges"].values()) == 30
    assert all(item["digest"] for item in found["ranges"].values())


def test_progress_is_told_after_every_batch_and_at_the_end_and_never_twice_at_once(world: World) -> None:
    world.fill(records(numbered(30)))
    told: list[MigrationProgress] = []
    inside = threading.Lock()

    def on_progress(progress: MigrationProgress) -> None:
        assert inside.acquire(blocking=False), "called by two threads at once"
        told.append(progress)
        inside.release()

    run(world, world.migration(max_workers=3, page_count=2), on_progress=on_progress)
    assert len({progress.current_batch for progress in told}) >= 15
    assert [p.vectors_processed for p in told] == sorted(p.vectors_processed for p in told)
    last = told[-1]
    assert (last.vectors_processed, last.total_vectors, last.percentage, last.errors) == (30, 30, 100.0, 0)
    assert last.current_batch == last.total_batches == 15
    assert last.eta_seconds == 0.0
    assert all(0 <= p.eta_seconds < float("inf") for p in told)
    assert all(p.current_batch <= p.total_batches for p in told)


def test_a_callback_that_raises_stops_the_run_which_can_be_resumed(world: World) -> None:
    world.fill(records(numbered(30)))
    calls = iter(range(3))

    def on_progress(_: MigrationProgress) -> None:
        if next(calls, None) is None:
            raise ZeroDivisionError("in the callback")

    with pytest.raises(ZeroDivisionError, match="in the callback"):
        run(world, on_progress=on_progress)
    done = [item["state"] for item in ledger(world)["ranges"].values()].count("done")
    assert 0 < done < 8
    outcome = run(world, world.migration(resume=True))
    assert (outcome.is_done, outcome.migrated + outcome.already) == (True, 30)
    assert outcome.already >= 4 * done
    assert same(world)


def test_a_stop_between_batches_says_how_to_go_on_and_the_next_run_does_the_rest(world: World) -> None:
    world.fill(records(numbered(30)))
    stop = StopRequest()

    def on_progress(progress: MigrationProgress) -> None:
        if progress.vectors_processed >= 10:
            stop.request("SIGTERM")

    with pytest.raises(MigrationInterruptedError, match=r"\(SIGTERM\): [23] of 8 ranges are proven\. .*resume"):
        run(world, on_progress=on_progress, stop=stop)
    assert ledger(world)["state"] == "interrupted"
    before = world.b.count("docs")
    assert before < 30
    outcome = run(world, world.migration(resume=True))
    assert outcome.is_done
    assert outcome.migrated < 30
    assert same(world)


def test_without_resume_a_run_starts_afresh(world: World) -> None:
    world.fill(records(numbered(8)))
    run(world)
    world.fill(records(["r001"], start=50))
    assert run(world, world.migration(resume=True)).migrated == 0, "everything was done"
    outcome = run(world)
    assert (outcome.is_done, outcome.migrated, outcome.already) == (True, 8, 0)
    assert same(world)


@pytest.mark.parametrize("detect", ["ids", "payload", "full", "watermark"])
def test_an_incremental_run_carries_what_changed(world: World, detect: str) -> None:
    options: dict[str, Any] = {"incremental": True, "detect": detect, "deletes": "mirror"}
    if detect == "watermark":
        options["watermark"] = "n"
    world.fill(records(numbered(30)))
    assert run(world, world.migration(**options)).migrated == 30
    unchanged = run(world, world.migration(**options))
    assert (unchanged.is_done, unchanged.migrated, unchanged.planned, unchanged.already) == (True, 0, 0, 30)
    world.fill(records(["r001", "r030"], start=80))
    world.a.delete("docs", ["r007"])
    outcome = run(world, world.migration(**options))
    assert outcome.is_done
    assert outcome.migrated == (1 if detect == "ids" else 2)
    assert outcome.changes is not None
    assert sum(map(len, outcome.changes.gone.values())) == 1
    assert world.b.count("docs") == 30
    if detect != "ids":
        assert same(world)
    assert run(world, world.migration(**options)).migrated == 0


def test_an_incremental_run_finishes_an_interrupted_one_first(world: World) -> None:
    world.fill(records(numbered(30)))
    stop = StopRequest()

    def on_progress(progress: MigrationProgress) -> None:
        if progress.vectors_processed >= 10:
            stop.request("SIGTERM")

    with pytest.raises(MigrationInterruptedError):
        run(world, on_progress=on_progress, stop=stop)
    world.fill(records(["r001", "r030"], start=80))
    outcome = run(world, world.migration(incremental=True))
    assert outcome.is_done
    assert same(world)


def test_a_watermark_reads_nothing_that_is_not_later(world: World) -> None:
    options: dict[str, Any] = {"incremental": True, "detect": "watermark", "watermark": "n"}
    world.fill(records(numbered(30)))
    for _ in range(2):
        run(world, world.migration(**options))
    world.fill(records(["r001", "r030"], start=80))
    outcome = run(world, world.migration(**options))
    assert outcome.changes is not None
    assert (outcome.migrated, outcome.changes.compared) == (2, 3), "the newest one of the last time is looked at again"


def test_passing_failures_are_retried_and_told(world: World) -> None:
    world.fill(records(numbered(30)))
    failures = iter(range(100))
    events: list[Event] = []

    def fault(_store: VectorStore, _operation: str) -> None:
        if next(failures, 99) % 4 == 3:
            raise StoreUnavailableError("connection reset")

    outcome = run(world, failing(world, fault), sink=events.append)
    assert outcome.is_done
    assert same(world)
    repeated = [event for event in events if isinstance(event, RequestRepeated)]
    assert len(repeated) >= 5
    assert {event.cause for event in repeated} == {"StoreUnavailableError: connection reset"}


def test_a_batch_that_always_fails_does_not_stop_the_run_and_resume_does_just_that(world: World) -> None:
    world.fill(records(numbered(30)))
    migration = world.poisoned_away("r005", "r017", page_count=2, max_attempts=2)
    outcome = run(world, migration)
    assert not outcome.is_done
    assert (outcome.migrated, outcome.failed) == (26, 4)
    assert len(outcome.errors) == 2
    assert (
        "_000001, batch 1 (2 records, string:r004 to string:r005): StoreUnavailableError: answered 503"
        in (outcome.errors[0])
    )
    assert outcome.report is None
    states = [item["state"] for item in ledger(world)["ranges"].values()]
    assert states == ["done", "failed", "done", "done", "failed", "done", "done", "done"]
    outcome = run(world, world.migration(page_count=2, resume=True))
    assert (outcome.is_done, outcome.migrated, outcome.already) == (True, 4, 26)
    assert same(world)


def test_a_store_that_stays_away_ends_the_run_and_not_after_every_range(world: World) -> None:
    world.fill(records(numbered(60)))
    begun = threading.Event()
    calls: list[str] = []

    def fault(store: VectorStore, operation: str) -> None:
        calls.append(operation)
        if operation == "upsert" and store.count("docs") > 8:
            begun.set()
        if begun.is_set():
            raise StoreUnavailableError("connection refused")

    with pytest.raises(StoreUnavailableError, match="connection refused"):
        run(world, failing(world, fault, max_attempts=3))
    assert len(calls) < 60
    found = ledger(world)
    assert found["state"] == "failed"
    assert [item["state"] for item in found["ranges"].values()].count("done") >= 1
    assert run(world, world.migration(resume=True)).is_done
    assert same(world)


def test_a_store_that_answers_but_takes_nothing_ends_the_run_after_a_few_batches(world: World) -> None:
    world.fill(records(numbered(60)))
    writes: list[str] = []

    def fault(_store: VectorStore, operation: str) -> None:
        if operation == "upsert":
            writes.append(operation)
            raise StoreUnavailableError("read-only at the moment")

    with pytest.raises(StoreUnavailableError, match="read-only"):
        run(world, failing(world, fault, max_attempts=2))
    assert len(writes) <= 8


def test_what_ends_a_whole_run_is_raised(world: World) -> None:
    with pytest.raises(CollectionNotFoundError):
        run(world)
    assert not world.b.exists("docs")
    world.fill(records(numbered(8)))

    def drop(store: VectorStore, operation: str) -> None:
        if operation == "upsert" and store.count("docs") > 3:
            store.drop("docs")

    with pytest.raises(MigrationError):
        run(world, failing(world, drop))


def test_a_second_run_is_told_who_runs_the_first(world: World) -> None:
    world.fill(records(numbered(30)))
    refused: list[MigrationError] = []

    def on_progress(_: MigrationProgress) -> None:
        if not refused:
            with pytest.raises(MigrationLockedError) as caught:
                run(world)
            refused.append(caught.value)

    assert run(world, on_progress=on_progress).is_done
    assert "is in use by process" in str(refused[0])


def test_a_ledger_of_another_host_that_lives_is_respected_and_a_stale_one_taken_over(world: World) -> None:
    world.fill(records(numbered(8)))
    run(world)
    path = world.state().ledger
    facts = orjson.loads(path.read_bytes())
    facts["state"], facts["holder"] = "running", {"pid": 7, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00"}
    path.write_bytes(orjson.dumps(facts))
    with pytest.raises(MigrationLockedError, match=r"process 7 on elsewhere since 2026-01-01"):
        run(world)
    facts["updated_at"] = "2026-01-01T00:00:00+00:00"
    path.write_bytes(orjson.dumps(facts))
    assert run(world).is_done


def test_a_checkpoint_file_is_kept_where_it_is_wanted_and_belongs_to_one_migration(world: World, tmp_path: Any) -> None:
    world.fill(records(numbered(8)))
    path = tmp_path / "checkpoint.json"
    outcome = run(world, world.migration(checkpoint_file=str(path)))
    assert outcome.checkpoint_file == str(path)
    assert orjson.loads(path.read_bytes())["state"] == "done"
    other = world.migration(checkpoint_file=str(path), filter={"n": 1}, conflict="overwrite")
    with pytest.raises(ManifestError, match="is of another migration"):
        run(world, other)
    path.write_text("{")
    with pytest.raises(ManifestError, match="is damaged"):
        run(world, world.migration(checkpoint_file=str(path)))


def test_processes_are_refused_where_a_store_lives_in_one(world: World) -> None:
    world.fill(records(numbered(8)))
    with pytest.raises(SpecError, match=r"worker_type process: memory \(process\) and memory \(process\)"):
        run(world, world.migration(worker_type="process"))


def losing(world: World, *ids: str, **options: Any) -> Migration:
    """Return a migration during which the source loses one of these records at every batch that is written."""
    left = list(ids)

    def fault(_store: VectorStore, operation: str) -> None:
        if operation == "upsert" and left:
            world.a.delete("docs", [left.pop(0)])

    return failing(world, fault, **options)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("detect", [None, "payload"])
def test_a_run_goes_on_without_what_its_source_loses_meanwhile(world: World, workers: int, detect: str | None) -> None:
    options: dict[str, Any] = {"deletes": "mirror", "max_workers": workers}
    world.fill(records(numbered(30)))
    if detect is not None:
        assert run(world, world.migration(**options)).is_done
        world.fill(records(numbered(30), start=100))
        options |= {"incremental": True, "detect": detect}
    outcome = run(world, losing(world, "r029", "r022", "r015", **options))
    assert outcome.is_done
    assert outcome.errors == []
    assert set(outcome.left_out) == {"r015", "r022", "r029"}
    assert (outcome.migrated, outcome.failed, outcome.filtered) == (27, 0, 0)
    assert same(world)
    assert {item["state"] for item in ledger(world, world.migration(**options))["ranges"].values()} == {"done"}
    again = run(world, world.migration(**{**options, "incremental": True}))
    assert (again.is_done, again.migrated) == (True, 0)


def test_a_source_that_loses_too_much_fails_the_run_by_name_and_is_carried_when_that_is_allowed(world: World) -> None:
    world.fill(records(numbered(12)))
    lost = [f"r{n:03d}" for n in (11, 10, 9, 8)]
    outcome = run(world, losing(world, *lost, max_deletes=2))
    assert not outcome.is_done
    assert any("max_deletes allows 2" in error for error in outcome.errors)
    assert any("r011" in error for error in outcome.errors), "the ranges say what is gone"
    assert ledger(world)["state"] == "failed"
    later = run(world, world.migration(resume=True, max_deletes=5))
    assert later.is_done
    assert sorted(later.left_out) == sorted(lost)
    assert same(world)


def test_what_was_set_aside_in_a_range_that_is_carried_again_counts_once(world: World) -> None:
    world.fill(records(numbered(8)))
    world.fill_target(records(["r001", "r006"], start=900))
    outcome = run(world, losing(world, "r007", conflict="skip", page_count=2))
    assert outcome.is_done
    assert (outcome.migrated, outcome.skipped, outcome.left_out) == (5, 2, ("r007",))
