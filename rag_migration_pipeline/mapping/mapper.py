"""A mapping applied to batches: planned once, then operation by operation over copies of the payloads.

Belongs here: what a mapping does to a batch, in order, and which records it cannot be applied to, with the reason. Does
not belong here: the description and its checks (``mapping/``), the single operations (``fields.py``), what
becomes of records that cannot be mapped (``steps/transform.py``).

The payloads that come in are never changed. Objects inside them are copied where something inside them moves; where a
user's callable sees a whole record, all of it is copied first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.mapping import MappingChain, SchemaMapping
from rag_migration_pipeline.mapping.checks import id_source
from rag_migration_pipeline.mapping.fields import (
    Operation,
    Work,
    as_id,
    converter,
    default_operation,
    move_operation,
    record_operation,
    selection_operations,
    transform_operation,
)
from rag_migration_pipeline.mapping.hooks import call_hook, own_copy
from rag_migration_pipeline.mapping.paths import MISSING, parse_path, read
from rag_migration_pipeline.records import CollectionSpec, Payload, RecordBatch, RecordId


@dataclass(frozen=True)
class Mapped:
    """A batch after a mapping.

    Attributes:
        batch: The records that could be mapped, in order.
        failed: Row in the batch that was given -> why the record could not be mapped.
        is_fatal: Whether one of them was under the policy ``fail``.
        deprecated: Deprecated field -> how many records had it.
    """

    batch: RecordBatch
    failed: Mapping[int, str] = field(default_factory=dict)
    is_fatal: bool = False
    deprecated: Mapping[str, int] = field(default_factory=dict)


class Mapper:
    """One mapping, ready to be applied.

    Args:
        mapping: The mapping.
        now: What the default ``now`` stands for.
    """

    def __init__(self, mapping: SchemaMapping, now: datetime) -> None:
        self.mapping = mapping
        self.id_path = id_source(mapping)
        self._is_deep = bool(mapping.pre_hooks or mapping.per_record or mapping.post_hooks)
        self._operations: list[Operation] = [
            *selection_operations(mapping),
            *(
                transform_operation(parse_path(text), item, mapping.on_error)
                for text, item in mapping.transforms.items()
            ),
        ]
        if mapping.renames or mapping.id_from or mapping.document_from:
            self._operations.append(move_operation(mapping))
        if mapping.defaults:
            self._operations.append(default_operation(mapping, now))
        self._operations += [record_operation(function, mapping.on_error) for function in mapping.per_record]

    def apply(self, batch: RecordBatch) -> Mapped:
        """Return the mapped records and those that could not be mapped.

        Raises:
            SpecError: A hook raised, or returned something else than a batch of the same records.
        """
        if self.mapping.pre_hooks:
            batch = batch.with_columns(payloads=[own_copy(payload) for payload in batch.payloads])
        for hook in self.mapping.pre_hooks:
            batch = call_hook(hook, batch)
        work = Work(batch, is_deep=self._is_deep)
        for operation in self._operations:
            operation(work)
            work.sweep()
        has_documents = batch.documents is not None or any(text is not None for text in work.documents)
        columns: dict[str, Any] = {"payloads": work.payloads, "documents": work.documents if has_documents else None}
        if self.id_path is not None:
            columns |= {"ids": work.ids, "source_ids": batch.source_ids or batch.ids}
        result = batch.with_columns(**columns)
        if work.failed:
            result = result.take(work.rows)
        for hook in self.mapping.post_hooks:
            result = call_hook(hook, result)
        return Mapped(result, work.failed, work.is_fatal, work.deprecated)

    def map_id(self, payload: Payload) -> RecordId:
        """Return the id that a record with this payload gets; only the field that it comes from is looked at.

        Raises:
            ValueError: It is missing, null, or cannot be converted.
        """
        if self.id_path is None:
            raise TypeError("this mapping sets no id")
        value = read(payload, self.id_path)
        for text, transform in self.mapping.transforms.items():
            if value is not MISSING and parse_path(text) == self.id_path:
                value = converter(transform)(value)
        return as_id(value, self.id_path, self.mapping.id_kind)


class MappingPlan:
    """Mappings in a row: one, or those that lead from one version of a schema to another.

    Args:
        mappings: In the order in which they are applied; at least one.
        now: What the default ``now`` stands for.
    """

    def __init__(self, mappings: Sequence[SchemaMapping], now: datetime) -> None:
        self.mappers = [Mapper(mapping, now) for mapping in mappings]

    @property
    def sets_ids(self) -> bool:
        """Whether records get other ids."""
        return any(mapper.id_path is not None for mapper in self.mappers)

    @property
    def has_functions(self) -> bool:
        """Whether a user's code has a say; without, the same record always becomes the same one."""
        return any(mapper.mapping.has_functions for mapper in self.mappers)

    @property
    def id_mapper(self) -> Mapper | None:
        """The mapper that sets the ids from a field as the source has it; None where more than that field decides."""
        setting = [mapper for mapper in self.mappers if mapper.id_path is not None]
        is_alone = setting == self.mappers[:1] and not setting[0].mapping.pre_hooks
        return setting[0] if is_alone else None

    def apply(self, batch: RecordBatch) -> Mapped:
        """Return the records after all mappings; failed rows are those of the batch that was given.

        Raises:
            SpecError: A hook raised, or returned something else than a batch of the same records.
        """
        rows = list(range(len(batch)))
        failed: dict[int, str] = {}
        deprecated: Counter[str] = Counter()
        is_fatal = False
        for mapper in self.mappers:
            mapped = mapper.apply(batch)
            failed.update({rows[row]: reason for row, reason in mapped.failed.items()})
            rows = [row for position, row in enumerate(rows) if position not in mapped.failed]
            deprecated.update(mapped.deprecated)
            is_fatal = is_fatal or mapped.is_fatal
            batch = mapped.batch
        return Mapped(batch, failed, is_fatal, deprecated)


