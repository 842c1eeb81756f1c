"""Validate: reads back what was written, compares record by record, and leaves a receipt.

Belongs here: the comparison of expected and stored records, and its findings. Does not belong here: the proof of the
whole collection (``steps/report.py``).
"""

import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np

from rag_migration_pipeline.errors import ValidationError
from rag_migration_pipeline.events import RangeProven
from rag_migration_pipeline.options import Validation
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.quarantine import write_quarantine
from rag_migration_pipeline.receipts import Receipt, join_receipts, make_receipt, write_receipt
from rag_migration_pipeline.records import RecordBatch, RecordId, Rejection, id_text
from rag_migration_pipeline.sightings import Fate, Sightings, Watch, write_sightings
from rag_migration_pipeline.steps.compare import changed_rows
from rag_migration_pipeline.steps.context import MigrationContext, refuse_planned_anew
from rag_migration_pipeline.steps.journal import Journal
from rag_migration_pipeline.steps.load import PackedBatch
from rag_migration_pipeline.steps.merging import failed_ids, merged, still_pending, take_away
from rag_migration_pipeline.steps.pending import Pending, settle_pending, write_pending
from rag_migration_pipeline.steps.task import RangeTask
from rag_migration_pipeline.steps.timing import report_batch

SHOWN = 10


@dataclass(frozen=True)
class Findings:
    """Where the target differs from what it should hold; ids as the target names them, as text.

    Attributes:
        compared: Records that were compared.
        missing: Ids that should be there and are not.
        extra: Ids that are there and should not be.
        changed: Id -> what differs (payload, document, vector).
    """

    compared: int = 0
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    changed: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.extra or self.changed)

    def summary(self) -> str:
        """Return one sentence with the first few ids of each kind."""
        parts = []
        for label, ids in (("missing", self.missing), ("extra", self.extra)):
            if ids:
                parts.append(f"{len(ids)} {label} ({', '.join(ids[:SHOWN])})")
        if self.changed:
            shown = "; ".join(f"{i}: {what}" for i, what in list(self.changed.items())[:SHOWN])
            parts.append(f"{len(self.changed)} changed ({shown})")
        return ", ".join(parts) or f"{self.compared} records as expected"


def total_findings(parts: Iterable[Findings]) -> Findings:
    """Return the findings of all parts."""
    items = list(parts)
    return Findings(
        sum(item.compared for item in items),
        tuple(record_id for item in items for record_id in item.missing),
        tuple(record_id for item in items for record_id in item.extra),
        {record_id: what for item in items for record_id, what in item.changed.items()},
    )


def validate_batches(
    context: MigrationContext,
    range_key: str,
    loaded: Iterable[tuple[PackedBatch, tuple[Rejection, ...]]],
    watch: Watch | None = None,
) -> Iterator[tuple[Findings, Receipt]]:
    """Compare each loaded batch with what the target holds now; yield findings and the batch's receipt.

    Rejected records are not expected. With validation off or by counts nothing is read here.

    Args:
        context: The migration.
        range_key: The range.
        loaded: What was written, with what the target refused of it.
        watch: Is told which records were skipped.
    """
    is_full = context.migration.options.validate_target is Validation.FULL
    waiting: deque[tuple[PackedBatch, tuple[Rejection, ...], RecordBatch, Sequence[RecordId]]] = deque()
    loading_s = 0.0

    def ask() -> Iterator[Sequence[RecordId]]:
        nonlocal loading_s
        begun = time.perf_counter()
        for packed, rejections in loaded:
            loading_s += time.perf_counter() - begun
            waiting.append((packed, rejections, *_without(packed, rejections)))
            yield waiting[-1][2].ids
            begun = time.perf_counter()

    begun = time.perf_counter()
    for found in (
        context.target.fetch_pages(context.migration.target_collection, ask()) if is_full else map(_none, ask())
    ):
        packed, rejections, expected, source_ids = waiting.popleft()
        if watch is not None:
            watch.note(Fate.SKIPPED, packed.skipped_source_ids)
        findings = Findings() if found is None else _compare_with_target(context, expected, found)
        receipt = make_receipt(expected, source_ids, inexact=context.inexact_vectors)
        receipt.counts.update(
            written=len(expected),
            skipped=len(packed.skipped),
            rejected=len(packed.rejections) + len(rejections),
            compared=findings.compared,
        )
        report_batch(context, range_key, "validate", expected, time.perf_counter() - begun - loading_s)
        yield findings, receipt
        begun, loading_s = time.perf_counter(), 0.0


