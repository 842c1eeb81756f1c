"""What can be done with a migration, for API and command line alike: run it, dry or not, plan, estimate, verify, undo.

Belongs here: the one way in, with stores that try again; results and estimates made of outcomes. Does not belong here:
the run (``engine.py``), the results' form (``models.py``), what callers name (``migrator.py``, ``cli/``).
"""

import math
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rag_migration_pipeline.engine import Engine, Outcome
from rag_migration_pipeline.errors import MigrationInterruptedError, ValidationError
from rag_migration_pipeline.events import Event, EventSink, ignore_events
from rag_migration_pipeline.logs import RunLog
from rag_migration_pipeline.models import MigrationEstimate, MigrationResult
from rag_migration_pipeline.options import Detect, Validation, is_over
from rag_migration_pipeline.progress import OnProgress, Tally
from rag_migration_pipeline.range_runner import paces_of, patient_openers
from rag_migration_pipeline.records import VectorSpec, id_text
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import StateFolder, state_folder
from rag_migration_pipeline.steps.context import Openers, open_migration
from rag_migration_pipeline.steps.estimation import Estimation, estimate
from rag_migration_pipeline.steps.manifest import open_manifest
from rag_migration_pipeline.steps.plan_view import MigrationPlan
from rag_migration_pipeline.steps.preview import previewed
from rag_migration_pipeline.steps.rehearsal import Rehearsal, rehearse
from rag_migration_pipeline.steps.replay import ReplayReport, replay
from rag_migration_pipeline.steps.rollback import RollbackReport, rollback
from rag_migration_pipeline.steps.verification import Verification, verify
from rag_migration_pipeline.stopping import StopRequest, stopping_on_signals
from rag_migration_pipeline.verdicts import Level


def run_migration(
    migration: Migration,
    state_dir: Path,
    *,
    on_progress: OnProgress | None = None,
    sink: EventSink = ignore_events,
    stop: StopRequest | None = None,
    is_command: bool = False,
) -> MigrationResult:
    """Run a migration, dry or not, and return what it did; see `migrator.VectorStoreMigrator.migrate` for errors.

    Args:
        migration: The migration, with all its options.
        state_dir: Folder of all migrations' state.
        on_progress: Called after every batch and at the end, by one thread at a time.
        sink: Takes all events, from several threads.
        stop: Lets somebody stop it; SIGINT and SIGTERM do, in the main thread.
        is_command: Whether the process is there for this alone, so that a second signal may end it at once.
    """
    asked, started_at, log = stop or StopRequest(), datetime.now(UTC), RunLog(migration.name)

    def take(event: Event) -> None:
        log.take(event)
        sink(event)

    with stopping_on_signals(asked, at_once=is_command):
        if migration.options.dry_run:
            return _rehearse(migration, state_dir, asked, on_progress, take)
        outcome = Engine(migration, state_dir, sink=take, on_progress=on_progress, stop=asked).run()
    result = _result_of(migration, state_folder(state_dir, migration.identity), outcome, started_at)
    result.metadata["run_id"] = log.run_id
    if outcome.contradiction is not None:
        error = outcome.contradiction
        raise ValidationError(error.what, todo=error.todo, **{**error.facts, "result": result}) from error
    return result


def plan_of_migration(migration: Migration, state_dir: Path) -> MigrationPlan:
    """Return what a migration would do, without writing anything."""
    with previewed(migration, state_dir, openers=_openers_of(migration)) as preview:
        return preview.plan


def estimate_of_migration(migration: Migration, state_dir: Path, *, probe_target: bool = False) -> MigrationEstimate:
    """Plan a migration and time a probe of it, of writes too where that is asked for."""
    openers = _openers_of(migration)
    with previewed(migration, state_dir, openers=openers) as preview:
        return _estimate_of(estimate(preview, probe_target=probe_target, openers=openers))


def verify_migration(migration: Migration, *, sample: int | None = None) -> Verification:
    """Compare a migration's source with its target; see `steps.verification.verify`."""
    return verify(migration, sample=sample, openers=_openers_of(migration))


def replay_migration(migration: Migration, state_dir: Path, path: Path) -> ReplayReport:
    """Load a repaired quarantine file; see `steps.replay.replay`."""
    with open_migration(migration, state_dir, openers=_openers_of(migration)) as context:
        return replay(context, path)


def rollback_migration(migration: Migration, state_dir: Path, *, force: bool = False) -> RollbackReport:
    """Take away what a migration made, and its state; see `steps.rollback.rollback`."""
    with _openers_of(migration).target(migration.target) as target:
        return rollback(migration, state_folder(state_dir, migration.identity), target, force=force)


def _openers_of(migration: Migration, sink: EventSink = ignore_events, stop: threading.Event | None = None) -> Openers:
    """Return openers of stores that try again as the migration's options say."""
    return patient_openers(migration, paces_of(migration, is_shared=False), sink, stop or threading.Event())


