"""The one description of a migration, read from YAML, command line, API or component.

Belongs here: the options, their defaults and checks, and a migration's identity. Does not belong here: what the
stores make of it (``plan.py``).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.filters.nodes import EVERYTHING, Filter
from rag_migration_pipeline.locators import Role, parse_locator
from rag_migration_pipeline.names import translate_name
from rag_migration_pipeline.options import Deletes, MigrationOptions
from rag_migration_pipeline.payloads import ENVELOPE_KEY, encode
from rag_migration_pipeline.problems import LineOf, Problem, problems_error, spec_error
from rag_migration_pipeline.stores.base import StoreSettings
from rag_migration_pipeline.stores.registry import settings_for

NAME_PATTERN = r"[a-z][a-z0-9_]{0,99}"


class MigrationSpec(MigrationOptions):
    """A migration between two store URLs (see ``locators.py``)."""

    name: str = Field(pattern=f"^{NAME_PATTERN}$")
    source: str
    target: str

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        problems: list[Problem] = []
        places = []
        roles: tuple[Role, ...] = ("source", "target")
        for role in roles:
            try:
                locator = parse_locator(getattr(self, role), role)
                places.append((one_place(settings_for(locator).address), locator.collection))
            except SpecError as error:
                problems.append(Problem((role,), str(error).rstrip(".")))
        if not problems and places[0] == places[1]:
            where = f"{places[0][0]}, collection {places[0][1]!r}"
            said = f"the target is the source: {where}; name another collection or another store"
            problems.append(Problem(("target",), said))
        if problems:
            raise problems_error(problems, "the options")
        return self


@dataclass(frozen=True)
class Migration:
    """A migration with its stores' settings: what the steps work on.

    Attributes:
        name: Name for people, and prefix of the Dagster assets.
        target_name: The target collection's name as asked for; see `target_collection`.
        options: What this run does.
        own_options: The migration's own options, where a launch changes some that belong to its identity; None where
            they are the same.
        only: What this run takes of the records that it is to carry; the others stay for a later one.
    """

    name: str
    source: StoreSettings
    source_collection: str
    target: StoreSettings
    target_name: str
    options: MigrationOptions
    own_options: MigrationOptions | None = None
    only: Filter = EVERYTHING

    @cached_property
    def target_collection(self) -> str:
        """The target collection's name in its store: as asked for, or translated where the spec says so."""
        return (
            translate_name(self.target_name, self.target.name_rule)
            if self.options.translate_names
            else self.target_name
        )

    def __post_init__(self) -> None:
        """Refuse a bad name, a target that is the source, and a tombstone that would be taken for something else.

        Raises:
            SpecError: See above.
        """
        if not re.fullmatch(NAME_PATTERN, self.name):
            raise SpecError(f"migration name {self.name!r}: expected lower-case letters, digits and underscores.")
        source, target = one_place(self.source.address), one_place(self.target.address)
        if (source, self.source_collection) == (target, self.target_collection):
            raise SpecError(
                f"migration {self.name!r}: the target is the source: {self.source.address}, "
                f"collection {self.source_collection!r}.",
                todo="Name another collection or another store as the target.",
            )
        mark = self.options.tombstone
        if self.options.deletes is Deletes.TOMBSTONE and mark in (self.target.document_key, ENVELOPE_KEY):
            raise SpecError(
                f"migration {self.name!r}: tombstone {mark!r} is a key with another meaning in the target.",
                todo="Choose a payload key that the records do not have, such as deleted_at.",
            )

    @property
    def identity(self) -> str:
        """32 hex digits that name this migration's state: source, target and plan, not the name."""
        return hashlib.blake2b(encode(self.identity_facts()).encode(), digest_size=16).hexdigest()

    def identity_facts(self) -> dict[str, Any]:
        """Return what the identity is the digest of; stored with the manifest for error messages."""
        return {
            "source": _place(self.source, self.source_collection),
            "target": _place(self.target, self.target_name),
            "plan": (self.own_options or self.options).plan_fingerprint(),
        }


def spec_from_values(values: Mapping[str, Any], line_of: LineOf | None = None) -> MigrationSpec:
    """Return the checked description of a migration from a mapping of options (from YAML, say).

    Args:
        values: The options.
        line_of: Gives the line of an option in the file that they were read from.

    Raises:
        SpecError: Names every option that is wrong, with what was expected and its line.
    """
    try:
        return MigrationSpec.model_validate(values)
    except ValidationError as error:
        raise spec_error(
            error, values, "the migration's options are wrong", "See docs/migrations.md.", line_of
        ) from error


def options_of(spec: MigrationSpec) -> MigrationOptions:
    """Return a spec's options apart from where it reads and writes."""
    return MigrationOptions.model_validate({name: getattr(spec, name) for name in MigrationOptions.model_fields})


def one_place(address: str) -> str:
    """Return an address with one spelling for this host, for a host's name, and for a folder with two engines."""
    address = re.sub(r"^qdrant\+edge:", "qdrant+file:", address)
    address = re.sub(r"(?<=://)([^/:?]+)", lambda host: host[1].lower().removesuffix("."), address)
    return re.sub(r"://(127\.0\.0\.1|\[?::1\]?|0\.0\.0\.0)(?=[:/?]|$)", "://localhost", address)


def _place(store: StoreSettings, collection: str) -> dict[str, str]:
    return {"address": store.address, "collection": collection, "document_key": store.document_key}


def name_of(collection: str) -> str:
    """Return a name for a migration that is named after its source collection."""
    name = re.sub(r"[^a-z0-9_]+", "_", collection.lower()).strip("_") or "collection"
    return (name if name[0].isalpha() else f"c_{name}")[:100]


def migration_from_spec(values: Mapping[str, Any]) -> Migration:
    """Return the migration that a mapping of options describes, with its stores' settings.

    Raises:
        SpecError: An option or a URL is wrong.
    """
    return migration_of_spec(spec_from_values(values))


def migration_of_spec(spec: MigrationSpec) -> Migration:
    """Return the migration that a checked description describes, with its stores' settings."""
    source, target = parse_locator(spec.source, "source"), parse_locator(spec.target, "target")
    return Migration(
        spec.name,
        settings_for(source),
        source.collection,
        settings_for(target),
        target.collection,
        options_of(spec),
    )
