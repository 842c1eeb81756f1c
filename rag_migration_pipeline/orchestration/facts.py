"""What Dagster shows and remembers of a migration: metadata, provenance tags, partitions.

Belongs here: turning manifests, receipts and reports into Dagster's values. Does not belong here: making them.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from rag_migration_pipeline.options import Deletes
from rag_migration_pipeline.orchestration.columns import column_schema
from rag_migration_pipeline.orchestration.declaration import CODE_VERSION, MigrationDeclaration
from rag_migration_pipeline.orchestration.staging import StagedRange
from rag_migration_pipeline.orchestration.words import PAGE
from rag_migration_pipeline.receipts import Receipt
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.integrity import Timing
from rag_migration_pipeline.steps.manifest import Manifest, manifest_fingerprint
from rag_migration_pipeline.steps.plan_view import verdict_table
from rag_migration_pipeline.steps.report import Report

QUARANTINE = "quarantine"
"""Name of the metadata entry that leads to the records that were set aside, where there are any."""

_READ, _SECONDS = "records read", " seconds"
_PAGE_COUNT = 1_000


def register_partitions(instance: dg.DagsterInstance, declaration: MigrationDeclaration, manifest: Manifest) -> None:
    """Make the instance's partitions of the migration exactly those of the manifest."""
    name = f"{declaration.name}_ranges"
    keys = [entry.key for entry in manifest.ranges]
    there = set(instance.get_dynamic_partitions(name))
    for key in there - set(keys):
        instance.delete_dynamic_partition(name, key)  # of an earlier generation, or of another plan
    new = [key for key in keys if key not in there]
    if not new:
        return
    try:
        instance.add_dynamic_partitions(name, new)
    except Exception:  # the database's own error, if another run has added one of them since they were looked up
        there = set(instance.get_dynamic_partitions(name))
        if there.isdisjoint(new):
            raise
        left = [key for key in new if key not in there]
        if left:
            instance.add_dynamic_partitions(name, left)


def manifest_metadata(manifest: Manifest) -> Mapping[str, Any]:
    """Return what the UI shows of a manifest."""
    vectors = [
        f"{vector.name or '(unnamed)'}: {vector.kind}, {vector.dimension} dimensions, {vector.metric}"
        for vector in manifest.source_spec.vectors
    ]
    return {
        "dagster/row_count": manifest.count,
        "ranges": len(manifest.ranges),
        "plan": manifest.plan_digest,
        "generation": manifest.generation,
        "vectors": dg.MetadataValue.text("; ".join(vectors)),
        "target existed": manifest.target_existed,
        "records in the target before": manifest.known_count,
        "ids digest": manifest.ids_digest,
        "planned at": dg.MetadataValue.timestamp(manifest.created_at),
        "target collection": manifest.target_spec.name,
        "ids": ", ".join(f"{count} {way}" for way, count in manifest.plan.id_mapping.items()) or "none",
        "verdicts": dg.MetadataValue.md(verdict_table(manifest.plan.verdicts)),
    }


def retired_metadata(before: Manifest, later: Manifest, deletes: Deletes) -> Mapping[str, Any]:
    """Return what the UI shows of ranges that are no more, and of what became of their records."""
    kept = {entry.key for entry in later.ranges}
    gone = [entry.key for entry in before.ranges if entry.key not in kept]
    if not gone or before.plan_digest != later.plan_digest:
        return {}
    fate = "deleted from the target" if deletes is Deletes.MIRROR else f"kept in the target (deletes: {deletes})"
    text = f"{', '.join(gone[:100])}: the source has none of their records any more; these were {fate}"
    return {"ranges retired": dg.MetadataValue.text(text)}


def lag_metadata(held: Any, newest: Any) -> dict[str, Any]:
    """Return the watermarks of target and source, and how far they are apart: dates in seconds, numbers as they are."""
    found: dict[str, Any] = {"newest in the target": held, "newest in the source": newest}
    if isinstance(held, str) and isinstance(newest, str):
        with suppress(ValueError, TypeError):  # texts that are no dates, or only one of them with a zone
            lag = datetime.fromisoformat(newest) - datetime.fromisoformat(held)
            found["lag seconds"] = lag.total_seconds()
    elif isinstance(held, int | float) and isinstance(newest, int | float):
        found["lag"] = newest - held
    return found


