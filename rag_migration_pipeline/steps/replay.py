"""Replay: loads records that were set aside and have been repaired, and books them into the migration's state.

Belongs here: which rows may be replayed, the way through the steps, what is booked and in which order. Does not belong
here: the file's form (``quarantine.py``), what becomes of a repair when its range runs again (``repairs.py``).

A repaired record goes the way of every other: filter, transform, pack, write, read back. Then it is booked: as a
repair, which stands for the source's record from then on (the commit point), in the range's receipt, if it has one, and
out of its quarantine file. What fails stays in that file with the new reason. A replay that was killed is repeated with
the same file and ends as if it had not been.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.envelope import original_id
from rag_migration_pipeline.errors import ManifestError, RecordRejectedError, SpecError, StagingError, ValidationError
from rag_migration_pipeline.events import RecordsRejected
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.filters.meaning import select_rows
from rag_migration_pipeline.options import Conflict
from rag_migration_pipeline.payloads import ENVELOPE_KEY
from rag_migration_pipeline.quarantine import (
    Quarantine,
    SetAsideRecords,
    join_quarantines,
    make_quarantine,
    read_quarantine,
    read_quarantine_if_any,
    write_quarantine,
)
from rag_migration_pipeline.receipts import Receipt, join_receipts, read_receipt, write_receipt
from rag_migration_pipeline.records import RecordBatch, RecordId, Rejection, id_text
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.journal import Journal
from rag_migration_pipeline.steps.load import PackedBatch, RangeWriter, pack_batch
from rag_migration_pipeline.steps.new_ids import old_and_new_ids
from rag_migration_pipeline.steps.range import transformed
from rag_migration_pipeline.steps.repairs import Repairs, read_repairs
from rag_migration_pipeline.steps.set_aside import REPLAY, SHOWN, named
from rag_migration_pipeline.steps.validate import total_findings, validate_batches
from rag_migration_pipeline.vectors import column_of


@dataclass(frozen=True)
class ReplayReport:
    """What a replay did.

    Attributes:
        loaded: Records that are in the target now, read back.
        rejections: Records that are still set aside, with the new reasons; ids as the source names them.
        range_keys: The ranges concerned.
        unproven: Those of them that have no receipt: they must be loaded before the whole can be proven.
    """

    loaded: int
    rejections: tuple[Rejection, ...]
    range_keys: tuple[str, ...]
    unproven: tuple[str, ...]

    def summary(self) -> str:
        """Return one sentence."""
        still = f", {len(self.rejections)} still set aside: {named(self.rejections)}" if self.rejections else ""
        return f"{self.loaded} records of {len(self.range_keys)} ranges loaded{still}"


def replay(context: MigrationContext, path: Path) -> ReplayReport:
    """Load the records of a repaired quarantine file.

    Args:
        context: The migration that set the records aside.
        path: The range's own file, edited in place, or a copy; rows may be left out, and rows of several ranges joined.

    Raises:
        StagingError: The file is missing, damaged, or no quarantine file.
        ManifestError: It is of another migration or generation, or has rows that were never set aside.
        SpecError: A record comes twice.
        ValidationError: The target contradicts what was written; nothing of that range is booked.
        MigrationLockedError: A run or another replay works on the migration.
    """
    given = read_quarantine(path)
    keys = given.range_keys
    done: list[_Replayed] = []
    with context.state.in_use(alone=True):
        _refuse_foreign(context, given, path)
        for key in dict.fromkeys(keys):
            rows = [row for row, range_key in enumerate(keys) if range_key == key]
            done.append(_RangeReplay(context, key, given.take(rows)).run())
    return ReplayReport(
        loaded=sum(len(item.receipt) for item in done),
        rejections=tuple(rejection for item in done for rejection in item.rejections),
        range_keys=tuple(item.key for item in done),
        unproven=tuple(item.key for item in done if not context.state.receipt(item.key).exists()),
    )


def _refuse_foreign(context: MigrationContext, given: Quarantine, path: Path) -> None:
    """Refuse rows that this migration, in this generation, did not set aside, and rows that come twice."""
    for key in dict.fromkeys(given.range_keys):
        context.manifest.entry(key)
    pairs = [(key, item.record_id) for key, item in zip(given.range_keys, given.rejections, strict=True)]
    twice = sorted({id_text(source_id) for pair in pairs if pairs.count(pair) > 1 for source_id in pair[1:]})
    if twice:
        raise SpecError(f"{path}: these records come twice: {', '.join(twice[:SHOWN])}.", todo="Keep one row of each.")
    unknown = []
    for key in dict.fromkeys(given.range_keys):
        stored = read_quarantine_if_any(context.state.quarantine(key))
        there = {item.record_id for item in stored.rejections} if stored is not None else set()
        there |= read_repairs(context.state.repairs(key)).rows.keys()
        unknown += [id_text(source_id) for range_key, source_id in pairs if range_key == key and source_id not in there]
    if unknown:
        raise ManifestError(
            f"{path}: {len(unknown)} records were not set aside by migration {context.migration.name!r}: "
            f"{', '.join(unknown[:SHOWN])}.",
            todo="Leave the columns source_id and range as they are; change the column id to give a record another id.",
        )


@dataclass(frozen=True)
class _Replayed:
    """What became of the rows of one range."""

    key: str
    receipt: Receipt
    rejections: tuple[Rejection, ...]


class _RangeReplay:
    """The rows of one range on their way.

    Attributes:
        given: The rows, as somebody repaired them.
        names: Source id of each row.
        failed: Row -> why it stays set aside.
        row_of: Row of each record by the id that it has now.
    """

    def __init__(self, context: MigrationContext, key: str, given: Quarantine) -> None:
        self.context = context
        self.key = key
        self.given = given
        self.names = [item.record_id for item in given.rejections]
        self.failed: dict[int, Rejection] = {}
        self.row_of: dict[RecordId, int] = {}
        self.stored = read_quarantine_if_any(context.state.quarantine(key))
        self.repairs = read_repairs(context.state.repairs(key))

    def run(self) -> _Replayed:
        """Take the rows through the steps, and book them.

        Raises:
            ValidationError: The target contradicts what was written; nothing is booked.
        """
        taken = self._take(*self._read())
        receipt = join_receipts(())
        for batch, as_read in self._transformed(taken) if taken is not None else ():
            receipt = self._load(batch, as_read)
        rejections = tuple(self.failed[row] for row in sorted(self.failed))
        if rejections:
            self.context.emit(RecordsRejected(self.context.migration.name, self.key, rejections))
        self._book(taken, receipt)
        return _Replayed(self.key, receipt, rejections)

    def _fail(self, row: int, reason: str, error: str = "RecordRejectedError", stage: str = REPLAY) -> None:
        self.failed[row] = Rejection(self.names[row], stage, reason, error)

    def _read(self) -> tuple[RecordBatch | None, list[int]]:
        """Return the rows that are records, and which they are."""
        like = _layout(self.context, self.given, self.stored)
        try:
            return self.given.record_rows(0, len(self.given), like), list(range(len(self.given)))
        except ValueError:
            pass  # row by row, to name the wrong ones
        parts: list[RecordBatch] = []
        rows: list[int] = []
        for row in range(len(self.given)):
            try:
                parts.append(self.given.record_rows(row, row + 1, like))
                rows.append(row)
            except ValueError as error:
                self._fail(row, str(error), "ValueError")
        return (concatenate(parts) if parts else None), rows

    def _take(self, records: RecordBatch | None, rows: Sequence[int]) -> RecordBatch | None:
        """Return the records that the filter takes and that have an id of their own, and remember their rows."""
        if records is None:
            return None
        taken = set(select_rows(records, parse_filter(self.context.migration.options.filter)))
        for position, (record_id, row) in enumerate(zip(records.ids, rows, strict=True)):
            if position not in taken:
                self._fail(row, "the migration's filter does not take the repaired record")
            elif record_id in self.row_of:
                self._fail(row, f"row {self.row_of[record_id]} has the same id {id_text(record_id)!r}")
            else:
                self.row_of[record_id] = row
        kept = [position for position, row in enumerate(rows) if row not in self.failed]
        return records.take(kept) if kept else None

    def _transformed(self, taken: RecordBatch) -> list[tuple[RecordBatch, RecordBatch]]:
        """Return the records as the mapping makes them; one that it refuses under the policy fail stays aside too."""
        try:
            return list(transformed(self.context, self.key, [taken], self._set_aside))
        except RecordRejectedError as error:
            for item in error.facts["rejections"]:
                self._fail(self.row_of[item.record_id], item.reason, item.error, item.stage)
        kept = [row for row, record_id in enumerate(taken.ids) if self.row_of[record_id] not in self.failed]
        return self._transformed(taken.take(kept)) if kept else []

    def _set_aside(self, records: RecordBatch, rejections: Sequence[Rejection]) -> None:
        """Take what the transform refuses; see `records.SetAside`."""
        for record_id, item in zip(records.ids, rejections, strict=True):
            self._fail(self.row_of[record_id], item.reason, item.error, item.stage)

    def _load(self, batch: RecordBatch, as_read: RecordBatch) -> Receipt:
        """Pack, write and read back what may be written; return its receipt."""
        packed = self._pack(batch, as_read)
        refused = RangeWriter(self.context, self.key).write(packed)
        names = dict(zip(packed.records.ids, packed.source_ids, strict=True))
        for item in refused:
            self._fail(self.row_of[names[item.record_id]], item.reason, item.error, item.stage)
        parts = list(validate_batches(self.context, self.key, [(packed, refused)]))
        findings = total_findings(item for item, _ in parts)
        if not findings.is_clean:
            raise ValidationError(
                f"replay of range {self.key}: {self.context.target.address}, collection "
                f"{self.context.migration.target_collection!r} is not as it was written: {findings.summary()}.",
                todo="Find out who else writes there, then replay the file again: nothing of this range was booked.",
                report=findings,
            )
        return join_receipts(item for _, item in parts)

    def _pack(self, batch: RecordBatch, as_read: RecordBatch) -> PackedBatch:
        """Return the records that may be written, in the target's own terms."""
        packed = pack_batch(self.context, batch)
        for item in packed.rejections:
            self._fail(self.row_of[item.record_id], item.reason, item.error, item.stage)
        places = _Places(self.context, self.key, self.stored, self.repairs)
        kept = []
        for position, (target_id, record_id) in enumerate(zip(packed.records.ids, packed.source_ids, strict=True)):
            row = self.row_of[record_id]
            reason = places.refusal(self.names[row], target_id)
            if reason is None:
                kept.append(position)
            else:
                self._fail(row, reason)
        left = {self.row_of[record_id] for record_id in packed.source_ids}
        for record_id in as_read.ids:
            row = self.row_of[record_id]
            if row not in left and row not in self.failed:
                self._fail(row, "the target has a record of this id already; the conflict policy is skip")
        return PackedBatch(packed.records.take(kept), [packed.source_ids[position] for position in kept])

    def _book(self, taken: RecordBatch | None, receipt: Receipt) -> None:
        """Book what was loaded: as repairs first, then in the receipt, then out of the quarantine file."""
        if taken is not None and len(receipt):
            self._book_repairs(taken, receipt)
        loaded = {self.names[self.row_of[record_id]] for record_id in receipt.source_ids}
        remaining = self._remaining(loaded)
        if len(receipt) and self.context.state.receipt(self.key).exists():
            self._book_receipt(receipt, 0 if remaining is None else len(remaining))
        write_quarantine(self.context.state.quarantine(self.key), remaining)

    def _book_repairs(self, taken: RecordBatch, receipt: Receipt) -> None:
        places = {record_id: position for position, record_id in enumerate(taken.ids)}
        repaired = taken.take(places[record_id] for record_id in receipt.source_ids)
        names = [self.names[self.row_of[record_id]] for record_id in receipt.source_ids]
        part = SetAsideRecords(repaired, [Rejection(name, "repaired", "", "") for name in names], receipt.ids)
        parts = [make_quarantine(self.key, [part])]
        if self.repairs.stored is not None:
            kept = [row for name, row in self.repairs.rows.items() if name not in names]
            parts.insert(0, self.repairs.stored.take(kept))
        write_quarantine(self.context.state.repairs(self.key), join_quarantines(parts))

    def _book_receipt(self, loaded: Receipt, remaining: int) -> None:
        """Add what was loaded to the range's receipt; the same when it is there already.

        Raises:
            ValidationError: The receipt and the quarantine file do not agree.
        """
        path = self.context.state.receipt(self.key)
        before = read_receipt(path)
        joined = join_receipts([before.without(set(loaded.ids)), loaded])
        others = sum(before.counts.get(name, 0) for name in ("skipped", "filtered"))
        rejected = self.context.manifest.entry(self.key).count - len(joined) - others
        if rejected != remaining:
            raise ValidationError(
                f"range {self.key}: after the replay its receipt counts {rejected} records that are set aside, and its "
                f"quarantine file holds {remaining}.",
                todo="Load the range again; the repaired records are kept and stand for those of the source.",
            )
        is_compared = all(item.counts.get("compared", 0) == len(item) for item in (before, loaded))
        counts = {**before.counts, "written": len(joined), "rejected": rejected}
        counts["compared"] = len(joined) if is_compared else 0
        write_receipt(path, replace(joined, counts=counts, ids_digest=before.ids_digest))
        Journal(self.context.state, self.key).settle(joined.ids)

    def _remaining(self, loaded: set[RecordId]) -> Quarantine | None:
        """Return the range's quarantine file without what was loaded, and with the new reasons."""
        if self.stored is None:
            return None
        reasons = {item.record_id: item for item in self.failed.values()}
        names = [item.record_id for item in self.stored.rejections]
        failed = [row for row, name in enumerate(names) if name in reasons]
        other = [row for row, name in enumerate(names) if name not in reasons and name not in loaded]
        return join_quarantines(
            [self.stored.take(other), self.stored.with_reasons(failed, [reasons[names[row]] for row in failed])]
        )


