"""Rounds: what one run of a migration plans to carry, and the proof at its end.

Belongs here: the first and the last op of the jobs that carry ranges. Does not belong here: the ops in between (`ops`),
the jobs (`jobs`), finding out what changed (``steps/watching.py``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg

from rag_migration_pipeline.orchestration.checks import proven_collection
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.facts import (
    manifest_metadata,
    register_partitions,
    report_metadata,
    retired_metadata,
)
from rag_migration_pipeline.orchestration.ops import Op, catch_up, tell_pending
from rag_migration_pipeline.orchestration.session import Planning, dagster_failures, migration_context
from rag_migration_pipeline.orchestration.words import Kind
from rag_migration_pipeline.steps.changes import Changes, newest_value
from rag_migration_pipeline.steps.context import MigrationContext, context_of
from rag_migration_pipeline.steps.going_on import go_on
from rag_migration_pipeline.steps.launching import records_to_carry, refuse_launch, remainder
from rag_migration_pipeline.steps.manifest import Manifest, manifest_fingerprint, proven_keys
from rag_migration_pipeline.steps.planning import is_finished
from rag_migration_pipeline.steps.preview import previewed
from rag_migration_pipeline.steps.rehearsal import rehearse
from rag_migration_pipeline.steps.syncing import plan_changes
from rag_migration_pipeline.steps.watching import find_changes, note_watermark

PLANNING = {Kind.MIGRATE: Planning.IF_CHANGED, Kind.SYNC: Planning.ONCE, Kind.RETRY: Planning.NEVER}


@dataclass(frozen=True)
class Round:
    """What a round is about, for its proof.

    Attributes:
        keys: The ranges that it carries.
        is_partial: Whether an earlier proof covers the others, so that they are not read back.
        watermark: What to note as the source's newest value when the round is done, or None.
        is_dry: Nothing is written, and nothing is to be proven.
        records: Records that were to be carried, before a launch took only some of them.
    """

    keys: tuple[str, ...] = ()
    is_partial: bool = False
    watermark: Any = None
    is_dry: bool = False
    records: int = 0


def build_plan_op(declaration: MigrationDeclaration, kind: Kind) -> Op:
    """Return the op that plans a round: a dynamic output per range to carry, and the round."""

    @dg.op(
        name=f"{declaration.name}__plan_{kind.value}",
        out={"ranges": dg.DynamicOut(str), "round": dg.Out(Round)},
        required_resource_keys=declaration.resource_keys,
        pool=declaration.source_pool,
    )
    def plan_round(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[str] | dg.Output[Round]]:
        """Find out what this run carries, and give each range its own chain of steps."""
        planned = _planned_dry(context, declaration) or _planned(context, declaration, kind)
        for key in planned.keys:
            yield dg.DynamicOutput(key, mapping_key=key, output_name="ranges")
        yield dg.Output(planned, output_name="round")

    return plan_round


def build_proof_op(declaration: MigrationDeclaration) -> Op:
    """Return the op that proves the whole collection after a round, and logs it."""

    @dg.op(
        name=f"{declaration.name}__prove_collection",
        required_resource_keys=declaration.resource_keys,
        pool=declaration.pool,
    )
    def prove(context: dg.OpExecutionContext, counts: list[int], planned: Round) -> int:
        """Prove the whole collection against the receipts of all ranges, and log the target collection.

        After a launch that took only some records there is nothing to prove yet: it says what is pending.
        """
        if planned.is_dry:
            context.log.info("a dry run: nothing was written, and nothing is proven")
            return 0
        with migration_context(context, declaration) as migration:
            if (left := remainder(migration)) is not None:
                said = tell_pending(context, left.keys, planned.records, left.records)
                context.log_event(dg.AssetObservation(declaration.key("target_collection"), metadata=said))
                return 0
            only = planned.keys if planned.is_partial else None
            report = proven_collection(context, declaration, migration, only)
            note_watermark(migration, planned.watermark)
            context.log_event(
                dg.AssetMaterialization(
                    declaration.key("target_collection"), metadata=report_metadata(report, migration)
                )
            )
        context.log.info("%d records loaded in this run, %d proven", sum(counts), report.written)
        return report.written

    return prove


def _planned_dry(context: dg.OpExecutionContext, declaration: MigrationDeclaration) -> Round | None:
    """Rehearse where the launch asks for it, and say what would happen."""
    with dagster_failures(context, declaration):
        migration = declaration.migration(context.resources)
        if not migration.options.dry_run:
            return None
        with previewed(migration, declaration.state_dir(context.resources)) as preview:
            preview.plan.refuse()
            found = rehearse(preview)
        context.add_output_metadata(
            {
                "records that would be written": found.passed,
                "records filtered out": found.filtered,
                "records that would stay as the target has them": found.skipped,
                "records that would be set aside": found.rejected,
                **({"records that would be left pending": found.held} if found.held else {}),
                "reasons": dg.MetadataValue.text("; ".join(item.reason for item in found.rejections[:10]) or "none"),
            },
            output_name="round",
        )
        return Round(is_dry=True)


def _planned(context: dg.OpExecutionContext, declaration: MigrationDeclaration, kind: Kind) -> Round:
    with migration_context(context, declaration, plan=PLANNING[kind]) as found:
        migration = go_on(found)
        changes: Changes | None = None
        later, watermark = migration, None
        is_partial = kind is Kind.SYNC and is_finished(migration.state, migration.manifest)
        if is_partial:
            changes, watermark = find_changes(migration)
            if changes.count:
                stores = migration.source, migration.target
                manifest = plan_changes(migration, changes)
                later = context_of(migration.migration, manifest, migration.state, *stores, migration.emit)
        elif (name := migration.migration.options.noted_field) and not proven_keys(migration.state, migration.manifest):
            watermark = newest_value(migration, name)  # before anything is read
        _show(context, declaration, migration.manifest, later, changes)
        done = set(proven_keys(later.state, later.manifest))
        catch_up(context, declaration, later, done)
        keys = tuple(entry.key for entry in later.manifest.ranges if entry.key not in done)
        refuse_launch(later, keys)
        return Round(keys, is_partial, watermark, records=records_to_carry(later, keys))


def _show(
    context: dg.OpExecutionContext,
    declaration: MigrationDeclaration,
    before: Manifest,
    later: MigrationContext,
    changes: Changes | None,
) -> None:
    """Make the instance's partitions those of the manifest, and log what was planned."""
    register_partitions(context.instance, declaration, later.manifest)
    found = {} if changes is None else changes_metadata(changes)
    retired = retired_metadata(before, later.manifest, later.migration.options.deletes)
    metadata = {**manifest_metadata(later.manifest), **found, **retired}
    context.add_output_metadata(found, output_name="round")
    context.log_event(
        dg.AssetMaterialization(
            declaration.key("source_manifest"),
            metadata=metadata,
            tags={"dagster/data_version": manifest_fingerprint(later.manifest)},
        )
    )


def changes_metadata(changes: Changes) -> dict[str, Any]:
    """Return what the UI shows of what changed in a source."""
    concerned = sorted({*changes.changed, *changes.gone})
    return {
        "records added": len(changes.added),
        "records changed": sum(map(len, changes.changed.values())),
        "records gone": sum(map(len, changes.gone.values())),
        "records compared": changes.compared,
        "ranges with changes": dg.MetadataValue.text(", ".join(concerned[:100]) or "none"),
    }
