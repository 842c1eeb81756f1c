"""Rehearsal: a migration without its writes: every record is read, filtered, mapped, packed and looked at.

Belongs here: going through all records, and counting. Does not belong here: planning without writing
(``steps/preview.py``), what a target can hold (``stores/screening.py``).

Whether the target itself would refuse a record that its adapter lets pass is found out by writing only.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rag_migration_pipeline.events import RangeStarted
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.prefetching import prefetched
from rag_migration_pipeline.records import CollectionSpec, Payload, RecordBatch, RecordId, RecordRange, Rejection
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.extract import extract_batches
from rag_migration_pipeline.steps.filter import filter_batches
from rag_migration_pipeline.steps.launching import HeldBack
from rag_migration_pipeline.steps.load import pack_batch
from rag_migration_pipeline.steps.preview import Preview
from rag_migration_pipeline.steps.range import transformed
from rag_migration_pipeline.steps.timing import report_batch
from rag_migration_pipeline.stores.screening import screen

NAMED = 1_000
"""Most rejections that are kept by name."""


@dataclass
class Rehearsal:
    """What a migration would do.

    Attributes:
        passed: Records that would be written.
        filtered: Records that the filter leaves out; those that it keeps from being listed are not counted.
        skipped: Records that would stay as the target has them.
        held: Records that the launch would leave pending.
        rejected: Records that would be set aside.
        rejections: The first of these, with their reasons.
        size_bytes: Approximate size of the records that would be written.
        batches: In how many batches.
        duration_s: Seconds that reading and looking took.
    """

    passed: int = 0
    filtered: int = 0
    skipped: int = 0
    held: int = 0
    rejected: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    size_bytes: int = 0
    batches: int = 0
    duration_s: float = 0.0


def rehearse(preview: Preview, before_batch: Callable[[], None] | None = None) -> Rehearsal:
    """Go through all records of a migration without writing anything.

    Args:
        preview: The migration, planned without writing.
        before_batch: Called before each batch is looked at; what it raises ends the rehearsal.

    Raises:
        SourceChangedError: Records went away meanwhile.
        RecordRejectedError: A record cannot be mapped, under the policy ``fail``.
    """
    begun, found = time.perf_counter(), Rehearsal()
    context = preview.context

    def set_aside(_records: RecordBatch, rejections: Sequence[Rejection]) -> None:
        _reject(found, rejections)

    for entry in context.manifest.ranges:
        ids = preview.listing.ids[entry.offset : entry.offset + entry.count]
        part = RecordRange(
            entry.key, entry.ordinal, ids[0], _stop(preview, entry.offset + entry.count), ids, entry.offset
        )
        context.emit(
            RangeStarted(context.migration.name, entry.key, entry.count, -(-entry.count // context.page_count))
        )
        held = HeldBack(context.migration.only)
        taken = _counted(_taken(context, part, held), found, entry.count, held)
        for batch, _ in transformed(context, entry.key, taken, set_aside):
            if before_batch is not None:
                before_batch()
            _look_at(preview, entry.key, batch, found)
    found.duration_s = time.perf_counter() - begun
    return found


def _stop(preview: Preview, position: int) -> RecordId | None:
    ids = preview.listing.ids
    return ids[position] if position < len(ids) else None


def _taken(context: MigrationContext, part: RecordRange, held: HeldBack) -> Iterator[RecordBatch]:
    options = context.migration.options
    extracted: Iterator[RecordBatch] = extract_batches(context, part, held=held)
    if options.prefetch_bytes:
        extracted = prefetched(extracted, RecordBatch.size_bytes, options.prefetch_bytes)
    return filter_batches(extracted, parse_filter(options.filter))


def _counted(batches: Iterator[RecordBatch], found: Rehearsal, planned: int, held: HeldBack) -> Iterator[RecordBatch]:
    taken = 0
    for batch in batches:
        taken += len(batch)
        yield batch
    found.held += len(held.ids)
    found.filtered += planned - taken - len(held.ids)


def _look_at(preview: Preview, key: str, batch: RecordBatch, found: Rehearsal) -> None:
    """Pack a batch and look at what the target could not hold."""
    begun = time.perf_counter()
    context = preview.context
    packed = pack_batch(context, batch)
    spec = context.manifest.target_spec
    accepted, rejections = screen(packed.records, spec, context.target.capabilities, _screening(preview))
    found.passed += len(accepted)
    found.skipped += len(packed.skipped)
    found.size_bytes += accepted.size_bytes()
    found.batches += 1
    _reject(found, [*packed.rejections, *rejections])
    report_batch(context, key, "validate", accepted, time.perf_counter() - begun)


def _screening(preview: Preview) -> Callable[[CollectionSpec, Payload], str | None]:
    target, name = preview.context.target, preview.context.migration.target_collection
    return target.screen_payload if target.exists(name) else _anything


def _anything(_spec: CollectionSpec, _payload: Payload) -> str | None:
    """Find nothing wrong: the typed fields of a collection that does not exist are made to fit."""
    return None


def _reject(found: Rehearsal, rejections: Sequence[Rejection]) -> None:
    found.rejected += len(rejections)
    found.rejections += rejections[: max(0, NAMED - len(found.rejections))]
