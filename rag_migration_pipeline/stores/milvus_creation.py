"""A Milvus schema and index made from a spec, or the reasons why there can be none.

Belongs here: spec -> schema. Does not belong here: schema -> spec (``milvus_schema.py``), sending it (``milvus.py``).
"""

import re
from collections.abc import Mapping
from typing import Any

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.records import CollectionSpec, IdKind, VectorKind, VectorSpec
from rag_migration_pipeline.stores.capabilities import FieldRules
from rag_migration_pipeline.stores.milvus_schema import MAX_DIMENSION, METRICS
from rag_migration_pipeline.stores.milvus_types import (
    MAX_VARCHAR_BYTES,
    NAME_PATTERN,
    FieldType,
    add_field,
)

DEFAULT_ID_BYTES = 1_024
# Index types that every Milvus in every form has, so that a source's own may be taken over.
_PORTABLE_INDEXES = frozenset({"AUTOINDEX", "FLAT", "IVF_FLAT", "HNSW"})
_METRIC_NAMES = {metric: name for name, metric in METRICS.items()}


def refuse_unfit(spec: CollectionSpec, rules: FieldRules, store: str) -> None:
    """Refuse a spec that Milvus cannot have.

    Args:
        spec: The collection asked for.
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
    if len(spec.vectors) != 1:  # 2.3.5 refuses a second one; later servers and Lite would take it
        problems.append(f"{len(spec.vectors)} vectors per record, expected one")
    problems += [problem for vector in spec.vectors for problem in _vector_problems(vector)]
    problems += [problem for item in spec.fields for problem in rules.problems(item)]
    names = [key_name(spec), *(vector_field_name(v, spec) for v in spec.vectors), *(item.name for item in spec.fields)]
    problems += [f"two fields are named {name!r}" for name in sorted(set(names)) if names.count(name) > 1]
    others = names[: len(names) - len(spec.fields)]
    problems += [f"{name!r} cannot name a field" for name in others if not re.fullmatch(NAME_PATTERN, name)]
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
        add_field(schema, item)
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
