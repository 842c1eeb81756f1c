"""Setting records aside: who was, why, whether so many may be, and the range's quarantine file.

Belongs here: collecting what the steps of a range set aside, the error budget. Does not belong here: the file's form
(``quarantine.py``), finding a guilty record (``steps/bisecting.py``), loading it once repaired (``steps/replay.py``).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from rag_migration_pipeline.envelope import STAGE as PACK
from rag_migration_pipeline.errors import RecordRejectedError, SchemaCompatibilityError, ValidationError
from rag_migration_pipeline.events import RecordsRejected
from rag_migration_pipeline.options import is_over
from rag_migration_pipeline.quarantine import (
    Quarantine,
    SetAsideRecords,
    join_quarantines,
    make_quarantine,
    read_quarantine_if_any,
    write_quarantine,
)
from rag_migration_pipeline.records import RecordBatch, RecordId, Rejection, id_text
from rag_migration_pipeline.sightings import read_sightings
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.load import PackedBatch
from rag_migration_pipeline.steps.task import RangeTask
from rag_migration_pipeline.stores.screening import STAGE as LOAD

SHOWN = 10
REPLAY = "replay"
"""Stage of a record that a replay could not read, or may not load."""


class RangeQuarantine:
    """What is set aside while a range goes through some of its steps.

    Usage: hand `set_aside` to the steps before the load; lead the batches into the load through `following` and its
    answers through `answered`; all of it inside `stored`.
    """

    def __init__(self, context: MigrationContext, task: RangeTask) -> None:
        """Begin with nothing set aside; what was of records that are not carried stays so."""
        self.rejections: list[Rejection] = []
        self.refused_in_load = 0
        self._context = context
        self._key = task.key
        self._touched = frozenset[RecordId]() if task.pending is None else task.pending.touched
        self._is_whole = task.is_whole
        self._parts: list[SetAsideRecords] = []
        self._repairs = task.repairs
        self._waiting: deque[RecordBatch] = deque()

    def set_aside(self, records: RecordBatch, rejections: Sequence[Rejection]) -> None:
        """Take records that a step before the load refuses; see `records.SetAside`."""
        self._add(SetAsideRecords(records, rejections, [None] * len(records)))

    def following(self, batches: Iterable[tuple[RecordBatch, RecordBatch]]) -> Iterator[RecordBatch]:
        """Yield each batch, and keep the same records as they were read beside it until the load has answered."""
        for batch, as_read in batches:
            self._waiting.append(as_read)
            yield batch

    def answered(
        self, loaded: Iterable[tuple[PackedBatch, tuple[Rejection, ...]]]
    ) -> Iterator[tuple[PackedBatch, tuple[Rejection, ...]]]:
        """Yield what the load answers, in order, and take the records that it refused."""
        for packed, rejections in loaded:
            as_read = self._waiting.popleft()
            if rejections or packed.rejections:
                self.refused_in_load += len(rejections) + len(packed.rejections)
                self._add(_as_they_were_read(as_read, packed, rejections))
            yield packed, rejections

    @contextmanager
    def stored(self, *, keeps_earlier: bool = False) -> Iterator[None]:
        """Write the range's file when the block ends, also when it fails.

        Args:
            keeps_earlier: For a load that runs apart from the steps before it: what those set aside stays in the file.
        """
        try:
            yield
        finally:
            path = self._context.state.quarantine(self._key)
            kept = self._kept(read_quarantine_if_any(path), keeps_earlier=keeps_earlier)
            mine = [make_quarantine(self._key, self._parts)] if self._parts else []
            write_quarantine(path, join_quarantines([*kept, *mine]) if kept or mine else None)

    def _kept(self, stored: Quarantine | None, *, keeps_earlier: bool) -> list[Quarantine]:
        """Return what stays of the file: of records that are not carried, and of earlier steps where these stay."""
        if stored is None:
            return []
        others = self._names_of_others()
        rows = [
            row
            for row, item in enumerate(stored.rejections)
            if item.record_id in others or (keeps_earlier and item.stage not in (PACK, LOAD, REPLAY))
        ]
        return [stored.take(rows)] if rows else []

    def _names_of_others(self) -> set[RecordId]:
        """Return the names that quarantine files have for records that are not carried: those of before any packing."""
        seen = None if self._is_whole else read_sightings(self._context.state.sightings(self._key))
        pairs = zip(seen.ids, seen.source_ids, strict=True) if seen is not None else ()
        return {source_id for record_id, source_id in pairs if record_id not in self._touched}

    def _add(self, part: SetAsideRecords) -> None:
        sources = self._repairs.source_ids  # a record that was repaired keeps the name that the source gave it
        if sources:
            named = [replace(item, record_id=sources.get(item.record_id, item.record_id)) for item in part.rejections]
            part = replace(part, rejections=named)
        self._parts.append(part)
        self.rejections += part.rejections
        self._context.emit(RecordsRejected(self._context.migration.name, self._key, tuple(part.rejections)))


def _as_they_were_read(as_read: RecordBatch, packed: PackedBatch, rejections: Sequence[Rejection]) -> SetAsideRecords:
    """Return the refused records of a batch as they were read, named as the source names them."""
    sources = dict(zip(packed.records.ids, packed.source_ids, strict=True))
    rows_of = {record_id: row for row, record_id in enumerate(as_read.ids)}
    given = [item.record_id for item in packed.rejections] + [sources[item.record_id] for item in rejections]
    records = as_read.take(rows_of[record_id] for record_id in given)
    said = zip(records.ids, (*packed.rejections, *rejections), strict=True)
    target_ids = [None] * len(packed.rejections) + [item.record_id for item in rejections]
    return SetAsideRecords(records, [replace(item, record_id=record_id) for record_id, item in said], target_ids)


def rejected_in_load(context: MigrationContext, range_key: str) -> Mapping[RecordId, Rejection]:
    """Return what the last load of a range set aside, by the id that the target would have given it."""
    stored = read_quarantine_if_any(context.state.quarantine(range_key))
    if stored is None:
        return {}
    pairs = zip(stored.target_ids, stored.rejections, strict=True)
    return {
        target_id: replace(item, record_id=target_id)
        for target_id, item in pairs
        if item.stage == LOAD and target_id is not None
    }


def refuse_rejections(context: MigrationContext, range_key: str, rejections: Sequence[Rejection]) -> None:
    """Fail the range if more of its records were set aside than the budget allows; the others are in the target.

    Raises:
        RecordRejectedError: Names the records, the reasons and the quarantine file.
    """
    planned = context.manifest.entry(range_key).count
    if not is_over(len(rejections), planned, context.migration.options.max_rejected):
        return
    raise RecordRejectedError(
        f"range {range_key}: {len(rejections)} of {planned} records were set aside, "
        f"{_allowed(context)}: {named(rejections)}.",
        todo=f"The others were written. {what_to_do(context, range_key)}",
        rejections=tuple(rejections),
        quarantine=str(context.state.quarantine(range_key)),
    )


class QuarantineAccount:
    """What all ranges together set aside, for the proof of the whole.

    Attributes:
        rejections: Everybody in the quarantine files; ids as the source names them.
        target_ids: The same as the target would have named them, where that is known. A record that never came to the
            target has no name there yet; where ids are kept, it follows from its id.
        has_unnamed: Whether there are records of which it is not known.
    """

    def __init__(self, context: MigrationContext) -> None:
        """Begin with no range."""
        self.rejections: list[Rejection] = []
        self.target_ids: set[RecordId] = set()
        self.has_unnamed = False
        self._context = context
        self._keys: list[str] = []

    def take_in(self, range_key: str, rejected: int) -> None:
        """Add a range of which the receipt counts so many records as rejected.

        Raises:
            ValidationError: The range's quarantine file holds another number: a record would be nowhere.
        """
        path = self._context.state.quarantine(range_key)
        stored = read_quarantine_if_any(path)
        found = 0 if stored is None else len(stored)
        if found != rejected:
            raise ValidationError(
                f"range {range_key}: its receipt counts {rejected} records that were set aside, and {path} holds "
                f"{found}.",
                todo="Put the file back as it was. If a replay was interrupted, repeat it; else load the range again.",
            )
        if stored is not None:
            self._keys.append(range_key)
            self.rejections += stored.rejections
            pairs = zip(stored.target_ids, stored.rejections, strict=True)
            names = {self._name_there(item) if target_id is None else target_id for target_id, item in pairs}
            self.has_unnamed |= None in names
            self.target_ids.update(name for name in names if name is not None)

    def _name_there(self, item: Rejection) -> RecordId | None:
        mapping = self._context.mapping
        if mapping is not None and mapping.sets_ids:
            return None
        try:
            return self._context.target_layout.id_rule.native(item.record_id)
        except SchemaCompatibilityError:
            return None

    @property
    def is_over_budget(self) -> bool:
        """Whether all ranges together set more aside than allowed."""
        return is_over(len(self.rejections), self._context.manifest.count, self._context.migration.options.max_rejected)

    def refuse_over_budget(self) -> None:
        """Fail the proof of the whole if all ranges together set more aside than allowed.

        Raises:
            RecordRejectedError: Names the first records, the reasons and a quarantine file.
        """
        if self.is_over_budget:
            raise RecordRejectedError(
                f"migration {self._context.migration.name!r}: {len(self.rejections)} of {self._context.manifest.count} "
                f"records were set aside in {len(self._keys)} ranges, {_allowed(self._context)}: "
                f"{named(self.rejections)}.",
                todo=what_to_do(self._context, self._keys[0]),
                rejections=tuple(self.rejections),
                quarantine=str(self._context.state.quarantine(self._keys[0]).parent),
                report_page=str(self._context.state.report_page),
            )


def stored_rejections(context: MigrationContext, range_key: str) -> list[Rejection]:
    """Return who is in a range's quarantine file; ids as the source names them."""
    stored = read_quarantine_if_any(context.state.quarantine(range_key))
    return [] if stored is None else stored.rejections


