"""Jobs: a whole migration in one run.

Belongs here: ``<m>__migrate``, which cuts, loads what is missing, and proves. Does not belong here: the ops themselves.
"""

import dagster as dg

from rag_migration_pipeline.orchestration.assets import migrate_ranges
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.ops import MigrationOps


def build_migrate_job(declaration: MigrationDeclaration, ops: MigrationOps) -> dg.JobDefinition:
    """Return the op job that does manifest, missing ranges and proof; it succeeds only if the proof ran."""

    @dg.job(
        name=f"{declaration.name}__migrate",
        executor_def=dg.in_process_executor,
        description="Cut the source, load the ranges that are not proven yet, prove the whole collection.",
    )
    def migrate() -> None:
        ops.prove.alias("prove_collection")(migrate_ranges(ops, ops.plan_missing.alias("plan_missing")()))

    return migrate
