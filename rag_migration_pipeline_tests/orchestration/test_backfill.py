"""Doing the rest: re-execution from failure, and backfills of what is failed or missing, run exactly that."""

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.execution.api import execute_run
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration

from rag_migration_pipeline_tests.homes import copy_home
from rag_migration_pipeline_tests.orchestration.scene import QUICK, REFUSED, Scene, contents, ranges_of
from rag_migration_pipeline_tests.servers.s3 import S3Server

MakeScene = Callable[..., Scene]

current: list[Scene] = []
"""The scene that the functions below are about: Dagster finds definitions by module and name."""


def scene_definitions() -> dg.RepositoryDefinition:
    """Return the definitions of the current scene as a code location has them."""
    return current[-1].definitions.get_repository_def()


def job_by_name(name: str) -> ReconstructableJob:
    """Return a job of the current scene as Dagster takes it up in another process."""
    return ReconstructableRepository.for_module(__name__, scene_definitions.__name__).get_reconstructable_job(name)


@pytest.fixture
def kept(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, make_scene: MakeScene) -> Iterator[Scene]:
    """Twelve records in three ranges on a persistent instance, which queues what a daemon would launch."""
    home = copy_home(tmp_path_factory, tmp_path / "home")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        scene = make_scene(12, instance=instance)
        current.append(scene)
        # Dagster keeps the last ones by name: another test's scene.
        ReconstructableJob.get_definition.cache_clear()
        ReconstructableJob.get_repository_definition.cache_clear()
        yield scene
        current.clear()


def begun(scene: Scene, run_id: str, op: str) -> list[str]:
    """Return the ranges for which an op began in a run."""
    entries = scene.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START)
    return ranges_of([entry.step_key or "" for entry in entries], op)


def reexecute(scene: Scene, run_id: str) -> dg.JobExecutionResult:
    """Re-execute a run from its failure, as the button in the UI does."""
    options = dg.ReexecutionOptions.from_failure(run_id, scene.instance)
    run = scene.instance.get_run_by_id(run_id)
    assert run is not None
    return dg.execute_job(
        job_by_name(run.job_name),
        scene.instance,
        reexecution_options=options,
        tags={key: value for key, value in run.tags.items() if "asset_partition" in key},
        asset_selection=list(run.asset_selection or []) or None,
    )


