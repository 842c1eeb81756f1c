"""Recutting: which records belong to which range after some came and some went.

Belongs here: that decision. Does not belong here: the first cut (``steps/planning.py``), what is to be done in a range
(``steps/syncing.py``).

Ranges keep their keys and never grow beyond their size: new records go into the last range while there is room, and
then into ranges behind it. A range that has lost all its records stays until that is done; the next sync leaves it
out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rag_migration_pipeline.digests import digest_ids
from rag_migration_pipeline.records import RecordId, id_text
from rag_migration_pipeline.steps.changes import Changes
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.manifest import Manifest, RangeEntry, read_range_ids


@dataclass(frozen=True)
class Recut:
    """A range as it is from now on.

    Attributes:
        ids: Its records, as the source names them, in order.
        added: Those of them that are new.
        is_kept: Whether the range was there before.
    """

    entry: RangeEntry
    ids: Sequence[RecordId]
    added: Sequence[RecordId] = ()
    is_kept: bool = True

    @property
    def key(self) -> str:
        """The range's key."""
        return self.entry.key


def cut_anew(context: MigrationContext, changes: Changes) -> list[Recut]:
    """Return all ranges after the changes.

    Args:
        context: The migration, as it was planned before.
        changes: What came and went.
    """
    size = context.migration.options.range_count
    ranges = [_kept(context, entry, changes) for entry in context.manifest.ranges if entry.count]
    waiting = list(changes.added)
    if ranges and waiting and len(ranges[-1].ids) < size:
        room = size - len(ranges[-1].ids)
        ranges[-1] = _grown(ranges[-1], waiting[:room])
        waiting = waiting[room:]
    number = first_number(context.manifest)
    neighbours = _Neighbours(context, changes) if waiting else None
    for start in range(0, len(waiting), size):
        ids = waiting[start : start + size]
        following = neighbours.following(ids) if neighbours else None
        ranges.append(_new(f"{context.manifest.plan_digest}_{number:06d}", ids, following))
        number += 1
    return [replace(item, entry=replace(item.entry, ordinal=position)) for position, item in enumerate(ranges)]


def first_number(manifest: Manifest) -> int:
    """Return the number in the key of the next new range; no key is given twice."""
    return manifest.next_number or len(manifest.ranges)


def _kept(context: MigrationContext, entry: RangeEntry, changes: Changes) -> Recut:
    ids = read_range_ids(context.state, context.manifest, entry.key).ids
    gone = set(changes.gone.get(entry.key, ()))
    if not gone:
        return Recut(entry, ids)
    left = [record_id for record_id in ids if record_id not in gone]
    return Recut(replace(entry, count=len(left), ids_digest=digest_ids(left)), left)


def _grown(item: Recut, added: Sequence[RecordId]) -> Recut:
    ids = [*item.ids, *added]
    entry = replace(item.entry, count=len(ids), ids_digest=digest_ids(ids), is_listed=True)
    return Recut(entry, ids, added)


def _new(key: str, ids: Sequence[RecordId], following: list[str] | None) -> Recut:
    """Return a range of new records; where they are neighbours in the source's order it can be read by key."""
    entry = RangeEntry(
        key=key,
        ordinal=0,
        start=id_text(ids[0]),
        stop=following[0] if following else None,
        offset=0,
        count=len(ids),
        ids_digest=digest_ids(ids),
        is_listed=following is None,
    )
    return Recut(entry, ids, ids, is_kept=False)


class _Neighbours:
    """Whether new records are neighbours in the source's order."""

    def __init__(self, context: MigrationContext, changes: Changes) -> None:
        self._listed = changes.listing.ids if context.source.capabilities.reads_by_key_order else []
        self._places = {record_id: place for place, record_id in enumerate(self._listed)}

    def following(self, ids: Sequence[RecordId]) -> list[str] | None:
        """Return the id behind neighbours (none at the source's end), or None where they are no neighbours."""
        start = self._places.get(ids[0])
        if start is None or self._listed[start : start + len(ids)] != list(ids):
            return None
        return [id_text(record_id) for record_id in self._listed[start + len(ids) : start + len(ids) + 1]]
