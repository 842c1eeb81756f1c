"""The option `conflict` of a launch: another policy for one run, over the state of the migration that it belongs to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_migration_pipeline.records import RecordBatch, RecordId
from rag_migration_pipeline.stores.base import StoreSettings
from rag_migration_pipeline.stores.chroma_settings import ChromaSettings
from rag_migration_pipeline.stores.milvus import MilvusSettings
from rag_migration_pipeline_tests.orchestration.scene import (
    COLLECTION,
    QUICK,
    REFUSED,
    Scene,
    change,
    failures,
    ranges_of,
    records,
    run,
    spec_of,
    steps_started,
)

MakeScene = Callable[..., Scene]
THEIRS = (1, 3, 6, 11, 90)
"""Records of others in the target: two in the first range, one in each of the others, one that is in no range."""


def theirs(scene: Scene, *numbers: int) -> None:
    """Put records of somebody else into the target."""
    with scene.target.inner.open(create=True) as store:
        if not store.exists(COLLECTION):
            store.create(spec_of(COLLECTION))
        for number in numbers:
            assert store.upsert(COLLECTION, _foreign(number)).written == 1


def _foreign(number: int) -> RecordBatch:
    one = records(1, number)
    return one.with_columns(payloads=[{"owner": "them"}], documents=None)


def owners(scene: Scene) -> dict[RecordId, str]:
    """Return whose record each id of the target is: them, or us."""
    with scene.target.inner.open(create=False) as store:
        batches = list(store.scan(COLLECTION))
    return {
        record_id: payload.get("owner", "us")
        for batch in batches
        for record_id, payload in zip(batch.ids, batch.payloads, strict=True)
    }


def contents_of(scene: Scene, record_id: str) -> dict[str, Any]:
    with scene.target.inner.open(create=False) as store:
        return store.fetch(COLLECTION, [record_id]).payloads[0]


def of_them(scene: Scene) -> list[int]:
    return sorted(int(str(record_id)[1:]) for record_id, owner in owners(scene).items() if owner == "them")


def shown(scene: Scene) -> dict[str, Any]:
    event = scene.instance.get_latest_materialization_event(scene.declaration.key("target_collection"))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def refusal(result: dg.ExecuteInProcessResult) -> str:
    """Return what a conflict is refused with."""
    assert not result.success
    (said,) = failures(result).values()
    assert said["error"] == "ConflictError"
    return said["what"]


@pytest.fixture
def occupied(make_scene: MakeScene) -> Callable[..., Scene]:
    """Make a migration of twelve records in three ranges into a target that holds records of others."""

    def make(**options: Any) -> Scene:
        scene = make_scene(12, options={**QUICK, **options})
        theirs(scene, *THEIRS)
        return scene

    return make


@pytest.mark.parametrize(("policy", "left", "skipped"), [("skip", [*THEIRS], 4), ("overwrite", [90], 0)])
def test_a_migration_without_a_policy_may_be_given_one(
    occupied: Callable[..., Scene], policy: str, left: list[int], skipped: int
) -> None:
    scene = occupied()
    assert "names no conflict policy" in refusal(scene.migrate())
    result = run(scene, "migrate", conflict=policy)
    assert result.success, failures(result)
    assert of_them(scene) == left
    said = shown(scene)
    assert (said["proven"], said["skipped"], said["records written"]) == (True, skipped, 12 - skipped)
    assert len(owners(scene)) == 13
    assert len(list(scene.state_dir.iterdir())) == 1, "the state is the migration's own"


@pytest.mark.parametrize("own", ["skip", None])
def test_overwrite_writes_what_the_plan_knows_of_others_and_the_proof_holds(
    occupied: Callable[..., Scene], own: str | None
) -> None:
    scene = occupied(conflict=own)
    scene.target.poison["r00007"] = REFUSED
    assert not run(scene, "migrate", conflict="skip").success
    assert of_them(scene) == [*THEIRS]
    scene.target.poison.clear()
    result = run(scene, "migrate", conflict="overwrite")
    assert result.success, failures(result)
    assert ranges_of(steps_started(result), "load_range") == scene.keys[1:2]
    assert of_them(scene) == [1, 3, 11, 90], "what is proven stays as it is"
    said = shown(scene)
    assert (said["proven"], said["skipped"], said["records written"]) == (True, 3, 9)
    if own is not None:
        assert scene.migrate().success, "the next proof, under the migration's own policy"


def test_a_rollback_knows_what_a_launch_overwrote(occupied: Callable[..., Scene]) -> None:
    scene = occupied(conflict="skip")
    scene.target.poison["r00007"] = REFUSED
    assert not scene.migrate().success
    scene.target.poison.clear()
    assert run(scene, "migrate", conflict="overwrite").success
    said = refusal(run(scene, "rollback"))
    assert "overwrote 1 records of others" in said
    assert "string:r00006" in said


def test_skip_leaves_alone_what_is_not_overwritten_yet_and_a_rollback_brings_back_the_rest(
    occupied: Callable[..., Scene],
) -> None:
    scene = occupied(conflict="overwrite", keep_overwritten=True)
    scene.target.poison["r00007"] = REFUSED
    assert not scene.migrate().success
    assert of_them(scene) == [6, 90]
    scene.target.poison.clear()
    result = run(scene, "migrate", conflict="skip")
    assert result.success, failures(result)
    assert of_them(scene) == [6, 90]
    assert shown(scene)["skipped"] == 1
    assert run(scene, "rollback").success
    assert of_them(scene) == [*THEIRS]
    assert len(owners(scene)) == len(THEIRS)


def test_skip_leaves_alone_what_an_earlier_run_overwrote_and_a_rollback_knows_it(
    occupied: Callable[..., Scene],
) -> None:
    scene = occupied(conflict="overwrite", keep_overwritten=True, page_count=1)
    scene.target.poison["r00007"] = REFUSED
    assert not scene.migrate().success
    assert of_them(scene) == [90], "record 6 was written before record 7 failed"
    scene.target.poison.clear()
    change(scene, 6, colour="red")
    result = run(scene, "migrate", conflict="skip")
    assert result.success, failures(result)
    assert (shown(scene)["proven"], shown(scene)["skipped"]) == (True, 1)
    assert "colour" not in contents_of(scene, "r00006")
    assert scene.migrate().success, "and it is proven again under the migration's own policy"
    assert run(scene, "rollback").success
    assert of_them(scene) == [*THEIRS]


def test_a_range_that_is_proven_may_be_launched_again_under_another_policy(occupied: Callable[..., Scene]) -> None:
    scene = occupied(conflict="overwrite")
    assert scene.migrate().success
    first = scene.keys[0]
    for policy, skipped in (("skip", 2), ("overwrite", 0)):
        result = scene.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=scene.instance,
            asset_selection=[scene.declaration.key("loaded_ranges")],
            raise_on_error=False,
            run_config={"resources": {"docs_run": {"config": {"conflict": policy}}}},
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": first},
        )
        assert result.success, failures(result)
        assert scene.materialize("target_collection").success
        assert (shown(scene)["proven"], shown(scene)["skipped"]) == (True, skipped)
    assert of_them(scene) == [90]


def test_fail_refuses_before_anything_is_written(occupied: Callable[..., Scene]) -> None:
    scene = occupied(conflict="overwrite")
    scene.target.poison["r00007"] = REFUSED
    assert not scene.migrate().success
    scene.target.poison.clear()
    before, writes = owners(scene), scene.target.calls["upsert"]
    result = run(scene, "migrate", conflict="fail")
    assert "1 ids are already in" in refusal(result)
    assert "string:r00006" in refusal(result)
    assert steps_started(result) == ["plan_missing"]
    assert (owners(scene), scene.target.calls["upsert"]) == (before, writes)
    assert scene.migrate().success


def test_fail_looks_only_at_the_ranges_of_the_launch(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "conflict": "overwrite"})
    theirs(scene, 1, 11)
    assert scene.materialize("source_manifest").success
    first, second, third = scene.keys
    for key, is_free in ((first, False), (second, True), (third, False)):
        result = scene.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=scene.instance,
            asset_selection=[scene.declaration.key("loaded_ranges")],
            raise_on_error=False,
            run_config={"resources": {"docs_run": {"config": {"conflict": "fail"}}}},
            tags={"dagster/asset_partition_range_start": key, "dagster/asset_partition_range_end": key},
        )
        assert result.success is is_free
        assert len([step for step in steps_started(result) if "load_range" in step]) == is_free
    assert of_them(scene) == [1, 11]
    assert scene.materialized() == {second}


def test_fail_under_a_filter_is_decided_where_the_record_is_seen(occupied: Callable[..., Scene]) -> None:
    scene = occupied(conflict="overwrite", filter={"number": {"$lt": 11}}, push_down=False)
    scene.target.poison["r00007"] = REFUSED
    assert not scene.migrate().success
    scene.target.poison.clear()
    said = failures(run(scene, "migrate", conflict="fail"))
    assert list(said) == [f"load_range[{scene.keys[1]}]"]
    assert "string:r00006" in said[f"load_range[{scene.keys[1]}]"]["what"]
    assert of_them(scene) == [6, 11, 90]


@pytest.mark.parametrize("own", ["fail", None])
def test_the_next_launch_is_under_the_migration_s_own_policy_again(
    occupied: Callable[..., Scene], own: str | None
) -> None:
    """A plan that a launch made possible does not let later ones write over others."""
    scene = occupied(conflict=own)
    scene.target.poison["r00007"] = REFUSED
    assert not run(scene, "migrate", conflict="overwrite").success
    scene.target.poison.clear()
    said = failures(scene.migrate())
    (what,) = [item["what"] for item in said.values()]
    assert "string:r00006" in what if own else "names no conflict policy" in what
    assert of_them(scene) == [6, 90]
    assert run(scene, "retry_failed", conflict="overwrite").success
    assert of_them(scene) == [90]


def test_a_sync_may_be_given_a_policy_for_what_it_carries(occupied: Callable[..., Scene]) -> None:
    scene = occupied(conflict="fail", filter={"number": {"$lt": 11}})
    assert run(scene, "sync", conflict="skip").success
    change(scene, 6, colour="red")
    assert "string:r00006" in refusal(run(scene, "sync"))
    result = run(scene, "sync", conflict="overwrite")
    assert result.success, failures(result)
    assert 6 not in of_them(scene)
    assert shown(scene)["skipped"] == 2


def test_a_dry_run_says_what_a_policy_would_leave(occupied: Callable[..., Scene]) -> None:
    scene = occupied()
    result = run(scene, "migrate", dry_run=True, conflict="skip")
    assert result.success, failures(result)
    (found,) = [
        event.step_output_data.metadata
        for event in result.all_events
        if event.is_successful_output and event.step_output_data.output_name == "round"
    ]
    assert found["records that would stay as the target has them"].value == 4
    assert found["records that would be written"].value == 8
    assert of_them(scene) == [*THEIRS]


def test_a_policy_that_there_is_not_is_refused(scene: Scene) -> None:
    (said,) = failures(run(scene, "migrate", conflict="merge")).values()
    assert said["error"] == "SpecError"
    assert "'overwrite', 'skip' or 'fail'" in said["what"]


def test_a_launch_may_narrow_and_skip_at_once(occupied: Callable[..., Scene]) -> None:
    scene = occupied()
    assert run(scene, "migrate", conflict="skip", only="kind=odd").success
    assert of_them(scene) == [*THEIRS]
    result = run(scene, "migrate", conflict="overwrite")
    assert result.success, failures(result)
    assert of_them(scene) == [1, 3, 11, 90], "what was skipped of the first half is done"
    assert shown(scene)["skipped"] == 3


@pytest.mark.parametrize(("policy", "left"), [("skip", [*THEIRS]), ("overwrite", [90])])
@pytest.mark.parametrize("target", ["chroma", "milvus"])
def test_real_engines_keep_what_is_skipped_and_take_what_is_overwritten(
    make_scene: MakeScene, tmp_path: Path, target: str, policy: str, left: list[int]
) -> None:
    """From a folder into another that has ids of the source already."""
    scene = make_scene(options={**QUICK, "conflict": "fail"})
    scene.source.inner = ChromaSettings(path=str(tmp_path / "source"))
    places: dict[str, StoreSettings] = {
        "chroma": ChromaSettings(path=str(tmp_path / "target")),
        "milvus": MilvusSettings(path=str(tmp_path / "lite.db")),
    }
    scene.target.inner = places[target]
    scene.fill(12)
    theirs(scene, *THEIRS)
    assert "4 ids are already in" in refusal(scene.migrate())
    assert of_them(scene) == [*THEIRS]
    result = run(scene, "migrate", conflict=policy)
    assert result.success, failures(result)
    assert of_them(scene) == left
    assert len(owners(scene)) == 13
    assert shown(scene)["proven"] is True
