"""The one description of a migration, read from YAML, command line, API or component.

Belongs here: the options, their defaults and checks, and a migration's identity. Does not belong here: what the
stores make of it (``plan.py``).
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.filters.nodes import as_dict, has_uuid
from rag_migration_pipeline.locators import Role, parse_locator
from rag_migration_pipeline.mapping import AnyMapping, SchemaMapping
from rag_migration_pipeline.mapping.checks import id_source
from rag_migration_pipeline.mapping.id_strategy import IdStrategy, Strategy
from rag_migration_pipeline.names import translate_name
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.problems import LineOf, Problem, problems_error, spec_error
from rag_migration_pipeline.stores.base import StoreSettings
from rag_migration_pipeline.stores.registry import settings_for
from rag_migration_pipeline.target_fields import parse_target_fields
from rag_migration_pipeline.vector_choice import VectorChoice, shared_names

NAME_PATTERN = r"[a-z][a-z0-9_]{0,99}"


class Conflict(StrEnum):
    """What happens to ids that were in the target before this migration's first write."""

    OVERWRITE = "overwrite"
    SKIP = "skip"
    FAIL = "fail"


class Validation(StrEnum):
    """How a range is validated: every record read back, only counted, or not at all (nothing is claimed then)."""

    FULL = "full"
    COUNTS = "counts"
    NONE = "none"


class Detect(StrEnum):
    """How a sync finds out what changed in the source; see ``steps/changes.py``."""

    IDS = "ids"
    PAYLOAD = "payload"
    WATERMARK = "watermark"
    FULL = "full"


class Deletes(StrEnum):
    """What a sync does about records that the source lost: they stay in the target, or are deleted there as well."""

    KEEP = "keep"
    MIRROR = "mirror"


