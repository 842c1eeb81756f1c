"""Jobs: a whole migration in one run.

Belongs here: ``<m>__migrate``, which cuts, loads what is missing, and proves. Does not belong here: the ops themselves.
"""

import dagster as dg
from dagster._core.storage.tags import RETRY_STRATEGY_TAG

from rag_migration_pipeline.orchestration.assets import migrate_ranges
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.ops import MigrationOps

RETRY_TAGS = {RETRY_STRATEGY_TAG: "ALL_STEPS"}
"""How Dagster's run retries launch a run again whose process died.

By default they go on from the failed ops, and to ranges that had not begun nothing had happened: they were left out (30
ranges, SIGKILL after 4: the second run went straight to the proof, which refused; dagster 1.13.27). All ops are quick
where ranges are proven already.
"""


def build_migrate_job(declaration: MigrationDeclaration, ops: MigrationOps) -> dg.JobDefinition:
    """Return the op job that does manifest, missing ranges and proof; it succeeds only if the proof ran."""

    @dg.job(
        name=f"{declaration.name}__migrate",
        executor_def=dg.in_process_executor,
        tags=RETRY_TAGS,
        description="Cut the source, load the ranges that are not proven yet, prove the whole collection.",
    )
    def migrate() -> None:
        ops.prove.alias("prove_collection")(migrate_ranges(ops, ops.plan_missing.alias("plan_missing")()))

    return migrate
