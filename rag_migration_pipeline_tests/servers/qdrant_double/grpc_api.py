"""The gRPC door: the vendor's generated servicers, answered from the registry.

What belongs here: one method per call that is served; calls that are not inherit UNIMPLEMENTED from the generated code.
API key, faults, counts and refusals are the interceptor's, so that methods only raise.
Source for codes: qdrant/qdrant `src/tonic/auth.rs` and `lib/storage/src/content_manager/conversions.rs`.
"""

# ruff: noqa: N802 - the generated code dictates the names of the methods

import time
from collections.abc import Callable
from typing import Any

import grpc
from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, grpc_field_type_to_payload_schema
from qdrant_client.grpc import (
    collections_service_pb2_grpc,
    points_service_pb2_grpc,
    qdrant_pb2_grpc,
    snapshots_service_pb2_grpc,
)
from qdrant_client.http import models as rest

from rag_migration_pipeline_tests.servers.qdrant_double import grpc_messages, points, query
from rag_migration_pipeline_tests.servers.qdrant_double.faults import Faults
from rag_migration_pipeline_tests.servers.qdrant_double.refusals import Refusal, unsupported
from rag_migration_pipeline_tests.servers.qdrant_double.registry import Registry
from rag_migration_pipeline_tests.servers.qdrant_double.rest_api import check_key
from rag_migration_pipeline_tests.servers.qdrant_double.rest_routes import TITLE, VERSION, apply_operation

# The same names as the REST routes use, so that a fault or a count means the same call on either door.
_OPERATIONS = {
    "Qdrant/HealthCheck": "root",
    "Collections/Get": "collection_info",
    "Collections/List": "list_collections",
    "Collections/Create": "create_collection",
    "Collections/Update": "update_collection",
    "Collections/Delete": "delete_collection",
    "Collections/CollectionExists": "collection_exists",
    "Collections/UpdateAliases": "change_aliases",
    "Collections/ListAliases": "list_aliases",
    "Collections/ListCollectionAliases": "list_aliases",
    "Points/Upsert": "upsert",
    "Points/Delete": "delete",
    "Points/Get": "get",
    "Points/UpdateVectors": "update_vectors",
    "Points/DeleteVectors": "delete_vectors",
    "Points/SetPayload": "set_payload",
    "Points/OverwritePayload": "overwrite_payload",
    "Points/DeletePayload": "delete_payload",
    "Points/ClearPayload": "clear_payload",
    "Points/CreateFieldIndex": "create_index",
    "Points/DeleteFieldIndex": "delete_index",
    "Points/Scroll": "scroll",
    "Points/Count": "count",
    "Points/Query": "query",
    "Points/QueryBatch": "query",
    "Points/Facet": "facet",
    "Points/UpdateBatch": "update_batch",
}


def _optional(message: Any, field: str, convert: Callable[[Any], Any]) -> Any:
    return convert(getattr(message, field)) if message.HasField(field) else None


