"""The ops of a migration: one per step of a range, small values between them, records in staged files.

Belongs here: calling the steps and telling Dagster what happened. Does not belong here: what the steps do
(``steps/``), how ops are put together (`assets`, `jobs`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import dagster as dg

from rag_migration_pipeline.errors import StagingError
from rag_migration_pipeline.events import ignore_events
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.orchestration.checks import Proof, evaluate_range
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.evaluations import SHOWN
from rag_migration_pipeline.orchestration.facts import (
    range_metadata,
    range_tags,
)
from rag_migration_pipeline.orchestration.session import migration_context
from rag_migration_pipeline.orchestration.staging import (
    StagedRange,
    acknowledged_batches,
    held_ids,
    note_written,
    stage_extract,
    stage_mapped,
    stage_selection,
    staged_batches,
    written_batches,
)
from rag_migration_pipeline.receipts import Receipt, read_receipt
from rag_migration_pipeline.records import RecordId, Rejection
from rag_migration_pipeline.sightings import Watch
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.launching import refuse_launch
from rag_migration_pipeline.steps.load import PackedBatch, load_batches, pack_batch
from rag_migration_pipeline.steps.receipt_comparison import validate_written, written_batch
from rag_migration_pipeline.steps.set_aside import (
    RangeQuarantine,
    refuse_rejections,
    rejected_in_load,
    stored_rejections,
)
from rag_migration_pipeline.steps.task import open_task
from rag_migration_pipeline.steps.validate import Findings, prove_range, validate_batches

Op = dg.OpDefinition


@dataclass(frozen=True)
class MigrationOps:
    """The ops of one migration.

    Attributes:
        plan_ranges: Dynamic output per partition key of an asset run.
        extract: Range key -> staged range.
        filter: Staged range -> staged range.
        transform: Staged range -> staged range.
        load: Staged range -> staged range.
        validate: Staged range -> number of records; logs the partition's materialization and check.
        finish: Ends an asset run; nothing comes out, because the ranges were logged one by one.
    """

    plan_ranges: Op
    extract: Op
    filter: Op
    transform: Op
    load: Op
    validate: Op
    finish: Op


def build_ops(declaration: MigrationDeclaration) -> MigrationOps:
    """Return the ops of a migration; their names start with its name, so that migrations share a location."""
    return MigrationOps(
        plan_ranges=_plan_ranges(declaration),
        extract=_range_op(declaration, "extract_range", _extract, priority=1, pool=declaration.source_pool),
        filter=_range_op(declaration, "filter_range", _filter, priority=2, pool=None),
        transform=_range_op(declaration, "transform_range", _transform, priority=3, pool=None),
        load=_range_op(declaration, "load_range", _load, priority=4, pool=declaration.pool),
        validate=_range_op(declaration, "validate_range", _validate, priority=5, pool=declaration.pool),
        finish=_finish(declaration),
    )


def _range_op(
    declaration: MigrationDeclaration,
    name: str,
    step: Callable[[dg.OpExecutionContext, MigrationDeclaration, Any], Any],
    *,
    priority: int,
    pool: str | None,
) -> Op:
    """Return the op of one step; rising priorities let a range finish before the next begins."""

    @dg.op(
        name=f"{declaration.name}__{name}",
        description=step.__doc__,
        tags={"dagster/priority": str(priority)},
        pool=pool,
        required_resource_keys=declaration.resource_keys,
    )
    def range_op(context: dg.OpExecutionContext, staged: Any) -> Any:
        return step(context, declaration, staged)

    return range_op


def _extract(context: dg.OpExecutionContext, declaration: MigrationDeclaration, key: str) -> StagedRange:
    """Read the range from the source into its staged file."""
    begun = time.perf_counter()
    with migration_context(context, declaration) as migration:
        staged = stage_extract(migration, key)
    return staged.after("extract", time.perf_counter() - begun)


def _filter(context: dg.OpExecutionContext, declaration: MigrationDeclaration, staged: StagedRange) -> StagedRange:
    """Select the records that the filter takes; without a filter the range passes as it is."""
    begun = time.perf_counter()
    if not declaration.options.filter:
        return staged.after("filter", 0.0)
    with migration_context(context, declaration) as migration:
        taken = stage_selection(migration, staged.key, parse_filter(declaration.options.filter))
        filtered = staged.records - taken
    return staged.after("filter", time.perf_counter() - begun, records=taken, is_filtered=True, filtered=filtered)


def _transform(context: dg.OpExecutionContext, declaration: MigrationDeclaration, staged: StagedRange) -> StagedRange:
    """Change the records on the way; what needs no user's code is done while the range is loaded, without a file."""
    begun = time.perf_counter()
    if declaration.options.mapping is None:
        return staged.after("transform", 0.0)
    with migration_context(context, declaration) as migration:
        if migration.mapping is None or not migration.mapping.has_functions:
            return staged.after("transform", 0.0)
        quarantine = RangeQuarantine(migration, open_task(migration.state, migration.manifest, staged.key))
        with quarantine.stored():
            records = stage_mapped(migration, staged, quarantine.set_aside)
    changes = {"records": records, "rejected": len(quarantine.rejections), "is_mapped": True}
    return staged.after("transform", time.perf_counter() - begun, **changes)


