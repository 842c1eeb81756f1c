"""Jobs that carry ranges: plan, then extract, filter, transform, load and validate each range, then the proof.

Belongs here: ``<m>__migrate``, ``<m>__sync`` and ``<m>__retry_failed``. Does not belong here: the ops (`ops`,
`rounds`), jobs that only look (`looking`) or put right (`corrections`).
"""

import dagster as dg
from dagster._core.storage.tags import RETRY_STRATEGY_TAG

from rag_migration_pipeline.orchestration.assets import migrate_ranges
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.ops import MigrationOps, Op
from rag_migration_pipeline.orchestration.rounds import build_plan_op, build_proof_op
from rag_migration_pipeline.orchestration.words import MIGRATION_TAG, Kind

_DESCRIPTIONS = {
    Kind.MIGRATE: "Cut the source, load the ranges that are not proven yet, prove the whole collection.",
    Kind.SYNC: "Carry what changed in the source since the last proof, and only that; prove the ranges concerned. "
    "The first time everything is carried.",
    Kind.RETRY: "Load the ranges that failed or are missing, as they were planned; prove the whole collection.",
}
_ALIASES = {Kind.MIGRATE: "plan_missing", Kind.SYNC: "plan_changes", Kind.RETRY: "plan_failed"}

RETRY_TAGS = {RETRY_STRATEGY_TAG: "ALL_STEPS"}
"""How Dagster's run retries launch a run again whose process died.

By default they go on from the failed ops, and to ranges that had not begun nothing had happened: they were left out (30
ranges, SIGKILL after 4: the second run went straight to the proof, which refused; dagster 1.13.27). All ops are quick
where ranges are proven already.
"""


def build_round_jobs(declaration: MigrationDeclaration, ops: MigrationOps) -> list[dg.JobDefinition]:
    """Return the op jobs of a migration; each succeeds only if the proof ran."""
    proof = build_proof_op(declaration)
    return [_round_job(declaration, ops, proof, kind) for kind in Kind]


def _round_job(declaration: MigrationDeclaration, ops: MigrationOps, proof: Op, kind: Kind) -> dg.JobDefinition:
    plan = build_plan_op(declaration, kind)

    @dg.job(
        name=f"{declaration.name}__{kind.value}",
        executor_def=dg.in_process_executor,
        description=_DESCRIPTIONS[kind],
        tags={MIGRATION_TAG: declaration.name, **RETRY_TAGS},
    )
    def round_job() -> None:
        ranges, planned = plan.alias(_ALIASES[kind])()
        proof.alias("prove_collection")(migrate_ranges(ops, ranges), planned)

    return round_job
