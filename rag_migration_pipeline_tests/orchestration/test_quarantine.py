"""What Dagster shows of records that were set aside: in metadata, in checks, and in the failure that names the file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from rag_migration_pipeline.errors import StoreRequestError
from rag_migration_pipeline.quarantine import read_quarantine
from rag_migration_pipeline_tests.orchestration.scene import QUICK, QUIET, Scene, failures, records

MakeScene = Callable[..., Scene]
REFUSED = StoreRequestError("the server refuses this record.")


def poison(scene: Scene, *numbers: int) -> None:
    for number in numbers:
        scene.target.poison[f"r{number:05d}"] = REFUSED


def evaluations(result: dg.ExecuteInProcessResult, name: str) -> list[dg.AssetCheckEvaluation]:
    return [item for item in result.get_asset_check_evaluations() if item.check_name == name]


def shown(result: dg.ExecuteInProcessResult, asset: str) -> dict[str | None, dict[str, Any]]:
    """Return partition -> metadata of what the run materialized of an asset."""
    found = [event.step_materialization_data for event in result.all_events if event.is_step_materialization]
    return {
        item.materialization.partition: {name: value.value for name, value in item.materialization.metadata.items()}
        for item in found
        if item.materialization.asset_key.path[-1] == asset
    }


def test_without_a_budget_the_range_fails_and_a_larger_budget_finishes_it(
    make_scene: MakeScene,
) -> None:
    scene = make_scene(12)
    poison(scene, 6)
    result = scene.migrate()
    assert not result.success
    ((step, said),) = [(step, said) for step, said in failures(result).items() if "load" in step]
    assert said["error"] == "RecordRejectedError"
    assert "string:r00006" in said["what"]
    assert "the server refuses this record" in said["what"]
    path = Path(said["quarantine"])
    assert path.name == f"{step.partition('[')[2].rstrip(']')}.arrow"
    assert read_quarantine(path).records.ids == ["r00006"]
    assert len(scene.target_ids()) == 11, "the others were written"
    assert scene.materialized() == {scene.keys[0], scene.keys[2]}

    scene.options = {**QUICK, "max_rejected": 1}
    before = scene.target.calls["upsert"]
    assert scene.migrate().success
    assert scene.target.calls["upsert"] - before < 10, "the proven ranges were not loaded again"
    assert len(scene.target_ids()) == 11


def test_within_the_budget_the_run_passes_and_shows_who_was_set_aside(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "max_rejected": 2})
    poison(scene, 6, 11)
    result = scene.migrate()
    assert result.success, failures(result)
    assert scene.materialized() == set(scene.keys)
    ranges = shown(result, "loaded_ranges")
    assert [ranges[key]["rejected"] for key in scene.keys] == [0, 1, 1]
    assert "quarantine" not in ranges[scene.keys[0]]
    assert ranges[scene.keys[1]]["quarantine"] == str(scene.folder.quarantine(scene.keys[1]))
    whole_shown = shown(result, "target_collection")[None]
    assert whole_shown["rejected"] == 2
    assert whole_shown["quarantine"] == str(scene.folder.quarantine(scene.keys[1]).parent)
    checks = {item.partition: item for item in evaluations(result, "records_identical")}
    assert checks[scene.keys[0]].passed
    for key in scene.keys[1:]:
        assert (checks[key].passed, checks[key].severity) == (False, dg.AssetCheckSeverity.WARN)
        assert f"1 records were set aside in {scene.folder.quarantine(key)}" in (checks[key].description or "")
    (whole,) = evaluations(result, "collection_identical")
    assert (whole.passed, whole.severity) == (False, dg.AssetCheckSeverity.WARN)
    for asset, name in (("loaded_ranges", "records_identical"), ("target_collection", "collection_identical")):
        (by_hand,) = check_by_hand(scene, asset, name).get_asset_check_evaluations()
        assert (by_hand.passed, by_hand.severity) == (False, dg.AssetCheckSeverity.WARN)
        assert "records were set aside" in (by_hand.description or "")


def check_by_hand(scene: Scene, asset: str, name: str) -> dg.ExecuteInProcessResult:
    """Run a check as its button in the UI does; that of a range for the second one."""
    key = dg.AssetCheckKey(scene.declaration.key(asset), name)
    job = scene.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={key})
    partition = {"partition_key": scene.keys[1]} if asset == "loaded_ranges" else {}
    return job.execute_in_process(instance=scene.instance, run_config=QUIET, **partition)


def test_a_retried_load_names_every_record_again(make_scene: MakeScene) -> None:
    from rag_migration_pipeline.errors import StoreUnavailableError

    scene = make_scene(6, options={**QUICK, "range_count": 6, "page_count": 2, "max_rejected": 2})
    poison(scene, 1, 5)
    away = {"left": 1}

    def fail_once(operation: str, _collection: str | None) -> None:
        if operation == "upsert" and scene.target.calls["upsert"] > 6 and away["left"]:
            away["left"] -= 1
            raise StoreUnavailableError("gone for a while")

    scene.target.fault = fail_once
    result = scene.migrate()
    assert result.success, failures(result)
    (key,) = scene.keys
    assert not away["left"]
    assert sorted(read_quarantine(scene.folder.quarantine(key)).records.ids) == ["r00001", "r00005"]  # type: ignore[type-var]
    assert sorted(scene.target_ids()) == ["r00000", "r00002", "r00003", "r00004"]


def test_a_filter_and_rejections_are_counted_apart(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "max_rejected": 2, "filter": {"kind": "even"}, "push_down": False})
    poison(scene, 6, 7)
    result = scene.migrate()
    assert result.success, failures(result)
    ranges = shown(result, "loaded_ranges")
    counted = [[ranges[key][name] for name in ("records", "filtered out", "rejected")] for key in scene.keys]
    assert counted == [[3, 2, 0], [1, 3, 1], [1, 1, 0]]


def test_records_that_the_mapping_refuses_and_those_that_the_target_refuses_are_in_one_account(
    make_scene: MakeScene,
) -> None:
    mapping = {"transforms": {"number": "int"}, "on_error": "quarantine"}
    scene = make_scene(7, options={**QUICK, "mapping": mapping, "max_rejected": 1})
    with scene.source.inner.open(create=True) as store:
        store.upsert("texts", records(1, 3).with_columns(payloads=[{"number": "many"}]))
    poison(scene, 4)
    result = scene.migrate()
    ((_, said),) = failures(result).items()
    assert "2 of 5 records were set aside" in said["what"]
    stored = read_quarantine(Path(said["quarantine"]))
    assert {(r.record_id, r.stage) for r in stored.rejections} == {("r00003", "transform"), ("r00004", "load")}
    assert [p.get("number") for p in stored.records.payloads] == ["many", 4], "as they were read"

    scene.options = {**scene.options, "max_rejected": 2}
    result = scene.migrate()
    assert result.success, failures(result)
    ranges = shown(result, "loaded_ranges")
    assert [(ranges[scene.keys[0]][name]) for name in ("records", "rejected", "records compared")] == [3, 2, 3]
    assert shown(result, "target_collection")[None]["rejected"] == 2


def run(scene: Scene, job: str, op: str, **config: Any) -> dg.ExecuteInProcessResult:
    """Run a correcting job with the configuration of its op."""
    return scene.definitions.resolve_job_def(f"{scene.name}__{job}").execute_in_process(
        instance=scene.instance, raise_on_error=False, run_config={**QUIET, "ops": {op: {"config": config}}}
    )


def test_the_replay_job_loads_a_repaired_file_and_the_next_proof_is_whole(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "max_rejected": 2})
    poison(scene, 6, 7)
    assert scene.migrate().success
    path = scene.folder.quarantine(scene.keys[1])
    frame = pd.read_feather(path)
    frame.loc[frame["id"] == "string:r00006", "id"] = "string:r00006-repaired"
    frame.to_feather(path)

    result = run(scene, "replay", "replay_quarantine", path=str(path))
    assert result.success, failures(result)
    ranges = shown(result, "loaded_ranges")
    assert {key: (found["records"], found["rejected"]) for key, found in ranges.items()} == {scene.keys[1]: (4, 1)}
    (check,) = evaluations(result, "records_identical")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    scene.target.poison.clear()
    assert run(scene, "replay", "replay_quarantine", path=str(path)).success
    assert not path.exists()

    scene.options = dict(QUICK)
    proven = scene.migrate()
    assert proven.success, failures(proven)
    assert shown(proven, "target_collection")[None]["rejected"] == 0
    (check,) = evaluations(proven, "collection_identical")
    assert check.passed
    assert len(scene.target_ids()) == 12
    failed = run(scene, "replay", "replay_quarantine", path=str(path))
    assert failures(failed)["replay_quarantine"]["error"] == "StagingError"


def test_neither_replay_nor_rollback_comes_between_a_running_range(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "max_rejected": 2, "max_attempts": 1})
    poison(scene, 6, 7)
    assert scene.migrate().success
    path = scene.folder.quarantine(scene.keys[1])
    scene.folder.receipt(scene.keys[0]).unlink()
    refused = []

    def correct(operation: str, _collection: str | None) -> None:
        if operation == "upsert" and not refused:
            refused.append(failures(run(scene, "replay", "replay_quarantine", path=str(path)))["replay_quarantine"])
            refused.append(failures(run(scene, "rollback", "roll_back"))["roll_back"])

    scene.target.fault = correct
    again = scene.migrate()
    assert again.success, failures(again)
    assert [found["error"] for found in refused] == ["MigrationLockedError"] * 2
    assert len(scene.target_ids()) == 10

    with scene.folder.in_use(alone=True):
        found = failures(scene.migrate())["plan_missing"]
    assert found["error"] == "MigrationLockedError"
    assert f"process {os.getpid()} on" in found["what"]


def test_the_rollback_job_takes_all_away_and_a_later_run_starts_afresh(make_scene: MakeScene) -> None:
    scene = make_scene(12)
    assert scene.migrate().success
    keys = scene.keys
    with scene.target.inner.open(create=True) as store:
        store.upsert("texts", records(1, 99))
    refused = run(scene, "rollback", "roll_back")
    assert failures(refused)["roll_back"]["error"] == "ConflictError"
    assert "r00099" in failures(refused)["roll_back"]["what"]
    result = run(scene, "rollback", "roll_back", force=True)
    assert result.success, failures(result)
    assert scene.target_ids() == []
    assert list(scene.state_dir.iterdir()) == []
    assert scene.instance.get_dynamic_partitions(f"{scene.name}_ranges") == []
    again = run(scene, "rollback", "roll_back")
    assert failures(again)["roll_back"]["error"] == "ManifestError"
    assert scene.migrate().success
    assert len(scene.target_ids()) == 12
    assert not set(scene.keys) & set(keys)
