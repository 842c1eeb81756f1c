"""Sorting out, before a write, the records of a batch that a store cannot hold exactly.

Belongs here: the check of a batch against a collection's spec and a store's capabilities. Does not belong here: what
a store can hold (`capabilities`), what becomes of the rejected (``steps/load.py``).
"""

from collections.abc import Callable

import numpy as np

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    IdKind,
    MultiColumn,
    Payload,
    RecordBatch,
    RecordId,
    Rejection,
    SparseColumn,
    VectorColumn,
    VectorKind,
    VectorSpec,
    id_kind,
)
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.vectors import all_entries, all_vectors, misfits, presence, row_width

STAGE = "load"
_STRINGS = frozenset({str})


def screen(
    batch: RecordBatch,
    spec: CollectionSpec,
    capabilities: Capabilities,
    screen_payload: Callable[[CollectionSpec, Payload], str | None],
) -> tuple[RecordBatch, list[Rejection]]:
    """Split a batch into what the collection can hold and rejections with reasons.

    Args:
        batch: The records; not changed.
        spec: The collection, as read from the store.
        capabilities: What the store can hold.
        screen_payload: The adapter's own check of a payload against typed fields.

    Returns:
        The records to write (the batch itself where nothing is rejected) and one rejection per record set aside.

    Raises:
        SchemaCompatibilityError: Vector names or dimensions do not fit; this concerns the whole batch.
    """
    check_vectors_fit(batch, spec, has_partial_vectors=capabilities.has_partial_vectors)
    reasons = _vector_reasons(batch, spec, capabilities)
    seen: set[RecordId] = set()
    for position, record_id in enumerate(batch.ids):
        reason = _id_reason(record_id, spec, capabilities)
        if reason is None:  # only then is the id sure to have a hash
            reason = (
                ("the id comes twice in one batch" if record_id in seen else None)
                or payload_reason(batch.payloads[position], capabilities)
                or screen_payload(spec, batch.payloads[position])
            )
            seen.add(record_id)
        if reason is not None:
            reasons.setdefault(position, reason)
    for texts, is_held, what in (
        (batch.documents, capabilities.has_documents, "documents beside the payload"),
        (batch.partitions, capabilities.has_partitions, "partitions"),
    ):
        if texts is not None and not is_held:
            for position, text in enumerate(texts):
                if text is not None:
                    reasons.setdefault(position, f"{capabilities.store} has no {what}")
    if not reasons:
        return batch, []
    rejections = [Rejection(batch.ids[position], STAGE, reason) for position, reason in sorted(reasons.items())]
    return batch.take(position for position in range(len(batch)) if position not in reasons), rejections


_COLUMNS = {VectorKind.DENSE: DenseColumn, VectorKind.SPARSE: SparseColumn, VectorKind.MULTI: MultiColumn}


def check_vectors_fit(batch: RecordBatch, spec: CollectionSpec, *, has_partial_vectors: bool = True) -> None:
    """Refuse a batch whose vectors have other names, layouts or dimensions than the collection.

    Args:
        batch: The records.
        spec: The collection, as read from the store.
        has_partial_vectors: Whether a batch may leave out one of the collection's vectors.

    Raises:
        SchemaCompatibilityError: Lists all mismatches at once.
    """
    expected = {vector.name: vector for vector in spec.vectors}
    problems = [
        f"vector {name!r} is not in the collection (it has {sorted(expected)})"
        for name in batch.vectors
        if name not in expected
    ]
    if len(batch) and not has_partial_vectors:
        problems += [f"vector {name!r} is missing" for name in expected if name not in batch.vectors]
    problems += [
        problem
        for name, column in batch.vectors.items()
        if name in expected and (problem := _misfit(column, expected[name])) is not None
    ]
    if problems:
        raise SchemaCompatibilityError(
            f"the batch does not fit collection {spec.name!r}: {'; '.join(problems)}.",
            todo="Choose another target collection, or create it with the source's vectors.",
            collection=spec.name,
        )


def _misfit(column: VectorColumn, vector: VectorSpec) -> str | None:
    if not isinstance(column, _COLUMNS[vector.kind]):
        return f"vector {vector.name!r}: expected {vector.kind} vectors, got a {type(column).__name__}"
    if isinstance(column, DenseColumn):
        found = {column.values.shape[1]}
    elif isinstance(column, MultiColumn):
        found = {array.shape[1] for array in column.values if array is not None and len(array)}
    else:
        return None
    wrong = sorted(found - {row_width(vector)})
    return f"vector {vector.name!r}: expected dimension {vector.dimension}, got {wrong[0]}" if wrong else None


