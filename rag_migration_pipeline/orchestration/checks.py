"""Asset checks: the proof of a range and of the whole, as Dagster shows it, and as a person can ask for it again.

Belongs here: check names, definitions and evaluations. Does not belong here: the comparisons (``steps/``).

Where all records that were written are identical, but some were set aside within the error budget, a check fails with
the severity WARN: the run goes on, and the UI shows it.
"""

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from rag_migration_pipeline.errors import MigrationError, RecordRejectedError, SchemaCompatibilityError, ValidationError
from rag_migration_pipeline.options import Validation
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.evaluations import (
    findings_metadata,
    findings_of,
    log_evaluation,
    metric_result,
    quarantine_result,
    readiness_result,
)
from rag_migration_pipeline.orchestration.facts import page_metadata, range_timings
from rag_migration_pipeline.orchestration.session import migration_context
from rag_migration_pipeline.orchestration.words import (
    COLLECTION_CHECK,
    INDEX_CHECK,
    METRIC_CHECK,
    QUARANTINE_CHECK,
    RANGE_CHECK,
)
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.drift import vector_facts
from rag_migration_pipeline.steps.integrity import Report
from rag_migration_pipeline.steps.receipt_comparison import compare_with_receipt
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.steps.set_aside import budget_of
from rag_migration_pipeline.steps.validate import Findings, total_findings

Judge = Callable[[MigrationContext], dg.AssetCheckResult]


@dataclass
class Proof:
    """What a block under evaluation says of its proof.

    Attributes:
        rejected: Records that were set aside.
        where: Their quarantine file or folder.
        page: The page of the proof of the whole; None for a range.
        findings: What was compared.
        is_partial: Whether records were left to a later run; then nothing is claimed, unless something differs.
    """

    rejected: int = 0
    where: Path | None = None
    page: Path | None = None
    findings: Findings = field(default_factory=Findings)
    is_partial: bool = False

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        """How bad it is that records were set aside; a check that passes shows none."""
        return dg.AssetCheckSeverity.WARN if self.rejected else dg.AssetCheckSeverity.ERROR

    @property
    def description(self) -> str:
        """What the check says where nothing that was written differs."""
        identical = "every record read back is identical"
        return f"{self.rejected} records were set aside in {self.where}; {identical}" if self.rejected else identical

    def take_in(self, rejected: int, where: Path) -> None:
        """Add what a range set aside."""
        if rejected:
            self.rejected += rejected
            self.where = self.where or where

    def result(self) -> dg.AssetCheckResult:
        """Return the result of a check that found nothing different."""
        return dg.AssetCheckResult(
            passed=not self.rejected,
            severity=self.severity,
            description=self.description[:1_000],
            metadata={**findings_metadata(self.findings), **page_metadata(self.page)},
        )


@contextmanager
def evaluate_range(context: dg.OpExecutionContext, declaration: MigrationDeclaration, key: str) -> Iterator[Proof]:
    """Log the range's check as passed when the block ends, as failed when the target contradicts it."""
    with _evaluated(context, declaration, "loaded_ranges", RANGE_CHECK, key) as proof:
        yield proof


@contextmanager
def evaluate_collection(context: dg.OpExecutionContext, declaration: MigrationDeclaration) -> Iterator[Proof]:
    """Log the collection's check as passed when the block ends, as failed when the target contradicts it."""
    with _evaluated(context, declaration, "target_collection", COLLECTION_CHECK, None) as proof:
        yield proof


@contextmanager
def _evaluated(
    context: dg.OpExecutionContext, declaration: MigrationDeclaration, asset: str, name: str, key: str | None
) -> Iterator[Proof]:
    is_claimed = declaration.options_in(context.resources).validate_target is Validation.FULL
    proof = Proof()
    try:
        yield proof
    except (ValidationError, RecordRejectedError, SchemaCompatibilityError) as error:
        log_evaluation(context, declaration, asset, name, key, _failed(error))
        if isinstance(report := error.facts.get("report"), Report):
            for contradicted in report.contradicted:
                result = _contradicted(error, report, contradicted)
                log_evaluation(context, declaration, "loaded_ranges", RANGE_CHECK, contradicted, result)
        raise
    if is_claimed and not proof.is_partial:
        log_evaluation(context, declaration, asset, name, key, proof.result())


def _failed(error: MigrationError) -> dg.AssetCheckResult:
    """Return the result of a check that an error ended; it leads to the page of the proof, where one was made."""
    found = findings_of(error)
    numbers = {} if found is None else findings_metadata(found)
    page = page_metadata(error.facts.get("report_page"))
    return dg.AssetCheckResult(passed=False, description=error.what[:1_000], metadata={**numbers, **page})


def _contradicted(error: MigrationError, report: Report, key: str) -> dg.AssetCheckResult:
    """Return the result of a range that the proof of the whole contradicts, with the range's own numbers."""
    named = [record_id for record_id, where in report.range_of.items() if where == key]
    changed = {
        record_id: report.findings.changed[record_id] for record_id in named if record_id in report.findings.changed
    }
    found = Findings(0, tuple(record_id for record_id in named if record_id not in changed), (), changed)
    result, facts = _failed(error), next(item for item in report.range_facts if item.key == key)
    counts = {name: dg.MetadataValue.int(getattr(facts, name)) for name in ("compared", "missing", "changed")}
    metadata = {**(result.metadata or {}), **findings_metadata(found), **counts}  # of more than are named
    return dg.AssetCheckResult(passed=False, description=result.description, metadata=metadata)