class Gatekeeper(grpc.ServerInterceptor):
    """Checks the key, counts, breaks on command, and turns refusals into statuses, around every call."""

    def __init__(self, faults: Faults, api_key: str | None) -> None:
        self._faults = faults
        self._api_key = api_key

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap the handler of one call."""
        handler = continuation(details)
        if handler is None:
            return None
        service_and_method = details.method.removeprefix("/qdrant.")
        operation = _OPERATIONS.get(service_and_method, service_and_method)
        metadata = dict(details.invocation_metadata)

        def read(data: bytes) -> Any:
            self._faults.note_size("grpc", operation, len(data))
            return handler.request_deserializer(data)

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            started = time.perf_counter()
            try:
                if operation != "root":
                    check_key(self._api_key, metadata.get("api-key"), metadata.get("authorization"))
                fault = self._faults.arrive("grpc", operation)
                response = handler.unary_unary(request, context)
                self._faults.depart(fault)
            except Refusal as refusal:
                _abort(context, refusal)
            # The vendor's converters raise it for a message that makes no sense; its model errors are ValueErrors too.
            except ValueError as error:
                _abort(context, Refusal("format", str(error)))
            if hasattr(response, "time"):
                response.time = time.perf_counter() - started
            return response

        return grpc.unary_unary_rpc_method_handler(answer, read, handler.response_serializer)


def _abort(context: grpc.ServicerContext, refusal: Refusal) -> None:
    if refusal.retry_after_s is not None:
        context.set_trailing_metadata((("retry-after", str(refusal.retry_after_s)),))
    context.abort(refusal.grpc_code, refusal.message)


class RootService(qdrant_pb2_grpc.QdrantServicer):
    """The server itself."""

    def HealthCheck(self, request: Any, context: Any) -> Any:
        return messages.HealthCheckReply(title=TITLE, version=VERSION)


class CollectionsService(collections_service_pb2_grpc.CollectionsServicer):
    """Collections and aliases."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def Get(self, request: Any, context: Any) -> Any:
        info = self._registry.get(request.collection_name).info()
        return messages.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    def List(self, request: Any, context: Any) -> Any:
        described = [messages.CollectionDescription(name=name) for name in self._registry.names()]
        return messages.ListCollectionsResponse(collections=described)

    def CollectionExists(self, request: Any, context: Any) -> Any:
        exists = self._registry.exists(request.collection_name)
        return messages.CollectionExistsResponse(result=messages.CollectionExists(exists=exists))

    def Create(self, request: Any, context: Any) -> Any:
        created = self._registry.create(request.collection_name, _creation(request))
        return messages.CollectionOperationResponse(result=created)

    def Update(self, request: Any, context: Any) -> Any:
        self._registry.get(request.collection_name).update(GrpcToRest.convert_update_collection(request))
        return messages.CollectionOperationResponse(result=True)

    def Delete(self, request: Any, context: Any) -> Any:
        return messages.CollectionOperationResponse(result=self._registry.drop(request.collection_name))

    def UpdateAliases(self, request: Any, context: Any) -> Any:
        actions = [GrpcToRest.convert_alias_operations(action) for action in request.actions]
        return messages.CollectionOperationResponse(result=self._registry.change_aliases(actions))

    def ListAliases(self, request: Any, context: Any) -> Any:
        return _aliases_message(self._registry.aliases())

    def ListCollectionAliases(self, request: Any, context: Any) -> Any:
        return _aliases_message(self._registry.aliases(request.collection_name))


def _aliases_message(aliases: list[rest.AliasDescription]) -> Any:
    return messages.ListAliasesResponse(aliases=[RestToGrpc.convert_alias_description(alias) for alias in aliases])


def _creation(request: Any) -> rest.CreateCollection:
    """Read a creation, for which the vendor's package has no converter in this direction."""
    if request.HasField("sharding_method") and request.sharding_method == messages.ShardingMethod.Custom:
        raise unsupported("custom sharding")
    return rest.CreateCollection(
        vectors=_optional(request, "vectors_config", GrpcToRest.convert_vectors_config),
        sparse_vectors=_optional(request, "sparse_vectors_config", GrpcToRest.convert_sparse_vector_config),
        hnsw_config=_optional(request, "hnsw_config", GrpcToRest.convert_hnsw_config_diff),
        wal_config=_optional(request, "wal_config", GrpcToRest.convert_wal_config_diff),
        optimizers_config=_optional(request, "optimizers_config", GrpcToRest.convert_optimizers_config_diff),
        quantization_config=_optional(request, "quantization_config", GrpcToRest.convert_quantization_config),
        strict_mode_config=_optional(request, "strict_mode_config", GrpcToRest.convert_strict_mode_config),
        payload=_optional(request, "payload", GrpcToRest.convert_payload_storage_params),
        id_tracker=_optional(request, "id_tracker", GrpcToRest.convert_id_tracker_params),
        shard_number=_optional(request, "shard_number", int),
        replication_factor=_optional(request, "replication_factor", int),
        write_consistency_factor=_optional(request, "write_consistency_factor", int),
        on_disk_payload=_optional(request, "on_disk_payload", bool),
        metadata=grpc_messages.payload_from_message(request.metadata) or None,
    )


