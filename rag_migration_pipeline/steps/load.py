"""Load: packs records for the target and writes them, acknowledged, under the conflict policy.

Belongs here: what is written and what is set aside by name. Does not belong here: how a store writes (``stores/``),
the proof that it is there (``steps/validate.py``).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rag_migration_pipeline.envelope import STAGE, pack_some
from rag_migration_pipeline.errors import TryAgainError
from rag_migration_pipeline.events import RecordsSkipped
from rag_migration_pipeline.options import Conflict
from rag_migration_pipeline.plan import refuse_conflicts
from rag_migration_pipeline.records import RecordBatch, RecordId, Rejection
from rag_migration_pipeline.steps.bisecting import BisectingWriter
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.journal import Journal
from rag_migration_pipeline.steps.pre_images import PreImages
from rag_migration_pipeline.steps.timing import report_batch
from rag_migration_pipeline.stores.in_order import run_in_order
from rag_migration_pipeline.vector_choice import route_vectors


@dataclass(frozen=True)
class PackedBatch:
    """Records in the target's own terms, as they are to be written.

    Attributes:
        records: What the target is given, and what it is expected to hold.
        source_ids: The source's id of each record.
        skipped: Ids that stay as the target had them, under the policy skip.
        skipped_source_ids: The source's id of each of these.
        rejections: Records that have no form in the target, by the source's ids.
    """

    records: RecordBatch
    source_ids: Sequence[RecordId]
    skipped: tuple[RecordId, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    skipped_source_ids: tuple[RecordId, ...] = ()


def pack_batch(context: MigrationContext, batch: RecordBatch) -> PackedBatch:
    """Return a batch as it is to be written; the same for the same input, so that validation can ask again.

    Raises:
        ConflictError: Ids of others would be overwritten, which the policy forbids; the filter did not take these
            records when they were planned, or the policy was another then.
    """
    packed, rows, reasons = pack_some(route_vectors(batch, context.vector_routes), context.target_layout)
    named = batch.source_ids or batch.ids
    rejections = tuple(Rejection(named[row], STAGE, reason) for row, reason in reasons.items())
    source_ids = [named[row] for row in rows] if rejections else named
    policy = context.migration.options.conflict
    if policy is Conflict.OVERWRITE or not context.manifest.known_count:
        return PackedBatch(packed, source_ids, (), rejections)
    known = context.known_ids
    if policy is not Conflict.SKIP:  # none: a launch with a policy has made the plan, and this one brings none
        ids = set(packed.ids)
        refuse_conflicts(ids, known & ids, policy, context.migration)
    kept = [row for row, record_id in enumerate(packed.ids) if record_id not in known]
    skipped = [row for row, record_id in enumerate(packed.ids) if record_id in known]
    return PackedBatch(
        packed.take(kept),
        [source_ids[row] for row in kept],
        tuple(packed.ids[row] for row in skipped),
        rejections,
        tuple(source_ids[row] for row in skipped),
    )


class RangeWriter:
    """Writes batches of one range, each noted in the journal first, and with pre-images where they are wanted.

    May be used by several threads.
    """

    def __init__(self, context: MigrationContext, range_key: str) -> None:
        """Write to the migration's target."""
        name = context.migration.target_collection
        self.journal = Journal(context.state, range_key)
        self._pre_images = PreImages(context)
        self._bisecting = BisectingWriter(lambda records: context.target.upsert(name, records))

    def write(self, packed: PackedBatch) -> tuple[Rejection, ...]:
        """Write a batch, acknowledged; return what the target refused, as it names records."""
        if not len(packed.records):
            return ()
        self._pre_images.take(packed.records.ids)
        self.journal.note(packed.records.ids)
        rejections = self._bisecting.write_apart(packed.records)
        if rejections:
            self.journal.take_back(rejection.record_id for rejection in rejections)
        return rejections


@dataclass(frozen=True)
class FailedBatch:
    """A batch that the target did not acknowledge, after all attempts; some of it may be there.

    Attributes:
        range_key: The range.
        number: Position of the batch among those of the range, from 1.
        source_ids: The source's id of each of its records.
        error: Why.
    """

    range_key: str
    number: int
    source_ids: Sequence[RecordId]
    error: TryAgainError


OnFailure = Callable[[FailedBatch], None]
"""Takes a batch that failed; what it raises ends the range."""


def load_batches(
    context: MigrationContext,
    range_key: str,
    batches: Iterable[RecordBatch],
    *,
    is_whole: bool = True,
    on_failure: OnFailure | None = None,
) -> Iterator[tuple[PackedBatch, tuple[Rejection, ...]]]:
    """Write batches; yield each after the target has acknowledged it, with the records that it refused.

    Rejections are named as the target names records. Where several writers help the target, the next batches are on
    their way meanwhile. A batch that the target refuses is bisected (see `bisecting`), so that no record is left out
    for the sake of another.

    A receipt that the range has goes first: what it says does not hold while the range is written again.

    Args:
        context: The migration.
        range_key: The range.
        batches: Its records as they left the transform.
        is_whole: Whether all of the range is written; where only some records are, the receipt stays for the others.
        on_failure: Takes batches that failed for a reason that may pass; the others go on, and what is yielded of such
            a batch has no records. Without it the first such failure ends the range.

    Raises:
        TryAgainError: See ``on_failure``.
        SchemaCompatibilityError: A batch's vectors do not fit the target collection.
        StoreRequestError: The target refuses a batch for a reason that lies in no record of it.
    """
    writer = RangeWriter(context, range_key)
    if is_whole:
        writer.journal.withdraw_receipt()

    def write(batch: RecordBatch) -> _Written:
        return _write_batch(context, writer, batch, tolerant=on_failure is not None)

    writers = context.target.capabilities.concurrent_writers
    for number, done in enumerate(run_in_order(write, batches, writers), start=1):
        packed = done.packed
        if packed.skipped:
            context.emit(RecordsSkipped(context.migration.name, range_key, packed.skipped))
        if done.error is None or on_failure is None:
            report_batch(context, range_key, "load", packed.records, done.duration_s)
            yield packed, done.rejections
        else:
            on_failure(FailedBatch(range_key, number, packed.source_ids, done.error))
            yield replace(packed, records=packed.records.take([]), source_ids=()), ()


@dataclass(frozen=True)
class _Written:
    """What became of a batch."""

    packed: PackedBatch
    rejections: tuple[Rejection, ...]
    error: TryAgainError | None
    duration_s: float


def _write_batch(context: MigrationContext, writer: RangeWriter, batch: RecordBatch, *, tolerant: bool) -> _Written:
    """Pack and write a batch; a failure that may pass is raised, or where that is tolerated, noted."""
    begun = time.perf_counter()
    packed = pack_batch(context, batch)
    try:
        rejections, error = writer.write(packed), None
    except TryAgainError as raised:
        if not tolerant:
            raise
        rejections, error = (), raised
    return _Written(packed, rejections, error, time.perf_counter() - begun)
