"""What a filter means: the reference evaluator, which decides for every store which records a migration takes.

Belongs here: which records of a batch a filter holds for. Does not belong here: reading a filter (``filters/``), what
a store is asked for beforehand (``stores/narrowing.py``); whatever that is, this decides.

The meaning in short (``docs/filters.md`` says more): on a missing key every comparison is false, but for ``$ne``,
``$nin`` and ``$not_contains``, the exact negations of their sisters. Integers and floats compare as exact numbers, a
bool is no number, NaN equals nothing. Numbers are ordered with numbers, strings with strings by code point. Lists and
dicts are compared as wholes.
"""

import math
import operator
import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_migration_pipeline.filters.nodes import (
    DOCUMENT_FIELD,
    EVERYTHING,
    ID_FIELD,
    NEGATIONS,
    And,
    Comparison,
    Filter,
    Not,
    is_number,
)
from rag_migration_pipeline.payloads import natural_form
from rag_migration_pipeline.records import Payload, RecordBatch, RecordId

_MISSING = object()
_PLAIN = frozenset({str, int, float, bool, type(None), object})
"""Types that are their own natural form."""
_ORDERED: dict[str, Callable[[Any, Any], Any]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_Mask = npt.NDArray[np.bool_]
_Test = Callable[[Any], bool]


def select_rows(batch: RecordBatch, wanted: Filter) -> Sequence[int]:
    """Return the positions of the records that the filter takes; without a filter no record is looked at."""
    if wanted == EVERYTHING:
        return range(len(batch))
    return [int(row) for row in np.flatnonzero(_mask(wanted, _Columns(batch.ids, batch.payloads, batch.documents)))]


def select_ids(ids: Sequence[RecordId], wanted: Filter) -> Sequence[int]:
    """Return the positions of the ids that a filter takes which asks for nothing but ids."""
    return [int(row) for row in np.flatnonzero(_mask(wanted, _Columns(ids, (), None)))]


def value_at(payload: Payload, path: str, default: Any = None) -> Any:
    """Return what stands at a path: under the key of that whole name, else in dicts segment by segment."""
    if path in payload or "." not in path:
        return payload.get(path, default)
    value: Any = payload
    for segment in path.split("."):
        if not isinstance(value, dict) or segment not in value:
            return default
        value = value[segment]
    return value


class _Columns:
    """The values of a batch by field, each looked up once."""

    def __init__(
        self, ids: Sequence[RecordId], payloads: Sequence[Payload], documents: Sequence[str | None] | None
    ) -> None:
        self.ids = ids
        self._payloads = payloads
        self._documents = documents
        self._found: dict[str, list[Any]] = {}

    def __getitem__(self, field: str) -> list[Any]:
        if field not in self._found:
            self._found[field] = self._values(field)
        return self._found[field]

    def _values(self, field: str) -> list[Any]:
        if field == ID_FIELD:
            return list(self.ids)
        if field == DOCUMENT_FIELD:
            texts = self._documents or [None] * len(self.ids)
            return [_MISSING if text is None else text for text in texts]
        if "." in field:
            found = [value_at(payload, field, _MISSING) for payload in self._payloads]
        else:
            found = [payload.get(field, _MISSING) for payload in self._payloads]
        return [value if type(value) in _PLAIN else natural_form(value) for value in found]


def _mask(node: Filter, columns: _Columns) -> _Mask:
    """Return a mask of shape (n_records,): for which records the node holds."""
    if isinstance(node, Comparison):
        test = _id_test(node) if node.field == ID_FIELD else _test(node.operator, node.value)
        return np.fromiter(map(test, columns[node.field]), dtype=np.bool_, count=len(columns.ids))
    if isinstance(node, Not):
        return ~_mask(node.part, columns)
    is_and = isinstance(node, And)
    mask = np.full(len(columns.ids), is_and)
    for part in node.parts:
        mask = mask & _mask(part, columns) if is_and else mask | _mask(part, columns)
    return mask


def _test(name: str, wanted: Any) -> _Test:
    """Return the test of a value against an operator and its operand."""
    if name in NEGATIONS:
        positive = _test(NEGATIONS[name], wanted)
        return lambda got: not positive(got)
    if name == "$eq":
        return lambda got: is_equal(got, wanted)
    if name == "$in":
        return _in_test(wanted)
    if name == "$exists":
        return lambda got: (got is not _MISSING) is wanted
    if name == "$contains":
        return lambda got: _contains(got, wanted)
    if name in ("$like", "$regex"):
        pattern = re.compile(like_as_regex(wanted) if name == "$like" else wanted)
        return lambda got: isinstance(got, str) and pattern.search(got) is not None
    compare = _ORDERED[name]
    if isinstance(wanted, str):
        return lambda got: isinstance(got, str) and compare(got, wanted)
    return lambda got: is_number(got) and compare(got, wanted)


def _in_test(wanted: Sequence[Any]) -> _Test:
    """Return the test of membership, by hash for strings and numbers: lists of ids may be long."""
    texts = {value for value in wanted if isinstance(value, str)}
    numbers = {value for value in wanted if is_number(value) and not math.isnan(value)}
    others = [value for value in wanted if not isinstance(value, str) and not is_number(value)]

    def test(got: Any) -> bool:
        if isinstance(got, str):
            return got in texts
        if is_number(got):
            return got in numbers  # 1 and 1.0 have one hash, and large ones are equal only if they are exactly
        return any(is_equal(got, value) for value in others)

    return test


def _id_test(node: Comparison) -> _Test:
    """Return the test of an id: a UUID is compared as its canonical text, and with ``$uuid`` as itself."""
    values = node.value if isinstance(node.value, list) else [node.value]
    uuids = {value for value in values if isinstance(value, uuid.UUID)}
    rest = [value for value in values if not isinstance(value, uuid.UUID)]
    if not uuids:
        plain = _test(node.operator, node.value)
        return lambda got: plain(str(got) if isinstance(got, uuid.UUID) else got)
    is_negated = node.operator in NEGATIONS
    among = _in_test(rest)

    def test(got: Any) -> bool:
        is_among = (got in uuids or among(str(got))) if isinstance(got, uuid.UUID) else among(got)
        return is_among is not is_negated

    return test


def is_equal(got: Any, wanted: Any) -> bool:
    """Return whether two values are equal as the language means it: 1 and 1.0 are, 1 and true are not."""
    if is_number(got) and is_number(wanted):
        return bool(got == wanted)
    if isinstance(got, list) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(is_equal, got, wanted))
    if isinstance(got, dict) and isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(is_equal(got[key], wanted[key]) for key in wanted)
    return type(got) is type(wanted) and bool(got == wanted)


def _contains(got: Any, wanted: Any) -> bool:
    if isinstance(got, str):
        return isinstance(wanted, str) and wanted in got
    return isinstance(got, list) and any(is_equal(item, wanted) for item in got)


def like_as_regex(pattern: str) -> str:
    r"""Return the regular expression of a ``$like`` pattern: ``%`` any text, ``_`` one character, ``\`` escapes."""
    parts = [_LIKE.get(piece, re.escape(piece[-1])) for piece in re.findall(r"\\.|.", pattern, re.DOTALL)]
    return r"(?s:\A" + "".join(parts) + r"\Z)"


_LIKE = {"%": ".*", "_": "."}
