"""Filters as Milvus' expressions.

Belongs here: which comparisons Milvus means as the filter language does, literals, the expression that keeps envelopes.
Does not belong here: the walk over a filter (``narrowing.py``), queries (``milvus_reading.py``).

Templates, which would keep values out of the expression, came with Milvus 2.5; 2.3.5 has none, so strings are escaped
(`milvus_wire.literal`), and field names are plain words. Tried on Milvus 2.3.5 and Milvus Lite 3.2.2:

- The dynamic field is JSON. A comparison with a value of another type, or with a missing key, is false on a server, and
  its negation true, as the language has it; integers and floats are one. In Lite both are nothing, a bool is a number,
  ``exists`` is false for null, and ``in`` takes no JSON.
- Integers of 2**53 and more are compared with floats as floats: they are asked for with room.
- Lite refuses a query on a dynamic key where all its values are integers and one is above int64: planning then lists
  everything.
- An integer field takes no float (an error on a server), and no literal of -2**63.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from rag_migration_pipeline.filters.nodes import DOCUMENT_FIELD, ORDERINGS, Comparison, Filter, is_number
from rag_migration_pipeline.payloads import ENVELOPE_KEY
from rag_migration_pipeline.stores.milvus_schema import Layout
from rag_migration_pipeline.stores.milvus_types import Column, FieldType
from rag_migration_pipeline.stores.milvus_wire import literal
from rag_migration_pipeline.stores.narrowing import (
    EXACT_BELOW,
    Dialect,
    Narrowing,
    Translated,
    is_plain_path,
    is_safe_text,
    narrow,
    not_narrowed,
    range_of,
)

_SIGNS = {"$eq": "==", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_KEYWORDS = frozenset({"and", "or", "not", "in", "like", "exists", "is", "null", "true", "false", "iso", "interval"})
_BITS: Mapping[FieldType, int] = {FieldType.INT8: 8, FieldType.INT16: 16, FieldType.INT32: 32, FieldType.INT64: 64}


def narrow_records(parts: Sequence[Filter], layout: Layout, document_key: str, *, is_lite: bool) -> Narrowing:
    """Return the expression of records of which all parts hold, and of those with an envelope.

    Args:
        parts: Parts of a filter.
        layout: The collection's columns.
        document_key: The payload key of documents.
        is_lite: Whether it is Milvus Lite.
    """
    envelope = _has_envelope(layout)
    if envelope is None:
        return not_narrowed(parts)
    found = narrow(parts, _MilvusDialect(layout, document_key, is_lite=is_lite))
    return replace(found, query=f"({found.query} || {envelope})") if found.query and envelope else found


def _has_envelope(layout: Layout) -> str | None:
    """Return the expression of records with an envelope: empty where none can have one, None where none tells."""
    column = layout.fields.get(ENVELOPE_KEY)
    if column is not None:
        return f'{ENVELOPE_KEY} != ""' if column.type == FieldType.VARCHAR else None
    return f'(exists $meta["{ENVELOPE_KEY}"])' if layout.has_dynamic else ""


class _MilvusDialect(Dialect[str]):
    """Comparisons as expressions, each in brackets where it needs them."""

    def __init__(self, layout: Layout, document_key: str, *, is_lite: bool) -> None:
        self._layout = layout
        self._document_key = document_key
        self._is_lite = is_lite
        columns = (layout.key, *layout.vectors.values())
        self._others = {column.name for column in columns} | {ENVELOPE_KEY, document_key}

    def comparison(self, node: Comparison, *, is_negated: bool) -> Translated[str] | None:
        """See `Dialect.comparison`."""
        field = node.field
        if field == DOCUMENT_FIELD and node.operator != "$exists":  # a value that is no string is no document
            field = self._document_key
        elif field in (DOCUMENT_FIELD, *self._others):
            return None
        column = self._layout.fields.get(field)
        if column is not None:
            return self._typed(column, node, is_negated=is_negated)
        first = field.partition(".")[0]
        if not (self._layout.has_dynamic and is_plain_path(field)) or first in self._layout.fields:
            return None
        if "." not in field:
            return self._dynamic(f'$meta["{field}"]', node, is_negated=is_negated)
        if self._is_lite or is_negated or first in self._others:
            return None
        # A key of that whole name wins over the path; the store is asked for both.
        keys = (f'$meta["{field}"]', "$meta" + "".join(f'["{part}"]' for part in field.split(".")))
        found = [self._dynamic(key, node, is_negated=False) for key in keys]
        if None in found or node.operator == "$exists":
            return None
        return Translated(self.any_of([part.query for part in found if part is not None]))

    def _dynamic(self, key: str, node: Comparison, *, is_negated: bool) -> Translated[str] | None:
        """Compare a value of the dynamic field."""
        operator, value = node.operator, node.value
        if operator == "$exists" or (operator == "$eq" and value is None):
            return self._presence(key, node, is_negated=is_negated)
        texts = value if operator == "$in" else [value]
        if operator == "$in" or (operator in _SIGNS and isinstance(value, str)):
            if not all(map(is_safe_text, texts)):
                return None
            if operator == "$in" and not self._is_lite:
                found = f"{key} in [{', '.join(map(literal, texts))}]"
            else:
                sign = _SIGNS["$eq" if operator == "$in" else operator]
                found = self.any_of([f"{key} {sign} {literal(text)}" for text in texts])
            return self._negated(key, operator, found) if is_negated else Translated(found, is_exact=True)
        if operator in _SIGNS and is_number(value):
            return self._dynamic_number(key, operator, value, is_negated=is_negated)
        if operator == "$eq" and isinstance(value, bool):
            found = f"{key} == {str(value).lower()}"
            if is_negated:
                return None if self._is_lite else Translated(f"!({found})", is_exact=True)
            return Translated(found, is_exact=not self._is_lite)
        return None if is_negated else Translated(f"(exists {key})")

    def _negated(self, key: str, operator: str, found: str) -> Translated[str] | None:
        """Return the negation of a comparison with strings.

        In Lite the negation of nothing is nothing: missing keys and nulls are asked for beside it, and values of other
        types have no order.
        """
        if not self._is_lite:
            return Translated(f"!{_bracketed(found)}", is_exact=True)
        return (
            Translated(f"(!{_bracketed(found)} || !(exists {key}))", is_exact=True)
            if operator in ("$eq", "$in")
            else None
        )

    def _presence(self, key: str, node: Comparison, *, is_negated: bool) -> Translated[str] | None:
        """Translate ``$exists`` and null; Lite does not tell null from missing."""
        if node.operator == "$eq":
            if is_negated:
                return None
            return Translated(f"!(exists {key})" if self._is_lite else f"(exists {key})")
        is_missing = node.value is is_negated
        if self._is_lite:
            return Translated(f"!(exists {key})") if is_missing else None
        return Translated(f"!(exists {key})" if is_missing else f"(exists {key})", is_exact=True)

    def _dynamic_number(self, key: str, operator: str, value: float, *, is_negated: bool) -> Translated[str] | None:
        if abs(value) < EXACT_BELOW:
            found = f"{key} {_SIGNS[operator]} {_number(value)}"
            if is_negated:
                return None if self._is_lite else Translated(f"!({found})", is_exact=True)
            return Translated(found, is_exact=not self._is_lite)
        return None if is_negated else self._between(key, *range_of(operator, value))

    def _typed(self, column: Column, node: Comparison, *, is_negated: bool) -> Translated[str] | None:
        """Compare a typed field; every record has it."""
        if not _WORD.fullmatch(column.name) or column.name.lower() in _KEYWORDS:
            return None
        found = self._typed_positive(column, node)
        if not is_negated or found is None:
            return found
        # A null is neither, in Lite and in servers that have nulls.
        return (
            Translated(f"!{_bracketed(found.query)}", is_exact=True)
            if found.is_exact and not column.is_nullable
            else None
        )

    def _typed_positive(self, column: Column, node: Comparison) -> Translated[str] | None:
        operator, value = node.operator, node.value
        if column.type == FieldType.VARCHAR:
            texts = value if operator == "$in" else [value]
            if operator not in ("$in", *_SIGNS) or not all(
                isinstance(text, str) and is_safe_text(text) for text in texts
            ):
                return None
            if operator == "$in":
                return Translated(f"{column.name} in [{', '.join(map(literal, texts))}]", is_exact=True)
            return Translated(f"{column.name} {_SIGNS[operator]} {literal(value)}", is_exact=True)
        if column.type == FieldType.BOOL and operator == "$eq" and isinstance(value, bool):
            return Translated(f"{column.name} == {str(value).lower()}", is_exact=True)
        if operator not in ("$eq", *ORDERINGS) or not is_number(value) or not math.isfinite(value):
            return None
        if column.type in _BITS:
            return _integer(column, operator, value)
        if column.type == FieldType.DOUBLE and abs(value) < EXACT_BELOW:
            return Translated(f"{column.name} {_SIGNS[operator]} {_number(float(value))}", is_exact=True)
        if column.type in (FieldType.DOUBLE, FieldType.FLOAT):
            low, high = range_of(operator, value)
            if column.type == FieldType.FLOAT:
                low, high = _single(low, -math.inf), _single(high, math.inf)
            return self._between(column.name, low, high)
        return None

    def _between(self, key: str, low: float | None, high: float | None) -> Translated[str] | None:
        bounds = [f"{key} >= {_number(low)}"] if low is not None else []
        bounds += [f"{key} <= {_number(high)}"] if high is not None else []
        return Translated(" && ".join(bounds) if len(bounds) == 1 else f"({' && '.join(bounds)})") if bounds else None

    def all_of(self, queries: Sequence[str]) -> str:
        """See `Dialect.all_of`."""
        return f"({' && '.join(queries)})"

    def any_of(self, queries: Sequence[str]) -> str:
        """See `Dialect.any_of`."""
        return f"({' || '.join(queries)})"


def _integer(column: Column, operator: str, value: float) -> Translated[str] | None:
    """Compare an integer field with the next integers; a bound that every or no integer meets is left to evaluation."""
    half = 2 ** (_BITS[column.type] - 1)
    low, high = math.ceil(value), math.floor(value)
    if operator == "$eq":
        return Translated(f"{column.name} == {low}", is_exact=True) if low == high and -half < low < half else None
    if operator in ("$gt", "$gte"):
        bound, sign = (high + 1 if operator == "$gt" else low), ">="
    else:
        bound, sign = (low - 1 if operator == "$lt" else high), "<="
    return Translated(f"{column.name} {sign} {bound}", is_exact=True) if -half < bound < half else None


def _single(bound: float | None, towards: float) -> float | None:
    """Return a float32 on the far side of a bound; None where there is none."""
    if bound is None:
        return None
    with np.errstate(over="ignore"):
        near = np.nextafter(np.float32(bound), np.float32(towards))
    return float(near) if np.isfinite(near) else None


def _number(value: float) -> str:
    """Return the literal of a finite number."""
    return repr(value)


def _bracketed(expression: str) -> str:
    return expression if expression.startswith("(") else f"({expression})"
