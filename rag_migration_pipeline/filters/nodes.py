"""A filter as a tree: comparisons joined by and, or, not; checked when they are made from what a user wrote.

Belongs here: the nodes, the operators and what each can be given, printing a tree as a dict. Does not belong here:
reading a dict (``filters/``) or a text (``text.py``), what a comparison means (``meaning.py``), what a
store is asked for (``stores/narrowing.py``).
"""

import datetime as dt
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.payloads import check_json

ID_FIELD = "$id"
DOCUMENT_FIELD = "$document"
UUID_KEY = "$uuid"
"""``{"$uuid": "..."}`` is a UUID among the values of `ID_FIELD`, which JSON and YAML cannot write."""

ORDERINGS = ("$gt", "$gte", "$lt", "$lte")
NEGATIONS = {"$ne": "$eq", "$nin": "$in", "$not_contains": "$contains"}
"""Operators that hold exactly where another does not."""

OPERATORS = ("$eq", "$ne", *ORDERINGS, "$in", "$nin", "$exists", "$contains", "$not_contains", "$like", "$regex")


@dataclass(frozen=True)
class Comparison:
    """One comparison of a field with a value.

    Attributes:
        field: A payload key or a dotted path, `ID_FIELD` or `DOCUMENT_FIELD`.
        operator: One of `OPERATORS`.
        value: A JSON value; for `ID_FIELD` also a ``uuid.UUID``.
    """

    field: str
    operator: str
    value: Any


@dataclass(frozen=True)
class And:
    """All parts hold; true where there are none."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Or:
    """At least one part holds."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: "Filter"


Filter = Comparison | And | Or | Not

EVERYTHING = And(())
"""The filter that takes every record."""


def all_of(parts: Sequence[Filter]) -> Filter:
    """Return the filter that holds where all parts do, without an And directly inside another."""
    flat: list[Filter] = []
    for part in parts:
        flat += part.parts if isinstance(part, And) else (part,)
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def conjuncts(node: Filter) -> tuple[Filter, ...]:
    """Return the parts of a filter that must all hold."""
    return node.parts if isinstance(node, And) else (node,)


def comparisons(node: Filter) -> Iterator[Comparison]:
    """Yield every comparison of a filter."""
    if isinstance(node, Comparison):
        yield node
    elif isinstance(node, Not):
        yield from comparisons(node.part)
    else:
        for part in node.parts:
            yield from comparisons(part)


def has_uuid(node: Filter) -> bool:
    """Return whether a UUID stands among the values, which JSON writes as `UUID_KEY`."""
    values = [part.value for part in comparisons(node)]
    return any(isinstance(item, uuid.UUID) for v in values for item in (v if isinstance(v, list) else [v]))


def as_dict(node: Filter) -> dict[str, Any]:
    """Return the filter as the dict that `filters.parse_filter` reads as the same tree."""
    if isinstance(node, Comparison):
        return {node.field: _operand(node)}
    if isinstance(node, Not):
        return {"$not": as_dict(node.part)}
    if isinstance(node, Or):
        return {"$or": [as_dict(part) for part in node.parts]}
    fields = [part.field for part in node.parts if isinstance(part, Comparison)]
    if len(set(fields)) == len(node.parts):
        return {part.field: _operand(part) for part in node.parts if isinstance(part, Comparison)}
    return {"$and": [as_dict(part) for part in node.parts]}


def _operand(node: Comparison) -> Any:
    value = [_plain(item) for item in node.value] if isinstance(node.value, list) else _plain(node.value)
    return value if node.operator == "$eq" and not looks_like_operators(value) else {node.operator: value}


def _plain(value: Any) -> Any:
    return {UUID_KEY: str(value)} if isinstance(value, uuid.UUID) else value


def looks_like_operators(value: Any) -> bool:
    """Return whether a dict stands for operators and not for a value."""
    return isinstance(value, dict) and any(str(key).startswith("$") for key in value)


