"""The filter language: a dict in the style of MongoDB and Chroma, or its short text, read as a tree.

Belongs here: reading dicts, with the place of a mistake in the message. Does not belong here: the tree
(``nodes.py``), the short text (``text.py``), what it means (``meaning.py``).

    {"status": "published", "year": {"$gte": 2024, "$lt": 2026}, "kind": {"$in": ["a", "b"]}}
    {"$or": [{"status": "published"}, {"$not": {"meta.origin": {"$like": "http:%"}}}]}

``docs/filters.md`` is the user's page, with what every operator means.
"""

import json
from typing import Any

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.filters.nodes import (
    DOCUMENT_FIELD,
    EVERYTHING,
    ID_FIELD,
    OPERATORS,
    UUID_KEY,
    Filter,
    Not,
    Or,
    all_of,
    checked,
    looks_like_operators,
)
from rag_migration_pipeline.filters.text import parse_text

__all__ = ["Filter", "parse_filter"]

MAX_DEPTH = 32
"""Most ``$and``, ``$or`` and ``$not`` inside each other."""


def parse_filter(value: dict[str, Any] | str | None) -> Filter:
    """Return the tree of a filter.

    Args:
        value: A dict, its JSON text, the short text (see ``text.py``), or None for every record.

    Raises:
        SpecError: An unknown operator, or a value that the operator cannot compare; names the place.
    """
    if value is None:
        return EVERYTHING
    if isinstance(value, str):
        if not value.lstrip().startswith("{"):
            return parse_text(value)
        try:
            value = json.loads(value, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            raise SpecError(f"filter: starts with a brace but is no JSON: {error}.") from error
    return _parse(value, "", 0)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; of a key that comes twice JSON would drop the first without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key comes twice among {', '.join(repr(key) for key, _ in pairs)}")
    return found


def _parse(value: Any, path: str, depth: int) -> Filter:
    where = f" at {path}" if path else ""
    if depth > MAX_DEPTH:
        raise SpecError(f"filter{where}: more than {MAX_DEPTH} levels of $and, $or and $not.")
    if not isinstance(value, dict):
        raise SpecError(f"filter{where}: expected a mapping such as {{field: value}}, got {type(value).__name__}.")
    parts: list[Filter] = []
    for field, wanted in value.items():
        place = f"{path}.{field}" if path else str(field)
        if field in ("$and", "$or"):
            joined = _parse_list(field, wanted, place, depth)
            parts.append(all_of(joined) if field == "$and" or len(joined) == 1 else Or(tuple(joined)))
        elif field == "$not":
            parts.append(Not(_not_empty(_parse(wanted, place, depth + 1), place)))
        else:
            parts += _parse_field(field, wanted, place, depth)
    return all_of(parts)


def _parse_list(field: str, wanted: Any, place: str, depth: int) -> list[Filter]:
    if not isinstance(wanted, list) or not wanted:
        got = "an empty list" if wanted == [] else type(wanted).__name__
        raise SpecError(f"filter at {place}: {field!r} takes a list of filters with at least one, got {got}.")
    return [_parse(part, f"{place}[{position}]", depth + 1) for position, part in enumerate(wanted)]


def _not_empty(node: Filter, place: str) -> Filter:
    if node == EVERYTHING:
        raise SpecError(f"filter at {place}: '$not' takes a filter that is not empty.")
    return node


def _parse_field(field: Any, wanted: Any, path: str, depth: int) -> list[Filter]:
    """Return the comparisons of one field."""
    place = f"filter on {field!r}" + (f" (at {path})" if path != field else "")
    if not isinstance(field, str):
        raise SpecError(f"{place}: a field is named by a string, got {type(field).__name__}.")
    if field.startswith("$") and field not in (ID_FIELD, DOCUMENT_FIELD):
        known = f"$and, $or, $not, {ID_FIELD}, {DOCUMENT_FIELD}; inside a field: {', '.join(OPERATORS)}, $not"
        raise SpecError(f"filter: {field!r}{f' (at {path})' if path != field else ''} is not a field; known: {known}.")
    is_uuid = field == ID_FIELD and isinstance(wanted, dict) and wanted.keys() == {UUID_KEY}
    if is_uuid or not looks_like_operators(wanted):
        return [checked(field, "$eq", wanted, place)]
    parts: list[Filter] = []
    for operator, operand in wanted.items():
        if operator != "$not":
            parts.append(checked(field, operator, operand, place))
            continue
        if depth >= MAX_DEPTH or not looks_like_operators(operand):
            raise SpecError(f"{place}: $not takes operators such as {{$gt: 3}}, at most {MAX_DEPTH} inside each other.")
        parts.append(Not(all_of(_parse_field(field, operand, f"{path}.$not", depth + 1))))
    return parts
