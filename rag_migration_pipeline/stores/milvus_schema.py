"""A Milvus schema as a layout of columns, read from the store.

Belongs here: `Layout`, schema -> spec, metrics, indexes. Does not belong here: single fields (``milvus_types.py``),
spec -> schema (``milvus_creation.py``), values (``milvus_wire.py``), calls (``milvus.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rag_migration_pipeline.errors import SchemaCompatibilityError, StoreRequestError
from rag_migration_pipeline.payloads import decode
from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    CollectionSpec,
    IdKind,
    Metric,
    VectorSpec,
)
from rag_migration_pipeline.stores.milvus_indexes import METRICS
from rag_migration_pipeline.stores.milvus_types import VECTOR_TYPES, Column, FieldType, field_of, read_column
from rag_migration_pipeline.stores.milvus_vectors import row_bytes

DYNAMIC_FIELD = "$meta"
DEFAULT_PARTITION = "_default"
MAX_DIMENSION = 32_768
PROPERTY = "rag_migration_pipeline"
"""Collection property that keeps the user's metadata and the index that belongs to the collection, as JSON: Milvus
makes collection and index in two calls, and what is killed between them must be finished by the next run."""


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
        aliases: Other names of the collection, as far as the store tells them (Milvus Lite does not).
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
    aliases: Sequence[str] = ()
    shard_count: int = 1

    @cached_property
    def reserved_keys(self) -> frozenset[str]:
        """Payload keys that would meet the key, a vector or the dynamic field."""
        return frozenset({self.key.name, DYNAMIC_FIELD, *(column.name for column in self.vectors.values())})

    @property
    def has_partitions(self) -> bool:
        """Whether records are in one of several partitions by somebody's choice, not by the partition key."""
        return len(self.partitions) > 1 and self.partition_key is None

    @property
    def row_bytes(self) -> int:
        """Size of one record's vectors in bytes."""
        return sum(row_bytes(column) for column in self.vectors.values())

    @property
    def plan(self) -> dict[str, Any]:
        """See `read_plan`."""
        return read_plan(self.properties)


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
    columns = [read_column(f) for f in schema.fields if not f.is_dynamic]
    key = next(column for column, f in zip(columns, schema.fields, strict=False) if f.is_primary_key)
    vectors = [column for column in columns if column.type in VECTOR_TYPES]
    properties = {pair.key: pair.value for pair in described.properties}
    return Layout(
        collection=described.collection_name or schema.name,
        key=key,
        vectors=dict(zip(_vector_names(vectors, properties), vectors, strict=True)),
        fields={c.name: c for c in columns if c is not key and c.type not in VECTOR_TYPES},
        has_dynamic=schema.enable_dynamic_field,
        is_auto_id=schema.autoID or any(f.autoID for f in schema.fields),
        partitions=tuple(sorted(partitions)),
        partition_key=next((f.name for f in schema.fields if f.is_partition_key), None),
        description=schema.description,
        properties=properties,
        aliases=tuple(sorted(described.aliases)),
        shard_count=described.shards_num or 1,
    )


def _vector_names(vectors: Sequence[Column], properties: Mapping[str, str]) -> list[str]:
    """Return the names of vectors in batches: those of their fields; a single one is unnamed unless we named it."""
    names = [column.name for column in vectors]
    is_unnamed = len(names) == 1 and read_plan(properties).get("named") != names[0]
    return [DEFAULT_VECTOR] if is_unnamed else names


def read_plan(properties: Mapping[str, str]) -> dict[str, Any]:
    """Return what `PROPERTY` keeps: ``metadata``, ``index``, ``named``; empty for collections that others made.

    ``named`` is the field of a single vector that has a name.
    """
    text = properties.get(PROPERTY)
    try:
        plan = decode(text) if text else {}
    except ValueError:
        return {}
    return plan if isinstance(plan, dict) else {}


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
        VectorSpec(column.dimension, _metric(layout, column, indexes), name, *VECTOR_TYPES[column.type])
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
        # Those of a partition key are Milvus' own affair (``_default_0``, ``_pk_0``); their number is not.
        "partitions": [] if layout.partition_key else list(layout.partitions),
        "partition_key": layout.partition_key,
        "num_partitions": len(layout.partitions) if layout.partition_key else None,
        "shards_num": layout.shard_count,
        "aliases": list(layout.aliases),
        "consistency_level": consistency,
        "properties": {key: value for key, value in layout.properties.items() if key != PROPERTY},
    }
    if len(layout.vectors) == 1:
        settings["vector_field"] = next(iter(layout.vectors.values())).name
    return CollectionSpec(
        name=layout.collection,
        vectors=tuple(vectors),
        id_kinds=frozenset({IdKind.STRING if is_text else IdKind.INT64}),
        fields=tuple(field_of(column, is_indexed=column.name in indexes) for column in layout.fields.values()),
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
    metric = METRICS.get(name.upper())
    if metric is None:
        raise SchemaCompatibilityError(
            f"the index of {layout.collection!r}.{column.name!r} has the metric {name!r}; known here: "
            f"{', '.join(METRICS)}.",
            todo="Leave this vector field out of the migration.",
            collection=layout.collection,
        )
    return metric