@pytest.mark.parametrize(
    "place", [pytest.param("", id="local"), pytest.param("s3://files/staged", id="S3", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("has_staging", [True, False], ids=["staged", "staging removed"])
def test_reexecuting_the_job_from_failure_runs_the_failed_range_and_the_proof(
    kept: Scene, s3: S3Server, has_staging: bool, place: str
) -> None:
    kept.staging = place
    kept.target.poison["r00007"] = REFUSED
    failed = kept.migrate()
    assert not failed.success
    kept.target.poison.clear()
    reads = kept.source.calls["read_range"]
    if not has_staging and place:
        assert s3.keys("files"), "the failed range's files wait"
        s3.empty("files")
    elif not has_staging:
        shutil.rmtree(kept.folder.root / "staging")
    with reexecute(kept, failed.run_id) as result:
        assert result.success
        assert begun(kept, result.run_id, "extract_range") == []
        assert begun(kept, result.run_id, "load_range") == kept.keys[1:2]
        assert begun(kept, result.run_id, "validate_range") == kept.keys[1:2]
    assert kept.source.calls["read_range"] - reads == (0 if has_staging else 1)
    assert len(kept.target_ids()) == 12
    assert kept.is_materialized("target_collection")
    assert s3.keys("files") == []


def test_reexecuting_a_range_run_from_failure_runs_the_failed_range(kept: Scene) -> None:
    kept.materialize("source_manifest")
    kept.target.poison["r00007"] = REFUSED
    failed = kept.materialize("loaded_ranges", start=kept.keys[0], stop=kept.keys[-1])
    assert kept.materialized() == {kept.keys[0], kept.keys[2]}
    kept.target.poison.clear()
    with reexecute(kept, failed.run_id) as result:
        assert result.success
        assert begun(kept, result.run_id, "load_range") == kept.keys[1:2]
    assert kept.materialized() == set(kept.keys)


def launch(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Run a queued run in this process, as a daemon and its launcher would in another."""
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_STARTING.value, run.job_name)
    instance.report_dagster_event(event, run.run_id)
    taken = instance.get_run_by_id(run.run_id)
    assert taken is not None
    execute_run(job_by_name(run.job_name), taken, instance)


def backfill(scene: Scene, partitions: list[str]) -> PartitionBackfill:
    """Submit a backfill of loaded_ranges, and let the daemon's iterations end it."""
    graph = scene.definitions.resolve_asset_graph()
    submitted = PartitionBackfill.from_asset_partitions(
        backfill_id="rest",
        asset_graph=graph,
        partition_names=partitions,
        asset_selection=[scene.declaration.key("loaded_ranges")],
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=scene.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    scene.instance.add_backfill(submitted)
    target = LoadableTargetOrigin(
        executable_path=sys.executable, module_name=__name__, attribute=scene_definitions.__name__
    )
    origin = InProcessCodeLocationOrigin(target, location_name="here")
    with WorkspaceProcessContext(scene.instance, InProcessWorkspaceLoadTarget(origin)) as workspace:
        for _ in range(10):
            errors = [e for e in execute_backfill_iteration(workspace, logging.getLogger("backfill")) if e is not None]
            assert errors == []
            state = scene.instance.get_backfill("rest")
            assert state is not None
            if state.status is not BulkActionStatus.REQUESTED:
                return state
            for run in scene.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])):
                launch(scene.instance, run)
    raise TimeoutError(str(state.status))


# Dagster 1.13.27 uses this itself when it plans a backfill.
@pytest.mark.parametrize("count", [None, 1, 2])
def test_a_backfill_is_cut_into_runs_of_so_many_ranges(make_scene: MakeScene, count: int | None) -> None:
    scene = make_scene(12, options={**QUICK, "ranges_per_run": count})
    policy = scene.definitions.resolve_assets_def(scene.declaration.key("loaded_ranges")).backfill_policy
    assert policy is not None
    assert policy.max_partitions_per_run == count


@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources` is deprecated:DeprecationWarning")
def test_a_backfill_of_what_is_failed_and_missing_runs_only_that(kept: Scene) -> None:
    kept.materialize("source_manifest")
    first, second, third = kept.keys
    kept.target.poison["r00007"] = REFUSED
    kept.materialize("loaded_ranges", start=first, stop=second)
    assert kept.materialized() == {first}
    kept.target.poison.clear()
    before = set(kept.instance.get_run_ids())
    state = backfill(kept, [second, third])
    assert state.status in (BulkActionStatus.COMPLETED, BulkActionStatus.COMPLETED_SUCCESS)
    (run_id,) = set(kept.instance.get_run_ids()) - before  # one run for both, as the policy says
    assert begun(kept, run_id, "extract_range") == [second, third]
    assert kept.materialized() == {first, second, third}
    assert kept.materialize("target_collection").success


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources` is deprecated:DeprecationWarning")
def test_a_backfill_stages_on_an_object_store_and_leaves_nothing_there(kept: Scene, s3: S3Server) -> None:
    kept.staging = "s3://files/staged"
    kept.materialize("source_manifest")
    state = backfill(kept, kept.keys)
    assert state.status in (BulkActionStatus.COMPLETED, BulkActionStatus.COMPLETED_SUCCESS)
    assert any(method == "PUT" and path.endswith("/extract.arrow") for method, path in s3.requests)
    assert s3.keys("files") == []
    assert not (kept.folder.root / "staging").exists()
    assert kept.materialize("target_collection").success
    assert contents(kept.target) == contents(kept.source)
