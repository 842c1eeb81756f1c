"""Results of checks as Dagster shows them: passed or not, how bad, and the numbers behind it.

Belongs here: turning what steps and stores say into results, and logging them. Does not belong here: which checks there
are and when they are evaluated (`checks`), the comparisons (``steps/``).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg

from rag_migration_pipeline.errors import MigrationError, RecordRejectedError
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.facts import quarantine_metadata
from rag_migration_pipeline.orchestration.words import METRIC_CHECK, QUARANTINE_CHECK
from rag_migration_pipeline.records import Rejection, id_text
from rag_migration_pipeline.steps.drift import SIDE, TARGET, VECTORS, VectorFacts
from rag_migration_pipeline.steps.integrity import Report
from rag_migration_pipeline.steps.plan_view import plain_line
from rag_migration_pipeline.steps.set_aside import Budget
from rag_migration_pipeline.steps.validate import Findings
from rag_migration_pipeline.stores.readiness import Readiness

SHOWN = 10
"""How many ids of a kind the metadata of a check name."""

_MOST = 1_000
_PAYLOAD = "payload keys"
_COLUMNS = ("vector", "as planned", "as found", "kept")


def log_evaluation(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    declaration: MigrationDeclaration,
    asset: str,
    name: str,
    key: str | None,
    result: dg.AssetCheckResult,
) -> None:
    """Log the evaluation of a check from an op of any job; of one partition, or of the whole asset."""
    evaluation = dg.AssetCheckEvaluation(
        asset_key=declaration.key(asset),
        check_name=name,
        passed=result.passed,
        partition=key,
        description=result.description,
        severity=result.severity,
        metadata=result.metadata,
    )
    context.log_event(evaluation)  # type: ignore[arg-type]  # accepted since 1.8, missing from the annotation in 1.13


def findings_metadata(found: Findings) -> dict[str, dg.MetadataValue]:
    """Return the numbers of a comparison, and the first ids of each kind of difference."""
    kinds = Counter("payload" if what.startswith(_PAYLOAD) else what for what in found.changed.values())
    numbers = {"compared": found.compared, **{name: len(getattr(found, name)) for name in _KINDS}}
    metadata: dict[str, dg.MetadataValue] = {name: dg.MetadataValue.int(value) for name, value in numbers.items()}
    if kinds:
        metadata["changed_by_kind"] = dg.MetadataValue.json({plain_line(what): n for what, n in kinds.items()})
    if not found.is_clean:
        first: dict[str, Any] = {name: _first(getattr(found, name)) for name in ("missing", "extra")}
        first["changed"] = {plain_line(i): plain_line(what) for i, what in islice(found.changed.items(), SHOWN)}
        metadata["first_ids"] = dg.MetadataValue.json(first)
    return metadata


_KINDS = ("missing", "extra", "changed")


def _first(ids: Iterable[str]) -> list[str]:
    return [plain_line(record_id) for record_id in islice(ids, SHOWN)]


def findings_of(error: MigrationError) -> Findings | None:
    """Return what differs, of an error of a range's check or of a proof; None where it does not say."""
    report = error.facts.get("report")
    return report.findings if isinstance(report, Report) else report if isinstance(report, Findings) else None


def metric_result(vectors: Sequence[VectorFacts]) -> dg.AssetCheckResult:
    """Return whether the target's vectors are as they were planned, with a table of them."""
    rows = [
        (item.name or "(unnamed)", item.planned or "none", item.found or "none", not item.differences)
        for item in vectors
    ]
    columns = [dg.TableColumn(name, "bool" if name == "kept" else "string") for name in _COLUMNS]
    records = [dg.TableRecord(dict(zip(_COLUMNS, row, strict=True))) for row in rows]
    wrong = [text for item in vectors for text in item.differences]
    return dg.AssetCheckResult(
        passed=not wrong,
        description=("; ".join(wrong) or "kind, dimension, metric and type of every vector are as planned")[:_MOST],
        metadata={"vectors": dg.MetadataValue.table(records, schema=dg.TableSchema(columns))},
    )


def readiness_result(found: Readiness) -> dg.AssetCheckResult:
    """Return whether searches see all of the target: a warning while the store builds, an error where it never will."""
    said = "searches see every record" if found.is_ready else "not ready for searches yet"
    said = "not ready for searches, and waiting does not help" if found.is_stuck else said
    metadata: dict[str, Any] = {"ready": found.is_ready, "loaded": found.is_loaded, "records": found.total}
    if found.indexed is not None:
        metadata["indexed"] = found.indexed
    return dg.AssetCheckResult(
        passed=found.is_ready,
        severity=dg.AssetCheckSeverity.ERROR if found.is_stuck else dg.AssetCheckSeverity.WARN,
        description=f"{said}: {found.detail}"[:_MOST],
        metadata=metadata,
    )


def quarantine_result(found: Budget, where: Path) -> dg.AssetCheckResult:
    """Return whether as few records are set aside as may be: a warning within the budget, an error beyond it."""
    count = len(found.rejections)
    said = f"{count} of {found.planned} records are set aside; {found.allowed}" if count else "no record is set aside"
    if found.over:
        said += f", also in each range; beyond it: {', '.join(found.over[:SHOWN])}"
    return dg.AssetCheckResult(
        passed=not count,
        severity=dg.AssetCheckSeverity.ERROR if found.is_over else dg.AssetCheckSeverity.WARN,
        description=said[:_MOST],
        metadata={
            "set_aside": count,
            "planned": found.planned,
            "ranges_over_budget": len(found.over),
            **_rejection_metadata(found.rejections),
            **quarantine_metadata(count, where),
        },
    )


def _rejection_metadata(rejections: Sequence[Rejection]) -> dict[str, dg.MetadataValue]:
    if not rejections:
        return {}
    reasons = Counter(plain_line(item.reason) for item in rejections)
    first = {plain_line(id_text(item.record_id)): plain_line(item.reason) for item in rejections[:SHOWN]}
    named: dict[str, Mapping[str, Any]] = {"first_ids": first, "reasons": dict(reasons.most_common(SHOWN))}
    return {name: dg.MetadataValue.json(value) for name, value in named.items()}


def log_what_failed(context: object, declaration: MigrationDeclaration, error: MigrationError) -> None:
    """Log the check that an error contradicts which ends a step before the proof: other vectors, a budget overrun.

    A proof that was made logs its checks itself, and a check that is run by hand has a result of its own.
    """
    if not isinstance(context, dg.OpExecutionContext | dg.AssetExecutionContext):
        return
    name, metadata = None, {}
    if error.facts.get(SIDE) == TARGET and error.facts.get(VECTORS):
        name = METRIC_CHECK
    elif isinstance(error, RecordRejectedError) and "quarantine" in error.facts and "report_page" not in error.facts:
        name, rejections = QUARANTINE_CHECK, error.facts.get("rejections", ())
        metadata = {"set_aside": dg.MetadataValue.int(len(rejections)), **_rejection_metadata(rejections)}
    if name is not None:
        result = dg.AssetCheckResult(passed=False, description=error.what[:_MOST], metadata=metadata)
        log_evaluation(context, declaration, "target_collection", name, None, result)
