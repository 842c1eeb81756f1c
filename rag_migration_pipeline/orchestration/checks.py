"""Asset checks: the proof of a range and of the whole, as Dagster shows it, and as a person can ask for it again.

Belongs here: check names, definitions and evaluations. Does not belong here: the comparisons (``steps/``).

Where all records that were written are identical, but some were set aside within the error budget, a check fails with
the severity WARN: the run goes on, and the UI shows it.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from rag_migration_pipeline.errors import RecordRejectedError, ValidationError
from rag_migration_pipeline.options import Validation
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.facts import page_metadata, range_timings
from rag_migration_pipeline.orchestration.session import migration_context
from rag_migration_pipeline.orchestration.words import COLLECTION_CHECK, RANGE_CHECK
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.steps.receipt_comparison import compare_with_receipt
from rag_migration_pipeline.steps.report import prove_collection


@dataclass
class Proof:
    """What a block under evaluation says of its proof.

    Attributes:
        rejected: Records that were set aside.
        where: Their quarantine file or folder.
        page: The page of the proof of the whole; None for a range.
    """

    rejected: int = 0
    where: Path | None = None
    page: Path | None = None

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
            metadata=page_metadata(self.page),
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
    is_claimed = declaration.options.validate_target is Validation.FULL
    proof = Proof()
    try:
        yield proof
    except (ValidationError, RecordRejectedError) as error:
        _log(context, declaration, asset, name, key, _failed(error))
        if isinstance(error, ValidationError):
            for contradicted in getattr(error.report, "contradicted", ()):
                _log(context, declaration, "loaded_ranges", RANGE_CHECK, contradicted, _failed(error))
        raise
    if is_claimed:
        _log(context, declaration, asset, name, key, proof.result())


def _failed(error: ValidationError | RecordRejectedError) -> dg.AssetCheckResult:
    """Return the result of a check that an error ended; it leads to the page of the proof, where one was made."""
    page = page_metadata(error.facts.get("report_page"))
    return dg.AssetCheckResult(passed=False, description=error.what[:1_000], metadata=page)


def _log(
    context: dg.OpExecutionContext,
    declaration: MigrationDeclaration,
    asset: str,
    name: str,
    key: str | None,
    result: dg.AssetCheckResult,
) -> None:
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


def build_checks(declaration: MigrationDeclaration) -> list[dg.AssetChecksDefinition]:
    """Return the migration's checks; run by hand they read the target again and compare with the receipts."""
    with warnings.catch_warnings():
        # Partitioned checks are in preview on Dagster 1.13; a test watches that they work.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [_range_check(declaration), _collection_check(declaration)]


def _range_check(declaration: MigrationDeclaration) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=declaration.key("loaded_ranges"),
        name=RANGE_CHECK,
        partitions_def=declaration.partitions,
        required_resource_keys=declaration.resource_keys,
        description="Every record of the range is in the target as it was written.",
    )
    def records_identical(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        problems = {}
        proof = Proof()
        with migration_context(context, declaration) as migration:
            for key in context.op_execution_context.partition_keys:
                migration.manifest.entry(key)
                if not migration.state.receipt(key).exists():
                    problems[key] = "no receipt: not loaded yet, or the last proof of the whole contradicted it"
                    continue
                receipt = read_receipt(migration.state.receipt(key))
                proof.take_in(receipt.counts.get("rejected", 0), migration.state.quarantine(key))
                findings = compare_with_receipt(migration, receipt)
                if not findings.is_clean:
                    problems[key] = findings.summary()
        text = "; ".join(f"{key}: {summary}" for key, summary in problems.items())
        if problems:
            return dg.AssetCheckResult(passed=False, description=text)
        return proof.result()

    return records_identical


def _collection_check(declaration: MigrationDeclaration) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=declaration.key("target_collection"),
        name=COLLECTION_CHECK,
        required_resource_keys=declaration.resource_keys,
        description="The target collection is exactly what all ranges wrote, and what was there before.",
    )
    def collection_identical(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with migration_context(context, declaration) as migration:
            try:
                timings = range_timings(context.instance, declaration, migration.manifest)
                report = prove_collection(migration, timings=timings)
            except (ValidationError, RecordRejectedError) as error:
                return _failed(error)
            page = page_metadata(migration.state.report_page)
            if not report.is_proven:
                return dg.AssetCheckResult(passed=False, description=report.findings.summary(), metadata=page)
            quarantine = migration.state.quarantines(migration.manifest.plan_digest)
            return Proof(report.rejected, quarantine, migration.state.report_page).result()

    return collection_identical
