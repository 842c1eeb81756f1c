"""The quarantine file: records that were set aside, as they were read, in a form that people can read and repair.

Belongs here: the columns of the file, writing and reading it. Does not belong here: who sets records aside
(``steps/set_aside.py``), loading a repaired file (``steps/replay.py``).

One Arrow IPC file (Feather) per range, one row per record. What pandas and pyarrow show:

    stage      transform, pack, load, replay: the step that set the record aside
    reason     why, in words
    error      type of the error
    time       when (UTC)
    range      key of the range, which also says of which migration and generation
    source_id  id of the record as it was read, as text of `records.id_text`: string:a, int:7, uuid:...
    target_id  the same as the target would have named it; null where it never came so far

    id         what follows is the record as it was read, to be repaired: its id, at first the same as source_id,
    document   its document as JSON text, null where it has none,
    payload    its payload as JSON text,
    partition  its partition, where the source has some,
    dense:<name>, sparse:<name>:indices, sparse:<name>:values, multi:<name>    its vectors, as in ``arrow.py``

A text that has no UTF-8 form (a lone surrogate) stands as ``json:`` and JSON text in the three id columns.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rag_migration_pipeline.arrow import from_arrow, reading_errors, to_arrow
from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.errors import StagingError
from rag_migration_pipeline.payloads import decode, encode
from rag_migration_pipeline.records import RecordBatch, RecordId, Rejection, id_from_text, id_text
from rag_migration_pipeline.state_files import staging_errors, write_atomically

ACCOUNT = ("stage", "reason", "error", "time", "range", "source_id", "target_id")
"""Columns that say what happened; the others are the record."""

_TIME = pa.timestamp("us", tz="UTC")
_RECORD_TEXTS = ("id", "document", "payload")
_OTHER_TEXTS = ("partition",)


@dataclass(frozen=True)
class SetAsideRecords:
    """Records of one range that were set aside.

    Attributes:
        records: The records as they were read.
        rejections: One per record; ids as the source names them.
        target_ids: Per record the id as the target names it, or None.
    """

    records: RecordBatch
    rejections: Sequence[Rejection]
    target_ids: Sequence[RecordId | None]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)


@dataclass(frozen=True)
class Quarantine:
    """A quarantine file as it was read; rows that somebody edited are looked at only when they are asked for.

    Attributes:
        table: All columns.
    """

    table: pa.Table

    def __len__(self) -> int:
        """Return the number of records."""
        return int(self.table.num_rows)

    @property
    def rejections(self) -> list[Rejection]:
        """Why each record was set aside; ids as the source names them."""
        columns = (self.table.column(name).to_pylist() for name in ("source_id", "stage", "reason", "error"))
        return [Rejection(_id(text), stage, reason, error) for text, stage, reason, error in zip(*columns, strict=True)]

    @property
    def range_keys(self) -> list[str]:
        """The range of each record."""
        keys: list[str] = self.table.column("range").to_pylist()
        return keys

    @property
    def target_ids(self) -> list[RecordId | None]:
        """The id of each record as the target would have named it, where it is known."""
        return [text and _id(text) for text in self.table.column("target_id").to_pylist()]

    @property
    def records(self) -> RecordBatch:
        """All records.

        Raises:
            ValueError: A row is no record any more: names row and column.
        """
        return self.record_rows(0, len(self))

    def record_rows(self, start: int, stop: int, like: RecordBatch | None = None) -> RecordBatch:
        """Return the records [start, stop).

        Args:
            start: First row.
            stop: Row after the last.
            like: A batch (it may be empty) whose vectors have the layouts and types that the records are to have.

        Raises:
            ValueError: A row is no record: names row and column.
        """
        part = self.table.slice(start, stop - start)
        wanted = to_arrow(like).schema if like is not None else None
        arrays: dict[str, pa.Array] = {}
        for name in part.schema.names:
            if name in _RECORD_TEXTS + _OTHER_TEXTS:
                arrays[name] = pa.array(list(_bytes_of(name, part.column(name), start)), pa.large_binary())
            elif name.partition(":")[0] in ("dense", "sparse", "multi"):
                arrays[name] = _vectors(part.column(name), name, wanted)
        missing = sorted(set(_RECORD_TEXTS if wanted is None else wanted.names) - arrays.keys())
        if missing:
            raise ValueError(f"the file has no column {', '.join(map(repr, missing))}")
        return from_arrow(pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays)))

    @property
    def columns(self) -> frozenset[str]:
        """The columns that make a record, and those of the account."""
        return frozenset(self.table.schema.names)

    def take(self, rows: Sequence[int]) -> "Quarantine":
        """Return only these rows."""
        return Quarantine(self.table.take(pa.array(rows, pa.int64())))

    def of_range(self, key: str) -> "Quarantine":
        """Return the same records as of another range."""
        position = self.table.schema.get_field_index("range")
        return Quarantine(self.table.set_column(position, "range", pa.array([key] * len(self), pa.string())))

    def with_reasons(self, rows: Sequence[int], rejections: Sequence[Rejection]) -> "Quarantine":
        """Return only these rows, each with a new stage, reason, error and time."""
        table = self.take(rows).table
        for name, values in _account(rejections, [], table.column("range").to_pylist()).items():
            if name in ("stage", "reason", "error", "time"):
                position = table.schema.get_field_index(name)
                table = table.set_column(position, name, values.cast(table.schema.field(position).type))
        return Quarantine(table)


def make_quarantine(range_key: str, parts: Sequence[SetAsideRecords]) -> Quarantine:
    """Return the records of a range that were set aside as a table; at least one part."""
    records = concatenate([part.records for part in parts])
    rejections = [rejection for part in parts for rejection in part.rejections]
    target_ids = [target_id for part in parts for target_id in part.target_ids]
    arrays = _account(rejections, target_ids, [range_key] * len(records))
    staged = to_arrow(records)
    for name in staged.schema.names:
        arrays.setdefault(name, staged.column(name))
    documents = records.documents or [None] * len(records)
    arrays["id"] = pa.array([_text(record_id) for record_id in records.ids], pa.string())
    arrays["document"] = pa.array([None if d is None else encode(d).strip() for d in documents], pa.string())
    if records.partitions is not None:
        arrays["partition"] = pa.array(records.partitions, pa.string())
    arrays["payload"] = pa.array([encode(payload).strip() for payload in records.payloads], pa.string())
    return Quarantine(pa.table(arrays))


def join_quarantines(parts: Sequence[Quarantine]) -> Quarantine:
    """Return all records of the parts; columns that one of them lacks are null there."""
    return Quarantine(pa.concat_tables([part.table for part in parts], promote_options="permissive"))


def write_quarantine(path: Path, quarantine: Quarantine | None) -> None:
    """Store the records that were set aside in a range, atomically; without any the file is removed.

    Raises:
        StagingError: The disk is full, or the folder cannot be written.
    """
    if quarantine is None or not len(quarantine):
        with staging_errors(path):
            path.unlink(missing_ok=True)
        return

    def write(temporary: Path) -> None:
        schema = quarantine.table.schema
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(quarantine.table)

    write_atomically(path, write)


_IF_DAMAGED = (
    "A repaired copy: write it once more, as an Arrow file (Feather). The file in the state folder: remove it, and "
    "launch its range again."
)


def read_quarantine(path: Path) -> Quarantine:
    """Return a quarantine file, as this project wrote it or as somebody wrote it anew (``DataFrame.to_feather``).

    Raises:
        StagingError: It is missing or damaged, or its columns are not those of a quarantine file.
    """
    if not path.is_file():
        raise StagingError(
            f"there is no quarantine file {path}.",
            todo="Give the full path of a file under quarantine/ in the migration's state folder, or of a copy.",
            path=str(path),
        )
    with reading_errors(path, _IF_DAMAGED), pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all().replace_schema_metadata(None).combine_chunks()
    missing = [name for name in (*ACCOUNT, *_RECORD_TEXTS) if name not in table.schema.names]
    if missing:
        raise StagingError(
            f"{path} is no quarantine file: it has no column {', '.join(map(repr, missing))}.",
            todo="Keep all columns of the file that is repaired.",
            path=str(path),
        )
    return Quarantine(table)


def read_quarantine_if_any(path: Path) -> Quarantine | None:
    """Return a quarantine file, or None where there is none."""
    return read_quarantine(path) if path.exists() else None


def _account(
    rejections: Sequence[Rejection], target_ids: Sequence[RecordId | None], range_keys: Sequence[str]
) -> dict[str, pa.Array]:
    now = datetime.now(UTC)
    return {
        "stage": pa.array([item.stage for item in rejections], pa.string()),
        "reason": pa.array([_utf8(item.reason) for item in rejections], pa.string()),
        "error": pa.array([item.error for item in rejections], pa.string()),
        "time": pa.array([now] * len(rejections), _TIME),
        "range": pa.array(range_keys, pa.string()),
        "source_id": pa.array([_text(item.record_id) for item in rejections], pa.string()),
        "target_id": pa.array([None if i is None else _text(i) for i in target_ids], pa.string()),
    }


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _text(record_id: RecordId) -> str:
    text = id_text(record_id)
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"json:{json.dumps(text)}"
    return text


def _id(text: str) -> RecordId:
    return id_from_text(json.loads(text.removeprefix("json:")) if text.startswith("json:") else text)


def _bytes_of(name: str, column: pa.ChunkedArray, start: int) -> Iterator[bytes | None]:
    """Yield the values of a text column as ``arrow.py`` keeps them."""
    for row, text in enumerate(column.to_pylist(), start=start):
        try:
            value = _value(name, text)
        except (ValueError, TypeError) as error:
            raise ValueError(f"row {row}, column {name!r}: {error}") from error
        yield None if value is None else value.encode("utf-8", "surrogatepass")


def _value(name: str, text: Any) -> str | None:
    if name in ("document", "partition") and text is None:
        return None
    if not isinstance(text, str):
        raise TypeError(f"expected text, got {type(text).__name__}")
    if name == "id":
        return id_text(_id(text))
    if name == "partition":
        return text
    value = decode(f" {text}")  # the blank chooses the reader that keeps integers of any size
    expected = dict if name == "payload" else str
    if value is None and name == "document":
        return None
    if not isinstance(value, expected):
        raise TypeError(f"expected JSON of a {expected.__name__}, got {type(value).__name__}")
    return encode(value) if name == "payload" else str(value)


def _vectors(column: pa.ChunkedArray, name: str, wanted: pa.Schema | None) -> pa.Array:
    array = column.combine_chunks()
    type_ = array.type
    if wanted is not None and name in wanted.names:
        type_ = wanted.field(name).type
    elif name.startswith("dense:") and not pa.types.is_fixed_size_list(type_):
        lengths = [len(value) for value in array.to_pylist() if value is not None]
        element = np.float32 if pa.types.is_float64(type_.value_type) else type_.value_type.to_pandas_dtype()
        type_ = pa.list_(pa.from_numpy_dtype(element), lengths[0] if lengths else 0)
    if array.type.equals(type_):
        return array
    try:
        return pa.array(array.to_pylist(), type_)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ValueError(f"column {name!r}: expected {type_}: {error}") from error
