"""A Milvus schema as a layout of columns, read from the store and made from a spec.

Belongs here: `Layout`, spec <-> schema, metrics, indexes, the names and limits of fields. Does not belong here: values
(``milvus_wire.py``), which values fit a layout (``milvus_screening.py``), calls (``milvus.py``).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

import orjson

from rag_migration_pipeline.errors import SchemaCompatibilityError, StoreRequestError
from rag_migration_pipeline.payloads import decode, encode
from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    CollectionSpec,
    FieldSpec,
    IdKind,
    Metric,
    VectorKind,
    VectorSpec,
)


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


DYNAMIC_FIELD = "$meta"
NAME_PATTERN = r"[A-Za-z_][A-Za-z0-9_]{0,254}"
MAX_VARCHAR_BYTES = 65_535
MAX_DIMENSION = 32_768
MAX_ARRAY_CAPACITY = 4_096
DEFAULT_ID_BYTES = 1_024
PROPERTY = "rag_migration_pipeline"
"""Collection property that keeps the user's metadata and the index that belongs to the collection, as JSON: Milvus
makes collection and index in two calls, and what is killed between them must be finished by the next run."""

# Index types that every Milvus in every form has, so that a source's own may be taken over.
_PORTABLE_INDEXES = frozenset({"AUTOINDEX", "FLAT", "IVF_FLAT", "HNSW"})

METRICS = {"COSINE": Metric.COSINE, "IP": Metric.DOT, "L2": Metric.L2}
_OTHER_METRICS = {"HAMMING": Metric.HAMMING, "JACCARD": Metric.JACCARD}
_METRIC_NAMES = {metric: name for name, metric in METRICS.items()}

_VECTOR_TYPES = {
    FieldType.FLOAT_VECTOR: (VectorKind.DENSE, "float32"),
    FieldType.FLOAT16_VECTOR: (VectorKind.DENSE, "float16"),
    FieldType.BFLOAT16_VECTOR: (VectorKind.DENSE, "bfloat16"),
    FieldType.INT8_VECTOR: (VectorKind.DENSE, "int8"),
    FieldType.BINARY_VECTOR: (VectorKind.DENSE, "binary"),
    FieldType.SPARSE_VECTOR: (VectorKind.SPARSE, "float32"),
    FieldType.ARRAY_OF_VECTOR: (VectorKind.MULTI, "float32"),
}
_FIELD_TYPES = {
    FieldType.BOOL: "bool",
    FieldType.INT8: "int",
    FieldType.INT16: "int",
    FieldType.INT32: "int",
    FieldType.INT64: "int",
    FieldType.FLOAT: "float",
    FieldType.DOUBLE: "float",
    FieldType.VARCHAR: "string",
    FieldType.TEXT: "string",
    FieldType.ARRAY: "array",
    FieldType.JSON: "json",
    FieldType.GEOMETRY: "geo",
    FieldType.TIMESTAMPTZ: "datetime",
}
_TYPES_TO_CREATE = {
    "string": FieldType.VARCHAR,
    "int": FieldType.INT64,
    "float": FieldType.DOUBLE,
    "bool": FieldType.BOOL,
    "json": FieldType.JSON,
    "array": FieldType.ARRAY,
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One field of a Milvus schema; lengths are bytes on a server and characters in Milvus Lite."""

    name: str
    type: FieldType
    element_type: FieldType | None = None
    is_nullable: bool = False
    has_default: bool = False
    max_length: int | None = None
    max_capacity: int | None = None
    dimension: int | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The columns of a collection.

    Attributes:
        vectors: Vector columns by the name they have in batches; a single one is the unnamed vector.
        fields: Typed payload columns by name.
        has_dynamic: Whether other payload keys go into the dynamic field.
        is_auto_id: Whether Milvus gives the keys.
        partitions: Names of all partitions.
        partition_key: The field that decides the partition, or None.
    """

    collection: str
    key: Column
    vectors: Mapping[str, Column]
    fields: Mapping[str, Column]
    has_dynamic: bool
    is_auto_id: bool
    partitions: Sequence[str] = ()
    partition_key: str | None = None
    description: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def reserved_keys(self) -> frozenset[str]:
        """Payload keys that would meet the key, a vector or the dynamic field."""
        return frozenset({self.key.name, DYNAMIC_FIELD, *(column.name for column in self.vectors.values())})

    @property
    def row_bytes(self) -> int:
        """Size of one record's vectors in bytes."""
        return sum(4 * (column.dimension or 0) for column in self.vectors.values())

    @property
    def plan(self) -> dict[str, Any]:
        """What `PROPERTY` keeps: ``metadata`` and ``index``; empty for collections that others made."""
        text = self.properties.get(PROPERTY)
        try:
            plan = decode(text) if text else {}
        except ValueError:
            return {}
        return plan if isinstance(plan, dict) else {}


