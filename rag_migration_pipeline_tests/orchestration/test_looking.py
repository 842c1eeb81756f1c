"""The jobs that only look: `<m>__plan`, `<m>__detect` and `<m>__verify`."""

from collections.abc import Callable
from typing import Any

import pytest

from rag_migration_pipeline.orchestration.detected import read_detected
from rag_migration_pipeline.orchestration.facts import lag_metadata
from rag_migration_pipeline.steps.manifest import open_manifest
from rag_migration_pipeline_tests.orchestration.scene import (
    COLLECTION,
    QUICK,
    READS_OF_VECTORS,
    REFUSED,
    Bag,
    Scene,
    change,
    failures,
    remove,
    run,
    spec_of,
    steps_started,
)

MakeScene = Callable[..., Scene]


def observed(scene: Scene, asset: str) -> dict[str, Any]:
    records = scene.instance.fetch_observations(scene.declaration.key(asset), limit=1).records
    (observation,) = [record.asset_observation for record in records]
    assert observation is not None
    return {name: value.value for name, value in observation.metadata.items()}


def test_a_plan_writes_nothing_and_shows_its_verdicts(scene: Scene) -> None:
    assert run(scene, "plan").success
    shown = observed(scene, "source_manifest")
    assert shown["records"] == "12 in 3 ranges"
    assert "| subject |" in shown["plan"]
    assert not list(scene.state_dir.rglob("manifest.json"))
    with scene.target.inner.open(create=True) as store:
        assert store.list_collections() == []


def test_a_plan_that_cannot_be_applied_fails(scene: Scene) -> None:
    with scene.target.inner.open(create=True) as store:
        store.create(spec_of(COLLECTION, dimension=7))
    result = run(scene, "plan")
    assert not result.success
    (said,) = failures(result).values()
    assert said["error"] == "SchemaCompatibilityError"
    assert "| subject |" in observed(scene, "source_manifest")["plan"]


def test_a_detection_finds_what_changed_and_loads_nothing(scene: Scene) -> None:
    assert run(scene, "migrate").success
    change(scene, 3, colour="red")
    remove(scene, 7)
    scene.fill(2, start=12)
    calls = scene.target.calls["upsert"]
    scene.source.calls.clear()
    assert run(scene, "detect").success
    assert scene.target.calls["upsert"] == calls
    assert [scene.source.calls[name] for name in READS_OF_VECTORS] == [0, 0, 0, 0]
    shown = observed(scene, "source_manifest")
    assert [shown[f"records {what}"] for what in ("added", "changed", "gone")] == [2, 1, 1]
    assert shown["ranges with changes"] == ", ".join(scene.keys[:2])
    manifest = open_manifest(scene.folder, scene.declaration.migration(Bag(scene.resources)))
    found = read_detected(scene.folder, manifest)
    assert found is not None
    assert found.count == 4


def test_a_detection_by_watermark_says_how_far_the_target_is_behind(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "detect": "watermark", "watermark": "number"})
    assert run(scene, "sync").success
    scene.fill(3, start=12)
    assert run(scene, "detect").success
    shown = observed(scene, "source_manifest")
    assert (shown["newest in the target"], shown["newest in the source"], shown["lag"]) == (11, 14, 3)


@pytest.mark.parametrize(
    ("held", "newest", "lag"),
    [
        ("2026-01-01T00:00:00+00:00", "2026-01-01T01:00:00+01:00", {"lag seconds": 0.0}),
        ("2026-01-01", "2026-01-02", {"lag seconds": 86_400.0}),
        ("2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00", {}),
        ("a", "b", {}),
        (1.5, 4, {"lag": 2.5}),
    ],
)
def test_a_lag_is_in_seconds_where_the_field_holds_dates(held: Any, newest: Any, lag: dict[str, float]) -> None:
    assert lag_metadata(held, newest) == {"newest in the target": held, "newest in the source": newest, **lag}


def test_what_was_detected_of_another_generation_is_forgotten(scene: Scene) -> None:
    assert run(scene, "migrate").success
    change(scene, 3, colour="red")
    assert run(scene, "detect").success
    assert run(scene, "sync").success
    manifest = open_manifest(scene.folder, scene.declaration.migration(Bag(scene.resources)))
    assert read_detected(scene.folder, manifest) is None


def test_a_detection_before_the_first_proof_says_what_to_run(scene: Scene) -> None:
    scene.target.poison["r00003"] = REFUSED
    assert not run(scene, "migrate").success
    (said,) = failures(run(scene, "detect")).values()
    assert "is not proven yet" in said["what"]
    assert "docs__sync" in said["what to do"]


def test_a_verification_passes_on_an_exact_copy_and_names_what_differs(scene: Scene) -> None:
    assert run(scene, "migrate").success
    assert run(scene, "verify").success
    assert observed(scene, "target_collection")["records compared"] == 12
    with scene.target.inner.open(create=False) as store:
        store.delete(COLLECTION, ["r00004"])
    result = run(scene, "verify")
    assert not result.success
    (said,) = failures(result).values()
    assert said["error"] == "ValidationError"
    assert "string:r00004: missing" in said["what"]


def test_the_jobs_of_a_migration_are_tagged_with_its_name(scene: Scene) -> None:
    result = run(scene, "plan")
    run_of = scene.instance.get_run_by_id(result.run_id)
    assert run_of is not None
    assert run_of.tags["rag_migration_pipeline/migration"] == "docs"
    assert steps_started(result) == ["plan"]
