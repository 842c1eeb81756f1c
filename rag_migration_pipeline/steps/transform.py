"""Transform: changes records on the way, as the migration's mapping says; without a mapping batches pass as they are.

Belongs here: applying a mapping to batches, setting aside what cannot be mapped. Does not belong here: what a mapping
does (``mapping/mapper.py``), what the target can hold (``envelope/``).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from rag_migration_pipeline.errors import RecordRejectedError
from rag_migration_pipeline.events import EventSink, FieldsDeprecated
from rag_migration_pipeline.mapping.mapper import MappingPlan
from rag_migration_pipeline.records import RecordBatch, Rejection, SetAside, id_text

STAGE = "transform"
SHOWN = 10

Warn = Callable[[Mapping[str, int]], None]
"""Takes deprecated fields, each with the number of records that had it."""


def transform_batches(
    batches: Iterable[RecordBatch], mapping: MappingPlan | None, set_aside: SetAside, warn: Warn | None = None
) -> Iterator[RecordBatch]:
    """Return the batches as the mapping makes them; empty ones are left out.

    Args:
        batches: Records as they were read; not changed.
        mapping: The mapping, or None: then the iterator comes back as it is.
        set_aside: Takes the records that cannot be mapped, as they were read.
        warn: Is told of deprecated fields.

    Raises:
        RecordRejectedError: A record cannot be mapped, under the policy ``fail``.
        SpecError: A hook raised, or returned something else than a batch of the same records.
    """
    if mapping is None:
        return iter(batches)
    mapped = (transform_batch(batch, mapping, set_aside, warn)[0] for batch in batches)
    return (batch for batch in mapped if len(batch))


def transform_batch(
    batch: RecordBatch, mapping: MappingPlan, set_aside: SetAside, warn: Warn | None = None
) -> tuple[RecordBatch, RecordBatch]:
    """Return a batch as the mapping makes it, and the same records as they were read; see `transform_batches`."""
    mapped = mapping.apply(batch)
    found = {name: count for name, count in mapped.deprecated.items() if count}
    if found and warn is not None:
        warn(found)
    if not mapped.failed:
        return mapped.batch, batch
    rows = sorted(mapped.failed)
    rejections = [Rejection(batch.ids[row], STAGE, mapped.failed[row]) for row in rows]
    if mapped.is_fatal:
        raise _refusal(rejections)
    set_aside(batch.take(rows), rejections)
    return mapped.batch, batch.take([row for row in range(len(batch)) if row not in mapped.failed])


def warning(emit: EventSink, migration: str, range_key: str) -> Warn:
    """Return what emits an event for deprecated fields of a range."""
    return lambda fields: emit(FieldsDeprecated(migration, range_key, fields))


def _refusal(rejections: list[Rejection]) -> RecordRejectedError:
    shown = "; ".join(f"{id_text(item.record_id)[:80]!r}: {item.reason}" for item in rejections[:SHOWN])
    return RecordRejectedError(
        f"{len(rejections)} records cannot be mapped: {shown}.",
        todo="Change the mapping or these records, or set on_error to quarantine; see docs/mapping.md.",
        rejections=tuple(rejections),
    )
