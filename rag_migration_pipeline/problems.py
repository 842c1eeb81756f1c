"""What is wrong in a description, each problem with its place: option, key, line of the file.

Belongs here: turning pydantic's errors into one of ours. Does not belong here: what is right (``spec.py``,
``mapping/``), reading files (``config_files.py``).

A validator that finds several problems raises ``SpecError(..., problems=[Problem(...), ...])``; their places are
relative to the value that it checks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from rag_migration_pipeline.errors import SpecError

Place = tuple[str | int, ...]
LineOf = Callable[[Place], int | str | None]
"""Gives the line (from 1) of a place in the file that the values were read from; where it came from elsewhere, a phrase
that says so; or None."""

_UNKNOWN = "there is no such option; check the spelling"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        place: Keys and positions from the outermost value inwards.
        what: A phrase.
        is_missing: Whether the place is that of a key that should be there.
        is_form: Whether pydantic says it of the value's form; where a value may have several, it says so of each.
    """

    place: Place
    what: str
    is_missing: bool = False
    is_form: bool = False


def problems_error(
    problems: Sequence[Problem], subject: str, todo: str = "See docs/mapping.md.", line_of: LineOf | None = None
) -> SpecError:
    """Return the error that says all problems at once."""
    said = "; ".join(_sentence(problem, line_of) for problem in problems)
    return SpecError(f"{subject}: {said}." if subject else f"{said}.", todo=todo, problems=tuple(problems))


def spec_error(
    error: ValidationError, values: Any, subject: str, todo: str, line_of: LineOf | None = None
) -> SpecError:
    """Return our error for pydantic's: every problem with its place in the values that were given."""
    found = [replace(problem, place=place_in(values, problem)) for problem in problems_of(error)]
    problems = [problem for problem in found if not _is_other_form(problem, found)]
    said = "; ".join(_sentence(problem, line_of) for problem in problems)
    return SpecError(f"{subject}: {said}.", todo=todo, problems=tuple(problems))


def place_in(values: Any, problem: Problem) -> Place:
    """Return a problem's place without parts that are not in the values, such as pydantic's names of alternatives."""
    kept: list[str | int] = []
    for position, part in enumerate(problem.place, start=1):
        if isinstance(values, Mapping) and part in values:
            values = values[part]
        elif isinstance(values, Sequence) and not isinstance(values, str) and isinstance(part, int):
            values = values[part] if part < len(values) else None
        elif position < len(problem.place) or not problem.is_missing:
            continue
        kept.append(part)
    return tuple(kept)


_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
"""What pydantic says of numbers that are too small or too large."""


def problems_of(error: ValidationError) -> Iterator[Problem]:
    """Yield what pydantic found, each with its place in the value that was checked."""
    for item in error.errors(include_url=False):
        cause = item.get("ctx", {}).get("error")
        inner = cause.facts.get("problems", ()) if isinstance(cause, SpecError) else ()
        if inner:
            yield from (replace(problem, place=(*item["loc"], *problem.place)) for problem in inner)
        elif cause is not None:
            is_ours = isinstance(cause, SpecError) and cause.todo.startswith("See docs/")
            yield Problem(item["loc"], str(cause.what if is_ours else cause).rstrip("."))  # ours ends in such a hint
        else:
            given, is_missing = item["input"], item["type"] == "missing"
            got = repr(given) if item["type"] in _BOUNDS else type(given).__name__  # other values may be secrets
            said = _UNKNOWN if item["type"] == "extra_forbidden" else f"{item['msg']} (got {got})"
            yield Problem(item["loc"], said, is_missing, is_form=True)


def _is_other_form(problem: Problem, found: Sequence[Problem]) -> bool:
    """Return whether a problem is only that the value has not the other form, in which nothing inside is wrong."""
    size = len(problem.place)
    return problem.is_form and any(len(p.place) > size and p.place[:size] == problem.place for p in found)


def _sentence(problem: Problem, line_of: LineOf | None) -> str:
    line = line_of(problem.place) if line_of is not None else None
    place = ".".join(map(str, problem.place))
    where = f"line {line}" if isinstance(line, int) else line
    return f"{f'{where}, ' if where else ''}{place or 'the whole'}: {problem.what}"
