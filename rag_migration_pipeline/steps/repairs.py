"""Repairs: records that people repaired and a replay loaded; they stand for the records of the source from then on.

Belongs here: the file of a range's repairs, and putting them in the place of what is read. Does not belong here:
loading them (``steps/replay.py``).

The file has the form of a quarantine file (``quarantine.py``): ``source_id`` names the record that a row stands for,
``target_id`` the id under which the target was given it. A range that is loaded again takes the repairs and not what
the source has, so that a replay is never undone; so does a new generation, of the records that the source still has.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.quarantine import (
    Quarantine,
    join_quarantines,
    read_quarantine_if_any,
    write_quarantine,
)
from rag_migration_pipeline.records import RecordBatch, RecordId
from rag_migration_pipeline.state import StateFolder


@dataclass(frozen=True)
class Repairs:
    """The repaired records of one range.

    Attributes:
        stored: Their file, or None where there is none.
    """

    stored: Quarantine | None

    @cached_property
    def rows(self) -> Mapping[RecordId, int]:
        """Row of each repaired record by the id that the source has for it."""
        return {} if self.stored is None else {item.record_id: row for row, item in enumerate(self.stored.rejections)}

    @cached_property
    def records(self) -> RecordBatch:
        """The repaired records; only where there are some."""
        assert self.stored is not None
        return self.stored.records

    @cached_property
    def source_ids(self) -> Mapping[RecordId, RecordId]:
        """The source's id of each repaired record, by the id that it was given; others keep theirs."""
        if self.stored is None:
            return {}
        return {self.records.ids[row]: source_id for source_id, row in self.rows.items()}

    @property
    def target_ids(self) -> Sequence[RecordId | None]:
        """The ids under which the target was given them."""
        return [] if self.stored is None else self.stored.target_ids

    def without(self, source_ids: Collection[RecordId]) -> "Repairs":
        """Return the repairs without those of these records."""
        if self.stored is None or not any(record_id in self.rows for record_id in source_ids):
            return self
        return Repairs(self.stored.take([row for record_id, row in self.rows.items() if record_id not in source_ids]))

    def put_in(self, batch: RecordBatch) -> RecordBatch:
        """Return a batch that was read, with the repaired records in the place of those that they stand for."""
        rows = [self.rows[record_id] for record_id in batch.ids if record_id in self.rows] if self.rows else []
        if not rows:
            return batch
        kept = batch.take([row for row, record_id in enumerate(batch.ids) if record_id not in self.rows])
        repaired = self.records.take(rows)
        vectors = {name: repaired.vectors[name] for name in batch.vectors}
        return concatenate([kept, repaired.with_columns(vectors=vectors)])


def read_repairs(path: Path) -> Repairs:
    """Return a range's repairs; none where there is no file.

    Raises:
        StagingError: The file is damaged.
    """
    return Repairs(read_quarantine_if_any(path))


def carry_repairs(state: StateFolder, plan_digest: str, ranges: Iterable[tuple[str, Collection[RecordId]]]) -> None:
    """Write the repairs of an earlier plan beside the ranges of a new one, before that is stored.

    Args:
        state: The migration's state.
        plan_digest: The earlier plan.
        ranges: Key of each new range, and the ids that its records have in the source, unpacked.
    """
    earlier = [read_repairs(path) for path in sorted(state.all_repairs(plan_digest).glob("*.arrow"))]
    if not earlier:
        return
    for key, ids in ranges:
        wanted = set(ids)
        parts = []
        for repairs in earlier:
            rows = [row for source_id, row in repairs.rows.items() if source_id in wanted]
            if rows and repairs.stored is not None:
                parts.append(repairs.stored.take(rows).of_range(key))
        if parts:
            write_quarantine(state.repairs(key), join_quarantines(parts))
