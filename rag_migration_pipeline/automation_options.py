"""Options of a migration that runs by itself in Dagster: when, on what changes, and who is told when it fails.

Belongs here: their names and checks. Does not belong here: schedules and sensors (``orchestration/``), the other
options (``options.py``).
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rag_migration_pipeline.problems import Problem, problems_error


class WatchBy(StrEnum):
    """What a watch looks at.

    Attributes:
        COUNT: The number of records in the source.
        IDS: Their ids.
        WATERMARK: Whether a field has larger values than before; and the number of records.
    """

    COUNT = "count"
    IDS = "ids"
    WATERMARK = "watermark"


class Watch(BaseModel):
    """How a source is looked at for changes, and how often.

    Attributes:
        every_s: Seconds between two looks; Dagster looks every 30 seconds at most.
        by: See `WatchBy`.
        field: The field of `WatchBy.WATERMARK`; by default the migration's ``watermark``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    every_s: int = Field(default=60, ge=1)
    by: WatchBy = WatchBy.COUNT
    field: str | None = None


class Notifier(BaseModel):
    """Who is told that a run failed.

    Attributes:
        to: ``log``, an ``https://`` URL that is sent JSON, ``slack``, or ``module:function`` of the user's own.
        secret_env: Environment variable of the key that signs the JSON, or of Slack's token.
        channel: Slack's channel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    to: str
    secret_env: str | None = None
    channel: str | None = None

    @property
    def is_url(self) -> bool:
        """Whether it is told by a request."""
        return self.to.startswith(("http://", "https://"))

    @model_validator(mode="after")
    def _check(self) -> Self:
        is_own = ":" in self.to and not self.is_url
        if self.to not in ("log", "slack") and not self.is_url and not is_own:
            said = "expected log, slack, an http(s) URL or module:function"
            raise problems_error([Problem(("to",), said)], "the options")
        if self.to == "slack" and not (self.channel and self.secret_env):
            said = "slack needs the channel, and in secret_env the variable of its token"
            raise problems_error([Problem(("to",), said)], "the options")
        return self


class AutomationOptions(BaseModel):
    """What a migration does by itself in Dagster; nothing of it changes what arrives.

    Attributes:
        schedule: When it is synced, as cron has it: ``0 2 * * *``.
        timezone: In which time zone that is meant.
        declarative: Whether the schedule is automation conditions of the assets instead: the manifest is made at that
            time, ranges are loaded that are missing, and the whole is proven when all are there. What the source
            changed in place is not carried then; a sync does.
        watch: Look at the source for changes, and sync when there are any; see `Watch`.
        notify: Who is told when a run failed; see `Notifier`.
        owners: Whose the assets are in Dagster: e-mail addresses, and teams as ``team:name``.
        max_lag_s: How long the last proof may be ago, in seconds, before Dagster calls the target stale.
        ranges_per_run: How many ranges one run of a backfill takes, so that several runs share it; None takes all.
    """

    schedule: str | None = None
    timezone: str = "UTC"
    declarative: bool = False
    watch: Watch | None = None
    notify: tuple[Notifier, ...] = ()
    owners: tuple[str, ...] = ()
    max_lag_s: float | None = Field(default=None, gt=0)
    ranges_per_run: int | None = Field(default=None, ge=1)

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, value: str | None) -> str | None:
        if value is not None and len(value.split()) != 5:
            raise ValueError("expected five fields as cron has them, e.g. 0 2 * * * for two o'clock every night")
        return value

    @field_validator("owners")
    @classmethod
    def _check_owners(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for owner in value:
            if not re.fullmatch(r"team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", owner):
                raise ValueError(f"expected e-mail addresses and teams such as team:data, got {owner!r}")
        return value

    @field_validator("timezone")
    @classmethod
    def _check_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("there is no such time zone; expected a name such as Europe/Berlin") from error
        return value

    def automation_problems(self, watermark: Any) -> Iterator[Problem]:
        """Yield what is wrong with these options together, beside the migration's watermark."""
        if self.declarative and self.schedule is None:
            yield Problem(("declarative",), "it needs a schedule: the time at which the manifest is made")
        if self.watch is not None and self.watch.by is WatchBy.WATERMARK and not (self.watch.field or watermark):
            yield Problem(("watch", "field"), "the field that grows with every change", is_missing=True)
        if self.watch is not None and self.watch.field and watermark and self.watch.field != watermark:
            yield Problem(("watch", "field"), f"another field than the migration's watermark, {watermark!r}")
