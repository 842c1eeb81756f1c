"""Record batches as Arrow: the form in which a range waits between steps.

Belongs here: RecordBatch to Arrow IPC and back, exactly. Does not belong here: where the files lie (``state.py``).

Columns: ``id`` (text of `records.id_text`), ``document`` (text or null), ``payload`` (text of `payloads.encode`),
``partition`` (text or null) where records are in partitions, ``source_id`` where a mapping gave other ids, and per
vector ``dense:<name>`` (fixed-size list of its dtype, null where absent), ``sparse:<name>:indices`` /
``sparse:<name>:values`` (lists) or ``multi:<name>`` (lists of lists of float32, which holds the values of every other
element type of a multi-vector exactly), null where absent. Texts are large_binary in UTF-8 with surrogates
passed, because Arrow's strings refuse lone surrogates.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rag_migration_pipeline.digests import DIGEST_BYTES
from rag_migration_pipeline.errors import StagingError
from rag_migration_pipeline.payloads import decode, encode_bytes
from rag_migration_pipeline.records import (
    DenseColumn,
    MultiColumn,
    RecordBatch,
    RecordId,
    SparseColumn,
    VectorColumn,
    id_from_text,
    id_text,
)
from rag_migration_pipeline.remote_files import AnyPath
from rag_migration_pipeline.state_files import staging_errors, write_atomically

Numbers = npt.NDArray[Any]


def to_arrow(batch: RecordBatch) -> pa.RecordBatch:
    """Return the records as an Arrow record batch; dense vectors are not copied."""
    columns: dict[str, pa.Array] = {
        "id": text_array([id_text(record_id) for record_id in batch.ids]),
        "document": text_array(batch.documents if batch.documents is not None else [None] * len(batch)),
        "payload": binary_array(map(encode_bytes, batch.payloads)),
    }
    if batch.partitions is not None:
        columns["partition"] = text_array(batch.partitions)
    if batch.source_ids is not None:
        columns["source_id"] = text_array([id_text(record_id) for record_id in batch.source_ids])
    for name, column in batch.vectors.items():
        columns.update(vector_arrays(name, column))
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def from_arrow(table: pa.RecordBatch) -> RecordBatch:
    """Return the records that `to_arrow` wrote; dense vectors are views of the Arrow memory where nothing is absent."""
    return RecordBatch(
        ids=_ids(table.column("id")),
        vectors=vector_columns(table),
        payloads=[decode(value) for value in table.column("payload").to_pylist()],
        documents=texts_of(table.column("document")),
        partitions=texts_of(table.column("partition")) if "partition" in table.schema.names else None,
        source_ids=_ids(table.column("source_id")) if "source_id" in table.schema.names else None,
    )


def write_batches(path: AnyPath, batches: Iterable[RecordBatch]) -> int:
    """Write batches to an Arrow IPC file, atomically; returns the number of records.

    Memory holds one batch at a time. An empty iterable writes a file without batches.

    Raises:
        StagingError: The disk is full or the folder cannot be written.
    """
    total = 0

    def write(temporary: AnyPath) -> None:
        nonlocal total
        writer = None
        with arrow_sink(temporary) as sink:
            try:
                for batch in batches:
                    table = to_arrow(batch)
                    writer = writer or pa.ipc.new_file(sink, table.schema)
                    writer.write_batch(table)
                    total += len(batch)
            finally:
                if writer is not None:
                    writer.close()

    write_atomically(path, write)
    return total


@contextmanager
def arrow_sink(path: AnyPath) -> Iterator[Any]:
    """Give what Arrow writes a file to; on an object store it is sent in parts."""
    if isinstance(path, Path):
        with pa.OSFile(str(path), "wb") as sink:
            yield sink
    else:
        with path.open("wb") as file:
            yield pa.PythonFile(file, "w")


@contextmanager
def arrow_source(path: AnyPath) -> Iterator[Any]:
    """Give what Arrow reads a file from: memory-mapped, or from an object store in the pieces that it asks for."""
    if isinstance(path, Path):
        with pa.memory_map(str(path)) as source:
            yield source
    else:
        with path.open("rb") as file:
            yield pa.PythonFile(file, "r")


def size_of(path: AnyPath) -> int:
    """Return the size of a file that is there, in bytes."""
    return path.stat().st_size if isinstance(path, Path) else path.size() or 0


def read_batches(path: AnyPath) -> Iterator[RecordBatch]:
    """Yield the batches of a file, one at a time; a local one is memory-mapped.

    Raises:
        StagingError: The file is missing or damaged.
    """
    with reading_errors(path):
        if size_of(path) == 0:
            return
        with arrow_source(path) as source:
            reader = pa.ipc.open_file(source)
            for position in range(reader.num_record_batches):
                yield from_arrow(reader.get_batch(position))


_IF_DAMAGED = (
    "Remove it and run again: a staged file or a receipt is made anew. Where it holds the manifest's ids, remove the "
    "migration's state folder."
)


@contextmanager
def reading_errors(path: AnyPath, if_damaged: str = _IF_DAMAGED) -> Iterator[None]:
    """Turn errors of reading an Arrow or Parquet file into ours, naming the path.

    Args:
        path: The file.
        if_damaged: What to do where it is damaged.

    Raises:
        StagingError: The file is missing, cannot be read, or is damaged.
    """
    try:
        with staging_errors(path):
            yield
    except pa.ArrowException as error:
        raise StagingError(f"{path} is damaged: {str(error)[:200]}.", todo=if_damaged, path=str(path)) from error


def text_array(values: Iterable[str | None]) -> pa.Array:
    """Return texts as an Arrow column in which lone surrogates survive."""
    return binary_array(None if value is None else value.encode("utf-8", "surrogatepass") for value in values)


def binary_array(values: Iterable[bytes | None]) -> pa.Array:
    """Return bytes as an Arrow column.

    Like the other two it is made of buffers: ``pa.array`` imports pandas, which takes longer than planning does.
    """
    items = list(values)
    present = [item is not None for item in items]
    parts = [item or b"" for item in items]
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum(list(map(len, parts)), out=offsets[1:])
    validity = None if all(present) else pa.py_buffer(np.packbits(present, bitorder="little"))
    return pa.Array.from_buffers(
        pa.large_binary(), len(parts), [validity, pa.py_buffer(offsets), pa.py_buffer(b"".join(parts))]
    )


def digest_array(digests: Sequence[bytes]) -> pa.Array:
    """Return digests as an Arrow column of fixed width."""
    kind = pa.binary(DIGEST_BYTES)
    return pa.Array.from_buffers(kind, len(digests), [None, pa.py_buffer(b"".join(digests))])


def number_array(values: Numbers) -> pa.Array:
    """Return numbers as an Arrow column, row by row; not copied where they lie so already."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat)])


