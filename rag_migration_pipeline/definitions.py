"""What Dagster loads: the declared migrations of a file and of a folder; without any, the demo's.

``RAG_MIGRATE_CONFIG`` names the file; the folder is ``defs``, or the one that ``RAG_MIGRATION_DEFS`` names.

Belongs here: which migrations there are, and ``build_definitions`` that makes fresh Definitions. Does not belong
here: what a migration's definitions are (``orchestration/factory.py``).
"""

import os
from pathlib import Path

import dagster as dg

from rag_migration_pipeline.config_files import defs_folder
from rag_migration_pipeline.demo.migrations import demo_migrations, demo_resources
from rag_migration_pipeline.orchestration.config import read_migrations
from rag_migration_pipeline.orchestration.defs_folder import load_defs_folder, refuse_shared_names
from rag_migration_pipeline.orchestration.factory import migration_definitions

CONFIG_VARIABLE = "RAG_MIGRATE_CONFIG"


def build_definitions(
    *, config: Path | None = None, folder: Path | None = None, with_demo: bool | None = None, **resources: object
) -> dg.Definitions:
    """Return fresh Definitions.

    Args:
        config: YAML file of migrations; by default the one that ``RAG_MIGRATE_CONFIG`` names, if any.
        folder: Folder of components; by default the one that ``RAG_MIGRATION_DEFS`` names, or ``defs`` of the package.
        with_demo: Whether the demo's three migrations are among them; by default where there are no others.
        **resources: Resources that replace those of the same key.

    Raises:
        SpecError: The file, the folder or a migration in one of them is wrong, or two migrations have one name.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    file = config or (Path(named) if named else None)
    declarations, stores = read_migrations(file) if file is not None else ([], {})
    found = load_defs_folder(folder if folder is not None else defs_folder())
    in_folder = [(item.declaration.name, item.where) for item in found.migrations]
    refuse_shared_names([(item.name, str(file)) for item in declarations] + in_folder)
    others: dict[str, object] = {**stores}
    if with_demo or (with_demo is None and file is None and not found.migrations):
        declarations = [*demo_migrations(), *declarations]
        others |= demo_resources()
    merged = dg.Definitions.merge(migration_definitions(declarations, others), found.definitions)
    return _with_resources(merged, resources)


def _with_resources(definitions: dg.Definitions, resources: dict[str, object]) -> dg.Definitions:
    """Return Definitions with resources in place of those of the same key, which merging would refuse."""
    if not resources:
        return definitions
    return dg.Definitions(
        assets=definitions.assets,
        schedules=definitions.schedules,
        sensors=definitions.sensors,
        jobs=definitions.jobs,
        resources={**(definitions.resources or {}), **resources},
        executor=definitions.executor,
        loggers=definitions.loggers,
        asset_checks=definitions.asset_checks,
        metadata=definitions.metadata,
        component_tree=definitions.component_tree,
    )


defs = build_definitions()
