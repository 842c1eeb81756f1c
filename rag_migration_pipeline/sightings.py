"""Sightings: what the records of a range looked like in their source when they were read, without their vectors.

Belongs here: the columns of a range's sightings, collecting, writing and reading them. Does not belong here: finding
out what has changed since (``steps/changes.py``), what the target holds (``receipts.py``).

One Arrow file per range, one row per planned record: ``id`` (as the source names it), ``source_id`` (as the record
was named before an earlier migration packed it; null where it is the same), ``content`` (16 bytes: digest of payload,
document and partition as the source holds them) and ``fate`` (0 taken, 1 left out by the filter, 2 skipped because
the target has it).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rag_migration_pipeline.arrow import (
    arrow_sink,
    arrow_source,
    digest_array,
    number_array,
    numbers_of,
    reading_errors,
    text_array,
    texts_of,
)
from rag_migration_pipeline.digests import digest_contents
from rag_migration_pipeline.records import RecordBatch, RecordId, id_from_text, id_text
from rag_migration_pipeline.remote_files import AnyPath
from rag_migration_pipeline.state_files import write_atomically


class Fate(IntEnum):
    """What became of a record after it was read; of taken ones, receipt and quarantine file tell the rest."""

    TAKEN = 0
    FILTERED = 1
    SKIPPED = 2


@dataclass(frozen=True)
class Sightings:
    """What was seen, in columns.

    Attributes:
        ids: Ids as the source names them.
        source_ids: Ids before an earlier migration packed the records.
        contents: 16 bytes per record.
        fates: Array of shape (n_records,), int8, of `Fate`.
    """

    ids: Sequence[RecordId]
    source_ids: Sequence[RecordId]
    contents: Sequence[bytes]
    fates: npt.NDArray[np.int8]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> "Sightings":
        """Return only these rows, in that order."""
        return Sightings(
            [self.ids[row] for row in rows],
            [self.source_ids[row] for row in rows],
            [self.contents[row] for row in rows],
            self.fates[np.array(rows, dtype=np.intp)],
        )

    def without(self, ids: Collection[RecordId]) -> "Sightings":
        """Return the sightings without the records of these ids (as the source names them)."""
        return self.take([row for row, record_id in enumerate(self.ids) if record_id not in ids])

    def count(self, fate: Fate) -> int:
        """Return how many records had that fate."""
        return int((self.fates == fate).sum())


_TOKEN = b"extract"
NOTHING_SEEN = Sightings([], [], [], np.zeros(0, dtype=np.int8))


def join_sightings(parts: Iterable[Sightings]) -> Sightings:
    """Return the sightings of all parts, in order."""
    items = list(parts)
    return Sightings(
        [record_id for item in items for record_id in item.ids],
        [record_id for item in items for record_id in item.source_ids],
        [content for item in items for content in item.contents],
        np.concatenate([item.fates for item in items] or [NOTHING_SEEN.fates]),
    )


class Watch:
    """Collects the sightings of a range while its records go by."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._parts: list[Sightings] = []
        self._fates: dict[Fate, Counter[RecordId]] = {Fate.FILTERED: Counter(), Fate.SKIPPED: Counter()}

    def see(self, stored: RecordBatch, source_ids: Sequence[RecordId]) -> None:
        """Take in records as the source holds them, and the ids that they had before they were packed."""
        fates = np.zeros(len(stored), dtype=np.int8)
        self.add(Sightings(list(stored.ids), list(source_ids), digest_contents(stored), fates))

    def add(self, seen: Sightings) -> None:
        """Take in what was seen elsewhere; what becomes of these records may be noted before or after."""
        self._parts.append(seen)

    def note(self, fate: Fate, source_ids: Iterable[RecordId]) -> None:
        """Note what became of records; of two with the same id, one is meant."""
        self._fates[fate].update(source_ids)

    def sightings(self) -> Sightings:
        """Return what was seen so far."""
        seen = join_sightings(self._parts)
        fates = seen.fates.copy()
        for fate, noted in self._fates.items():
            left = Counter(noted)
            for row, source_id in enumerate(seen.source_ids) if left else ():
                if left[source_id] and fates[row] == Fate.TAKEN:
                    left[source_id] -= 1
                    fates[row] = fate
        return Sightings(seen.ids, seen.source_ids, seen.contents, fates)


def write_sightings(path: AnyPath, seen: Sightings, token: str = "") -> None:
    """Store the sightings of a range atomically.

    Args:
        path: The file.
        seen: What was seen.
        token: Which extract it was that saw them, for who must not take another one's.

    Raises:
        StagingError: The disk is full, or the folder cannot be written.
    """
    originals = [
        None if original == record_id and type(original) is type(record_id) else id_text(original)
        for record_id, original in zip(seen.ids, seen.source_ids, strict=True)
    ]
    columns = {
        "id": text_array(map(id_text, seen.ids)),
        "source_id": text_array(originals),
        "content": digest_array(seen.contents),
        "fate": number_array(seen.fates),
    }
    table = pa.table(columns).replace_schema_metadata({_TOKEN: token.encode()})

    def write(temporary: AnyPath) -> None:
        with arrow_sink(temporary) as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    write_atomically(path, write)


def read_sightings(path: AnyPath, token: str | None = None) -> Sightings | None:
    """Return the sightings of a range, or None where there are none: a version before there were any wrote its state.

    Args:
        path: The file.
        token: None takes those of any extract; there are none of this one where another came after it.

    Raises:
        StagingError: The file is damaged.
    """
    if not path.exists():
        return None
    with reading_errors(path), arrow_source(path) as source:
        table = pa.ipc.open_file(source).read_all()
        if token is not None and (table.schema.metadata or {}).get(_TOKEN) != token.encode():
            return None
        fates = numbers_of(table["fate"].combine_chunks()).astype(np.int8)  # a copy, off the file
    ids = [id_from_text(text) for text in texts_of(table["id"]) if text is not None]
    originals = [None if text is None else id_from_text(text) for text in texts_of(table["source_id"])]
    source_ids = [ids[row] if original is None else original for row, original in enumerate(originals)]
    return Sightings(ids, source_ids, table["content"].to_pylist(), fates)
