"""Every REST route that is served: method, path, operation name, handler.

What belongs here: reading a body into engine points (directly, without a model per record, because benchmarks run
through here) or into the vendor's REST models, and turning records into what the envelope carries.
"""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import qdrant_edge as edge
from pydantic import BaseModel, TypeAdapter
from qdrant_client.http import models as rest

from rag_migration_pipeline_tests.servers.qdrant_double import points, query
from rag_migration_pipeline_tests.servers.qdrant_double.refusals import Refusal, unsupported
from rag_migration_pipeline_tests.servers.qdrant_double.registry import Collection, Registry

# The client warns unless the server's minor version is within one of its own.
VERSION = importlib.metadata.version("qdrant-client")
TITLE = "qdrant - vector search engine (test double)"

_UPDATE_OPERATION: TypeAdapter[Any] = TypeAdapter(rest.UpdateOperation)
_SELECTOR: TypeAdapter[Any] = TypeAdapter(rest.PointsSelector)


@dataclass(frozen=True)
class RawJson:
    """An answer without the envelope."""

    content: Any


@dataclass(frozen=True)
class Call:
    """One request, read but not understood."""

    registry: Registry
    path: dict[str, str]
    parameters: dict[str, str]
    body: bytes

    @property
    def collection(self) -> Collection:
        """The collection that the path names."""
        return self.registry.get(self.path["name"])

    @property
    def wait(self) -> bool:
        """Whether to answer only when the update is applied; the server's default is no."""
        return self.parameters.get("wait", "false") == "true"

    def model(self, model: Any) -> Any:
        """Read the body into one of the vendor's models."""
        return (model if isinstance(model, TypeAdapter) else TypeAdapter(model)).validate_python(self.json())

    def json(self) -> Any:
        """Read the body."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise Refusal("format", f"Format error in JSON body: {error}") from error


def plain(model: BaseModel) -> Any:
    """Give a model as JSON values."""
    return model.model_dump(mode="json", by_alias=True)


def _sparse_or_dense(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) == {"indices", "values"}:
        return points.sparse_vector(value["indices"], value["values"])
    raise unsupported("inference: a vector given as a document, image or object")


def vector_from_json(value: Any) -> Any:
    """Give a point's vector as the engine takes it; dense values stay the lists that they are."""
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("model"), str):
        raise unsupported("inference: a vector given as a document, image or object")
    return {name: _sparse_or_dense(part) for name, part in value.items()}


def _points_from_batch(batch: dict[str, Any]) -> list[edge.Point]:
    ids, vectors, payloads = batch["ids"], batch["vectors"], batch.get("payloads")
    if isinstance(vectors, dict):
        vectors = [{name: column[row] for name, column in vectors.items()} for row in range(len(ids))]
    payloads = payloads if payloads is not None else [None] * len(ids)
    if not len(ids) == len(vectors) == len(payloads):
        lengths = f"{len(ids)} ids, {len(vectors)} vectors, {len(payloads)} payloads"
        raise Refusal("format", f"Format error in JSON body: batch of unequal lengths: {lengths}")
    rows = zip(ids, vectors, payloads, strict=True)
    return [points.new_point(point_id, vector_from_json(vector), payload) for point_id, vector, payload in rows]


def _points_from_json(body: dict[str, Any]) -> list[edge.Point]:
    try:
        if "batch" in body:
            return _points_from_batch(body["batch"])
        return [
            points.new_point(point["id"], vector_from_json(point["vector"]), point.get("payload"))
            for point in body["points"]
        ]
    except KeyError as error:
        raise Refusal("format", f"Format error in JSON body: missing field `{error.args[0]}`") from error
    except (TypeError, AttributeError, IndexError) as error:
        raise Refusal("format", f"Format error in JSON body: {error}") from error


def _upsert_body(collection: Collection, body: dict[str, Any], wait: bool) -> rest.UpdateResult:
    chosen, mode = body.get("update_filter"), body.get("update_mode")
    if body.get("shard_key") is not None:
        raise unsupported("shard keys")
    return points.upsert(
        collection,
        _points_from_json(body),
        wait,
        rest.Filter.model_validate(chosen) if chosen is not None else None,
        rest.UpdateMode(mode) if mode is not None else None,
    )


