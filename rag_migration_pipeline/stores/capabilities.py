"""What a store can hold, as data: the only place where differences between stores live.

Belongs here: `Capabilities`, `PayloadRules` and the reasons they give. Does not belong here: how a store does it
(the adapters), what a migration makes of a gap (``plan.py``, ``envelope/``).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from rag_migration_pipeline.payloads import has_typed, is_deeper
from rag_migration_pipeline.records import INT64_MAX, INT64_MIN, FieldSpec, IdKind, Metric, VectorKind, VectorSpec
from rag_migration_pipeline.stores.decimal_floats import survives_decimal_text
from rag_migration_pipeline.vectors import BINARY, FLOAT16_ROUNDING, FLOAT32, element_type

_KEYS_REMEMBERED = 10_000
_TEXT = frozenset({str})


class ListRule(StrEnum):
    """Which lists a payload may hold."""

    NONE = "none"
    HOMOGENEOUS = "homogeneous"
    ANY = "any"


@dataclass(frozen=True)
class PayloadRules:
    """Which payload keys and values a store holds exactly.

    Attributes:
        has_null: None is kept as a value, different from a missing key.
        has_nested: Dicts inside payloads.
        lists: Lists; homogeneous means non-empty, of one type among str, int, float, bool.
        int_min: Smallest integer kept exactly.
        int_max: Largest integer kept exactly.
        has_non_finite: NaN and infinities are kept.
        has_all_floats: Every finite float is kept; otherwise those that survive decimal text (see `decimal_floats`).
        has_negative_zero: The float -0.0 keeps its sign.
        has_surrogates: Lone surrogates in strings (no UTF-8 form) are kept.
        has_typed: Values of `payloads.TYPES` (dates, bytes, decimals, ...) are kept with their type.
        reserved_keys: Keys that the store or its schema uses itself.
        text_keys: Keys whose values are strings only.
        key_pattern: Regular expression that a whole key must match, or None.
        max_bytes: Largest whole payload as JSON in bytes, or None.
        max_depth: Most lists and objects inside each other, or None.
    """

    has_null: bool = True
    has_nested: bool = True
    lists: ListRule = ListRule.ANY
    int_min: int = INT64_MIN
    int_max: int = INT64_MAX
    has_non_finite: bool = False
    has_all_floats: bool = True
    has_negative_zero: bool = True
    has_surrogates: bool = False
    has_typed: bool = False
    reserved_keys: frozenset[str] = frozenset()
    text_keys: frozenset[str] = frozenset()
    key_pattern: str | None = None
    max_bytes: int | None = None
    max_depth: int | None = None

    def refusals(self, payload: Mapping[str, Any]) -> dict[str, str]:
        """Return by key why the store cannot hold parts of a payload; empty where it holds all of it."""
        fine = self._fine_keys
        refused: dict[str, str] = {}
        for key, value in payload.items():
            kind = type(value)
            if kind is str:
                is_plain = value.isascii()
            else:  # what most payloads hold needs no call
                is_plain = self.int_min <= value <= self.int_max if kind is int else kind is bool
            if not (is_plain and key in fine):
                reason = self.refusal(key, value)
                if reason is not None:
                    refused[key] = reason
        return refused

    def refusal(self, key: str, value: Any) -> str | None:
        """Return why the store cannot hold this key with this value exactly, or None if it can."""
        if key not in self._fine_keys:
            reason = self._key_refusal(key, value)
            if reason is not None:
                return reason
            if key not in self.text_keys and len(self._fine_keys) < _KEYS_REMEMBERED:
                self._fine_keys.add(key)
        if self.max_depth is not None and is_deeper(value, self.max_depth):
            return f"lists and objects nested more than {self.max_depth} deep"
        return self._value_refusal(value)

    @cached_property
    def _fine_keys(self) -> set[str]:
        """Keys that were found to be fine, whatever they hold: collections have few, and many records."""
        return set()

    def _key_refusal(self, key: str, value: Any) -> str | None:
        if key in self.reserved_keys:
            return f"the key {key!r} is reserved in this store"
        if self.key_pattern is not None and not re.fullmatch(self.key_pattern, key, re.DOTALL):
            return f"the key {key!r} is not allowed in this store"
        if not self.has_surrogates and not _is_utf8(key):
            return f"the key {key!r} has no UTF-8 form"
        if key in self.text_keys and type(value) is not str:
            return f"the key {key!r} holds strings only in this store"
        return None

    def text_refusal(self, text: str) -> str | None:
        """Return why the store cannot hold this text exactly, or None if it can; documents follow the same rule."""
        return None if self.has_surrogates or _is_utf8(text) else "a string without UTF-8 form (lone surrogate)"

    def _value_refusal(self, value: Any) -> str | None:
        kind = type(value)
        if kind is str:
            return self.text_refusal(value)
        if kind is bool:
            return None
        if kind is int:
            if self.int_min <= value <= self.int_max:
                return None
            return f"an integer outside [{self.int_min}, {self.int_max}]"
        if kind is float:
            return self._float_refusal(value)
        if value is None:
            return None if self.has_null else "null"
        if kind is dict:
            return self._dict_refusal(value)
        if kind is list:
            return self._list_refusal(value)
        if self.has_typed and has_typed(value):
            return None
        return f"a value of type {kind.__name__}, which has no JSON form"

    def _float_refusal(self, value: float) -> str | None:
        if not math.isfinite(value):
            return None if self.has_non_finite else f"the float {value}"
        if value == 0.0 and not self.has_negative_zero and math.copysign(1.0, value) < 0:
            return "the float -0.0, which loses its sign"
        if self.has_all_floats or survives_decimal_text(value):
            return None
        return f"the float {value!r}, which comes back changed in the last digit"

    def _dict_refusal(self, value: dict[Any, Any]) -> str | None:
        if not self.has_nested:
            return "a nested object"
        for key, item in value.items():
            if type(key) is not str or not (self.has_surrogates or _is_utf8(key)):
                return f"the nested key {key!r}"
            reason = self._value_refusal(item)
            if reason is not None:
                return reason
        return None

    def _list_refusal(self, value: list[Any]) -> str | None:
        if self.lists is ListRule.NONE:
            return "a list"
        kinds = set(map(type, value))
        if kinds == _TEXT and all(map(str.isascii, value)):
            return None
        if self.lists is ListRule.HOMOGENEOUS:
            if not value:
                return "an empty list"
            if len(kinds) > 1 or type(value[0]) not in (str, int, float, bool):
                return "a list of mixed or nested values"
        for item in value:
            reason = self._value_refusal(item)
            if reason is not None:
                return reason
        return None


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class FieldRules:
    """Which typed payload fields a store with a schema has.

    Attributes:
        types: Types of fields as `type_label` names them; ``array`` for lists of `element_types`.
        element_types: Types of an array's items.
        has_nullable: A field may hold null.
        has_json_lists: A JSON field holds lists too; otherwise objects only.
        counts_characters: A field's declared length is in characters, so that what it holds may take four times that.
        max_text_bytes: Longest string of a field in bytes of UTF-8.
        max_json_bytes: Longest JSON value in bytes, or None.
        max_items: Most items of an array.
        name_pattern: Regular expression that a whole field name must match.
    """

    types: frozenset[str]
    element_types: frozenset[str]
    has_nullable: bool
    has_json_lists: bool
    counts_characters: bool
    max_text_bytes: int
    max_json_bytes: int | None
    max_items: int
    name_pattern: str

    def problems(self, item: FieldSpec) -> list[str]:
        """Return why the store cannot have such a field, each in one phrase."""
        problems = []
        if not re.fullmatch(self.name_pattern, item.name):
            problems.append(f"{item.name!r} cannot name a field")
        label = type_label(item.element_type or "", item.bits) if item.type == "array" else ""
        if label and label not in self.element_types:
            problems.append(f"field {item.name!r} is an array of {label}")
        if not label and type_label(item.type, item.bits) not in self.types:
            problems.append(f"field {item.name!r} has the type {type_label(item.type, item.bits)}")
        if item.is_nullable and not self.has_nullable:
            problems.append(f"field {item.name!r} is nullable, which this store's fields are not")
        if item.default is not None and item.type not in ("bool", "int", "float", "string"):
            problems.append(f"field {item.name!r} is of type {item.type} and has a default")
        if not 0 < (item.max_length_bytes or 1) <= self.max_text_bytes:
            problems.append(f"field {item.name!r} holds {item.max_length_bytes} bytes, at most {self.max_text_bytes}")
        if not 0 < (item.max_items or 1) <= self.max_items:
            problems.append(f"field {item.name!r} holds {item.max_items} items, at most {self.max_items}")
        return problems


def type_label(kind: str, bits: int | None) -> str:
    """Return a field's type with its width: int64, float32, string."""
    return f"{kind}{bits or 64}" if kind in ("int", "float") else kind


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What one store, in one form, can hold and how it likes to be used.

    Attributes:
        store: chroma, qdrant, milvus or memory.
        form: How it is reached: folder, server, edge, file, process.
        id_kinds: Kinds of ids that some collection of this store can hold.
        metrics: Metrics that dense vectors (not binary ones) and multi-vectors can have.
        sparse_metrics: Metrics that sparse vectors can have.
        binary_metrics: Metrics that binary vectors can have.
        vector_kinds: Kinds of vectors; each can be of float32.
        other_types: Further element types, each with its kind, in which the store keeps vectors.
        has_any_sparse_weights: Sparse weights may be negative or 0, or none at all; otherwise all are positive.
        max_sparse_index: Largest index of a sparse vector.
        sparse_modifiers: Modifiers that sparse vectors can have (`records.VectorSpec`).
        has_named_vectors: Several vectors per record, by name.
        has_partial_vectors: A record may miss some of its collection's vectors, or all of them.
        has_non_finite_vectors: NaN and infinite components are kept, except where only the direction is.
        normalised_metrics: Metrics for which the store keeps the direction of floats only (they come back at length 1).
        inexact_metrics: Metrics under which vectors are not kept bit for bit, but within the tolerance.
        vector_tolerance: Largest relative difference ||stored - given|| / ||given|| of vectors with such a metric
            (after normalisation where the store normalises); 0.0 means bit for bit as float32.
        hides_zero_vectors: Records with a zero vector under cosine are kept, and no search finds them.
        has_documents: The store has a document beside the payload; elsewhere it travels under the document key.
        has_partitions: A collection's records are in named partitions (`RecordBatch.partitions`).
        has_typed_text_fields: Document and envelope need typed text fields in the schema (non-null, in UTF-8 bytes).
        max_text_field_bytes: Capacity of such a field.
        indexed_types: Types of payload fields of which the store makes an index when it is asked to.
        fields: Typed payload fields that a collection can be given; None where payloads are free.
        max_id_length_bytes: Longest string id in bytes of UTF-8.
        reads_by_key_order: Ranges are read by key from start to stop; otherwise by the manifest's list of ids.
        collection_name_pattern: Regular expression that a whole collection name must match.
        max_batch_count: Most records of one write request.
        max_batch_bytes: Largest write request in bytes.
        page_count: Records per read page that was measured to be fast.
        concurrent_readers: Readers that help (1: one at a time).
        concurrent_writers: Writers that help (1: one at a time).
        is_embedded: The engine runs in this process, over a folder with one user at a time.
    """

    store: str
    form: str
    id_kinds: frozenset[IdKind]
    metrics: frozenset[Metric]
    payload: PayloadRules
    sparse_metrics: frozenset[Metric] = frozenset({Metric.DOT})
    binary_metrics: frozenset[Metric] = frozenset({Metric.HAMMING, Metric.JACCARD})
    vector_kinds: frozenset[VectorKind] = frozenset({VectorKind.DENSE})
    other_types: frozenset[tuple[VectorKind, str]] = frozenset()
    has_any_sparse_weights: bool = True
    max_sparse_index: int = 2**32 - 1
    sparse_modifiers: frozenset[str] = frozenset()
    has_named_vectors: bool = False
    has_partial_vectors: bool = False
    has_non_finite_vectors: bool = False
    normalised_metrics: frozenset[Metric] = frozenset()
    inexact_metrics: frozenset[Metric] = frozenset({Metric.COSINE})
    vector_tolerance: float = 0.0
    hides_zero_vectors: bool = False
    has_documents: bool = False
    has_partitions: bool = False
    has_typed_text_fields: bool = False
    max_text_field_bytes: int | None = None
    indexed_types: frozenset[str] = frozenset()
    fields: FieldRules | None = None
    max_id_length_bytes: int | None = None
    has_empty_string_id: bool = True
    max_dimension: int | None = None
    reads_by_key_order: bool = True
    collection_name_pattern: str = r".+"
    max_batch_count: int = 10_000
    max_batch_bytes: int = 16 * 2**20
    page_count: int = 1_000
    concurrent_readers: int = 1
    concurrent_writers: int = 1
    is_embedded: bool = False

    def has_type(self, kind: VectorKind, dtype: str) -> bool:
        """Return whether the store keeps vectors of that kind in that element type."""
        return kind in self.vector_kinds and (dtype == FLOAT32 or (kind, dtype) in self.other_types)

    def metrics_of(self, vector: VectorSpec) -> frozenset[Metric]:
        """Return the metrics that a vector of that kind and element type can have."""
        if vector.kind is VectorKind.SPARSE:
            return self.sparse_metrics
        return self.binary_metrics if vector.dtype == BINARY else self.metrics

    def is_normalised(self, vector: VectorSpec) -> bool:
        """Return whether the store keeps the direction of that vector only; of integers it keeps all (Qdrant)."""
        is_float = element_type(vector.dtype).kind == "f" and vector.kind is not VectorKind.SPARSE
        return is_float and vector.metric in self.normalised_metrics

    def tolerance_of(self, vector: VectorSpec) -> float:
        """Return the largest relative difference of a vector that was stored; 0.0 means bit for bit.

        A vector that the store normalises before it rounds to float16 is off by that rounding; otherwise a float16
        vector is given as float16 and kept as it is.
        """
        if vector.kind is VectorKind.SPARSE or element_type(vector.dtype).kind != "f":
            return 0.0
        if vector.dtype != FLOAT32 and self.is_normalised(vector):
            return FLOAT16_ROUNDING
        return self.vector_tolerance if vector.metric in self.inexact_metrics else 0.0
