"""Migrations declared in a YAML file: the keys of `MigrationSpec`, one document per migration.

Belongs here: reading the file, store resources from URLs with secrets left in the environment. Does not belong here:
what the options mean (``spec.py``), what a URL says (``locators.py``).
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.locators import SECRETS, STORE_OPTIONS, Locator, Role, mask_url, parse_locator
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration, store_pool
from rag_migration_pipeline.orchestration.resources import (
    ChromaResource,
    MemoryResource,
    MilvusResource,
    QdrantResource,
    VectorStoreResource,
)
from rag_migration_pipeline.problems import LineOf, Place
from rag_migration_pipeline.spec import one_place, options_of, spec_from_values
from rag_migration_pipeline.stores.registry import settings_for

_RESOURCES: dict[str, type[VectorStoreResource]] = {
    "chroma": ChromaResource,
    "qdrant": QdrantResource,
    "milvus": MilvusResource,
    "memory": MemoryResource,
}


def read_migrations(path: Path) -> tuple[list[MigrationDeclaration], dict[str, VectorStoreResource]]:
    """Return the migrations of a YAML file and the resources they use.

    Raises:
        SpecError: The file is missing or not YAML, or an option is wrong; names file and document.
    """
    documents = [document for document in _documents(path) if document is not None]
    declarations: dict[str, MigrationDeclaration] = {}
    resources: dict[str, VectorStoreResource] = {}
    for position, values in enumerate(documents, start=1):
        with _naming(path, position):
            declaration, pair = declare(values, partial(_line_of, path, position))
            if declaration.name in declarations:
                raise SpecError(f"there is another migration {declaration.name!r}.", todo="Give each its own name.")
        declarations[declaration.name] = declaration
        resources.update(pair)
    return list(declarations.values()), resources


def _documents(path: Path) -> list[Any]:
    """Return the documents of a YAML file.

    Raises:
        SpecError: It is missing or not YAML; the message quotes nothing of it, because a secret may be in it.
    """
    try:
        text = path.read_bytes()
        documents = list(yaml.safe_load_all(text))
        twice = [lines for node in yaml.compose_all(text, yaml.SafeLoader) for lines in _repeated_keys(node, set())]
        if not twice:
            return documents
        what = "; ".join(f"line {again} has a key that line {first} has too" for first, again in twice)
    except OSError as error:
        what = f"{error.strerror}"
    except yaml.MarkedYAMLError as error:
        # An alias, anchor or tag that the problem names in quotes may be a secret that begins with "*", "&" or "!".
        problem = re.sub(r"'[^']*'|\"[^\"]*\"", _shown_quote, error.problem or "not YAML")
        mark = error.problem_mark
        what = f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem
    except (yaml.YAMLError, ValueError) as error:
        what = f"not YAML ({type(error).__name__}); a value may be neither text nor a date nor a number"
    raise SpecError(f"cannot read the migrations file {path}: {what}.", todo="See docs/migrations.md.")


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


@contextmanager
def _naming(path: Path, position: int) -> Iterator[None]:
    """Put file and document in front of what is wrong."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"{path}, document {position}: {error.what}", todo=error.todo, **error.facts) from error


def _line_of(path: Path, position: int, place: Place) -> int | None:
    """Return the line of a place in one document of a file; of what is around it, where it has none of its own."""
    nodes = [node for node in yaml.compose_all(path.read_bytes(), yaml.SafeLoader) if not _is_empty(node)]
    node, line = nodes[position - 1], None
    for part in place:
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
    return line or node.start_mark.line + 1


def _is_empty(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def declare(values: Any, line_of: LineOf | None = None) -> tuple[MigrationDeclaration, dict[str, VectorStoreResource]]:
    """Return one migration and its two resources, from the options of `MigrationSpec`.

    Args:
        values: The options.
        line_of: Gives the line of an option in the file that they were read from.

    Raises:
        SpecError: An option is wrong.
    """
    if not isinstance(values, Mapping):
        raise SpecError(f"expected a mapping of options, got {type(values).__name__}.", todo="See docs/migrations.md.")
    spec = spec_from_values(values, line_of)
    source, target = parse_locator(spec.source, "source"), parse_locator(spec.target, "target")
    keys = f"{spec.name}_source", f"{spec.name}_target"
    declaration = MigrationDeclaration(
        spec.name,
        keys[0],
        source.collection,
        keys[1],
        target.collection,
        options_of(spec),
        target_pool=_pool(target),
        source_pool=_pool(source) if source.path else None,
    )
    return declaration, {
        keys[0]: resource_for(spec.source, source, "source"),
        keys[1]: resource_for(spec.target, target, "target"),
    }


def _pool(locator: Locator) -> str:
    """Return the pool of a store: the same for every URL of one folder or server, whatever its options."""
    address = one_place(settings_for(locator).address)
    place = address.partition("?")[0] if locator.path else address  # an embedded store's databases are in one folder
    digest = hashlib.blake2b(place.encode(), digest_size=4).hexdigest()
    return store_pool(f"{re.sub(r'[^A-Za-z0-9]+', '_', place)[:80]}_{digest}")


def resource_for(url: str, locator: Locator, role: Role) -> VectorStoreResource:
    """Return the resource of a store URL; its secrets are `dagster.EnvVar`, never values.

    Raises:
        SpecError: The URL carries a secret, which the Dagster UI would show, or an option that the store does not know.
    """
    family, _, form = locator.scheme.partition("+")
    settings_for(locator)  # a wrong option is told here, not in the first run
    if parse_locator(url, role, environment={}).secrets:
        variables = ", ".join(SECRETS[family].values())
        raise SpecError(
            f"{mask_url(url)} carries a secret, which the Dagster UI would show.",
            todo=f"Put it into the environment instead: {variables} (or SOURCE_/TARGET_ in front).",
        )
    options = {name: value for name, value in locator.options.items() if name not in STORE_OPTIONS}
    values = locator.store_options() | ({"tls": locator.is_tls} if options.pop("tls", None) else {})
    if family == "memory":
        values |= options
    elif options:
        values["options"] = options
    if locator.path:
        values["path"] = locator.path
        if form == "edge":
            values["engine"] = "edge"
    elif locator.host:
        values |= {"host": locator.host, **({"port": locator.port} if locator.port else {})}
    for name, variable in SECRETS[family].items():
        for candidate in (f"{role.upper()}_{variable}", variable):
            if os.environ.get(candidate):
                values[name] = dg.EnvVar(candidate)
                break
    return _RESOURCES[family](**values)
