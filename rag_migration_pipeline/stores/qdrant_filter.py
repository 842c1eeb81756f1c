"""Filters as Qdrant's, in the form of its JSON, for all transports.

Belongs here: which comparisons Qdrant can narrow, the condition that keeps envelopes. Does not belong here: the walk
over a filter (``narrowing.py``), how a transport sends a filter (``qdrant_transports.py``, ``qdrant_edge.py``).

A condition of Qdrant holds where any element of a list meets it, so what is asked for holds lists as well and a
negation has no translation. Numbers are compared as floats. ``is_empty`` means missing, null or an empty list, so every
comparison with anything else is at least "not empty". A bool is asked for by nothing more than that: the Python binding
of qdrant-edge-py 0.9.0 takes true for 1. A field with a payload index answers from it, and an index of integers holds
no floats: only indexes that hold every value of the asked type are used. Tried on qdrant-edge-py 0.9.0 and the local
mode of qdrant-client 1.20.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rag_migration_pipeline.filters.nodes import DOCUMENT_FIELD, ORDERINGS, Comparison, Filter, is_number
from rag_migration_pipeline.payloads import ENVELOPE_KEY
from rag_migration_pipeline.records import FieldSpec
from rag_migration_pipeline.stores.narrowing import (
    Dialect,
    Narrowing,
    Translated,
    is_plain_path,
    is_safe_text,
    narrow,
    not_narrowed,
    range_of,
)

Query = dict[str, Any]


def narrow_points(parts: Sequence[Filter], fields: Sequence[FieldSpec], document_key: str) -> Narrowing:
    """Return the filter that selects points of which all parts hold, and points with an envelope.

    Args:
        parts: Parts of a filter.
        fields: The collection's payload indexes.
        document_key: The payload key of documents.
    """
    indexes = {field.name: field.type for field in fields}
    if ENVELOPE_KEY in indexes:
        return not_narrowed(parts)
    found = narrow(parts, _QdrantDialect(indexes, document_key))
    if found.query is None:
        return found
    return replace(found, query={"should": [found.query, _not_empty(ENVELOPE_KEY)]})


class _QdrantDialect(Dialect[Query]):
    """Comparisons as filters of Qdrant, each a whole filter."""

    def __init__(self, indexes: Mapping[str, str], document_key: str) -> None:
        self._indexes = indexes
        self._document_key = document_key

    def comparison(self, node: Comparison, *, is_negated: bool) -> Translated[Query] | None:
        """See `Dialect.comparison`."""
        field = node.field
        if field == DOCUMENT_FIELD and node.operator != "$exists":  # a value that is no string is no document
            field = self._document_key
        elif field in (DOCUMENT_FIELD, self._document_key, ENVELOPE_KEY):
            return None
        if not is_plain_path(field):
            return None
        if "." not in field:
            return self._at(field, node, is_negated=is_negated)
        # A key of that whole name wins over the path; the store is asked for both.
        found = [self._at(key, node, is_negated=is_negated) for key in (field, f'"{field}"')]
        if is_negated or None in found or node.operator == "$exists" or node.value is None:
            return None
        return Translated(self.any_of([part.query for part in found if part is not None]))

    def _at(self, key: str, node: Comparison, *, is_negated: bool) -> Translated[Query] | None:
        operator, value = node.operator, node.value
        index = self._indexes.get(key)
        if operator == "$exists":
            is_missing = value is is_negated
            return Translated(_empty(key)) if is_missing and index is None else None
        if is_negated:
            return None
        if operator == "$in" or (operator == "$eq" and isinstance(value, str)):
            texts = value if operator == "$in" else [value]
            if all(map(is_safe_text, texts)) and index in (None, "string"):
                return Translated({"must": [{"key": key, "match": {"any": list(texts)}}]})
        elif operator in ("$eq", *ORDERINGS) and is_number(value) and index in (None, "float"):
            low, high = range_of(operator, value)
            bounds = {name: bound for name, bound in (("gte", low), ("lte", high)) if bound is not None}
            if bounds:
                return Translated({"must": [{"key": key, "range": bounds}]})
        elif operator == "$eq" and value is None:
            return Translated(_empty(key)) if index is None else None
        is_empty = operator == "$eq" and value == []
        return Translated(_not_empty(key)) if index is None and not is_empty else None

    def all_of(self, queries: Sequence[Query]) -> Query:
        """See `Dialect.all_of`."""
        return {"must": list(queries)}

    def any_of(self, queries: Sequence[Query]) -> Query:
        """See `Dialect.any_of`."""
        return {"should": list(queries)}


def _empty(key: str) -> Query:
    return {"must": [{"is_empty": {"key": key}}]}


def _not_empty(key: str) -> Query:
    return {"must_not": [{"is_empty": {"key": key}}]}


def client_filter(where: Query | None) -> Any:
    """Return a filter as the client's model."""
    from qdrant_client import models

    return None if where is None else models.Filter.model_validate(where)


def grpc_filter(where: Query | None) -> Any:
    """Return a filter as gRPC's message."""
    from qdrant_client.conversions.conversion import RestToGrpc

    return None if where is None else RestToGrpc.convert_filter(client_filter(where))


def edge_filter(where: Query | None) -> Any:
    """Return a filter as qdrant-edge's object."""
    import qdrant_edge

    if where is None:
        return None
    clauses: dict[str, Any] = {clause: list(map(_edge_condition, parts)) for clause, parts in where.items()}
    return qdrant_edge.Filter(**clauses)


def _edge_condition(condition: Query) -> Any:
    import qdrant_edge

    if "is_empty" in condition:
        return qdrant_edge.IsEmptyCondition(condition["is_empty"]["key"])
    if "match" in condition:
        return qdrant_edge.FieldCondition(condition["key"], match=qdrant_edge.MatchAny(condition["match"]["any"]))
    if "range" in condition:
        return qdrant_edge.FieldCondition(condition["key"], range=qdrant_edge.RangeFloat(**condition["range"]))
    return edge_filter(condition)
