"""Written batches: what a load keeps of a batch that the target acknowledged, so that it can be validated without it.

Belongs here: the content and the file of one batch. Does not belong here: when it is noted and read
(``orchestration/staging.py``), the comparison (``steps/receipt_comparison.py``).

The file is a receipt (``receipts.py``) with the vectors beside it that the target does not keep bit for bit: of these
a receipt has sketches only, which are coarser than the comparison of a range is.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from rag_migration_pipeline.arrow import vector_arrays, vector_columns
from rag_migration_pipeline.digests import DIGEST_BYTES
from rag_migration_pipeline.receipts import Receipt, receipt_from_table, receipt_to_table
from rag_migration_pipeline.records import RecordId, VectorColumn, id_from_text, id_text
from rag_migration_pipeline.remote_files import AnyPath
from rag_migration_pipeline.state_files import damaged, staging_errors, write_atomically

_SKIPPED = b"skipped_source_ids"


@dataclass(frozen=True)
class WrittenBatch:
    """A batch as the target acknowledged it.

    Attributes:
        receipt: Digests of the records that were written, and how many were written, skipped and rejected.
        vectors: By name, the vectors that the target does not keep bit for bit, as they were given.
        skipped_source_ids: The source's ids of the records that stay as the target had them.
    """

    receipt: Receipt
    vectors: Mapping[str, VectorColumn]
    skipped_source_ids: Sequence[RecordId] = ()


def write_written(path: AnyPath, batch: WrittenBatch) -> None:
    """Store a batch, with a digest of the file; not synced: what a crash of the machine leaves of it is damaged.

    Raises:
        StagingError: The disk is full, or the folder cannot be written.
    """
    table = receipt_to_table(batch.receipt)
    for name, column in batch.vectors.items():
        for label, array in vector_arrays(name, column).items():
            table = table.append_column(label, array)
    skipped = [id_text(record_id).encode("utf-8", "surrogatepass").hex() for record_id in batch.skipped_source_ids]
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _SKIPPED: orjson.dumps(skipped)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content = sink.getvalue()

    def write(to: AnyPath) -> None:
        with to.open("wb") as file:
            file.write(_digest(content))
            file.write(content)

    write_atomically(path, write, is_synced=False)


def read_written(path: AnyPath) -> WrittenBatch:
    """Return a stored batch.

    Raises:
        StagingError: It is missing or damaged.
    """
    with staging_errors(path):
        data = path.read_bytes()
    content = memoryview(data)[DIGEST_BYTES:]
    if _digest(content) != data[:DIGEST_BYTES]:
        raise damaged(path, "its digest is another one", "Run the range again.")
    table = pa.ipc.open_file(pa.py_buffer(content)).read_all().combine_chunks()
    metadata = dict(table.schema.metadata or {})
    skipped = orjson.loads(metadata.pop(_SKIPPED, b"[]"))
    vectors = vector_columns(table.to_batches()[0]) if len(table) else {}
    source_ids = [id_from_text(bytes.fromhex(text).decode("utf-8", "surrogatepass")) for text in skipped]
    return WrittenBatch(receipt_from_table(table.replace_schema_metadata(metadata)), vectors, source_ids)


def _digest(content: Any) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
