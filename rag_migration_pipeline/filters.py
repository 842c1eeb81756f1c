"""The filter language: parsed, checked, and evaluated on batches; the evaluation is the reference meaning.

Belongs here: equality and comparison over payload fields, joined by AND. Does not belong here: how a store would
evaluate a filter by itself.

    {"status": "published", "year": {"$gte": 2024, "$lt": 2026}, "kind": {"$in": ["a", "b"]}}

The meaning: a condition on a key that a record lacks is false, except ``$ne`` and ``$nin``, which are the negations of
``$eq`` and ``$in``. Integers and floats compare as numbers, a bool is no number, strings compare by code point.
Ordering compares numbers with numbers and strings with strings; anything else is false.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.payloads import check_json
from rag_migration_pipeline.records import Payload, RecordBatch

_MISSING = object()
_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
OPERATORS = ("$eq", "$ne", *_ORDERINGS, "$in", "$nin")


@dataclass(frozen=True)
class Condition:
    """One comparison of a payload field with a value."""

    field: str
    operator: str
    value: Any

    def holds(self, payload: Payload) -> bool:
        """Return whether the condition is true of a payload."""
        got = payload.get(self.field, _MISSING)
        if self.operator in ("$eq", "$ne"):
            return _equal(got, self.value) is (self.operator == "$eq")
        if self.operator in ("$in", "$nin"):
            return any(_equal(got, value) for value in self.value) is (self.operator == "$in")
        return _is_ordered(got, self.value) and _ORDERINGS[self.operator](got, self.value)


Filter = tuple[Condition, ...]


def parse_filter(value: dict[str, Any] | None) -> Filter:
    """Return the conditions of a filter, all of which must hold.

    Raises:
        SpecError: An unknown operator or a value of a type that the operator cannot compare; names the field.
    """
    conditions: list[Condition] = []
    for field, wanted in (value or {}).items():
        if field.startswith("$"):
            raise SpecError(f"filter: {field!r} is not a field; known operators inside a field: {_known()}.")
        operators = wanted if _is_operators(wanted) else {"$eq": wanted}
        for name, operand in operators.items():
            _check(field, name, operand)
            conditions.append(Condition(field, name, operand))
    return tuple(conditions)


def select_rows(batch: RecordBatch, conditions: Filter) -> Sequence[int]:
    """Return the positions of the records of which all conditions hold."""
    if not conditions:
        return range(len(batch))
    return [
        row for row, payload in enumerate(batch.payloads) if all(condition.holds(payload) for condition in conditions)
    ]


def _is_operators(wanted: Any) -> bool:
    return isinstance(wanted, dict) and any(str(key).startswith("$") for key in wanted)


def _check(field: str, name: str, operand: Any) -> None:
    try:
        check_json(operand, name)
    except TypeError as error:  # a date that YAML made of 2024-01-01, for one
        raise SpecError(f"filter on {field!r}: {error}.", todo="Put quotes round dates: '2024-01-01'.") from error
    if name not in OPERATORS:
        raise SpecError(f"filter on {field!r}: unknown operator {name!r}; known: {_known()}.")
    if name in _ORDERINGS and not (isinstance(operand, str) or _is_number(operand)):
        raise SpecError(f"filter on {field!r}: {name} compares numbers or strings, got {type(operand).__name__}.")
    if name in ("$in", "$nin") and not isinstance(operand, list):
        raise SpecError(f"filter on {field!r}: {name} takes a list, got {type(operand).__name__}.")


def _known() -> str:
    return ", ".join(OPERATORS)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(got: Any, wanted: Any) -> bool:
    if got is _MISSING:
        return False
    if _is_number(got) and _is_number(wanted):
        return bool(got == wanted)
    if isinstance(got, list) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(_equal, got, wanted))
    if isinstance(got, dict) and isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(_equal(got[key], wanted[key]) for key in wanted)
    return type(got) is type(wanted) and bool(got == wanted)


def _is_ordered(got: Any, wanted: Any) -> bool:
    return (_is_number(got) and _is_number(wanted)) or (isinstance(got, str) and isinstance(wanted, str))
