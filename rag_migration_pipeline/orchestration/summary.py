"""What is known of a migration on an instance: proven or not, records, ranges, seconds, what stopped it.

Belongs here: reading Dagster's events and the migration's state. Does not belong here: printing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg

from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration


@dataclass(frozen=True)
class Leg:
    """A migration as a table shows it.

    Attributes:
        duration_s: Seconds of all its runs on the instance, from first step to last.
        is_proven: The latest proof covers all ranges and found nothing missing, extra or changed.
    """

    name: str
    records: int
    ranges: int
    duration_s: float
    is_proven: bool
    error: str = ""


def summarize_leg(
    declaration: MigrationDeclaration, instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult | None = None
) -> Leg:
    """Return what the instance knows of a migration; ``result`` is the run that just ended, for its error."""
    event = instance.get_latest_materialization_event(declaration.key("target_collection"))
    materialization = event.asset_materialization if event is not None else None
    metadata = materialization.metadata if materialization is not None else {}
    is_proven = bool(metadata and metadata["proven"].value) and (result is None or result.success)
    return Leg(
        name=declaration.name,
        records=int(str(metadata["records written"].value)) if metadata else 0,
        ranges=int(str(metadata["ranges"].value)) if metadata else 0,
        duration_s=_duration_s(declaration, instance),
        is_proven=is_proven,
        error="" if result is None else "; ".join(_errors(result)),
    )


def _duration_s(declaration: MigrationDeclaration, instance: dg.DagsterInstance) -> float:
    total = 0.0
    for record in instance.get_run_records(dg.RunsFilter(job_name=f"{declaration.name}__migrate")):
        if record.start_time is not None and record.end_time is not None:
            total += record.end_time - record.start_time
    return total


def _errors(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data.user_failure_data
            error = event.step_failure_data.error
            yield failure.description or "" if failure else (error.to_string()[:500] if error else "unknown error")
