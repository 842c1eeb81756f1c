"""How points reach Qdrant through its Python client: gRPC, REST, and the local folder.

Belongs here: requests about points. Does not belong here: collections (``qdrant.py``), messages (``qdrant_points.py``).
Every write waits until it is applied (``wait=true``), so that every later read sees it.
"""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson

from rag_migration_pipeline.errors import CollectionNotFoundError, StoreRequestError
from rag_migration_pipeline.records import (
    CollectionSpec,
    Payload,
    RecordBatch,
    RecordId,
)
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.stores.qdrant_errors import TOO_LARGE, driver_errors
from rag_migration_pipeline.stores.qdrant_filter import Query, client_filter, grpc_filter
from rag_migration_pipeline.stores.qdrant_points import cut_by_size, decode_points, encode_points, id_fields, id_of
from rag_migration_pipeline.stores.qdrant_reading import Page, PointTransport
from rag_migration_pipeline.stores.qdrant_vectors import client_batch, id_from_json, json_batch, json_points, listed


def send_in_halves(send: Callable[[list[Any]], None], points: list[Any]) -> None:
    """Send points in one request; where the server finds it too large, in two halves, and so on.

    Servers and proxies may allow less than the 32 MB that Qdrant allows by default.
    """
    try:
        send(points)
    except StoreRequestError as error:
        if not error.facts.get(TOO_LARGE) or len(points) < 2:
            raise
        middle = len(points) // 2
        send_in_halves(send, points[:middle])
        send_in_halves(send, points[middle:])