class MigrationOptions(BaseModel):
    """What a migration does, apart from where it reads and writes.

    Attributes:
        filter: Which records to take, in the filter language or its short text (``filters/``); None takes all. A text
            is kept as the dict that means the same.
        push_down: Whether the source is asked for less than everything where the filter allows
            (``steps/push_down.py``); what arrives is the same either way.
        conflict: See `Conflict`; None allows only an empty or missing target collection.
        validate_target: See `Validation`; ``validate`` in YAML.
        range_count: Records per range.
        page_count: Records per read page; None takes what was measured to be fast for the source.
        batch_bytes: Largest batch handed on at once, in bytes.
        max_attempts: Attempts per step of a range, the first included.
        retry_delay_s: Seconds before the second attempt; the wait doubles each time.
        keep_staging: Whether staged files stay after their range is proven.
        mapping: How records change on their way: a `mapping.SchemaMapping`, or a chain of versions (``mapping/``).
        ids: Where the records' ids come from; see `id_strategy.IdStrategy`.
        envelope: Whether what the target cannot hold natively travels in a reserved payload key (``envelope/``).
        max_rejected: How many records may be set aside, in each range and in all together: a count (int), or a share of
            the planned records (float between 0 and 1). It may change between runs.
        accept_lossy: Consent to lossy verdicts: all of them, or those of the subjects named (``verdicts/``).
        translate_names: Give the target collection a name that its store allows, reversibly (``names.py``).
        vectors: Source name of a vector -> its name in the target, None to leave it out, or a `VectorChoice`.
        target_fields: Typed fields of a target that the migration creates, in a store that has them: by name,
            ``infer`` or ``none`` (``target_fields.py``). None carries the source's own, where both are of one kind.
        infer_count: About how many records typed fields are inferred from, spread evenly; None takes all.
        keep_overwritten: Whether records of others are kept before they are overwritten, so that a rollback brings them
            back; from the first run on.
        detect: See `Detect`.
        watermark: The field by which `Detect.WATERMARK` goes: one that grows with every change of a record.
        deletes: See `Deletes`.
        max_deletes: How many records one sync may delete: a count (int), or a share of the planned records (float).
    """

    # A key in the wrong place is an input too, so pydantic's errors show none.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    filter: dict[str, Any] | None = None
    push_down: bool = True
    conflict: Conflict | None = None
    validate_target: Validation = Field(default=Validation.FULL, alias="validate")
    range_count: int = Field(default=50_000, ge=1)
    page_count: int | None = Field(default=None, ge=1)
    batch_bytes: int = Field(default=16 * 2**20, ge=1)
    max_attempts: int = Field(default=5, ge=1)
    retry_delay_s: float = Field(default=1.0, ge=0)
    keep_staging: bool = False
    envelope: bool = True
    max_rejected: int | float = 0
    accept_lossy: bool | tuple[str, ...] = False
    translate_names: bool = False
    vectors: dict[str, VectorChoice | str | None] | None = None
    target_fields: dict[str, Any] | str | None = None
    infer_count: int | None = Field(default=None, ge=1)
    keep_overwritten: bool = False
    detect: Detect = Detect.PAYLOAD
    watermark: str | None = None
    deletes: Deletes = Deletes.KEEP
    max_deletes: int | float = 0.5
    mapping: AnyMapping | None = None
    ids: IdStrategy = IdStrategy()

    @field_validator("filter", mode="before")
    @classmethod
    def _check_filter(cls, value: Any) -> Any:
        if not isinstance(value, str | dict):
            return value
        parsed = parse_filter(value)
        return as_dict(parsed) if isinstance(value, str) or has_uuid(parsed) else value  # state is kept as JSON

    @field_validator("target_fields")
    @classmethod
    def _check_fields(cls, value: dict[str, Any] | str | None) -> dict[str, Any] | str | None:
        parse_target_fields(value)
        return value

    @field_validator("accept_lossy", mode="before")
    @classmethod
    def _check_consent(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return value
        if not isinstance(value, list | tuple) or not all(isinstance(subject, str) for subject in value):
            got = type(value).__name__ if not isinstance(value, list | tuple) else "a list with something else in it"
            raise ValueError(f"expected true, false or a list of subjects such as [id, field tags], got {got}")
        return tuple(value)

    @field_validator("max_rejected", "max_deletes", mode="before")
    @classmethod
    def _check_budget(cls, value: Any, info: ValidationInfo) -> Any:
        largest = 1.0 if info.field_name == "max_deletes" else math.nextafter(1.0, 0.0)
        is_count = type(value) is int and value >= 0
        if not is_count and not (type(value) is float and 0 < value <= largest):
            got = value if isinstance(value, int | float) else type(value).__name__
            bounds = "above 0 and up to 1.0" if largest == 1.0 else "between 0 and 1, both excluded"
            raise ValueError(f"expected a count (an integer from 0) or a share (a number {bounds}), got {got}")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = list(self._contradictions())
        if problems:
            raise problems_error(problems, "the options")
        return self

    def _contradictions(self) -> Iterator[Problem]:
        if self.keep_overwritten and self.conflict is not Conflict.OVERWRITE:
            yield Problem(("keep_overwritten",), "it has no effect without conflict: overwrite")
        if (
            isinstance(self.mapping, SchemaMapping)
            and id_source(self.mapping) is not None
            and self.ids.field is not None
        ):
            yield Problem(("ids",), "the mapping sets the id too; set it in one place")
        if (self.detect is Detect.WATERMARK) != (self.watermark is not None):
            yield Problem(("watermark",), "a field, if and only if detect is watermark")
        for name, sources in shared_names(self.vectors).items():
            yield Problem(("vectors", sources[-1]), f"{' and '.join(map(repr, sources))} would both become {name!r}")

    def plan_fingerprint(self) -> dict[str, Any]:
        """Return the options that change what arrives; the others may change between runs of one migration."""
        facts: dict[str, Any] = {
            "filter": self.filter,
            "conflict": self.conflict.value if self.conflict else None,
        }
        if not self.envelope:  # a key of its own only where it is used, so that older state is taken up
            facts["envelope"] = False
        if self.translate_names:
            facts["translate_names"] = True
        if self.target_fields is not None:
            facts["target_fields"] = [self.target_fields, self.infer_count]
        if self.vectors:
            facts["vectors"] = self.model_dump(mode="json", include={"vectors"})["vectors"]
        if self.mapping is not None:
            facts["mapping"] = self.mapping.fingerprint()
        if self.ids.strategy is not Strategy.KEEP:
            facts["ids"] = self.ids.fingerprint()
        return facts


def is_over(count: int, total: int, limit: float) -> bool:
    """Return whether a count is over a limit: a count of its own (int), or a share of the total (float)."""
    return count > (limit * total if isinstance(limit, float) else limit)


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
    """

    name: str
    source: StoreSettings
    source_collection: str
    target: StoreSettings
    target_name: str
    options: MigrationOptions

    @cached_property
    def target_collection(self) -> str:
        """The target collection's name in its store: as asked for, or translated where the spec says so."""
        return (
            translate_name(self.target_name, self.target.name_rule)
            if self.options.translate_names
            else self.target_name
        )

    def __post_init__(self) -> None:
        """Refuse a bad name, and a target that is the source.

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

    @property
    def identity(self) -> str:
        """32 hex digits that name this migration's state: source, target and plan, not the name."""
        return hashlib.blake2b(encode(self.identity_facts()).encode(), digest_size=16).hexdigest()

    def identity_facts(self) -> dict[str, Any]:
        """Return what the identity is the digest of; stored with the manifest for error messages."""
        return {
            "source": _place(self.source, self.source_collection),
            "target": _place(self.target, self.target_name),
            "plan": self.options.plan_fingerprint(),
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


def migration_from_spec(values: Mapping[str, Any]) -> Migration:
    """Return the migration that a mapping of options describes, with its stores' settings.

    Raises:
        SpecError: An option or a URL is wrong.
    """
    spec = spec_from_values(values)
    source, target = parse_locator(spec.source, "source"), parse_locator(spec.target, "target")
    return Migration(
        spec.name,
        settings_for(source),
        source.collection,
        settings_for(target),
        target.collection,
        options_of(spec),
    )
