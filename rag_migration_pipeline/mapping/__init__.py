"""Schema mapping: which field of a source becomes which of a target, described and checked before anything is read.

Belongs here: the description (`SchemaMapping`, `MappingChain`), its fingerprint. Does not belong here: what is wrong
with names (``checks.py``), its reverse (``reverse.py``), applying it to records (``mapper.py``), what
conversions mean (``conversions.py``), how paths are written (``paths.py``).

One rule says which names are meant: **what names a field that exists names it as the source has it** (keys of
``field_mapping`` and ``transforms``, ``include_fields``, ``exclude_fields``, ``id_from``, ``document_from``,
``deprecated``); **what makes a field names it as the target will have it** (values of ``field_mapping``, ``defaults``).
The order:

    1 pre_hooks                          4 field_mapping, id_from, document_from, all at once
    2 include, exclude, deprecated       5 defaults
    3 transforms                         6 per_record
                                         7 post_hooks
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.mapping.callables import callable_fingerprint, callable_name, import_callable
from rag_migration_pipeline.mapping.checks import mapping_problems
from rag_migration_pipeline.mapping.conversions import Conversion, parse_conversion
from rag_migration_pipeline.mapping.reverse import reversed_values
from rag_migration_pipeline.payloads import encode, has_typed
from rag_migration_pipeline.problems import problems_error, spec_error

NOW = "now"
"""As a default: the moment at which the migration was planned, the same for all its records."""


class OnError(StrEnum):
    """What happens to a record that cannot be mapped: the range stops, or it is set aside and the rest goes on."""

    FAIL = "fail"
    QUARANTINE = "quarantine"


class IdKind(StrEnum):
    """What an id that comes from a field is made into; without it a text stays a text and a whole number a number."""

    STRING = "string"
    INT = "int"
    UUID = "uuid"


@dataclass(frozen=True)
class Function:
    """A user's callable, with the name under which messages show it."""

    name: str
    call: Callable[..., Any]

    def __call__(self, value: Any) -> Any:
        """Call it."""
        return self.call(value)


Step = Conversion | Function


def _step(value: Any) -> Step:
    """Return one step of a transform: a conversion's name, an import path or a callable."""
    if isinstance(value, Conversion | Function):
        return value
    if isinstance(value, str):
        return _function(value) if ":" in value.partition("(")[0] else parse_conversion(value)
    return _function(value)


def _function(value: Any) -> Function:
    """Return a user's callable, given itself or by its import path."""
    if isinstance(value, Function):
        return value
    if isinstance(value, str):
        return Function(value, import_callable(value))
    if callable(value):
        return Function(callable_name(value), value)
    raise ValueError(f"expected a callable or an import path package.module:function, got {type(value).__name__}")


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else [value]


Steps = Annotated[tuple[Annotated[Any, BeforeValidator(_step)], ...], BeforeValidator(_listed), Field(min_length=1)]
Functions = Annotated[tuple[Annotated[Any, BeforeValidator(_function)], ...], BeforeValidator(_listed)]


class _Value(BaseModel):
    # What stands in a wrong place may be a secret, so pydantic's errors show no input.
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True, arbitrary_types_allowed=True
    )


class DefaultOnError(_Value):
    """The value that a field gets where its transform fails."""

    default: Any

    @field_validator("default")
    @classmethod
    def _check(cls, value: Any) -> Any:
        return _checked_constant(value)


class Transform(_Value):
    """What is done with the values of one field.

    Attributes:
        apply: Conversions and callables, one after the other.
        on_error: What happens where one fails; None takes the mapping's.
        reverse: What undoes ``apply``, for `SchemaMapping.reverse`; not needed where each conversion has one.
    """

    apply: Steps
    on_error: OnError | DefaultOnError | None = None
    reverse: Steps | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_steps(cls, value: Any) -> Any:
        """Accept the steps alone."""
        return value if isinstance(value, Transform | Mapping) else {"apply": value}


