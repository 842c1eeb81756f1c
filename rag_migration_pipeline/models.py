"""What the Python API returns: results and estimates, with the names that users know.

Belongs here: `MigrationResult`, `MigrationEstimate`. Does not belong here: how they come about (``engine.py``,
``steps/``), progress (``progress.py``).
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rag_migration_pipeline.steps.plan_view import MigrationPlan


@dataclass(frozen=True)
class MigrationResult:
    """What a migration did.

    Attributes:
        success: Everything that was to be carried is in the target, and nothing contradicts that; of a dry run, that
            nothing forbids the migration and no record would be set aside beyond ``max_rejected``.
        vectors_migrated: Records that this call carried; of a dry run, that it would carry.
        vectors_failed: Records of batches that failed, and records that were set aside.
        duration_seconds: Of the whole call.
        started_at: With its time zone, UTC.
        completed_at: With its time zone, UTC.
        errors: What went wrong, with range, batch and cause.
        metadata: batch_size, total_batches, validated, dry_run, filter, rejected, quarantine_file, checkpoint_file,
            rates, and what else is known: see docs/api.md.
    """

    success: bool
    vectors_migrated: int
    vectors_failed: int
    duration_seconds: float
    source_collection: str
    target_collection: str
    started_at: datetime
    completed_at: datetime
    errors: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def total_vectors(self) -> int:
        """Records that were processed: carried or failed."""
        return self.vectors_migrated + self.vectors_failed

    @property
    def success_rate(self) -> float:
        """Part of the processed records that was carried, in percent; 0.0 where nothing was processed."""
        return 100.0 * self.vectors_migrated / self.total_vectors if self.total_vectors else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "success": self.success,
            "vectors_migrated": self.vectors_migrated,
            "vectors_failed": self.vectors_failed,
            "total_vectors": self.total_vectors,
            "success_rate": self.success_rate,
            "duration_seconds": self.duration_seconds,
            "source_collection": self.source_collection,
            "target_collection": self.target_collection,
            "started_at": self.started_at.isoformat(),
            "completed_at": self.completed_at.isoformat(),
            "errors": list(self.errors),
            "metadata": self.metadata,
        }

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` with one row: the fields, and the plain values of the metadata."""
        import pandas as pd

        facts = self.to_dict()
        plain = {key: value for key, value in facts.pop("metadata").items() if not isinstance(value, dict | list)}
        return pd.DataFrame([{**facts, "errors": len(self.errors), **plain}])


@dataclass(frozen=True)
class MigrationEstimate:
    """What a migration would carry, and how long it would take.

    Attributes:
        total_vectors: Records that it would carry, after the filter.
        estimated_duration_seconds: By a timed probe of reads, and of writes where that was asked for.
        estimated_batches: Of the batch size that was asked for.
        source_dimension: Of the (first) vector; 0 where it has none.
        target_dimension: The same in the target; None where it has none.
        compatible: Whether nothing forbids the migration.
        warnings: What to know before: losses, refusals, what the probe did not try.
        size_bytes: Approximate size of the records.
        plan: The plan, with a verdict on every field and feature.
    """

    total_vectors: int
    estimated_duration_seconds: float
    estimated_batches: int
    source_dimension: int
    target_dimension: int | None
    compatible: bool
    warnings: list[str]
    size_bytes: int
    plan: MigrationPlan

    @property
    def vectors_per_second(self) -> float:
        """Records per second; 0.0 where there is nothing to carry."""
        return self.total_vectors / self.estimated_duration_seconds if self.estimated_duration_seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        names = (
            "total_vectors",
            "estimated_duration_seconds",
            "estimated_batches",
            "source_dimension",
            "target_dimension",
            "compatible",
            "warnings",
            "size_bytes",
            "vectors_per_second",
        )
        return {**{name: getattr(self, name) for name in names}, "plan": self.plan.to_dict()}

    def to_pandas(self) -> Any:
        """Return the verdicts of the plan as a ``pandas.DataFrame``."""
        return self.plan.to_pandas()
