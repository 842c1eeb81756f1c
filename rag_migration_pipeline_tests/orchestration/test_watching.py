"""The sensor that looks at a source: it asks for a sync when something changed, once, and else for nothing."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import RUN_KEY_TAG

from rag_migration_pipeline.errors import StoreLockedError
from rag_migration_pipeline.orchestration import watching
from rag_migration_pipeline_tests.orchestration.scene import (
    COLLECTION,
    QUICK,
    READS_OF_VECTORS,
    REFUSED,
    Scene,
    change,
    losing,
    records,
    remove,
    run,
)

MakeScene = Callable[..., Scene]


def watched(make_scene: MakeScene, by: str, count: int = 12, **options: Any) -> Scene:
    return make_scene(count, options={**QUICK, "watch": {"every_s": 30, "by": by}, "deletes": "mirror", **options})


def tick_of(scene: Scene, name: str = "changes") -> Any:
    """Return what the sensor asks for: a run request, or why it asks for none."""
    with dg.build_sensor_context(instance=scene.instance, resources=scene.definitions.resources) as context:
        found = scene.definitions.resolve_sensor_def(f"{scene.name}__{name}").evaluate_tick(context)
    assert len(found.run_requests or ()) <= 1
    return found.run_requests[0] if found.run_requests else dg.SkipReason(found.skip_message)


def asked(found: Any) -> str:
    """Return the run key of what a sensor asks for."""
    assert isinstance(found, dg.RunRequest), found
    assert found.run_key
    assert found.tags["rag_migration_pipeline/migration"] == "docs"
    return found.run_key


def skipped(found: Any) -> str:
    assert isinstance(found, dg.SkipReason), found
    return found.skip_message or ""


@pytest.mark.parametrize("by", ["count", "ids", "watermark"])
def test_what_was_never_migrated_is_asked_for_once(make_scene: MakeScene, by: str) -> None:
    scene = watched(make_scene, by, detect="watermark", watermark="number")
    first = asked(tick_of(scene))
    assert asked(tick_of(scene)) == first  # Dagster launches a run key once


@pytest.mark.parametrize("by", ["count", "ids", "watermark"])
def test_an_idle_source_asks_for_nothing_and_no_vector_is_read(make_scene: MakeScene, by: str) -> None:
    scene = watched(make_scene, by, detect="watermark", watermark="number")
    assert run(scene, "sync").success
    scene.source.calls.clear()
    for _ in range(3):
        assert skipped(tick_of(scene)).startswith("nothing changed: 12 ")
    assert [scene.source.calls[name] for name in READS_OF_VECTORS] == [0, 0, 0, 0]


@pytest.mark.parametrize("by", ["count", "ids", "watermark"])
def test_records_that_came_are_asked_for_once_and_then_known(make_scene: MakeScene, by: str) -> None:
    scene = watched(make_scene, by, detect="watermark", watermark="number")
    assert run(scene, "sync").success
    scene.fill(3, start=12)
    first = asked(tick_of(scene))
    assert asked(tick_of(scene)) == first
    assert run(scene, "sync").success
    assert len(scene.target_ids()) == 15
    assert skipped(tick_of(scene)).startswith("nothing changed")
    scene.fill(1, start=15)
    assert asked(tick_of(scene)) != first


@pytest.mark.parametrize("detect", ["payload", "ids", "full"])
def test_a_watched_field_is_noted_however_changes_are_found(make_scene: MakeScene, detect: str) -> None:
    watch = {"by": "watermark", "field": "number"}
    scene = make_scene(12, options={**QUICK, "watch": watch, "detect": detect})
    assert run(scene, "sync").success
    assert skipped(tick_of(scene)) == "nothing changed: 12 records, 0 with number after 11"
    scene.fill(2, start=12)
    assert asked(tick_of(scene))
    assert run(scene, "sync").success
    assert skipped(tick_of(scene)) == "nothing changed: 14 records, 0 with number after 13"
    if detect != "ids":
        change(scene, 3, number=99)
        assert asked(tick_of(scene))
        assert run(scene, "sync").success
        assert skipped(tick_of(scene)) == "nothing changed: 14 records, 0 with number after 99"


@pytest.mark.parametrize("by", ["count", "ids"])
def test_records_that_went_are_noticed(make_scene: MakeScene, by: str) -> None:
    scene = watched(make_scene, by)
    assert run(scene, "sync").success
    remove(scene, 4)
    assert asked(tick_of(scene))
    assert run(scene, "sync").success
    assert "r00004" not in scene.target_ids()
    assert skipped(tick_of(scene)).startswith("nothing changed")


def test_a_record_that_took_anothers_place_is_noticed_by_its_id(make_scene: MakeScene) -> None:
    by_ids, by_count = watched(make_scene, "ids"), watched(make_scene, "count")
    for scene in (by_ids, by_count):
        assert run(scene, "sync").success
        remove(scene, 4)
        scene.fill(1, start=12)
    assert asked(tick_of(by_ids))
    assert skipped(tick_of(by_count)) == "nothing changed: 12 records"  # what a count cannot see


def test_a_record_that_grew_beyond_the_watermark_is_noticed(make_scene: MakeScene) -> None:
    scene = watched(make_scene, "watermark", detect="watermark", watermark="number")
    assert run(scene, "sync").success
    change(scene, 3, number=99)
    assert asked(tick_of(scene))
    assert run(scene, "sync").success
    assert skipped(tick_of(scene)) == "nothing changed: 12 records, 0 with number after 99"


def test_a_watch_by_watermark_waits_for_a_first_one_without_asking_for_ever(make_scene: MakeScene) -> None:
    scene = watched(make_scene, "watermark", detect="watermark", watermark="number")
    assert run(scene, "migrate").success
    scene.folder.sync.unlink()  # as of a version that noted none
    first = asked(tick_of(scene))
    assert asked(tick_of(scene)) == first


def test_while_a_run_goes_on_nothing_is_asked_for(make_scene: MakeScene) -> None:
    scene = watched(make_scene, "count")
    run_of = scene.instance.create_run_for_job(
        job_def=scene.definitions.resolve_job_def("docs__sync"), status=dg.DagsterRunStatus.STARTED
    )
    assert skipped(tick_of(scene)) == f"run {run_of.run_id[:8]} of docs__sync goes on"


def test_what_is_not_proven_is_left_to_a_retry(make_scene: MakeScene) -> None:
    scene = watched(make_scene, "count")
    scene.target.poison["r00003"] = REFUSED
    assert not run(scene, "sync").success
    assert "launch docs__retry_failed" in skipped(tick_of(scene))


@pytest.mark.parametrize("is_first", [True, False], ids=["first run", "later"])
def test_what_the_source_lost_in_the_middle_of_a_run_is_left_out_by_the_next_one(
    make_scene: MakeScene, is_first: bool
) -> None:
    scene = watched(make_scene, "count")
    if not is_first:
        assert run(scene, "sync").success
        scene.fill(7, start=12)
    losing(scene, 5 if is_first else 13)
    assert not run(scene, "sync").success
    first = asked(tick_of(scene))
    assert asked(tick_of(scene)) == first
    assert run(scene, "sync").success
    assert skipped(tick_of(scene)).startswith("nothing changed")
    assert len(scene.target_ids()) == (11 if is_first else 18)


def test_a_source_that_lost_too_much_in_the_middle_of_a_run_is_asked_for_once(make_scene: MakeScene) -> None:
    scene = watched(make_scene, "count", max_deletes=1)
    losing(scene, 2, 3, 4, 5)
    assert not run(scene, "sync").success
    first = asked(tick_of(scene))
    assert asked(tick_of(scene)) == first
    refused = run(scene, "sync")
    assert not refused.success
    scene.instance.add_run_tags(refused.run_id, {RUN_KEY_TAG: first})  # as the daemon launches it
    assert "launch docs__retry_failed" in skipped(tick_of(scene))


def test_many_ids_are_left_to_runs_that_detect(make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MOST_IDS", 10)
    scene = watched(make_scene, "ids")
    assert run(scene, "sync").success
    assert skipped(tick_of(scene)) == "nothing changed: not detected yet"
    assert "detection" in asked(tick_of(scene, "detection"))
    assert run(scene, "detect").success
    assert skipped(tick_of(scene)).startswith("nothing changed: 0 changes")
    assert asked(tick_of(scene, "detection"))
    with scene.source.inner.open(create=False) as store:
        store.upsert(COLLECTION, records(1, 40))
    assert run(scene, "detect").success
    assert skipped(tick_of(scene, "detection")) == "1 changes wait to be synced"
    assert asked(tick_of(scene))
    assert run(scene, "sync").success
    assert "r00040" in scene.target_ids()
    assert asked(tick_of(scene, "detection"))


def test_few_ids_need_no_runs_that_detect(make_scene: MakeScene) -> None:
    scene = watched(make_scene, "ids")
    assert run(scene, "sync").success
    assert skipped(tick_of(scene, "detection")) == "the ids are few enough to be listed in a tick"


def test_a_source_that_somebody_holds_is_looked_at_the_next_time(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise StoreLockedError("process 17 uses the folder.", todo="Wait.")

    scene = watched(make_scene, "count")
    assert run(scene, "sync").success
    monkeypatch.setattr(scene.source, "open_source", refuse)
    assert skipped(tick_of(scene)) == "process 17 uses the folder."