class Deprecation(_Value):
    """A field that goes out of use: it travels with a warning, under its new name if it has one, until it is dropped.

    Attributes:
        use: The field's new name.
        drop_at: From this version of the mapping on the field is left out.
    """

    use: str | None = None
    drop_at: int | None = None


class SchemaMapping(_Value):
    """How records change on their way.

    Attributes:
        version: The version of the schema that comes out; kept with the target.
        field_mapping: Source path -> target path. All at once, so two fields may swap names.
        include_fields: The only fields to take; None takes all. The document is no field.
        exclude_fields: Fields to leave out.
        transforms: Source path -> conversions or callables.
        defaults: Target path -> value of records that do not have the field; ``now`` is the time of planning.
        id_from: A field whose value becomes the record's id; the field stays. (``doc_id -> id`` moves it.)
        id_kind: What the id is made into.
        document_from: A field whose text becomes the record's document; the field stays.
        deprecated: Source path -> what becomes of a field that goes out of use.
        on_error: See `OnError`; for transforms, for names that are taken, for ids and documents.
        pre_hooks: Callables from batch to batch (`records.RecordBatch`), before everything else.
        per_record: Callables from `mapper.Record` to `mapper.Record`.
        post_hooks: Callables from batch to batch, after everything else.
    """

    version: int | None = Field(default=None, ge=1)
    field_mapping: dict[str, str] = Field(default_factory=dict)
    include_fields: tuple[str, ...] | None = None
    exclude_fields: tuple[str, ...] = ()
    transforms: dict[str, Transform] = Field(default_factory=dict)
    defaults: dict[str, Any] = Field(default_factory=dict)
    id_from: str | None = Field(default=None, validation_alias=AliasChoices("id_from", "id_field"))
    id_kind: IdKind | None = None
    document_from: str | None = Field(default=None, validation_alias=AliasChoices("document_from", "document_field"))
    deprecated: dict[str, Deprecation] = Field(default_factory=dict)
    on_error: OnError = OnError.QUARANTINE
    pre_hooks: Functions = ()
    per_record: Functions = ()
    post_hooks: Functions = ()

    @field_validator("defaults")
    @classmethod
    def _check_defaults(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {key: _checked_constant(item) for key, item in value.items()}

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        problems = mapping_problems(self)
        if problems:
            raise problems_error(problems, "the mapping")
        return self

    @property
    def has_functions(self) -> bool:
        """Whether a user's code has a say; without, the same record always becomes the same one."""
        steps = (step for item in self.transforms.values() for step in item.apply)
        hooks = (*self.pre_hooks, *self.per_record, *self.post_hooks)
        return bool(hooks) or any(isinstance(step, Function) for step in steps)

    @property
    def renames(self) -> dict[str, str]:
        """Source path -> target path, those of deprecated fields included."""
        used = {old: item.use for old, item in self.deprecated.items() if item.use is not None and not self.drops(item)}
        return {**used, **self.field_mapping}

    def drops(self, item: Deprecation) -> bool:
        """Return whether a deprecated field is left out by now."""
        return item.drop_at is not None and self.version is not None and self.version >= item.drop_at

    def reverse(self) -> "SchemaMapping":
        """Return the mapping that brings records back as they were.

        It does so for records that have, before, none of the names that this mapping gives, no empty object that it
        puts a field into, and no key with a dot that its paths could mean.

        Raises:
            SpecError: Names every part that cannot be undone.
        """
        return SchemaMapping.model_validate(reversed_values(self))

    def fingerprint(self) -> dict[str, Any]:
        """Return what the mapping does, as JSON values: parts that are not used are left out.

        Callables count by name and code, see `callables.callable_fingerprint`.
        """
        return {
            name: _plain(value)
            for name, value in ((name, getattr(self, name)) for name in type(self).model_fields)
            if value != type(self).model_fields[name].get_default(call_default_factory=True)
        }


class MappingChain(_Value):
    """Versions of a schema, one after the other, each made from the one before by a mapping.

    Attributes:
        versions: Mappings whose versions follow each other without a gap.
        from_version: The version that the source's records have; None takes the one that the source collection records.
        to_version: The version to arrive at; None takes the last.
    """

    versions: tuple[SchemaMapping, ...] = Field(min_length=1)
    from_version: int | None = None
    to_version: int | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        found = [item.version for item in self.versions]
        first = found[0]
        if first is None or found != list(range(first, first + len(found))):
            raise SpecError(f"each mapping needs a version, one more than the one before; got {found}")
        known = range(first - 1, first + len(found))
        for name in ("from_version", "to_version"):
            if getattr(self, name) not in (None, *known):
                raise SpecError(f"{name} is {getattr(self, name)}; the versions go from {known[0]} to {known[-1]}")
        return self

    def steps_from(self, recorded: int | None) -> tuple[SchemaMapping, ...]:
        """Return the mappings to apply, in order; reversed ones where the wanted version is an older one.

        Args:
            recorded: The version that the source records, or None.

        Raises:
            SpecError: The source's version is not known, or not one of the chain; or a mapping cannot be undone.
        """
        versions = [item.version or 0 for item in self.versions]
        start = self.from_version if recorded is None else recorded
        if recorded is not None and self.from_version not in (None, recorded):
            raise SpecError(
                f"the source records schema version {recorded}, the mapping says from_version {self.from_version}.",
                todo="Leave from_version out.",
            )
        if start is None:
            raise SpecError("the source does not record a schema version.", todo="Set from_version in the mapping.")
        if start not in (versions[0] - 1, *versions):
            raise SpecError(
                f"the source has schema version {start}, the mappings know {versions[0] - 1} to {versions[-1]}."
            )
        wanted = versions[-1] if self.to_version is None else self.to_version
        if wanted >= start:
            return tuple(item for item in self.versions if start < (item.version or 0) <= wanted)
        return tuple(item.reverse() for item in reversed(self.versions) if wanted < (item.version or 0) <= start)

    @property
    def final_version(self) -> int | None:
        """The version that comes out."""
        return self.versions[-1].version if self.to_version is None else self.to_version

    def fingerprint(self) -> dict[str, Any]:
        """Return what the chain does, as JSON values."""
        return {
            "versions": [item.fingerprint() for item in self.versions],
            "from_version": self.from_version,
            "to_version": self.to_version,
        }


def _tag(value: Any) -> str:
    is_chain = isinstance(value, MappingChain) or (isinstance(value, Mapping) and "versions" in value)
    return "chain" if is_chain else "single"


AnyMapping = Annotated[
    Annotated[SchemaMapping, Tag("single")] | Annotated[MappingChain, Tag("chain")], Discriminator(_tag)
]


def parse_mapping(values: Mapping[str, Any]) -> SchemaMapping:
    """Return the mapping that a dict describes.

    Raises:
        SpecError: Names every part that is wrong.
    """
    try:
        return SchemaMapping.model_validate(values)
    except ValidationError as error:
        raise spec_error(error, values, "the mapping is wrong", "See docs/mapping.md.") from error


def _checked_constant(value: Any) -> Any:
    """Return a constant that a payload can hold: JSON, or one of `payloads.TYPES` such as a date."""
    try:
        encode(value)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return value


def _plain(value: Any) -> Any:
    """Return a part of a mapping as a JSON value."""
    if isinstance(value, Conversion):
        return value.name
    if isinstance(value, Function):
        return callable_fingerprint(value.call)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, BaseModel):
        return {name: _plain(item) for name, item in _set_fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return encode(value) if has_typed(value) else value


def _set_fields(value: BaseModel) -> Iterator[tuple[str, Any]]:
    return ((name, item) for name, item in value if item is not None)
