"""A Milvus collection made from a spec: its schema, indexes and settings, or the reasons why there can be none.

Belongs here: spec -> request. Does not belong here: schema -> spec (``milvus_schema.py``), single fields
(``milvus_types.py``), the choice of indexes (``milvus_indexes.py``), sending it (``milvus.py``).

Of a spec's settings, in Milvus' words, these are taken over: ``indexes``, ``partitions``, ``partition_key``,
``num_partitions``, ``shards_num``, ``consistency_level``, ``properties``, ``has_dynamic_field``, ``vector_field``.
Aliases are not: they would lead users of the source to the copy.
"""

import re
from collections.abc import Mapping
from typing import Any

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.records import CollectionSpec, IdKind, VectorKind, VectorSpec
from rag_migration_pipeline.stores.capabilities import Capabilities, FieldRules
from rag_migration_pipeline.stores.milvus_indexes import choose_indexes
from rag_migration_pipeline.stores.milvus_schema import DEFAULT_PARTITION, MAX_DIMENSION, PROPERTY
from rag_migration_pipeline.stores.milvus_types import (
    MAX_VARCHAR_BYTES,
    NAME_PATTERN,
    FieldType,
    add_field,
    field_type_of,
)
from rag_migration_pipeline.vectors import BINARY

DEFAULT_ID_BYTES = 1_024
MAX_SHARDS = 16
"""``rootCoord.maxShardNum``, 16 by default (2.3.5)."""


def refuse_unfit(spec: CollectionSpec, capabilities: Capabilities, rules: FieldRules, store: str) -> None:
    """Refuse a spec that Milvus cannot have.

    Args:
        spec: The collection asked for.
        capabilities: What this Milvus can hold.
        rules: What its typed fields hold.
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
    if not spec.vectors or (len(spec.vectors) > 1 and not capabilities.has_named_vectors):
        problems.append(f"{len(spec.vectors)} vectors per record, expected one")
    problems += [problem for vector in spec.vectors for problem in _vector_problems(vector, capabilities)]
    problems += [problem for item in spec.fields for problem in rules.problems(item)]
    names = [key_name(spec), *(vector_field_name(v, spec) for v in spec.vectors), *(item.name for item in spec.fields)]
    problems += [f"two fields are named {name!r}" for name in sorted(set(names)) if names.count(name) > 1]
    problems += _key_problems(spec)
    others = names[: len(names) - len(spec.fields)]
    problems += [f"{name!r} cannot name a field" for name in others if not re.fullmatch(NAME_PATTERN, name)]
    if problems:
        raise SchemaCompatibilityError(
            f"{store} cannot have the collection {spec.name!r}: {'; '.join(problems)}.",
            todo="Change the mapping, or choose another target.",
            collection=spec.name,
            problems=problems,
        )


def _vector_problems(vector: VectorSpec, capabilities: Capabilities) -> list[str]:
    label = f"vector {vector.name!r}"
    if not capabilities.has_type(vector.kind, vector.dtype):
        return [f"{label} is {vector.kind} {vector.dtype}, which this Milvus does not hold"]
    problems = []
    known = capabilities.metrics_of(vector)
    if vector.metric not in known:
        problems.append(f"{label} has the metric {vector.metric}, expected {' or '.join(sorted(known))}")
    if vector.modifier is not None:
        problems.append(f"{label} has the modifier {vector.modifier}")
    if vector.kind is VectorKind.SPARSE:
        return problems
    if vector.dimension is None or not 1 <= vector.dimension <= MAX_DIMENSION:
        problems.append(f"{label} has dimension {vector.dimension}, expected 1 to {MAX_DIMENSION}")
    elif vector.dtype == BINARY and vector.dimension % 8:
        problems.append(f"{label} is binary of dimension {vector.dimension}, expected a multiple of 8")
    return problems


def _key_problems(spec: CollectionSpec) -> list[str]:
    """Return why a partition key cannot be the spec's."""
    key = spec.settings.get("partition_key")
    field = next((item for item in spec.fields if item.name == key), None)
    if key is None:
        return []
    if field is None:
        return [f"the partition key {key!r} is no typed field"]
    is_fit = field.type in ("int", "string") and field.bits is None and not field.is_nullable
    return [] if is_fit else [f"the partition key {key!r} is neither int64 nor string, or may be null"]