def read_layout(described: Any, partitions: Sequence[str]) -> Layout:
    """Return the layout that a ``DescribeCollectionResponse`` describes.

    Raises:
        SchemaCompatibilityError: A field has a type that did not exist when this was written.
    """
    schema = described.schema
    unknown = [f.name for f in schema.fields if f.data_type not in FieldType.__members__.values()]
    if unknown or schema.struct_array_fields:
        unknown += [f.name for f in schema.struct_array_fields]
        raise SchemaCompatibilityError(
            f"collection {schema.name!r} has fields of types that are not known here: {', '.join(unknown)}.",
            todo="Copy the collection without these fields first.",
            collection=schema.name,
        )
    columns = [_column(f) for f in schema.fields if not f.is_dynamic]
    key = next(column for column, f in zip(columns, schema.fields, strict=False) if f.is_primary_key)
    vectors = [column for column in columns if column.type in _VECTOR_TYPES]
    names = [DEFAULT_VECTOR] if len(vectors) == 1 else [column.name for column in vectors]
    return Layout(
        collection=described.collection_name or schema.name,
        key=key,
        vectors=dict(zip(names, vectors, strict=True)),
        fields={c.name: c for c in columns if c is not key and c.type not in _VECTOR_TYPES},
        has_dynamic=schema.enable_dynamic_field,
        is_auto_id=schema.autoID or any(f.autoID for f in schema.fields),
        partitions=tuple(sorted(partitions)),
        partition_key=next((f.name for f in schema.fields if f.is_partition_key), None),
        description=schema.description,
        properties={pair.key: pair.value for pair in described.properties},
    )


def _column(described: Any) -> Column:
    parameters = {pair.key: pair.value for pair in described.type_params}
    numbers = {name: int(parameters[name]) for name in ("max_length", "max_capacity", "dim") if name in parameters}
    return Column(
        name=described.name,
        type=FieldType(described.data_type),
        element_type=FieldType(described.element_type) if described.element_type else None,
        is_nullable=described.nullable,
        has_default=described.HasField("default_value") and described.default_value.WhichOneof("data") is not None,
        max_length=numbers.get("max_length"),
        max_capacity=numbers.get("max_capacity"),
        dimension=numbers.get("dim"),
    )


def read_spec(layout: Layout, indexes: Mapping[str, Mapping[str, Any]], consistency: str) -> CollectionSpec:
    """Return the spec of a described collection.

    Args:
        layout: Its columns.
        indexes: Parameters of the indexes by field name, as the store reports them.
        consistency: The collection's default consistency level.

    Raises:
        StoreRequestError: A vector field has no index, and so no metric.
        SchemaCompatibilityError: The index has a metric that is not known here.
    """
    vectors = [
        VectorSpec(column.dimension, _metric(layout, column, indexes), name, *_VECTOR_TYPES[column.type])
        for name, column in layout.vectors.items()
    ]
    is_text = layout.key.type == FieldType.VARCHAR
    metadata = layout.plan.get("metadata", {})
    if layout.description and not metadata:
        metadata = {"description": layout.description}
    settings: dict[str, Any] = {
        "vector_fields": {name: column.name for name, column in layout.vectors.items()},
        "has_dynamic_field": layout.has_dynamic,
        "auto_id": layout.is_auto_id,
        "indexes": {name: dict(parameters) for name, parameters in indexes.items()},
        "partitions": list(layout.partitions),
        "partition_key": layout.partition_key,
        "consistency_level": consistency,
        "properties": {key: value for key, value in layout.properties.items() if key != PROPERTY},
    }
    if len(layout.vectors) == 1:
        settings["vector_field"] = next(iter(layout.vectors.values())).name
    return CollectionSpec(
        name=layout.collection,
        vectors=tuple(vectors),
        id_kinds=frozenset({IdKind.STRING if is_text else IdKind.INT64}),
        fields=tuple(_field_spec(column, column.name in indexes) for column in layout.fields.values()),
        settings=settings,
        metadata=metadata,
        id_field=layout.key.name,
        max_id_length_bytes=layout.key.max_length if is_text else None,
    )


