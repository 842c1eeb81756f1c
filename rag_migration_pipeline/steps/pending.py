"""Pending: what of a proven range is to be done again, because the source changed or batches failed.

Belongs here: the file that says so. Does not belong here: finding out what changed (``steps/changes.py``), which
records a run carries (``steps/task.py``), joining what was done with what there was (``steps/merging.py``).

An Arrow file per range and generation of the manifest: a row per id, with what is to be done: ``load`` (id as the
source names it: carry the record once more), ``changed`` (likewise; the source has another record now, so that a
repair of the old one no longer counts), ``gone`` (likewise: the source no longer has it), ``delete`` (id as the
target names it: take it away), ``stale`` (likewise: take it away if what it was written for is not written under it
any more), ``mark`` (likewise: mark it as of a record that is gone). A file of another generation than the stored one
says nothing: one of a later generation is of a planning that was cut short.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from rag_migration_pipeline.arrow import reading_errors, text_array, texts_of
from rag_migration_pipeline.records import RecordId, id_from_text, id_text
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.state_files import staging_errors, write_atomically


@dataclass(frozen=True)
class Pending:
    """What of a range is to be done again; see the module for the ids.

    Attributes:
        load: Records to be carried that are new, or that failed the last time.
        changed: Records to be carried once more, because they are other in the source.
        gone: Records that the source no longer has.
        delete: Records to be taken away from the target.
        stale: Records to be taken away unless they are written again.
        mark: Records to be marked in the target as gone from the source.
    """

    load: Sequence[RecordId] = ()
    changed: Sequence[RecordId] = ()
    gone: Sequence[RecordId] = ()
    delete: Sequence[RecordId] = ()
    stale: Sequence[RecordId] = ()
    mark: Sequence[RecordId] = ()

    @property
    def touched(self) -> frozenset[RecordId]:
        """The records of the source of which what is known no longer holds."""
        return frozenset((*self.load, *self.changed, *self.gone))


NAMES = ("load", "changed", "gone", "delete", "stale", "mark")


def write_pending(state: StateFolder, range_key: str, generation: int, pending: Pending) -> None:
    """Say what of a range is to be done again; from then on it does not count as proven in that generation.

    Raises:
        StagingError: The disk is full, or the folder cannot be written.
    """
    rows = [(id_text(record_id), name) for name in NAMES for record_id in getattr(pending, name)]
    table = pa.table({"id": text_array(text for text, _ in rows), "what": pa.array([what for _, what in rows])})
    table = table.cast(table.schema.set(1, pa.field("what", pa.string())))

    def write(temporary: Path) -> None:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    write_atomically(state.pending(range_key, generation), write)


def read_pending(state: StateFolder, range_key: str, generation: int) -> Pending | None:
    """Return what of a range is to be done again, or None where nothing is.

    Raises:
        StagingError: The file is damaged.
    """
    path = state.pending(range_key, generation)
    if not path.exists():
        return None
    with reading_errors(path), pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    found: dict[str, list[RecordId]] = {name: [] for name in NAMES}
    for text, what in zip(texts_of(table["id"]), table["what"].to_pylist(), strict=True):
        found[what].append(id_from_text(text or ""))
    return Pending(**found)


def forget_pending(state: StateFolder, generation: int) -> None:
    """Remove what is pending in any other generation: in one that is over, or one that a planning never came to store.

    Raises:
        StagingError: The folder cannot be written.
    """
    for path in state.all_pending.glob("*/*.arrow"):
        if path.stem.rpartition("-")[2] != str(generation):
            with staging_errors(path):
                path.unlink(missing_ok=True)


def settle_pending(state: StateFolder, range_key: str, generation: int) -> None:
    """Forget it: it was done.

    Raises:
        StagingError: The folder cannot be written.
    """
    path = state.pending(range_key, generation)
    with staging_errors(path):
        path.unlink(missing_ok=True)
