"""Push-down: what a store is asked for, so that it gives fewer records than all, and never fewer than a filter takes.

Belongs here: walking a filter for an adapter, and what came of it. Does not belong here: what a filter means
(``filters/meaning.py``, which decides in the end), a store's own query language (``<store>_filter.py``).

One law: what the store selects contains everything that the filter takes. So negations are carried down to the
comparisons, and an adapter translates a comparison, or the negation of one, into a query that selects at least those
records. ``and`` and ``or`` of such queries keep the law; what has no translation is left out of an ``and``, and takes
an ``or`` with it. A record that an earlier migration packed may carry values in its envelope only: an adapter selects
every record that has an envelope, whatever the filter.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from rag_migration_pipeline.filters.nodes import NEGATIONS, And, Comparison, Filter, Not

QueryT = TypeVar("QueryT")
MAX_TEXTS = 500
MAX_OTHERS = 50
"""Most values of a ``$in`` that a store is asked for, strings and others; more may be too long or too deep for it."""

EXACT_BELOW = 2**53
"""Integers and floats below this compare exactly whichever of the two a store turns into the other."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_]+", re.ASCII)


class Handling(StrEnum):
    """Who decides a part of a filter."""

    STORE = "the store selects it exactly"
    NARROWED = "the store selects less than all, each record read is evaluated"
    IDS = "decided on the listed ids"
    EVALUATED = "each record read is evaluated"


@dataclass(frozen=True)
class Narrowing:
    """Parts of a filter in a store's own terms.

    Attributes:
        query: What the adapter hands to its store; None selects everything.
        handling: Who decides each part, in their order.
    """

    query: Any
    handling: tuple[Handling, ...]


@dataclass(frozen=True)
class Translated(Generic[QueryT]):
    """A query that selects at least the records that a part of a filter takes; exactly them where ``is_exact``."""

    query: QueryT
    is_exact: bool = False


class Dialect(ABC, Generic[QueryT]):
    """How one store says what a filter asks."""

    @abstractmethod
    def comparison(self, node: Comparison, *, is_negated: bool) -> Translated[QueryT] | None:
        """Return the query of a comparison (or of its negation), or None where there is none that keeps the law.

        The operators ``$ne``, ``$nin`` and ``$not_contains`` come as negations of the others; a ``$in`` has between 1
        and `MAX_TEXTS` strings and nothing else.
        """

    @abstractmethod
    def all_of(self, queries: Sequence[QueryT]) -> QueryT:
        """Return the query of what all of these (two or more) select."""

    @abstractmethod
    def any_of(self, queries: Sequence[QueryT]) -> QueryT:
        """Return the query of what at least one of these (two or more) selects."""


def not_narrowed(parts: Sequence[Filter]) -> Narrowing:
    """Return what selects everything."""
    return Narrowing(None, tuple(Handling.EVALUATED for _ in parts))


def query_of(where: Narrowing | None) -> Any:
    """Return the store's query, or None for everything."""
    return None if where is None else where.query


def narrow(parts: Sequence[Filter], dialect: Dialect[QueryT]) -> Narrowing:
    """Return what selects at least what all parts take, without regard to envelopes."""
    found = [translate(part, dialect) for part in parts]
    queries = [part.query for part in found if part is not None]
    return Narrowing(_joined(dialect.all_of, queries), tuple(map(_handling, found)))


def _handling(found: Translated[Any] | None) -> Handling:
    if found is None:
        return Handling.EVALUATED
    return Handling.STORE if found.is_exact else Handling.NARROWED


def translate(node: Filter, dialect: Dialect[QueryT], *, is_negated: bool = False) -> Translated[QueryT] | None:
    """Return a query that selects at least what a filter (or its negation) takes, or None."""
    if isinstance(node, Not):
        return translate(node.part, dialect, is_negated=not is_negated)
    if isinstance(node, Comparison):
        if node.operator in NEGATIONS:
            node, is_negated = Comparison(node.field, NEGATIONS[node.operator], node.value), not is_negated
        if node.operator == "$in":
            return _translate_in(node, dialect, is_negated=is_negated)
        return dialect.comparison(node, is_negated=is_negated)
    parts = [translate(part, dialect, is_negated=is_negated) for part in node.parts]
    return _join(parts, dialect, is_all=isinstance(node, And) is not is_negated)


def _translate_in(node: Comparison, dialect: Dialect[QueryT], *, is_negated: bool) -> Translated[QueryT] | None:
    """Translate a ``$in`` as its strings together, and each other value as an ``$eq``."""
    texts = [value for value in node.value if isinstance(value, str)]
    others = [value for value in node.value if not isinstance(value, str)]
    if len(texts) > MAX_TEXTS or len(others) > MAX_OTHERS:
        return None
    nodes = [Comparison(node.field, "$in", texts)] if texts else []
    nodes += [Comparison(node.field, "$eq", value) for value in others]
    return _join([dialect.comparison(part, is_negated=is_negated) for part in nodes], dialect, is_all=is_negated)


def _join(
    parts: Sequence[Translated[QueryT] | None], dialect: Dialect[QueryT], *, is_all: bool
) -> Translated[QueryT] | None:
    found = [part for part in parts if part is not None]
    query = _joined(dialect.all_of if is_all else dialect.any_of, [part.query for part in found])
    if query is None or (len(found) < len(parts) and not is_all):
        return None
    return Translated(query, len(found) == len(parts) and all(part.is_exact for part in found))


def _joined(join: Callable[[Sequence[QueryT]], QueryT], queries: Sequence[QueryT]) -> QueryT | None:
    if len(queries) < 2:
        return queries[0] if queries else None
    return join(queries)


def is_plain_path(field: str) -> bool:
    """Return whether a field is a key, or keys joined by dots, of ASCII letters, digits and underscores."""
    return all(_PLAIN_KEY.fullmatch(segment) for segment in field.split("."))


def is_safe_text(text: str) -> bool:
    """Return whether a string has a UTF-8 form and no NUL, at which some engines end a string."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def number_at_most(value: float) -> float | None:
    """Return a float that is not above a number, the number itself where floats have it; None where there is none."""
    return _rounded(value, -math.inf)


def number_at_least(value: float) -> float | None:
    """Return a float that is not below a number; see `number_at_most`."""
    return _rounded(value, math.inf)


def _rounded(value: float, towards: float) -> float | None:
    try:
        near = float(value)
    except OverflowError:
        return None
    rounded = near if near == value and abs(value) < EXACT_BELOW else math.nextafter(near, towards)
    return rounded if math.isfinite(rounded) else None


def range_of(operator: str, value: float) -> tuple[float | None, float | None]:
    """Return bounds, both inclusive, around every number for which ``$eq`` or an ordering holds; None for no bound.

    A bound is a float that is on the safe side of the operand, also after a store has rounded large integers to floats.
    """
    low = number_at_most(value) if operator in ("$eq", "$gt", "$gte") else None
    high = number_at_least(value) if operator in ("$eq", "$lt", "$lte") else None
    return low, high