def _upsert(call: Call) -> Any:
    return plain(_upsert_body(call.collection, call.json(), call.wait))


def _dense_to_json(vector: Any) -> Any:
    # float32 keeps the shortest decimal text ("0.1"), as the server writes it; a Python float would write 17 digits.
    return np.asarray(vector, dtype=np.float32)


def vector_to_json(vector: Any) -> Any:
    """Give a stored vector as JSON values."""
    if isinstance(vector, dict):
        return {name: vector_to_json(part) for name, part in vector.items()}
    if isinstance(vector, edge.SparseVector):
        return {"indices": vector.indices, "values": _dense_to_json(vector.values)}
    return _dense_to_json(vector)


def id_to_json(point_id: Any) -> Any:
    """Give an id as JSON value; None stays None."""
    return point_id if isinstance(point_id, int | None) else str(point_id)


def _record_to_json(record: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"id": id_to_json(record.id), "payload": record.payload}
    if record.vector is not None:
        answer["vector"] = vector_to_json(record.vector)
    if record.order_value is not None:
        answer["order_value"] = record.order_value
    return answer


def _scored_to_json(point: Any) -> dict[str, Any]:
    return {**_record_to_json(point), "version": point.version, "score": point.score}


def _scroll(call: Call) -> Any:
    records, following = points.scroll(call.collection, call.model(rest.ScrollRequest))
    return {"points": [_record_to_json(record) for record in records], "next_page_offset": id_to_json(following)}


def _retrieve(call: Call) -> Any:
    request = call.model(rest.PointRequest)
    found = points.retrieve(call.collection, request.ids, request.with_payload, request.with_vector)
    return [_record_to_json(record) for record in found]


def _retrieve_one(call: Call) -> Any:
    text = call.path["id"]
    found = points.retrieve(call.collection, [int(text) if text.isdecimal() else text], True, True)
    if not found:
        raise Refusal("not_found", f"Point with id {text} does not exists!")
    return _record_to_json(found[0])


def _count(call: Call) -> Any:
    request = call.model(rest.CountRequest)
    return {"count": points.count(call.collection, request.filter, request.exact is not False)}


def _query(call: Call) -> Any:
    return {"points": [_scored_to_json(point) for point in query.run(call.collection, call.model(rest.QueryRequest))]}


def _query_batch(call: Call) -> Any:
    searches = call.model(rest.QueryRequestBatch).searches
    answers = [query.run(call.collection, search) for search in searches]
    return [{"points": [_scored_to_json(point) for point in answer]} for answer in answers]


def _facet(call: Call) -> Any:
    return {"hits": [plain(hit) for hit in points.facet(call.collection, call.model(rest.FacetRequest))]}


def _update_vectors_body(collection: Collection, body: dict[str, Any], wait: bool) -> rest.UpdateResult:
    for point in body["points"]:
        points.check_id(point["id"])
    vectors = [(point["id"], vector_from_json(point["vector"])) for point in body["points"]]
    chosen = body.get("update_filter")
    return points.update_vectors(
        collection, vectors, wait, rest.Filter.model_validate(chosen) if chosen is not None else None
    )


def _update(apply: Callable[[Collection, Any, bool], rest.UpdateResult], model: Any) -> Callable[[Call], Any]:
    """Make a handler of an update whose body is one of the vendor's models."""
    return lambda call: plain(apply(call.collection, call.model(model), call.wait))


def _one_of_batch(collection: Collection, operation: dict[str, Any], wait: bool) -> rest.UpdateResult:
    if "upsert" in operation:
        return _upsert_body(collection, operation["upsert"], wait)
    if "update_vectors" in operation:
        return _update_vectors_body(collection, operation["update_vectors"], wait)
    return apply_operation(collection, _UPDATE_OPERATION.validate_python(operation), wait)


def apply_operation(collection: Collection, operation: Any, wait: bool) -> rest.UpdateResult:
    """Apply one operation of a batch that carries no vectors; both doors come here."""
    for name, apply in (
        ("delete", points.delete),
        ("set_payload", points.set_payload),
        ("overwrite_payload", points.overwrite_payload),
        ("delete_payload", points.delete_payload),
        ("clear_payload", points.clear_payload),
        ("delete_vectors", points.delete_vectors),
    ):
        if hasattr(operation, name):
            return apply(collection, getattr(operation, name), wait)
    raise unsupported(f"batch operation {type(operation).__name__}")


