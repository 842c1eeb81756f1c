"""One worker's part of a run: a range at a time, failures told apart, stores that are away found out.

Belongs here: running a range so that nothing it meets ends the run that need not. Does not belong here: which worker
runs which range (``workers.py``), the run (``engine.py``), the range (``steps/range.py``).
"""

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rag_migration_pipeline.collector import heap_set_aside
from rag_migration_pipeline.errors import (
    MigrationError,
    MigrationInterruptedError,
    RecordRejectedError,
    SourceChangedError,
    StopError,
    StoreRequestError,
    TryAgainError,
    ValidationError,
)
from rag_migration_pipeline.events import Event, EventSink, RangeFailed, RangeStarted
from rag_migration_pipeline.records import id_text
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.context import MigrationContext, Openers, open_migration
from rag_migration_pipeline.steps.load import FailedBatch
from rag_migration_pipeline.steps.range import RangeOptions, migrate_range
from rag_migration_pipeline.steps.task import task_size
from rag_migration_pipeline.stopping import StopRequest
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.rate_limits import Pace, RateLimitedStore
from rag_migration_pipeline.stores.registry import open_source, open_target
from rag_migration_pipeline.stores.retrying import Repeater, RetryingStore

MAX_FAILED_IN_A_ROW = 3
"""So many failed batches or ranges in a row end a run: the store is away in all but name."""


@dataclass(frozen=True)
class RangeResult:
    """What became of a range in this run.

    Attributes:
        records: Records that were to be carried.
        failed: Records of batches that failed, or all of them where the range failed.
        errors: Why, with range and batch.
        error: What ended the range, if anything did.
        is_fatal: Whether it ends the run.
        facts: For the ledger: counts, digest, seconds.
    """

    key: str
    records: int
    failed: int = 0
    errors: tuple[str, ...] = ()
    error: MigrationError | None = None
    is_fatal: bool = False
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether the range is proven."""
        return not self.failed and self.error is None

    @property
    def is_written(self) -> bool:
        """Whether what was written of it counts: no error ended it, or only records that were set aside did."""
        return self.error is None or (isinstance(self.error, RecordRejectedError) and not self.failed)


@dataclass(frozen=True)
class Paces:
    """How fast the two stores may be asked; shared by all workers."""

    source: Pace
    target: Pace


def paces_of(migration: Migration, *, is_shared: bool) -> Paces:
    """Return the paces that a migration's options allow."""
    limits = migration.options.limits
    pair = (
        Pace(item.requests_per_s, item.records_per_s, is_shared=is_shared) for item in (limits.source, limits.target)
    )
    return Paces(*pair)


def patient_openers(migration: Migration, paces: Paces, emit: EventSink, stop: threading.Event) -> Openers:
    """Return openers that try again, and give stores that do, and that are asked at their pace."""
    policy = migration.options.retry_policy

    def patient(
        open_store: Callable[[StoreSettings], VectorStore], pace: Pace
    ) -> Callable[[StoreSettings], VectorStore]:
        def open_patiently(settings: StoreSettings) -> VectorStore:
            repeater = Repeater(settings.address, policy, emit, stop)
            store = repeater.repeat("open", lambda: open_store(settings))
            return RetryingStore(RateLimitedStore(store, pace, stop), repeater)

        return open_patiently

    return Openers(patient(open_source, paces.source), patient(open_target, paces.target))


