"""What each operation on points does to a shard, with the server's defaults and refusals.

What belongs here: one function per operation, taking engine points or REST models, returning engine records or counts.
Reading bytes and writing answers is the doors' work (``grpc_api``, ``rest_api``). Updates return the number and status
that the server answers with.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import qdrant_edge as edge
from qdrant_client.http import models as rest

from rag_migration_pipeline_tests.servers.qdrant_double import engine
from rag_migration_pipeline_tests.servers.qdrant_double.refusals import (
    Refusal,
    engine_call,
    invalid_point_id,
    unsupported,
)
from rag_migration_pipeline_tests.servers.qdrant_double.registry import Collection

_MAX_UINT64 = 2**64 - 1
_DEFAULT_LIMIT = 10
_UPDATE_MODES = {
    rest.UpdateMode.UPSERT: edge.UpdateMode.Upsert,
    rest.UpdateMode.INSERT_ONLY: edge.UpdateMode.InsertOnly,
    rest.UpdateMode.UPDATE_ONLY: edge.UpdateMode.UpdateOnly,
}


def check_id(value: object) -> None:
    """Refuse an id that is neither an unsigned 64-bit integer nor a UUID in any spelling that the server reads."""
    if isinstance(value, UUID):
        return
    if isinstance(value, str):
        try:
            edge.Point(value, [0.0])
        except ValueError as error:
            raise invalid_point_id(value) from error
    elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_UINT64:
        raise invalid_point_id(value)


def new_point(point_id: Any, vector: Any, payload: Any) -> edge.Point:
    """Make an engine point, or say in the server's words what is wrong with it."""
    # The binding takes True for 1; JSON's true is no id for the server.
    if isinstance(point_id, bool):
        raise invalid_point_id(point_id)
    try:
        return edge.Point(point_id, vector, payload)
    except (TypeError, ValueError, OverflowError) as error:
        check_id(point_id)
        reason = str(error).splitlines()[0]
        raise Refusal("format", f"Format error in JSON body: point {point_id}: {reason}") from error


def sparse_vector(indices: Any, values: Any) -> edge.SparseVector:
    """Make a sparse vector; the server wants unique indices and one value for each."""
    if len(indices) != len(values):
        raise _invalid_sparse("must be the same length as indices")
    if len(set(indices)) != len(indices):
        raise _invalid_sparse("must be unique")
    try:
        return edge.SparseVector(list(indices), list(values))
    except (TypeError, ValueError, OverflowError) as error:
        raise _invalid_sparse(str(error).splitlines()[0]) from error


def _invalid_sparse(reason: str) -> Refusal:
    return Refusal("validation", f"Validation error in JSON body: [sparse vector: {reason}]")


def _applied(collection: Collection, operation: Any, wait: bool) -> rest.UpdateResult:
    number = collection.next_operation()
    try:
        with engine_call():
            collection.shard.update(operation)
    except Refusal:
        # Without wait the server has acknowledged before it tries; the failure is only in its log.
        if wait:
            raise
    status = rest.UpdateStatus.COMPLETED if wait else rest.UpdateStatus.ACKNOWLEDGED
    return rest.UpdateResult(operation_id=number, status=status)


def upsert(
    collection: Collection,
    points: list[edge.Point],
    wait: bool,
    update_filter: rest.Filter | None = None,
    update_mode: rest.UpdateMode | None = None,
) -> rest.UpdateResult:
    """Insert or replace points."""
    mode = _UPDATE_MODES[update_mode] if update_mode is not None else None
    operation = edge.UpdateOperation.upsert_points(points, engine.optional_filter(update_filter), mode)
    return _applied(collection, operation, wait)


def _selected(selector: Any) -> tuple[list[Any] | None, edge.Filter | None]:
    """Split a selector (a model with ``points`` or ``filter``) into checked ids or an engine filter."""
    ids = getattr(selector, "points", None)
    if ids is not None:
        for value in ids:
            check_id(value)
        return engine.point_ids(ids), None
    chosen = getattr(selector, "filter", None)
    if chosen is None:
        raise Refusal("bad_request", "Either points or filter must be provided")
    return None, engine.required_filter(chosen)


def _apply_selected(
    collection: Collection,
    selector: Any,
    wait: bool,
    by_ids: Callable[..., Any],
    by_filter: Callable[..., Any],
    *arguments: Any,
) -> rest.UpdateResult:
    ids, chosen = _selected(selector)
    operation = by_ids(ids, *arguments) if ids is not None else by_filter(chosen, *arguments)
    return _applied(collection, operation, wait)


def delete(collection: Collection, selector: Any, wait: bool) -> rest.UpdateResult:
    """Delete points by ids or filter; a missing id is no error."""
    operation = edge.UpdateOperation
    return _apply_selected(collection, selector, wait, operation.delete_points, operation.delete_points_by_filter)