def prove_range(
    context: MigrationContext,
    task: RangeTask,
    parts: Iterable[tuple[Findings, Receipt]],
    watch: Watch,
    *,
    set_aside: int = 0,
    failed: Collection[RecordId] = (),
    held: Sequence[RecordId] = (),
) -> tuple[Findings, Receipt]:
    """Store the receipt of a range if nothing in it differs.

    Where batches failed, or a launch held records back, it says what was done; the rest is pending, nothing proven.

    Args:
        context: The migration.
        task: What of the range was carried.
        parts: What `validate_batches` yielded.
        watch: What was seen of the records, and what the filter left out.
        set_aside: Records that steps before the load set aside; the load's own are in the parts.
        failed: The source's ids of records in batches that failed.
        held: Records, as the source names them now, that the launch left to a later one; nothing was seen of them.

    Raises:
        ValidationError: The target contradicts the load (names missing and changed ids), or the steps do not account
            for every record of the range. No receipt is written.
    """
    items = list(parts)
    findings = total_findings(item for item, _ in items)
    _refuse_contradiction(context, task.key, findings)
    part, seen = join_receipts(item for _, item in items), watch.sightings()
    part.counts["filtered"] = seen.count(Fate.FILTERED)
    part.counts["rejected"] = part.counts.get("rejected", 0) + set_aside
    waiting = [*failed_ids(seen, failed), *held]
    seen = seen.without(set(waiting)) if waiting else seen
    refuse_unaccounted(context, task.key, part.counts, task.count - len(waiting))
    entry = context.manifest.entry(task.key)
    receipt, seen = merged(context, task, part, seen)
    receipt = replace(receipt, ids_digest=entry.ids_digest)
    if not waiting:
        _refuse_unfit(context, task, receipt.counts, entry.count)
    take_away(context, task, part, waiting)  # only now: what does not add up deletes nothing
    if waiting:
        _book(context, task, receipt, seen, still_pending(task, waiting, part))
        return findings, receipt
    _book(context, task, receipt, seen if len(seen) == entry.count else None, None)
    Journal(context.state, task.key).settle(receipt.ids)
    context.emit(RangeProven(context.migration.name, task.key, len(part)))
    return findings, receipt


def _refuse_contradiction(context: MigrationContext, range_key: str, findings: Findings) -> None:
    if not findings.is_clean:
        raise ValidationError(
            f"range {range_key} is not in {context.target.address}, collection "
            f"{context.migration.target_collection!r}, as it was written: {findings.summary()}.",
            todo="Find out who else writes there, then run the range again.",
            report=findings,
        )


def _refuse_unfit(context: MigrationContext, task: RangeTask, counts: Mapping[str, int], planned: int) -> None:
    """Refuse a range whose records do not add up; the next run carries all of one of which a part was carried."""
    try:
        refuse_unaccounted(context, task.key, counts, planned)
    except ValidationError:
        if not task.is_whole:
            Journal(context.state, task.key).withdraw_receipt()
        raise


def _book(
    context: MigrationContext, task: RangeTask, receipt: Receipt, seen: Sightings | None, left: Pending | None
) -> None:
    """Store what is known of a range now, so that it never counts as proven while something of it is pending.

    Of a whole range the receipt comes last: with it the range is proven, but for what is pending. Of a part it comes
    first, and what was pending stays so until all else is stored: after a kill in between it is carried once more, and
    the sightings still name what the earlier receipt had of it. Nobody plans on between the look at what is planned and
    what is noted as pending in that.
    """
    state, key, generation = context.state, task.key, context.manifest.generation
    if left is None and task.pending is not None:
        write_quarantine(state.repairs(key), task.repairs.stored)
    with nullcontext() if left is None else state.planning_lock():
        if left is not None:
            refuse_planned_anew(context)
        if task.is_whole and left is not None:
            write_pending(state, key, generation, left)
        if not task.is_whole:
            write_receipt(state.receipt(key), receipt)
        if seen is not None:
            write_sightings(state.sightings(key), seen)
        if task.is_whole:
            write_receipt(state.receipt(key), receipt)
        if left is None:
            settle_pending(state, key, generation)
        elif not task.is_whole:
            write_pending(state, key, generation, left)