def _load(context: dg.OpExecutionContext, declaration: MigrationDeclaration, staged: StagedRange) -> StagedRange:
    """Write the range to the target in acknowledged batches; a retry goes on after the acknowledged ones."""
    begun = time.perf_counter()
    with migration_context(context, declaration) as migration:
        task = open_task(migration.state, migration.manifest, staged.key)
        quarantine = RangeQuarantine(migration, task)
        done = acknowledged_batches(migration, staged.key, context.run_id)
        pairs = islice(staged_batches(migration, staged, quarantine.set_aside), done, None)
        with quarantine.stored(keeps_earlier=staged.is_mapped):
            loaded = load_batches(migration, staged.key, quarantine.following(pairs), is_whole=task.is_whole)
            for packed, _ in quarantine.answered(loaded):
                done += 1
                if not quarantine.rejections:  # after one the range starts over, so that every one is named again
                    batch = written_batch(migration, packed)
                    note_written(migration, staged.key, context.run_id, done, batch)
        refuse_rejections(migration, staged.key, stored_rejections(migration, staged.key))
        is_kept = task.is_whole and not task.repairs.rows and not quarantine.rejections
    kept = {"written_by": context.run_id if is_kept else "", "batches": done}
    return staged.after("load", time.perf_counter() - begun, carries=task.count, is_whole=task.is_whole, **kept)


def _validate(context: dg.OpExecutionContext, declaration: MigrationDeclaration, staged: StagedRange) -> int:
    """Read the range back, compare it record by record, store its receipt, and turn its partition green.

    Where the launch left records of it pending, the partition stays as it is.
    """
    begun = time.perf_counter()
    with migration_context(context, declaration) as migration:
        task = open_task(migration.state, migration.manifest, staged.key)
        if (task.count, task.is_whole) != (staged.carries, staged.is_whole):
            return _booked_before(context, staged)
        with evaluate_range(context, declaration, staged.key) as proof:
            held = held_ids(migration, staged)
            parts, watch, set_aside = _compared_with_written(migration, staged) or _compared(migration, staged)
            proof.findings, receipt = prove_range(migration, task, parts, watch, set_aside=set_aside, held=held)
            proof.take_in(receipt.counts["rejected"], migration.state.quarantine(staged.key))
            proof.is_partial = bool(held)
        finished = staged.after("validate", time.perf_counter() - begun)
        if held:
            tell_pending(context, [staged.key], staged.extracted, len(held))
        else:
            log_range(context, declaration, migration, finished, receipt)
        if not migration.migration.options.keep_staging:
            migration.state.clear_staging(staged.key)
    return len(receipt)


def _booked_before(context: dg.OpExecutionContext, staged: StagedRange) -> int:
    """Say that what was loaded is booked: an attempt that was killed after it, or another run since, did it."""
    context.log.warning(
        "range %s has other records to carry than when it was loaded: what was loaded is booked, or planned anew. "
        "Nothing is claimed here; what is left is carried by the next run.",
        staged.key,
    )
    return 0


Compared = tuple[list[tuple[Findings, Receipt]], Watch, int]
"""Findings and receipts of a range's batches, what was seen of its records, how many the steps before set aside."""


def _compared_with_written(migration: MigrationContext, staged: StagedRange) -> Compared | None:
    """Compare the target with what the load kept of its batches; None where that is gone, or something differs."""
    watch = Watch()
    written = written_batches(migration, staged, watch)
    if written is None:
        return None
    try:
        parts = list(validate_written(migration, staged.key, written, watch))
    except StagingError:
        return None
    return (parts, watch, staged.rejected) if all(findings.is_clean for findings, _ in parts) else None


