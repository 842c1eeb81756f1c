"""Milvus' field types: one column of a schema, what it is in our words, and a column made from a field asked for.

Belongs here: `Column`, types and limits of single fields, in both directions. Does not belong here: whole schemas
(``milvus_schema.py``, ``milvus_creation.py``), values (``milvus_wire.py``, ``milvus_screening.py``).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from rag_migration_pipeline.records import FieldSpec, VectorKind, VectorSpec
from rag_migration_pipeline.stores.capabilities import type_label


class FieldType(IntEnum):
    """Milvus' field types by their numbers in the protocol (``schema.proto``)."""

    BOOL = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    FLOAT = 10
    DOUBLE = 11
    VARCHAR = 21
    ARRAY = 22
    JSON = 23
    GEOMETRY = 24
    TEXT = 25
    TIMESTAMPTZ = 26
    BINARY_VECTOR = 100
    FLOAT_VECTOR = 101
    FLOAT16_VECTOR = 102
    BFLOAT16_VECTOR = 103
    SPARSE_VECTOR = 104
    INT8_VECTOR = 105
    ARRAY_OF_VECTOR = 106


NAME_PATTERN = r"[A-Za-z_][A-Za-z0-9_]{0,254}"
MAX_VARCHAR_BYTES = 65_535
MAX_JSON_BYTES = 65_536
"""Longest JSON value and longest dynamic field (``common.JSONMaxLength`` of 2.3.5, tried); Lite has no limit."""
MAX_ARRAY_ITEMS = 4_096
"""Largest ``max_capacity`` (2.3.5)."""

VECTOR_TYPES = {
    FieldType.FLOAT_VECTOR: (VectorKind.DENSE, "float32"),
    FieldType.FLOAT16_VECTOR: (VectorKind.DENSE, "float16"),
    FieldType.BFLOAT16_VECTOR: (VectorKind.DENSE, "bfloat16"),
    FieldType.INT8_VECTOR: (VectorKind.DENSE, "int8"),
    FieldType.BINARY_VECTOR: (VectorKind.DENSE, "binary"),
    FieldType.SPARSE_VECTOR: (VectorKind.SPARSE, "float32"),
    FieldType.ARRAY_OF_VECTOR: (VectorKind.MULTI, "float32"),
}
_KINDS: dict[FieldType, tuple[str, int | None]] = {
    FieldType.BOOL: ("bool", None),
    FieldType.INT8: ("int", 8),
    FieldType.INT16: ("int", 16),
    FieldType.INT32: ("int", 32),
    FieldType.INT64: ("int", None),
    FieldType.FLOAT: ("float", 32),
    FieldType.DOUBLE: ("float", None),
    FieldType.VARCHAR: ("string", None),
    FieldType.TEXT: ("string", None),
    FieldType.ARRAY: ("array", None),
    FieldType.JSON: ("json", None),
    FieldType.GEOMETRY: ("geo", None),
    FieldType.TIMESTAMPTZ: ("datetime", None),
}
"""Milvus' types as type and bits of a `FieldSpec`; None bits are 64."""
# TEXT, GEOMETRY and TIMESTAMPTZ are read where they exist and not created: they are younger than 2.3.5.
_CREATED = {type_label(*kind): field_type for field_type, kind in _KINDS.items() if field_type <= FieldType.JSON}
TYPES = frozenset(_CREATED)
ELEMENT_TYPES = TYPES - {"json", "array"}
_DEFAULT_SLOTS = {
    FieldType.BOOL: "bool_data",
    FieldType.INT8: "int_data",
    FieldType.INT16: "int_data",
    FieldType.INT32: "int_data",
    FieldType.INT64: "long_data",
    FieldType.FLOAT: "float_data",
    FieldType.DOUBLE: "double_data",
    FieldType.VARCHAR: "string_data",
}
"""Field type -> the slot of ``schema.ValueField`` that carries its default."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One field of a Milvus schema; lengths are bytes on a server and characters in Milvus Lite.

    Attributes:
        default: What Milvus puts in for nothing, and for null; None where there is no default.
        max_length: Of strings, also of those in an array.
        max_capacity: Most items of an array.
    """

    name: str
    type: FieldType
    element_type: FieldType | None = None
    is_nullable: bool = False
    default: Any = None
    max_length: int | None = None
    max_capacity: int | None = None
    dimension: int | None = None


def field_type_of(vector: VectorSpec) -> FieldType | None:
    """Return the field type that holds such vectors, or None."""
    wanted = (vector.kind, vector.dtype)
    return next((field_type for field_type, held in VECTOR_TYPES.items() if held == wanted), None)


def read_column(described: Any) -> Column:
    """Return the column that a ``schema.FieldSchema`` describes."""
    parameters = {pair.key: pair.value for pair in described.type_params}
    numbers = {name: int(parameters[name]) for name in ("max_length", "max_capacity", "dim") if name in parameters}
    slot = described.default_value.WhichOneof("data") if described.HasField("default_value") else None
    return Column(
        name=described.name,
        type=FieldType(described.data_type),
        element_type=FieldType(described.element_type) if described.element_type else None,
        is_nullable=described.nullable,
        default=None if slot is None else getattr(described.default_value, slot),
        max_length=numbers.get("max_length"),
        max_capacity=numbers.get("max_capacity"),
        dimension=numbers.get("dim"),
    )


def field_of(column: Column, *, is_indexed: bool) -> FieldSpec:
    """Return a column as a typed field."""
    kind, bits = _KINDS[column.type]
    element, element_bits = _KINDS[column.element_type] if column.element_type else (None, None)
    return FieldSpec(
        name=column.name,
        type=kind,
        is_nullable=column.is_nullable,
        is_indexed=is_indexed,
        max_length_bytes=column.max_length,
        element_type=element,
        bits=element_bits if element else bits,
        max_items=column.max_capacity,
        default=column.default,
    )


def add_field(schema: Any, item: FieldSpec) -> None:
    """Add a typed field, which the store's `FieldRules` have let pass, to a ``schema.CollectionSchema``."""
    if item.type == "array":
        element = _CREATED[type_label(item.element_type or "", item.bits)]
        added = schema.fields.add(name=item.name, data_type=FieldType.ARRAY, element_type=element)
        added.type_params.add(key="max_capacity", value=str(item.max_items or MAX_ARRAY_ITEMS))
    else:
        added = schema.fields.add(name=item.name, data_type=_CREATED[type_label(item.type, item.bits)])
    added.nullable = item.is_nullable
    if "string" in (item.type, item.element_type):
        added.type_params.add(key="max_length", value=str(item.max_length_bytes or MAX_VARCHAR_BYTES))
    if item.default is not None:
        setattr(added.default_value, _DEFAULT_SLOTS[FieldType(added.data_type)], item.default)