class GrpcTransport(PointTransport):
    """Points over gRPC, on the client's own stubs, which carry the api key and TLS."""

    def __init__(
        self, client: Any, address: str, timeout_s: float, limits: Capabilities, rest: "RestTransport"
    ) -> None:
        """Keep the client.

        Args:
            client: A ``QdrantClient``.
            address: For messages.
            timeout_s: Longest wait for one answer.
            limits: Size of write requests.
            rest: The other way in, for payloads that gRPC cannot carry exactly.
        """
        self._client = client
        self._address = address
        self._timeout_s = timeout_s
        self._limits = limits
        self._rest = rest

    def _call(self, method: str, collection: str, **fields: Any) -> Any:
        from qdrant_client import grpc

        request = {"Get": "GetPoints"}.get(method, f"{method}Points")
        with driver_errors(self._address, method.lower(), collection):
            message = getattr(grpc, request)(collection_name=collection, **fields)
            return getattr(self._client.grpc_points, method)(message, timeout=self._timeout_s)

    def page(self, spec: CollectionSpec, start: RecordId | None, count: int) -> Page:
        """See `PointTransport.page`."""
        answer = self._call(
            "Scroll",
            spec.name,
            limit=count,
            offset=None if start is None else id_fields(start),
            with_payload={"enable": True},
            with_vectors={"enable": bool(spec.vectors)},
        )
        next_id = id_of(answer.next_page_offset) if answer.HasField("next_page_offset") else None
        return Page(self._decode(answer.result, spec), next_id)

    def id_page(
        self, collection: str, start: RecordId | None, count: int, where: Query | None = None
    ) -> tuple[list[RecordId], RecordId | None]:
        """See `PointTransport.id_page`."""
        answer = self._call(
            "Scroll",
            collection,
            limit=count,
            offset=None if start is None else id_fields(start),
            filter=grpc_filter(where),
            with_payload={"enable": False},
            with_vectors={"enable": False},
        )
        next_id = id_of(answer.next_page_offset) if answer.HasField("next_page_offset") else None
        return [id_of(point.id) for point in answer.result], next_id

    def value_page(
        self, collection: str, key: str, start: RecordId | None, count: int, where: Query | None = None
    ) -> tuple[list[RecordId], list[Payload], RecordId | None]:
        """See `PointTransport.value_page`."""
        answer = self._call(
            "Scroll",
            collection,
            limit=count,
            offset=None if start is None else id_fields(start),
            filter=grpc_filter(where),
            with_payload={"include": {"fields": [key]}},
            with_vectors={"enable": False},
        )
        next_id = id_of(answer.next_page_offset) if answer.HasField("next_page_offset") else None
        batch = self._decode(answer.result, CollectionSpec(collection, vectors=(), id_kinds=frozenset()))
        return [*batch.ids], [*batch.payloads], next_id

    def retrieve(self, spec: CollectionSpec, ids: Sequence[RecordId]) -> RecordBatch:
        """See `PointTransport.retrieve`."""
        answer = self._call(
            "Get",
            spec.name,
            ids=[id_fields(record_id) for record_id in ids],
            with_payload={"enable": True},
            with_vectors={"enable": bool(spec.vectors)},
        )
        return self._decode(answer.result, spec)

    def _decode(self, points: Sequence[Any], spec: CollectionSpec) -> RecordBatch:
        batch, doubtful = decode_points(points, spec)
        if doubtful:
            exact = self._rest.payloads(spec.name, [batch.ids[row] for row in doubtful])
            for row in doubtful:
                batch.payloads[row].update(exact.get(batch.ids[row], {}))
        return batch

    def count(self, collection: str, where: Query | None = None) -> int:
        """See `PointTransport.count`."""
        return int(self._call("Count", collection, filter=grpc_filter(where), exact=True).result.count)

    def upsert(self, spec: CollectionSpec, batch: RecordBatch) -> None:
        """See `PointTransport.upsert`."""

        def send(points: list[Any]) -> None:
            self._call("Upsert", spec.name, wait=True, points=points)

        for group in cut_by_size(encode_points(batch), self._limits.max_batch_count, self._limits.max_batch_bytes):
            send_in_halves(send, group)

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `PointTransport.delete`."""
        selected = {"points": {"ids": [id_fields(record_id) for record_id in ids]}}
        self._call("Delete", collection, wait=True, points=selected)


class RestTransport(PointTransport):
    """Points over REST, through the client's own HTTP session, which carries the api key and TLS."""

    def __init__(self, client: Any, address: str, limits: Capabilities) -> None:
        """Keep the client; see `GrpcTransport`."""
        self._client = client
        self._address = address
        self._limits = limits

    def _call(self, method: str, path: str, collection: str, body: Any, **params: str) -> Any:
        """Send one request and return its ``result``; a body of bytes is sent as it is."""
        with driver_errors(self._address, f"{method} {path}", collection):
            answer = self._client.http.client.request(
                type_=dict[str, Any],  # parsed by orjson, not checked field by field
                method=method,
                url="/collections/{collection_name}" + path,
                path_params={"collection_name": collection},
                params=params,
                headers={"Content-Type": "application/json"},
                content=body if isinstance(body, bytes) else orjson.dumps(body),
            )
            return answer["result"]

    def page(self, spec: CollectionSpec, start: RecordId | None, count: int) -> Page:
        """See `PointTransport.page`."""
        records, next_id = self._scroll(spec.name, start, count, has_values=True, has_vectors=bool(spec.vectors))
        return Page(json_batch(spec, records), next_id)

    def id_page(
        self, collection: str, start: RecordId | None, count: int, where: Query | None = None
    ) -> tuple[list[RecordId], RecordId | None]:
        """See `PointTransport.id_page`."""
        records, next_id = self._scroll(collection, start, count, has_values=False, where=where)
        return [id_from_json(record["id"]) for record in records], next_id

    def value_page(
        self, collection: str, key: str, start: RecordId | None, count: int, where: Query | None = None
    ) -> tuple[list[RecordId], list[Payload], RecordId | None]:
        """See `PointTransport.value_page`."""
        records, next_id = self._scroll(collection, start, count, has_values=False, keys=[key], where=where)
        ids = [id_from_json(record["id"]) for record in records]
        return ids, [record.get("payload") or {} for record in records], next_id

    def _scroll(
        self,
        collection: str,
        start: RecordId | None,
        count: int,
        *,
        has_values: bool,
        has_vectors: bool = False,
        keys: list[str] | None = None,
        where: Query | None = None,
    ) -> tuple[list[dict[str, Any]], RecordId | None]:
        body: dict[str, Any] = {"limit": count, "with_payload": keys or has_values, "with_vector": has_vectors}
        if start is not None:
            body["offset"] = start
        if where is not None:
            body["filter"] = where
        result = self._call("POST", "/points/scroll", collection, body)
        next_id = result.get("next_page_offset")
        return result["points"], None if next_id is None else id_from_json(next_id)

    def retrieve(self, spec: CollectionSpec, ids: Sequence[RecordId]) -> RecordBatch:
        """See `PointTransport.retrieve`."""
        body = {"ids": list(ids), "with_payload": True, "with_vector": bool(spec.vectors)}
        return json_batch(spec, self._call("POST", "/points", spec.name, body))

    def payloads(self, collection: str, ids: Sequence[RecordId]) -> dict[RecordId, Payload]:
        """Return the payloads of records by id."""
        body = {"ids": list(ids), "with_payload": True, "with_vector": False}
        records = self._call("POST", "/points", collection, body)
        return {id_from_json(record["id"]): record.get("payload") or {} for record in records}

    def count(self, collection: str, where: Query | None = None) -> int:
        """See `PointTransport.count`."""
        body = {"exact": True, **({"filter": where} if where else {})}
        return int(self._call("POST", "/points/count", collection, body)["count"])

    def upsert(self, spec: CollectionSpec, batch: RecordBatch) -> None:
        """See `PointTransport.upsert`."""

        def send(points: list[bytes]) -> None:
            body = b'{"points":[' + b",".join(points) + b"]}"
            self._call("PUT", "/points", spec.name, body, wait="true")

        group: list[bytes] = []
        size = 0
        for point in json_points(batch):
            if group and (
                len(group) >= self._limits.max_batch_count or size + len(point) > self._limits.max_batch_bytes
            ):
                send_in_halves(send, group)
                group, size = [], 0
            group.append(point)
            size += len(point) + 1
        if group:
            send_in_halves(send, group)

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `PointTransport.delete`."""
        self._call("POST", "/points/delete", collection, {"points": list(ids)}, wait="true")


class LocalTransport(PointTransport):
    """Points in the client's local mode: one call at a time (two threads break its SQLite connection)."""

    def __init__(self, client: Any, lock: threading.RLock, address: str) -> None:
        """Keep the client and the lock that all users of the folder share."""
        self._client = client
        self._lock = lock
        self._address = address

    @contextmanager
    def _calling(self, operation: str, collection: str) -> Iterator[Any]:
        with self._lock, driver_errors(self._address, operation, collection):
            # Local mode says "Collection x not found" with a ValueError, as it says everything.
            if not self._client.collection_exists(collection):
                raise CollectionNotFoundError(f"there is no collection {collection!r} in {self._address}.")
            yield self._client

    def page(self, spec: CollectionSpec, start: RecordId | None, count: int) -> Page:
        """See `PointTransport.page`."""
        records, next_id = self._scroll(spec.name, start, count, has_values=True, has_vectors=bool(spec.vectors))
        return Page(client_batch(spec, records), next_id)

    def id_page(
        self, collection: str, start: RecordId | None, count: int, where: Query | None = None
    ) -> tuple[list[RecordId], RecordId | None]:
        """See `PointTransport.id_page`."""
        records, next_id = self._scroll(collection, start, count, has_values=False, where=where)
        return [id_from_json(record.id) for record in records], next_id

    def value_page(
        self, collection: str, key: str, start: RecordId | None, count: int, where: Query | None = None
    ) -> tuple[list[RecordId], list[Payload], RecordId | None]:
        """See `PointTransport.value_page`."""
        records, next_id = self._scroll(collection, start, count, has_values=False, keys=[key], where=where)
        return [id_from_json(record.id) for record in records], [record.payload or {} for record in records], next_id

    def _scroll(
        self,
        collection: str,
        start: RecordId | None,
        count: int,
        *,
        has_values: bool,
        has_vectors: bool = False,
        keys: list[str] | None = None,
        where: Query | None = None,
    ) -> tuple[list[Any], RecordId | None]:
        with self._calling("scroll", collection) as client:
            records, next_id = client.scroll(
                collection,
                scroll_filter=client_filter(where),
                limit=count,
                offset=_client_id(start),
                with_payload=keys or has_values,
                with_vectors=has_vectors,
            )
        return records, None if next_id is None else id_from_json(next_id)

    def retrieve(self, spec: CollectionSpec, ids: Sequence[RecordId]) -> RecordBatch:
        """See `PointTransport.retrieve`."""
        with self._calling("retrieve", spec.name) as client:
            wanted = [_client_id(record_id) for record_id in ids]
            has_vectors = bool(spec.vectors)
            found = client.retrieve(spec.name, wanted, with_payload=True, with_vectors=has_vectors)
            return client_batch(spec, found)

    def count(self, collection: str, where: Query | None = None) -> int:
        """See `PointTransport.count`."""
        with self._calling("count", collection) as client:
            return int(client.count(collection, count_filter=client_filter(where), exact=True).count)

    def upsert(self, spec: CollectionSpec, batch: RecordBatch) -> None:
        """See `PointTransport.upsert`."""
        from qdrant_client import models

        with self._calling("upsert", spec.name) as client:
            points = [
                models.PointStruct(id=_client_id(record_id), vector=vector, payload=payload)
                for record_id, vector, payload in zip(
                    batch.ids, listed(batch, models.SparseVector), batch.payloads, strict=True
                )
            ]
            client.upsert(spec.name, points, wait=True)

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `PointTransport.delete`."""
        with self._calling("delete", collection) as client:
            client.delete(collection, [_client_id(record_id) for record_id in ids], wait=True)


def _client_id(record_id: RecordId | None) -> Any:
    return str(record_id) if isinstance(record_id, uuid.UUID) else record_id