def _metric(layout: Layout, column: Column, indexes: Mapping[str, Mapping[str, Any]]) -> Metric:
    if column.name not in indexes:
        raise StoreRequestError(
            f"the metric of collection {layout.collection!r} is not known: its vector field {column.name!r} has no "
            "index, and in Milvus the metric belongs to the index.",
            todo="Create an index with the metric that the vectors are meant for.",
            collection=layout.collection,
        )
    name = str(indexes[column.name].get("metric_type", ""))
    metric = {**METRICS, **_OTHER_METRICS}.get(name.upper())
    if metric is None:
        raise SchemaCompatibilityError(
            f"the index of {layout.collection!r}.{column.name!r} has the metric {name!r}; known here: "
            f"{', '.join([*METRICS, *_OTHER_METRICS])}.",
            todo="Leave this vector field out of the migration.",
            collection=layout.collection,
        )
    return metric


def _field_spec(column: Column, is_indexed: bool) -> FieldSpec:
    return FieldSpec(
        name=column.name,
        type=_FIELD_TYPES[column.type],
        is_nullable=column.is_nullable,
        is_indexed=is_indexed,
        max_length_bytes=column.max_length,
        element_type=_FIELD_TYPES[column.element_type] if column.element_type else None,
    )


def read_indexes(described: Any) -> dict[str, dict[str, Any]]:
    """Return the parameters of each index by field name, from a ``DescribeIndexResponse``."""
    found: dict[str, dict[str, Any]] = {}
    for index in described.index_descriptions:
        parameters: dict[str, Any] = {pair.key: pair.value for pair in index.params}
        if "params" in parameters:
            parameters["params"] = orjson.loads(parameters["params"])
        found[index.field_name] = parameters
    return found


# -- spec -> schema ------------------------------------------------------------------------------------------------


def refuse_unfit(spec: CollectionSpec, *, has_nullable: bool, store: str) -> None:
    """Refuse a spec that Milvus cannot have.

    Args:
        spec: The collection asked for.
        has_nullable: Whether it takes nullable fields (servers since 2.5, Lite).
        store: The store's name and version, for the message.

    Raises:
        SchemaCompatibilityError: Lists all problems at once.
    """
    problems = []
    if not re.fullmatch(NAME_PATTERN, spec.name):
        problems.append(f"the name {spec.name!r} is not of the form {NAME_PATTERN}")
    if spec.id_kinds not in (frozenset({IdKind.STRING}), frozenset({IdKind.INT64})):
        given = " and ".join(sorted(spec.id_kinds)) or "not given"
        problems.append(f"the id kinds are {given}, a Milvus key is either string or int64")
    if not 0 < (spec.max_id_length_bytes or 1) <= MAX_VARCHAR_BYTES:
        problems.append(f"ids of {spec.max_id_length_bytes} bytes, at most {MAX_VARCHAR_BYTES} are possible")
    if len(spec.vectors) != 1:  # 2.3.5 refuses a second one; later servers and Lite would take it
        problems.append(f"{len(spec.vectors)} vectors per record, expected one")
    problems += [problem for vector in spec.vectors for problem in _vector_problems(vector)]
    problems += [problem for item in spec.fields for problem in _field_problems(item, has_nullable=has_nullable)]
    names = [key_name(spec), *(vector_field_name(v, spec) for v in spec.vectors), *(item.name for item in spec.fields)]
    problems += [f"two fields are named {name!r}" for name in sorted(set(names)) if names.count(name) > 1]
    problems += [f"{name!r} cannot name a field" for name in names if not re.fullmatch(NAME_PATTERN, name)]
    if problems:
        raise SchemaCompatibilityError(
            f"{store} cannot have the collection {spec.name!r}: {'; '.join(problems)}.",
            todo="Change the mapping, or choose another target.",
            collection=spec.name,
            problems=problems,
        )


