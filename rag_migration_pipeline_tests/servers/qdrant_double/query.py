"""Searching: a REST query in, scored engine points out.

What belongs here: nearest neighbours (by vector or by a point's id), order by a field, sampling, fusion of prefetches.
What does not: recommend, discover, context, formula, feedback, text and MMR queries, which are refused as unsupported.
"""

from typing import Any
from uuid import UUID

import qdrant_edge as edge
from qdrant_client.http import models as rest

from rag_migration_pipeline_tests.servers.qdrant_double import engine, points
from rag_migration_pipeline_tests.servers.qdrant_double.refusals import Refusal, engine_call, unsupported
from rag_migration_pipeline_tests.servers.qdrant_double.registry import Collection

_DEFAULT_LIMIT = 10
# Source: qdrant/qdrant `lib/segment/src/common/reciprocal_rank_fusion.rs`, DEFAULT_RRF_K.
_DEFAULT_RRF_K = 2


def run(collection: Collection, request: rest.QueryRequest) -> list[edge.ScoredPoint]:
    """Answer one query.

    Args:
        collection: Where to search.
        request: The query as the REST models put it.

    Raises:
        Refusal: The query is of a kind that is not served, or the engine refuses it.
    """
    if request.lookup_from is not None:
        raise unsupported("lookup_from")
    with engine_call():
        scoring, asked_ids = _scoring(collection, request.query, request.using)
        translated = edge.QueryRequest(
            limit=_DEFAULT_LIMIT if request.limit is None else request.limit,
            offset=request.offset,
            query=scoring,
            prefetches=_prefetches(collection, request.prefetch),
            with_vector=request.with_vector or False,
            with_payload=engine.payload_selector(request.with_payload or False),
            filter=_without(engine.optional_filter(request.filter), asked_ids),
            score_threshold=request.score_threshold,
            params=_params(request.params),
        )
        return list(collection.shard.query(translated))


def _prefetches(collection: Collection, prefetch: Any) -> list[edge.Prefetch]:
    if prefetch is None:
        return []
    return [_prefetch(collection, item) for item in (prefetch if isinstance(prefetch, list) else [prefetch])]


def _prefetch(collection: Collection, prefetch: rest.Prefetch) -> edge.Prefetch:
    if prefetch.lookup_from is not None:
        raise unsupported("lookup_from")
    scoring, asked_ids = _scoring(collection, prefetch.query, prefetch.using)
    return edge.Prefetch(
        limit=_DEFAULT_LIMIT if prefetch.limit is None else prefetch.limit,
        query=scoring,
        prefetches=_prefetches(collection, prefetch.prefetch),
        params=_params(prefetch.params),
        filter=_without(engine.optional_filter(prefetch.filter), asked_ids),
        score_threshold=prefetch.score_threshold,
    )


def _without(chosen: edge.Filter | None, ids: list[Any]) -> edge.Filter | None:
    """Leave the points that were asked about out of the answer, as the server does."""
    if not ids:
        return chosen
    return edge.Filter(must=[chosen] if chosen is not None else None, must_not=[edge.HasIdCondition(set(ids))])


def _params(params: rest.SearchParams | None) -> edge.SearchParams | None:
    if params is None:
        return None
    odd = [name for name in ("acorn", "idf") if getattr(params, name) is not None]
    if odd:
        raise unsupported(f"search parameters {odd}")
    return edge.SearchParams(hnsw_ef=params.hnsw_ef, exact=bool(params.exact), indexed_only=bool(params.indexed_only))


def _scoring(collection: Collection, query: Any, using: str | None) -> tuple[Any, list[Any]]:
    """Translate a query and name the ids of the points that it is about."""
    if query is None:
        return None, []
    if isinstance(query, rest.NearestQuery):
        if query.mmr is not None:
            raise unsupported("mmr")
        query = query.nearest
    if isinstance(query, rest.OrderByQuery):
        return engine.order_by(query.order_by), []
    if isinstance(query, rest.SampleQuery):
        return edge.Sample.Random, []
    if isinstance(query, rest.FusionQuery):
        dbsf = query.fusion == rest.Fusion.DBSF
        return (edge.Fusion.Dbsf() if dbsf else edge.Fusion.Rrf(_DEFAULT_RRF_K)), []
    if isinstance(query, rest.RrfQuery):
        rrf_k = _DEFAULT_RRF_K if query.rrf.k is None else query.rrf.k
        return edge.Fusion.Rrf(rrf_k, query.rrf.weights), []
    return _nearest(collection, query, using)


def _nearest(collection: Collection, query: Any, using: str | None) -> tuple[Any, list[Any]]:
    if isinstance(query, int | str | UUID):
        points.check_id(query)
        asked = engine.point_ids([query])
        return edge.Query.Nearest(_vector_of(collection, asked[0], using or ""), using), asked
    if isinstance(query, rest.SparseVector):
        return edge.Query.Nearest(points.sparse_vector(query.indices, query.values), using), []
    if isinstance(query, list):
        return edge.Query.Nearest(query, using), []
    raise unsupported(f"query of type {type(query).__name__}")


def _vector_of(collection: Collection, point_id: Any, name: str) -> Any:
    found = collection.shard.retrieve([point_id], False, True)
    if not found:
        raise Refusal("not_found", f"No point with id {point_id} found")
    vector: Any = found[0].vector
    if isinstance(vector, dict):
        vector = vector.get(name)
    if vector is None:
        raise Refusal("bad_input", f"Not existing vector name error: {name}")
    return vector