def set_payload(collection: Collection, request: rest.SetPayload, wait: bool) -> rest.UpdateResult:
    """Merge keys into payloads."""
    operation = edge.UpdateOperation
    return _apply_selected(
        collection, request, wait, operation.set_payload, operation.set_payload_by_filter, request.payload, request.key
    )


def overwrite_payload(collection: Collection, request: rest.SetPayload, wait: bool) -> rest.UpdateResult:
    """Replace payloads whole."""
    by_ids, by_filter = edge.UpdateOperation.overwrite_payload, edge.UpdateOperation.overwrite_payload_by_filter
    return _apply_selected(collection, request, wait, by_ids, by_filter, request.payload, request.key)


def delete_payload(collection: Collection, request: rest.DeletePayload, wait: bool) -> rest.UpdateResult:
    """Remove keys from payloads."""
    operation = edge.UpdateOperation
    return _apply_selected(
        collection, request, wait, operation.delete_payload, operation.delete_payload_by_filter, list(request.keys)
    )


def clear_payload(collection: Collection, selector: Any, wait: bool) -> rest.UpdateResult:
    """Empty payloads."""
    operation = edge.UpdateOperation
    return _apply_selected(collection, selector, wait, operation.clear_payload, operation.clear_payload_by_filter)


def update_vectors(
    collection: Collection, vectors: list[tuple[Any, Any]], wait: bool, update_filter: rest.Filter | None = None
) -> rest.UpdateResult:
    """Replace the named vectors of existing points; others stay."""
    with engine_call():
        changed = [edge.PointVectors(point_id, vector) for point_id, vector in vectors]
        operation = edge.UpdateOperation.update_vectors(changed, engine.optional_filter(update_filter))
    return _applied(collection, operation, wait)


def delete_vectors(collection: Collection, request: rest.DeleteVectors, wait: bool) -> rest.UpdateResult:
    """Remove named vectors from points."""
    by_ids, by_filter = edge.UpdateOperation.delete_vectors, edge.UpdateOperation.delete_vectors_by_filter
    return _apply_selected(collection, request, wait, by_ids, by_filter, list(request.vector))


def scroll(collection: Collection, request: rest.ScrollRequest) -> tuple[list[edge.Record], Any]:
    """Read a page in ascending id order (integers, then UUIDs) and the id that the next page starts with."""
    limit = _DEFAULT_LIMIT if request.limit is None else request.limit
    if limit < 1:
        reason = f"value {limit} invalid, must be 1 or larger"
        raise Refusal("validation", f"Validation error in JSON body: [limit: {reason}]")
    if request.offset is not None:
        check_id(request.offset)
    with engine_call():
        records, following = collection.shard.scroll(
            edge.ScrollRequest(
                offset=None if request.offset is None else engine.point_ids([request.offset])[0],
                limit=limit,
                filter=engine.optional_filter(request.filter),
                with_payload=_with_payload(request.with_payload, default=True),
                with_vector=request.with_vector or False,
                order_by=engine.order_by(request.order_by),
            )
        )
    return records, following


def _with_payload(selector: Any, *, default: bool) -> Any:
    return default if selector is None else engine.payload_selector(selector)


def retrieve(collection: Collection, ids: list[Any], with_payload: Any, with_vector: Any) -> list[edge.Record]:
    """Read points by ids; missing ids are left out."""
    for value in ids:
        check_id(value)
    with engine_call():
        return list(
            collection.shard.retrieve(
                engine.point_ids(ids), _with_payload(with_payload, default=True), with_vector or False
            )
        )


def count(collection: Collection, chosen: rest.Filter | None, exact: bool) -> int:
    """Count points, all or those that a filter matches."""
    with engine_call():
        return int(collection.shard.count(edge.CountRequest(exact=exact, filter=engine.optional_filter(chosen))))


def facet(collection: Collection, request: rest.FacetRequest) -> list[rest.FacetValueHit]:
    """Count points by the value of an indexed field."""
    with engine_call():
        response = collection.shard.facet(
            edge.FacetRequest(
                request.key,
                limit=_DEFAULT_LIMIT if request.limit is None else request.limit,
                exact=bool(request.exact),
                filter=engine.optional_filter(request.filter),
            )
        )
    return [rest.FacetValueHit(value=_facet_value(hit.value), count=hit.count) for hit in response.hits]


def _facet_value(value: Any) -> Any:
    inner = getattr(value, "value", value)
    if isinstance(inner, UUID):
        return str(inner)
    if not isinstance(inner, bool | int | str):
        raise unsupported(f"facet value {value!r}")
    return inner