class _Places:
    """Which ids of the target a repaired record may be written under."""

    def __init__(self, context: MigrationContext, key: str, stored: Quarantine | None, repairs: Repairs) -> None:
        self._context = context
        self._key = key
        self._repairs = repairs
        self._first = {}
        if stored is not None:
            pairs = zip(stored.rejections, stored.target_ids, strict=True)
            self._first = {item.record_id: target_id for item, target_id in pairs}

    def refusal(self, source_id: RecordId, target_id: RecordId) -> str | None:
        """Return why a record must not be written under an id, or None."""
        row = self._repairs.rows.get(source_id)
        if row is not None:
            booked = self._repairs.target_ids[row]
            if booked == target_id:
                return None
            return f"it was loaded already, as {id_text(booked)!r}" if booked is not None else None
        if target_id == self._first.get(source_id):
            return None
        if self._planned.get(target_id, source_id) != source_id:
            return f"the id {id_text(target_id)!r} in the target is that of {id_text(self._planned[target_id])!r}"
        policy = self._context.migration.options.conflict
        if target_id in self._context.known_ids and policy is not Conflict.OVERWRITE:
            return f"the target has a record {id_text(target_id)!r} already; the conflict policy is {policy}"
        return None

    @cached_property
    def _planned(self) -> Mapping[RecordId, RecordId]:
        """Id in the target -> id that the source has for the record, of all planned records and all repairs."""
        context = self._context
        rule = context.target_layout.id_rule
        planned: dict[RecordId, RecordId] = {}
        for source_id, new_id in self._ids():
            planned[rule.native(new_id)] = source_id
        for entry in context.manifest.ranges:
            repairs = read_repairs(context.state.repairs(entry.key))
            for source_id, row in repairs.rows.items():
                booked = repairs.target_ids[row]
                if booked is not None:
                    planned[booked] = source_id
        return planned

    def _ids(self) -> Iterator[tuple[RecordId, RecordId]]:
        """Yield the id of every record of the source, and the one that the migration gives it."""
        context = self._context
        if context.mapping is not None and context.mapping.sets_ids:
            yield from old_and_new_ids(context.migration, context.source, context.source_layout, context.mapping)
            return
        for ids, envelopes in context.source.iter_field(context.migration.source_collection, ENVELOPE_KEY):
            for source_id in map(original_id, ids, envelopes):
                yield source_id, source_id


def _layout(context: MigrationContext, given: Quarantine, stored: Quarantine | None) -> RecordBatch:
    """Return an empty batch with the vectors that the rows must have.

    Raises:
        StagingError: The file lacks columns that the range's own file has.
    """
    missing = sorted((stored.columns if stored is not None else frozenset()) - given.columns)
    if missing:
        raise StagingError(
            f"the repaired file lacks the columns {', '.join(map(repr, missing))} of range {given.range_keys[0]}.",
            todo="Keep all columns of the file that is repaired.",
        )
    specs = [spec for spec in context.manifest.source_spec.vectors if _labels(spec.name) & given.columns]
    return RecordBatch([], {spec.name: column_of(spec, []) for spec in specs}, [], [])


def _labels(name: str) -> frozenset[str]:
    return frozenset({f"dense:{name}", f"sparse:{name}:indices", f"multi:{name}"})