_NUMPY_TYPES = {
    pa.from_numpy_dtype(np.dtype(name)): np.dtype(name)
    for name in ("float16", "float32", "float64", "int8", "uint8", "int32", "uint32", "int64", "uint64")
}


def numbers_of(column: pa.Array) -> Numbers:
    """Return the numbers of a column, shape (n,), NaN for nulls; a view where there are none.

    That is what ``to_numpy`` does, which imports pandas.
    """
    if column.null_count:  # of a file that pandas wrote
        return np.asarray(column.to_numpy(zero_copy_only=False))
    kind = _NUMPY_TYPES[column.type]
    return np.frombuffer(column.buffers()[1] or b"", kind, len(column), column.offset * kind.itemsize)


def _ids(column: pa.Array) -> list[RecordId]:
    return [id_from_text(_text(value)) for value in column.to_pylist()]


def texts_of(column: pa.Array) -> list[str | None]:
    """Return the texts that `text_array` wrote."""
    return [None if value is None else _text(value) for value in column.to_pylist()]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")


def vector_arrays(name: str, column: VectorColumn) -> dict[str, pa.Array]:
    """Return a vector's columns by label; dense ones are not copied."""
    if isinstance(column, DenseColumn):
        flat = number_array(column.values)
        mask = None if column.present is None else pa.array(~column.present)
        return {f"dense:{name}": pa.FixedSizeListArray.from_arrays(flat, column.values.shape[1], mask=mask)}
    if isinstance(column, SparseColumn):
        return {
            f"sparse:{name}:indices": _lists(column.indices, _joined(column.indices, np.uint32)),
            f"sparse:{name}:values": _lists(column.values, _joined(column.values, np.float32)),
        }
    return {f"multi:{name}": _lists(column.values, _matrices(column.values))}


