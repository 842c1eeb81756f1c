"""The options of a migration: what it does, apart from where it reads and writes.

Belongs here: their names, defaults and checks, and which of them make another migration. Does not belong here: places
and identity (``spec.py``), what the stores make of it (``plan.py``).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rag_migration_pipeline.automation_options import AutomationOptions, WatchBy
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.filters.nodes import as_dict, has_uuid
from rag_migration_pipeline.mapping import AnyMapping, SchemaMapping
from rag_migration_pipeline.mapping.checks import id_source
from rag_migration_pipeline.mapping.id_strategy import IdStrategy, Strategy
from rag_migration_pipeline.problems import Problem, problems_error, problems_of
from rag_migration_pipeline.retries import RetryPolicy
from rag_migration_pipeline.target_fields import parse_target_fields
from rag_migration_pipeline.vector_choice import VectorChoice, shared_names


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
    """What a sync does about records that the source lost: they stay, are deleted as well, or stay with a mark."""

    KEEP = "keep"
    MIRROR = "mirror"
    TOMBSTONE = "tombstone"


class BothChanged(StrEnum):
    """What a sync does about records that changed in the source and, by somebody else, in the target as well."""

    OVERWRITE = "overwrite"
    FAIL = "fail"


class WorkerType(StrEnum):
    """Where workers run: in threads of this process, or in processes of their own."""

    THREAD = "thread"
    PROCESS = "process"


class RateLimit(BaseModel):
    """How fast one store may be asked; None for no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    requests_per_s: float | None = Field(default=None, gt=0)
    records_per_s: float | None = Field(default=None, gt=0)


class Limits(BaseModel):
    """How fast the two stores may be asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    source: RateLimit = RateLimit()
    target: RateLimit = RateLimit()


class _Retry(BaseModel):
    """The three options about trying again, as they stand together."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    max_retries: int | None = Field(default=None, ge=1)
    delay_s: float | None = Field(default=None, ge=0)
    backoff: float | None = Field(default=None, ge=1)


class MigrationOptions(AutomationOptions):
    """What a migration does, apart from where it reads and writes; see `AutomationOptions` for when it does so.

    Attributes:
        filter: Which records to take, in the filter language or its short text (``filters/``); None takes all. A text
            is kept as the dict that means the same.
        push_down: Whether the source is asked for less than everything where the filter allows
            (``steps/push_down.py``); what arrives is the same either way.
        conflict: See `Conflict`; None allows only an empty or missing target collection.
        validate_target: See `Validation`; ``validate`` in YAML.
        range_count: Records per range.
        page_count: Records per batch; None takes what was measured to be fast for the source; also ``batch_size``.
        batch_bytes: Largest batch handed on at once, in bytes.
        max_attempts: Attempts per request (under Dagster: per step of a range), the first included; also
            ``max_retries``.
        retry_delay_s: Seconds before the second attempt; also ``retry_delay``.
        retry_backoff: By what the wait grows from attempt to attempt. All three may
            stand together: ``retry: {max_retries: 5, delay_s: 2.0, backoff: 2.0}``.
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
        tombstone: Payload key of the mark under ``deletes: tombstone``: the time of the sync, as ISO 8601 text in UTC.
        both_changed: See `BothChanged`; in either case they are listed.
        max_deletes: How many records one sync may delete: a count (int), or a share of the planned records (float).
        parallel: Whether several ranges run at once, outside Dagster.
        max_workers: How many; None takes what the stores allow and what was measured to help.
        worker_type: Whether they run in threads or in processes.
        prefetch_bytes: How many bytes of records each worker may read ahead of its writing; 0 for none.
        limits: How fast the stores may be asked, by all workers together: ``{target: {records_per_s: 1000}}``.
        dry_run: Read, filter, map and check every record, and write nothing.
        incremental: Carry only what changed since the last completed run; see ``detect`` and ``deletes``.
        resume: Go on with an interrupted run; without it a run starts afresh.
        checkpoint_file: Where the ledger is kept; None takes the migration's state folder.
    """

    # A key in the wrong place is an input too, so pydantic's errors show none.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    filter: dict[str, Any] | None = None
    push_down: bool = True
    conflict: Conflict | None = None
    validate_target: Validation = Field(default=Validation.FULL, alias="validate")
    range_count: int = Field(default=50_000, ge=1)
    page_count: int | None = Field(default=None, ge=1, validation_alias=AliasChoices("page_count", "batch_size"))
    batch_bytes: int = Field(default=16 * 2**20, ge=1)
    max_attempts: int = Field(default=5, ge=1, validation_alias=AliasChoices("max_attempts", "max_retries"))
    retry_delay_s: float = Field(default=1.0, ge=0, validation_alias=AliasChoices("retry_delay_s", "retry_delay"))
    retry_backoff: float = Field(default=2.0, ge=1)
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
    both_changed: BothChanged = BothChanged.OVERWRITE
    tombstone: str = Field(default="deleted_at", min_length=1)
    max_deletes: int | float = 0.5
    parallel: bool = False
    max_workers: int | None = Field(default=None, ge=1)
    worker_type: WorkerType = WorkerType.THREAD
    prefetch_bytes: int = Field(default=64 * 2**20, ge=0)
    limits: Limits = Limits()
    dry_run: bool = False
    incremental: bool = False
    resume: bool = False
    checkpoint_file: str | None = None
    mapping: AnyMapping | None = None
    ids: IdStrategy = IdStrategy()

    @model_validator(mode="before")
    @classmethod
    def _flatten_retry(cls, values: Any) -> Any:
        """Take ``retry: {..}`` apart."""
        if not isinstance(values, Mapping) or "retry" not in values:
            return values
        try:
            retry = _Retry.model_validate(values["retry"])
        except ValidationError as error:
            problems = [replace(found, place=("retry", *found.place)) for found in problems_of(error)]
            raise problems_error(problems, "the options") from error
        rest = {key: value for key, value in values.items() if key != "retry"}
        named = {"max_attempts": retry.max_retries, "retry_delay_s": retry.delay_s, "retry_backoff": retry.backoff}
        return {**rest, **{name: value for name, value in named.items() if value is not None}}

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
            yield Problem(("watermark",), "a field, if and only if detect is watermark", is_missing=True)
        yield from self.automation_problems(self.watermark)
        for name, sources in shared_names(self.vectors).items():
            yield Problem(("vectors", sources[-1]), f"{' and '.join(map(repr, sources))} would both become {name!r}")

    @property
    def noted_field(self) -> str | None:
        """The field whose largest value a sync notes: that of `Detect.WATERMARK`, or of a watch by one."""
        is_watched = self.watch is not None and self.watch.by is WatchBy.WATERMARK
        return self.watermark or (self.watch.field if self.watch is not None and is_watched else None)

    @property
    def retry_policy(self) -> RetryPolicy:
        """How often a request is tried, and after how long."""
        return RetryPolicy(self.max_attempts, self.retry_delay_s, self.retry_backoff)

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
