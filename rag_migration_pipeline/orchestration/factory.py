"""One factory for a migration's Dagster definitions, used by components and by Python alike.

Belongs here: putting assets, checks and jobs of declared migrations together. Does not belong here: which migrations
there are (``definitions.py``, ``component.py``), what a description says (``config.py``).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.orchestration.appearance import appearance_of
from rag_migration_pipeline.orchestration.assets import build_assets
from rag_migration_pipeline.orchestration.automation import (
    build_automation_sensors,
    build_failure_sensors,
    build_schedules,
)
from rag_migration_pipeline.orchestration.checks import build_checks
from rag_migration_pipeline.orchestration.config import declare
from rag_migration_pipeline.orchestration.corrections import build_replay_job, build_rollback_job
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.jobs import build_round_jobs
from rag_migration_pipeline.orchestration.looking import build_look_jobs
from rag_migration_pipeline.orchestration.ops import build_ops
from rag_migration_pipeline.orchestration.resources import StateResource
from rag_migration_pipeline.orchestration.run_options import RunOptions
from rag_migration_pipeline.orchestration.watching import build_watches
from rag_migration_pipeline.spec import MigrationSpec

AnyDeclared = MigrationDeclaration | MigrationSpec | Mapping[str, Any]
"""A migration: between resources by their keys, or between two store URLs as in a migration file."""

DEFAULTS: Mapping[str, object] = {"state": StateResource(), "io_manager": dg.FilesystemIOManager()}
"""Resources that all migrations of a process share; Dagster merges Definitions only where they are the same objects."""


def migration_definitions(
    migrations: AnyDeclared | Iterable[AnyDeclared], resources: Mapping[str, object] | None = None
) -> dg.Definitions:
    """Return the Definitions of a migration, or of several.

    Args:
        migrations: Specs or mappings of their options (docs/migrations.md), which bring their stores as resources
            ``<name>_source`` and ``<name>_target``; or declarations over resources. Their names must differ.
        resources: Store resources by the keys that declarations name, and what replaces the resources of the same key:
            ``state``, ``io_manager``, those of specs.

    Raises:
        SpecError: An option is wrong, a URL carries a secret, or two migrations have one name.
    """
    found: dict[str, MigrationDeclaration] = {}
    stores: dict[str, object] = {}
    for item in [migrations] if isinstance(migrations, MigrationDeclaration | MigrationSpec | Mapping) else migrations:
        declaration, pair = (item, {}) if isinstance(item, MigrationDeclaration) else declare(item)
        if declaration.name in found:
            raise SpecError(f"there is another migration {declaration.name!r}.", todo="Give each its own name.")
        found[declaration.name] = declaration
        stores |= pair
    return _definitions(found.values(), {**DEFAULTS, **stores, **(resources or {})})


def _definitions(declarations: Iterable[MigrationDeclaration], resources: Mapping[str, object]) -> dg.Definitions:
    assets: list[dg.AssetsDefinition] = []
    checks: list[dg.AssetChecksDefinition] = []
    jobs: list[dg.JobDefinition] = []
    schedules: list[dg.ScheduleDefinition] = []
    sensors: list[dg.SensorDefinition] = []
    launches: dict[str, object] = {}
    for declaration in declarations:
        launches[declaration.run_key] = RunOptions()
        ops = build_ops(declaration)
        assets += build_assets(appearance_of(declaration, resources), ops)
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
        sensors += [*build_failure_sensors(declaration), *build_automation_sensors(declaration)]
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=jobs,
        schedules=schedules,
        sensors=sensors,
        resources={**launches, **resources},
        executor=dg.in_process_executor,
    )