class PointsService(points_service_pb2_grpc.PointsServicer):
    """Points."""

    def __init__(self, registry: Registry, legacy_vectors: bool) -> None:
        self._registry = registry
        self._writer = grpc_messages.RecordWriter(legacy_vectors)

    def _collection(self, request: Any) -> Any:
        if request.DESCRIPTOR.fields_by_name.get("shard_key_selector") and request.HasField("shard_key_selector"):
            raise unsupported("shard keys")
        return self._registry.get(request.collection_name)

    def Upsert(self, request: Any, context: Any) -> Any:
        collection = self._collection(request)
        written = [grpc_messages.point_from_message(point) for point in request.points]
        chosen = _optional(request, "update_filter", GrpcToRest.convert_filter)
        mode = _optional(request, "update_mode", GrpcToRest.convert_update_mode)
        return _updated(points.upsert(collection, written, request.wait, chosen, mode))

    def Delete(self, request: Any, context: Any) -> Any:
        return _updated(points.delete(self._collection(request), _selector(request.points), request.wait))

    def Get(self, request: Any, context: Any) -> Any:
        ids = [grpc_messages.id_from_message(point_id) for point_id in request.ids]
        found = points.retrieve(self._collection(request), ids, _with_payload(request), _with_vectors(request))
        return messages.GetResponse(result=[self._writer.record(record) for record in found])

    def Scroll(self, request: Any, context: Any) -> Any:
        asked = rest.ScrollRequest(
            offset=_optional(request, "offset", grpc_messages.id_from_message),
            limit=_optional(request, "limit", int),
            filter=_optional(request, "filter", GrpcToRest.convert_filter),
            with_payload=_with_payload(request),
            with_vector=_with_vectors(request),
            order_by=_optional(request, "order_by", GrpcToRest.convert_order_by),
        )
        records, following = points.scroll(self._collection(request), asked)
        return messages.ScrollResponse(
            next_page_offset=None if following is None else grpc_messages.id_to_message(following),
            result=[self._writer.record(record) for record in records],
        )

    def Count(self, request: Any, context: Any) -> Any:
        chosen = _optional(request, "filter", GrpcToRest.convert_filter)
        exact = request.exact if request.HasField("exact") else True
        counted = points.count(self._collection(request), chosen, exact)
        return messages.CountResponse(result=messages.CountResult(count=counted))

    def SetPayload(self, request: Any, context: Any) -> Any:
        return _updated(points.set_payload(self._collection(request), _payload_change(request), request.wait))

    def OverwritePayload(self, request: Any, context: Any) -> Any:
        return _updated(points.overwrite_payload(self._collection(request), _payload_change(request), request.wait))

    def DeletePayload(self, request: Any, context: Any) -> Any:
        selected = _targets(request.points_selector)
        asked = rest.DeletePayload(keys=list(request.keys), **selected)
        return _updated(points.delete_payload(self._collection(request), asked, request.wait))

    def ClearPayload(self, request: Any, context: Any) -> Any:
        return _updated(points.clear_payload(self._collection(request), _selector(request.points), request.wait))

    def UpdateVectors(self, request: Any, context: Any) -> Any:
        changed = [
            (grpc_messages.id_from_message(point.id), grpc_messages.vectors_from_message(point.vectors))
            for point in request.points
        ]
        chosen = _optional(request, "update_filter", GrpcToRest.convert_filter)
        return _updated(points.update_vectors(self._collection(request), changed, request.wait, chosen))

    def DeleteVectors(self, request: Any, context: Any) -> Any:
        asked = rest.DeleteVectors(vector=list(request.vectors.names), **_targets(request.points_selector))
        return _updated(points.delete_vectors(self._collection(request), asked, request.wait))

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        collection = self._collection(request)
        collection.create_index(request.field_name, _index_schema(request))
        return _updated(_completed(collection))

    def DeleteFieldIndex(self, request: Any, context: Any) -> Any:
        collection = self._collection(request)
        collection.drop_index(request.field_name)
        return _updated(_completed(collection))

    def Query(self, request: Any, context: Any) -> Any:
        return messages.QueryResponse(result=self._found(self._collection(request), request))

    def QueryBatch(self, request: Any, context: Any) -> Any:
        collection = self._collection(request)
        answers = [messages.BatchResult(result=self._found(collection, one)) for one in request.query_points]
        return messages.QueryBatchResponse(result=answers)

    def _found(self, collection: Any, request: Any) -> list[Any]:
        found = query.run(collection, GrpcToRest.convert_query_points(request))
        return [self._writer.scored(point) for point in found]

    def Facet(self, request: Any, context: Any) -> Any:
        asked = rest.FacetRequest(
            key=request.key,
            limit=_optional(request, "limit", int),
            filter=_optional(request, "filter", GrpcToRest.convert_filter),
            exact=_optional(request, "exact", bool),
        )
        hits = points.facet(self._collection(request), asked)
        return messages.FacetResponse(hits=[RestToGrpc.convert_facet_value_hit(hit) for hit in hits])

    def UpdateBatch(self, request: Any, context: Any) -> Any:
        collection = self._collection(request)
        done = [self._apply(collection, operation, request.wait) for operation in request.operations]
        return messages.UpdateBatchResponse(result=[RestToGrpc.convert_update_result(result) for result in done])

    def _apply(self, collection: Any, operation: Any, wait: bool) -> rest.UpdateResult:
        kind = operation.WhichOneof("operation")
        if kind == "upsert":
            written = [grpc_messages.point_from_message(point) for point in operation.upsert.points]
            return points.upsert(collection, written, wait)
        if kind == "update_vectors":
            changed = [
                (grpc_messages.id_from_message(point.id), grpc_messages.vectors_from_message(point.vectors))
                for point in operation.update_vectors.points
            ]
            return points.update_vectors(collection, changed, wait)
        return apply_operation(collection, GrpcToRest.convert_points_update_operation(operation), wait)