def checked(field: str, operator: str, value: Any, place: str) -> Comparison:
    """Return a comparison whose value its operator can be given.

    Args:
        field: See `Comparison`.
        operator: What the user wrote for an operator.
        value: What the user wrote for a value.
        place: Where in the filter it stands, for the message.

    Raises:
        SpecError: Unknown operator, or a value that it cannot compare; names the place.
    """
    if operator not in OPERATORS:
        raise SpecError(f"{place}: unknown operator {operator!r}; known: {', '.join(OPERATORS)}, $not.")
    if field == ID_FIELD:
        value = [_uuid(item, place) for item in value] if isinstance(value, list) else _uuid(value, place)
    _check_json(operator, value, place, is_id=field == ID_FIELD)
    _CHECKS.get(operator, _check_nothing)(operator, value, place)
    if operator != "$exists":
        values = value if operator in ("$in", "$nin") else [value]
        for item in values:
            _check_kind(field, operator, item, place)
    return Comparison(field, operator, value)


def _uuid(value: Any, place: str) -> Any:
    if not (isinstance(value, dict) and value.keys() == {UUID_KEY}):
        return value
    try:
        return uuid.UUID(value[UUID_KEY])
    except (ValueError, AttributeError, TypeError) as error:
        raise SpecError(f"{place}: {UUID_KEY} takes the text of a UUID, got {value[UUID_KEY]!r}.") from error


def _check_json(operator: str, value: Any, place: str, *, is_id: bool) -> None:
    if is_id:  # UUIDs are no JSON; the others are checked by kind
        value = [item for item in value if type(item) is not uuid.UUID] if isinstance(value, list) else value
        value = None if type(value) is uuid.UUID else value
    try:
        check_json(value, operator)
    except TypeError as error:
        has_date = any(isinstance(item, dt.date) for item in _leaves(value))
        todo = "Put quotes round dates: '2024-01-01'." if has_date else "Filters compare with what JSON has."
        raise SpecError(f"{place}: {error}.", todo=todo) from error
    except RecursionError as error:
        raise SpecError(f"{place}: the value is nested too deep.") from error


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


def _check_ordering(operator: str, value: Any, place: str) -> None:
    if not (isinstance(value, str) or is_number(value)):
        raise SpecError(f"{place}: {operator} compares numbers or strings, got {type(value).__name__}.")


def _check_list(operator: str, value: Any, place: str) -> None:
    if not isinstance(value, list):
        raise SpecError(f"{place}: {operator} takes a list, got {type(value).__name__}.")


def _check_bool(operator: str, value: Any, place: str) -> None:
    if not isinstance(value, bool):
        raise SpecError(f"{place}: {operator} takes true or false, got {type(value).__name__}.")


def _check_regex(operator: str, value: Any, place: str) -> None:
    _check_text(operator, value, place)
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise SpecError(f"{place}: {value!r} is no regular expression: {error}.") from error


def _check_like(operator: str, value: Any, place: str) -> None:
    _check_text(operator, value, place)
    if (len(value) - len(value.rstrip("\\"))) % 2:
        raise SpecError(
            f"{place}: the pattern {value!r} ends with a single backslash.", todo="Write two for a backslash."
        )


def _check_text(operator: str, value: Any, place: str) -> None:
    if not isinstance(value, str):
        raise SpecError(f"{place}: {operator} takes a string, got {type(value).__name__}.")


def _check_nothing(operator: str, value: Any, place: str) -> None:
    """Let every JSON value pass."""


_CHECKS = {
    **dict.fromkeys(ORDERINGS, _check_ordering),
    "$in": _check_list,
    "$nin": _check_list,
    "$exists": _check_bool,
    "$like": _check_like,
    "$regex": _check_regex,
}


def _check_kind(field: str, operator: str, value: Any, place: str) -> None:
    """Refuse values that an id or a document never has."""
    if field == ID_FIELD and type(value) not in (str, int, uuid.UUID):
        raise SpecError(
            f"{place}: an id is a string, an integer or {{{UUID_KEY}: ...}}, got {type(value).__name__} for {operator}."
        )
    if type(value) is uuid.UUID and operator not in ("$eq", "$ne", "$in", "$nin"):
        raise SpecError(f"{place}: {operator} does not take {UUID_KEY}.", todo="Write the canonical text of the UUID.")
    if field == DOCUMENT_FIELD and not isinstance(value, str):
        raise SpecError(
            f"{place}: a document is a text, got {type(value).__name__} for {operator}.",
            todo="Ask for missing documents with {$document: {$exists: false}}.",
        )


def is_number(value: Any) -> bool:
    """Return whether a value is a number; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
