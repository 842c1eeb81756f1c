"""The engine: runs a migration without Dagster, from the plan to the proof, with several workers.

Belongs here: the order of a run, what it begins with, what ends it. Does not belong here: the steps (``steps/``), a
worker's part (``range_runner.py``), handing out ranges (``workers.py``), the ledger (``ledger.py``), what callers see
(``migrator.py``, ``cli/``).

A run starts afresh, goes on with an interrupted one (``resume``), or carries what changed since the last completed one
(``incremental``, which finishes an interrupted one first).
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rag_migration_pipeline.errors import (
    MigrationError,
    MigrationInterruptedError,
    RecordRejectedError,
    SourceChangedError,
    ValidationError,
)
from rag_migration_pipeline.events import Event, EventSink, ignore_events
from rag_migration_pipeline.ledger import JsonLedger, Ledger, LedgerHead, RangeRecord, RunState
from rag_migration_pipeline.options import WorkerType
from rag_migration_pipeline.progress import OnProgress, Tally
from rag_migration_pipeline.range_runner import Paces, RangeResult, RangeRunner, paces_of, patient_openers
from rag_migration_pipeline.receipts import read_counts
from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import state_folder
from rag_migration_pipeline.steps.changes import Changes
from rag_migration_pipeline.steps.context import MigrationContext, Openers, context_of, open_migration
from rag_migration_pipeline.steps.going_on import go_on
from rag_migration_pipeline.steps.integrity import Timing
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.planning import is_finished
from rag_migration_pipeline.steps.report import Report, prove_collection
from rag_migration_pipeline.steps.syncing import plan_changes
from rag_migration_pipeline.steps.task import task_size
from rag_migration_pipeline.steps.watching import find_changes, note_watermark
from rag_migration_pipeline.stopping import StopRequest
from rag_migration_pipeline.workers import (
    ProcessJob,
    Results,
    refuse_one_process,
    run_in_processes,
    run_in_threads,
    worker_count,
)

_log = logging.getLogger(__name__)


ROUNDS = 5
"""So often at most a run carries a range of which the source loses planned records meanwhile."""


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        planned: Records that this run was to carry.
        migrated: Records that it wrote, read back where they are validated.
        failed: Records of batches and ranges that failed.
        already: Records that were proven before it began.
        errors: Why what failed did, with range and batch.
        report: The proof of the whole, or None where it did not come to that.
        contradiction: What the target contradicts; the proof's, or a range's.
        over_budget: More records were set aside than allowed.
        changes: What an incremental run found, or None.
        both_changed: Records that changed on both sides, as the target names them; what the source has was taken.
        left_out: Planned records that were gone from the source, as it named them.
        is_interrupted: Somebody wanted it to stop.
        checkpoint_file: The ledger.
    """

    planned: int = 0
    migrated: int = 0
    failed: int = 0
    rejected: int = 0
    skipped: int = 0
    filtered: int = 0
    already: int = 0
    batches: int = 0
    duration_s: float = 0.0
    errors: list[str] = field(default_factory=list)
    report: Report | None = None
    contradiction: ValidationError | None = None
    over_budget: RecordRejectedError | None = None
    changes: Changes | None = None
    both_changed: tuple[RecordId, ...] = ()
    left_out: tuple[RecordId, ...] = ()
    is_interrupted: bool = False
    checkpoint_file: str = ""

    @property
    def is_done(self) -> bool:
        """Whether everything that was to be done is done, and nothing contradicts it."""
        is_contradicted = self.contradiction is not None or self.over_budget is not None
        return self.report is not None and not (self.failed or is_contradicted or self.is_interrupted)


