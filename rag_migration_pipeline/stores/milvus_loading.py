"""The states of a Milvus collection that readers wait for: index, load, flush.

Belongs here: bringing a collection into a state and waiting for it, with a limit. Does not belong here: records.
"""

import time
from collections.abc import Callable, Collection
from typing import Any

import orjson

from rag_migration_pipeline.errors import (
    CollectionNotFoundError,
    RateLimitedError,
    StoreRequestError,
    StoreTimeoutError,
)
from rag_migration_pipeline.stores.milvus_connection import Connection
from rag_migration_pipeline.stores.milvus_errors import INDEX_NOT_FOUND
from rag_migration_pipeline.stores.milvus_schema import Layout
from rag_migration_pipeline.stores.readiness import Readiness

POLL_S = 0.1
LONGEST_POLL_S = 1.0


def describe_index(connection: Connection, collection: str) -> Any:
    """Return the ``DescribeIndexResponse`` of a collection; empty where it has no index."""
    from pymilvus.grpc_gen import milvus_pb2

    request = milvus_pb2.DescribeIndexRequest(collection_name=collection)
    try:
        return connection.call("DescribeIndex", request, f"describing the indexes of {collection!r}")
    except StoreRequestError as error:
        if error.facts.get("code") != INDEX_NOT_FOUND:
            raise
        return milvus_pb2.DescribeIndexResponse()


def finish_creation(connection: Connection, layout: Layout, timeout_s: float) -> None:
    """Make the indexes that the collection was created for, and load it; more than once is fine."""
    from pymilvus.grpc_gen import milvus_pb2

    for field_name, parameters in layout.plan["index"].items():
        request = milvus_pb2.CreateIndexRequest(collection_name=layout.collection, field_name=field_name)
        for key in ("index_type", "metric_type"):  # an index of a scalar field has no metric
            if key in parameters:
                request.extra_params.add(key=key, value=str(parameters[key]))
        if parameters.get("params"):
            request.extra_params.add(key="params", value=orjson.dumps(parameters["params"]).decode())
        connection.call("CreateIndex", request, f"indexing {layout.collection!r}.{field_name!r}")
    make_readable(connection, layout.collection, may_load=True, timeout_s=timeout_s)


def make_readable(connection: Connection, collection: str, *, may_load: bool, timeout_s: float) -> bool:
    """Wait until the collection is loaded, and return whether we had to load it.

    Raises:
        CollectionNotFoundError: There is none of that name.
        StoreRequestError: It is released, and loading it is not ours to do.
        StoreTimeoutError: It did not become loaded in time.
    """
    from pymilvus.grpc_gen import common_pb2, milvus_pb2

    states = common_pb2.LoadState
    asked = milvus_pb2.GetLoadStateRequest(collection_name=collection)

    def state() -> int:
        return int(connection.call("GetLoadState", asked, f"asking whether {collection!r} is loaded").state)

    first = state()
    if first == states.LoadStateLoaded:
        return False
    if first == states.LoadStateNotExist:
        raise CollectionNotFoundError(f"there is no collection {collection!r}.", collection=collection)
    must_load = bool(first == states.LoadStateNotLoad)
    if must_load and not may_load:
        raise StoreRequestError(
            f"collection {collection!r} in {connection.address} is not loaded, and Milvus reads loaded collections "
            "only.",
            todo="Load it, or add ?load_source=true to its URL: then it is loaded, and released at the end.",
            collection=collection,
        )
    if must_load:
        request = milvus_pb2.LoadCollectionRequest(collection_name=collection, replica_number=1)
        # Lite loads before it answers.
        connection.call("LoadCollection", request, f"loading collection {collection!r}", timeout_s)
    _wait(lambda: bool(state() == states.LoadStateLoaded), f"collection {collection!r} is not loaded", timeout_s)
    return must_load


def release(connection: Connection, collection: str) -> None:
    """Release a collection from memory."""
    from pymilvus.grpc_gen import milvus_pb2

    request = milvus_pb2.ReleaseCollectionRequest(collection_name=collection)
    connection.call("ReleaseCollection", request, f"releasing collection {collection!r}")


def finish_loading(connection: Connection, layout: Layout, timeout_s: float) -> None:
    """Flush, and wait until all records are indexed and can be searched.

    Raises:
        StoreTimeoutError: It takes longer than that.
        StoreRequestError: An index cannot be built.
    """
    name = layout.collection
    deadline = time.monotonic() + timeout_s
    _flush(connection, name, timeout_s)
    _wait(lambda: _is_indexed(connection, name), f"the index of {name!r} is not built", deadline - time.monotonic())
    make_readable(connection, name, may_load=True, timeout_s=max(1.0, deadline - time.monotonic()))


