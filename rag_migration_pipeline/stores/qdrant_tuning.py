"""Index and storage settings of Qdrant's collections: read into a spec's settings, and asked for in a new collection.

Belongs here: the two directions, for a server and for the engine alone. Does not belong here: vectors, names, limits
(``qdrant_schema.py``), requests (``qdrant.py``, ``qdrant_edge.py``), other stores' words (``settings.py``).

In a spec the settings have one form for server and engine:

    hnsw_config, quantization_config, optimizer_config, wal_config    as Qdrant's REST models have them
    on_disk_payload, shard_number, replication_factor, write_consistency_factor
    vectors          per vector what is its own: on_disk, hnsw_config, quantization_config
    sparse_vectors   per sparse vector its index: on_disk, full_scan_threshold
    payload_indexes  per payload key the type of its index, or its parameters where it has some

What else Qdrant says of itself stays beside these, for reports.
"""

from collections.abc import Mapping
from typing import Any

from rag_migration_pipeline.records import DEFAULT_VECTOR, CollectionSpec, VectorKind, VectorSpec
from rag_migration_pipeline.stores.qdrant_schema import DISTANCES, is_sparse
from rag_migration_pipeline.vectors import FLOAT32

_OWN = ("on_disk", "hnsw_config", "quantization_config")
_SPARSE_OWN = ("on_disk", "full_scan_threshold")
_ELSEWHERE = frozenset({"params", "vectors", "sparse_vectors", "optimizers", "payload_memory"})
"""Read on their own; the engine says ``payload_memory`` only until a shard is first loaded (qdrant-edge-py 0.9.0)."""

_NUMBERS = ("shard_number", "replication_factor", "write_consistency_factor")
_FULL_SCAN_THRESHOLD = 10_000  # KB; the server's default (config.yaml), which the engine's constructor does not know


