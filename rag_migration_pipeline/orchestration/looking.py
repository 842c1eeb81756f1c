"""Jobs that write to no store: ``<m>__plan``, ``<m>__detect`` and ``<m>__verify``.

Belongs here: their ops, configuration and metadata. Does not belong here: what they do (``steps/preview.py``,
``steps/watching.py``, ``steps/verification.py``).
"""

from typing import Any

import dagster as dg
from pydantic import Field

from rag_migration_pipeline.errors import ManifestError, ValidationError
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.detected import note_detected
from rag_migration_pipeline.orchestration.facts import lag_metadata
from rag_migration_pipeline.orchestration.rounds import changes_metadata
from rag_migration_pipeline.orchestration.session import dagster_failures, migration_context
from rag_migration_pipeline.orchestration.words import MIGRATION_TAG
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.plan_view import verdict_table
from rag_migration_pipeline.steps.planning import is_finished
from rag_migration_pipeline.steps.preview import plan_migration
from rag_migration_pipeline.steps.verification import verify
from rag_migration_pipeline.steps.watching import find_changes, noted_watermark

SHOWN = 10


class VerifyConfig(dg.Config):
    """How much is compared."""

    sample: int | None = Field(default=None, description="About how many records to compare, spread evenly; all.")


def build_look_jobs(declaration: MigrationDeclaration) -> list[dg.JobDefinition]:
    """Return the jobs that look at both sides and change neither."""
    return [_job(declaration, *build(declaration)) for build in (_plan, _detect, _verify)]


def _job(declaration: MigrationDeclaration, name: str, op: dg.OpDefinition, description: str) -> dg.JobDefinition:
    @dg.job(
        name=f"{declaration.name}__{name}",
        executor_def=dg.in_process_executor,
        description=description,
        tags={MIGRATION_TAG: declaration.name},
    )
    def look_job() -> None:
        op.alias(name)()

    return look_job


def _plan(declaration: MigrationDeclaration) -> tuple[str, dg.OpDefinition, str]:
    @dg.op(
        name=f"{declaration.name}__plan_only",
        required_resource_keys=declaration.resource_keys,
        pool=declaration.source_pool,
    )
    def plan(context: dg.OpExecutionContext) -> int:
        """Plan the migration as it would be planned now; a plan that cannot be applied fails."""
        with dagster_failures(context, declaration):
            migration = declaration.migration(context.resources)
            made = plan_migration(migration, declaration.state_dir(context.resources))
            context.log_event(
                dg.AssetObservation(
                    declaration.key("source_manifest"),
                    metadata={
                        "plan": dg.MetadataValue.md(verdict_table(made.verdicts)),
                        **{name: dg.MetadataValue.text(text) for name, text in made.summary()},
                    },
                )
            )
            made.refuse()
        return made.count

    return "plan", plan, "Say what the migration would do, and whether it can; nothing is written."


def _detect(declaration: MigrationDeclaration) -> tuple[str, dg.OpDefinition, str]:
    @dg.op(
        name=f"{declaration.name}__detect_changes",
        required_resource_keys=declaration.resource_keys,
        pool=declaration.source_pool,
    )
    def detect(context: dg.OpExecutionContext) -> int:
        """Compare the source with what was seen of it, and note what a sync would carry."""
        with migration_context(context, declaration) as migration:
            if not is_finished(migration.state, migration.manifest):
                raise ManifestError(
                    f"migration {declaration.name!r} is not proven yet: what changed since cannot be told.",
                    todo=f"Run {declaration.name}__sync, which carries it first.",
                )
            changes, newest = find_changes(migration)
            note_detected(migration.state, migration.manifest, changes)
            found = {**changes_metadata(changes), **_lag(migration, newest)}
            context.log_event(dg.AssetObservation(declaration.key("source_manifest"), metadata=found))
        context.log.info("%d records changed", changes.count)
        return changes.count

    return "detect", detect, "Find out what changed in the source since the last proof; nothing is loaded."


def _lag(migration: MigrationContext, newest: Any) -> dict[str, Any]:
    """Return how far the target is behind the source, where the migration goes by a watermark."""
    name = migration.migration.options.noted_field
    held = None if name is None else noted_watermark(migration.state, name)
    return {} if held is None or newest is None else lag_metadata(held, newest)


def _verify(declaration: MigrationDeclaration) -> tuple[str, dg.OpDefinition, str]:
    @dg.op(
        name=f"{declaration.name}__verify_copies",
        required_resource_keys=declaration.resource_keys,
        pool=declaration.source_pool or declaration.pool,
    )
    def compare(context: dg.OpExecutionContext, config: VerifyConfig) -> int:
        """Compare source and target record by record, whoever copied them; what differs fails, by id."""
        with dagster_failures(context, declaration):
            found = verify(declaration.migration(context.resources), sample=config.sample)
            metadata: dict[str, Any] = {
                "records in the source": found.source_count,
                "records in the target": found.target_count,
                "records compared": found.compared,
                "missing": len(found.missing),
                "extra": len(found.extra),
                "changed": len(found.changed),
                "swapped": len(found.swapped),
                "seconds": round(found.duration_s, 3),
            }
            context.log_event(dg.AssetObservation(declaration.key("target_collection"), metadata=metadata))
            if not found.is_identical:
                rows = "; ".join(f"{record_id}: {what} {detail}".strip() for record_id, what, detail in found.rows())
                raise ValidationError(
                    f"{found.target} does not hold what {found.source} holds: {found.summary()}: {rows[:1_000]}.",
                    todo=f"Run {declaration.name}__sync or {declaration.name}__migrate.",
                    **{name: str(count) for name, count in metadata.items()},
                )
        return found.compared

    return "verify", compare, "Compare source and target record by record; nothing is written."
