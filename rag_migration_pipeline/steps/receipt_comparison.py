"""Comparing the target with what is known of the records that it was given: digests, sketches, inexact vectors.

Belongs here: reading records back and comparing them with a receipt, of a range or of a batch. Does not belong here:
the comparison with the records themselves (``steps/validate.py``), the proof of the whole (``steps/report.py``).
"""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rag_migration_pipeline.digests import digest_contents, digest_vectors, sketch_vectors, sketches_differ
from rag_migration_pipeline.options import Validation
from rag_migration_pipeline.receipts import Receipt, make_receipt
from rag_migration_pipeline.records import RecordBatch, RecordId, SparseColumn, VectorColumn, id_text
from rag_migration_pipeline.sightings import Fate, Watch
from rag_migration_pipeline.steps.compare import changed_rows
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.load import PackedBatch
from rag_migration_pipeline.steps.timing import report_batch
from rag_migration_pipeline.steps.validate import Findings, total_findings
from rag_migration_pipeline.vectors import presence
from rag_migration_pipeline.written import WrittenBatch

_SKETCHED: Mapping[str, VectorColumn] = {}


def compare_with_receipt(context: MigrationContext, receipt: Receipt) -> Findings:
    """Read the records of a receipt back in batches and compare digests and sketches."""
    parts: list[Findings] = []
    size = context.target.capabilities.page_count
    pages = [range(start, min(start + size, len(receipt))) for start in range(0, len(receipt), size)]
    asked = (receipt.ids[rows.start : rows.stop] for rows in pages)
    answers = context.target.fetch_pages(context.migration.target_collection, asked)
    for rows, found in zip(pages, answers, strict=True):
        parts.append(_compare_page(context, receipt, rows, found))
    return total_findings(parts)


def written_batch(context: MigrationContext, packed: PackedBatch) -> WrittenBatch:
    """Return what is to be kept of a batch that the target took as a whole."""
    receipt = make_receipt(packed.records, packed.source_ids, inexact=context.inexact_vectors)
    receipt.counts.update(written=len(receipt), skipped=len(packed.skipped), rejected=0)
    vectors = {name: packed.records.vectors[name] for name in receipt.sketches}
    return WrittenBatch(receipt, vectors, packed.skipped_source_ids)


def validate_written(
    context: MigrationContext, range_key: str, written: Iterable[WrittenBatch], watch: Watch
) -> Iterator[tuple[Findings, Receipt]]:
    """Compare what the target holds now with what a load kept of its batches; yield as `validate.validate_batches`.

    Nothing is read but the target, and nothing of the records is decoded but what it answers. What differs is named
    less closely than there: a payload without its keys.

    Args:
        context: The migration.
        range_key: The range.
        written: Its batches.
        watch: Is told which records were skipped.
    """
    is_full = context.migration.options.validate_target is Validation.FULL
    waiting: deque[WrittenBatch] = deque()

    def ask() -> Iterator[Sequence[RecordId]]:
        for batch in written:
            waiting.append(batch)
            yield batch.receipt.ids

    collection = context.migration.target_collection
    begun = time.perf_counter()
    for found in context.target.fetch_pages(collection, ask()) if is_full else (None for _ in ask()):
        batch = waiting.popleft()
        watch.note(Fate.SKIPPED, batch.skipped_source_ids)
        receipt, findings = batch.receipt, Findings()
        if found is not None:
            findings = _compare_page(context, receipt, range(len(receipt)), found, batch.vectors)
            report_batch(context, range_key, "validate", found, time.perf_counter() - begun)
        counts = {**receipt.counts, "compared": findings.compared}
        yield findings, replace(receipt, counts=counts)
        begun = time.perf_counter()


def _compare_page(
    context: MigrationContext,
    receipt: Receipt,
    rows: range,
    found: RecordBatch,
    vectors: Mapping[str, VectorColumn] = _SKETCHED,
) -> Findings:
    """Compare records with some rows of a receipt; of vectors that were kept, themselves instead of their sketches."""
    places = {receipt.ids[row]: row for row in rows}
    extra = tuple(id_text(record_id) for record_id in found.ids if record_id not in places)
    if extra:
        found = found.take(row for row, record_id in enumerate(found.ids) if record_id in places)
    order = np.array([places[record_id] for record_id in found.ids], dtype=np.intp)
    present = set(found.ids)
    missing = tuple(id_text(receipt.ids[row]) for row in rows if receipt.ids[row] not in present)
    changed: dict[str, str] = {}
    for position, digest in enumerate(digest_contents(found)):
        if digest != receipt.contents[order[position]]:
            changed[id_text(found.ids[position])] = "payload or document"
    if len(present) < len(found):
        twice = [record_id for record_id, times in Counter(found.ids).items() if times > 1]
        changed |= dict.fromkeys(map(id_text, twice), "is there more than once")
    for name in receipt.vectors.keys() | receipt.sketches.keys() | found.vectors.keys():
        for position in _changed_vectors(context, receipt, name, order, found, vectors.get(name)):
            changed.setdefault(id_text(found.ids[position]), f"vector {name!r}" if name else "vector")
    return Findings(len(found), missing, extra, changed)


def _changed_vectors(
    context: MigrationContext,
    receipt: Receipt,
    name: str,
    order: npt.NDArray[np.intp],
    found: RecordBatch,
    kept: VectorColumn | None,
) -> list[int]:
    """Return the positions of the found records whose vector is not the receipt's."""
    column = found.vectors.get(name)
    if column is None or (name in receipt.sketches and isinstance(column, SparseColumn)):
        return list(range(len(found)))
    is_normalised, tolerance = name in context.target_layout.normalised, context.tolerances.get(name, 0.0)
    if kept is not None:
        expected = kept.take(order)
        differs = changed_rows(expected, column, len(found), is_normalised=is_normalised, tolerance=tolerance)
        return [int(row) for row in np.flatnonzero(differs)]
    if name in receipt.sketches and not isinstance(column, SparseColumn):
        given, sketches = receipt.sketches[name][order], sketch_vectors(column)
        differs = sketches_differ(given, sketches, is_normalised=is_normalised, tolerance=tolerance)
        return [int(row) for row in np.flatnonzero(differs)]
    if name not in receipt.vectors:
        return [int(row) for row in np.flatnonzero(presence(column))]
    digests = receipt.vectors[name]
    return [p for p, digest in enumerate(digest_vectors(column)) if digest != digests[order[p]]]
