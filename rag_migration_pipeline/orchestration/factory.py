"""One factory for a migration's Dagster definitions, used by components and by Python alike.

Belongs here: putting assets, checks and jobs of declared migrations together. Does not belong here: which migrations
there are (``definitions.py``).
"""

from collections.abc import Mapping, Sequence

import dagster as dg

from rag_migration_pipeline.orchestration.assets import build_assets
from rag_migration_pipeline.orchestration.automation import build_failure_sensors, build_schedules
from rag_migration_pipeline.orchestration.checks import build_checks
from rag_migration_pipeline.orchestration.corrections import build_replay_job, build_rollback_job
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.jobs import build_round_jobs
from rag_migration_pipeline.orchestration.looking import build_look_jobs
from rag_migration_pipeline.orchestration.ops import build_ops
from rag_migration_pipeline.orchestration.run_options import RunOptions
from rag_migration_pipeline.orchestration.watching import build_watches


def migration_definitions(
    declarations: Sequence[MigrationDeclaration], resources: Mapping[str, object]
) -> dg.Definitions:
    """Return the Definitions of these migrations over these resources.

    Args:
        declarations: The migrations; their names must differ.
        resources: Store resources by the keys that the declarations name, and ``state``.
    """
    assets: list[dg.AssetsDefinition] = []
    checks: list[dg.AssetChecksDefinition] = []
    jobs: list[dg.JobDefinition] = []
    schedules: list[dg.ScheduleDefinition] = []
    sensors: list[dg.SensorDefinition] = []
    launches: dict[str, object] = {}
    for declaration in declarations:
        launches[declaration.run_key] = RunOptions()
        ops = build_ops(declaration)
        assets += build_assets(declaration, ops)
        checks += build_checks(declaration)
        own = [
            *build_round_jobs(declaration, ops),
            *build_look_jobs(declaration),
            build_replay_job(declaration),
            build_rollback_job(declaration),
        ]
        jobs += own
        schedules += build_schedules(declaration, own)
        sensors += build_watches(declaration)
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=jobs,
        schedules=schedules,
        sensors=[*sensors, *build_failure_sensors(declarations)],
        resources={"io_manager": dg.FilesystemIOManager(), **launches, **resources},
        executor=dg.in_process_executor,
    )
