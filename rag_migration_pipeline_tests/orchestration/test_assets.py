"""The assets one by one, as the UI materializes them: what is registered, remembered, refused and called stale."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from rag_migration_pipeline.orchestration.checks import COLLECTION_CHECK, RANGE_CHECK
from rag_migration_pipeline.stores.wrappers import WRITES
from rag_migration_pipeline_tests.orchestration.scene import (
    COLLECTION,
    QUIET,
    REFUSED,
    Scene,
    failures,
    steps_started,
)

MakeScene = Callable[..., Scene]


def materialize_all(scene: Scene) -> None:
    """Materialize the three assets, each in a run of its own, the ranges in one."""
    assert scene.materialize("source_manifest").success
    keys = scene.keys
    assert scene.materialize("loaded_ranges", start=keys[0], stop=keys[-1]).success
    assert scene.materialize("target_collection").success


def range_events(scene: Scene) -> dict[str, list[dg.AssetMaterialization]]:
    """Return the materializations of each range, newest first."""
    found: dict[str, list[dg.AssetMaterialization]] = {}
    records = scene.instance.fetch_materializations(scene.declaration.key("loaded_ranges"), limit=100).records
    for record in records:
        assert record.asset_materialization is not None
        found.setdefault(str(record.partition_key), []).append(record.asset_materialization)
    return found


def check_states(scene: Scene, asset: str, name: str) -> dict[str | None, str]:
    """Return partition -> status of the last execution of a check."""
    key = dg.AssetCheckKey(scene.declaration.key(asset), name)
    states = scene.instance.event_log_storage.get_asset_check_partition_info([key])
    return {state.partition_key: state.latest_execution_status.value for state in states}


def stale_status(scene: Scene, asset: str, partition: str | None = None) -> StaleStatus:
    """Return what the UI says of an asset or a partition: fresh, stale, missing."""
    graph = scene.definitions.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(scene.instance, graph, LoadingContextForTest(scene.instance))
    return resolver.get_status(scene.declaration.key(asset), partition)


def test_the_manifests_metadata_show_the_plan(scene: Scene) -> None:
    assert scene.materialize("source_manifest").success
    event = scene.instance.get_latest_materialization_event(scene.declaration.key("source_manifest"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    table = metadata["verdicts"]
    assert isinstance(table, dg.MarkdownMetadataValue)
    assert {"id", "document", "collection name", 'vector ""'} <= {
        line.split(" | ")[0].removeprefix("| ") for line in (table.md_str or "").splitlines()
    }
    assert metadata["target collection"].value == scene.declaration.target_collection
    assert "kept" in str(metadata["ids"].value)


def test_manifest_then_ranges_then_collection_each_in_a_run_of_its_own(scene: Scene) -> None:
    assert scene.instance.get_dynamic_partitions("docs_ranges") == []
    assert scene.materialize("source_manifest").success
    assert scene.instance.get_dynamic_partitions("docs_ranges") == scene.keys
    assert scene.target_ids() == []
    first, second, third = scene.keys
    assert scene.materialize("loaded_ranges", start=first, stop=second).success
    assert scene.materialized() == {first, second}
    assert len(scene.target_ids()) == 10
    assert scene.materialize("loaded_ranges", partition_key=third).success
    assert scene.materialized() == {first, second, third}
    assert scene.materialize("target_collection").success
    assert scene.folder.report.exists()


def test_each_range_has_exactly_one_event_per_run(scene: Scene) -> None:
    materialize_all(scene)
    assert {key: len(events) for key, events in range_events(scene).items()} == dict.fromkeys(scene.keys, 1)


def test_a_range_says_what_was_moved_and_how_fast(scene: Scene) -> None:
    materialize_all(scene)
    metadata = {name: value.value for name, value in range_events(scene)[scene.keys[2]][0].metadata.items()}
    assert metadata["records"] == metadata["dagster/row_count"] == metadata["records compared"] == 2
    assert metadata["dagster/size_bytes"] > 0
    assert metadata["records per second"] > 0
    assert {f"{step} seconds" for step in ("extract", "filter", "transform", "load", "validate")} <= set(metadata)
    assert metadata["extract seconds"] > 0
    assert (metadata["rejected"], metadata["skipped"], metadata["filtered out"]) == (0, 0, 0)
    assert "quarantine" not in metadata


@pytest.mark.parametrize("by_job", [False, True], ids=["asset", "job"])
def test_the_proof_shows_columns_and_how_far_the_source_has_gone_on(scene: Scene, by_job: bool) -> None:
    assert scene.materialize("source_manifest").success
    keys = scene.keys
    assert scene.materialize("loaded_ranges", start=keys[0], stop=keys[-1]).success
    if not by_job:
        scene.fill(3, start=50)
        assert scene.materialize("target_collection").success
    else:
        assert scene.migrate().success
    event = scene.instance.get_latest_materialization_event(scene.declaration.key("target_collection"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["lag in records"].value == (0 if by_job else 3)
    schema = metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    assert [(column.name, column.type) for column in schema.columns] == [
        ("id", "int64 or string or uint64 or uuid"),  # the memory store takes all
        ("(unnamed vector)", "float32[4]"),
        ("payload", "json"),
    ]


def test_every_range_has_a_check_result_of_its_own(scene: Scene) -> None:
    materialize_all(scene)
    assert check_states(scene, "loaded_ranges", RANGE_CHECK) == dict.fromkeys(scene.keys, "SUCCEEDED")
    assert check_states(scene, "target_collection", COLLECTION_CHECK) == {None: "SUCCEEDED"}


def test_the_proof_names_the_ranges_that_are_not_loaded(scene: Scene) -> None:
    scene.materialize("source_manifest")
    scene.materialize("loaded_ranges", partition_key=scene.keys[0])
    result = scene.materialize("target_collection")
    assert not result.success
    (said,) = failures(result).values()
    assert said["error"] == "ManifestError"
    assert all(key in said["what"] for key in scene.keys[1:])
    assert said["what to do"]
    assert not scene.is_materialized("target_collection")


def test_a_failing_range_of_a_range_run_fails_alone(scene: Scene) -> None:
    scene.materialize("source_manifest")
    first, second, third = scene.keys
    scene.target.poison["r00007"] = REFUSED
    result = scene.materialize("loaded_ranges", start=first, stop=third)
    assert not result.success
    assert scene.materialized() == {first, third}
    states = check_states(scene, "loaded_ranges", RANGE_CHECK)
    assert (states[first], states[third]) == ("SUCCEEDED", "SUCCEEDED")
    assert states[second] == "PLANNED"  # the run ended before the check: the UI calls it failed


def test_without_a_manifest_the_ranges_say_what_to_do_first(scene: Scene) -> None:
    scene.instance.add_dynamic_partitions("docs_ranges", ["abcdef_000000"])
    result = scene.materialize("loaded_ranges", partition_key="abcdef_000000")
    assert not result.success
    (said,) = failures(result).values()
    assert said["what to do"] == "Run it first; under Dagster, materialize source_manifest."
    assert scene.target_ids() == []


def test_a_partition_key_of_another_plan_is_refused(scene: Scene) -> None:
    scene.materialize("source_manifest")
    foreign = "abcdef_000000"
    scene.instance.add_dynamic_partitions("docs_ranges", [foreign])
    result = scene.materialize("loaded_ranges", partition_key=foreign)
    assert not result.success
    (said,) = failures(result).values()
    assert said["error"] == "ManifestError"
    assert foreign in said["what"]
    assert scene.keys[0] in said["what"]
    assert steps_started(result) == ["docs__loaded_ranges.plan_ranges"]
    assert scene.materialized() == set()


def test_making_the_manifest_again_leaves_the_ranges_fresh(scene: Scene) -> None:
    materialize_all(scene)
    assert scene.materialize("source_manifest").success
    assert {stale_status(scene, "loaded_ranges", key) for key in scene.keys} == {StaleStatus.FRESH}
    assert stale_status(scene, "target_collection") is StaleStatus.FRESH


def test_after_the_job_nothing_is_called_stale(scene: Scene) -> None:
    assert scene.migrate().success
    assert stale_status(scene, "source_manifest") is StaleStatus.FRESH
    assert {stale_status(scene, "loaded_ranges", key) for key in scene.keys} == {StaleStatus.FRESH}
    assert stale_status(scene, "target_collection") is StaleStatus.FRESH
    assert scene.migrate().success
    assert stale_status(scene, "source_manifest") is StaleStatus.FRESH
    assert {stale_status(scene, "loaded_ranges", key) for key in scene.keys} == {StaleStatus.FRESH}
    assert stale_status(scene, "target_collection") is StaleStatus.FRESH


def test_the_data_version_of_a_range_is_that_of_its_content(make_scene: MakeScene) -> None:
    versions: list[dict[str, str]] = []
    for count in (12, 12, 11):
        with dg.DagsterInstance.ephemeral() as instance:
            scene = make_scene(count, instance=instance)
            assert scene.migrate().success
            events = range_events(scene)
            versions.append({key[-6:]: events[key][0].tags["dagster/data_version"] for key in scene.keys})
    assert versions[0] == versions[1]
    assert versions[0]["000000"] == versions[2]["000000"]
    assert versions[0]["000002"] != versions[2]["000002"]


def test_an_empty_source_has_no_partitions_and_is_proven_by_its_asset(make_scene: MakeScene) -> None:
    scene = make_scene(0)
    assert scene.materialize("source_manifest").success
    assert scene.instance.get_dynamic_partitions("docs_ranges") == []
    assert scene.materialize("target_collection").success


def run_check(scene: Scene, asset: str, name: str, **kwargs: Any) -> dg.ExecuteInProcessResult:
    """Run a check by hand, as its button in the UI does."""
    key = dg.AssetCheckKey(scene.declaration.key(asset), name)
    job = scene.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={key})
    return job.execute_in_process(instance=scene.instance, raise_on_error=False, run_config=QUIET, **kwargs)


@pytest.mark.parametrize("is_damaged", [False, True], ids=["intact", "damaged"])
def test_a_check_run_by_hand_reads_the_target_again(scene: Scene, is_damaged: bool) -> None:
    materialize_all(scene)
    if is_damaged:
        with scene.target.inner.open(create=False) as store:
            store.delete(COLLECTION, ["r00003"])
    for number, key in enumerate(scene.keys):
        (part,) = run_check(scene, "loaded_ranges", RANGE_CHECK, partition_key=key).get_asset_check_evaluations()
        assert part.passed is not (is_damaged and number == 0)
    (whole,) = run_check(scene, "target_collection", COLLECTION_CHECK).get_asset_check_evaluations()
    assert whole.passed is not is_damaged
    assert ("r00003" in (whole.description or "")) is is_damaged


def test_the_check_of_a_range_that_is_not_loaded_fails_and_says_so(scene: Scene) -> None:
    scene.materialize("source_manifest")
    key = scene.keys[0]
    (part,) = run_check(scene, "loaded_ranges", RANGE_CHECK, partition_key=key).get_asset_check_evaluations()
    assert not part.passed
    assert key in (part.description or "")
    assert "no receipt" in (part.description or "")


def test_a_failed_proof_marks_the_ranges_that_it_contradicts(scene: Scene) -> None:
    materialize_all(scene)
    with scene.target.inner.open(create=False) as store:
        store.delete(COLLECTION, ["r00007"])
    result = scene.materialize("target_collection")
    assert not result.success
    first, second, third = scene.keys
    expected = {first: "SUCCEEDED", second: "FAILED", third: "SUCCEEDED"}
    assert check_states(scene, "loaded_ranges", RANGE_CHECK) == expected
    assert check_states(scene, "target_collection", COLLECTION_CHECK) == {None: "FAILED"}
    assert scene.materialize("loaded_ranges", partition_key=second).success
    assert scene.materialize("target_collection").success


def test_a_check_by_hand_changes_nothing_in_the_target(scene: Scene) -> None:
    materialize_all(scene)
    before = dict(scene.target.calls)
    assert run_check(scene, "loaded_ranges", RANGE_CHECK, partition_key=scene.keys[0]).success
    changed = {name for name, count in scene.target.calls.items() if count != before.get(name)}
    assert not changed & WRITES, changed