def proven_collection(
    context: dg.OpExecutionContext,
    declaration: MigrationDeclaration,
    migration: MigrationContext,
    only: Collection[str] | None = None,
) -> Report:
    """Prove the whole collection, and log all checks of it; those of its condition also where the proof fails.

    Args:
        context: The op's, in whichever job.
        declaration: The migration.
        migration: Its context.
        only: The ranges to read back; see `prove_collection`.
    """

    def tell(report: Report) -> None:
        results = {METRIC_CHECK: metric_result(report.vectors), QUARANTINE_CHECK: _judge_quarantine(migration)}
        if report.readiness is not None:
            results[INDEX_CHECK] = readiness_result(report.readiness)
        for name, result in results.items():
            log_evaluation(context, declaration, "target_collection", name, None, result)

    with evaluate_collection(context, declaration) as proof:
        timings = range_timings(context.instance, declaration, migration.manifest)
        report = prove_collection(migration, only, timings, tell)
        proof.take_in(report.rejected, migration.state.quarantines(migration.manifest.plan_digest))
        proof.page, proof.findings = migration.state.report_page, report.findings
    return report


def build_checks(declaration: MigrationDeclaration) -> list[dg.AssetChecksDefinition]:
    """Return the migration's checks; run by hand they look at the target again."""
    with warnings.catch_warnings():
        # Partitioned checks are in preview on Dagster 1.13; a test watches that they work.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            _range_check(declaration),
            _collection_check(declaration),
            *(_condition_check(declaration, name, *rest) for name, rest in _CONDITIONS.items()),
        ]


def _judge_vectors(migration: MigrationContext) -> dg.AssetCheckResult:
    name = migration.migration.target_collection
    migration.target.forget_spec(name)
    return metric_result(vector_facts(migration.manifest.target_spec, migration.target.spec(name)))


def _judge_readiness(migration: MigrationContext) -> dg.AssetCheckResult:
    return readiness_result(migration.target.readiness(migration.migration.target_collection))


def _judge_quarantine(migration: MigrationContext) -> dg.AssetCheckResult:
    where = migration.state.quarantines(migration.manifest.plan_digest)
    return quarantine_result(budget_of(migration), where)


_CONDITIONS: dict[str, tuple[str, Judge]] = {
    METRIC_CHECK: ("Kind, dimension, metric and type of every vector of the target are as planned.", _judge_vectors),
    INDEX_CHECK: (
        "Searches see all of the target: it is indexed and, in Milvus, loaded. A warning while the store builds.",
        _judge_readiness,
    ),
    QUARANTINE_CHECK: (
        "No more records are set aside than max_rejected allows. A warning below that.",
        _judge_quarantine,
    ),
}


def _condition_check(
    declaration: MigrationDeclaration, name: str, description: str, judge: Judge
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=declaration.key("target_collection"),
        name=name,
        required_resource_keys=declaration.resource_keys,
        description=description,
        blocking=True,
    )
    def condition(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with migration_context(context, declaration, as_found=True) as migration:
            return judge(migration)

    return condition


def _range_check(declaration: MigrationDeclaration) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=declaration.key("loaded_ranges"),
        name=RANGE_CHECK,
        partitions_def=declaration.partitions,
        required_resource_keys=declaration.resource_keys,
        description="Every record of the range is in the target as it was written.",
    )
    def records_identical(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        problems: dict[str, str] = {}
        compared: list[Findings] = []
        proof = Proof()
        with migration_context(context, declaration) as migration:
            for key in context.op_execution_context.partition_keys:
                migration.manifest.entry(key)
                if not migration.state.receipt(key).exists():
                    problems[key] = "no receipt: not loaded yet, or the last proof of the whole contradicted it"
                    continue
                receipt = read_receipt(migration.state.receipt(key))
                proof.take_in(receipt.counts.get("rejected", 0), migration.state.quarantine(key))
                compared.append(compare_with_receipt(migration, receipt))
                if not compared[-1].is_clean:
                    problems[key] = compared[-1].summary()
        text = "; ".join(f"{key}: {summary}" for key, summary in problems.items())
        proof.findings = total_findings(compared)
        if problems:
            return dg.AssetCheckResult(passed=False, description=text, metadata=findings_metadata(proof.findings))
        return proof.result()

    return records_identical


def _collection_check(declaration: MigrationDeclaration) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=declaration.key("target_collection"),
        name=COLLECTION_CHECK,
        required_resource_keys=declaration.resource_keys,
        blocking=True,
        description="The target collection is exactly what all ranges wrote, and what was there before.",
    )
    def collection_identical(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with migration_context(context, declaration) as migration:
            try:
                timings = range_timings(context.instance, declaration, migration.manifest)
                report = prove_collection(migration, timings=timings)
            except (ValidationError, RecordRejectedError) as error:
                return _failed(error)
            if not report.is_proven:
                metadata = {**findings_metadata(report.findings), **page_metadata(migration.state.report_page)}
                return dg.AssetCheckResult(passed=False, description=report.findings.summary(), metadata=metadata)
            quarantine = migration.state.quarantines(migration.manifest.plan_digest)
            return Proof(report.rejected, quarantine, migration.state.report_page, report.findings).result()

    return collection_identical
