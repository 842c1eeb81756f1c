"""Receipts: what the target was expected to hold of a proven range, small enough to keep for ever.

Belongs here: the columns of a receipt, writing and reading it. Does not belong here: when a range is proven
(``steps/validate.py``).

One Arrow file per range, one row per record: ``id`` (as the target names it), ``source_id`` (null where it is the
same), ``content`` (16 bytes: digest of payload and document) and per vector ``vector:<name>`` (16 bytes: digest of
its numbers) or, where the target does not keep that vector bit for bit, ``sketch:<name>`` (9 float64: see
``digests.py``).
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rag_migration_pipeline.arrow import binary_array, digest_array, number_array, numbers_of, reading_errors
from rag_migration_pipeline.digests import (
    DIGEST_BYTES,
    SKETCH_WIDTH,
    digest_contents,
    digest_vectors,
    sketch_vectors,
)
from rag_migration_pipeline.records import (
    DenseColumn,
    RecordBatch,
    RecordId,
    SparseColumn,
    VectorKind,
    VectorSpec,
    id_from_text,
    id_text,
)
from rag_migration_pipeline.state_files import write_atomically

_IDS_DIGEST = "ids_digest"


@dataclass(frozen=True)
class Receipt:
    """Digests of records, in columns.

    Attributes:
        ids: Ids as the target names them.
        source_ids: Ids as the source names them.
        contents: 16 bytes per record.
        vectors: Per vector name, 16 bytes per record.
        sketches: Per vector name, array of shape (n_records, 9), float64.
        counts: Facts about the range: written, filtered, skipped, rejected, compared.
        ids_digest: Digest of the range's source ids: which range, of which manifest, this is the receipt of.
    """

    ids: Sequence[RecordId]
    source_ids: Sequence[RecordId]
    contents: Sequence[bytes]
    vectors: dict[str, Sequence[bytes]]
    sketches: dict[str, npt.NDArray[np.float64]]
    counts: dict[str, int] = field(default_factory=dict)
    ids_digest: str = ""

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.ids)

    def without(self, ids: Collection[RecordId]) -> "Receipt":
        """Return the receipt without the records of these ids (as the target names them); counts stay as they are."""
        rows = [row for row, record_id in enumerate(self.ids) if record_id not in ids]
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            source_ids=[self.source_ids[row] for row in rows],
            contents=[self.contents[row] for row in rows],
            vectors={name: [digests[row] for row in rows] for name, digests in self.vectors.items()},
            sketches={name: values[rows] for name, values in self.sketches.items()},
        )

    @property
    def digest(self) -> str:
        """Digest of everything that the target was expected to hold of these records, in their order."""
        total = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for content in self.contents:
            total.update(content)
        for digests in self.vectors.values():
            for digest in digests:
                total.update(digest)
        for sketches in self.sketches.values():
            total.update(sketches.tobytes())
        return total.hexdigest()

    def count_zeros(self, vector: VectorSpec) -> int:
        """Return how many records have a zero vector of that name; dense ones only."""
        if vector.kind is not VectorKind.DENSE or not vector.dimension:
            return 0
        if vector.name in self.sketches:
            return int((self.sketches[vector.name][:, -1] == 0).sum())
        (zero,) = digest_vectors(DenseColumn(np.zeros((1, vector.dimension), np.float32)))
        return list(self.vectors.get(vector.name, ())).count(zero)


def make_receipt(
    expected: RecordBatch, source_ids: Sequence[RecordId], *, inexact: Collection[str] = frozenset()
) -> Receipt:
    """Return the receipt of records as the target was given them.

    Args:
        expected: Packed records.
        source_ids: The source's id of each.
        inexact: Names of the vectors that the target does not keep bit for bit; they are sketched. Never sparse ones.
    """
    vectors: dict[str, Sequence[bytes]] = {}
    sketches: dict[str, npt.NDArray[np.float64]] = {}
    for name, column in expected.vectors.items():
        if name in inexact and not isinstance(column, SparseColumn):
            sketches[name] = sketch_vectors(column)
        else:
            vectors[name] = digest_vectors(column)
    return Receipt(list(expected.ids), list(source_ids), digest_contents(expected), vectors, sketches)


def join_receipts(parts: Iterable[Receipt]) -> Receipt:
    """Return one receipt for all records of the parts, counts added up."""
    items = list(parts)
    full = [item for item in items if len(item)]
    names = {name for item in full for name in item.vectors}
    sketched = {name for item in full for name in item.sketches}
    counts: dict[str, int] = {}
    for item in items:
        for name, value in item.counts.items():
            counts[name] = counts.get(name, 0) + value
    return Receipt(
        ids=[i for item in items for i in item.ids],
        source_ids=[i for item in items for i in item.source_ids],
        contents=[c for item in items for c in item.contents],
        vectors={name: [d for item in full for d in item.vectors[name]] for name in names},
        sketches={name: np.concatenate([item.sketches[name] for item in full]) for name in sketched},
        counts=counts,
    )


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Store a receipt atomically: its existence says that the range is proven."""
    table = receipt_to_table(receipt)

    def write(temporary: Path) -> None:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    write_atomically(path, write)