def _batch(call: Call) -> Any:
    return [plain(_one_of_batch(call.collection, one, call.wait)) for one in call.json()["operations"]]


def _create_index(call: Call) -> Any:
    request = call.model(rest.CreateFieldIndex)
    collection = call.collection
    if request.field_schema is None:
        raise unsupported("a field index without a schema")
    collection.create_index(request.field_name, request.field_schema)
    return {"operation_id": collection.next_operation(), "status": "completed"}


def _drop_index(call: Call) -> Any:
    collection = call.collection
    collection.drop_index(call.path["field"])
    return {"operation_id": collection.next_operation(), "status": "completed"}


def _update_collection(call: Call) -> Any:
    call.collection.update(call.model(rest.UpdateCollection))
    return True


def _aliases(call: Call) -> Any:
    return {"aliases": [plain(alias) for alias in call.registry.aliases(call.path.get("name"))]}


_C = "/collections/{name}"
_P = f"{_C}/points"

ROUTES: tuple[tuple[str, str, str, Callable[[Call], Any]], ...] = (
    ("GET", "/", "root", lambda call: RawJson({"title": TITLE, "version": VERSION, "commit": None})),
    ("GET", "/healthz", "health", lambda call: "healthz check passed"),
    ("GET", "/readyz", "health", lambda call: "all shards are ready"),
    ("GET", "/livez", "health", lambda call: "healthz check passed"),
    (
        "GET",
        "/collections",
        "list_collections",
        lambda call: {"collections": [{"name": name} for name in call.registry.names()]},
    ),
    ("GET", "/aliases", "list_aliases", _aliases),
    (
        "POST",
        "/collections/aliases",
        "change_aliases",
        lambda call: call.registry.change_aliases(call.model(rest.ChangeAliasesOperation).actions),
    ),
    ("GET", f"{_C}/exists", "collection_exists", lambda call: {"exists": call.registry.exists(call.path["name"])}),
    ("GET", f"{_C}/aliases", "list_aliases", _aliases),
    (
        "PUT",
        _C,
        "create_collection",
        lambda call: call.registry.create(call.path["name"], call.model(rest.CreateCollection)),
    ),
    ("GET", _C, "collection_info", lambda call: plain(call.collection.info())),
    ("PATCH", _C, "update_collection", _update_collection),
    ("DELETE", _C, "delete_collection", lambda call: call.registry.drop(call.path["name"])),
    ("PUT", f"{_C}/index", "create_index", _create_index),
    ("DELETE", f"{_C}/index/{{field}}", "delete_index", _drop_index),
    ("POST", f"{_C}/facet", "facet", _facet),
    ("PUT", _P, "upsert", _upsert),
    ("POST", _P, "get", _retrieve),
    ("POST", f"{_P}/scroll", "scroll", _scroll),
    ("POST", f"{_P}/count", "count", _count),
    ("POST", f"{_P}/query", "query", _query),
    ("POST", f"{_P}/query/batch", "query", _query_batch),
    ("POST", f"{_P}/batch", "update_batch", _batch),
    ("POST", f"{_P}/delete", "delete", _update(points.delete, _SELECTOR)),
    ("POST", f"{_P}/payload", "set_payload", _update(points.set_payload, rest.SetPayload)),
    ("PUT", f"{_P}/payload", "overwrite_payload", _update(points.overwrite_payload, rest.SetPayload)),
    ("POST", f"{_P}/payload/delete", "delete_payload", _update(points.delete_payload, rest.DeletePayload)),
    ("POST", f"{_P}/payload/clear", "clear_payload", _update(points.clear_payload, _SELECTOR)),
    (
        "PUT",
        f"{_P}/vectors",
        "update_vectors",
        lambda call: plain(_update_vectors_body(call.collection, call.json(), call.wait)),
    ),
    ("POST", f"{_P}/vectors/delete", "delete_vectors", _update(points.delete_vectors, rest.DeleteVectors)),
    ("GET", f"{_P}/{{id}}", "get", _retrieve_one),
)
