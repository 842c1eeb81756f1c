"""Small tools of the laws: reading whole collections, cutting ranges, catching errors of ours.

Belongs here: what several files of laws need. Does not belong here: comparing records (``comparison.py``).
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.errors import MigrationError
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    MultiColumn,
    RecordBatch,
    RecordId,
    RecordRange,
    SparseColumn,
    VectorColumn,
    VectorKind,
)
from rag_migration_pipeline.stores.base import VectorStore

ErrorT = TypeVar("ErrorT", bound=MigrationError)
ResultT = TypeVar("ResultT")


def all_ids(store: VectorStore, collection: str, page_count: int = 1_000) -> list[RecordId]:
    """Return all ids in the store's order."""
    return [record_id for page in store.iter_ids(collection, page_count) for record_id in page]


def ranges_of(ids: Sequence[RecordId], size: int) -> list[RecordRange]:
    """Cut ids, in the store's order, into half-open ranges of that many."""
    return [
        RecordRange(
            key=f"0a1b2c_{ordinal:06d}",
            ordinal=ordinal,
            start=ids[start],
            stop=ids[start + size] if start + size < len(ids) else None,
            ids=ids[start : start + size],
            offset=start,
        )
        for ordinal, start in enumerate(range(0, len(ids), size))
    ]


def whole(ids: Sequence[RecordId]) -> RecordRange:
    """Return one range of all these ids."""
    return ranges_of(ids, len(ids))[0]


def joined(batches: Iterator[RecordBatch], spec: CollectionSpec) -> RecordBatch:
    """Return one batch of all batches, which may be none."""
    found = [batch for batch in batches if len(batch)]
    return concatenate(found) if found else empty_batch(spec)


def empty_batch(spec: CollectionSpec) -> RecordBatch:
    """Return no records with the collection's columns."""
    columns: dict[str, VectorColumn] = {}
    for vector in spec.vectors:
        if vector.kind is VectorKind.SPARSE:
            columns[vector.name] = SparseColumn((), ())
        elif vector.kind is VectorKind.MULTI:
            columns[vector.name] = MultiColumn(())
        else:
            columns[vector.name] = DenseColumn(np.zeros((0, vector.dimension or 0), dtype=np.float32))
    return RecordBatch([], columns, [])


def scanned(store: VectorStore, spec: CollectionSpec, page_count: int | None = None) -> RecordBatch:
    """Return all records as the store scans them."""
    return joined(store.scan(spec.name, page_count), spec)


def operations(store: VectorStore, spec: CollectionSpec, batch: RecordBatch) -> dict[str, Callable[[], Any]]:
    """Return every operation on one collection by name, as calls that run to their end.

    Args:
        store: The store.
        spec: The collection, whether it exists or not.
        batch: At least one record that fits it.
    """
    name = spec.name
    return {
        "describe": lambda: store.describe(name),
        "count": lambda: store.count(name),
        "iter_ids": lambda: list(store.iter_ids(name)),
        "iter_field": lambda: list(store.iter_field(name, "n")),
        "read_range": lambda: list(store.read_range(name, whole(batch.ids), 10)),
        "fetch": lambda: store.fetch(name, batch.ids),
        "fetch_pages": lambda: list(store.fetch_pages(name, [batch.ids])),
        "scan": lambda: list(store.scan(name)),
        "upsert": lambda: store.upsert(name, batch),
        "write": lambda: store.write(name, batch),
        "delete": lambda: store.delete(name, batch.ids),
        "readiness": lambda: store.readiness(name),
    }


def error_of(call: Callable[[], Any], kind: type[ErrorT], what: str) -> ErrorT:
    """Return the error of that kind, after checking that it pickles with its facts.

    Args:
        call: Must fail.
        kind: The error expected.
        what: Named where the call does not fail so.
    """
    try:
        result = call()
    except kind as error:
        _check_pickling(error)
        return error
    except Exception as error:
        name = f"{type(error).__module__}.{type(error).__name__}"
        raise AssertionError(f"{what}: expected {kind.__name__}, got {name}: {error}") from error
    raise AssertionError(f"{what}: expected {kind.__name__}, but it returned {str(result)[:200]}")


def _check_pickling(error: MigrationError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.facts == error.facts


def run_in_threads(thread_count: int, calls: Sequence[Callable[[], ResultT]]) -> list[ResultT]:
    """Run calls in that many threads, none of them the test's own, and return their results in order."""
    with ThreadPoolExecutor(thread_count) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