def refuse_unaccounted(context: MigrationContext, range_key: str, counts: Mapping[str, int], planned: int) -> None:
    """Refuse a range of which records got lost between two steps; what no filter left out is not filtered."""
    names = ("written", "skipped", "rejected", "filtered")
    if sum(counts.get(name, 0) for name in names) == planned and (
        context.migration.options.filter or not counts["filtered"]
    ):
        return
    raise ValidationError(
        f"range {range_key}: {planned} records were planned, and the steps account for "
        f"{', '.join(f'{counts.get(name, 0)} {name}' for name in names)}; the migration has "
        f"{'a' if context.migration.options.filter else 'no'} filter.",
        todo="Run the range again; if it stays so, this is a defect of a step: please report it.",
        report=Findings(),
    )


def compare_batches(
    expected: RecordBatch, found: RecordBatch, normalised: frozenset[str], tolerances: Mapping[str, float]
) -> Findings:
    """Compare two batches record by record: ids, then payload and document, then vectors.

    Args:
        expected: What should be there.
        found: What is there, in any order.
        normalised: Names of vectors of which only the direction is compared.
        tolerances: Vector name -> largest relative difference, ||found - expected|| / ||expected||; a vector that is
            not named, or with 0.0, must be equal.
    """
    places = {record_id: row for row, record_id in enumerate(found.ids)}
    twice = {id_text(record_id) for row, record_id in enumerate(found.ids) if places[record_id] != row}
    rows = [row for row, record_id in enumerate(expected.ids) if record_id in places]
    missing = tuple(id_text(i) for i in expected.ids if i not in places)
    wanted = set(expected.ids)
    extra = tuple(id_text(i) for i in found.ids if i not in wanted)
    left = expected if len(rows) == len(expected) else expected.take(rows)
    order = [places[record_id] for record_id in left.ids]
    right = found if order == list(range(len(found))) else found.take(order)
    changed = _changed_contents(left, right) | dict.fromkeys(sorted(twice), "is there more than once")
    for name in left.vectors.keys() | right.vectors.keys():
        columns, tolerance = (left.vectors.get(name), right.vectors.get(name)), tolerances.get(name, 0.0)
        differs = changed_rows(*columns, len(left), is_normalised=name in normalised, tolerance=tolerance)
        for row in np.flatnonzero(differs).tolist():
            changed.setdefault(id_text(left.ids[row]), f"vector {name!r}" if name else "vector")
    return Findings(len(left), missing, extra, changed)


def _none(_ids: Sequence[RecordId]) -> None:
    """Stand for an answer where nothing is asked."""


def _compare_with_target(context: MigrationContext, expected: RecordBatch, found: RecordBatch) -> Findings:
    return compare_batches(expected, found, context.target_layout.normalised, context.tolerances)


def _without(packed: PackedBatch, rejections: Sequence[Rejection]) -> tuple[RecordBatch, Sequence[RecordId]]:
    if not rejections:
        return packed.records, packed.source_ids
    rejected = {item.record_id for item in rejections}
    rows = [row for row, record_id in enumerate(packed.records.ids) if record_id not in rejected]
    return packed.records.take(rows), [packed.source_ids[row] for row in rows]


def _changed_contents(left: RecordBatch, right: RecordBatch) -> dict[str, str]:
    changed = {}
    none = [None] * len(left)
    pairs = zip(left.documents or none, right.documents or none, strict=True)
    before_in, after_in = left.partitions or none, right.partitions or none
    for row, (before, after) in enumerate(pairs):
        if before != after:
            changed[id_text(left.ids[row])] = "document"
        elif before_in[row] != after_in[row]:
            changed[id_text(left.ids[row])] = "partition"
        elif encode(left.payloads[row]) != encode(right.payloads[row]):
            changed[id_text(left.ids[row])] = _payload_difference(left.payloads[row], right.payloads[row])
    return changed


def _payload_difference(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    """Return which payload keys differ; values stay out of messages."""
    keys = [
        key
        for key in sorted(before.keys() | after.keys())
        if key not in before or key not in after or encode(before[key]) != encode(after[key])
    ]
    return f"payload keys {', '.join(map(repr, keys[:5]))}"
