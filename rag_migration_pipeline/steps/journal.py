"""The journal: which ids a migration was about to write, so that a rollback takes away these and no others.

Belongs here: noting ids before a write, what remains of that when a range is proven, reading it all. Does not belong
here: taking anything away (``steps/rollback.py``).

One file per range, a line of JSON per batch: the ids as the target names them, as texts of `records.id_text`. A line is
in the file before the batch is sent, whatever becomes of the process; it is not synced, because a machine that crashes
loses it together with what the store had not synced. A line ``{"refused": [..]}`` takes back ids of the batch before it
that the target did not take. A proven range needs none: its receipt says what was written. What stays then are ids that
the range wrote once and does not claim any more.
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import orjson

from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.records import RecordId, id_from_text, id_text
from rag_migration_pipeline.state import EARLIER, StateFolder
from rag_migration_pipeline.state_files import damaged, staging_errors, write_content

_IF_DAMAGED = "Remove it; a rollback then leaves the records of this range that no receipt claims."


class Journal:
    """The journal of one range; its threads may note at once."""

    def __init__(self, state: StateFolder, range_key: str) -> None:
        """Name the file; nothing is written yet."""
        self._path = state.journal(range_key)
        self._receipt = state.receipt(range_key)
        self._turn = threading.Lock()

    def withdraw_receipt(self) -> None:
        """Remove the receipt that the range has, if any; the ids that it claims go into the journal first.

        Raises:
            StagingError: The disk is full, or the folder cannot be written.
        """
        if self._receipt.exists():
            self.note(read_receipt(self._receipt).ids)
        with staging_errors(self._receipt):
            self._receipt.unlink(missing_ok=True)

    def note(self, ids: Iterable[RecordId]) -> None:
        """Note ids before they are written.

        Raises:
            StagingError: The disk is full, or the folder cannot be written.
        """
        self._append(_line(ids))

    def take_back(self, refused: Iterable[RecordId]) -> None:
        """Note which ids of a batch the target did not take.

        Raises:
            StagingError: The disk is full, or the folder cannot be written.
        """
        self._append(b'{"refused":' + _line(refused).strip() + b"}\n")

    def _append(self, line: bytes) -> None:
        with self._turn, staging_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab+") as file:
                _cut_torn_line(file)
                file.write(line)

    def settle(self, proven: Iterable[RecordId]) -> None:
        """Forget what the receipt says now; ids that it does not claim stay."""
        left = _read_texts(self._path).difference(map(id_text, proven))
        _store(self._path, set(map(id_from_text, left)))


def noted_ids(state: StateFolder) -> set[RecordId]:
    """Return all ids that ranges were about to write and of which no receipt says so."""
    return {record_id for path in state.journals.glob("*/*.jsonl") for record_id in _read(path)}


def ids_noted_in(state: StateFolder, range_key: str) -> set[RecordId]:
    """Return the ids that a range was about to write and of which its receipt does not say so."""
    return _read(state.journal(range_key))


def settle_generations(state: StateFolder, plan_digest: str) -> None:
    """Note, before receipts and journals of other plans go, which of their ids no receipt of this plan claims."""
    receipts = {path: path.parent.name == plan_digest for path in state.receipts.glob("*/*.arrow")}
    journals = [path for path in state.journals.glob("*/*.jsonl") if path.parent.name not in (plan_digest, EARLIER)]
    if journals or not all(receipts.values()):
        path = state.journals / EARLIER / "ids.jsonl"
        ours = _read(path).union(*map(_read, journals))
        for receipt, is_current in receipts.items():
            ours.update(() if is_current else read_receipt(receipt).ids)
        for receipt, is_current in receipts.items():
            ours.difference_update(read_receipt(receipt).ids if is_current else ())
        _store(path, ours)


def _cut_torn_line(file: BinaryIO) -> None:
    """Take away a last line that a kill or a full disk cut off: its batch was not sent, and a line may follow now."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)


def _line(ids: Iterable[RecordId]) -> bytes:
    texts = [id_text(record_id) for record_id in ids]
    try:
        return orjson.dumps(texts) + b"\n"
    except TypeError:  # a lone surrogate
        return json.dumps(texts).encode() + b"\n"


def _store(path: Path, ids: set[RecordId]) -> None:
    if ids:
        write_content(path, _line(ids))
    else:
        with staging_errors(path):
            path.unlink(missing_ok=True)


def _read(path: Path) -> set[RecordId]:
    return set(map(id_from_text, _read_texts(path)))


def _read_texts(path: Path) -> set[str]:
    if not path.exists():
        return set()
    with staging_errors(path):
        lines = path.read_bytes().split(b"\n")
    times: Counter[str] = Counter()
    for line in lines[:-1]:  # what follows the last line break is a line that a kill cut off: its batch was not sent
        try:
            said = json.loads(line)
            if isinstance(said, list):
                times.update(said)
            else:
                times.subtract(said["refused"])
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(path, f"{type(error).__name__}: {error}", _IF_DAMAGED) from error
    return {text for text, count in times.items() if count > 0}
