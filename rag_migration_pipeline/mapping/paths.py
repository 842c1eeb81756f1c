r"""Paths of fields: what a name in a mapping points at inside a record, and taking and putting values there.

Belongs here: reading a path's text, finding its place in a payload. Does not belong here: what is done with the value
(``mapping/``).

    a.b          the key "a.b" if the record has it, else the key b of the object a (as in filters)
    a\.b         the key "a.b"
    meta.*       every key of the object meta          meta_*   every key that begins with "meta_"
    id, $id      as a target: the record's id          \id      the payload key "id"
    document, $document   as a target: the document    $id, $document   as a source: the id, the document

A backslash takes the next character as it is. ``id`` and ``document`` on the side of the source are payload keys.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from rag_migration_pipeline.records import Payload

MISSING: Any = object()
"""What a path without a value gives; None is a value."""


class Role(Enum):
    """What a path points at."""

    FIELD = "field"
    ID = "id"
    DOCUMENT = "document"


@dataclass(frozen=True)
class FieldPath:
    """A parsed path.

    Attributes:
        text: As it was written.
        keys: Keys from the payload inwards; with a star the last one is what the matched keys begin with.
        has_star: Whether the path means all keys that begin with the last of ``keys``.
        role: What it points at.
    """

    text: str
    keys: tuple[str, ...]
    has_star: bool = False
    role: Role = Role.FIELD

    @cached_property
    def whole(self) -> str | None:
        """The path as one key, which wins where a record has it; None where it is one key anyway."""
        return ".".join(self.keys) if len(self.keys) > 1 and "\\" not in self.text else None

    def contains(self, other: "FieldPath") -> bool:
        """Return whether the other path is this one or lies inside it; a star contains nothing by name."""
        return self.role is other.role and not self.has_star and other.keys[: len(self.keys)] == self.keys


def parse_path(text: str, *, is_target: bool = False) -> FieldPath:
    """Return a path.

    Args:
        text: See the module.
        is_target: Whether ``id`` and ``document`` mean the record's own, as on the right-hand side of a mapping.

    Raises:
        ValueError: A star that is not the last character, or a backslash with nothing after it.
    """
    for role in (Role.ID, Role.DOCUMENT):
        if text == f"${role.value}" or (is_target and text == role.value):
            return FieldPath(text, (role.value,), role=role)
    keys, has_star = [""], False
    characters = iter(text)
    for character in characters:
        if has_star:
            raise ValueError(f"the path {text!r} has a star before its end; write \\* for a key with a star")
        if character == "\\":
            following = next(characters, None)
            if following is None:
                raise ValueError(f"the path {text!r} ends with a backslash")
            keys[-1] += following
        elif character == ".":
            keys.append("")
        elif character == "*":
            has_star = True
        else:
            keys[-1] += character
    return FieldPath(text, tuple(keys), has_star)


def shown_path(keys: Iterable[str]) -> str:
    """Return the text of a path with these keys."""
    escaped = [key.replace("\\", "\\\\").replace(".", "\\.").replace("*", "\\*") for key in keys]
    text = ".".join(escaped)
    return f"\\{text}" if text in ("id", "document", "$id", "$document") else text


def read(payload: Payload, path: FieldPath) -> Any:
    """Return the value at a path without a star, or `MISSING`.

    Raises:
        ValueError: The path leads into something that is no object.
    """
    if path.whole is not None and path.whole in payload:
        return payload[path.whole]
    parent = _parent(payload, path)
    return MISSING if parent is None else parent.get(path.keys[-1], MISSING)


def replace(payload: Payload, path: FieldPath, value: Any) -> None:
    """Put a value where `read` found one; objects on the way are copied, so that the original stays as it is."""
    if path.whole is not None and path.whole in payload:
        payload[path.whole] = value
    else:
        _own_parent(payload, path.keys)[path.keys[-1]] = value


def take(payload: Payload, path: FieldPath) -> list[tuple[str, Any]]:
    """Remove what a path points at and return it as (key, value); objects that become empty by it go too.

    Returns:
        Nothing where the path has no value; with a star one pair per key, each without the star's beginning.

    Raises:
        ValueError: The path leads into something that is no object.
    """
    if len(path.keys) == 1 and not path.has_star:
        return [(path.keys[0], payload.pop(path.keys[0]))] if path.keys[0] in payload else []
    taken = [] if path.whole is None else _take_whole(payload, path.whole, has_star=path.has_star)
    if taken and not path.has_star:
        return taken
    parent = _parent(payload, path)
    if parent is None:
        return taken
    last = path.keys[-1]
    found = [key for key in parent if key.startswith(last)] if path.has_star else [last] * (last in parent)
    if not found:
        return taken
    owned = _own_parent(payload, path.keys)
    taken += [(key[len(last) :] if path.has_star else key, owned.pop(key)) for key in found]
    if not owned:
        _prune(payload, path.keys[:-1])
    return taken


def _take_whole(payload: Payload, whole: str, *, has_star: bool) -> list[tuple[str, Any]]:
    """Remove what stands under a path as one key; with a star, under keys that begin with it."""
    found = [key for key in payload if key.startswith(whole)] if has_star else [whole] * (whole in payload)
    return [(key[len(whole) :] if has_star else key, payload.pop(key)) for key in found]


def put(payload: Payload, keys: tuple[str, ...], value: Any) -> None:
    """Put a value at a new place; objects on the way are made where they are missing.

    Raises:
        ValueError: There is a value already, or something on the way is no object.
    """
    node = payload
    for position, key in enumerate(keys[:-1]):
        inner = node.get(key, MISSING)
        if inner is not MISSING and type(inner) is not dict:
            raise ValueError(f"cannot put {shown_path(keys)!r} into {_kind(keys, position, inner)}")
        node[key] = {} if inner is MISSING else dict(inner)
        node = node[key]
    if keys[-1] in node or (len(keys) > 1 and ".".join(keys) in payload):
        raise ValueError(f"the record already has the key {shown_path(keys)!r}")
    node[keys[-1]] = value


def _parent(payload: Payload, path: FieldPath) -> Payload | None:
    """Return the object that holds the path's last key; None where it is missing or null."""
    node: Any = payload
    for position, key in enumerate(path.keys[:-1]):
        node = node.get(key)
        if node is None:
            return None
        if type(node) is not dict:
            raise ValueError(f"the path {path.text!r} leads into {_kind(path.keys, position, node)}")
    parent: Payload = node
    return parent


def _own_parent(payload: Payload, keys: tuple[str, ...]) -> Payload:
    node = payload
    for key in keys[:-1]:
        node[key] = dict(node[key])
        node = node[key]
    return node


def _prune(payload: Payload, keys: tuple[str, ...]) -> None:
    """Remove the object at these keys, which is empty, and those around it that become empty."""
    while keys:
        node = _own_parent(payload, keys)
        if node[keys[-1]]:
            return
        del node[keys[-1]]
        keys = keys[:-1]


def _kind(keys: tuple[str, ...], position: int, value: Any) -> str:
    return f"{shown_path(keys[: position + 1])!r}, which is no object but a value of type {type(value).__name__}"
