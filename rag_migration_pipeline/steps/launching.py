"""A launch: what one run does otherwise than its migration says, and what is refused before such a run writes.

Belongs here: holding records back that a launch does not take, what is left then, the policy ``fail`` against a plan
that is there already. Does not belong here: the options of a launch (``orchestration/run_options.py``), what is pending
(``steps/pending.py``), which records a run carries (``steps/task.py``).
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.filters.meaning import select_rows
from rag_migration_pipeline.filters.nodes import EVERYTHING, Filter
from rag_migration_pipeline.options import Conflict
from rag_migration_pipeline.plan import refuse_conflicts
from rag_migration_pipeline.receipts import is_receipt_of
from rag_migration_pipeline.records import RecordBatch, RecordId
from rag_migration_pipeline.steps.context import MigrationContext, refuse_planned_anew
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.pending import Pending, write_pending
from rag_migration_pipeline.steps.push_down import refuse_mistyped
from rag_migration_pipeline.steps.task import RangeTask, open_task, task_size


@dataclass
class HeldBack:
    """Takes the records out of a range that a launch leaves to a later one.

    Attributes:
        only: What the launch takes.
        ids: The ids of the others, as the source names them.
    """

    only: Filter = EVERYTHING
    ids: list[RecordId] = field(default_factory=list)

    def let_through(self, stored: RecordBatch, unpacked: RecordBatch) -> tuple[RecordBatch, RecordBatch]:
        """Return the records that the launch takes, as the source holds them and unpacked, and note the others."""
        rows = select_rows(unpacked, self.only)
        if len(rows) == len(stored):
            return stored, unpacked
        taken = set(rows)
        self.ids += [record_id for row, record_id in enumerate(stored.ids) if row not in taken]
        return stored.take(rows), unpacked.take(rows)


def left_pending(context: MigrationContext, task: RangeTask, held: HeldBack) -> list[RecordId]:
    """Return which records of a range stay pending after a run that held some back.

    Of a range that is proven already those that the launch takes are carried once more, and the others stay proven: the
    former are noted as pending, so that the steps which follow carry just these.

    Args:
        context: The migration.
        task: What was to be done in the range.
        held: What was held back.
    """
    entry = context.manifest.entry(task.key)
    is_proven = task.pending is None and is_receipt_of(context.state.receipt(task.key), entry.ids_digest)
    if not (held.ids and is_proven and context.state.sightings(task.key).exists()):
        return held.ids
    others = set(held.ids)
    again = [record_id for record_id in task.record_range.ids if record_id not in others]
    with context.state.planning_lock():
        refuse_planned_anew(context)
        write_pending(context.state, task.key, context.manifest.generation, Pending(load=again))
    return []


@dataclass(frozen=True)
class Remainder:
    """What is not proven after a narrowed run.

    Attributes:
        keys: Ranges that are not proven.
        records: Records of these that are still to be carried.
    """

    keys: tuple[str, ...]
    records: int


def remainder(context: MigrationContext) -> Remainder | None:
    """Return what a launch that takes only some records has left, or None where it took all, or takes all."""
    if context.migration.only == EVERYTHING:
        return None
    done = set(proven_keys(context.state, context.manifest))
    left = tuple(entry.key for entry in context.manifest.ranges if entry.key not in done)
    return Remainder(left, records_to_carry(context, left)) if left else None


def records_to_carry(context: MigrationContext, keys: Iterable[str]) -> int:
    """Return how many records a run would have to carry in these ranges."""
    return sum(task_size(context.state, context.manifest, context.manifest.entry(key)) for key in keys)


def refuse_launch(context: MigrationContext, keys: Iterable[str]) -> None:
    """Refuse, before anything is written, a launch that could not do what it says.

    Planning asks the same where it makes a plan; a launch may bring another policy to a plan that is there. Under a
    filter, ``only``, or a mapping that gives other ids, ids do not tell, nor do those that an earlier migration packed:
    then the load refuses the batch, before it writes it.

    Args:
        context: The migration.
        keys: The ranges that the launch carries.

    Raises:
        SpecError: What the launch takes contradicts the source's schema.
        ConflictError: The policy is fail, and ids of these ranges were in the target before the first write.
    """
    migration = context.migration
    spec = context.source.spec(migration.source_collection)
    refuse_mistyped(migration.only, spec, migration.source.document_key)
    takes_all = migration.options.filter is None and migration.only == EVERYTHING
    is_plain = takes_all and (context.mapping is None or not context.mapping.sets_ids)
    if migration.options.conflict is not Conflict.FAIL or not context.manifest.known_count or not is_plain:
        return
    tasks = (open_task(context.state, context.manifest, key) for key in keys)
    natives: set[RecordId] = set()
    for record_id in chain.from_iterable(task.record_range.ids for task in tasks):
        with suppress(SchemaCompatibilityError):  # it has another id than it had before it was packed
            natives.add(context.target_layout.id_rule.native(record_id))
    refuse_conflicts(natives, context.known_ids, Conflict.FAIL, migration)
