"""The job `<m>__migrate`: a whole migration in one run, which is a success only if the proof ran."""

from collections.abc import Callable

import dagster as dg
import pytest

from rag_migration_pipeline.errors import StopError
from rag_migration_pipeline.orchestration.runs import PROCESS_TAG, close_killed_runs
from rag_migration_pipeline_tests.orchestration.scene import (
    COLLECTION,
    QUICK,
    REFUSED,
    Scene,
    failures,
    ranges_of,
    steps_started,
)

MakeScene = Callable[..., Scene]


def refuse(text: str) -> Callable[[str, str | None], None]:
    """Return a fault that stops one operation for good."""

    def fault(operation: str, _collection: str | None) -> None:
        if operation == text:
            raise StopError(f"{operation} is refused.", todo="Allow it.")

    return fault


def test_on_an_empty_instance_the_job_alone_cuts_loads_and_proves(scene: Scene) -> None:
    result = scene.migrate()
    assert result.success
    assert scene.target_ids() == [f"r{number:05d}" for number in range(12)]
    assert scene.materialized() == set(scene.keys) == set(scene.instance.get_dynamic_partitions("docs_ranges"))
    assert len(scene.keys) == 3
    for asset in ("source_manifest", "target_collection"):
        assert scene.is_materialized(asset)


def test_an_empty_source_is_proven_too(make_scene: MakeScene) -> None:
    scene = make_scene(0)
    result = scene.migrate()
    assert result.success
    assert steps_started(result) == ["plan_missing", "prove_collection"]
    assert scene.folder.report.exists()
    assert scene.is_materialized("target_collection")


def test_ranges_that_are_proven_are_not_run_again_but_the_proof_is(scene: Scene) -> None:
    assert scene.migrate().success
    writes = scene.target.calls["upsert"]
    result = scene.migrate()
    assert result.success
    assert steps_started(result) == ["plan_missing", "prove_collection"]
    assert scene.target.calls["upsert"] == writes


def test_the_second_proof_sees_what_changed_in_the_target_since_the_first(scene: Scene) -> None:
    assert scene.migrate().success
    with scene.target.inner.open(create=False) as store:
        store.delete(COLLECTION, ["r00003"])
    result = scene.migrate()
    assert not result.success
    said = failures(result)["prove_collection"]
    assert said["error"] == "ValidationError"
    assert "1 missing (string:r00003)" in said["what"]
    result = scene.migrate()  # the range concerned lost its receipt, and only that is loaded again
    assert result.success
    assert ranges_of(steps_started(result), "load_range") == scene.keys[:1]


def test_a_run_whose_proof_could_not_run_is_a_failure(scene: Scene) -> None:
    scene.target.fault = refuse("finish_loading")
    result = scene.migrate()
    assert not result.success
    assert failures(result)["prove_collection"]["what"] == "finish_loading is refused."
    assert scene.materialized() == set(scene.keys)
    assert not scene.is_materialized("target_collection")


def test_a_failing_range_fails_alone_and_keeps_the_run_from_success(scene: Scene) -> None:
    scene.target.poison["r00007"] = REFUSED
    result = scene.migrate()
    assert not result.success
    first, second, third = scene.keys
    assert set(failures(result)) == {f"load_range[{second}]"}
    assert scene.materialized() == {first, third}
    assert not scene.is_materialized("target_collection")
    assert "prove_collection" not in steps_started(result)


def test_the_next_run_after_a_failing_range_runs_only_that_one(scene: Scene) -> None:
    scene.target.poison["r00007"] = REFUSED
    scene.migrate()
    scene.target.poison.clear()
    result = scene.migrate()
    assert result.success
    assert ranges_of(steps_started(result), "extract_range") == scene.keys[1:2]


def test_a_source_that_grew_after_the_proof_is_cut_and_copied_again(scene: Scene) -> None:
    assert scene.migrate().success
    before = set(scene.keys)
    scene.fill(2, start=12)
    assert scene.migrate().success
    assert len(scene.target_ids()) == 14
    assert not before & set(scene.keys)
    # The partitions of the earlier generation are gone from the UI, the events stay.
    assert set(scene.instance.get_dynamic_partitions("docs_ranges")) == set(scene.keys)


def test_a_filter_counts_what_it_leaves_out(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "filter": {"kind": "even"}, "push_down": False})
    assert scene.migrate().success
    assert scene.target_ids() == [f"r{number:05d}" for number in range(0, 12, 2)]
    event = scene.instance.get_latest_materialization_event(scene.declaration.key("target_collection"))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["filtered out"].value == 6


def test_a_receipt_whose_event_was_lost_is_logged_by_the_next_run_without_loading(scene: Scene) -> None:
    assert scene.migrate().success
    with dg.DagsterInstance.ephemeral() as fresh:
        scene.instance = fresh
        result = scene.migrate()
        assert result.success
        assert ranges_of(steps_started(result), "load_range") == []
        assert scene.materialized() == set(scene.keys)


def test_a_run_of_a_dead_process_is_closed_and_one_of_a_living_process_is_not(scene: Scene) -> None:
    scene.migrate()
    (run,) = scene.instance.get_runs()
    host, process_id, started_s = run.tags[PROCESS_TAG].rsplit(":", 2)
    marks = {
        "dead": f"{host}:{process_id}:{float(started_s) - 1_000:.0f}",
        "living": run.tags[PROCESS_TAG],
        "elsewhere": f"another.host:{process_id}:{float(started_s) - 1_000:.0f}",
    }
    runs = {
        name: scene.instance.create_run_for_job(
            scene.job, tags={PROCESS_TAG: mark}, status=dg.DagsterRunStatus.STARTED
        ).run_id
        for name, mark in marks.items()
    }
    runs["foreign"] = scene.instance.create_run_for_job(scene.job, status=dg.DagsterRunStatus.STARTED).run_id
    assert close_killed_runs(scene.instance, "docs__migrate") == [runs["dead"]]
    statuses = {name: scene.instance.get_run_by_id(run_id).status for name, run_id in runs.items()}
    assert statuses.pop("dead") is dg.DagsterRunStatus.FAILURE
    assert set(statuses.values()) == {dg.DagsterRunStatus.STARTED}


@pytest.mark.parametrize("count", [1, 5, 6])
def test_the_last_range_may_be_short(make_scene: MakeScene, count: int) -> None:
    scene = make_scene(count)
    assert scene.migrate().success
    assert len(scene.target_ids()) == count
    assert len(scene.keys) == -(-count // QUICK["range_count"])
