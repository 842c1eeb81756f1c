"""Asset checks: the proof of a range and of the whole, as Dagster shows it, and as a person can ask for it again.

Belongs here: check names, definitions and evaluations. Does not belong here: the comparisons (``steps/``).
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from rag_migration_pipeline.errors import ValidationError
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.session import migration_context
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.spec import Validation
from rag_migration_pipeline.steps.report import compare_with_receipt, prove_collection

RANGE_CHECK = "records_identical"
COLLECTION_CHECK = "collection_identical"


@contextmanager
def evaluate_range(context: dg.OpExecutionContext, declaration: MigrationDeclaration, key: str) -> Iterator[None]:
    """Log the range's check as passed when the block ends, as failed when the target contradicts it."""
    with _evaluated(context, declaration, "loaded_ranges", RANGE_CHECK, key):
        yield


@contextmanager
def evaluate_collection(context: dg.OpExecutionContext, declaration: MigrationDeclaration) -> Iterator[None]:
    """Log the collection's check as passed when the block ends, as failed when the target contradicts it."""
    with _evaluated(context, declaration, "target_collection", COLLECTION_CHECK, None):
        yield


@contextmanager
def _evaluated(
    context: dg.OpExecutionContext, declaration: MigrationDeclaration, asset: str, name: str, key: str | None
) -> Iterator[None]:
    is_claimed = declaration.options.validate_target is Validation.FULL
    try:
        yield
    except ValidationError as error:
        _log(context, declaration, asset, name, key, passed=False, description=error.what)
        for contradicted in getattr(error.report, "contradicted", ()):
            _log(context, declaration, "loaded_ranges", RANGE_CHECK, contradicted, passed=False, description=error.what)
        raise
    if is_claimed:
        _log(context, declaration, asset, name, key, passed=True, description="every record read back is identical")


def _log(
    context: dg.OpExecutionContext,
    declaration: MigrationDeclaration,
    asset: str,
    name: str,
    key: str | None,
    *,
    passed: bool,
    description: str,
) -> None:
    evaluation = dg.AssetCheckEvaluation(
        asset_key=declaration.key(asset),
        check_name=name,
        passed=passed,
        partition=key,
        description=description[:1_000],
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
        with migration_context(context, declaration) as migration:
            for key in context.op_execution_context.partition_keys:
                migration.manifest.entry(key)
                if not migration.state.receipt(key).exists():
                    problems[key] = "no receipt: not loaded yet, or the last proof of the whole contradicted it"
                    continue
                findings = compare_with_receipt(migration, read_receipt(migration.state.receipt(key)))
                if not findings.is_clean:
                    problems[key] = findings.summary()
        text = "; ".join(f"{key}: {summary}" for key, summary in problems.items())
        return dg.AssetCheckResult(passed=not problems, description=text or "every record read back is identical")

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
                report = prove_collection(migration)
            except ValidationError as error:
                return dg.AssetCheckResult(passed=False, description=error.what[:1_000])
        return dg.AssetCheckResult(passed=report.is_proven, description=report.findings.summary())

    return collection_identical
