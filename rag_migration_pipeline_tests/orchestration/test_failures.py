"""What a failing step says, how often it is tried, and that nothing is claimed as done."""

from collections.abc import Callable

import dagster as dg
import pytest

from rag_migration_pipeline.errors import RateLimitedError, StoreLockedError, StoreTimeoutError
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.orchestration.runs import run_job
from rag_migration_pipeline_tests.orchestration.scene import (
    AWAY,
    COLLECTION,
    QUICK,
    REFUSED,
    Bag,
    Scene,
    be_away_until,
    failures,
    records,
    spec_of,
    steps_started,
)

MakeScene = Callable[..., Scene]


def waits_s(result: dg.ExecuteInProcessResult) -> list[float]:
    """Return the seconds that Dagster waited before each further attempt."""
    kind = dg.DagsterEventType.STEP_UP_FOR_RETRY
    return [event.step_retry_data.seconds_to_wait for event in result.all_events if event.event_type is kind]


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_store_that_is_away_is_asked_max_attempts_times(make_scene: MakeScene, attempts: int) -> None:
    scene = make_scene(3, options={**QUICK, "max_attempts": attempts})
    scene.target.poison["r00001"] = AWAY
    result = scene.migrate()
    assert not result.success
    assert scene.target.calls["upsert"] == attempts
    assert len(waits_s(result)) == attempts - 1


def test_the_default_is_five_attempts(make_scene: MakeScene) -> None:
    assert MigrationOptions().max_attempts == 5
    scene = make_scene(3)
    scene.target.poison["r00001"] = AWAY
    scene.migrate()
    assert scene.target.calls["upsert"] == 5


def test_waits_grow(make_scene: MakeScene) -> None:
    options = {"range_count": 5, "max_attempts": 4, "retry_delay_s": 0.001, "retry_backoff": 3.0}
    scene = make_scene(3, options=options)
    scene.target.poison["r00001"] = AWAY
    assert waits_s(scene.migrate()) == pytest.approx([0.001, 0.003, 0.009])


def test_the_launch_says_how_often_and_after_how_long_is_tried_again(scene: Scene) -> None:
    scene.target.poison["r00001"] = AWAY
    launch = {"max_attempts": 3, "retry_delay_s": 0.002, "retry_backoff": 2.5}
    result = run_job(scene.job, scene.instance, resources={"docs_run": {"config": launch}})
    assert waits_s(result) == pytest.approx([0.002, 0.005])


def test_what_cannot_get_better_is_not_tried_again(scene: Scene) -> None:
    scene.target.poison["r00001"] = REFUSED
    result = scene.migrate()
    assert not result.success
    assert waits_s(result) == []


def test_a_store_that_comes_back_between_attempts_costs_no_range(scene: Scene) -> None:
    scene.target.poison["r00001"] = AWAY

    def come_back(operation: str, _collection: str | None) -> None:
        if operation == "upsert" and scene.target.calls["upsert"] == 2:
            scene.target.poison.clear()

    scene.target.fault = come_back
    result = scene.migrate()
    assert result.success
    assert len(waits_s(result)) == 2


def test_a_retry_goes_on_after_the_batches_that_were_acknowledged(make_scene: MakeScene) -> None:
    scene = make_scene(9, options={**QUICK, "range_count": 9, "page_count": 3})
    be_away_until(scene, "r00006", writes=3)
    assert scene.migrate().success
    assert scene.target.calls["upsert"] == 4  # two acknowledged, one refused, the same one again
    assert len(scene.target_ids()) == 9


def test_a_folder_that_is_in_use_is_waited_for(scene: Scene) -> None:
    def be_in_use_once(operation: str, _collection: str | None) -> None:
        if operation == "upsert" and scene.target.calls["upsert"] == 1:
            raise StoreLockedError("process 17 uses the folder.", todo="Wait.")

    scene.target.fault = be_in_use_once
    result = scene.migrate()
    assert result.success
    assert len(waits_s(result)) == 1


def test_the_wait_that_a_store_asks_for_is_kept(make_scene: MakeScene) -> None:
    scene = make_scene(3, options={**QUICK, "max_attempts": 3})
    scene.target.poison["r00001"] = RateLimitedError("too many requests.", todo="Wait.", retry_after_s=0.021)
    result = scene.migrate()
    assert not result.success
    assert waits_s(result) == [0.021, 0.021]
    assert scene.target.calls["upsert"] == 3
    (said,) = failures(result).values()
    assert said["error"] == "RateLimitedError"
    assert said["what to do"] == "Wait."


