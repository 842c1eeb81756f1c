"""REST models in, engine objects out: collection settings, filters, selectors, field indexes.

What belongs here: translation only, and a refusal for whatever the engine has no word for. No shard is touched.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import qdrant_edge as edge
from pydantic import BaseModel
from qdrant_client.http import models as rest

from rag_migration_pipeline_tests.servers.qdrant_double.refusals import Refusal, unsupported
from rag_migration_pipeline_tests.servers.qdrant_double.settings import named_vectors

_DATATYPES = {
    rest.Datatype.FLOAT32: edge.VectorStorageDatatype.Float32,
    rest.Datatype.FLOAT16: edge.VectorStorageDatatype.Float16,
    rest.Datatype.UINT8: edge.VectorStorageDatatype.Uint8,
}
_DISTANCES = {
    rest.Distance.COSINE: edge.Distance.Cosine,
    rest.Distance.EUCLID: edge.Distance.Euclid,
    rest.Distance.DOT: edge.Distance.Dot,
    rest.Distance.MANHATTAN: edge.Distance.Manhattan,
}


def _datatype(value: rest.Datatype | None) -> Any:
    if value is not None and value not in _DATATYPES:
        raise unsupported(f"vector datatype {value}")
    return _DATATYPES[value] if value is not None else None


def _vector_params(params: rest.VectorParams) -> edge.EdgeVectorParams:
    multi = params.multivector_config and edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
    return edge.EdgeVectorParams(
        params.size,
        _DISTANCES[params.distance],
        on_disk=params.on_disk,
        multivector_config=multi,
        datatype=_datatype(params.datatype),
    )


def _sparse_params(params: rest.SparseVectorParams) -> edge.EdgeSparseVectorParams:
    index = params.index or rest.SparseIndexParams()
    return edge.EdgeSparseVectorParams(
        full_scan_threshold=index.full_scan_threshold,
        on_disk=index.on_disk,
        modifier=edge.Modifier.Idf if params.modifier == rest.Modifier.IDF else None,
        datatype=_datatype(index.datatype),
    )


def shard_config(params: rest.CollectionParams) -> edge.EdgeConfig:
    """Return the engine's settings for a collection.

    HNSW, optimiser and quantisation settings are left out: they act when segments are optimised, which never happens
    here.
    """
    return edge.EdgeConfig(
        vectors={name: _vector_params(vector) for name, vector in named_vectors(params.vectors).items()},
        sparse_vectors={name: _sparse_params(sparse) for name, sparse in (params.sparse_vectors or {}).items()},
        on_disk_payload=params.on_disk_payload,
    )


def _match(match: Any) -> Any:
    if isinstance(match, rest.MatchValue):
        # The binding takes Python's True for the integer 1 and then matches no boolean; numpy's bool it takes for a
        # boolean (tried on qdrant-edge-py 0.9.0).
        return edge.MatchValue(np.bool_(match.value) if isinstance(match.value, bool) else match.value)
    if isinstance(match, rest.MatchAny):
        return edge.MatchAny(list(match.any))
    if isinstance(match, rest.MatchExcept):
        return edge.MatchExcept(list(match.except_))
    for model, kind, attribute in (
        (rest.MatchText, edge.MatchText, "text"),
        (rest.MatchTextAny, edge.MatchTextAny, "text_any"),
        (rest.MatchPhrase, edge.MatchPhrase, "phrase"),
        (rest.MatchPrefix, edge.MatchPrefix, "prefix"),
        (rest.MatchSubstring, edge.MatchSubstring, "substring"),
    ):
        if isinstance(match, model):
            return kind(getattr(match, attribute))
    raise unsupported(f"match of type {type(match).__name__}")


def _range(value: Any) -> Any:
    if isinstance(value, rest.DatetimeRange):
        bounds = value.model_dump(exclude_none=True)
        return edge.RangeDateTime(**{name: bound.isoformat() for name, bound in bounds.items()})
    return edge.RangeFloat(**value.model_dump(exclude_none=True))


def _geo_point(point: rest.GeoPoint) -> edge.GeoPoint:
    return edge.GeoPoint(point.lon, point.lat)


def _geo_arguments(condition: rest.FieldCondition) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if condition.geo_bounding_box is not None:
        box = condition.geo_bounding_box
        arguments["geo_bounding_box"] = edge.GeoBoundingBox(_geo_point(box.top_left), _geo_point(box.bottom_right))
    if condition.geo_radius is not None:
        arguments["geo_radius"] = edge.GeoRadius(_geo_point(condition.geo_radius.center), condition.geo_radius.radius)
    if condition.geo_polygon is not None:
        rings = [condition.geo_polygon.exterior, *(condition.geo_polygon.interiors or [])]
        lines = [[_geo_point(point) for point in ring.points] for ring in rings]
        arguments["geo_polygon"] = edge.GeoPolygon(lines[0], lines[1:] or None)
    return arguments


def _field_condition(condition: rest.FieldCondition) -> edge.FieldCondition:
    arguments = _geo_arguments(condition)
    if condition.match is not None:
        arguments["match"] = _match(condition.match)
    if condition.range is not None:
        arguments["range"] = _range(condition.range)
    if condition.values_count is not None:
        arguments["values_count"] = edge.ValuesCount(**condition.values_count.model_dump(exclude_none=True))
    for name in ("is_empty", "is_null"):
        if getattr(condition, name) is not None:
            arguments[name] = getattr(condition, name)
    if not arguments:
        reason = "At least one field condition must be specified"
        raise Refusal("validation", f"Validation error in JSON body: [filter: {reason}]")
    return edge.FieldCondition(condition.key, **arguments)


def _has_vector(condition: rest.HasVectorCondition) -> Any:
    return edge.HasVectorCondition(condition.has_vector)


_CONDITIONS: tuple[tuple[type[BaseModel], Callable[[Any], Any]], ...] = (
    (rest.FieldCondition, _field_condition),
    (rest.IsEmptyCondition, lambda condition: edge.IsEmptyCondition(condition.is_empty.key)),
    (rest.IsNullCondition, lambda condition: edge.IsNullCondition(condition.is_null.key)),
    (rest.HasIdCondition, lambda condition: edge.HasIdCondition(set(point_ids(condition.has_id)))),
    (rest.HasVectorCondition, _has_vector),
    (
        rest.NestedCondition,
        lambda condition: edge.NestedCondition(condition.nested.key, required_filter(condition.nested.filter)),
    ),
    (rest.Filter, lambda condition: required_filter(condition)),  # noqa: PLW0108 - defined below
)


def _condition(condition: Any) -> Any:
    for model, convert in _CONDITIONS:
        if isinstance(condition, model):
            return convert(condition)
    raise unsupported(f"filter condition of type {type(condition).__name__}")


def _conditions(clause: Any) -> list[Any] | None:
    # gRPC has no way to leave a clause out; the server takes an empty one for a missing one, and in a nested filter the
    # engine does not (tried on qdrant-edge-py 0.9.0: an empty should matches nothing there).
    if not clause:
        return None
    return [_condition(condition) for condition in (clause if isinstance(clause, list) else [clause])]


def required_filter(model: rest.Filter) -> edge.Filter:
    """Translate a filter."""
    least = model.min_should
    return edge.Filter(
        must=_conditions(model.must),
        should=_conditions(model.should),
        must_not=_conditions(model.must_not),
        min_should=edge.MinShould(_conditions(least.conditions) or [], least.min_count) if least else None,
    )


def optional_filter(model: rest.Filter | None) -> edge.Filter | None:
    """Translate a filter that may be missing."""
    return required_filter(model) if model is not None else None


def point_ids(ids: Any) -> list[Any]:
    """Give ids as the engine takes them: int, or UUID text in any spelling."""
    return [value if isinstance(value, int) else str(value) for value in ids]


def payload_selector(selector: Any) -> Any:
    """Translate with_payload: a bool, a list of keys, or an include/exclude model."""
    if isinstance(selector, rest.PayloadSelectorInclude):
        return edge.PayloadSelector.Include(selector.include)
    if isinstance(selector, rest.PayloadSelectorExclude):
        return edge.PayloadSelector.Exclude(selector.exclude)
    return selector


def order_by(value: Any) -> edge.OrderBy | None:
    """Translate the order of a scroll: a key, or a key with direction and start."""
    if value is None:
        return None
    if isinstance(value, str):
        return edge.OrderBy(value)
    direction = edge.Direction.Desc if value.direction == rest.Direction.DESC else edge.Direction.Asc
    start = value.start_from
    return edge.OrderBy(value.key, direction, start if isinstance(start, int | float | None) else str(start))


_INDEX_PARAMS = {
    "keyword": edge.KeywordIndexParams,
    "integer": edge.IntegerIndexParams,
    "float": edge.FloatIndexParams,
    "geo": edge.GeoIndexParams,
    "text": edge.TextIndexParams,
    "bool": edge.BoolIndexParams,
    "datetime": edge.DatetimeIndexParams,
    "uuid": edge.UuidIndexParams,
}


def schema_type(schema: Any) -> str:
    """Name the type of a field index, whether given plainly or with parameters."""
    return str(schema.value if isinstance(schema, rest.PayloadSchemaType) else schema.type.value)


def field_schema(schema: Any) -> Any:
    """Translate a field index; parameters other than flags, numbers and the tokenizer are refused."""
    name = schema_type(schema)
    if isinstance(schema, rest.PayloadSchemaType):
        return getattr(edge.PayloadSchemaType, name.capitalize())
    arguments = {key: value for key, value in schema if value is not None and key != "type"}
    if "tokenizer" in arguments:
        arguments["tokenizer"] = getattr(edge.TokenizerType, str(arguments["tokenizer"].value).capitalize())
    odd = sorted(key for key, value in arguments.items() if key != "tokenizer" and not isinstance(value, bool | int))
    if odd:
        raise unsupported(f"field index parameters {odd}")
    return _INDEX_PARAMS[name](**arguments)
