"""What Dagster loads: the migrations of the file that ``RAG_MIGRATE_CONFIG`` names; without one, the demo's.

Belongs here: which migrations there are, and ``build_definitions`` that makes fresh Definitions. Does not belong
here: what a migration's definitions are (``orchestration/factory.py``).
"""

import os
from pathlib import Path

import dagster as dg

from rag_migration_pipeline.demo.migrations import demo_migrations, demo_resources
from rag_migration_pipeline.orchestration.config import read_migrations
from rag_migration_pipeline.orchestration.factory import migration_definitions
from rag_migration_pipeline.orchestration.resources import StateResource

CONFIG_VARIABLE = "RAG_MIGRATE_CONFIG"


def build_definitions(
    *, config: Path | None = None, with_demo: bool | None = None, **resources: object
) -> dg.Definitions:
    """Return fresh Definitions.

    Args:
        config: YAML file of migrations; by default the one that ``RAG_MIGRATE_CONFIG`` names, if any.
        with_demo: Whether the demo's three migrations are among them; by default where there are no others.
        **resources: Resources that replace those of the same key.

    Raises:
        SpecError: The file or a migration in it is wrong.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    file = config or (Path(named) if named else None)
    declarations, stores = read_migrations(file) if file is not None else ([], {})
    defaults: dict[str, object] = {"state": StateResource(), **stores}
    if with_demo or (with_demo is None and file is None):
        declarations = [*demo_migrations(), *declarations]
        defaults |= demo_resources()
    return migration_definitions(declarations, {**defaults, **resources})


defs = build_definitions()