def _vector_problems(vector: VectorSpec) -> list[str]:
    problems = []
    if vector.kind is not VectorKind.DENSE or vector.dtype != "float32":
        problems.append(f"vector {vector.name!r} is {vector.kind} {vector.dtype}, expected dense float32")
    if vector.metric not in _METRIC_NAMES:
        problems.append(f"vector {vector.name!r} has the metric {vector.metric}, expected cosine, dot or l2")
    if vector.dimension is None or not 1 <= vector.dimension <= MAX_DIMENSION:
        problems.append(f"vector {vector.name!r} has dimension {vector.dimension}, expected 1 to {MAX_DIMENSION}")
    return problems


def _field_problems(item: FieldSpec, *, has_nullable: bool) -> list[str]:
    problems = []
    if item.type not in _TYPES_TO_CREATE:
        problems.append(f"field {item.name!r} has the type {item.type}")
    if item.type == "array" and item.element_type not in ("string", "int", "float", "bool"):
        problems.append(f"field {item.name!r} is an array of {item.element_type}")
    if item.is_nullable and not has_nullable:
        # Milvus 2.3.5 accepts the flag, drops it, and then refuses the null (tried).
        problems.append(f"field {item.name!r} is nullable, which Milvus has since 2.5")
    if not 0 < (item.max_length_bytes or 1) <= MAX_VARCHAR_BYTES:
        problems.append(f"field {item.name!r} holds {item.max_length_bytes} bytes, at most {MAX_VARCHAR_BYTES}")
    return problems


def key_name(spec: CollectionSpec) -> str:
    """Return the key field's name for a spec."""
    return spec.id_field or "id"


def vector_field_name(vector: VectorSpec, spec: CollectionSpec) -> str:
    """Return the name of a vector's field: its own; for the unnamed one what it had in Milvus before, or ``vector``."""
    return vector.name or str(spec.settings.get("vector_field") or "vector")


def build_schema(spec: CollectionSpec) -> Any:
    """Return the ``schema.CollectionSchema`` of a spec that `refuse_unfit` has let pass."""
    from pymilvus.grpc_gen import schema_pb2

    schema = schema_pb2.CollectionSchema(name=spec.name, enable_dynamic_field=True)
    if IdKind.STRING in spec.id_kinds:
        length = spec.max_id_length_bytes or DEFAULT_ID_BYTES
        key = schema.fields.add(name=key_name(spec), is_primary_key=True, data_type=FieldType.VARCHAR)
        key.type_params.add(key="max_length", value=str(length))
    else:
        schema.fields.add(name=key_name(spec), is_primary_key=True, data_type=FieldType.INT64)
    for vector in spec.vectors:
        added = schema.fields.add(name=vector_field_name(vector, spec), data_type=FieldType.FLOAT_VECTOR)
        added.type_params.add(key="dim", value=str(vector.dimension))
    for item in spec.fields:
        added = schema.fields.add(name=item.name, data_type=_TYPES_TO_CREATE[item.type], nullable=item.is_nullable)
        if item.element_type:
            added.element_type = _TYPES_TO_CREATE[item.element_type]
            added.type_params.add(key="max_capacity", value=str(MAX_ARRAY_CAPACITY))
        if "string" in (item.type, item.element_type):
            added.type_params.add(key="max_length", value=str(item.max_length_bytes or MAX_VARCHAR_BYTES))
    return schema


def plan_text(spec: CollectionSpec) -> str:
    """Return what `PROPERTY` keeps for a new collection: the user's metadata, and index parameters by field name.

    The source's own index parameters are taken over where the spec comes from a Milvus collection.
    """
    given = spec.settings.get("indexes", {})
    index = {}
    for vector in spec.vectors:
        name = vector_field_name(vector, spec)
        parameters = {"index_type": "AUTOINDEX", "params": {}}
        old = given.get(name) if isinstance(given, Mapping) else None
        if isinstance(old, Mapping) and old.get("index_type") in _PORTABLE_INDEXES:
            parameters = {"index_type": old["index_type"], "params": old.get("params", {})}
        index[name] = {**parameters, "metric_type": _METRIC_NAMES[vector.metric]}
    return encode({"metadata": dict(spec.metadata), "index": index})