@dataclass(frozen=True)
class Budget:
    """How many records are set aside, and how many may be.

    Attributes:
        rejections: Everybody in the quarantine files; ids as the source names them.
        planned: Records of all ranges.
        allowed: What the option says, in words.
        over: Keys of the ranges that set more aside than they may.
        is_over: Whether a range did, or all together.
    """

    rejections: tuple[Rejection, ...]
    planned: int
    allowed: str
    over: tuple[str, ...]
    is_over: bool


def budget_of(context: MigrationContext) -> Budget:
    """Read the quarantine files of all ranges, proven or not, and compare them with the error budget."""
    found = {entry: stored_rejections(context, entry.key) for entry in context.manifest.ranges}
    limit, planned = context.migration.options.max_rejected, context.manifest.count
    over = tuple(entry.key for entry, items in found.items() if is_over(len(items), entry.count, limit))
    rejections = tuple(item for items in found.values() for item in items)
    return Budget(rejections, planned, _allowed(context), over, bool(over) or is_over(len(rejections), planned, limit))


def named(rejections: Sequence[Rejection]) -> str:
    """Return the first few records, by reason."""
    by_reason: dict[str, list[str]] = {}
    for item in rejections[:SHOWN]:
        by_reason.setdefault(item.reason.rstrip("."), []).append(repr(id_text(item.record_id)[:80]))
    return "; ".join(f"{', '.join(ids)}: {reason}" for reason, ids in by_reason.items())


def what_to_do(context: MigrationContext, range_key: str) -> str:
    """Return the ways out, naming the file."""
    return (
        f"They are in {context.state.quarantine(range_key)} as they were read: repair and replay them, change them at "
        "the source, or raise max_rejected; see docs/quarantine.md."
    )


def _allowed(context: MigrationContext) -> str:
    limit = context.migration.options.max_rejected
    return f"max_rejected allows {limit:.4g} of them" if isinstance(limit, float) else f"max_rejected allows {limit}"