def range_metadata(staged: StagedRange, receipt: Receipt, state: StateFolder) -> Mapping[str, Any]:
    """Return what the UI shows of a range: records, bytes, seconds per step, rate, what was left out and compared."""
    total_s = sum(staged.durations_s.values())
    rejected = receipt.counts.get("rejected", 0)
    return {
        "dagster/row_count": len(receipt),
        "dagster/size_bytes": staged.size_bytes,
        "records": len(receipt),
        _READ: staged.extracted,
        "records per second": round(len(receipt) / total_s, 1) if total_s else 0.0,
        **{f"{step}{_SECONDS}": round(duration_s, 4) for step, duration_s in staged.durations_s.items()},
        "filtered out": receipt.counts.get("filtered", 0),
        "skipped": receipt.counts.get("skipped", 0),
        "rejected": rejected,
        "records compared": receipt.counts.get("compared", 0),
        **quarantine_metadata(rejected, state.quarantine(staged.key)),
    }


def range_timings(
    instance: dg.DagsterInstance, declaration: MigrationDeclaration, manifest: Manifest
) -> dict[str, Timing]:
    """Return how long the ranges took when they were carried last, as their materializations say.

    Only the latest events are looked at, twice as many as there are ranges: what was carried longer ago goes untold.
    """
    wanted = {entry.key for entry in manifest.ranges}
    found: dict[str, Timing] = {}
    left, cursor = 2 * len(wanted), None
    while wanted and left > 0:
        page = instance.fetch_materializations(
            declaration.key("loaded_ranges"), limit=min(left, _PAGE_COUNT), cursor=cursor
        )
        for record in page.records:
            event = record.asset_materialization
            if event is not None and record.partition_key in wanted:
                wanted.remove(record.partition_key)
                found[record.partition_key] = _timing(event.metadata)
        left, cursor = (left - len(page.records), page.cursor) if page.has_more else (0, None)
    return found


def _timing(metadata: Mapping[str, dg.MetadataValue]) -> Timing:
    """Return what the metadata of a range say; those that a kill prevented say no seconds."""
    seconds = [item.value for name, item in metadata.items() if name.endswith(_SECONDS)]
    read = metadata.get(_READ)
    number = read.value if read is not None else 0
    return Timing(int(str(number)), round(sum(float(str(value)) for value in seconds), 4))


def range_tags(
    declaration: MigrationDeclaration,
    manifest: Manifest,
    receipt: Receipt,
) -> Mapping[str, str]:
    """Return provenance of a range's materialization; without all four Dagster would call every range stale.

    Source: tried on Dagster 1.13.27; events that are logged by hand carry no provenance of their own.
    """
    upstream = declaration.key("source_manifest").to_user_string()
    return {
        "dagster/code_version": CODE_VERSION,
        "dagster/data_version": receipt.digest,
        f"dagster/input_data_version/{upstream}": manifest_fingerprint(manifest),
        f"dagster/input_event_pointer/{upstream}": "NULL",
    }


def page_metadata(page: Path | str | None) -> dict[str, dg.MetadataValue]:
    """Return where the page of a proof of the whole lies, on the host that made it; nothing where there is none."""
    return {PAGE: dg.MetadataValue.path(str(Path(page).absolute()))} if page else {}


def quarantine_metadata(rejected: int, where: Path) -> dict[str, dg.MetadataValue]:
    """Return where the records lie that were set aside; nothing where none was."""
    return {QUARANTINE: dg.MetadataValue.path(str(where.absolute()))} if rejected else {}


def report_metadata(report: Report, migration: MigrationContext) -> Mapping[str, Any]:
    """Return what the UI shows of a proven collection."""
    state, manifest = migration.state, migration.manifest
    # How far the source has gone on since it was planned; with a filter the two numbers are of different things.
    lag = {} if migration.migration.options.filter else {"lag in records": abs(report.source_count - report.planned)}
    return {
        **page_metadata(state.report_page),
        **quarantine_metadata(report.rejected, state.quarantines(manifest.plan_digest)),
        "dagster/column_schema": column_schema(manifest.target_spec),
        "dagster/row_count": report.target_count,
        "proven": report.is_proven,
        "records compared": report.findings.compared,
        "records written": report.written,
        "filtered out": report.filtered,
        "skipped": report.skipped,
        "rejected": report.rejected,
        "left over from earlier generations": report.left_over,
        "planned": report.planned,
        "records in the source now": report.source_count,
        **lag,
        "ranges": report.ranges,
        **({"notes": " ".join(report.notes)} if report.notes else {}),
        "report": dg.MetadataValue.json(
            {"identity": report.identity, "validation": report.validation, "proven_at": report.proven_at.isoformat()}
        ),
    }
