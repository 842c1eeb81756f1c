"""Task: which records of a range a run has to carry: all of them, or those that are pending.

Belongs here: reading that off the state. Does not belong here: carrying them (``steps/range.py``), saying that
something is pending (``steps/pending.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from rag_migration_pipeline.records import RecordRange
from rag_migration_pipeline.sightings import read_sightings
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.steps.manifest import Manifest, RangeEntry, read_range_ids
from rag_migration_pipeline.steps.pending import Pending, read_pending
from rag_migration_pipeline.steps.repairs import Repairs, read_repairs


@dataclass(frozen=True)
class RangeTask:
    """What a run has to do in a range.

    Attributes:
        key: The range's key.
        count: How many records are to be carried.
        read: Reads their ids.
        repairs: The repaired records that stand for records of the source.
        pending: What is pending, or None.
        is_whole: Whether the whole range is carried; then nothing of what was known before holds.
    """

    key: str
    count: int
    read: Callable[[], RecordRange]
    repairs: Repairs
    pending: Pending | None = None
    is_whole: bool = True

    @cached_property
    def record_range(self) -> RecordRange:
        """The records to carry: the whole range, or those that are pending; read when first asked for.

        Raises:
            ManifestError: The ids are damaged.
        """
        return self.read()


def task_size(state: StateFolder, manifest: Manifest, entry: RangeEntry) -> int:
    """Return how many records `open_task` would find in a range, without reading their ids."""
    pending = read_pending(state, entry.key, manifest.generation)
    is_partial = pending is not None and state.receipt(entry.key).exists()
    return len(pending.load) + len(pending.changed) if pending is not None and is_partial else entry.count


def open_task(state: StateFolder, manifest: Manifest, range_key: str) -> RangeTask:
    """Return what there is to do in a range.

    Where nothing is pending it is the whole range, also where it is proven already.

    Raises:
        ManifestError: The key is of another plan.
    """
    entry = manifest.entry(range_key)

    def read_whole() -> RecordRange:
        return read_range_ids(state, manifest, range_key)

    pending = read_pending(state, range_key, manifest.generation)
    repairs = read_repairs(state.repairs(range_key))
    seen = None if pending is None else read_sightings(state.sightings(range_key))
    if pending is None or seen is None:
        return RangeTask(range_key, entry.count, read_whole, repairs, pending)
    changed = set(pending.changed)
    pairs = zip(seen.ids, seen.source_ids, strict=True)
    repairs = repairs.without({source_id for record_id, source_id in pairs if record_id in changed})
    if not state.receipt(range_key).exists():
        return RangeTask(range_key, entry.count, read_whole, repairs, pending)
    whole, wanted = read_whole(), {*pending.load, *pending.changed}
    part = replace(whole, ids=[record_id for record_id in whole.ids if record_id in wanted], is_listed=True)
    return RangeTask(range_key, part.count, lambda: part, repairs, pending, is_whole=False)
