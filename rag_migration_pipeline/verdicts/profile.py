"""What the records that planning looked at hold, in the terms of the target: the ground of the verdicts on fields.

Belongs here: packing and screening a sample as the load will, and counting. Does not belong here: choosing and reading
the sample (``steps/planning.py``), types and sizes by key (``inference.py``), the verdicts (``verdicts/``).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rag_migration_pipeline.envelope import Layout, pack_some
from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.inference import SchemaProfile
from rag_migration_pipeline.payloads import has_typed, natural_form
from rag_migration_pipeline.records import CollectionSpec, DenseColumn, Payload, RecordBatch, VectorColumn
from rag_migration_pipeline.stores.capabilities import Capabilities, PayloadRules
from rag_migration_pipeline.stores.screening import screen
from rag_migration_pipeline.vector_choice import VectorRoute, route_vectors
from rag_migration_pipeline.vectors import presence
from rag_migration_pipeline.verdicts import RecordProfile

ScreenPayload = Callable[[CollectionSpec, Payload], str | None]


@dataclass(frozen=True)
class Sample:
    """Records of a source that planning looks at, as they leave the transform.

    Attributes:
        batches: A few, to pack and screen as the load will.
        schema: What all the records hold that typed fields are inferred from; None where none are.
        unmapped: Reason -> how many more the mapping cannot change for it.
    """

    batches: Sequence[RecordBatch] = ()
    schema: SchemaProfile | None = None
    unmapped: Mapping[str, int] = field(default_factory=dict)


def profile_records(
    sample: Sample,
    layout: Layout,
    spec: CollectionSpec,
    routes: Sequence[VectorRoute],
    capabilities: Capabilities,
    screen_payload: ScreenPayload | None = None,
) -> RecordProfile:
    """Return what the records hold, and why the target would set some of them aside.

    Args:
        sample: Records as they leave the transform.
        layout: How the target collection holds records.
        spec: The target collection, as it is or as it will be created.
        routes: Where each vector of the source goes.
        capabilities: What the target store can hold.
        screen_payload: The target's own check against the typed fields of a collection that exists.
    """
    schema = SchemaProfile()
    natural: Counter[str] = Counter()
    has_partitions = False
    rejected: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    zeros: Counter[str] = Counter()
    for batch in sample.batches:
        schema.add(batch, layout.payload)
        natural.update(_natural_keys(batch, layout.payload))
        has_partitions |= any(name is not None for name in batch.partitions or ())
        for name, column in batch.vectors.items():
            missing[name] += int(np.count_nonzero(~presence(column)))
            zeros[name] += _count_zero(column)
        rejected.update(_rejections(route_vectors(batch, routes), layout, spec, capabilities, screen_payload))
    return RecordProfile(
        schema, dict(natural), has_partitions, dict(rejected), dict(missing), dict(zeros), sample.unmapped
    )


def _rejections(
    batch: RecordBatch,
    layout: Layout,
    spec: CollectionSpec,
    capabilities: Capabilities,
    screen_payload: ScreenPayload | None,
) -> list[str]:
    """Return why records would be set aside, one reason per record."""
    try:
        packed, _, reasons = pack_some(batch, layout)
        _, rejections = screen(packed, spec, capabilities, screen_payload or _text_problem)
    except SchemaCompatibilityError:
        return []  # ids or vectors do not fit at all; they have verdicts of their own
    return [*reasons.values(), *(rejection.reason for rejection in rejections)]


def _natural_keys(batch: RecordBatch, rules: PayloadRules) -> list[str]:
    """Return the key of each value of a type beyond JSON that the target holds in its natural form only."""
    return [
        key
        for payload in batch.payloads
        for key, value in payload.items()
        if has_typed(value) and rules.refusal(key, value) and not rules.refusal(key, natural_form(value))
    ]


def _text_problem(spec: CollectionSpec, payload: Payload) -> str | None:
    """Return why a payload does not fit the text fields of a collection that is yet to be created."""
    for typed in spec.fields:
        value = payload.get(typed.name)
        if typed.max_length_bytes is not None and isinstance(value, str):
            size_bytes = len(value.encode("utf-8", "surrogatepass"))
            if size_bytes > typed.max_length_bytes:
                return f"the field {typed.name!r} holds at most {typed.max_length_bytes} bytes"
    return None


def _count_zero(column: VectorColumn) -> int:
    if not isinstance(column, DenseColumn):
        return 0
    is_zero = ~column.values.any(axis=1)
    return int(np.count_nonzero(is_zero if column.present is None else is_zero & column.present))