def settings_from_config(config: Mapping[str, Any], indexes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a collection's settings in the form above.

    Args:
        config: Qdrant's JSON: a server's ``config``, or the engine's ``edge_config.json``.
        indexes: Payload key -> type of its index, or its parameters.
    """
    params: Mapping[str, Any] = config.get("params", config)
    settings: dict[str, Any] = {
        name: value for name, value in {**params, **config}.items() if value is not None and name not in _ELSEWHERE
    }
    if config.get("optimizers"):
        settings["optimizer_config"] = _without_none(config["optimizers"])
    vectors = params.get("vectors") or {}
    named = {DEFAULT_VECTOR: vectors} if "size" in vectors and not isinstance(vectors["size"], dict) else vectors
    sparse = {
        name: (item or {}).get("index") or item or {} for name, item in (params.get("sparse_vectors") or {}).items()
    }
    for part, items, own in (("vectors", named, _OWN), ("sparse_vectors", sparse, _SPARSE_OWN)):
        told = {name: _without_none({key: item.get(key) for key in own}) for name, item in items.items()}
        if any(told.values()):
            settings[part] = {name: item for name, item in told.items() if item}
    if indexes:
        settings["payload_indexes"] = dict(indexes)
    return settings


def creation_arguments(models: Any, spec: CollectionSpec) -> dict[str, Any]:
    """Return the arguments of ``create_collection``: vectors and settings.

    Args:
        models: The client's ``models``.
        spec: The collection.
    """
    settings = spec.settings
    dense = {v.name: _vector_params(models, spec, v) for v in spec.vectors if not is_sparse(v)}
    given = {
        "vectors_config": dense[DEFAULT_VECTOR] if list(dense) == [DEFAULT_VECTOR] else dense,
        "sparse_vectors_config": {v.name: _sparse_params(models, spec, v) for v in spec.vectors if is_sparse(v)}
        or None,
        "hnsw_config": _model(models.HnswConfigDiff, settings.get("hnsw_config")),
        "optimizers_config": _model(models.OptimizersConfigDiff, settings.get("optimizer_config")),
        "wal_config": _model(models.WalConfigDiff, settings.get("wal_config")),
        "quantization_config": _quantization(models, settings.get("quantization_config")),
        "on_disk_payload": settings.get("on_disk_payload"),
        **{name: settings.get(name) for name in _NUMBERS},
    }
    return _without_none(given)


def _vector_params(models: Any, spec: CollectionSpec, vector: VectorSpec) -> Any:
    own = _part(spec, "vectors", vector.name)
    comparator = models.MultiVectorComparator.MAX_SIM
    return models.VectorParams(
        size=vector.dimension,
        distance=models.Distance(DISTANCES[vector.metric]),
        multivector_config=models.MultiVectorConfig(comparator=comparator) if vector.kind is VectorKind.MULTI else None,
        datatype=None if vector.dtype == FLOAT32 else models.Datatype(vector.dtype),
        on_disk=own.get("on_disk"),
        hnsw_config=_model(models.HnswConfigDiff, own.get("hnsw_config")),
        quantization_config=_quantization(models, own.get("quantization_config")),
    )


def _sparse_params(models: Any, spec: CollectionSpec, vector: VectorSpec) -> Any:
    return models.SparseVectorParams(
        modifier=models.Modifier(vector.modifier) if vector.modifier else None,
        index=_model(models.SparseIndexParams, _part(spec, "sparse_vectors", vector.name)),
    )


def index_schema(models: Any, spec: CollectionSpec, key: str, kind: str) -> Any:
    """Return the schema of a payload index: with its parameters where the spec has them, else its type alone.

    Args:
        models: The client's ``models``.
        spec: The collection.
        key: The payload key.
        kind: The type that follows from the field.
    """
    from pydantic import TypeAdapter

    known = (spec.settings.get("payload_indexes") or {}).get(key)
    if isinstance(known, Mapping):
        return TypeAdapter(models.PayloadSchemaParams).validate_python(known)
    return known or kind


def engine_config(edge: Any, spec: CollectionSpec) -> Any:
    """Return the ``EdgeConfig`` of a new collection: vectors, and the settings that the engine alone has."""
    settings = spec.settings
    given = {
        "vectors": {v.name: _engine_vector(edge, spec, v) for v in spec.vectors if not is_sparse(v)},
        "sparse_vectors": {v.name: _engine_sparse(edge, spec, v) for v in spec.vectors if is_sparse(v)},
        "hnsw_config": _engine_graph(edge, settings.get("hnsw_config")),
        "quantization_config": _engine_quantization(edge, settings.get("quantization_config")),
        "on_disk_payload": settings.get("on_disk_payload"),
    }
    return edge.EdgeConfig(**_without_none(given))


def _engine_vector(edge: Any, spec: CollectionSpec, vector: VectorSpec) -> Any:
    own = _part(spec, "vectors", vector.name)
    comparator = edge.MultiVectorComparator.MaxSim
    return edge.EdgeVectorParams(
        size=vector.dimension,
        distance=getattr(edge.Distance, DISTANCES[vector.metric]),
        multivector_config=edge.MultiVectorConfig(comparator) if vector.kind is VectorKind.MULTI else None,
        datatype=getattr(edge.VectorStorageDatatype, vector.dtype.capitalize()),
        on_disk=own.get("on_disk"),
        hnsw_config=_engine_graph(edge, own.get("hnsw_config")),
        quantization_config=_engine_quantization(edge, own.get("quantization_config")),
    )


def _engine_sparse(edge: Any, spec: CollectionSpec, vector: VectorSpec) -> Any:
    own = _part(spec, "sparse_vectors", vector.name)
    return edge.EdgeSparseVectorParams(
        full_scan_threshold=own.get("full_scan_threshold"),
        on_disk=own.get("on_disk"),
        modifier=edge.Modifier.Idf if vector.modifier else None,
    )


def engine_index_type(edge: Any, spec: CollectionSpec, key: str, kind: str) -> Any:
    """Return the engine's type of a payload index; parameters of one are a server's."""
    known = (spec.settings.get("payload_indexes") or {}).get(key, kind)
    name = known.get("type", kind) if isinstance(known, Mapping) else known
    return getattr(edge.PayloadSchemaType, str(name).capitalize())


def _part(spec: CollectionSpec, part: str, name: str) -> Mapping[str, Any]:
    return (spec.settings.get(part) or {}).get(name) or {}


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _model(model: Any, given: Mapping[str, Any] | None) -> Any:
    """Return a client's model of the values that it knows; a newer server says more of itself than it takes."""
    if not given:
        return None
    return model(**{name: value for name, value in given.items() if name in model.model_fields and value is not None})


def _quantization(models: Any, given: Mapping[str, Any] | None) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(models.QuantizationConfig).validate_python(given) if given else None


def _engine_graph(edge: Any, given: Mapping[str, Any] | None) -> Any:
    if not given or given.get("m") is None or given.get("ef_construct") is None:
        return None
    more = {
        name: given[name] for name in ("max_indexing_threads", "on_disk", "payload_m") if given.get(name) is not None
    }
    threshold = given.get("full_scan_threshold")
    return edge.HnswIndexConfig(
        given["m"], given["ef_construct"], _FULL_SCAN_THRESHOLD if threshold is None else threshold, **more
    )


def _engine_quantization(edge: Any, given: Mapping[str, Any] | None) -> Any:
    """Return scalar, product or binary quantisation; None for kinds that the engine's binding has no word for."""
    kind = next(iter(given), None) if given else None
    if given is None or kind not in ("scalar", "product", "binary"):
        return None
    own = given[kind]
    more = {} if own.get("always_ram") is None else {"always_ram": own["always_ram"]}
    if kind == "scalar":
        return edge.ScalarQuantizationConfig(edge.ScalarType.Int8, quantile=own.get("quantile"), **more)
    if kind == "product":
        return edge.ProductQuantizationConfig(
            getattr(edge.CompressionRatio, str(own["compression"]).capitalize()), **more
        )
    return edge.BinaryQuantizationConfig(**more)
