"""Migrations declared in a file: the keys of `MigrationSpec`.

Belongs here: store resources from URLs with secrets left in the environment. Does not belong here: reading
files (``config_files.py``), what the options mean (``spec.py``), what a URL says (``locators.py``).
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from rag_migration_pipeline.config_files import read_config
from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.locators import SECRETS, STORE_OPTIONS, Locator, Role, mask_url, parse_locator
from rag_migration_pipeline.orchestration.automation import schedule_problem
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration, store_pool
from rag_migration_pipeline.orchestration.resources import (
    ChromaResource,
    MemoryResource,
    MilvusResource,
    QdrantResource,
    VectorStoreResource,
)
from rag_migration_pipeline.problems import LineOf, problems_error
from rag_migration_pipeline.spec import MigrationSpec, one_place, options_of, spec_from_values
from rag_migration_pipeline.stores.registry import settings_for

_RESOURCES: dict[str, type[VectorStoreResource]] = {
    "chroma": ChromaResource,
    "qdrant": QdrantResource,
    "milvus": MilvusResource,
    "memory": MemoryResource,
}


def read_migrations(path: Path) -> tuple[list[MigrationDeclaration], dict[str, VectorStoreResource]]:
    """Return the migrations of a file and the resources they use.

    Raises:
        SpecError: The file is missing or not of its form, or an option is wrong; names file and document.
    """
    declarations: dict[str, MigrationDeclaration] = {}
    resources: dict[str, VectorStoreResource] = {}
    for described in read_config(path):
        try:
            declaration, pair = declare(described.values, described.line_of)
        except SpecError as error:
            raise described.named(error) from error
        if declaration.name in declarations:
            twice = SpecError(f"there is another migration {declaration.name!r}.", todo="Give each its own name.")
            raise described.named(twice)
        declarations[declaration.name] = declaration
        resources.update(pair)
    return list(declarations.values()), resources


def declare(
    values: MigrationSpec | Any, line_of: LineOf | None = None
) -> tuple[MigrationDeclaration, dict[str, VectorStoreResource]]:
    """Return one migration and its two resources, from the options of `MigrationSpec`.

    Args:
        values: The options, or a spec that is made of them.
        line_of: Gives the line of an option in the file that they were read from.

    Raises:
        SpecError: An option is wrong.
    """
    if not isinstance(values, Mapping | MigrationSpec):
        raise SpecError(f"expected a mapping of options, got {type(values).__name__}.", todo="See docs/migrations.md.")
    spec = values if isinstance(values, MigrationSpec) else spec_from_values(values, line_of)
    if (problem := schedule_problem(spec.schedule)) is not None:
        raise problems_error([problem], "the migration's options are wrong", "See docs/migrations.md.", line_of)
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
    sides: tuple[tuple[str, str, Locator, Role], ...] = (
        (keys[0], spec.source, source, "source"),
        (keys[1], spec.target, target, "target"),
    )
    resources = {}
    for key, url, locator, role in sides:
        try:
            resources[key] = resource_for(url, locator, role)
        except SpecError as error:
            line = line_of((role,)) if line_of is not None else None
            where = f"line {line}, {role}" if line else role
            raise SpecError(f"{where}: {error.what}", todo=error.todo, **error.facts) from error
    return declaration, resources


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
