"""Filters as Chroma's ``where``.

Belongs here: which comparisons Chroma means as the filter language does. Does not belong here: the walk over a filter
(``narrowing.py``), when a collection may be narrowed at all (``chroma.py``).

Tried on chromadb 1.5.9, folder and server: a string, a bool or a number is compared with values of its own type, and
``$ne`` and ``$nin`` take records without the key, as the language has it; 5 and 5.0 are equal. An operand that is no
whole number is cut to an integer where the value is one (0.1 equals 0 then), and integers of 2**53 and more are
compared with floats as floats; both are asked for with room. Lists equal nothing; null and nested values are not in
metadata.
"""

import math
from collections.abc import Sequence
from typing import Any

from rag_migration_pipeline.filters.nodes import DOCUMENT_FIELD, ID_FIELD, ORDERINGS, Comparison, is_number
from rag_migration_pipeline.records import INT64_MAX, INT64_MIN
from rag_migration_pipeline.stores.chroma_schema import PAYLOAD_RULES, URI_KEY
from rag_migration_pipeline.stores.narrowing import EXACT_BELOW, Dialect, Translated, is_safe_text

Where = dict[str, Any]


class ChromaDialect(Dialect[Where]):
    """Comparisons as Chroma's ``where``."""

    def comparison(self, node: Comparison, *, is_negated: bool) -> Translated[Where] | None:
        """See `Dialect.comparison`."""
        field, value = node.field, node.value
        if not _is_key(field):
            return None
        if node.operator == "$in":
            return _texts(field, value, is_negated=is_negated)
        if node.operator == "$eq" and isinstance(value, bool):
            return Translated({field: {"$ne" if is_negated else "$eq": value}}, is_exact=True)
        if node.operator == "$eq" and isinstance(value, str):
            return _texts(field, [value], is_negated=is_negated)
        if node.operator in ("$eq", *ORDERINGS) and is_number(value):
            return _number(field, node.operator, value, is_negated=is_negated)
        return None

    def all_of(self, queries: Sequence[Where]) -> Where:
        """See `Dialect.all_of`."""
        return {"$and": list(queries)}

    def any_of(self, queries: Sequence[Where]) -> Where:
        """See `Dialect.any_of`."""
        return {"$or": list(queries)}


def _is_key(field: str) -> bool:
    """Return whether the field is a key that Chroma could hold; one with dots is that key, as nothing is nested."""
    if field in (ID_FIELD, DOCUMENT_FIELD, URI_KEY):
        return False
    return PAYLOAD_RULES.refusal(field, "") is None and is_safe_text(field)


def _texts(field: str, values: Sequence[str], *, is_negated: bool) -> Translated[Where] | None:
    if not all(map(is_safe_text, values)):
        return None
    return Translated({field: {"$nin" if is_negated else "$in": list(values)}}, is_exact=True)


def _number(field: str, operator: str, value: float, *, is_negated: bool) -> Translated[Where] | None:
    is_exact = abs(value) < EXACT_BELOW and value == math.floor(value)
    if is_exact:
        if is_negated:
            return Translated({field: {"$ne": int(value)}}, is_exact=True) if operator == "$eq" else None
        return Translated({field: {operator: int(value)}}, is_exact=True)
    if is_negated or not INT64_MIN < value < INT64_MAX:
        return None
    bounds: list[Where] = []
    if operator in ("$eq", "$gt", "$gte"):
        bounds.append({field: {"$gte": math.floor(value)}})
    if operator in ("$eq", "$lt", "$lte"):
        bounds.append({field: {"$lte": math.ceil(value)}})
    return Translated({"$and": bounds} if len(bounds) > 1 else bounds[0])
