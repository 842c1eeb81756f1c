"""Files that describe migrations: YAML, JSON or TOML, one migration or several, with places and references.

Belongs here: reading them, ``${NAME}`` and ``${NAME:-default}``, the line of an option, where the folder of declared
migrations is. Does not belong here: what the options mean (``spec.py``), which of several sources of options wins
(``cli/``), ``{{ env.NAME }}`` (``orchestration/templates.py``).

Several migrations are several YAML documents, a list, or a list under ``migrations``. A reference stands anywhere in a
text; ``$${NAME}`` is the text ``${NAME}`` itself. Messages quote nothing of a file, because a secret may be in it.
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.problems import LineOf, Place, Problem, problems_error

DEFS_VARIABLE = "RAG_MIGRATION_DEFS"

_REFERENCE = re.compile(r"\$(\$\{[^}]*\})|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Described:
    """One migration of a file.

    Attributes:
        values: Its options, references resolved.
        position: Which of the file's migrations it is, from 1.
        line_of: Gives the line of an option, where the form of the file tells it.
    """

    path: Path
    values: Any
    position: int
    line_of: LineOf | None

    def named(self, error: SpecError) -> SpecError:
        """Return an error about it with file and position in front."""
        return SpecError(f"{self.path}, document {self.position}: {error.what}", todo=error.todo, **error.facts)


def read_config(path: Path, environment: Mapping[str, str] | None = None) -> list[Described]:
    """Return the migrations that a file describes.

    Args:
        path: Its ending tells its form: .json, .toml, everything else is YAML.
        environment: What references name; the process environment by default.

    Raises:
        SpecError: The file is missing, not of its form, or a reference names nothing.
    """
    known = os.environ if environment is None else environment
    found = []
    for position, (raw, line_of) in enumerate(documents(path), start=1):
        described = Described(path, None, position, line_of)
        try:
            values = resolved(raw, known, line_of)
        except SpecError as error:
            raise described.named(error) from error
        found.append(Described(path, values, position, line_of))
    return found


def defs_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the migrations that Dagster loads as components.

    Args:
        environment: Where ``RAG_MIGRATION_DEFS`` may name it; the process environment by default. Without it, it is the
            folder ``defs`` of this package.
    """
    named = (os.environ if environment is None else environment).get(DEFS_VARIABLE)
    return Path(named).expanduser().absolute() if named else Path(__file__).absolute().with_name("defs")


def resolved(value: Any, environment: Mapping[str, str], line_of: LineOf | None = None) -> Any:
    """Return a value with its references replaced; what a reference stands for is always text.

    Raises:
        SpecError: A reference names a variable that is not set, and gives no default.
    """

    def change(text: str, place: Place) -> str:
        return with_references(text, environment, place, line_of)

    return changed(value, change)


def changed(value: Any, change: Callable[[str, Place], Any]) -> Any:
    """Return a value with every text in it, keys apart, replaced by what a function of text and place makes of it.

    Raises:
        SpecError: What the function raised, of all texts together.
    """
    errors: list[SpecError] = []
    made = _changed(value, change, (), errors)
    if errors:
        said = "; ".join(error.what.rstrip(".") for error in errors)
        todo = " ".join(dict.fromkeys(error.todo for error in errors))
        problems = tuple(problem for error in errors for problem in error.facts.get("problems", ()))
        raise SpecError(f"{said}.", todo=todo, problems=problems)
    return made


def _changed(value: Any, change: Callable[[str, Place], Any], place: Place, errors: list[SpecError]) -> Any:
    if isinstance(value, Mapping):
        return {key: _changed(item, change, (*place, key), errors) for key, item in value.items()}
    if isinstance(value, list):
        return [_changed(item, change, (*place, position), errors) for position, item in enumerate(value)]
    try:
        return change(value, place) if isinstance(value, str) else value
    except SpecError as error:
        errors.append(error)
        return None


