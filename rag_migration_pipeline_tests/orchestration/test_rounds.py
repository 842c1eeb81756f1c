"""The jobs `<m>__sync` and `<m>__retry_failed`: what changed or failed is carried, nothing else, and all is proven."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline_tests.orchestration.scene import (
    COLLECTION,
    QUICK,
    READS_OF_VECTORS,
    REFUSED,
    Scene,
    change,
    failures,
    losing,
    ranges_of,
    remove,
    run,
    steps_started,
)

MakeScene = Callable[..., Scene]


def contents(scene: Scene) -> dict[RecordId, tuple[Mapping[str, Any], str | None]]:
    """Return what the target holds, read round the watched store."""
    with scene.target.inner.open(create=False) as store:
        batches = list(store.scan(COLLECTION))
    return {
        record_id: (payload, document)
        for batch in batches
        for record_id, payload, document in zip(batch.ids, batch.payloads, batch.documents or (), strict=True)
    }


def metadata_of(scene: Scene, asset: str) -> dict[str, Any]:
    event = scene.instance.get_latest_materialization_event(scene.declaration.key(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_the_first_sync_carries_everything_and_proves_it(scene: Scene) -> None:
    result = run(scene, "sync")
    assert result.success
    assert ranges_of(steps_started(result), "load_range") == scene.keys
    assert scene.target_ids() == [f"r{number:05d}" for number in range(12)]
    assert metadata_of(scene, "target_collection")["proven"] is True


def test_a_sync_without_changes_reads_no_vectors_and_runs_no_range(scene: Scene) -> None:
    assert run(scene, "sync").success
    scene.source.calls.clear()
    result = run(scene, "sync")
    assert result.success
    assert steps_started(result) == ["plan_changes", "prove_collection"]
    assert {name: scene.source.calls[name] for name in READS_OF_VECTORS} == dict.fromkeys(READS_OF_VECTORS, 0)


def test_a_sync_carries_what_was_added_changed_and_deleted_and_nothing_else(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "deletes": "mirror"})
    assert run(scene, "sync").success
    before = scene.keys
    scene.fill(7, start=12)
    change(scene, 6, colour="red")
    remove(scene, 1)
    writes = scene.target.calls["upsert"]
    result = run(scene, "sync")
    assert result.success
    assert scene.keys[:3] == before  # keys are stable, and one more came
    assert ranges_of(steps_started(result), "load_range") == scene.keys
    assert scene.target.calls["upsert"] == writes + 3  # nothing was written for the range that only lost a record
    found = contents(scene)
    assert sorted(found, key=str) == [f"r{number:05d}" for number in range(19) if number != 1]
    assert found["r00006"][0]["colour"] == "red"
    shown = metadata_of(scene, "source_manifest")
    assert [shown[f"records {what}"] for what in ("added", "changed", "gone")] == [7, 1, 1]
    assert scene.materialized() == set(scene.keys) == set(scene.instance.get_dynamic_partitions("docs_ranges"))


def test_what_a_sync_does_not_touch_stays_as_it_is(scene: Scene) -> None:
    assert run(scene, "sync").success
    change(scene, 11, colour="red")
    result = run(scene, "sync")
    assert result.success
    assert ranges_of(steps_started(result), "extract_range") == scene.keys[2:]


def test_a_range_that_lost_all_its_records_is_retired_with_their_fate(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "deletes": "mirror"})
    assert run(scene, "sync").success
    first = scene.keys[0]
    remove(scene, *range(5))
    assert run(scene, "sync").success
    assert scene.target_ids() == [f"r{number:05d}" for number in range(5, 12)]
    scene.fill(1, start=12)
    assert run(scene, "sync").success
    assert first not in scene.instance.get_dynamic_partitions("docs_ranges")
    assert metadata_of(scene, "source_manifest")["ranges retired"] == (
        f"{first}: the source has none of their records any more; these were deleted from the target"
    )


def test_a_sync_that_failed_half_way_is_finished_by_the_next(scene: Scene) -> None:
    assert run(scene, "sync").success
    change(scene, 6, colour="red")
    scene.fill(1, start=12)
    scene.target.poison["r00006"] = REFUSED
    assert not run(scene, "sync").success
    scene.target.poison.clear()
    result = run(scene, "sync")
    assert result.success
    assert ranges_of(steps_started(result), "load_range") == [scene.keys[1]]
    assert contents(scene)["r00006"][0]["colour"] == "red"


def test_a_retry_runs_only_the_ranges_that_failed(scene: Scene) -> None:
    scene.target.poison["r00007"] = REFUSED
    assert not scene.migrate().success
    scene.target.poison.clear()
    scene.fill(3, start=12)  # is for a sync to find
    result = run(scene, "retry_failed")
    assert result.success
    assert ranges_of(steps_started(result), "load_range") == scene.keys[1:2]
    assert len(scene.target_ids()) == 12


def test_a_retry_of_what_was_never_begun_says_so(scene: Scene) -> None:
    (said,) = failures(run(scene, "retry_failed")).values()
    assert said["error"] == "ManifestError"
    assert "has no manifest yet" in said["what"]


@pytest.mark.parametrize("job", ["migrate", "sync"])
def test_a_dry_run_writes_nothing_and_says_what_it_would(scene: Scene, job: str) -> None:
    result = run(scene, job, dry_run=True)
    assert result.success
    assert steps_started(result)[1:] == ["prove_collection"]
    assert not scene.state_dir.exists() or not list(scene.state_dir.rglob("manifest.json"))
    with scene.target.inner.open(create=True) as store:
        assert store.list_collections() == []
    (shown,) = [
        event.step_output_data.metadata
        for event in result.all_events
        if event.is_successful_output and event.step_output_data.output_name == "round"
    ]
    assert shown["records that would be written"].value == 12
    assert not scene.is_materialized("target_collection")


def test_options_of_a_launch_count_for_that_launch(make_scene: MakeScene) -> None:
    scene = make_scene(10, options={**QUICK, "range_count": 10})
    assert run(scene, "migrate", page_count=3, validation="counts").success
    assert scene.target.calls["upsert"] == 4
    shown = metadata_of(scene, "target_collection")
    assert (shown["proven"], shown["report"]["validation"]) == (False, "counts")


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        ({"page_count": 0}, "page_count"),
        ({"validation": "everything"}, "'full', 'counts' or 'none'"),
        ({"max_rejected": "a few"}, "expected a count or a share, got 'a few'"),
    ],
)
def test_a_launch_with_options_that_make_no_sense_is_refused(scene: Scene, launch: dict[str, Any], said: str) -> None:
    result = run(scene, "migrate", **launch)
    assert not result.success
    (found,) = failures(result).values()
    assert found["error"] == "SpecError"
    assert said in found["what"]
    assert scene.target_ids() == []


@pytest.mark.parametrize("job", ["sync", "migrate", "retry_failed"])
@pytest.mark.parametrize("is_first", [True, False], ids=["first run", "later"])
def test_records_that_are_gone_before_they_are_carried_stop_one_run_and_not_the_next(
    make_scene: MakeScene, job: str, is_first: bool
) -> None:
    scene = make_scene(12, options={**QUICK, "deletes": "mirror"})
    if not is_first:
        assert run(scene, "sync").success
        scene.fill(7, start=12)
        change(scene, 6, colour="red")
    losing(scene, 6, 11 if is_first else 13)
    failed = run(scene, "sync")
    assert not failed.success
    assert "are gone from" in str(failures(failed))
    result = run(scene, job)
    assert result.success
    assert metadata_of(scene, "target_collection")["proven"] is True
    with scene.source.inner.open(create=False) as store:
        expected = {record_id for page in store.iter_ids(COLLECTION) for record_id in page}
    assert set(scene.target_ids()) == expected
    assert scene.materialized() == set(scene.keys) == set(scene.instance.get_dynamic_partitions("docs_ranges"))
    assert run(scene, "sync").success


def test_a_backfill_goes_on_without_them_when_the_manifest_was_materialized_again(scene: Scene) -> None:
    assert scene.materialize("source_manifest").success
    keys = scene.keys
    losing(scene, 6)
    assert not scene.materialize("loaded_ranges", start=keys[0], stop=keys[-1]).success
    assert scene.materialize("source_manifest").success
    assert scene.keys == keys
    assert scene.materialize("loaded_ranges", start=keys[0], stop=keys[-1]).success
    assert scene.materialize("target_collection").success
    assert len(scene.target_ids()) == 11


def test_two_runs_may_register_the_same_ranges_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finds none there, and the database refuses a key that comes twice."""
    real, asked = scene.instance.get_dynamic_partitions, []

    def none_at_first(name: str) -> Any:
        asked.append(name)
        if len(asked) > 1:
            return real(name)
        scene.instance.add_dynamic_partitions(name, scene.keys[:2])
        return []

    monkeypatch.setattr(scene.instance, "get_dynamic_partitions", none_at_first)
    assert run(scene, "sync").success
    assert set(real("docs_ranges")) == set(scene.keys)
