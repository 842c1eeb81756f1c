"""Collection settings: the server's defaults filled in, changes merged, and what a bad request is told.

What belongs here: REST model in, REST model out. Turning settings into engine objects is ``engine``'s work.
"""

from typing import Any, TypeVar

from pydantic import BaseModel
from qdrant_client.http import models as rest

from rag_migration_pipeline_tests.servers.qdrant_double.refusals import Refusal, unsupported

ModelT = TypeVar("ModelT", bound=BaseModel)

# Source: qdrant/qdrant config/config.yaml and `lib/collection/src/operations/config_diff.rs`, 1.15 and later.
_HNSW_DEFAULTS = {
    "m": 16,
    "ef_construct": 100,
    "full_scan_threshold": 10000,
    "max_indexing_threads": 0,
    "on_disk": False,
}
_OPTIMIZER_DEFAULTS = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
}
_WAL_DEFAULTS = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}
_FORBIDDEN_IN_NAMES = '<>:"/\\|?*\0\x1f'
_MAX_NAME_CHARS = 255
_MAX_DIMENSION = 65536


def _given(diff: BaseModel | None) -> dict[str, Any]:
    return diff.model_dump(exclude_none=True) if diff is not None else {}


def merged(model: ModelT, diff: BaseModel | dict[str, Any] | None) -> ModelT:
    """Return the model with the fields that the change names replaced."""
    changes = diff if isinstance(diff, dict) else _given(diff)
    return type(model).model_validate({**model.model_dump(), **changes})


def _optimizer_changes(diff: rest.OptimizersConfigDiff | None) -> dict[str, Any]:
    changes = _given(diff)
    if changes.get("max_optimization_threads") == rest.MaxOptimizationThreadsSetting.AUTO:
        changes["max_optimization_threads"] = None
    return changes


def check_name(name: str) -> None:
    """Refuse a collection name that the server's path validation refuses.

    Source: qdrant/qdrant `lib/collection/src/operations/validation.rs`.
    """
    bad = next((char for char in name if char in _FORBIDDEN_IN_NAMES), None)
    if bad is not None:
        reason = f'collection name cannot contain "{bad}" char'
    elif not 0 < len(name) <= _MAX_NAME_CHARS:
        reason = f'value "{name[:20]}" invalid, must be from 1 to 255 characters long'
    else:
        return
    raise Refusal("validation", f"Validation error in path parameters: [name: {reason}]")


def named_vectors(vectors: Any) -> dict[str, rest.VectorParams]:
    """Give dense vector parameters by name; the unnamed vector's name is empty, as in the engine."""
    if vectors is None:
        return {}
    return {"": vectors} if isinstance(vectors, rest.VectorParams) else dict(vectors)


def _check_creation(create: rest.CreateCollection) -> None:
    for params in named_vectors(create.vectors).values():
        if not 1 <= params.size <= _MAX_DIMENSION:
            reason = f"value {params.size} invalid, must be from 1 to {_MAX_DIMENSION}"
            raise Refusal("validation", f"Validation error in JSON body: [vectors.size: {reason}]")
    both = set(named_vectors(create.vectors)) & set(create.sparse_vectors or {})
    if both:
        raise Refusal("bad_input", f"Dense and sparse vectors must have different names: {sorted(both)}")
    if create.sharding_method == rest.ShardingMethod.CUSTOM:
        raise unsupported("custom sharding")
    refuse_strict_mode(create.strict_mode_config)


def refuse_strict_mode(strict: rest.StrictModeConfig | None) -> None:
    """Refuse limits that the double would not enforce."""
    if strict is not None and strict.enabled:
        raise unsupported("strict mode")


def initial_config(create: rest.CreateCollection) -> rest.CollectionConfig:
    """Return the full settings of a new collection: what was asked for over the server's defaults."""
    _check_creation(create)
    params = rest.CollectionParams(
        vectors=create.vectors if create.vectors is not None else {},
        sparse_vectors=create.sparse_vectors or None,
        shard_number=create.shard_number or 1,
        replication_factor=create.replication_factor or 1,
        write_consistency_factor=create.write_consistency_factor or 1,
        on_disk_payload=True if create.on_disk_payload is None else create.on_disk_payload,
        payload=create.payload,
        id_tracker=create.id_tracker,
        sharding_method=create.sharding_method,
    )
    return rest.CollectionConfig(
        params=params,
        hnsw_config=rest.HnswConfig.model_validate({**_HNSW_DEFAULTS, **_given(create.hnsw_config)}),
        optimizer_config=rest.OptimizersConfig.model_validate(
            {**_OPTIMIZER_DEFAULTS, **_optimizer_changes(create.optimizers_config)}
        ),
        wal_config=rest.WalConfig.model_validate({**_WAL_DEFAULTS, **_given(create.wal_config)}),
        quantization_config=create.quantization_config,
        strict_mode_config=rest.StrictModeConfigOutput(enabled=False),
        metadata=create.metadata or None,
    )


def _quantization_after(current: Any, diff: Any) -> Any:
    if diff is None:
        return current
    return None if isinstance(diff, rest.Disabled) else diff


def _updated_vector(params: rest.VectorParams, diff: rest.VectorParamsDiff) -> rest.VectorParams:
    hnsw = {**_given(params.hnsw_config), **_given(diff.hnsw_config)}
    return params.model_copy(
        update={
            "hnsw_config": rest.HnswConfigDiff(**hnsw) if hnsw else None,
            "quantization_config": _quantization_after(params.quantization_config, diff.quantization_config),
            "on_disk": params.on_disk if diff.on_disk is None else diff.on_disk,
            "memory": params.memory if diff.memory is None else diff.memory,
        }
    )


def _updated_vectors(current: Any, diffs: dict[str, rest.VectorParamsDiff]) -> Any:
    vectors = named_vectors(current)
    for name, diff in diffs.items():
        if name not in vectors:
            raise Refusal("bad_input", f"Not existing vector name error: {name}")
        vectors[name] = _updated_vector(vectors[name], diff)
    return vectors[""] if isinstance(current, rest.VectorParams) else vectors


def _updated_sparse(current: dict[str, Any] | None, diffs: dict[str, Any]) -> dict[str, Any]:
    missing = sorted(set(diffs) - set(current or {}))
    if missing:
        raise Refusal("bad_input", f"Not existing vector name error: {missing[0]}")
    return {**(current or {}), **diffs}


def updated_config(config: rest.CollectionConfig, update: rest.UpdateCollection) -> rest.CollectionConfig:
    """Return the settings after a change; what the change does not name stays."""
    refuse_strict_mode(update.strict_mode_config)
    params = merged(config.params, update.params)
    if update.vectors:
        params.vectors = _updated_vectors(params.vectors, update.vectors)
    if update.sparse_vectors:
        params.sparse_vectors = _updated_sparse(params.sparse_vectors, update.sparse_vectors)
    return config.model_copy(
        update={
            "params": params,
            "hnsw_config": merged(config.hnsw_config, update.hnsw_config),
            "optimizer_config": merged(config.optimizer_config, _optimizer_changes(update.optimizers_config)),
            "quantization_config": _quantization_after(config.quantization_config, update.quantization_config),
            "metadata": {**(config.metadata or {}), **(update.metadata or {})} or None,
        }
    )
