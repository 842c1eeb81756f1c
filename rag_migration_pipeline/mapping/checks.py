"""What is wrong with the names in a mapping, found before a record is read.

Belongs here: names that meet, lie inside each other or contradict each other. Does not belong here: what can only be
seen in a record (``fields.py``).
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Protocol

from rag_migration_pipeline.mapping.paths import FieldPath, Role, parse_path
from rag_migration_pipeline.problems import Place, Problem


class Names(Protocol):
    """The parts of a mapping that hold names; `mapping.SchemaMapping` is one."""

    @property
    def version(self) -> int | None: ...  # noqa: D102 - see SchemaMapping
    @property
    def field_mapping(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def renames(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def include_fields(self) -> Sequence[str] | None: ...  # noqa: D102
    @property
    def exclude_fields(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def transforms(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def defaults(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def id_from(self) -> str | None: ...  # noqa: D102
    @property
    def id_kind(self) -> str | None: ...  # noqa: D102
    @property
    def document_from(self) -> str | None: ...  # noqa: D102
    @property
    def deprecated(self) -> Mapping[str, Any]: ...  # noqa: D102


def mapping_problems(mapping: Names) -> list[Problem]:
    """Return everything that is wrong with the names of a mapping; places are relative to the mapping."""
    problems = [
        problem for place, text, is_target in _written(mapping) for problem in _unreadable(place, text, is_target)
    ]
    if problems:
        return problems
    return [
        *_wrong_roles(mapping),
        *_wrong_renames(mapping),
        *_meeting_targets(mapping),
        *_overlapping_sources(mapping),
        *_left_out(mapping),
        *_wrong_ids(mapping),
        *_wrong_deprecations(mapping),
        *_wrong_defaults(mapping),
    ]


def covers(outer: FieldPath, inner: FieldPath) -> bool:
    """Return whether the other path is this one, lies inside it, or is among the keys that its star means."""
    if not outer.has_star:
        return outer.contains(inner)
    position = len(outer.keys) - 1
    return (
        inner.role is Role.FIELD
        and len(inner.keys) > position
        and inner.keys[:position] == outer.keys[:position]
        and inner.keys[position].startswith(outer.keys[position])
    )


def _written(mapping: Names) -> Iterator[tuple[Place, str, bool]]:
    """Yield every path of a mapping: its place, its text, and whether it is one of the target."""
    for old, new in mapping.field_mapping.items():
        yield ("field_mapping", old), old, False
        yield ("field_mapping", old), new, True
    for name in ("transforms", "deprecated"):
        for text in getattr(mapping, name):
            yield (name, text), text, False
    for old, item in mapping.deprecated.items():
        if item.use is not None:
            yield ("deprecated", old, "use"), item.use, True
    for text in mapping.defaults:
        yield ("defaults", text), text, True
    for name in ("include_fields", "exclude_fields"):
        for position, text in enumerate(getattr(mapping, name) or ()):
            yield (name, position), text, False
    for name in ("id_from", "document_from"):
        if getattr(mapping, name) is not None:
            yield (name,), getattr(mapping, name), False


def _unreadable(place: Place, text: str, is_target: bool) -> Iterator[Problem]:
    try:
        parse_path(text, is_target=is_target)
    except ValueError as error:
        yield Problem(place, str(error))


def _wrong_roles(mapping: Names) -> Iterator[Problem]:
    """Yield paths that point at what their place does not take."""
    allowed = {  # place -> roles, whether a star
        "transforms": ({Role.FIELD, Role.DOCUMENT}, False),
        "deprecated": ({Role.FIELD}, False),
        "defaults": ({Role.FIELD, Role.DOCUMENT}, False),
        "include_fields": ({Role.FIELD}, True),
        "exclude_fields": ({Role.FIELD, Role.DOCUMENT}, True),
        "id_from": ({Role.FIELD}, False),
        "document_from": ({Role.FIELD}, False),
    }
    for place, text, is_target in _written(mapping):
        if place[0] not in allowed:
            continue
        roles, has_star = allowed[str(place[0])]
        path = parse_path(text, is_target=is_target)
        if path.role not in roles:
            yield Problem(place, f"{text!r} is the record's {path.role.value}, which cannot stand here")
        if path.has_star and not has_star:
            yield Problem(place, f"{text!r} has a star, which cannot stand here")


def _pairs(mapping: Names) -> list[tuple[Place, FieldPath, FieldPath]]:
    """Return place, source and target of every rename."""
    return [
        (
            ("field_mapping" if old in mapping.field_mapping else "deprecated", old),
            parse_path(old),
            parse_path(new, is_target=True),
        )
        for old, new in mapping.renames.items()
    ]


def _wrong_renames(mapping: Names) -> Iterator[Problem]:
    for place, source, target in _pairs(mapping):
        if source.has_star != target.has_star:
            yield Problem(place, f"{source.text!r} and {target.text!r}: a star stands on both sides or on none")
        elif source.role is not Role.FIELD and (target.role is Role.ID or target.role is source.role):
            yield Problem(place, f"{source.text!r} cannot become the record's {target.role.value}")
        elif target != source and source.contains(target) and source.role is Role.FIELD:
            yield Problem(place, f"{target.text!r} lies inside {source.text!r}: a field cannot be nested into itself")


def _meeting_targets(mapping: Names) -> Iterator[Problem]:
    for (_, first, one), (place, second, other) in combinations(_pairs(mapping), 2):
        if not one.has_star and not other.has_star and (one.contains(other) or other.contains(one)):
            how = "the same" if one.keys == other.keys else "one inside the other"
            yield Problem(place, f"{first.text!r} -> {one.text!r} and {second.text!r} -> {other.text!r} meet: {how}")


def _overlapping_sources(mapping: Names) -> Iterator[Problem]:
    for (_, one, _), (place, other, _) in combinations(_pairs(mapping), 2):
        if not one.has_star and not other.has_star and (one.contains(other) or other.contains(one)):
            yield Problem(place, f"{one.text!r} and {other.text!r} lie one inside the other; move only one of them")


def _left_out(mapping: Names) -> Iterator[Problem]:
    """Yield fields that are used and left out at once."""
    included = None if mapping.include_fields is None else [parse_path(text) for text in mapping.include_fields]
    excluded = [parse_path(text) for text in mapping.exclude_fields]
    names = ("field_mapping", "transforms", "id_from", "document_from")
    for place, text, is_target in _written(mapping):
        path = parse_path(text)
        if place[0] not in names or is_target or path.role is Role.ID:
            continue
        if any(covers(outer, path) for outer in excluded):
            yield Problem(
                place, f"{text!r} is used here and left out by exclude_fields; to move a field, use field_mapping"
            )
        elif included is not None and path.role is Role.FIELD and not _is_included(path, included):
            yield Problem(place, f"{text!r} is used here and not among include_fields")


def _is_included(path: FieldPath, included: list[FieldPath]) -> bool:
    return any(covers(outer, path) or covers(path, outer) for outer in included)


def _wrong_ids(mapping: Names) -> Iterator[Problem]:
    """Yield where the id or the document is set twice, or what is said about an id that is not set."""
    fields = {"id": mapping.id_from, "document": mapping.document_from}
    for place, _, target in _pairs(mapping):
        if target.role is not Role.FIELD and fields[target.role.value] is not None:
            yield Problem(place, f"the record's {target.role.value} is also set by {target.role.value}_from")
    source = id_source(mapping)
    if source is None and mapping.id_kind is not None:
        yield Problem(("id_kind",), "no field becomes the id; name it with id_from")
    if source is not None:
        for text, transform in mapping.transforms.items():
            if parse_path(text) == source and hasattr(transform.on_error, "default"):
                yield Problem(("transforms", text), "a default would give several records the same id")


def id_source(mapping: Names) -> FieldPath | None:
    """Return the field whose value becomes the id, or None where the id stays."""
    if mapping.id_from is not None:
        return parse_path(mapping.id_from)
    found = [source for _, source, target in _pairs(mapping) if target.role is Role.ID]
    return found[0] if found else None


def _wrong_deprecations(mapping: Names) -> Iterator[Problem]:
    for text, item in mapping.deprecated.items():
        if text in mapping.field_mapping:
            yield Problem(("deprecated", text), f"{text!r} is also renamed by field_mapping; give its new name as use")
        if item.drop_at is not None and mapping.version is None:
            yield Problem(("deprecated", text), "drop_at needs the mapping to have a version")


def _wrong_defaults(mapping: Names) -> Iterator[Problem]:
    for text, value in mapping.defaults.items():
        if parse_path(text, is_target=True).role is Role.DOCUMENT and not isinstance(value, str):
            yield Problem(("defaults", text), f"the document has to be a text, got {type(value).__name__}")
