"""Progress of a run without Dagster: counts from the steps' events, and the time that is left.

Belongs here: counting, the moving rate. Does not belong here: showing (``cli/``), what happened (``events.py``).
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rag_migration_pipeline.events import (
    BatchDone,
    BothSidesChanged,
    Event,
    RangeFailed,
    RangeProven,
    RangeStarted,
    RecordsGone,
    RecordsRejected,
    RecordsSkipped,
)
from rag_migration_pipeline.records import RecordId

WINDOW_S = 30.0
"""Over how many seconds the rate is taken."""


@dataclass(frozen=True)
class MigrationProgress:
    """How far a run is.

    Attributes:
        vectors_processed: Records that are done with: written and read back, left out, set aside, or failed.
        total_vectors: Records that are to be carried, those that were done before this run included.
        current_batch: Batches that are done with.
        total_batches: About how many there are; never fewer than are done with.
        elapsed_seconds: Since the run began.
        errors: Records that were set aside, and batches that failed.
        rate: Records per second lately; 0.0 before there is one.
    """

    vectors_processed: int
    total_vectors: int
    current_batch: int
    total_batches: int
    elapsed_seconds: float
    errors: int
    rate: float = 0.0

    @property
    def percentage(self) -> float:
        """Part that is done with, in percent; 100.0 where there is nothing to do."""
        return 100.0 * self.vectors_processed / self.total_vectors if self.total_vectors else 100.0

    @property
    def eta_seconds(self) -> float:
        """Seconds that are left at the rate of lately; 0.0 where nothing is, or where nothing is known yet."""
        left = self.total_vectors - self.vectors_processed
        return left / self.rate if left > 0 and self.rate > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        names = ("vectors_processed", "total_vectors", "current_batch", "total_batches", "elapsed_seconds", "errors")
        facts = {name: getattr(self, name) for name in names}
        return {**facts, "percentage": self.percentage, "eta_seconds": self.eta_seconds, "rate": self.rate}


OnProgress = Callable[[MigrationProgress], object]


class Tally:
    """Counts what happens in a run; takes the events of its threads and processes.

    Attributes:
        both_changed: Ids of records that changed on both sides, as the target names them.
        left_out: Ids of planned records that were gone from the source, as it named them.
    """

    def __init__(self, on_progress: OnProgress | None = None) -> None:
        """Begin with nothing.

        Args:
            on_progress: Called after every batch and at the end, by one thread at a time.
        """
        self._on_progress = on_progress
        self._turn = threading.RLock()
        self._begun_s = time.monotonic()
        self._total = self._done = self._batches = self._total_batches = self._errors = 0
        self._planned: dict[str, tuple[int, int]] = {}
        self._in_range: Counter[str] = Counter()
        self._batches_in_range: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._rates: deque[tuple[float, int]] = deque([(self._begun_s, 0)])
        self._rejected: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self.both_changed: list[RecordId] = []
        self.left_out: list[RecordId] = []

    @property
    def rejected(self) -> int:
        """Records that were set aside."""
        with self._turn:
            return self._rejected.total()

    @property
    def skipped(self) -> int:
        """Records that stayed as the target had them."""
        with self._turn:
            return self._skipped.total()

    def plan(self, total: int, done: int, batches: int) -> None:
        """Take in how many records and batches there are, and how many records are done with already."""
        with self._turn:
            self._total, self._done, self._total_batches = total, done, batches
            self._rates = deque([(time.monotonic(), done)])

    def take(self, event: Event) -> None:
        """Take an event of the steps."""
        with self._turn:
            if isinstance(event, RangeStarted):
                self._planned[event.range_key] = event.records, event.batches
                self._in_range[event.range_key] = self._batches_in_range[event.range_key] = 0
                for counts in (self._written, self._rejected, self._skipped):  # of what is carried once more, the last
                    counts[event.range_key] = 0
            elif isinstance(event, RecordsRejected):
                self._rejected[event.range_key] += len(event.rejections)
                self._errors += len(event.rejections)
            elif isinstance(event, RecordsSkipped):
                self._skipped[event.range_key] += len(event.ids)
            elif isinstance(event, BothSidesChanged):
                self.both_changed += event.ids
            elif isinstance(event, RecordsGone):
                self.left_out += event.ids
            elif isinstance(event, BatchDone) and event.step == "validate":
                self._written[event.range_key] += event.records
                self._advance(event.range_key, event.records, 1)
                self._tell()
            elif isinstance(event, RangeProven | RangeFailed):
                if isinstance(event, RangeFailed):
                    self._errors += 1
                self._finish(event.range_key)
                self._tell()

    def written(self, range_key: str) -> int:
        """Return how many records of a range were written, and read back where they are validated, in this run."""
        with self._turn:
            return self._written[range_key]

    def finish(self) -> None:
        """Count everything that was planned as done with, and tell it."""
        with self._turn:
            self._done = self._total
        self.end()

    def end(self) -> None:
        """Tell how it ended."""
        with self._turn:
            self._total_batches = self._batches
            self._tell()

    @property
    def progress(self) -> MigrationProgress:
        """How far the run is."""
        with self._turn:
            return MigrationProgress(
                vectors_processed=min(self._done, self._total),
                total_vectors=self._total,
                current_batch=self._batches,
                total_batches=max(self._total_batches, self._batches),
                elapsed_seconds=time.monotonic() - self._begun_s,
                errors=self._errors,
                rate=self._rate(),
            )

    def _advance(self, key: str, records: int, batches: int) -> None:
        planned = self._planned.get(key, (records, 0))[0]
        records = max(0, min(records, planned - self._in_range[key]))
        self._in_range[key] += records
        self._batches_in_range[key] += batches
        self._done += records
        self._batches += batches

    def _finish(self, key: str) -> None:
        """Count what of a range had no batch: records that a filter left out, that were set aside, or failed."""
        records, _ = self._planned.get(key, (0, 0))
        self._advance(key, records - self._in_range[key], 0)

    def _rate(self) -> float:
        now = time.monotonic()
        begun_s, done = self._rates[0]
        return (self._done - done) / (now - begun_s) if now > begun_s and self._done > done else 0.0

    def _tell(self) -> None:
        now = time.monotonic()
        self._rates.append((now, self._done))
        while len(self._rates) > 1 and now - self._rates[0][0] > WINDOW_S:
            self._rates.popleft()
        if self._on_progress is not None:
            self._on_progress(self.progress)
