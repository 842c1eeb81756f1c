"""The reference store: collections in this process's memory, holding everything that a record can have.

Belongs here: the plainest implementation of every promise of ``base.py``; where the meaning of a promise is in doubt,
this file decides. Does not belong here: speed, persistence, limits.

A space is named and lives as long as the process: two opens of one name see the same data. Records are copied when
they are written and when they are read, so that a caller can never change what is stored. The order of the ids is
integers, then UUIDs, then strings by code point.
"""

import copy
import re
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from rag_migration_pipeline.errors import CollectionExistsError, SchemaCompatibilityError, StoreRequestError
from rag_migration_pipeline.filters.meaning import select_rows
from rag_migration_pipeline.filters.nodes import Filter, all_of
from rag_migration_pipeline.locators import Locator
from rag_migration_pipeline.payloads import ENVELOPE_KEY
from rag_migration_pipeline.records import (
    CollectionInfo,
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    MultiColumn,
    Payload,
    RecordBatch,
    RecordId,
    RecordRange,
    VectorColumn,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.capabilities import Capabilities, PayloadRules
from rag_migration_pipeline.stores.narrowing import Handling, Narrowing, query_of
from rag_migration_pipeline.stores.readiness import Readiness
from rag_migration_pipeline.vectors import ELEMENT_TYPES, column_of, converted

_ANY_INT = 2**1024  # Python's integers have no bounds; the rules want some

CAPABILITIES = Capabilities(
    store="memory",
    form="process",
    id_kinds=frozenset(IdKind),
    metrics=frozenset(Metric),
    sparse_metrics=frozenset(Metric),
    binary_metrics=frozenset(Metric),
    payload=PayloadRules(int_min=-_ANY_INT, int_max=_ANY_INT, has_non_finite=True, has_surrogates=True, has_typed=True),
    vector_kinds=frozenset(VectorKind),
    other_types=frozenset((kind, dtype) for kind in (VectorKind.DENSE, VectorKind.MULTI) for dtype in ELEMENT_TYPES),
    sparse_modifiers=frozenset({"idf"}),
    has_named_vectors=True,
    has_partial_vectors=True,
    has_non_finite_vectors=True,
    has_documents=True,
    indexed_types=frozenset({"string", "int", "float", "bool", "datetime", "uuid", "geo"}),  # remembered, not made
    has_partitions=True,
    concurrent_readers=4,
    concurrent_writers=4,
)


@dataclass(frozen=True)
class _Sparse:
    indices: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Record:
    vectors: Mapping[str, "npt.NDArray[Any] | _Sparse"]
    payload: Payload
    document: str | None
    partition: str | None = None


@dataclass(frozen=True)
class _Collection:
    spec: CollectionSpec
    records: dict[RecordId, _Record] = field(default_factory=dict)


@dataclass
class _Space:
    collections: dict[str, _Collection] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


_spaces: dict[str, _Space] = {}
_spaces_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class MemorySettings(StoreSettings):
    """Names a space of this process.

    Attributes:
        name: Two opens of one name see the same collections.
    """

    name: str = "default"

    @property
    def address(self) -> str:
        """See `StoreSettings.address`."""
        return f"memory://?name={quote(self.name, safe='')}"

    def open(self, *, create: bool = False) -> "MemoryStore":  # noqa: ARG002  a space needs no folder
        """See `StoreSettings.open`; a space that nobody used yet is empty."""
        with _spaces_lock:
            space = _spaces.setdefault(self.name, _Space())
        return MemoryStore(self, space)


def settings_from_locator(locator: Locator) -> MemorySettings:
    """Return the settings for ``memory://collection?name=space``.

    Raises:
        SpecError: Unknown query option.
    """
    locator.refuse_unknown("name")
    return MemorySettings(name=locator.options.get("name", "default"))


def forget_space(name: str) -> None:
    """Remove a space with all its collections; quiet where there is none."""
    with _spaces_lock:
        _spaces.pop(name, None)


def order_key(record_id: RecordId) -> tuple[int, Any]:
    """Return the sort key of an id in this store's order."""
    if isinstance(record_id, str):
        return 2, record_id
    if isinstance(record_id, uuid.UUID):
        return 1, record_id
    return 0, record_id


class MemoryStore(VectorStore):
    """Holds collections in memory; see `VectorStore` for the promises."""

    settings: MemorySettings

    def __init__(self, settings: MemorySettings, space: _Space) -> None:
        """Use the collections of a space."""
        super().__init__(settings, CAPABILITIES)
        self._open_space: _Space | None = space

    # -- collections ------------------------------------------------------------------------------------------

    def list_collections(self) -> list[str]:
        """See `VectorStore.list_collections`."""
        with self._space.lock:
            return sorted(self._space.collections)

    def describe(self, collection: str) -> CollectionInfo:
        """See `VectorStore.describe`."""
        with self._space.lock:
            held = self._collection(collection)
            return CollectionInfo(copy.deepcopy(held.spec), len(held.records))

    def spec(self, collection: str) -> CollectionSpec:
        """Return the collection's spec; never remembered, because reading it costs nothing."""
        return self._collection(collection).spec

    def create(self, spec: CollectionSpec) -> None:
        """See `VectorStore.create`."""
        problems = _problems(spec)
        if problems:
            raise SchemaCompatibilityError(
                f"{self.address} cannot have the collection {spec.name!r}: {'; '.join(problems)}.",
                todo="Change the spec.",
                collection=spec.name,
            )
        with self._space.lock:
            if spec.name in self._space.collections:
                raise CollectionExistsError(
                    f"there is a collection {spec.name!r} in {self.address} already.",
                    todo="Drop it first, or choose another name.",
                    collection=spec.name,
                    address=self.address,
                )
            self._space.collections[spec.name] = _Collection(copy.deepcopy(spec))

    def drop(self, collection: str) -> None:
        """See `VectorStore.drop`."""
        with self._space.lock:
            self._space.collections.pop(collection, None)

    # -- reading ----------------------------------------------------------------------------------------------

    def narrow(self, collection: str, parts: Sequence[Filter]) -> Narrowing:  # noqa: ARG002 - the same for all
        """See `VectorStore.narrow`; this store evaluates filters as they are meant."""
        return Narrowing(all_of(parts), tuple(Handling.STORE for _ in parts))

    def count(self, collection: str, where: Narrowing | None = None) -> int:
        """See `VectorStore.count`."""
        if query_of(where) is not None:
            return sum(map(len, self.iter_ids(collection, where=where)))
        return len(self._collection(collection).records)

    def iter_ids(
        self, collection: str, page_count: int = 10_000, where: Narrowing | None = None
    ) -> Iterator[list[RecordId]]:
        """See `VectorStore.iter_ids`."""
        ids = self._sorted_ids(collection)
        if query_of(where) is not None:
            with self._space.lock:
                records = self._collection(collection).records
                ids = _selected([i for i in ids if i in records], records, query_of(where))
        for start in range(0, len(ids), page_count):
            yield ids[start : start + page_count]

    def read_range(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_range`; by key, so ids that the range does not list are read as well."""
        start = order_key(record_range.start)
        stop = None if record_range.stop is None else order_key(record_range.stop)
        ids = [
            record_id
            for record_id in self._sorted_ids(collection)
            if start <= order_key(record_id) and (stop is None or order_key(record_id) < stop)
        ]
        for offset in range(0, len(ids), page_count):
            batch = self.fetch(collection, ids[offset : offset + page_count])
            if len(batch):
                yield batch

    def read_contents(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_contents`."""
        yield from (b.with_columns(vectors={}) for b in self.read_range(collection, record_range, page_count))

    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch`."""
        with self._space.lock:
            held = self._collection(collection)
            found = [record_id for record_id in ids if record_id in held.records]
            return _batch(held.spec, found, [held.records[record_id] for record_id in found])

    def fetch_contents(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch_contents`."""
        return self.fetch(collection, ids).with_columns(vectors={})

    def _sorted_ids(self, collection: str) -> list[RecordId]:
        with self._space.lock:
            return sorted(self._collection(collection).records, key=order_key)

    # -- writing ----------------------------------------------------------------------------------------------

    def write(self, collection: str, batch: RecordBatch) -> None:
        """See `VectorStore.write`."""
        with self._space.lock:
            held = self._collection(collection)
            types = {vector.name: vector.dtype for vector in held.spec.vectors}
            columns = {name: converted(column, types[name]) for name, column in batch.vectors.items()}
            typed = batch.with_columns(vectors=columns)
            for row, record_id in enumerate(batch.ids):
                held.records[record_id] = _record(typed, row)

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `VectorStore.delete`."""
        with self._space.lock:
            records = self._collection(collection).records
            for record_id in ids:
                records.pop(record_id, None)

    def readiness(self, collection: str) -> Readiness:
        """See `VectorStore.readiness`."""
        total = self.count(collection)
        return Readiness(is_ready=True, total=total, detail="records in memory have no index, and need none")

    # -- end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """See `VectorStore.close`; the space lives on."""
        self._open_space = None

    @property
    def _space(self) -> _Space:
        if self._open_space is None:
            raise StoreRequestError(f"{self.address} was closed.", todo="Open the store again.", concerns_all=True)
        return self._open_space

    def _collection(self, name: str) -> _Collection:
        held = self._space.collections.get(name)
        if held is None:
            raise self.not_found(name)
        return held


def _selected(ids: list[RecordId], records: Mapping[RecordId, _Record], wanted: Filter) -> list[RecordId]:
    """Return the ids of the records that a filter takes, and of those with an envelope."""
    found = [records[record_id] for record_id in ids]
    payloads = [record.payload for record in found]
    batch = RecordBatch(ids, {}, payloads, [record.document for record in found])
    taken = set(select_rows(batch, wanted))
    return [i for row, i in enumerate(ids) if row in taken or ENVELOPE_KEY in payloads[row]]


def _problems(spec: CollectionSpec) -> list[str]:
    """Return everything that keeps a spec from being a collection."""
    problems = []
    if not re.fullmatch(CAPABILITIES.collection_name_pattern, spec.name, re.DOTALL):
        problems.append(f"{spec.name!r} is not a collection name")
    if not spec.id_kinds:
        problems.append("it has no id kind")
    if not spec.vectors:
        problems.append("it has no vector")
    names = [vector.name for vector in spec.vectors]
    problems += [f"there are {names.count(name)} vectors {name!r}" for name in set(names) if names.count(name) > 1]
    for vector in spec.vectors:
        if vector.kind is not VectorKind.SPARSE and (vector.dimension is None or vector.dimension < 1):
            problems.append(f"vector {vector.name!r}: expected a dimension of at least 1, got {vector.dimension}")
        if not CAPABILITIES.has_type(vector.kind, vector.dtype):
            problems.append(f"vector {vector.name!r}: {vector.kind} vectors of {vector.dtype} are unknown")
    return problems


def _record(batch: RecordBatch, row: int) -> _Record:
    """Copy one record out of a batch."""
    vectors = {name: _vector(column, row) for name, column in batch.vectors.items()}
    return _Record(
        vectors={name: vector for name, vector in vectors.items() if vector is not None},
        payload=copy.deepcopy(batch.payloads[row]),
        document=None if batch.documents is None else batch.documents[row],
        partition=None if batch.partitions is None else batch.partitions[row],
    )


def _vector(column: VectorColumn, row: int) -> npt.NDArray[Any] | _Sparse | None:
    if isinstance(column, DenseColumn):
        return column.values[row].copy() if column.present is None or column.present[row] else None
    if isinstance(column, MultiColumn):
        value = column.values[row]
        return None if value is None else value.copy()
    indices, values = column.indices[row], column.values[row]
    return None if indices is None or values is None else _Sparse(indices.copy(), values.copy())


def _batch(spec: CollectionSpec, ids: list[RecordId], records: list[_Record]) -> RecordBatch:
    """Copy records into a batch."""
    return RecordBatch(
        ids=ids,
        vectors={vector.name: _column(vector, records) for vector in spec.vectors},
        payloads=[copy.deepcopy(record.payload) for record in records],
        documents=[record.document for record in records],
        partitions=[record.partition for record in records] if any(r.partition is not None for r in records) else None,
    )


def _column(vector: VectorSpec, records: list[_Record]) -> VectorColumn:
    found = [record.vectors.get(vector.name) for record in records]
    if vector.kind is VectorKind.SPARSE:
        pairs = [(item.indices.copy(), item.values.copy()) if isinstance(item, _Sparse) else None for item in found]
        return column_of(vector, pairs)
    arrays = [item.copy() if isinstance(item, np.ndarray) else None for item in found]
    return column_of(vector, arrays)