def _joined(items: Sequence[Numbers | None], element_type: type) -> pa.Array:
    found = [item.reshape(-1) for item in items if item is not None]
    return number_array(np.concatenate(found or [np.zeros(0)]).astype(element_type, copy=False))


def _matrices(items: Sequence[Numbers | None]) -> pa.Array:
    """Return all matrices' rows as lists; not of fixed size, or a batch without any would have another schema."""
    found = [item for item in items if item is not None and len(item)]
    count, width = sum(map(len, found)), found[0].shape[1] if found else 0
    offsets = np.arange(count + 1, dtype=np.int64) * width
    return pa.LargeListArray.from_arrays(number_array(offsets), _joined(items, np.float32))


def _lists(items: Sequence[Numbers | None], children: pa.Array) -> pa.LargeListArray:
    """Return one list per item, which takes as many children as the item is long; null where there is none."""
    offsets = np.zeros(len(items) + 1, dtype=np.int64)
    np.cumsum([0 if item is None else len(item) for item in items], out=offsets[1:])
    absent = np.fromiter((item is None for item in items), dtype=np.bool_, count=len(items))
    return pa.LargeListArray.from_arrays(number_array(offsets), children, mask=pa.array(absent))


def vector_columns(table: pa.RecordBatch) -> dict[str, VectorColumn]:
    """Return the vectors by name that `vector_arrays` made columns of; other columns are passed over."""
    columns: dict[str, VectorColumn] = {}
    for label in table.schema.names:
        kind, _, name = label.partition(":")
        array = table.column(label)
        if kind == "dense":
            columns[name] = _dense_column(array)
        elif kind == "multi":
            columns[name] = MultiColumn(_split(array))
        elif kind == "sparse" and name.endswith(":indices"):
            base = name.removesuffix(":indices")
            columns[base] = SparseColumn(_split(array), _split(table.column(f"sparse:{base}:values")))
    return columns


def _dense_column(array: pa.FixedSizeListArray) -> DenseColumn:
    dimension = array.type.list_size
    flat = numbers_of(array.values)
    values = flat[array.offset * dimension : (array.offset + len(array)) * dimension].reshape(len(array), dimension)
    present = None if array.null_count == 0 else ~array.is_null().to_numpy(zero_copy_only=False)
    return DenseColumn(values, present)


def _split(array: pa.LargeListArray) -> tuple[Numbers | None, ...]:
    """Return each list as an array of its own, views of the Arrow memory; lists of lists as matrices."""
    children = array.values
    if pa.types.is_large_list(children.type):
        bounds = numbers_of(children.offsets)
        width = int(bounds[1] - bounds[0]) if len(children) else 0
        values = numbers_of(children.values)[bounds[0] : bounds[-1]].reshape(len(children), width)
    else:
        values = numbers_of(children)
    offsets = numbers_of(array.offsets)
    absent = array.is_null().to_numpy(zero_copy_only=False)
    return tuple(None if absent[row] else values[offsets[row] : offsets[row + 1]] for row in range(len(array)))