def readiness(connection: Connection, collection: str, vectors: Collection[str], count: Callable[[], int]) -> Readiness:
    """Return the states of a collection's indexes and whether it is loaded; nothing is waited for.

    Rows of an index are more than records: rows that were deleted or written over count until they are compacted, and
    2.3.5 was seen to add 122,663 rows of a collection that had been dropped to the ten of another.

    Args:
        connection: The channel.
        collection: Its name.
        vectors: Names of its vector fields: without an index a field cannot be searched.
        count: Counts its records; asked where it is loaded.
    """
    from pymilvus.grpc_gen import common_pb2, milvus_pb2

    asked = milvus_pb2.GetLoadStateRequest(collection_name=collection)
    load = connection.call("GetLoadState", asked, f"asking whether {collection!r} is loaded").state
    is_loaded = bool(load == common_pb2.LoadState.LoadStateLoaded)
    indexes = list(describe_index(connection, collection).index_descriptions)
    states = common_pb2.IndexState
    missing = sorted(set(vectors).difference(index.field_name for index in indexes))
    is_built = all(index.state == states.Finished and not index.pending_index_rows for index in indexes)
    said = [_index_text(index, states.Name(index.state)) for index in indexes]
    said += [f"field {name!r} has no index" for name in missing]
    total = count() if is_loaded else max((index.total_rows for index in indexes), default=0)
    pending = max((index.pending_index_rows for index in indexes), default=total)
    return Readiness(
        is_ready=is_loaded and is_built and not missing,
        is_loaded=is_loaded,
        is_stuck=bool(missing)
        or load == common_pb2.LoadState.LoadStateNotLoad
        or any(index.state == states.Failed for index in indexes),
        total=total,
        indexed=max(0, total - pending),
        detail="; ".join(["loaded" if is_loaded else "not loaded: searches are refused", *said]),
    )


def _index_text(index: Any, state: str) -> str:
    rows = f"{index.indexed_rows} of {index.total_rows} rows, {index.pending_index_rows} pending"
    reason = f" ({index.index_state_fail_reason})" if index.index_state_fail_reason else ""
    return f"index of {index.field_name!r} {state.lower()}{reason}: {rows}"


def _flush(connection: Connection, collection: str, timeout_s: float) -> None:
    from pymilvus.grpc_gen import milvus_pb2

    request = milvus_pb2.FlushRequest(collection_names=[collection])
    answers: list[Any] = []

    def flush() -> bool:
        try:
            answers.append(connection.call("Flush", request, f"flushing collection {collection!r}", timeout_s))
        except RateLimitedError:  # servers allow a flush every ten seconds (``quotaAndLimits.flushRate``): part of it
            return False
        return True

    _wait(flush, f"collection {collection!r} cannot be flushed", timeout_s)
    segments = answers[0].coll_segIDs[collection].data if collection in answers[0].coll_segIDs else []
    asked = milvus_pb2.GetFlushStateRequest(
        collection_name=collection,
        segmentIDs=list(segments),
        flush_ts=answers[0].coll_flush_ts.get(collection, 0),
    )
    _wait(
        lambda: bool(connection.call("GetFlushState", asked, f"waiting for the flush of {collection!r}").flushed),
        f"collection {collection!r} is not flushed",
        timeout_s,
    )


def _is_indexed(connection: Connection, collection: str) -> bool:
    from pymilvus.grpc_gen import common_pb2

    for index in describe_index(connection, collection).index_descriptions:
        if index.state == common_pb2.IndexState.Failed:
            raise StoreRequestError(
                f"the index of {collection!r}.{index.field_name!r} cannot be built: {index.index_state_fail_reason}.",
                todo="Look into the server's log, or choose another index.",
                collection=collection,
            )
        if index.state != common_pb2.IndexState.Finished or index.pending_index_rows:
            return False
    return True


def _wait(is_reached: Callable[[], bool], otherwise: str, timeout_s: float) -> None:
    """Ask until it is so, less and less often.

    Raises:
        StoreTimeoutError: It is not so in time; ``otherwise`` says what is not.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = POLL_S
    while not is_reached():
        if time.monotonic() >= deadline:
            raise StoreTimeoutError(f"{otherwise} after {timeout_s:g} s.", todo="Try again, or look at the server.")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_POLL_S)