def key_name(spec: CollectionSpec) -> str:
    """Return the key field's name for a spec."""
    return spec.id_field or "id"


def vector_field_name(vector: VectorSpec, spec: CollectionSpec) -> str:
    """Return the name of a vector's field: its own; for the unnamed one what it had in Milvus before, or ``vector``."""
    return vector.name or str(spec.settings.get("vector_field") or "vector")


def build_request(spec: CollectionSpec, *, is_lite: bool, is_old: bool) -> Any:
    """Return the ``CreateCollectionRequest`` of a spec that `refuse_unfit` has let pass.

    Args:
        spec: The collection.
        is_lite: Whether Milvus Lite makes it.
        is_old: Whether a server before 2.4 does.
    """
    from pymilvus.grpc_gen import common_pb2, milvus_pb2

    shards = spec.settings.get("shards_num")
    request = milvus_pb2.CreateCollectionRequest(
        collection_name=spec.name,
        schema=_build_schema(spec).SerializeToString(),
        shards_num=min(max(shards, 1), MAX_SHARDS) if isinstance(shards, int) else 1,
    )
    count = spec.settings.get("num_partitions")
    if spec.settings.get("partition_key") is not None and isinstance(count, int) and not is_lite:
        request.num_partitions = count
    level = spec.settings.get("consistency_level")
    if level in common_pb2.ConsistencyLevel.keys():  # noqa: SIM118 - a generated enumeration, no dict
        request.consistency_level = common_pb2.ConsistencyLevel.Value(level)
    for key, value in _mapping(spec, "properties").items():
        if key != PROPERTY:
            request.properties.add(key=key, value=str(value))
    request.properties.add(key=PROPERTY, value=_plan_text(spec, is_lite=is_lite, is_old=is_old))
    return request


def new_partitions(spec: CollectionSpec) -> list[str]:
    """Return the partitions that a new collection is to have beside its default one."""
    names = spec.settings.get("partitions")
    if not isinstance(names, list | tuple) or spec.settings.get("partition_key") is not None:
        return []
    return [name for name in names if name != DEFAULT_PARTITION]


def _mapping(spec: CollectionSpec, name: str) -> Mapping[str, Any]:
    value = spec.settings.get(name)
    return value if isinstance(value, Mapping) else {}


def _build_schema(spec: CollectionSpec) -> Any:
    from pymilvus.grpc_gen import schema_pb2

    description = spec.metadata.get("description")
    schema = schema_pb2.CollectionSchema(
        name=spec.name,
        description=description if isinstance(description, str) else "",
        enable_dynamic_field=spec.settings.get("has_dynamic_field") is not False,
    )
    if IdKind.STRING in spec.id_kinds:
        length = spec.max_id_length_bytes or DEFAULT_ID_BYTES
        key = schema.fields.add(name=key_name(spec), is_primary_key=True, data_type=FieldType.VARCHAR)
        key.type_params.add(key="max_length", value=str(length))
    else:
        schema.fields.add(name=key_name(spec), is_primary_key=True, data_type=FieldType.INT64)
    for vector in spec.vectors:
        added = schema.fields.add(name=vector_field_name(vector, spec), data_type=field_type_of(vector))
        if vector.dimension is not None:
            added.type_params.add(key="dim", value=str(vector.dimension))
    for item in spec.fields:
        add_field(schema, item)
        schema.fields[-1].is_partition_key = item.name == spec.settings.get("partition_key")
    return schema


def _plan_text(spec: CollectionSpec, *, is_lite: bool, is_old: bool) -> str:
    """Return what `PROPERTY` keeps for a new collection; see `milvus_schema.read_plan`."""
    names = {vector.name: vector_field_name(vector, spec) for vector in spec.vectors}
    index = choose_indexes(spec, names, is_lite=is_lite, is_old=is_old)
    plan: dict[str, Any] = {"metadata": dict(spec.metadata), "index": index}
    if len(spec.vectors) == 1 and spec.vectors[0].name:
        plan["named"] = spec.vectors[0].name
    return encode(plan)
