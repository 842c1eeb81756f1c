"""Record batches joined and cut.

Belongs here: making one batch of several, and several of one. Does not belong here: what a batch is (``records.py``).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from rag_migration_pipeline.records import DenseColumn, MultiColumn, RecordBatch, RecordId, SparseColumn, VectorColumn


def concatenate(batches: Sequence[RecordBatch]) -> RecordBatch:
    """Return one batch holding the records of all, in order.

    Args:
        batches: At least one batch; all with the same vector names and layouts.

    Raises:
        ValueError: No batch was given, or their columns differ.
    """
    if not batches:
        raise ValueError("nothing to concatenate")
    names = list(batches[0].vectors)
    if any(list(batch.vectors) != names for batch in batches):
        raise ValueError(f"batches have different vectors: {[list(batch.vectors) for batch in batches]}")
    return RecordBatch(
        ids=[record_id for batch in batches for record_id in batch.ids],
        vectors={name: _concatenate_columns([batch.vectors[name] for batch in batches]) for name in names},
        payloads=[payload for batch in batches for payload in batch.payloads],
        documents=_concatenate_texts([batch.documents for batch in batches], batches),
        partitions=_concatenate_texts([batch.partitions for batch in batches], batches),
        source_ids=_concatenate_source_ids(batches),
    )


def _concatenate_source_ids(batches: Sequence[RecordBatch]) -> list[RecordId] | None:
    if all(batch.source_ids is None for batch in batches):
        return None
    return [record_id for batch in batches for record_id in (batch.source_ids or batch.ids)]


def _concatenate_texts(
    columns: Sequence[Sequence[str | None] | None], batches: Sequence[RecordBatch]
) -> list[str | None] | None:
    if all(column is None for column in columns):
        return None
    pairs = zip(columns, batches, strict=True)
    return [text for column, batch in pairs for text in (column if column is not None else [None] * len(batch))]


def _concatenate_columns(columns: list[VectorColumn]) -> VectorColumn:
    first = columns[0]
    if isinstance(first, DenseColumn):
        dense = [column for column in columns if isinstance(column, DenseColumn)]
        present = None
        if any(column.present is not None for column in dense):
            present = np.concatenate([_mask(column) for column in dense])
        return DenseColumn(np.concatenate([column.values for column in dense]), present)
    if isinstance(first, SparseColumn):
        sparse = [column for column in columns if isinstance(column, SparseColumn)]
        return SparseColumn(
            tuple(item for column in sparse for item in column.indices),
            tuple(item for column in sparse for item in column.values),
        )
    return MultiColumn(tuple(item for column in columns if isinstance(column, MultiColumn) for item in column.values))


def _mask(column: DenseColumn) -> npt.NDArray[np.bool_]:
    return np.ones(len(column.values), dtype=np.bool_) if column.present is None else column.present


def cut(batch: RecordBatch, max_count: int, max_bytes: int) -> Iterator[RecordBatch]:
    """Cut a batch into consecutive parts of at most that many records and about that many bytes.

    A single record above ``max_bytes`` travels alone: whether it can be stored is the store's to say.

    Args:
        batch: The records.
        max_count: Largest number of records of a part, at least 1.
        max_bytes: Largest size of a part in bytes, by `RecordBatch.size_bytes`.
    """
    if not len(batch):
        return
    mean_bytes = max(1, batch.size_bytes() // len(batch))
    step = max(1, min(max_count, max_bytes // mean_bytes))
    for start in range(0, len(batch), step):
        part = batch.slice(start, start + step) if step < len(batch) else batch
        if len(part) > 1 and part.size_bytes() > max_bytes:
            yield from cut(part, max(1, len(part) // 2), max_bytes)
        else:
            yield part