def _with_payload(request: Any) -> Any:
    return _optional(request, "with_payload", GrpcToRest.convert_with_payload_selector)


def _with_vectors(request: Any) -> Any:
    return _optional(request, "with_vectors", GrpcToRest.convert_with_vectors_selector)


def _selector(selector: Any) -> Any:
    if selector.WhichOneof("points_selector_one_of") is None:
        raise Refusal("format", "Malformed PointsSelector type")
    return GrpcToRest.convert_points_selector(selector)


def _targets(selector: Any) -> dict[str, Any]:
    chosen = _selector(selector)
    return {"points": chosen.points} if isinstance(chosen, rest.PointIdsList) else {"filter": chosen.filter}


def _payload_change(request: Any) -> rest.SetPayload:
    return rest.SetPayload(
        payload=grpc_messages.payload_from_message(request.payload),
        key=_optional(request, "key", str),
        **_targets(request.points_selector),
    )


def _index_schema(request: Any) -> Any:
    if request.HasField("field_index_params"):
        return GrpcToRest.convert_payload_schema_params(request.field_index_params)
    if not request.HasField("field_type"):
        raise unsupported("a field index without a schema")
    return GrpcToRest.convert_payload_schema_type(grpc_field_type_to_payload_schema(request.field_type))


def _completed(collection: Any) -> rest.UpdateResult:
    return rest.UpdateResult(operation_id=collection.next_operation(), status=rest.UpdateStatus.COMPLETED)


def _updated(result: rest.UpdateResult) -> Any:
    return messages.PointsOperationResponse(result=RestToGrpc.convert_update_result(result))


def add_services(server: grpc.Server, registry: Registry, legacy_vectors: bool) -> None:
    """Put every service on a server."""
    qdrant_pb2_grpc.add_QdrantServicer_to_server(RootService(), server)
    collections_service_pb2_grpc.add_CollectionsServicer_to_server(CollectionsService(registry), server)
    points_service_pb2_grpc.add_PointsServicer_to_server(PointsService(registry, legacy_vectors), server)
    # Nothing of it is served; without it the answer would be that the service does not exist.
    snapshots_service_pb2_grpc.add_SnapshotsServicer_to_server(snapshots_service_pb2_grpc.SnapshotsServicer(), server)
