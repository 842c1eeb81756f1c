"""The assets of a migration: what exists afterwards.

    <m>/source_manifest    the source cut into ranges; registers them as partitions of <m>_ranges
    <m>/loaded_ranges      each range in the target, read back and identical (one partition each)
    <m>/target_collection  the whole collection, proven against the receipts of all ranges

``loaded_ranges`` is a graph of the ops of `ops`: plan, then extract, filter, transform, load, validate per range.
``target_collection`` is never materialized in the same run as the ranges: Dagster would skip it and still call the run
a success (tried on 1.13.27), because the ranges log their own materializations. The job in `jobs` does all three.
"""

from typing import Any

import dagster as dg

from rag_migration_pipeline.orchestration.appearance import Appearance
from rag_migration_pipeline.orchestration.automation import condition_of, freshness_of
from rag_migration_pipeline.orchestration.checks import proven_collection
from rag_migration_pipeline.orchestration.declaration import CODE_VERSION, MigrationDeclaration
from rag_migration_pipeline.orchestration.facts import (
    manifest_metadata,
    register_partitions,
    report_metadata,
)
from rag_migration_pipeline.orchestration.ops import MigrationOps
from rag_migration_pipeline.orchestration.session import Planning, migration_context
from rag_migration_pipeline.steps.going_on import go_on
from rag_migration_pipeline.steps.manifest import manifest_fingerprint


def build_assets(appearance: Appearance, ops: MigrationOps) -> list[dg.AssetsDefinition]:
    """Return the three assets of a migration, as they are to look."""
    return [_source_manifest(appearance), _loaded_ranges(appearance, ops), _target_collection(appearance)]


def _source_manifest(appearance: Appearance) -> dg.AssetsDefinition:
    declaration = appearance.declaration

    @dg.asset(
        key=declaration.key("source_manifest"),
        automation_condition=condition_of(declaration, "source_manifest"),
        group_name=declaration.name,
        kinds=appearance.kinds("source_manifest"),
        owners=appearance.owners,
        description=appearance.description("source_manifest"),
        code_version=CODE_VERSION,
        required_resource_keys=declaration.resource_keys,
        pool=declaration.source_pool or declaration.pool,
    )
    def source_manifest(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        """The source cut once into fixed half-open ranges, with count and id digest, stored with the plan."""
        with migration_context(context, declaration, plan=Planning.IF_CHANGED) as found:
            migration = go_on(found)
            register_partitions(context.instance, declaration, migration.manifest)
            return dg.MaterializeResult(
                metadata=manifest_metadata(migration.manifest),
                data_version=dg.DataVersion(manifest_fingerprint(migration.manifest)),
            )

    return source_manifest


def _loaded_ranges(appearance: Appearance, ops: MigrationOps) -> dg.AssetsDefinition:
    declaration = appearance.declaration

    @dg.graph_asset(
        key=declaration.key("loaded_ranges"),
        automation_condition=condition_of(declaration, "loaded_ranges"),
        group_name=declaration.name,
        kinds=appearance.kinds("loaded_ranges"),
        owners=appearance.owners,
        description=appearance.description("loaded_ranges"),
        code_version=CODE_VERSION,
        partitions_def=declaration.partitions,
        backfill_policy=_backfill_policy(declaration),
        ins={"manifest": dg.AssetIn(key=declaration.key("source_manifest"), dagster_type=dg.Nothing)},
    )
    def loaded_ranges(manifest: Any) -> Any:
        return ops.finish.alias("finish_ranges")(migrate_ranges(ops, ops.plan_ranges.alias("plan_ranges")(manifest)))

    return loaded_ranges


def _backfill_policy(declaration: MigrationDeclaration) -> dg.BackfillPolicy:
    """Return into how many runs a backfill is cut; how many of them run at once, the target's pool says."""
    count = declaration.options.ranges_per_run
    return dg.BackfillPolicy.single_run() if count is None else dg.BackfillPolicy.multi_run(count)


def migrate_ranges(ops: MigrationOps, keys: Any) -> Any:
    """Chain the steps of a range behind each dynamic key, and collect what comes out.

    Op names are unique in a code location and so begin with the migration's name; inside a run the step's is enough.
    """
    return (
        keys.map(ops.extract.alias("extract_range"))
        .map(ops.filter.alias("filter_range"))
        .map(ops.transform.alias("transform_range"))
        .map(ops.load.alias("load_range"))
        .map(ops.validate.alias("validate_range"))
        .collect()
    )


def _target_collection(appearance: Appearance) -> dg.AssetsDefinition:
    declaration = appearance.declaration

    @dg.asset(
        key=declaration.key("target_collection"),
        automation_condition=condition_of(declaration, "target_collection"),
        group_name=declaration.name,
        kinds=appearance.kinds("target_collection"),
        owners=appearance.owners,
        description=appearance.description("target_collection"),
        code_version=CODE_VERSION,
        freshness_policy=freshness_of(declaration),
        deps=[dg.AssetDep(declaration.key("loaded_ranges"), partition_mapping=dg.AllPartitionMapping())],
        required_resource_keys=declaration.resource_keys,
        pool=declaration.pool,
    )
    def target_collection(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        """The whole target collection, compared record by record with what all ranges wrote."""
        with migration_context(context, declaration) as migration:
            report = proven_collection(context.op_execution_context, declaration, migration)
            return dg.MaterializeResult(metadata=report_metadata(report, migration))

    return target_collection
