"""A process that runs one migration on a persistent instance, and kills itself at a named point.

Belongs here: the points, reached from outside by wrapping the target store, by subscribing to events and by replacing
functions; the product knows nothing of them. Does not belong here: what is expected afterwards (``test_kill_*.py``).

Processes are forked from a server that has imported everything and opened nothing, so that each begins at once and a
kill takes nothing else with it.
"""

import multiprocessing as mp
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dagster as dg

from rag_migration_pipeline import events
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.orchestration import resources
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.factory import migration_definitions
from rag_migration_pipeline.orchestration.resources import (
    ChromaResource,
    MilvusResource,
    QdrantResource,
    StateResource,
    VectorStoreResource,
)
from rag_migration_pipeline.orchestration.runs import close_killed_runs, run_job
from rag_migration_pipeline.records import CollectionSpec, RecordBatch
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore, WriteResult
from rag_migration_pipeline.stores.wrappers import WrapperStore

COLLECTION = "texts"
JOB_TIMEOUT_S = 120.0

POINTS = (
    "before the manifest's rename",
    "after the manifest's rename",
    "target collection created",
    "half a batch written",
    "batch written, not noted",
    "receipt stored, event not logged",
    "event logged, staging not removed",
    "finished loading, not proven",
    "report stored, event not logged",
)


