"""How a migration looks in Dagster before anything ran: kinds, owners, and descriptions that say from where to where.

Belongs here: what follows from a declaration and its resources alone. Does not belong here: what runs found out
(`facts`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.resources import EmbeddedOrServerResource, MemoryResource

_SHOWN_OPTIONS = ("tenant", "database")
"""Options of a store's URL that say where a collection is."""
_SHOWN_CHARACTERS = 300
_IN_A_CELL = str.maketrans({"`": "'", "|": r"\|", "\n": " ", "\r": " "})

_WHAT = {
    "source_manifest": "The source cut once into fixed half-open ranges, with count and id digest, and the plan. "
    "What becomes of every field and feature stands in the plan's table: `verdicts` in the metadata.",
    "loaded_ranges": "Each range of the source in the target, read back and found identical. "
    "Ranges that failed or are missing can be launched again alone.",
    "target_collection": "The whole target collection, compared record by record with what all ranges wrote. "
    "`integrity report` in the metadata leads to the report.",
}


@dataclass(frozen=True)
class Place:
    """A store as people see it.

    Attributes:
        kind: chroma, qdrant, milvus or memory; empty where the resource does not say.
        address: Its address without secrets; the resource's key where there is none. A value that comes from the
            environment is shown as ``${NAME}``.
    """

    kind: str
    address: str


@dataclass(frozen=True)
class Appearance:
    """How the assets of a migration look."""

    declaration: MigrationDeclaration
    source: Place
    target: Place

    def kinds(self, asset: str) -> set[str]:
        """Return the kinds of an asset, three at most: the stores that it is about, and what it makes.

        Dagster 1.13.27 has logos for arrow, parquet and report; chroma, qdrant and milvus are shown by name.
        """
        of = {
            "source_manifest": (self.source.kind, "parquet"),
            "loaded_ranges": (self.source.kind, self.target.kind, "arrow"),
            "target_collection": (self.target.kind, "report"),
        }
        return {kind for kind in of[asset] if kind}

    def description(self, asset: str) -> str:
        """Return what an asset is, in Markdown: a sentence, and from where to where."""
        declaration, options = self.declaration, self.declaration.options
        rows = [
            ("from", f"{_code(declaration.source_collection)} in {_code(self.source.address)}"),
            ("to", f"{_code(declaration.target_collection)} in {_code(self.target.address)}"),
            ("records", _code(f"{options.filter}") if options.filter else "all"),
            ("ids that others have in the target", options.conflict.value if options.conflict else "none allowed"),
            ("validation", options.validate_target.value),
        ]
        table = "\n".join(f"| {name} | {value} |" for name, value in rows)
        return f"{_WHAT[asset]}\n\n| | |\n|---|---|\n{table}\n"

    @property
    def owners(self) -> list[str]:
        """Whose the assets are."""
        return list(self.declaration.options.owners)


def appearance_of(declaration: MigrationDeclaration, resources: Mapping[str, object]) -> Appearance:
    """Return how a migration looks, over resources of which some may be unknown yet."""
    sides = (declaration.source, declaration.target)
    source, target = (place_of(resources.get(key), key) for key in sides)
    return Appearance(declaration, source, target)


def place_of(resource: object, key: str) -> Place:
    """Return a store resource as people see it, without opening or resolving anything.

    Args:
        resource: The resource; one that is none of ours, or None, is shown by its key.
        key: The resource's key.
    """
    if isinstance(resource, MemoryResource):
        return Place("memory", f"memory://{_text(resource.name)}")
    if not isinstance(resource, EmbeddedOrServerResource):
        return Place("", key)
    kind = resource.family()
    if resource.path:
        return Place(kind, f"{kind}+{resource.embedded_form()}://{_text(resource.path)}")
    port = "" if _text(resource.port) == "0" else f":{_text(resource.port)}"
    options = [f"{name}={_text(resource.options[name])}" for name in _SHOWN_OPTIONS if name in resource.options]
    return Place(kind, f"{kind}://{_text(resource.host)}{port}{'?' if options else ''}{'&'.join(options)}")


def _text(value: Any) -> str:
    """Return a setting, or the variable that it will come from; `dagster.EnvVar` refuses ``str``."""
    name = value.env_var_name if isinstance(value, dg.EnvVar) else getattr(value, "name", None)
    return f"${{{name}}}" if name else str(value)


def _code(text: str) -> str:
    """Return text as code inside a Markdown table."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
    return f"`{shown.translate(_IN_A_CELL)}`"
