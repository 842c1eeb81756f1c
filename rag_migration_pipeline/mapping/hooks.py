"""A user's callables on whole records and batches: what they are given, what they may change, what is refused.

Belongs here: calling them and looking at what they return. Does not belong here: finding them (``callables.py``), when
they are called (``mapper.py``).

They may change payloads and documents. Ids, vectors and the order of the records stay as they are.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.mapping import Function
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.records import DenseColumn, Payload, RecordBatch, RecordId, VectorColumn


@dataclass
class Record:
    """What a per-record callable is given and returns; the id stays as it is."""

    id: RecordId
    payload: Payload
    document: str | None


def call_per_record(function: Function, given: Record) -> Record:
    """Call a callable of records.

    Raises:
        ValueError: It raised, or returned something else than the record with that id.
    """
    record_id = given.id
    try:
        found = function(given)
    except Exception as error:
        raise ValueError(f"{function.name} raised {type(error).__name__}: {str(error)[:200]}") from error
    if not isinstance(found, Record):
        raise ValueError(f"{function.name} returned {type(found).__name__}, expected the record")  # noqa: TRY004
    if found.id != record_id or type(found.id) is not type(record_id):
        raise ValueError(f"{function.name} returned a record with another id")
    try:
        _refuse_wrong_content(found.payload, found.document)
    except ValueError as error:
        raise ValueError(f"{function.name} returned a record that cannot travel: {error}") from error
    return found


def call_hook(hook: Function, batch: RecordBatch) -> RecordBatch:
    """Call a callable of batches; it may change payloads and documents, and nothing else.

    Raises:
        SpecError: It raised, or returned something else.
    """
    ids = list(batch.ids)
    try:
        found = hook(batch)
    except Exception as error:
        raise _hook_error(hook, f"raised {type(error).__name__}: {str(error)[:200]}") from error
    if not isinstance(found, RecordBatch):
        raise _hook_error(hook, f"returned {type(found).__name__}, expected a RecordBatch")
    if len(found) != len(ids):
        raise _hook_error(hook, f"returned {len(found)} records for {len(ids)}")
    if any(a != b or type(a) is not type(b) for a, b in zip(found.ids, ids, strict=True)):
        raise _hook_error(hook, "returned other ids, or the same ones in another order")
    if not _same_vectors(found.vectors, batch.vectors):
        raise _hook_error(hook, "returned other vectors")
    documents = found.documents if found.documents is not None else [None] * len(found)
    try:
        for payload, document in zip(found.payloads, documents, strict=True):
            _refuse_wrong_content(payload, document)
    except ValueError as error:
        raise _hook_error(hook, f"returned a record that cannot travel: {error}") from error
    return found.with_columns(source_ids=batch.source_ids)


def _hook_error(hook: Function, what: str) -> SpecError:
    return SpecError(
        f"the hook {hook.name} {what}.",
        todo="A hook takes a RecordBatch and returns one with the same ids and vectors; see docs/mapping.md.",
    )


def _refuse_wrong_content(payload: Any, document: Any) -> None:
    if type(payload) is not dict:
        raise ValueError(f"the payload has to be a dict, got {type(payload).__name__}")
    if document is not None and type(document) is not str:
        raise ValueError(f"the document has to be a text or None, got {type(document).__name__}")
    refuse_foreign(payload)


def own_copy(value: Any) -> Any:
    """Return a payload value whose objects and lists are its own; `copy.deepcopy` takes several times as long."""
    kind = type(value)
    if kind is dict:
        return {key: own_copy(item) for key, item in value.items()}
    if kind is list:
        return [own_copy(item) for item in value]
    return copy.deepcopy(value) if kind in (tuple, set) else value


def refuse_foreign(value: Any) -> None:
    """Refuse a value that a payload cannot hold: neither JSON nor one of `payloads.TYPES`.

    Raises:
        ValueError: Names the path of the first such value and its type.
    """
    try:
        encode(value)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _same_vectors(found: Mapping[str, VectorColumn], given: Mapping[str, VectorColumn]) -> bool:
    return found.keys() == given.keys() and all(
        found[name] is column or _same_column(found[name], column) for name, column in given.items()
    )


def _same_column(found: VectorColumn, given: VectorColumn) -> bool:
    if isinstance(found, DenseColumn) and isinstance(given, DenseColumn):
        return found.values.shape == given.values.shape and bool(
            np.array_equal(found.values, given.values, equal_nan=True)
        )
    return found == given