@dataclass(frozen=True)
class Leg:
    """One migration of a worker: which stores, and how it is cut.

    Attributes:
        source: chroma, edge or milvus; so for target.
        staging: Where staged records wait; empty for the state folder.
        environment: Variables that the worker sets, as pairs.
    """

    source: str
    target: str
    range_count: int = 12
    page_count: int = 5
    staging: str = ""
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Name of the migration."""
        return f"{self.source}_to_{self.target}"


def resource_of(kind: str, folder: Path) -> VectorStoreResource:
    """Return the embedded store of a kind in a folder."""
    if kind == "chroma":
        return ChromaResource(path=str(folder))
    if kind == "edge":
        return QdrantResource(path=str(folder), engine="edge")
    return MilvusResource(path=str(folder / "lite.db"))


def declaration_of(leg: Leg) -> MigrationDeclaration:
    """Return a leg as a migration."""
    options = MigrationOptions(range_count=leg.range_count, page_count=leg.page_count, retry_delay_s=0.01)
    return MigrationDeclaration(leg.name, "source", COLLECTION, "target", COLLECTION, options)


def definitions_of(leg: Leg, root: Path) -> dg.Definitions:
    """Return the definitions of a leg whose stores and state are in ``root``."""
    stores = {
        "source": resource_of(leg.source, root / "source"),
        "target": resource_of(leg.target, root / "target"),
        "state": StateResource(folder=str(root / "state"), staging=leg.staging),
    }
    return migration_definitions([declaration_of(leg)], stores)


def migrate(leg: Leg, root: Path, point: str | None = None, occurrence: int = 1, ready: Any = None) -> None:
    """Run a leg in this process, and die at a point when it is reached for the n-th time; exits 1 on failure.

    Args:
        leg: What to migrate.
        root: Folder with ``source``, ``target``, ``state`` and ``home``.
        point: One of `POINTS`; None lives.
        occurrence: Which time.
        ready: Event that is set just before the job begins.
    """
    os.environ.update(leg.environment)
    definitions = definitions_of(leg, root)
    job_name = f"{leg.name}__migrate"
    with dg.DagsterInstance.from_config(str(root / "home")) as instance, _killing(point, occurrence):
        close_killed_runs(instance, job_name)
        job = definitions.resolve_job_def(job_name)
        if ready is not None:
            ready.set()
        result = run_job(job, instance)
    if not result.success:
        for event in result.all_events:
            if event.is_step_failure:
                sys.stderr.write(f"{event.step_key}: {event.step_failure_data.user_failure_data}\n")
        sys.exit(1)


def start(leg: Leg, root: Path, *arguments: Any) -> BaseProcess:
    """Start `migrate` in a process of its own."""
    return fork(migrate, leg, root, *arguments)


def fork(function: Callable[..., Any], *arguments: Any, is_daemon: bool = True) -> BaseProcess:
    """Start a function of a module in a process that has imported everything and opened nothing.

    A daemon ends with this process, but may not have worker processes of its own.
    """
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=function, args=arguments, daemon=is_daemon)
    process.start()
    return process


def run(leg: Leg, root: Path, *arguments: Any) -> int:
    """Run `migrate` in a process of its own, and return its exit code; negative is the signal that ended it."""
    process = start(leg, root, *arguments)
    process.join(JOB_TIMEOUT_S)
    return end(process)


def end(process: BaseProcess) -> int:
    """Wait for a process no longer; return its exit code."""
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(f"{process.name} took longer than {JOB_TIMEOUT_S} s")
    code = process.exitcode
    process.close()
    assert code is not None
    return code


def event() -> Any:
    """Return an event that a worker can set."""
    return mp.get_context("forkserver").Event()


@contextmanager
def _killing(point: str | None, occurrence: int) -> Iterator[None]:
    """Die when the point is reached for the n-th time."""
    countdown = Countdown(occurrence)
    if point is None:
        yield
    elif point in _EVENTS:
        kind = _EVENTS[point]
        with events.subscribe(lambda e: countdown() if isinstance(e, kind) else None):
            yield
    elif "rename" in point:
        kill_at_rename("manifest.json", countdown, is_after=point.startswith("after"))
        yield
    elif "staging" in point:
        StateFolder.clear_staging = lambda *_: countdown()  # type: ignore[method-assign]
        yield
    else:
        _wrap_targets(point, countdown)
        yield


_EVENTS: dict[str, type] = {
    "receipt stored, event not logged": events.RangeProven,
    "report stored, event not logged": events.CollectionProven,
}


class Countdown:
    """Kills this process at its n-th call."""

    def __init__(self, occurrence: int) -> None:
        self.left = occurrence

    def __call__(self) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)

    @property
    def is_next(self) -> bool:
        """Whether the next call kills."""
        return self.left == 1


def kill_at_rename(name: str, countdown: Countdown, *, is_after: bool) -> None:
    """Die when a file of that name is put in its place, before or after."""
    replace: Callable[[Path, Path], Path] = Path.replace

    def replace_and_die(self: Path, target: Path) -> Path:
        if target.name != name:
            return replace(self, target)
        if not is_after:
            countdown()
        moved = replace(self, target)
        if is_after:
            countdown()
        return moved

    Path.replace = replace_and_die  # type: ignore[method-assign,assignment]


def _wrap_targets(point: str, countdown: Countdown) -> None:
    open_target = resources.open_target
    resources.open_target = lambda settings: Deadly(open_target, settings, point, countdown)


class Deadly(WrapperStore):
    """A target that dies in or after an operation."""

    def __init__(
        self,
        opening: Callable[[StoreSettings], VectorStore],
        settings: StoreSettings,
        point: str,
        countdown: Countdown,
    ) -> None:
        super().__init__(opening(settings))
        self._point = point
        self._countdown = countdown

    def create(self, spec: CollectionSpec) -> None:
        super().create(spec)
        self._reach("target collection created")

    def upsert(self, collection: str, batch: RecordBatch) -> WriteResult:
        if self._point == "half a batch written" and self._countdown.is_next:
            super().upsert(collection, batch.take(range(len(batch) // 2)))
        else:
            result = super().upsert(collection, batch)
            self._reach("batch written, not noted")
        self._reach("half a batch written")
        return result

    def finish_loading(self, collection: str) -> None:
        super().finish_loading(collection)
        self._reach("finished loading, not proven")

    def _reach(self, point: str) -> None:
        if point == self._point:
            self._countdown()


def legs(names: Sequence[str], **options: int) -> list[Leg]:
    """Return legs by the names of their stores."""
    return [Leg(*name.split("_to_"), **options) for name in names]