def read_receipt(path: Path) -> Receipt:
    """Return a stored receipt.

    Raises:
        StagingError: It is missing or damaged.
    """
    with reading_errors(path), pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    return receipt_from_table(table)


def receipt_from_table(table: pa.Table) -> Receipt:
    """Return the receipt that `receipt_to_table` made a table of; columns of others are passed over."""
    ids = [id_from_text(v.decode("utf-8", "surrogatepass")) for v in table["id"].to_pylist()]
    originals = [v and id_from_text(v.decode("utf-8", "surrogatepass")) for v in table["source_id"].to_pylist()]
    vectors: dict[str, Sequence[bytes]] = {}
    sketches: dict[str, npt.NDArray[np.float64]] = {}
    for label in table.schema.names:
        kind, _, name = label.partition(":")
        if kind == "vector":
            vectors[name] = table[label].to_pylist()
        elif kind == "sketch":
            flat = numbers_of(table[label].combine_chunks().flatten())
            sketches[name] = flat.reshape(-1, SKETCH_WIDTH)
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    ids_digest = metadata.pop(_IDS_DIGEST, "")
    counts = {name: int(value) for name, value in metadata.items()}
    source_ids = [ids[row] if original is None else original for row, original in enumerate(originals)]
    return Receipt(ids, source_ids, table["content"].to_pylist(), vectors, sketches, counts, ids_digest)


def read_counts(path: Path) -> dict[str, int]:
    """Return the counts of a stored receipt, without its records.

    Raises:
        StagingError: It is missing or damaged.
    """
    with reading_errors(path), pa.memory_map(str(path)) as source:
        metadata = pa.ipc.open_file(source).schema.metadata or {}
    return {name.decode(): int(value) for name, value in metadata.items() if name.decode() != _IDS_DIGEST}


def is_receipt_of(path: Path, ids_digest: str) -> bool:
    """Return whether there is a receipt at that path, and it is of the range with these ids.

    Raises:
        StagingError: The file is damaged.
    """
    if not path.exists():
        return False
    with reading_errors(path), pa.memory_map(str(path)) as source:
        metadata = pa.ipc.open_file(source).schema.metadata or {}
    return bool(metadata.get(_IDS_DIGEST.encode(), b"").decode() == ids_digest)


def receipt_to_table(receipt: Receipt) -> pa.Table:
    """Return a receipt as a table, its counts as the schema's metadata."""
    pairs = zip(receipt.ids, receipt.source_ids, strict=True)
    arrays: dict[str, pa.Array] = {
        "id": binary_array(map(_bytes, receipt.ids)),
        "source_id": binary_array(None if a == b else _bytes(b) for a, b in pairs),
        "content": digest_array(receipt.contents),
    }
    for name, digests in receipt.vectors.items():
        arrays[f"vector:{name}"] = digest_array(digests)
    for name, sketches in receipt.sketches.items():
        arrays[f"sketch:{name}"] = pa.FixedSizeListArray.from_arrays(number_array(sketches), SKETCH_WIDTH)
    metadata = {_IDS_DIGEST: receipt.ids_digest, **{name: str(value) for name, value in receipt.counts.items()}}
    return pa.table(arrays).replace_schema_metadata(metadata)


def _bytes(record_id: RecordId) -> bytes:
    return id_text(record_id).encode("utf-8", "surrogatepass")
