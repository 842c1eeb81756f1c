"""A process that runs one migration without Dagster, and kills itself at a named point.

Belongs here: the points of the engine, reached from outside by replacing functions of this process; worker processes
that it starts know nothing of them. Does not belong here: what is expected afterwards (``test_kill_engine.py``).
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from rag_migration_pipeline import range_runner
from rag_migration_pipeline.engine import Engine
from rag_migration_pipeline.events import BatchDone, CollectionProven, Event, RangeProven
from rag_migration_pipeline.migrator import VectorStoreMigrator
from rag_migration_pipeline.stores.base import StoreSettings
from rag_migration_pipeline_tests.kill.worker import Countdown, Deadly, fork, kill_at_rename

RANGE_COUNT = 2_500
BATCH_COUNT = 500
WORKERS = 4

# Each with the time at which it kills.
POINTS = {
    "manifest renamed": 1,
    "target collection created": 1,
    "batch proven": 9,
    "ledger half replaced": 3,
    "receipt stored, event not logged": 2,
    "report stored, event not logged": 1,
}
_EVENTS: dict[str, Callable[[Event], bool]] = {
    "batch proven": lambda event: isinstance(event, BatchDone) and event.step == "validate",
    "receipt stored, event not logged": lambda event: isinstance(event, RangeProven),
    "report stored, event not logged": lambda event: isinstance(event, CollectionProven),
}


@dataclass(frozen=True)
class Journey:
    """One migration of a process.

    Attributes:
        root: Folder that gets ``state`` and ``result.json``.
        worker_type: thread or process.
    """

    source: StoreSettings
    source_collection: str
    target: StoreSettings
    target_collection: str
    root: Path
    worker_type: str


def migrate(journey: Journey, point: str | None = None, *, resume: bool = False) -> None:
    """Run a migration in this process, and die at a point; exits 1 where it is not done."""
    if point is not None:
        _kill_at(point, Countdown(POINTS[point]))
    migrator = VectorStoreMigrator(
        journey.source, journey.target, retry_delay=0.01, state_dir=journey.root / "state", range_count=RANGE_COUNT
    )
    result = migrator.migrate(
        journey.source_collection,
        journey.target_collection,
        batch_size=BATCH_COUNT,
        parallel=True,
        max_workers=WORKERS,
        worker_type=journey.worker_type,
        resume=resume,
    )
    (journey.root / "result.json").write_text(json.dumps(result.to_dict()))
    sys.exit(0 if result.success else 1)


def resume(journey: Journey) -> None:
    """Go on with an interrupted migration."""
    migrate(journey, resume=True)


def start(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """Start a function in a process that may have worker processes; whoever starts it ends it."""
    return fork(function, *arguments, is_daemon=False)


def _kill_at(point: str, countdown: Countdown) -> None:
    if point in _EVENTS:
        _kill_at_event(_EVENTS[point], countdown)
    elif point == "manifest renamed":
        kill_at_rename("manifest.json", countdown, is_after=True)
    elif point == "ledger half replaced":
        kill_at_rename("ledger.json", countdown, is_after=False)
    else:
        open_target = range_runner.open_target
        range_runner.open_target = lambda settings: Deadly(open_target, settings, point, countdown)


def _kill_at_event(is_meant: Callable[[Event], bool], countdown: Countdown) -> None:
    take = Engine._take

    def take_and_die(self: Engine, event: Event) -> None:
        if is_meant(event):
            countdown()
        take(self, event)

    Engine._take = take_and_die  # type: ignore[method-assign]