class RangeRunner:
    """Runs ranges of one migration; its threads may run several at once."""

    def __init__(self, context: MigrationContext, stop: StopRequest) -> None:
        """Run in this context, until somebody wants it to stop."""
        self._context = context
        self._stop = stop
        self._turn = threading.Lock()
        self._failed_in_a_row = 0

    def run(self, key: str) -> RangeResult:
        """Carry one range; failures are in the result."""
        try:
            with heap_set_aside():
                return self._run(key)
        finally:
            _give_back_memory()

    def _run(self, key: str) -> RangeResult:
        begun = time.monotonic()
        manifest = self._context.manifest
        records = task_size(self._context.state, manifest, manifest.entry(key))
        self._emit(RangeStarted(self._context.migration.name, key, records, -(-records // self._context.page_count)))
        failures: list[FailedBatch] = []
        options = RangeOptions(
            prefetch_bytes=self._context.migration.options.prefetch_bytes,
            before_batch=self._stop.check,
            on_failure=lambda batch: self._take_failure(failures, batch),
        )
        try:
            receipt = migrate_range(self._context, key, options)
        except MigrationError as error:
            return self._ended(key, records, failures, error, time.monotonic() - begun)
        failed = sum(len(batch.source_ids) for batch in failures)
        if not failures:
            self._succeeded()
        facts: dict[str, object] = {
            **{name: receipt.counts.get(name, 0) for name in ("written", "filtered", "skipped", "rejected")},
            "digest": receipt.digest,
            "duration_s": round(time.monotonic() - begun, 3),
            "carried": records,
        }
        return RangeResult(key, records, failed, tuple(map(_batch_text, failures)), facts=facts)

    def _take_failure(self, failures: list[FailedBatch], batch: FailedBatch) -> None:
        failures.append(batch)
        text = _batch_text(batch)
        self._emit(RangeFailed(self._context.migration.name, batch.range_key, len(batch.source_ids), text))
        self._refuse_to_go_on(batch.error)

    def _ended(
        self, key: str, records: int, failures: list[FailedBatch], error: MigrationError, duration_s: float
    ) -> RangeResult:
        is_fatal = is_fatal_error(error)
        if isinstance(error, TryAgainError) and not is_fatal:
            try:
                self._refuse_to_go_on(error)
            except TryAgainError:
                is_fatal = True
        if is_fatal:
            self._stop.request(f"range {key} failed")  # at once: no other range is to be begun meanwhile
        text = f"range {key}: {type(error).__name__}: {error}"
        if not isinstance(error, MigrationInterruptedError):
            self._emit(RangeFailed(self._context.migration.name, key, records, text))
        facts: dict[str, object] = {"duration_s": round(duration_s, 3), "carried": records}
        errors = (*map(_batch_text, failures), text)
        is_written = isinstance(error, RecordRejectedError) and not failures  # those within were, and stay
        return RangeResult(key, records, 0 if is_written else records, errors, error, is_fatal, facts)

    def _succeeded(self) -> None:
        with self._turn:
            self._failed_in_a_row = 0

    def _refuse_to_go_on(self, error: TryAgainError) -> None:
        """Raise an error that is more than a batch's: one too many in a row, or the store is away altogether."""
        with self._turn:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
                raise error
        for store, collection in (
            (self._context.source, self._context.migration.source_collection),
            (self._context.target, self._context.migration.target_collection),
        ):
            probed = store.inner if isinstance(store, RetryingStore) else store
            try:
                probed.count(collection)
            except TryAgainError:
                raise error from None

    def _emit(self, event: Event) -> None:
        self._context.emit(event)


def _give_back_memory() -> None:
    """Give freed memory back to the system, where the C library can (glibc).

    The threads of a range have heaps of their own, which glibc keeps when they end; the peak grew with the ranges, by a
    quarter from 20,000 records to 80,000 (docs/benchmarks.md, "Memory").
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_fatal_error(error: MigrationError) -> bool:
    """Return whether an error that ended a range would end the others as well."""
    if isinstance(error, MigrationInterruptedError):
        return True
    if isinstance(error, SourceChangedError | RecordRejectedError | ValidationError | TryAgainError):
        return False
    if isinstance(error, StoreRequestError):
        return not error.may_lie_in_a_record
    return isinstance(error, StopError)


def _batch_text(batch: FailedBatch) -> str:
    ids = batch.source_ids
    span = f"{id_text(ids[0])[:60]} to {id_text(ids[-1])[:60]}" if ids else "nothing"
    error = f"{type(batch.error).__name__}: {batch.error.what}"
    return f"range {batch.range_key}, batch {batch.number} ({len(ids)} records, {span}): {error}"


@contextmanager
def open_runner(
    migration: Migration, state_dir: Path, paces: Paces, emit: EventSink, stop: StopRequest
) -> Iterator[RangeRunner]:
    """Open both stores for a worker of its own process."""
    openers = patient_openers(migration, paces, emit, stop.event)
    with open_migration(migration, state_dir, emit, openers=openers) as context:
        yield RangeRunner(context, stop)
