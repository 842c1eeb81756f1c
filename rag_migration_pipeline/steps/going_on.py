"""Going on: what whoever begins a run does with a plan that is there before anything of it is carried.

Belongs here: the order in which that is done. Does not belong here: what is left out (``steps/leaving_out.py``),
what is expected no longer (``steps/vanished.py``), what changed on both sides (``steps/both_changed.py``), a new
plan (``steps/planning.py``, ``steps/syncing.py``).
"""

from rag_migration_pipeline.steps.both_changed import refuse_changed_meanwhile
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.leaving_out import without_gone
from rag_migration_pipeline.steps.vanished import without_vanished


def go_on(context: MigrationContext) -> MigrationContext:
    """Return a migration as it is to be carried now: without what is gone on either side, where nothing forbids it.

    Only for whoever begins a run: steps that are under way have the manifest of before.

    Raises:
        SourceChangedError: More records are gone than ``max_deletes`` allows to be taken away.
        ConflictError: ``both_changed`` is fail, and somebody changed what is pending.
        StagingError: The folder cannot be written.
    """
    context = without_gone(without_vanished(context))
    refuse_changed_meanwhile(context)
    return context
