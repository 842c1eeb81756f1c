"""Preview: the plan of a migration, made without writing anything, anywhere.

Belongs here: opening both sides so that nothing is created. Does not belong here: planning itself
(``steps/planning.py``), how a plan is shown (``steps/plan_view.py``).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rag_migration_pipeline.errors import CollectionNotFoundError
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import default_state_dir, state_folder
from rag_migration_pipeline.steps.manifest import open_manifest
from rag_migration_pipeline.steps.plan_view import MigrationPlan, plan_of
from rag_migration_pipeline.steps.planning import draft_manifest, list_selected
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.registry import open_source, open_target
from rag_migration_pipeline.stores.wrappers import ReadOnlyStore


def plan_migration(migration: Migration, state_dir: Path | None = None) -> MigrationPlan:
    """Return what a migration would do if it were planned now; what forbids it is in the plan's refusals.

    Nothing is written: no state, no target folder, no collection. A plan that was stored before is not taken up, but
    records that its ranges wrote count as the migration's own.

    Args:
        migration: The migration.
        state_dir: Folder of all migrations' state; by default as for a run.

    Raises:
        CollectionNotFoundError: There is no such source.
        SourceChangedError: The source's ids do not hold still.
        SpecError: The filter contradicts the source's schema, or the mapping the records.
    """
    state = state_folder(state_dir or default_state_dir(), migration.identity)
    previous = open_manifest(state, migration) if state.manifest.exists() else None
    with ExitStack() as stack:
        source = stack.enter_context(open_source(migration.source))
        source.spec(migration.source_collection)
        target = stack.enter_context(_open_untouched(migration.target))
        listing = list_selected(migration, source)
        draft = draft_manifest(migration, source, target, state, listing, previous)
        return plan_of(migration, draft.manifest, draft.refusals)


@contextmanager
def _open_untouched(settings: StoreSettings) -> Iterator[VectorStore]:
    """Open a store so that nothing is created; in place of a folder that does not exist, an empty one elsewhere."""
    try:
        store = ReadOnlyStore(settings.open(create=False))
    except CollectionNotFoundError:
        with TemporaryDirectory(prefix="rag_migrate_plan_") as folder:
            elsewhere: Any = {"path": str(Path(folder) / "target.db")}
            with open_target(replace(settings, **elsewhere)) as empty:
                yield ReadOnlyStore(empty)
        return
    with store:
        yield store
