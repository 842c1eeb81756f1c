"""The way back of a mapping, derived from its parts, or the names of the parts that have none.

Belongs here: what undoes what. Does not belong here: the mapping (``mapping/``).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from rag_migration_pipeline.mapping.checks import Names, covers, id_source
from rag_migration_pipeline.mapping.paths import FieldPath, Role, parse_path, shown_path
from rag_migration_pipeline.problems import Place, Problem, problems_error


class Reversible(Names, Protocol):
    """A mapping with all its parts; `mapping.SchemaMapping` is one."""

    @property
    def on_error(self) -> str: ...  # noqa: D102 - see SchemaMapping


def reversed_values(mapping: Reversible) -> dict[str, Any]:
    """Return the parts of the reverse mapping.

    Raises:
        SpecError: Names every part that cannot be undone.
    """
    problems = [*_final(mapping)]
    renames, dropped = _renames_back(mapping, problems)
    transforms = _transforms_back(mapping, problems)
    if problems:
        raise problems_error(problems, "the mapping has no reverse")
    return {
        "version": mapping.version - 1 if mapping.version is not None and mapping.version > 1 else None,
        "field_mapping": renames,
        "exclude_fields": dropped,
        "transforms": transforms,
        "on_error": mapping.on_error,
    }


def _final(mapping: Reversible) -> Iterator[Problem]:
    """Yield the parts that nothing undoes."""
    for name in ("include_fields", "exclude_fields"):
        if getattr(mapping, name):
            yield Problem((name,), "fields that are left out cannot come back")
    for name in mapping.defaults:
        yield Problem(("defaults", name), "a default cannot be told from a value that was there before")
    for name in ("pre_hooks", "per_record", "post_hooks"):
        for position, function in enumerate(getattr(mapping, name)):
            yield Problem((name, position), f"nothing is known about what undoes {function.name}")
    if mapping.document_from is not None:
        yield Problem(("document_from",), "a copied document cannot be told from one that was there before")
    for text, item in mapping.deprecated.items():
        if item.drop_at is not None and mapping.version is not None and mapping.version >= item.drop_at:
            yield Problem(("deprecated", text), "a field that was dropped cannot come back")


def _pairs(mapping: Reversible) -> list[tuple[Place, FieldPath, FieldPath]]:
    return [
        (("field_mapping", old), parse_path(old), parse_path(new, is_target=True))
        for old, new in mapping.renames.items()
    ]


def _renames_back(mapping: Reversible, problems: list[Problem]) -> tuple[dict[str, str], list[str]]:
    """Return the renames back, and the fields that only the mapping made."""
    renames: dict[str, str] = {}
    dropped: list[str] = []
    sets_id = id_source(mapping) is not None
    keeps_id = False
    for place, source, target in _pairs(mapping):
        if source.role is Role.ID and target.role is Role.FIELD:
            keeps_id = True
            if sets_id:
                renames[_text(target)] = "id"
            else:
                dropped.append(_text(target))
        elif source.role is Role.ID or (target.role is Role.FIELD and target.contains(source) and target != source):
            problems.append(Problem(place, f"{target.text!r} cannot become {source.text!r} again"))
        else:
            back = "document" if source.role is Role.DOCUMENT else _text(source)
            renames[f"${target.role.value}" if target.role is not Role.FIELD else _text(target)] = back
    if sets_id and not keeps_id:
        what = 'the id of the source is kept nowhere; keep it with field_mapping {"$id": "old_id"}'
        problems.append(Problem(("id_from",) if mapping.id_from is not None else ("field_mapping",), what))
    return renames, dropped


def _transforms_back(mapping: Reversible, problems: list[Problem]) -> dict[str, Any]:
    transforms: dict[str, Any] = {}
    for text, transform in mapping.transforms.items():
        steps: Sequence[Any] | None = transform.reverse
        if steps is None:
            reverses = [getattr(step, "reverse", None) for step in reversed(transform.apply)]
            missing = [step.name for step in transform.apply if getattr(step, "reverse", None) is None]
            steps = None if missing else reverses
            if missing:
                problems.append(Problem(("transforms", text), f"nothing undoes {', '.join(missing)}; give its reverse"))
        landing = _landing(parse_path(text), mapping)
        if landing is None:
            problems.append(Problem(("transforms", text), "the value becomes the id, which no transform brings back"))
        elif steps is not None:
            transforms[landing] = {
                "apply": list(steps),
                "reverse": list(transform.apply),
                "on_error": transform.on_error,
            }
    return transforms


def _landing(path: FieldPath, mapping: Reversible) -> str | None:
    """Return the source path, in the reverse mapping, of what was at a path before; None for the id."""
    named = sorted(_pairs(mapping), key=lambda pair: pair[1].has_star)  # a name wins over a star
    for _, source, target in named:
        if not covers(source, path):
            continue
        if target.role is not Role.FIELD:
            return None if target.role is Role.ID else "$document"
        depth = len(source.keys)
        if not source.has_star:
            return shown_path((*target.keys, *path.keys[depth:]))
        rest = path.keys[depth - 1][len(source.keys[-1]) :]
        return shown_path((*target.keys[:-1], target.keys[-1] + rest, *path.keys[depth:]))
    return path.text


def _text(path: FieldPath) -> str:
    return shown_path(path.keys) + ("*" if path.has_star else "")