def _vector_reasons(batch: RecordBatch, spec: CollectionSpec, capabilities: Capabilities) -> dict[int, str]:
    """Return by row why a store would change a vector or not take it."""
    reasons: dict[int, str] = {}
    for name, column in batch.vectors.items():
        vector = spec.vector(name)
        if not capabilities.has_partial_vectors:
            for row in np.flatnonzero(~presence(column)).tolist():
                reasons[row] = f"the record has no vector {name!r}"
        takes_non_finite = capabilities.has_non_finite_vectors and not capabilities.is_normalised(vector)
        if isinstance(column, SparseColumn):
            found = _sparse_reasons(column, capabilities, takes_non_finite=takes_non_finite)
        else:
            is_rounded = capabilities.is_normalised(vector)  # to a direction, which is within the tolerance
            found = _dense_reasons(column, None if is_rounded else vector.dtype, takes_non_finite=takes_non_finite)
        for row, reason in found.items():
            reasons.setdefault(row, f"vector {name!r} {reason}")
    return reasons


def _dense_reasons(column: DenseColumn | MultiColumn, dtype: str | None, *, takes_non_finite: bool) -> dict[int, str]:
    """Return by row what is wrong with dense vectors; those of a multi-vector each count."""
    values, owners = all_vectors(column)
    reasons: dict[int, str] = {}
    if isinstance(column, MultiColumn):
        empty = (row for row, array in enumerate(column.values) if array is not None and not len(array))
        reasons.update(dict.fromkeys(empty, "is a multi-vector of no vectors"))
    if not takes_non_finite and values.dtype.kind == "f":
        # One sum per row finds rows to look at: NaN and infinities survive addition, overflow is looked at twice.
        with np.errstate(over="ignore", invalid="ignore"):
            suspects = np.flatnonzero(~np.isfinite(values.sum(axis=1, dtype=np.float64)))
        odd = [row for row in suspects if not np.isfinite(values[row]).all()]
        reasons.update(dict.fromkeys(map(int, owners[odd]), _NON_FINITE))
    if dtype is not None:
        for row in owners[misfits(values, dtype)]:
            reasons.setdefault(int(row), f"has components that are no {dtype}")
    return reasons


_NON_FINITE = "has NaN or infinite components"


def _sparse_reasons(column: SparseColumn, capabilities: Capabilities, *, takes_non_finite: bool) -> dict[int, str]:
    """Return by row what is wrong with sparse vectors."""
    reasons: dict[int, str] = {}
    for row, (indices, values) in enumerate(zip(column.indices, column.values, strict=True)):
        if (indices is None) is not (values is None) or (
            indices is not None and values is not None and len(indices) != len(values)
        ):
            counts = [None if part is None else len(part) for part in (indices, values)]
            reasons[row] = f"has {counts[0]} indices and {counts[1]} values"
    indices, values, owners = all_entries(column)
    if not takes_non_finite:
        for row in owners[~np.isfinite(values)]:
            reasons.setdefault(int(row), _NON_FINITE)
    for row in owners[(indices < 0) | (indices > capabilities.max_sparse_index)]:
        reasons.setdefault(int(row), f"has an index outside [0, {capabilities.max_sparse_index}]")
    if not capabilities.has_any_sparse_weights:
        empty = [row for row, held in enumerate(column.values) if held is not None and not len(held)]
        for row in [*empty, *owners[~(values > 0)]]:
            reasons.setdefault(int(row), "has a weight that is not positive, or none")
    order = np.lexsort((indices, owners))
    is_twice = (np.diff(owners[order]) == 0) & (np.diff(indices[order].astype(np.int64)) == 0)
    for row in owners[order][1:][is_twice]:
        reasons.setdefault(int(row), "has an index that comes twice")
    return reasons


def _id_reason(record_id: RecordId, spec: CollectionSpec, capabilities: Capabilities) -> str | None:
    try:
        kind = id_kind(record_id)
    except TypeError as error:
        return str(error)
    allowed = spec.id_kinds
    if kind not in allowed and not (kind is IdKind.INT64 and IdKind.UINT64 in allowed and int(record_id) >= 0):
        return f"the id is {kind}, the collection holds {' or '.join(sorted(allowed))}"
    if isinstance(record_id, str):
        if not record_id and not capabilities.has_empty_string_id:
            return "the id is empty"
        limit = spec.max_id_length_bytes or capabilities.max_id_length_bytes
        try:
            length = len(record_id) if record_id.isascii() else len(record_id.encode())
        except UnicodeEncodeError:
            return "the id has no UTF-8 form (lone surrogate)"
        if limit is not None and length > limit:
            return f"the id is {length} bytes long, the collection holds at most {limit}"
    return None


def payload_reason(payload: Payload, capabilities: Capabilities) -> str | None:
    """Return why the store cannot hold this payload exactly, or None; names the key."""
    rules = capabilities.payload
    if not _STRINGS.issuperset(map(type, payload)):
        key = next(key for key in payload if type(key) is not str)
        return f"payload key {key!r} is not a string"
    for key, reason in rules.refusals(payload).items():
        return f"payload key {key!r}: {reason}"
    if rules.max_bytes is not None and payload:
        estimate = sum(len(value) if isinstance(value, str) else 16 for value in payload.values())
        if estimate * 4 > rules.max_bytes:  # a character has at most four bytes; smaller ones cannot be too large
            size = len(encode(payload).encode("utf-8", "surrogatepass"))
            if size > rules.max_bytes:
                return f"the payload takes {size} bytes as JSON, the store holds at most {rules.max_bytes}"
    return None
