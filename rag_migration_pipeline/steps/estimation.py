"""Estimation: how many records a migration carries, how large they are, and how long that takes, by a timed probe.

Belongs here: the probe of reads, and on request of writes. Does not belong here: planning without writing
(``steps/preview.py``), what callers see (``models.py``).

Reads are timed on stretches spread over the source. Writes are timed only when they are asked for: into a collection of
the target's own making, which is removed afterwards.
"""

import math
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rag_migration_pipeline.envelope import unpack
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.filters.meaning import select_rows
from rag_migration_pipeline.filters.nodes import EVERYTHING
from rag_migration_pipeline.names import translate_name
from rag_migration_pipeline.records import RecordBatch, RecordId, RecordRange
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.context import PLAIN, Openers
from rag_migration_pipeline.steps.filter import filter_batches
from rag_migration_pipeline.steps.load import pack_batch
from rag_migration_pipeline.steps.plan_view import MigrationPlan
from rag_migration_pipeline.steps.preview import Preview
from rag_migration_pipeline.steps.range import transformed

PROBE_COUNT = 2_000
STRETCHES = 4


@dataclass(frozen=True)
class Estimation:
    """What a probe found.

    Attributes:
        count: Records that the migration carries: those that its filter takes.
        size_bytes: Approximate size of all of them.
        read_s: Seconds that reading all of them would take.
        write_s: Seconds that writing and reading back all of them would take; None where that was not tried.
        probed: Records that were read for it.
        page_count: Records per batch.
    """

    plan: MigrationPlan
    count: int
    size_bytes: int
    read_s: float
    write_s: float | None
    probed: int
    page_count: int

    @property
    def duration_s(self) -> float:
        """Seconds that the migration would take; without a probe of writes, that its reads alone would."""
        return self.read_s + (self.write_s or 0.0)


def estimate(preview: Preview, *, probe_target: bool = False, openers: Openers = PLAIN) -> Estimation:
    """Time a probe of a migration.

    Args:
        preview: The migration, planned without writing.
        probe_target: Whether writes are tried as well.
        openers: How the target is opened for them.

    Raises:
        MigrationError: A store fails.
    """
    count = _count(preview)
    begun = time.perf_counter()
    probe = list(_probe(preview))
    read_s = time.perf_counter() - begun
    read = sum(map(len, probe))
    taken = list(filter_batches(probe, parse_filter(preview.context.migration.options.filter)))
    carried = sum(map(len, taken))
    size_bytes = sum(batch.size_bytes() for batch in taken)
    is_tried = probe_target and taken and not preview.draft.refusals
    write_s = _time_writes(preview, taken, openers) if is_tried else None
    listed = preview.draft.manifest.count
    return Estimation(
        plan=preview.plan,
        count=count,
        size_bytes=_scaled(size_bytes, count, carried),
        read_s=read_s * listed / read if read else 0.0,
        write_s=None if write_s is None else write_s * count / carried,
        probed=read,
        page_count=preview.context.page_count,
    )


def _count(preview: Preview) -> int:
    """Return how many records the filter takes; where the source has not decided that, contents are read."""
    context, listing = preview.context, preview.listing
    wanted = parse_filter(context.migration.options.filter)
    if wanted == EVERYTHING or not listing.ids:
        return len(listing.ids)
    name, size = context.migration.source_collection, context.page_count
    taken = 0
    for start in range(0, len(listing.ids), size):
        stored = context.source.fetch_contents(name, listing.ids[start : start + size])
        taken += len(select_rows(unpack(stored, context.source_layout), wanted))
    return taken


def _probe(preview: Preview) -> Iterator[RecordBatch]:
    """Yield records of stretches spread over the source, read as a migration reads them."""
    context, ids = preview.context, preview.listing.ids
    size = math.ceil(PROBE_COUNT / STRETCHES)
    starts = (
        [0] if len(ids) <= PROBE_COUNT else [(len(ids) - size) * part // (STRETCHES - 1) for part in range(STRETCHES)]
    )
    for start in starts:
        stop = len(ids) if len(ids) <= PROBE_COUNT else start + size
        for batch in _read(preview, ids[start:stop], ids[stop] if stop < len(ids) else None):
            yield unpack(batch, context.source_layout)


def _read(preview: Preview, ids: Sequence[RecordId], stop: RecordId | None) -> Iterator[RecordBatch]:
    context = preview.context
    name, size = context.migration.source_collection, context.page_count
    if not ids:
        return
    if not context.manifest.is_narrowed:
        yield from context.source.read_range(name, RecordRange("", 0, ids[0], stop, ids, 0), size)
        return
    pages = (ids[start : start + size] for start in range(0, len(ids), size))
    yield from context.source.fetch_pages(name, pages)


def _time_writes(preview: Preview, taken: Sequence[RecordBatch], openers: Openers) -> float:
    """Return the seconds for writing records into a collection made for it, and reading them back."""
    context, migration = preview.context, preview.context.migration
    name = scratch_name(migration)
    spec = replace(context.manifest.target_spec, name=name)
    with openers.target(migration.target) as target:
        target.create(spec)
        try:
            begun = time.perf_counter()
            for batch, _ in transformed(context, "", iter(taken), lambda _records, _rejections: None):
                packed = pack_batch(context, batch).records
                target.upsert(name, packed)
                target.fetch(name, packed.ids)
            return time.perf_counter() - begun
        finally:
            target.drop(name)


def scratch_name(migration: Migration) -> str:
    """Return a name for a collection that is made to try something, and removed."""
    return translate_name(f"rag_migrate_probe_{uuid.uuid4().hex[:12]}", migration.target.name_rule)


def _scaled(value: int, count: int, part: int) -> int:
    return round(value * count / part) if part else 0