class Engine:
    """Runs one migration once.

    Attributes:
        tally: How far it is.
    """

    def __init__(
        self,
        migration: Migration,
        state_dir: Path,
        *,
        sink: EventSink = ignore_events,
        on_progress: OnProgress | None = None,
        stop: StopRequest | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """Say what is to be run.

        Args:
            migration: The migration, with its options.
            state_dir: Folder of all migrations' state.
            sink: Takes all events, from several threads.
            on_progress: Called after every batch and at the end, by one thread at a time; what it raises stops the run.
            stop: Lets somebody stop it.
            ledger: Where it notes how far it is; None takes the file that the options name.
        """
        self.migration = migration
        self.tally = Tally(on_progress)
        self._state_dir = state_dir
        self._state = state_folder(state_dir, migration.identity)
        self._sink = sink
        self._stop = stop or StopRequest()
        path = Path(migration.options.checkpoint_file or self._state.ledger)
        self._ledger: Ledger = ledger or JsonLedger(path)
        self._outcome = Outcome(checkpoint_file=str(path))
        self._raised: Exception | None = None
        self._fatal: MigrationError | None = None

    def run(self) -> Outcome:
        """Run it.

        Raises:
            MigrationInterruptedError: Somebody wanted it to stop; says how to go on.
            MigrationLockedError: Somebody else runs it.
            MigrationError: What ends a whole run: a missing collection, a store that is away after all attempts, a plan
                that cannot be applied. What fails in parts is in the outcome.
        """
        begun = time.monotonic()
        options = self.migration.options
        with self._state.in_use(alone=True):
            self._ledger.begin(_head(self.migration))
            end = RunState.FAILED
            try:
                paces = paces_of(self.migration, is_shared=options.worker_type is WorkerType.PROCESS)
                self._run(patient_openers(self.migration, paces, self._take, self._stop.event), paces)
                self._raise_what_ended_it()
                end = RunState.DONE if self._outcome.is_done else RunState.FAILED
            except (MigrationInterruptedError, KeyboardInterrupt) as error:
                end = RunState.INTERRUPTED
                self._outcome.is_interrupted = True
                self._raise_what_ended_it()
                raise self._interruption() from error
            finally:
                self._outcome.duration_s = time.monotonic() - begun
                self._ledger.end(end, _report_facts(self._outcome.report))
        self.tally.end()
        self._raise_what_ended_it()  # the last call of a callback may raise as well
        return self._outcome

    def _run(self, openers: Openers, paces: Paces) -> None:
        options = self.migration.options
        is_new = not (options.resume or options.incremental) or not self._state.manifest.exists()
        if is_new and options.resume:
            _log.info("there is nothing to resume: the migration starts afresh")
        with open_migration(
            self.migration, self._state_dir, self._take, plan=is_new, fresh=is_new, openers=openers
        ) as found:
            context = go_on(found)
            if is_new or not is_finished(context.state, context.manifest):
                context = self._carry(context, paces)
                if is_new or not options.incremental or not self._outcome.is_done:
                    return
            elif not options.incremental:
                self._carry(context, paces, is_proven=True)
                return
            changes, watermark = find_changes(context)
            self._outcome.changes = changes
            later = context
            if changes.count:
                manifest = plan_changes(context, changes)
                stores = context.source, context.target
                later = context_of(self.migration, manifest, context.state, *stores, self._take)
            self._carry(later, paces, is_proven=True)
            if self._outcome.is_done:
                note_watermark(later, watermark)

    def _carry(self, context: MigrationContext, paces: Paces, *, is_proven: bool = False) -> MigrationContext:
        """Carry the ranges that are not proven yet, and prove the whole; return the migration as it is planned then.

        Args:
            context: The migration.
            paces: How fast the stores may be asked.
            is_proven: Whether an earlier proof covers the ranges that are; then only the others are read back.
        """
        outcome, sizes = self._outcome, _sizes(context)
        keys, planned = list(sizes), sum(sizes.values())
        outcome.planned, outcome.already = planned, context.manifest.count - planned
        outcome.migrated = outcome.failed = 0
        out_before = len(self.tally.left_out)
        for again in reversed(range(ROUNDS)):
            lost = self._carry_ranges(context, paces, sizes)
            later = self._without_lost(context) if lost and again else None
            if later is None:
                break
            context, sizes = later, _sizes(later)
        for result in lost:
            self._book_failure(result)
        outcome.rejected, outcome.skipped = self.tally.rejected, self.tally.skipped
        outcome.both_changed, outcome.left_out = tuple(self.tally.both_changed), tuple(self.tally.left_out)
        outcome.batches = self.tally.progress.current_batch
        done = outcome.migrated + outcome.failed + outcome.rejected + outcome.skipped
        outcome.filtered = max(0, planned - done - (len(outcome.left_out) - out_before))
        self._raise_what_ended_it()
        if not outcome.errors:
            self._prove(context, keys if is_proven else None)
        return context

    def _without_lost(self, context: MigrationContext) -> MigrationContext | None:
        """Return the migration without what the source lost meanwhile, or None where the run is not to go on."""
        if self._outcome.errors or self._stop.is_requested:
            return None
        try:
            return go_on(context)
        except SourceChangedError as refusal:
            self._outcome.errors.append(str(refusal))
            return None

    def _carry_ranges(self, context: MigrationContext, paces: Paces, sizes: Mapping[str, int]) -> list[RangeResult]:
        """Carry ranges; return the results of those of which the source lost records meanwhile, and of no others."""
        total, planned = context.manifest.count, sum(sizes.values())
        self._ledger.plan(context.manifest.plan_digest, _ranges_of(context, sizes))
        self.tally.plan(total, total - planned, sum(-(-size // context.page_count) for size in sizes.values()))
        lost: list[RangeResult] = []
        with closing(self._results(context, paces, list(sizes))) as results:
            for result in results:
                if isinstance(result.error, SourceChangedError) and self._state.gone(result.key).exists():
                    self._ledger.note(result.key, state=RunState.FAILED, **result.facts)
                    lost.append(result)
                else:
                    self._book(result)
        return lost

    def _results(self, context: MigrationContext, paces: Paces, keys: Sequence[str]) -> Results:
        count = worker_count(self.migration.options, context.source.capabilities, context.target.capabilities)
        if self.migration.options.worker_type is WorkerType.PROCESS:
            refuse_one_process(context.source.capabilities, context.target.capabilities)
            job = ProcessJob(self.migration, self._state_dir, paces)
            return run_in_processes(job, keys, count, self._stop, self._take, self._begin)
        runner = RangeRunner(context, self._stop)
        return run_in_threads(runner.run, keys, count, self._stop, self._begin)

    def _begin(self, key: str) -> None:
        self._ledger.note(key, state=RunState.RUNNING, attempts=self._ledger.attempts(key) + 1)

    def _book(self, result: RangeResult) -> None:
        """Take in what became of a range."""
        outcome = self._outcome
        if isinstance(result.error, MigrationInterruptedError):
            self._ledger.note(result.key, state=RunState.INTERRUPTED, **result.facts)
            return
        if result.is_written:
            outcome.migrated += self.tally.written(result.key)
        if isinstance(result.error, ValidationError) and outcome.contradiction is None:
            outcome.contradiction = result.error
        state = RunState.DONE if result.is_done else RunState.FAILED
        self._ledger.note(result.key, state=state, **result.facts)
        self._book_failure(result)
        if result.is_fatal and self._fatal is None:
            self._fatal = result.error
            self._stop.request(f"range {result.key} failed")

    def _book_failure(self, result: RangeResult) -> None:
        """Take in what failed of a range, if anything did."""
        self._outcome.failed += result.failed
        self._outcome.errors += result.errors
        for text in result.errors:
            self._ledger.note(result.key, error=text)

    def _prove(self, context: MigrationContext, only: Sequence[str] | None) -> None:
        try:
            timings = {key: Timing(*facts) for key, facts in self._ledger.timings().items()}
            self._outcome.report = prove_collection(context, only, timings)
        except ValidationError as error:
            self._outcome.contradiction, self._outcome.report = error, error.report
        except RecordRejectedError as error:
            self._outcome.over_budget = error
            self._outcome.errors.append(str(error))

    def _take(self, event: Event) -> None:
        """Take an event of any thread or process; what a callback raises stops the run."""
        try:
            self.tally.take(event)
            self._sink(event)
        except Exception as error:  # noqa: BLE001  a callback's; raised again when the run has stopped
            self._raised = self._raised or error
            self._stop.request(f"a callback raised {type(error).__name__}")

    def _raise_what_ended_it(self) -> None:
        if self._raised is not None:
            raise self._raised
        if self._fatal is not None:
            raise self._fatal
        if self._stop.is_requested:
            raise self._interruption()

    def _interruption(self) -> MigrationInterruptedError:
        done, total = self._ledger.progress()
        return MigrationInterruptedError(
            f"migration {self.migration.name!r} was stopped on request ({self._stop.reason or 'Ctrl-C'}): {done} of "
            f"{total} ranges are proven.",
            todo="Run it again with resume: what is done stays done.",
            ranges_done=done,
            ranges=total,
        )


def _sizes(context: MigrationContext) -> dict[str, int]:
    """Return how many records are to be carried, of each range that is not proven."""
    done = set(proven_keys(context.state, context.manifest))
    waiting = (entry for entry in context.manifest.ranges if entry.key not in done)
    return {entry.key: task_size(context.state, context.manifest, entry) for entry in waiting}


def _ranges_of(context: MigrationContext, waiting: Mapping[str, int]) -> dict[str, RangeRecord]:
    """Return what a ledger says of ranges before they are run."""
    ranges = {}
    for entry in context.manifest.ranges:
        if entry.key in waiting:
            ranges[entry.key] = RangeRecord(RunState.WAITING, entry.count)
            continue
        counts = read_counts(context.state.receipt(entry.key))
        ranges[entry.key] = RangeRecord(
            RunState.DONE,
            entry.count,
            written=counts.get("written", 0),
            filtered=counts.get("filtered", 0),
            skipped=counts.get("skipped", 0),
            rejected=counts.get("rejected", 0),
        )
    return ranges


def _head(migration: Migration) -> LedgerHead:
    return LedgerHead(
        migration.name,
        migration.identity,
        f"{migration.source.address}, collection {migration.source_collection!r}",
        f"{migration.target.address}, collection {migration.target_collection!r}",
    )


def _report_facts(report: Report | None) -> dict[str, Any]:
    if report is None:
        return {}
    names = (
        "planned",
        "written",
        "filtered",
        "skipped",
        "rejected",
        "left_over",
        "target_count",
        "is_proven",
        "unread",
    )
    return {**{name: getattr(report, name) for name in names}, "proven_at": report.proven_at.isoformat()}
