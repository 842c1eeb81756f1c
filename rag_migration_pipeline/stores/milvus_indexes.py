"""Milvus' indexes: read in its words, and chosen for a new collection.

Belongs here: metrics, index types and their parameters. Does not belong here: making and building them
(``milvus_loading.py``), fields (``milvus_types.py``).

In Milvus the metric belongs to the index of a vector, so that a vector field without one has no metric.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from rag_migration_pipeline.records import CollectionSpec, Metric, VectorKind, VectorSpec
from rag_migration_pipeline.stores.milvus_types import FieldType, field_type_of
from rag_migration_pipeline.vectors import BINARY

METRICS = {
    "COSINE": Metric.COSINE,
    "IP": Metric.DOT,
    "L2": Metric.L2,
    "HAMMING": Metric.HAMMING,
    "JACCARD": Metric.JACCARD,
}
METRIC_NAMES = {metric: name for name, metric in METRICS.items()}

Index = dict[str, Any]
"""``index_type``, ``metric_type`` and ``params`` of one index."""

# Built by every form that has such vectors, so that what a source has may be taken over; what a form lacks besides is
# AUTOINDEX there. The parameters are those without which a server refuses the index (2.3.5).
_TAKEN_OVER: Mapping[str, Mapping[str, int]] = {
    "AUTOINDEX": {},
    "FLAT": {},
    "IVF_FLAT": {"nlist": 128},
    "HNSW": {"M": 16, "efConstruction": 200},
    "BIN_FLAT": {},
    "BIN_IVF_FLAT": {"nlist": 128},
    "SPARSE_INVERTED_INDEX": {},
}
_SERVER_ONLY: Mapping[str, Mapping[str, int]] = {
    "IVF_SQ8": {"nlist": 128},
    "IVF_PQ": {"nlist": 128, "m": 1},
    "SCANN": {"nlist": 128},
}
_OLD_SCALAR_INDEXES = {"int": "STL_SORT", "float": "STL_SORT", "string": "Trie"}
"""What 2.3.5 builds on scalar fields: no others, and none on bool, JSON and arrays (tried)."""
_NEW_SCALAR_INDEXES = dict.fromkeys(("bool", "int", "float", "string"), "INVERTED")
"""What Lite 3.2.2 builds, and servers since 2.4."""


def read_indexes(described: Any) -> dict[str, Index]:
    """Return the indexes by field name, from a ``DescribeIndexResponse``.

    Milvus Lite tells only parameters that were given to it as ``params``, which pymilvus 3.0.2 does not do.
    """
    found: dict[str, Index] = {}
    for index in described.index_descriptions:
        given: dict[str, Any] = {pair.key: pair.value for pair in index.params}
        parameters: Index = {name: given.pop(name) for name in ("index_type", "metric_type") if name in given}
        nested = orjson.loads(given.pop("params", "{}"))
        parameters["params"] = {name: _number(value) for name, value in {**nested, **given}.items()}
        found[index.field_name] = parameters
    return found


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def choose_indexes(spec: CollectionSpec, names: Mapping[str, str], *, is_lite: bool, is_old: bool) -> dict[str, Index]:
    """Return the indexes of a new collection by field name.

    Args:
        spec: The collection; ``settings["indexes"]`` names index types and parameters by field, in Milvus' words.
        names: The vectors' fields by the vectors' names.
        is_lite: Whether Milvus Lite builds them.
        is_old: Whether a server before 2.4 does.
    """
    given = spec.settings.get("indexes")
    asked: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    # Lite needs no parameters.
    allowed: Mapping[str, Mapping[str, int]]
    allowed = {key: {} for key in _TAKEN_OVER} if is_lite else {**_TAKEN_OVER, **_SERVER_ONLY}
    indexes = {
        names[vector.name]: _vector_index(vector, asked.get(names[vector.name]), allowed) for vector in spec.vectors
    }
    scalar = _OLD_SCALAR_INDEXES if is_old else _NEW_SCALAR_INDEXES
    for item in spec.fields:
        if item.is_indexed and item.type in scalar:
            indexes[item.name] = {"index_type": scalar[item.type], "params": {}}
    return indexes


def _vector_index(vector: VectorSpec, asked: Any, allowed: Mapping[str, Mapping[str, int]]) -> Index:
    kind = _default_type(vector)
    parameters: Mapping[str, Any] = {}
    if isinstance(asked, Mapping) and asked.get("index_type") in allowed and _suits(asked["index_type"], vector):
        kind, parameters = asked["index_type"], asked.get("params") or {}
    return {
        "index_type": kind,
        "metric_type": METRIC_NAMES[vector.metric],
        "params": {**allowed[kind], **parameters},
    }


def _default_type(vector: VectorSpec) -> str:
    if vector.kind is VectorKind.SPARSE:
        return "SPARSE_INVERTED_INDEX"
    return "BIN_FLAT" if vector.dtype == BINARY else "AUTOINDEX"


def _suits(index_type: str, vector: VectorSpec) -> bool:
    """Return whether an index type is one for that kind of vector."""
    field_type = field_type_of(vector)
    if index_type.startswith("BIN_"):
        return field_type == FieldType.BINARY_VECTOR
    if index_type.startswith("SPARSE_"):
        return field_type == FieldType.SPARSE_VECTOR
    return field_type not in (FieldType.BINARY_VECTOR, FieldType.SPARSE_VECTOR)
