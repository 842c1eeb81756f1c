"""Small batches, and mappings applied to them at one moment.

Belongs here: what several test files of the mapper need. Does not belong here: what must hold (the tests).
"""

from datetime import UTC, datetime
from typing import Any

import numpy as np

from rag_migration_pipeline.mapping import parse_mapping
from rag_migration_pipeline.mapping.mapper import Mapped, MappingPlan
from rag_migration_pipeline.records import DenseColumn, RecordBatch, RecordId

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def batch_of(payloads: list[Any], documents: list[Any] | None = None, ids: list[RecordId] | None = None) -> RecordBatch:
    """Return records with these payloads and a vector each; without ids they are called by their row."""
    vectors = {"": DenseColumn(np.arange(2.0 * len(payloads), dtype=np.float32).reshape(-1, 2))}
    return RecordBatch(ids or [f"r{row}" for row in range(len(payloads))], vectors, payloads, documents)


def apply(values: dict[str, Any], batch: RecordBatch) -> Mapped:
    """Return what a mapping, as a user writes it, makes of the records."""
    return MappingPlan([parse_mapping(values)], NOW).apply(batch)
