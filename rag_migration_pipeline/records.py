"""What travels: the shape of a collection, columnar batches of records, ranges of them, and rejections.

Belongs here: frozen values and the small operations on them (selecting rows, concatenating, cutting by bytes).
Does not belong here: how a store holds them (``stores/``), what happens to them on the way (``steps/``).

A record is an id, vectors by name, an optional document, a payload, and a partition in stores that have them. An id is
a Python value whose type is its kind: ``str`` (string), ``int`` (int64 or uint64) or ``uuid.UUID`` (uuid). ``"7"``,
``7`` and a UUID never equal each other, so a batch needs no separate column for the kind.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_migration_pipeline.uuids import parse_uuid

RecordId = str | int | uuid.UUID
Payload = dict[str, Any]
Float32Array = npt.NDArray[np.float32]

DEFAULT_VECTOR = ""
"""Name of the vector of a store that holds one unnamed vector per record."""

INT64_MIN, INT64_MAX, UINT64_MAX = -(2**63), 2**63 - 1, 2**64 - 1


class IdKind(StrEnum):
    """Kinds of record ids that stores know."""

    STRING = "string"
    INT64 = "int64"
    UINT64 = "uint64"
    UUID = "uuid"


class Metric(StrEnum):
    """Distance or similarity that a vector is compared by."""

    COSINE = "cosine"
    DOT = "dot"
    L2 = "l2"
    MANHATTAN = "manhattan"
    HAMMING = "hamming"
    JACCARD = "jaccard"


class VectorKind(StrEnum):
    """Layout of a vector: one dense array, index/value pairs, or several dense arrays per record."""

    DENSE = "dense"
    SPARSE = "sparse"
    MULTI = "multi"


def id_kind(record_id: RecordId) -> IdKind:
    """Return the kind of an id.

    Args:
        record_id: ``str``, ``int`` in [-2**63, 2**64) or ``uuid.UUID``; ``bool`` is not an int here.

    Raises:
        TypeError: Another type, or an integer that no store can hold.
    """
    if isinstance(record_id, str):
        return IdKind.STRING
    if isinstance(record_id, uuid.UUID):
        return IdKind.UUID
    if isinstance(record_id, int) and not isinstance(record_id, bool):
        if INT64_MIN <= record_id <= INT64_MAX:
            return IdKind.INT64
        if 0 <= record_id <= UINT64_MAX:
            return IdKind.UINT64
    raise TypeError(f"id {record_id!r} of type {type(record_id).__name__} is not a string, 64-bit integer or UUID")


def id_text(record_id: RecordId) -> str:
    """Return an id as unambiguous text for digests, files and messages: ``string:a``, ``int:7``, ``uuid:…``.

    int64 and uint64 share the prefix ``int``: 7 is the same id in both.
    """
    if isinstance(record_id, str):
        return "string:" + record_id
    if isinstance(record_id, uuid.UUID):
        return f"uuid:{record_id}"
    return f"int:{record_id}"


def id_from_text(text: str) -> RecordId:
    """Return the id that `id_text` wrote.

    Raises:
        ValueError: The text has no known prefix.
    """
    prefix, _, rest = text.partition(":")
    if prefix == "string":
        return rest
    if prefix == "int":
        return int(rest)
    if prefix == "uuid":
        return parse_uuid(rest)
    raise ValueError(f"id text {text[:60]!r} does not start with 'string:', 'int:' or 'uuid:'")


@dataclass(frozen=True)
class VectorSpec:
    """One vector of a collection: its name, dimension, metric and layout.

    Attributes:
        dimension: Components per dense vector; None where the layout has none (sparse).
        metric: The metric *read from the store*.
        dtype: Element type in which the store keeps the vector: float32, float16, bfloat16, int8, uint8, binary.
        modifier: What a search makes of sparse values before it compares them: idf (Qdrant), or None.
    """

    dimension: int | None
    metric: Metric
    name: str = DEFAULT_VECTOR
    kind: VectorKind = VectorKind.DENSE
    dtype: str = "float32"
    modifier: str | None = None


@dataclass(frozen=True)
class FieldSpec:
    """One typed payload field of a store that has a schema (or a payload index).

    Attributes:
        type: string, int, float, bool, json, array, uuid, datetime or geo.
        max_length_bytes: Capacity of a string field, or of an array's strings, in bytes of UTF-8, where there is one.
        element_type: Type of an array's items.
        bits: Width of integers (8, 16, 32) and floats (32) that are narrower than 64 bits; of the items of an array.
        max_items: Capacity of an array, where the store has one.
        default: What the store puts in where a writer gives nothing; None for no default.
    """

    name: str
    type: str
    is_nullable: bool = False
    is_indexed: bool = False
    max_length_bytes: int | None = None
    element_type: str | None = None
    bits: int | None = None
    max_items: int | None = None
    default: Any = None


@dataclass(frozen=True)
class CollectionSpec:
    """What a collection is, as read from a store or as asked of one.

    Attributes:
        id_kinds: The kinds that the collection's ids may have, e.g. Qdrant holds UINT64 and UUID together.
        fields: Typed fields read from the store; empty where payloads are free.
        settings: Index and other settings in the store's own words (JSON values), for reports and like-to-like copies.
        metadata: The user's metadata on the collection itself.
        id_field: Name of the key field, in stores that name it.
        max_id_length_bytes: Longest string id in bytes of UTF-8, in stores that limit it.
    """

    name: str
    vectors: tuple[VectorSpec, ...]
    id_kinds: frozenset[IdKind]
    fields: tuple[FieldSpec, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    id_field: str | None = None
    max_id_length_bytes: int | None = None

    def vector(self, name: str = DEFAULT_VECTOR) -> VectorSpec:
        """Return the vector of that name.

        Raises:
            KeyError: The collection has no such vector.
        """
        for spec in self.vectors:
            if spec.name == name:
                return spec
        raise KeyError(f"collection {self.name!r} has vectors {[v.name for v in self.vectors]}, not {name!r}")


@dataclass(frozen=True)
class CollectionInfo:
    """A described collection: its spec and how many records it holds now (exact count)."""

    spec: CollectionSpec
    count: int


@dataclass(frozen=True)
class DenseColumn:
    """Dense vectors of one name for all records of a batch.

    Attributes:
        values: C-contiguous array of shape (n_records, dimension), of the NumPy type that carries the spec's dtype
            (``vectors.ELEMENT_TYPES``); binary: (n_records, dimension / 8).
        present: Boolean mask of shape (n_records,), or None where every record has the vector. Rows that are absent
            are zero in ``values``.
    """

    values: npt.NDArray[Any]
    present: npt.NDArray[np.bool_] | None = None

    def take(self, rows: npt.NDArray[np.intp]) -> "DenseColumn":
        """Return the rows at these positions (an array of integer positions), in that order."""
        return DenseColumn(self.values[rows], None if self.present is None else self.present[rows])


@dataclass(frozen=True)
class SparseColumn:
    """Sparse vectors of one name: per record index and value arrays of equal length, or None where absent.

    Each index comes once, in any order; the order means nothing. A value of zero is an entry like any other.
    """

    indices: tuple[npt.NDArray[np.uint32] | None, ...]
    values: tuple[Float32Array | None, ...]

    def take(self, rows: npt.NDArray[np.intp]) -> "SparseColumn":
        """Return the rows at these positions (an array of integer positions), in that order."""
        return SparseColumn(tuple(self.indices[i] for i in rows), tuple(self.values[i] for i in rows))


@dataclass(frozen=True)
class MultiColumn:
    """Multi-vectors of one name: per record an array of shape (n_vectors, dimension), or None where absent.

    The arrays are of the type that carries the spec's dtype, as in `DenseColumn`; there is at least one vector.
    """

    values: tuple[npt.NDArray[Any] | None, ...]

    def take(self, rows: npt.NDArray[np.intp]) -> "MultiColumn":
        """Return the rows at these positions (an array of integer positions), in that order."""
        return MultiColumn(tuple(self.values[i] for i in rows))


VectorColumn = DenseColumn | SparseColumn | MultiColumn


@dataclass(frozen=True)
class RecordBatch:
    """Records in columns; every column has one entry per id.

    Attributes:
        ids: Ids, their kind being their Python type.
        vectors: Columns by vector name; the unnamed vector is ``""``.
        payloads: One dict of values per record, JSON's and those of `payloads.TYPES`; a record without payload has an
            empty dict.
        documents: One text or None (missing; not the same as empty) per record; None where the store has no documents.
        partitions: One partition name or None (the store's default partition) per record; None where there are none.
        source_ids: The ids that the records had before a mapping gave them others; None where none did.
    """

    ids: Sequence[RecordId]
    vectors: Mapping[str, VectorColumn]
    payloads: Sequence[Payload]
    documents: Sequence[str | None] | None = None
    partitions: Sequence[str | None] | None = None
    source_ids: Sequence[RecordId] | None = None

    def __post_init__(self) -> None:
        """Refuse columns of unequal length: a torn batch would shift records against each other."""
        lengths = {"payloads": len(self.payloads)}
        if self.documents is not None:
            lengths["documents"] = len(self.documents)
        if self.partitions is not None:
            lengths["partitions"] = len(self.partitions)
        if self.source_ids is not None:
            lengths["source ids"] = len(self.source_ids)
        lengths.update({f"vector {name!r}": len(column.values) for name, column in self.vectors.items()})
        wrong = {name: length for name, length in lengths.items() if length != len(self.ids)}
        if wrong:
            raise ValueError(f"a batch of {len(self.ids)} ids has columns of other lengths: {wrong}")

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.ids)

    def take(self, rows: Iterable[int]) -> "RecordBatch":
        """Return the records at these positions, in that order."""
        index = np.fromiter(rows, dtype=np.intp)
        return RecordBatch(
            ids=[self.ids[i] for i in index],
            vectors={name: column.take(index) for name, column in self.vectors.items()},
            payloads=[self.payloads[i] for i in index],
            documents=None if self.documents is None else [self.documents[i] for i in index],
            partitions=None if self.partitions is None else [self.partitions[i] for i in index],
            source_ids=None if self.source_ids is None else [self.source_ids[i] for i in index],
        )

    def slice(self, start: int, stop: int) -> "RecordBatch":
        """Return records [start, stop); dense vectors are views, not copies."""
        columns: dict[str, VectorColumn] = {}
        for name, column in self.vectors.items():
            if isinstance(column, DenseColumn):
                present = None if column.present is None else column.present[start:stop]
                columns[name] = DenseColumn(column.values[start:stop], present)
            elif isinstance(column, SparseColumn):
                columns[name] = SparseColumn(column.indices[start:stop], column.values[start:stop])
            else:
                columns[name] = MultiColumn(column.values[start:stop])
        documents = None if self.documents is None else self.documents[start:stop]
        partitions = None if self.partitions is None else self.partitions[start:stop]
        source_ids = None if self.source_ids is None else self.source_ids[start:stop]
        return RecordBatch(self.ids[start:stop], columns, self.payloads[start:stop], documents, partitions, source_ids)

    def dense(self, name: str = DEFAULT_VECTOR) -> DenseColumn:
        """Return the dense column of that name.

        Raises:
            KeyError: There is no such vector, or it is not dense.
        """
        column = self.vectors.get(name)
        if not isinstance(column, DenseColumn):
            raise KeyError(f"the batch has no dense vector {name!r}; it has {sorted(self.vectors)}")
        return column

    def with_columns(self, **columns: Any) -> "RecordBatch":
        """Return a batch with some columns replaced (ids, vectors, payloads, documents, partitions)."""
        return replace(self, **columns)

    def size_bytes(self) -> int:
        """Return the approximate size in bytes: exact for dense vectors and documents, an estimate for payloads."""
        return self._size_bytes

    @cached_property
    def _size_bytes(self) -> int:
        """The size, computed once: several steps ask for it."""
        total = sum(_column_bytes(column) for column in self.vectors.values())
        total += sum(len(text) for text in self.documents or () if text)
        return total + sum(payload_bytes(payload) for payload in self.payloads) + 16 * len(self.ids)


def payload_bytes(payload: Payload) -> int:
    """Return a cheap estimate of a payload's size in bytes; strings count their characters."""
    return sum(map(len, payload)) + sum([len(value) if isinstance(value, str) else 16 for value in payload.values()])


def _column_bytes(column: VectorColumn) -> int:
    if isinstance(column, DenseColumn):
        return int(column.values.nbytes)
    total = sum(array.nbytes for array in column.values if array is not None)
    if isinstance(column, SparseColumn):
        total += sum(array.nbytes for array in column.indices if array is not None)
    return total


@dataclass(frozen=True)
class RecordRange:
    """A half-open range of a source collection, cut once and stored in the manifest.

    Attributes:
        key: Partition key ``<plan digest, 6 hex>_<ordinal, 6 digits>``.
        ordinal: Position of the range among all, from 0.
        start: First id, in the source's order (inclusive).
        stop: First id of the next range (exclusive), or None for the last range.
        ids: The ids as the manifest recorded them, in the source's order.
        offset: Position of the first id in the source's order when the manifest was made; a hint, never a truth.
        is_listed: Whether other records lie between start and stop, so that the ids alone say what the range is.
    """

    key: str
    ordinal: int
    start: RecordId
    stop: RecordId | None
    ids: Sequence[RecordId]
    offset: int
    is_listed: bool = False

    @property
    def count(self) -> int:
        """Number of records that the manifest expects."""
        return len(self.ids)


@dataclass(frozen=True)
class Rejection:
    """A record that was set aside, by name, with the stage and the reason.

    Attributes:
        error: Type of the error that the record met.
    """

    record_id: RecordId
    stage: str
    reason: str
    error: str = "RecordRejectedError"


SetAside = Callable[[RecordBatch, Sequence[Rejection]], None]
"""Takes records as they were read (unpacked, before any change), and for each of them a rejection of the same id."""
