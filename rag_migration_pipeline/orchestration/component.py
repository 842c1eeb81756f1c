"""The Dagster component ``rag_migration_pipeline.Migration``: a migration in a ``defs.yaml``.

Belongs here: the way from the attributes of a ``defs.yaml`` to a declared migration, with the file and line of what is
wrong. Does not belong here: what the options mean (``spec.py``), the definitions of a migration (``factory.py``), which
folder is loaded (``defs_folder.py``), what stands in ``{{ }}`` (``templates.py``).
"""

from pathlib import Path
from typing import Any, Self

import dagster as dg
from dagster.components.component.component import ComponentTypeSpec
from pydantic import BaseModel, RootModel

from rag_migration_pipeline.config_files import Described, documents
from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.orchestration.config import declare
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.factory import migration_definitions
from rag_migration_pipeline.orchestration.resources import VectorStoreResource
from rag_migration_pipeline.orchestration.templates import filled_in
from rag_migration_pipeline.problems import LineOf, Place
from rag_migration_pipeline.spec import MigrationSpec

_ATTRIBUTES = "attributes"


class _Attributes(RootModel[dict[str, Any]]):
    """The attributes as they stand in the file: Dagster checks their form only, `MigrationSpec` all the rest."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Show tools the options of a migration, under all their names; each may be a template."""
        schema = MigrationSpec.model_json_schema(*args, **kwargs)
        shown = schema["properties"]
        for name, option in MigrationSpec.model_fields.items():
            main = option.alias if option.alias in shown else name
            for alias in getattr(option.validation_alias, "choices", ()):
                shown.setdefault(alias, shown[main])
        shown["retry"] = {"type": "object"}
        text = {"type": "string"}
        schema["properties"] = {name: {"anyOf": [rule, text]} for name, rule in shown.items()}
        return schema


class Migration(dg.Component):
    """A migration of one collection into another; its attributes are the options of docs/migrations.md.

    Attributes:
        declaration: What it is to Dagster.
        resources: Its two stores by resource key.
        file: The file that it stands in, or None.
        where: File, document and line, for messages.
    """

    def __init__(self, values: Any, described: Described | None = None) -> None:
        """Take in the options of a migration.

        Args:
            values: The options, or a `MigrationSpec`.
            described: Where they stand.

        Raises:
            SpecError: An option is wrong, or a URL carries a secret; names file and line.
        """
        self.declaration: MigrationDeclaration
        self.resources: dict[str, VectorStoreResource]
        line_of = described.line_of if described is not None else None
        try:
            self.declaration, self.resources = declare(values, line_of)
        except SpecError as error:
            raise described.named(error) if described is not None else error from error
        self.file = described.path if described is not None else None
        line = line_of(("name",)) if line_of is not None else None
        self.where = f"{self.file}, line {line}" if line else "Python"

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return the form of the attributes."""
        return _Attributes

    @classmethod
    def get_spec(cls) -> ComponentTypeSpec:
        """Return what the component is, for lists of components."""
        return ComponentTypeSpec(description=cls.__doc__, produces=["asset", "asset_check", "job", "resource"])

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Return the migration of a document of a ``defs.yaml``.

        Raises:
            SpecError: See `__init__`; or an environment variable that is named is not set.
        """
        given = attributes.root if isinstance(attributes, _Attributes) else None
        described = _described(given, context)
        try:
            values = filled_in(described.values, context.resolution_context.scope, described.line_of)
        except SpecError as error:
            raise described.named(error) from error
        return cls(values, described)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002 - Dagster's signature
        """Return the migration's assets, checks, jobs and resources."""
        return migration_definitions(self.declaration, self.resources)


def _described(attributes: Any, context: dg.ComponentLoadContext) -> Described:
    """Return the attributes with their lines, read from the file as a migration file is: one reader for both.

    Dagster's own reading gives dates as text and lets a key that comes twice pass.
    """
    tree = context.resolution_context.source_position_tree
    position = getattr(context.component_loc, "instance_key", None)
    if tree is None or not isinstance(position, int):
        return Described(Path("attributes"), attributes, 1, None)
    path = Path(tree.position.filename)
    document, line_of = documents(path)[position]
    return Described(path, document.get(_ATTRIBUTES), position + 1, _inside(line_of))


def _inside(line_of: LineOf | None) -> LineOf | None:
    def inner(place: Place) -> int | str | None:
        return line_of((_ATTRIBUTES, *place)) if line_of is not None else None

    return inner
