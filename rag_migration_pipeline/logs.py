"""Logs of a run: events as lines for people or as JSON, with ids by which the lines of a run are found.

Belongs here: the form of a line, what is logged of an event. Does not belong here: what happened (``events.py``).

A JSON line has time (UTC), level, logger, message, and what is known of: migration, run_id, range, correlation_id
(``<run>`` or ``<run>:<range>``), and the facts of its event under ``event``. Secrets of the stores are replaced by
``***`` wherever they would stand.
"""

import json
import logging
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import SecretStr

from rag_migration_pipeline.events import (
    BatchDone,
    BothSidesChanged,
    CollectionProven,
    Event,
    FieldsDeprecated,
    ManifestMade,
    RangeFailed,
    RangeProven,
    RangeStarted,
    RecordsGone,
    RecordsRejected,
    RecordsSkipped,
    RequestRepeated,
)
from rag_migration_pipeline.records import id_text

LogForm = Literal["text", "json"]
ROOT = "rag_migration_pipeline"
_log = logging.getLogger(f"{ROOT}.run")
_MASK = "***"


class RunLog:
    """Logs the events of one run of one migration.

    Attributes:
        run_id: 12 hex digits, new for every run.
    """

    def __init__(self, migration: str) -> None:
        """Name the migration."""
        self.migration = migration
        self.run_id = uuid.uuid4().hex[:12]

    def take(self, event: Event) -> None:
        """Log an event."""
        level, message = _said(event)
        if _log.isEnabledFor(level):
            key = getattr(event, "range_key", None)
            self._write(level, message, key, {"event": {"type": type(event).__name__, **_facts(event)}})

    def say(self, message: str, level: int = logging.INFO) -> None:
        """Log something that is no event."""
        self._write(level, message, None, {})

    def _write(self, level: int, message: str, key: str | None, extra: dict[str, Any]) -> None:
        correlation = f"{self.run_id}:{key}" if key else self.run_id
        ids = {"migration": self.migration, "run_id": self.run_id, "correlation_id": correlation}
        _log.log(level, message, extra={**ids, **({"range": key} if key else {}), **extra})


class _JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("migration", "run_id", "range", "correlation_id", "event"):
            if hasattr(record, name):
                facts[name] = getattr(record, name)
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return json.dumps(facts, ensure_ascii=False, default=str)


class Secrets:
    """Texts that are shown nowhere."""

    def __init__(self) -> None:
        """There are none yet."""
        self._texts: set[str] = set()

    def add(self, *settings: object) -> None:
        """Take in the secrets that settings of stores hold."""
        for item in settings:
            if is_dataclass(item):
                values = (getattr(item, field.name) for field in fields(item))
                self._texts |= {value.get_secret_value() for value in values if isinstance(value, SecretStr)}

    def masked(self, text: str) -> str:
        """Return a text without them; one of fewer than four characters would tear it apart, and stays."""
        for secret in sorted(self._texts, key=len, reverse=True):
            if len(secret) > 3:
                text = text.replace(json.dumps(secret)[1:-1], _MASK).replace(secret, _MASK)
        return text


class _Masked(logging.Formatter):
    """Another formatter's lines without the secrets."""

    def __init__(self, inner: logging.Formatter, secrets: Secrets) -> None:
        super().__init__()
        self._inner = inner
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return self._secrets.masked(self._inner.format(record))


@contextmanager
def logging_to_stderr(form: LogForm, level: str, secrets: Secrets) -> Iterator[None]:
    """Write the project's log to standard error while the block runs.

    Args:
        form: Lines for people, or JSON.
        level: debug, info, warning or error.
        secrets: What is masked.
    """
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_Masked(_JsonFormatter() if form == "json" else plain, secrets))
    logger = logging.getLogger(ROOT)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


_OF_THE_SOURCE: dict[type, str] = {
    BothSidesChanged: "changed in the source and in the target; what is so in the source is taken",
    RecordsGone: "are gone from the source since they were planned, and left out",
}


def _said(event: Event) -> tuple[int, str]:
    match event:
        case ManifestMade():
            way = "taken up again" if event.is_resumed else "made"
            return logging.INFO, f"plan {way}: {event.records} records in {event.ranges} ranges"
        case RangeStarted():
            return logging.INFO, f"range {event.range_key} started: {event.records} records"
        case BatchDone():
            return logging.DEBUG, f"range {event.range_key}, {event.step}: {event.records} records"
        case RangeProven():
            return logging.INFO, f"range {event.range_key} proven: {event.records} records"
        case RangeFailed():
            return logging.ERROR, event.cause
        case RequestRepeated():
            said = f"{event.address}: {event.operation} failed at attempt {event.attempt}"
            return logging.WARNING, f"{said}, again in {event.wait_s:g} s: {event.cause}"
        case RecordsRejected():
            return logging.WARNING, f"range {event.range_key}: {len(event.rejections)} records set aside"
        case RecordsSkipped():
            return logging.INFO, f"range {event.range_key}: {len(event.ids)} records skipped"
        case BothSidesChanged() | RecordsGone():
            said = _OF_THE_SOURCE[type(event)]
            return logging.WARNING, f"{len(event.ids)} records {said}: {', '.join(map(id_text, event.ids[:10]))}"
        case FieldsDeprecated():
            return logging.WARNING, f"range {event.range_key}: deprecated fields: {', '.join(event.fields)}"
        case CollectionProven():
            word = "proven" if event.is_proven else "NOT proven"
            return logging.INFO, f"collection {word}: {event.records} records"


def _facts(event: Event) -> dict[str, Any]:
    facts = asdict(event)
    if isinstance(event, RecordsRejected):
        facts["rejections"] = [
            {"id": id_text(item.record_id), "stage": item.stage, "reason": item.reason} for item in event.rejections
        ]
    if isinstance(event, RecordsSkipped | BothSidesChanged | RecordsGone):
        facts["ids"] = [id_text(item) for item in event.ids]
    return facts
