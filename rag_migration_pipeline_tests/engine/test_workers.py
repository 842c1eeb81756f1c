"""Worker processes: what they carry is proven, what kills one fails its range only, and nothing of them is left."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from rag_migration_pipeline.engine import Engine, Outcome
from rag_migration_pipeline.errors import MigrationInterruptedError, SpecError, StoreUnavailableError
from rag_migration_pipeline.events import BatchDone, Event, RangeProven
from rag_migration_pipeline.mapping import SchemaMapping
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.progress import MigrationProgress
from rag_migration_pipeline.range_runner import RangeResult, paces_of
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.stopping import StopRequest
from rag_migration_pipeline.workers import MAX_DEATHS, ProcessJob, run_in_processes, run_in_threads
from rag_migration_pipeline_tests.engine.deadly import MARK_VARIABLE, NUMBER_VARIABLE, die_once
from rag_migration_pipeline_tests.engine.journeys import Station, chroma_station, fresh_name, qdrant_station
from rag_migration_pipeline_tests.kill.vendor import differences, make_records
from rag_migration_pipeline_tests.servers.process import is_alive
from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

pytestmark = pytest.mark.filterwarnings("ignore:.* is used with an insecure connection")

COUNT, RANGE_COUNT, BATCH_COUNT = 1_200, 100, 20
SOURCE = fresh_name("source")
EXPECTED = make_records(COUNT)
API_KEY = "a-key-that-nobody-may-see"
RUN_TIMEOUT_S = 100.0
SETTLE_S = 10.0


@pytest.fixture(scope="module")
def source(chroma_server: Any) -> Station:
    found = chroma_station(chroma_server)
    found.fill(SOURCE, EXPECTED)
    return found


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """A server that wants a key."""
    with QdrantDouble(tmp_path_factory.mktemp("target") / "data", api_key=API_KEY) as double:
        yield qdrant_station(double)


class Watched:
    """A run in a thread of its own, so that a test can look at its workers, and never waits for ever."""

    def __init__(self, migration: Migration, state_dir: Path, on_event: Callable[["Watched", Event], Any]) -> None:
        self.stop = StopRequest()
        self.events: list[Event] = []
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.told: list[MigrationProgress] = []
        self._on_event = on_event
        self._engine = Engine(migration, state_dir, sink=self._take, stop=self.stop, on_progress=self.told.append)

    def run(self) -> None:
        thread = threading.Thread(target=self._run, name="watched run", daemon=True)
        thread.start()
        thread.join(RUN_TIMEOUT_S)
        if thread.is_alive():
            self.stop.request("it takes too long")
            for worker in workers():
                worker.kill()
            pytest.fail(f"the run takes longer than {RUN_TIMEOUT_S} s")

    def _run(self) -> None:
        try:
            self.outcome = self._engine.run()
        except BaseException as error:  # noqa: BLE001  looked at by the test
            self.error = error

    def _take(self, event: Event) -> None:
        self.events.append(event)
        self._on_event(self, event)


def workers() -> list[psutil.Process]:
    """Return the living worker processes of this one."""
    found = []
    for child in psutil.Process().children():
        try:
            if "multiprocessing.spawn" in " ".join(child.cmdline()) and is_alive(child):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def options(**named: Any) -> MigrationOptions:
    given = {
        "range_count": RANGE_COUNT,
        "page_count": BATCH_COUNT,
        "max_workers": 2,
        "parallel": True,
        "worker_type": "process",
        "retry_delay_s": 0.01,
        "conflict": "overwrite",
    }
    return MigrationOptions.model_validate({**given, **named})


@pytest.fixture
def migration(source: Station, target: Station) -> Callable[..., Migration]:
    """Make a migration into one and the same new collection."""
    name = fresh_name("target")
    return lambda **named: Migration("docs", source.settings, SOURCE, target.settings, name, options(**named))


def run(migration: Migration, state_dir: Path, on_event: Callable[[Watched, Event], Any] = lambda *_: None) -> Watched:
    watched = Watched(migration, state_dir, on_event)
    watched.run()
    assert_no_workers()
    return watched


def assert_no_workers() -> None:
    deadline = time.monotonic() + SETTLE_S
    while left := workers():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def wait_for_threads_to_end(pid: int) -> None:
    """Wait until a killed process has no thread any more that keeps its end of a pipe open."""
    deadline = time.monotonic() + SETTLE_S
    while len(left := list(Path(f"/proc/{pid}/task").iterdir())) > 1:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def ledger(state_dir: Path) -> Any:
    (path,) = state_dir.glob("*/ledger.json")
    return json.loads(path.read_bytes())


def states(state_dir: Path) -> list[str]:
    return sorted(facts["state"] for facts in ledger(state_dir)["ranges"].values())


@pytest.mark.server
def test_everything_arrives_is_proven_and_told_and_no_secret_is_seen_from_outside(
    migration: Callable[..., Migration], source: Station, target: Station, tmp_path: Path
) -> None:
    seen: dict[int, bytes] = {}

    def look(_: Watched, event: Event) -> None:
        if isinstance(event, RangeProven):
            for worker in workers():
                proc = Path(f"/proc/{worker.pid}")
                seen[worker.pid] = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()

    wanted = migration()
    watched = run(wanted, tmp_path, look)
    assert watched.error is None
    assert watched.outcome is not None
    assert watched.outcome.is_done
    assert (watched.outcome.migrated, watched.outcome.failed) == (COUNT, 0)
    assert differences(EXPECTED, target.read(wanted.target_collection)) == []
    assert states(tmp_path) == ["done"] * (COUNT // RANGE_COUNT)
    assert {facts["attempts"] for facts in ledger(tmp_path)["ranges"].values()} == {1}
    batches = [event for event in watched.events if isinstance(event, BatchDone) and event.step == "validate"]
    assert len(batches) == COUNT // BATCH_COUNT, "the workers' events arrive"
    assert watched.told[-1].percentage == 100.0
    assert len(seen) == 2
    assert not any(API_KEY.encode() in text for text in seen.values())


@pytest.mark.server
def test_a_worker_that_is_killed_fails_its_range_and_is_replaced_and_resume_does_that_range(
    migration: Callable[..., Migration], target: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NUMBER_VARIABLE, str(COUNT // 2))
    monkeypatch.setenv(MARK_VARIABLE, str(tmp_path / "killed"))
    mapping = SchemaMapping.model_validate({"transforms": {"number": f"{die_once.__module__}:{die_once.__name__}"}})
    state_dir = tmp_path / "state"
    watched = run(migration(mapping=mapping), state_dir)
    assert watched.error is None
    assert watched.outcome is not None
    assert not watched.outcome.is_done
    (error,) = watched.outcome.errors
    assert "a worker process died with exit code -9 at range" in error
    assert states(state_dir) == ["done"] * (COUNT // RANGE_COUNT - 1) + ["failed"]
    wanted = migration(mapping=mapping, resume=True, max_workers=1)
    again = run(wanted, state_dir)
    assert again.outcome is not None
    assert again.outcome.is_done
    assert (again.outcome.migrated, again.outcome.already) == (RANGE_COUNT, COUNT - RANGE_COUNT)
    assert differences(EXPECTED, target.read(wanted.target_collection)) == []


@pytest.mark.server
def test_a_worker_that_dies_before_it_is_given_a_range_fails_that_range_and_no_other(
    migration: Callable[..., Migration], tmp_path: Path
) -> None:
    wanted = migration()
    run(wanted, tmp_path)
    keys = list(ledger(tmp_path)["ranges"])[:3]
    given: list[str] = []

    def kill_first(key: str) -> None:
        """Kill the worker that is about to be given its first range."""
        given.append(key)
        if len(given) == 1:
            (worker,) = workers()
            worker.kill()
            assert_no_workers()
            wait_for_threads_to_end(worker.pid)

    job = ProcessJob(wanted, tmp_path, paces_of(wanted, is_shared=True))
    results = list(run_in_processes(job, keys, 1, StopRequest(), lambda _: None, kill_first))
    assert given == keys
    assert [item.key for item in results] == keys
    died = [item.key for item in results if "a worker process died with exit code -9" in str(item.error)]
    assert died == keys[:1]
    assert [item.is_done for item in results] == [False, True, True]
    assert_no_workers()


@pytest.mark.server
def test_workers_that_die_again_and_again_end_the_run(migration: Callable[..., Migration], tmp_path: Path) -> None:
    killed: set[int] = set()
    is_begun = threading.Event()

    def kill_all() -> None:
        """Kill workers at their ranges, and those that replace them as soon as they are there."""
        if is_begun.is_set():
            for worker in workers():
                killed.add(worker.pid)
                worker.kill()

    with repeating(kill_all):
        watched = run(migration(), tmp_path, lambda _, event: is_begun.set() if isinstance(event, BatchDone) else None)
    assert isinstance(watched.error, StoreUnavailableError)
    assert "a worker process died with exit code -9" in str(watched.error)
    assert len(killed) >= MAX_DEATHS
    found = ledger(tmp_path)
    assert (found["state"], found["holder"]) == ("failed", None)
    assert "running" not in states(tmp_path)


@pytest.mark.server
def test_a_stop_request_ends_the_workers_after_their_batches(
    migration: Callable[..., Migration], tmp_path: Path
) -> None:
    """Ctrl-C goes to the workers of a terminal as well, also to those that have just begun; they do not hear it."""
    pestered: set[int] = set()

    def ask(watched: Watched, event: Event) -> None:
        if isinstance(event, RangeProven):
            watched.stop.request("SIGINT")

    def pester() -> None:
        for worker in workers():
            pestered.add(worker.pid)
            worker.send_signal(signal.SIGINT)

    with repeating(pester):
        watched = run(migration(), tmp_path, ask)
    assert isinstance(watched.error, MigrationInterruptedError)
    assert "(SIGINT)" in str(watched.error)
    assert len(pestered) == 2, "none died and was replaced"
    assert ledger(tmp_path)["state"] == "interrupted"
    assert set(states(tmp_path)) <= {"done", "interrupted", "waiting"}
    assert states(tmp_path).count("waiting") > 0


@pytest.mark.server
def test_workers_that_are_stopped_with_the_run_are_no_failure_of_it(
    migration: Callable[..., Migration], tmp_path: Path
) -> None:
    """Who ends a service sends SIGTERM to all its processes."""

    def end_all(watched: Watched, event: Event) -> None:
        if isinstance(event, BatchDone) and not watched.stop.is_requested:
            watched.stop.request("SIGTERM")
            for worker in workers():
                worker.terminate()

    watched = run(migration(max_workers=MAX_DEATHS), tmp_path, end_all)
    assert isinstance(watched.error, MigrationInterruptedError)
    assert ledger(tmp_path)["state"] == "interrupted"


@contextmanager
def repeating(function: Callable[[], Any]) -> Iterator[None]:
    """Call a function every tenth of a second until the block ends."""
    is_over = threading.Event()

    def repeat() -> None:
        while not is_over.wait(0.1):
            function()

    thread = threading.Thread(target=repeat, name="repeating", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(SETTLE_S)


@pytest.mark.server
def test_a_mapping_with_a_lambda_is_refused_and_told_what_to_do(
    migration: Callable[..., Migration], tmp_path: Path
) -> None:
    mapping = SchemaMapping.model_validate({"transforms": {"number": lambda value: 2 * value}})
    watched = run(migration(mapping=mapping), tmp_path)
    assert isinstance(watched.error, SpecError)
    assert "cannot be handed to another process" in str(watched.error)
    assert "import path (package.module:function), or use threads" in watched.error.todo


# -- threads ------------------------------------------------------------------------------------------------------


def result(key: str) -> RangeResult:
    return RangeResult(key, 1)


def test_threads_do_every_range_once() -> None:
    keys = [f"r{number}" for number in range(50)]
    begun: list[str] = []
    found = [item.key for item in run_in_threads(result, keys, 4, StopRequest(), begun.append)]
    assert sorted(found) == sorted(begun) == sorted(keys)


def test_a_mistake_in_a_thread_is_raised_and_leaves_no_thread() -> None:
    def fail(key: str) -> RangeResult:
        raise ZeroDivisionError(key)

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(run_in_threads(fail, ["a", "b", "c"], 3, StopRequest(), lambda _: None))
    assert threading.active_count() == before


def test_nobody_who_waits_for_threads_no_longer_leaves_one_behind() -> None:
    stop = StopRequest()

    def work(key: str) -> RangeResult:
        stop.event.wait(SETTLE_S if key == "slow" else 0.0)
        return result(key)

    before = threading.active_count()
    results = run_in_threads(work, ["quick", "slow", "never"], 1, stop, lambda _: None)
    assert next(results).key == "quick"
    results.close()
    assert stop.is_requested
    assert threading.active_count() == before
