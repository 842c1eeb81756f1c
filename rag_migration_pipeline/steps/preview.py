"""Preview: the plan of a migration, made without writing anything, anywhere.

Belongs here: opening both sides so that nothing is created. Does not belong here: planning itself
(``steps/planning.py``), how a plan is shown (``steps/plan_view.py``).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rag_migration_pipeline.envelope import layout_of
from rag_migration_pipeline.errors import CollectionNotFoundError
from rag_migration_pipeline.events import EventSink, ignore_events
from rag_migration_pipeline.plan import target_layout_of
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import default_state_dir, state_folder
from rag_migration_pipeline.steps.context import PLAIN, MigrationContext, Openers
from rag_migration_pipeline.steps.listing import IdListing, list_selected
from rag_migration_pipeline.steps.manifest import open_manifest
from rag_migration_pipeline.steps.plan_view import MigrationPlan, plan_of
from rag_migration_pipeline.steps.planning import Draft, draft_manifest
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.registry import open_target
from rag_migration_pipeline.stores.wrappers import ReadOnlyStore
from rag_migration_pipeline.vector_choice import renaming_routes


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
    with previewed(migration, state_dir) as preview:
        return preview.plan


@dataclass(frozen=True)
class Preview:
    """A migration as it would be planned now, with both stores open for reading.

    Attributes:
        context: What the steps work in; nothing can be written through it.
        listing: The ids that the filter may take.
        draft: The manifest that would be stored.
    """

    context: MigrationContext
    listing: IdListing
    draft: Draft

    @property
    def plan(self) -> MigrationPlan:
        """The plan, to look at."""
        return plan_of(self.context.migration, self.draft.manifest, self.draft.refusals)


@contextmanager
def previewed(
    migration: Migration,
    state_dir: Path | None = None,
    emit: EventSink = ignore_events,
    openers: Openers = PLAIN,
) -> Iterator[Preview]:
    """Plan a migration without writing anything, and keep both stores open until the block ends.

    Args:
        migration: The migration.
        state_dir: Folder of all migrations' state; by default as for a run.
        emit: Takes the steps' events.
        openers: How the stores are opened.

    Raises:
        MigrationError: See `plan_migration`.
    """
    state = state_folder(state_dir or default_state_dir(), migration.identity)
    previous = open_manifest(state, migration) if state.manifest.exists() else None
    with ExitStack() as stack:
        source = stack.enter_context(openers.source(migration.source))
        source.spec(migration.source_collection)
        target = stack.enter_context(_open_untouched(migration.target, openers))
        listing = list_selected(migration, source)
        draft = draft_manifest(migration, source, target, state, listing, previous)
        source_spec = source.spec(migration.source_collection)
        context = MigrationContext(
            migration=migration,
            manifest=draft.manifest,
            state=state,
            source=source,
            target=target,
            source_layout=layout_of(source_spec, source.capabilities, migration.source.document_key),
            target_layout=target_layout_of(migration, draft.manifest.target_spec, target.capabilities),
            emit=emit,
            vector_routes=renaming_routes(source_spec.vectors, migration.options.vectors),
            known=frozenset(draft.known),
        )
        yield Preview(context, listing, draft)


@contextmanager
def _open_untouched(settings: StoreSettings, openers: Openers) -> Iterator[VectorStore]:
    """Open a store so that nothing is created; in place of a folder that does not exist, an empty one elsewhere."""
    try:
        store = openers.source(settings)
    except CollectionNotFoundError:
        with TemporaryDirectory(prefix="rag_migrate_plan_") as folder:
            elsewhere: Any = {"path": str(Path(folder) / "target.db")}
            with open_target(replace(settings, **elsewhere)) as empty:
                yield ReadOnlyStore(empty)
        return
    with store:
        yield store