def test_a_failing_step_says_error_what_and_what_to_do(scene: Scene) -> None:
    scene.target.poison["r00001"] = StoreTimeoutError("no answer in 3 s.", todo="Ask less.", waited_s=3)
    (said,) = failures(scene.migrate()).values()
    assert said == {
        "": "no answer in 3 s. Ask less.",
        "error": "StoreTimeoutError",
        "what": "no answer in 3 s.",
        "what to do": "Ask less.",
        "waited_s": "3",
    }


def test_a_mistake_of_ours_is_told_at_once(scene: Scene) -> None:
    def stumble(operation: str, _collection: str | None) -> None:
        if operation == "upsert":
            raise ZeroDivisionError("one by none")

    scene.target.fault = stumble
    result = scene.migrate()
    assert waits_s(result) == []
    said = next(iter(failures(result).values()))
    assert said["error"] == "ZeroDivisionError"
    assert said["what"] == "unexpected ZeroDivisionError: one by none"


def assert_nothing_is_claimed(scene: Scene) -> None:
    """Check that the instance holds no materialization and that nothing was written."""
    assert not any(scene.is_materialized(asset) for asset in ("source_manifest", "loaded_ranges", "target_collection"))
    assert scene.target.calls["upsert"] == 0


def test_a_missing_source_collection_is_named_and_no_target_is_made(make_scene: MakeScene) -> None:
    scene = make_scene()
    result = scene.migrate()
    (said,) = failures(result).values()
    assert said["error"] == "CollectionNotFoundError"
    assert COLLECTION in said["what"]
    assert said["what to do"]
    assert steps_started(result) == ["plan_missing"]
    assert_nothing_is_claimed(scene)
    assert scene.target.calls == {}


def test_a_target_of_another_dimension_is_refused_before_the_first_write(scene: Scene) -> None:
    with scene.target.inner.open(create=True) as store:
        store.create(spec_of(COLLECTION, dimension=7))
    (said,) = failures(scene.migrate()).values()
    assert said["error"] == "SchemaCompatibilityError"
    assert "expected dimension 4, the target has 7" in said["what"]
    assert_nothing_is_claimed(scene)


def test_a_target_that_is_the_source_is_refused(scene: Scene) -> None:
    scene.target.inner = scene.source.inner
    (said,) = failures(scene.migrate()).values()
    assert said["error"] == "SpecError"
    assert "the target is the source" in said["what"]
    assert_nothing_is_claimed(scene)


def test_a_target_that_is_not_empty_needs_a_policy(scene: Scene) -> None:
    with scene.target.inner.open(create=True) as store:
        store.create(spec_of(COLLECTION))
        store.upsert(COLLECTION, records(2))
    (said,) = failures(scene.migrate()).values()
    assert said["error"] == "ConflictError"
    assert "conflict" in said["what to do"]
    assert_nothing_is_claimed(scene)


def test_a_manifest_of_another_migration_is_refused(scene: Scene, make_scene: MakeScene) -> None:
    assert scene.migrate().success
    other = make_scene(4)
    identity = other.declaration.migration(Bag(other.resources)).identity
    scene.folder.root.rename(scene.state_dir / identity)
    other.state_dir = scene.state_dir
    (said,) = failures(other.migrate()).values()
    assert said["error"] == "ManifestError"
    assert "belongs to another migration" in said["what"]
    assert other.target_ids() == []


def test_a_damaged_manifest_is_named_with_the_way_out(scene: Scene) -> None:
    assert scene.migrate().success
    scene.folder.manifest.write_text("{}")
    (said,) = failures(scene.migrate()).values()
    assert said["error"] == "ManifestError"
    assert str(scene.folder.manifest) in said["what"]
    assert said["what to do"]


def test_records_gone_from_the_source_fail_their_range_by_name(scene: Scene) -> None:
    scene.materialize("source_manifest")
    with scene.source.inner.open(create=False) as store:
        store.delete(COLLECTION, ["r00006"])
    (said,) = failures(scene.migrate()).values()
    assert said["error"] == "SourceChangedError"
    assert "string:r00006" in said["what"]
    assert scene.materialized() == {scene.keys[0], scene.keys[2]}