def _compared(migration: MigrationContext, staged: StagedRange) -> Compared:
    """Compare the target with the staged records themselves; says of a payload which keys differ."""
    watch, refused = Watch(), rejected_in_load(migration, staged.key)
    unmapped: list[Rejection] = []
    quiet = replace(migration, emit=ignore_events)  # the load has told of it
    pairs = staged_batches(quiet, staged, lambda _, rejections: unmapped.extend(rejections), watch)
    packed = (_with_rejections(pack_batch(migration, batch), refused) for batch, _ in pairs)
    return list(validate_batches(migration, staged.key, packed, watch)), watch, staged.rejected + len(unmapped)


def _with_rejections(
    packed: PackedBatch, refused: Mapping[RecordId, Rejection]
) -> tuple[PackedBatch, tuple[Rejection, ...]]:
    """Return a batch as the load left it: with what it set aside."""
    ids = packed.records.ids if refused else ()
    return packed, tuple(refused[record_id] for record_id in ids if record_id in refused)


def _plan_ranges(declaration: MigrationDeclaration) -> Op:
    @dg.op(
        name=f"{declaration.name}__plan_ranges",
        out=dg.DynamicOut(str),
        ins={"manifest": dg.In(dg.Nothing)},
        required_resource_keys=declaration.resource_keys,
    )
    def plan_ranges(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[str]]:
        """Give each partition key of this run its own chain of steps; keys of another plan are refused."""
        with migration_context(context, declaration) as migration:
            for key in context.partition_keys:
                migration.manifest.entry(key)
            refuse_launch(migration, context.partition_keys)
        for key in context.partition_keys:
            yield dg.DynamicOutput(key, mapping_key=key)

    return plan_ranges


def catch_up(
    context: dg.OpExecutionContext, declaration: MigrationDeclaration, migration: MigrationContext, proven: set[str]
) -> None:
    """Log ranges that are proven but whose materialization a kill prevented; they are not loaded again."""
    logged = context.instance.get_materialized_partitions(declaration.key("loaded_ranges"))
    for key in sorted(proven - logged):
        receipt = read_receipt(migration.state.receipt(key))
        is_compared = receipt.counts.get("compared", 0) == len(receipt)
        with evaluate_range(context, declaration, key) if is_compared else nullcontext(Proof()) as proof:
            proof.take_in(receipt.counts.get("rejected", 0), migration.state.quarantine(key))
            proof.findings = Findings(receipt.counts.get("compared", 0))
            log_range(context, declaration, migration, StagedRange(key, len(receipt)), receipt)
    if not migration.migration.options.keep_staging:
        migration.state.clear_left_staging(proven)  # a kill may have come between the log and the clearing


def tell_pending(context: dg.OpExecutionContext, keys: Sequence[str], records: int, pending: int) -> dict[str, Any]:
    """Say, in the log and in the op's metadata, that a launch took only some of the records that were to be carried."""
    carried, shown = records - pending, ", ".join(keys[:SHOWN])
    context.log.warning(
        "%s of %s records carried; %s pending, which `only` does not take, in %d ranges: %s. These are not proven: "
        "a run without `only` carries just what is pending.",
        *(f"{carried:,}", f"{records:,}", f"{pending:,}", len(keys), shown),
    )
    metadata = {"records carried": carried, "records pending": pending, "ranges pending": len(keys), "proven": False}
    context.add_output_metadata(metadata)
    return metadata


def log_range(
    context: dg.OpExecutionContext,
    declaration: MigrationDeclaration,
    migration: MigrationContext,
    staged: StagedRange,
    receipt: Receipt,
) -> None:
    """Turn a range's partition green."""
    context.log_event(
        dg.AssetMaterialization(
            declaration.key("loaded_ranges"),
            partition=staged.key,
            metadata=range_metadata(staged, receipt, migration.state),
            tags=range_tags(declaration, migration.manifest, receipt),
        )
    )


def _finish(declaration: MigrationDeclaration) -> Op:
    @dg.op(name=f"{declaration.name}__finish_ranges", out=dg.Out(is_required=False))
    def finish_ranges(context: dg.OpExecutionContext, counts: list[int]) -> Iterator[dg.Output[int]]:
        """End the run without an output: each range has logged its own materialization."""
        context.log.info("%d ranges loaded, %d records", len(counts), sum(counts))
        yield from ()

    return finish_ranges
