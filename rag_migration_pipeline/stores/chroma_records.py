"""Records as Chroma's requests and answers hold them, and what of a batch Chroma would change.

Belongs here: columns <-> answers, comparing what was read back with what was written. Does not belong here: the
requests (``chroma.py``).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    DenseColumn,
    Metric,
    Payload,
    RecordBatch,
    RecordId,
    Rejection,
    VectorColumn,
    VectorSpec,
)
from rag_migration_pipeline.stores.chroma_schema import URI_KEY

CONTENTS = ("metadatas", "documents", "uris")
EVERYTHING = ("embeddings", *CONTENTS)

_MIN_LENGTH, _MAX_LENGTH = 1e-18, 1e19
"""Vectors of a cosine collection outside come back as zeros, NaN or infinities: the engine squares the components in
float32. Tried on 1.5.9 with lengths 1e-40 to 1e38; the edges seen are near 1e-21 and 1.8e19."""


def batch_of(ids: Sequence[str], answer: Any, vector: VectorSpec) -> RecordBatch:
    """Return the records of an answer in the order of these ids; ids that are not in the answer are left out.

    Args:
        ids: Ids as asked for, each once; the store answers in its own order.
        answer: What the client's ``_get`` returned for `EVERYTHING`.
        vector: The collection's vector.
    """
    rows = _rows_of(ids, answer)
    return _with_contents(answer, rows, {DEFAULT_VECTOR: _dense(answer, rows, vector)})


def contents_of(ids: Sequence[str], answer: Any) -> RecordBatch:
    """Return the same without vectors, of an answer for `CONTENTS`."""
    return _with_contents(answer, _rows_of(ids, answer), {})


def _rows_of(ids: Sequence[str], answer: Any) -> list[int]:
    position = {record_id: row for row, record_id in enumerate(answer["ids"])}
    return [position[record_id] for record_id in ids if record_id in position]


def _with_contents(answer: Any, rows: list[int], vectors: Mapping[str, VectorColumn]) -> RecordBatch:
    payloads = [payload_of(answer, row) for row in rows]
    documents = [answer["documents"][row] for row in rows]
    return RecordBatch([answer["ids"][row] for row in rows], vectors, payloads, documents)


def payload_of(answer: Any, row: int) -> Payload:
    """Return the payload of one record of an answer."""
    payload: Payload = dict(answer["metadatas"][row] or {})
    uri = answer["uris"][row]
    if uri is not None:
        payload[URI_KEY] = uri
    return payload


def _dense(answer: Any, rows: list[int], vector: VectorSpec) -> DenseColumn:
    embeddings = [answer["embeddings"][row] for row in rows]
    if not embeddings:
        return DenseColumn(np.zeros((0, vector.dimension or 0), dtype=np.float32))
    present = None
    if any(embedding is None for embedding in embeddings):
        present = np.array([embedding is not None for embedding in embeddings], dtype=np.bool_)
        width = next((len(embedding) for embedding in embeddings if embedding is not None), vector.dimension or 0)
        embeddings = [[0.0] * width if embedding is None else embedding for embedding in embeddings]
    # A component that is not finite comes over HTTP as null and becomes NaN here.
    return DenseColumn(np.array(embeddings, dtype=np.float32), present)


def split_uris(payloads: Sequence[Payload]) -> tuple[list[Payload | None], list[str | None] | None]:
    """Return metadata (None where there are none) and URIs (None where no record has one) of payloads."""
    if not any(URI_KEY in payload for payload in payloads):
        return [payload or None for payload in payloads], None
    rest = [{key: value for key, value in payload.items() if key != URI_KEY} for payload in payloads]
    return [payload or None for payload in rest], [payload.get(URI_KEY) for payload in payloads]


def is_same_payload(wanted: Payload, found: Payload) -> bool:
    """Return whether two payloads that Chroma can hold are equal, types included (1 is not 1.0 nor True)."""
    if wanted != found:
        return False
    return all(_kind(value) == _kind(found[key]) for key, value in wanted.items())


def _kind(value: Any) -> tuple[type, type | None]:
    return type(value), type(value[0]) if type(value) is list and value else None


def require_vectors(batch: RecordBatch, collection: str) -> None:
    """Refuse a batch without the one vector that every record of a Chroma collection has.

    Raises:
        SchemaCompatibilityError: The batch has no unnamed dense vectors.
    """
    if not isinstance(batch.vectors.get(DEFAULT_VECTOR), DenseColumn):
        raise SchemaCompatibilityError(
            f"the batch has no dense vectors, and every record of collection {collection!r} has one.",
            todo="Name the source's vector that the target takes.",
            collection=collection,
        )


def in_order_of(batch: RecordBatch, rejections: Iterable[Rejection]) -> tuple[Rejection, ...]:
    """Return rejections in the order of the batch's rows, by identity: ids may be of any type and come twice."""
    order = {id(record_id): row for row, record_id in enumerate(batch.ids)}
    return tuple(sorted(rejections, key=lambda rejection: order.get(id(rejection.record_id), len(batch))))


def reasons_against(batch: RecordBatch, vector: VectorSpec) -> dict[int, str]:
    """Return reasons by row why Chroma would not hold a record exactly, beyond what its capabilities say.

    Args:
        batch: Records with the unnamed dense vector.
        vector: The collection's vector.
    """
    reasons: dict[int, str] = {}
    if vector.metric is Metric.COSINE:
        lengths = np.linalg.norm(batch.dense().values.astype(np.float64), axis=1)
        # NaN compares as false and is screened with a reason of its own.
        for found in np.flatnonzero((lengths > _MAX_LENGTH) | ((lengths > 0) & (lengths < _MIN_LENGTH))):
            row = int(found)
            if np.isfinite(lengths[row]):
                reasons[row] = f"the vector's length {lengths[row]:.3g} is lost in a cosine collection of Chroma"
    for row, text in enumerate(batch.documents or ()):
        if text is not None and not _is_text(text):
            reasons[row] = "the document is not a text with a UTF-8 form"
    return reasons


def _is_text(text: Any) -> bool:
    if type(text) is not str:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def can_be_id(record_id: RecordId) -> bool:
    """Return whether a record with that id can exist; asking for others would be refused."""
    return record_id != "" and _is_text(record_id)
