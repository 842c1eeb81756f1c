"""Typed events that the steps emit. Progress bar, callback, logs, Dagster metadata and metrics only subscribe.

Belongs here: the events and how they are handed on. Does not belong here: anything that shows them.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rag_migration_pipeline.records import RecordId, Rejection


@dataclass(frozen=True)
class ManifestMade:
    """The source was cut into ranges, or the stored manifest was taken up again."""

    migration: str
    ranges: int
    records: int
    is_resumed: bool


@dataclass(frozen=True)
class BatchDone:
    """A step finished a batch of a range.

    Attributes:
        step: extract, filter, transform, load or validate.
        records: Records in the batch.
        size_bytes: Approximate size of the batch in bytes.
        duration_s: Seconds that the step spent on this batch.
    """

    migration: str
    range_key: str
    step: str
    records: int
    size_bytes: int
    duration_s: float


@dataclass(frozen=True)
class RangeStarted:
    """A range is begun.

    Attributes:
        records: Records that are to be carried of it.
        batches: About how many batches that will be.
    """

    migration: str
    range_key: str
    records: int
    batches: int


@dataclass(frozen=True)
class RangeFailed:
    """A range, or batches of it, failed; the others go on.

    Attributes:
        records: Records concerned.
        cause: Where, and why.
    """

    migration: str
    range_key: str
    records: int
    cause: str


@dataclass(frozen=True)
class FieldsDeprecated:
    """Records of a batch have fields that the mapping calls deprecated.

    Attributes:
        fields: Field -> how many records have it.
    """

    migration: str
    range_key: str
    fields: Mapping[str, int]


@dataclass(frozen=True)
class RecordsRejected:
    """Records were set aside by name."""

    migration: str
    range_key: str
    rejections: tuple[Rejection, ...]


@dataclass(frozen=True)
class RecordsSkipped:
    """Records were left as the target had them, under the conflict policy skip."""

    migration: str
    range_key: str
    ids: tuple[RecordId, ...]


@dataclass(frozen=True)
class BothSidesChanged:
    """Records changed in the source and in the target since the last sync; what the source has is written.

    Attributes:
        ids: As the target names them.
    """

    migration: str
    ids: tuple[RecordId, ...]


@dataclass(frozen=True)
class RecordsGone:
    """Planned records are gone from the source before they were carried; the plan goes on without them.

    Attributes:
        ids: As the source names them.
    """

    migration: str
    ids: tuple[RecordId, ...]


@dataclass(frozen=True)
class RequestRepeated:
    """A request failed for a reason that may pass, and is tried again.

    Attributes:
        address: The store's, without secrets.
        operation: What was asked.
        attempt: The attempt that failed, from 1.
        wait_s: Seconds until the next one.
        cause: Kind and sentence of the error.
    """

    address: str
    operation: str
    attempt: int
    wait_s: float
    cause: str


@dataclass(frozen=True)
class RangeProven:
    """A range's records were read back and equal what was to be written; its receipt is stored."""

    migration: str
    range_key: str
    records: int


@dataclass(frozen=True)
class CollectionProven:
    """The whole target collection was compared with the receipts."""

    migration: str
    records: int
    is_proven: bool


Event = (
    ManifestMade
    | BatchDone
    | FieldsDeprecated
    | RecordsRejected
    | RecordsSkipped
    | BothSidesChanged
    | RecordsGone
    | RequestRepeated
    | RangeStarted
    | RangeFailed
    | RangeProven
    | CollectionProven
)
EventSink = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """Do nothing with an event; the default sink."""


_subscribers: list[EventSink] = []
_guard = threading.Lock()


@contextmanager
def subscribe(sink: EventSink) -> Iterator[None]:
    """Hand every event that is published in this process to the sink, until the block ends."""
    with _guard:
        _subscribers.append(sink)
    try:
        yield
    finally:
        with _guard:
            _subscribers.remove(sink)


def publish(event: Event) -> None:
    """Hand an event to all subscribers of this process."""
    for sink in tuple(_subscribers):
        sink(event)
