"""Jobs that put a migration right: ``<m>__replay`` loads a repaired quarantine file, ``<m>__rollback`` takes all away.

Belongs here: their ops, configuration and metadata. Does not belong here: what they do (``steps/replay.py``,
``steps/rollback.py``).
"""

from pathlib import Path

import dagster as dg
from pydantic import Field

from rag_migration_pipeline.orchestration.checks import evaluate_range
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.ops import log_range
from rag_migration_pipeline.orchestration.session import dagster_failures, migration_context
from rag_migration_pipeline.orchestration.staging import StagedRange
from rag_migration_pipeline.orchestration.words import MIGRATION_TAG
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.records import id_text
from rag_migration_pipeline.steps.manifest import open_manifest
from rag_migration_pipeline.steps.replay import replay
from rag_migration_pipeline.steps.rollback import RollbackReport, rollback
from rag_migration_pipeline.steps.set_aside import named


class ReplayConfig(dg.Config):
    """What is replayed."""

    path: str = Field(description="The repaired quarantine file, in place or a copy of it.")


class RollbackConfig(dg.Config):
    """How far a rollback may go."""

    force: bool = Field(
        default=False,
        description="Drop the collection although it holds records of others; leave overwritten records as they are.",
    )


def build_replay_job(declaration: MigrationDeclaration) -> dg.JobDefinition:
    """Return the job that loads a repaired quarantine file; run ``<m>__migrate`` afterwards for the proof."""

    @dg.op(
        name=f"{declaration.name}__replay_quarantine",
        required_resource_keys=declaration.resource_keys,
        pool=declaration.pool,
    )
    def replay_quarantine(context: dg.OpExecutionContext, config: ReplayConfig) -> int:
        """Load the repaired records, and show the ranges concerned as they are now."""
        with migration_context(context, declaration, alone=True) as migration:
            report = replay(migration, Path(config.path))
            for key in (key for key in report.range_keys if key not in report.unproven):
                receipt = read_receipt(migration.state.receipt(key))
                with evaluate_range(context, declaration, key) as proof:
                    proof.take_in(receipt.counts.get("rejected", 0), migration.state.quarantine(key))
                    log_range(context, declaration, migration, StagedRange(key, len(receipt)), receipt)
        context.add_output_metadata(
            {
                "loaded": report.loaded,
                "still set aside": len(report.rejections),
                "reasons": dg.MetadataValue.text(named(report.rejections)),
                "ranges to load": dg.MetadataValue.text(", ".join(report.unproven)),
            }
        )
        context.log.info(report.summary())
        return report.loaded

    @dg.job(
        name=f"{declaration.name}__replay",
        executor_def=dg.in_process_executor,
        tags={MIGRATION_TAG: declaration.name},
        description="Load a repaired quarantine file; then run the migrate job, which proves the whole again.",
    )
    def replay_job() -> None:
        replay_quarantine.alias("replay_quarantine")()

    return replay_job


def build_rollback_job(declaration: MigrationDeclaration) -> dg.JobDefinition:
    """Return the job that makes the target what it was before the migration."""

    @dg.op(
        name=f"{declaration.name}__roll_back",
        required_resource_keys=declaration.resource_keys,
        pool=declaration.pool,
    )
    def roll_back(context: dg.OpExecutionContext, config: RollbackConfig) -> int:
        """Take away what the migration made, its state, and its partitions."""
        with dagster_failures(context, declaration):
            report = _roll_back(context, declaration, force=config.force)
            name = f"{declaration.name}_ranges"
            for key in context.instance.get_dynamic_partitions(name):
                context.instance.delete_dynamic_partition(name, key)
        context.add_output_metadata(
            {
                "dropped": report.dropped,
                "deleted": report.deleted,
                "restored": report.restored,
                "could not be brought back": dg.MetadataValue.text(", ".join(map(id_text, report.lost))),
            }
        )
        return report.deleted

    @dg.job(
        name=f"{declaration.name}__rollback",
        executor_def=dg.in_process_executor,
        tags={MIGRATION_TAG: declaration.name},
        description="Remove what the migration wrote, bring back what it overwrote and kept, and forget its state.",
    )
    def rollback_job() -> None:
        roll_back.alias("roll_back")()

    return rollback_job


def _roll_back(context: dg.OpExecutionContext, declaration: MigrationDeclaration, *, force: bool) -> RollbackReport:
    migration = declaration.migration(context.resources)
    state = declaration.state_folder(context.resources)
    open_manifest(state, migration)  # before any store is touched
    target = getattr(context.resources, declaration.target).open_target()
    return rollback(migration, state, target, force=force)