def with_references(text: str, environment: Mapping[str, str], place: Place = (), line_of: LineOf | None = None) -> str:
    """Return a text with its references replaced.

    Raises:
        SpecError: A reference names a variable that is not set, and gives no default.
    """

    def replace(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped is not None:
            return str(escaped)
        found = environment.get(name) or default
        if found is None:
            raise not_set(name, f"${{{name}:-default}}", place, line_of)
        return found

    return _REFERENCE.sub(replace, text)


def not_set(name: str, with_default: str, place: Place, line_of: LineOf | None) -> SpecError:
    """Return the error of a reference to a variable that is not set.

    Args:
        name: The variable.
        with_default: How the reference is written with a default.
        place: Where the reference stands.
        line_of: Gives the line of a place in the file.
    """
    what = f"the environment variable {name} is not set"
    return problems_error([Problem(place, what)], "", f"Set it, or write {with_default}.", line_of)


def documents(path: Path) -> list[tuple[Any, LineOf | None]]:
    """Return the migrations of a file as they stand in it, each with what gives the line of an option.

    Raises:
        SpecError: The file is missing or not of its form.
    """
    try:
        text = path.read_bytes()
        if path.suffix == ".json":
            return _listed(json.loads(text))
        if path.suffix == ".toml":
            return _listed(tomllib.loads(text.decode()))
        return _yaml_documents(text)
    except SpecError as error:
        what = error.what.rstrip(".")
    except OSError as error:
        what = f"{error.strerror}"
    except json.JSONDecodeError as error:
        what = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except tomllib.TOMLDecodeError as error:
        what = re.sub(r"'[^']*'|\"[^\"]*\"", "***", str(error))
    except yaml.MarkedYAMLError as error:
        # An alias, anchor or tag that the problem names in quotes may be a secret that begins with "*", "&" or "!".
        problem = re.sub(r"'[^']*'|\"[^\"]*\"", _shown_quote, error.problem or "not YAML")
        mark = error.problem_mark
        what = f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem
    except RecursionError:
        what = "it is nested too deeply"
    except (yaml.YAMLError, ValueError) as error:
        what = f"not YAML ({type(error).__name__}); a value may be neither text nor a date nor a number"
    raise SpecError(f"cannot read the migrations file {path}: {what}.", todo="See docs/migrations.md.")


def _yaml_documents(text: bytes) -> list[tuple[Any, LineOf | None]]:
    documents = list(yaml.safe_load_all(text))
    twice = [lines for node in yaml.compose_all(text, yaml.SafeLoader) for lines in _repeated_keys(node, set())]
    if twice:
        what = "; ".join(f"line {again} has a key that line {first} has too" for first, again in twice)
        raise SpecError(what)
    if any(_is_within_itself(document, ()) for document in documents):
        raise SpecError("an alias (*name) stands within what its anchor (&name) names")
    nodes = [node for node in yaml.compose_all(text, yaml.SafeLoader) if not _is_empty(node)]
    found: list[tuple[Any, LineOf | None]] = []
    for node, value in zip(nodes, (item for item in documents if item is not None), strict=True):
        for place, item in _parts(value):
            found.append((item, partial(_line_of, node, place)))
    return found


def _is_within_itself(value: Any, around: tuple[int, ...]) -> bool:
    """Return whether a value contains itself, which an alias can make it do."""
    if not isinstance(value, Mapping | list):
        return False
    within = (*around, id(value))
    items = value.values() if isinstance(value, Mapping) else value
    return id(value) in around or any(_is_within_itself(item, within) for item in items)


def _listed(value: Any) -> list[tuple[Any, LineOf | None]]:
    return [(item, None) for _, item in _parts(value)]


def _parts(value: Any) -> list[tuple[Place, Any]]:
    """Return the migrations of a document, each with its place in it."""
    if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        return [((position,), item) for position, item in enumerate(value)]
    if isinstance(value, Mapping) and isinstance(value.get("migrations"), list):
        if len(value) > 1:
            others = ", ".join(repr(key) for key in value if key != "migrations")
            raise SpecError(f"beside the list migrations stands {others}; put it into each migration")
        return [(("migrations", position), item) for position, item in enumerate(value["migrations"])]
    return [((), value)]


def _repeated_keys(node: Any, seen: set[int]) -> Iterator[tuple[int, int]]:
    """Yield the lines of keys that come twice in one mapping; YAML would drop the first without a word."""
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):  # an alias is the same node again
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(item, seen)
        return
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in lines:
                yield lines[key.tag, key.value], line
            lines[key.tag, key.value] = line
        yield from _repeated_keys(value, seen)


def _shown_quote(quote: re.Match[str]) -> str:
    """Return a quotation of a YAML error if it is a single character or the name of a token, such as '<scalar>'."""
    return quote[0] if len(quote[0]) == 3 or quote[0].startswith("'<") else "***"


def _line_of(node: Any, start: Place, place: Place) -> int | None:
    """Return the line of a place in a document; of what is around it, where it has none of its own."""
    line = None
    for part in (*start, *place):
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part)]
            if not pairs:
                break
            key, node = pairs[-1]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line or int(node.start_mark.line) + 1


def _is_empty(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"