SCHEMA_VERSION_KEY = "_rmp_schema_version"
"""Key of the collection's metadata under which the version of its schema is kept."""


def recorded_version(spec: CollectionSpec) -> int | None:
    """Return the schema version that a collection records, or None.

    Raises:
        SpecError: Something else stands there.
    """
    found = spec.metadata.get(SCHEMA_VERSION_KEY)
    if found is None or (type(found) is int and found > 0):
        return found
    raise SpecError(
        f"collection {spec.name!r} has no number under {SCHEMA_VERSION_KEY} in its metadata.",
        todo="Remove it there, or put the version of its schema.",
    )


def made_version(mapping: SchemaMapping | MappingChain | None, recorded: int | None) -> int | None:
    """Return the schema version that comes out of a mapping, or None; without a mapping, the recorded one."""
    if mapping is None:
        return recorded
    return mapping.final_version if isinstance(mapping, MappingChain) else mapping.version


def with_version(spec: CollectionSpec, mapping: SchemaMapping | MappingChain | None) -> CollectionSpec:
    """Return a target's spec with the schema version that a mapping makes; none where a mapping names none."""
    if mapping is None:
        return spec
    version = made_version(mapping, None)
    kept = {key: value for key, value in spec.metadata.items() if key != SCHEMA_VERSION_KEY}
    return replace(spec, metadata=kept if version is None else {**kept, SCHEMA_VERSION_KEY: version})


def plan_mapping(
    mapping: SchemaMapping | MappingChain | None, ids: SchemaMapping | None, recorded: int | None, now: datetime
) -> MappingPlan | None:
    """Return what is done to the records of a migration, or None where they stay as they are.

    Args:
        mapping: The option ``mapping``.
        ids: What the option ``ids`` does, as a mapping (`id_strategy.IdStrategy.as_mapping`).
        recorded: The schema version that the source records, or None.
        now: What the default ``now`` stands for.

    Raises:
        SpecError: The mapping does not fit the source's version, or two parts set the id.
    """
    if mapping is None:
        chosen: tuple[SchemaMapping, ...] = ()
    elif isinstance(mapping, MappingChain):
        chosen = mapping.steps_from(recorded)
    else:
        chosen = (mapping,)
        if mapping.version is not None and recorded not in (None, mapping.version - 1):
            raise SpecError(
                f"the source records schema version {recorded}, the mapping makes {mapping.version} of "
                f"{mapping.version - 1}.",
                todo="Choose the mapping from the recorded version, or a chain of mappings.",
            )
    setting = [item for item in (ids, *chosen) if item is not None and id_source(item) is not None]
    if len(setting) > 1:
        raise SpecError(
            "the id is set more than once: by the option ids and the mapping, or by several mappings.",
            todo="Set it in one place.",
        )
    parts = (*chosen,) if ids is None else (ids, *chosen)
    # A manifest that was read has a time zone of pydantic's own, which no payload carries.
    return MappingPlan(parts, now.astimezone(UTC)) if parts else None