def _result_of(migration: Migration, state: StateFolder, outcome: Outcome, started_at: datetime) -> MigrationResult:
    options, report = migration.options, outcome.report
    completed_at = datetime.now(UTC)
    is_validated = options.validate_target is Validation.FULL and report is not None and report.is_proven
    duration_s = (completed_at - started_at).total_seconds()
    metadata: dict[str, Any] = {
        **_asked(migration),
        "total_batches": outcome.batches,
        "validated": is_validated and not outcome.failed,
        "rejected": outcome.rejected,
        "skipped": outcome.skipped,
        "filtered": outcome.filtered,
        "already_migrated": outcome.already,
        "quarantine_file": _quarantine(migration, state) if outcome.rejected else None,
        "checkpoint_file": outcome.checkpoint_file,
        "rates": {"records_per_second": round(outcome.migrated / duration_s, 1) if duration_s else 0.0},
        "identity": migration.identity,
        "state_folder": str(state.root),
        "report": str(state.report) if report is not None else None,
        "report_page": str(state.report_page) if report is not None else None,
        "notes": list(report.notes) if report is not None else [],
        "left_over": report.left_over if report is not None else 0,
        "not_read_again": report.unread if report is not None else 0,
        "both_changed": [id_text(record_id) for record_id in outcome.both_changed],
        "left_out": [id_text(record_id) for record_id in outcome.left_out],
    }
    if outcome.changes is not None:
        metadata["changes"] = {
            "added": len(outcome.changes.added),
            "changed": sum(map(len, outcome.changes.changed.values())),
            "gone": sum(map(len, outcome.changes.gone.values())),
            "deletes": str(options.deletes),
            "detect": str(options.detect),
            "sees_vectors": options.detect is Detect.FULL,
        }
    return MigrationResult(
        success=outcome.is_done,
        vectors_migrated=outcome.migrated,
        vectors_failed=outcome.failed + outcome.rejected,
        duration_seconds=duration_s,
        source_collection=migration.source_collection,
        target_collection=migration.target_collection,
        started_at=started_at,
        completed_at=completed_at,
        errors=list(outcome.errors),
        metadata=metadata,
    )


def _asked(migration: Migration) -> dict[str, Any]:
    options = migration.options
    return {"batch_size": options.page_count, "dry_run": options.dry_run, "filter": options.filter}


def _quarantine(migration: Migration, state: StateFolder) -> str | None:
    """Return the quarantine file, or the folder of them where there are several."""
    folder = state.quarantines(open_manifest(state, migration).plan_digest)
    files = sorted(folder.glob("*.arrow"))
    return str(files[0] if len(files) == 1 else folder) if files else None


def _rehearse(
    migration: Migration, state_dir: Path, stop: StopRequest, on_progress: OnProgress | None, sink: EventSink
) -> MigrationResult:
    """Go through all records without writing anything.

    Raises:
        MigrationError: What forbids the migration.
        MigrationInterruptedError: Somebody wanted it to stop.
    """
    started_at, tally = datetime.now(UTC), Tally(on_progress)

    def take(event: Event) -> None:
        tally.take(event)
        sink(event)

    try:
        with previewed(migration, state_dir, take, _openers_of(migration, take, stop.event)) as preview:
            preview.plan.refuse()
            total, size = preview.draft.manifest.count, preview.context.page_count
            tally.plan(total, 0, math.ceil(total / size))
            found = rehearse(preview, stop.check)
        stop.check()
    except MigrationInterruptedError as error:
        raise MigrationInterruptedError(f"the dry run was stopped on request ({stop.reason}).") from error
    tally.finish()
    return _rehearsed(migration, found, total, started_at)


def _rehearsed(migration: Migration, found: Rehearsal, planned: int, started_at: datetime) -> MigrationResult:
    completed_at = datetime.now(UTC)
    errors = [f"{id_text(item.record_id)}: {item.reason}" for item in found.rejections]
    return MigrationResult(
        success=not is_over(found.rejected, planned, migration.options.max_rejected),
        vectors_migrated=found.passed,
        vectors_failed=found.rejected,
        duration_seconds=(completed_at - started_at).total_seconds(),
        source_collection=migration.source_collection,
        target_collection=migration.target_collection,
        started_at=started_at,
        completed_at=completed_at,
        errors=errors,
        metadata={
            **_asked(migration),
            "total_batches": found.batches,
            "validated": False,
            "rejected": found.rejected,
            "skipped": found.skipped,
            "filtered": found.filtered,
            "quarantine_file": None,
            "checkpoint_file": None,
            "rates": {"records_per_second": round(found.passed / found.duration_s, 1) if found.duration_s else 0.0},
            "size_bytes": found.size_bytes,
            "identity": migration.identity,
        },
    )


def _estimate_of(found: Estimation) -> MigrationEstimate:
    """Return what a probe found in the words of the API."""
    plan = found.plan
    warnings = [str(verdict) for verdict in plan.verdicts if verdict.level in (Level.LOSSY, Level.NOTE)]
    warnings += [str(refusal) for refusal in plan.refusals]
    if found.write_s is None and found.count:
        warnings.append("only reads were timed; probe_target=True times writes as well")
    return MigrationEstimate(
        total_vectors=found.count,
        estimated_duration_seconds=found.duration_s,
        estimated_batches=math.ceil(found.count / found.page_count),
        source_dimension=_dimension(plan.source_spec.vectors) or 0,
        target_dimension=_dimension(plan.target_spec.vectors),
        compatible=plan.is_applicable,
        warnings=warnings,
        size_bytes=found.size_bytes,
        plan=plan,
    )


def _dimension(vectors: tuple[VectorSpec, ...]) -> int | None:
    return next((vector.dimension for vector in vectors if vector.dimension), None)
