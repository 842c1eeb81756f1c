"""The option `only` of a launch: what it takes is carried and compared, the rest waits, nothing is called proven."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import numpy as np
import pytest

from rag_migration_pipeline.envelope import layout_of, unpack
from rag_migration_pipeline.orchestration.words import RANGE_CHECK
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline.steps.manifest import open_manifest, proven_keys
from rag_migration_pipeline.steps.pending import read_pending
from rag_migration_pipeline.stores.base import StoreSettings
from rag_migration_pipeline.stores.chroma_settings import ChromaSettings
from rag_migration_pipeline.stores.milvus import MilvusSettings
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline_tests.orchestration.scene import (
    COLLECTION,
    QUICK,
    REFUSED,
    Bag,
    Scene,
    change,
    failures,
    ranges_of,
    remove,
    run,
    steps_started,
)

MakeScene = Callable[..., Scene]
Contents = dict[RecordId, tuple[Mapping[str, Any], str | None, tuple[float, ...]]]
EVEN, ODD = "kind=even", "kind=odd"


def held(settings: StoreSettings) -> Contents:
    """Return what a collection holds: id -> payload, document, direction of the vector."""
    found: Contents = {}
    with settings.open(create=False) as store:
        layout = layout_of(store.spec(COLLECTION), store.capabilities, settings.document_key)
        for packed in store.scan(COLLECTION):
            batch = unpack(packed, layout)
            values = batch.dense().values
            values = values / np.linalg.norm(values, axis=1, keepdims=True)
            for row, record_id in enumerate(batch.ids):
                direction = tuple(np.round(values[row].astype(float), 5).tolist())
                document = batch.documents[row] if batch.documents is not None else None
                found[record_id] = (batch.payloads[row], document, direction)
    return found


def source_of(scene: Scene, *numbers: int) -> Contents:
    """Return these records as the source has them."""
    every = held(scene.source.inner)
    return {f"r{number:05d}": every[f"r{number:05d}"] for number in numbers}


def proven(scene: Scene) -> list[str]:
    manifest = open_manifest(scene.folder, scene.declaration.migration(Bag(scene.resources)))
    return proven_keys(scene.folder, manifest)


def pending(scene: Scene) -> dict[str, list[RecordId]]:
    """Return the records of each range that a narrowed run has left."""
    migration = scene.declaration.migration(Bag(scene.resources))
    manifest = open_manifest(scene.folder, migration)
    found = {key: read_pending(scene.folder, key, manifest.generation) for key in scene.keys}
    return {key: sorted(item.touched, key=str) for key, item in found.items() if item is not None}


def told(result: dg.ExecuteInProcessResult, step: str) -> dict[str, Any]:
    """Return the metadata of what a step put out."""
    (found,) = [event.step_output_data.metadata for event in result.all_events if _is_result(event, step)]
    return {name: value.value for name, value in found.items()}


def _is_result(event: dg.DagsterEvent, step: str) -> bool:
    return event.is_successful_output and event.step_key == step and event.step_output_data.output_name == "result"


def test_what_is_taken_is_carried_and_the_run_says_that_nothing_is_proven(scene: Scene) -> None:
    result = run(scene, "migrate", only=EVEN)
    assert result.success, failures(result)
    assert held(scene.target.inner) == source_of(scene, *range(0, 12, 2))
    assert proven(scene) == []
    assert scene.materialized() == set()
    assert not scene.is_materialized("target_collection")
    assert not scene.folder.report.exists()
    assert not [item for item in result.get_asset_check_evaluations() if item.check_name == RANGE_CHECK]
    said = {"records carried": 6, "records pending": 6, "ranges pending": 3, "proven": False}
    assert told(result, "prove_collection") == said
    observed = scene.instance.fetch_observations(scene.declaration.key("target_collection"), limit=1).records
    assert observed[0].asset_observation is not None
    assert {name: value.value for name, value in observed[0].asset_observation.metadata.items()} == said
    first = scene.keys[0]
    assert told(result, f"validate_range[{first}]") == {
        "records carried": 3,
        "records pending": 2,
        "ranges pending": 1,
        "proven": False,
    }
    assert pending(scene)[first] == ["r00001", "r00003"]
    counts = read_receipt(scene.folder.receipt(first)).counts
    assert (counts["written"], counts["filtered"], counts["compared"]) == (3, 0, 3)


@pytest.mark.parametrize("job", ["migrate", "sync", "retry_failed"])
def test_a_later_launch_carries_just_the_rest_and_proves_the_whole(scene: Scene, job: str) -> None:
    assert run(scene, "migrate", only="number<7").success
    assert proven(scene) == scene.keys[:1], "a range of which all is taken is proven as always"
    assert scene.materialized() == {scene.keys[0]}
    written: list[RecordId] = []
    store = scene.target.open_target

    def noting() -> Any:
        opened = store()
        upsert = opened.upsert
        opened.upsert = lambda name, batch: [written.extend(batch.ids), upsert(name, batch)][1]  # type: ignore[method-assign,func-returns-value]
        return opened

    scene.target.open_target = noting  # type: ignore[method-assign]
    result = run(scene, job)
    assert result.success, failures(result)
    assert ranges_of(steps_started(result), "load_range") == scene.keys[1:]
    assert sorted(written, key=str) == [f"r{number:05d}" for number in range(7, 12)]
    assert held(scene.target.inner) == held(scene.source.inner)
    assert scene.materialized() == set(scene.keys) == set(proven(scene))
    assert scene.is_materialized("target_collection")
    assert pending(scene) == {}


def test_launches_that_together_take_everything_prove_it(scene: Scene) -> None:
    assert run(scene, "migrate", only=EVEN).success
    result = run(scene, "migrate", only=ODD)
    assert result.success, failures(result)
    assert scene.is_materialized("target_collection")
    assert held(scene.target.inner) == held(scene.source.inner)


def test_one_that_takes_nothing_carries_nothing_and_is_no_failure(scene: Scene) -> None:
    result = run(scene, "migrate", only="knd=even")
    assert result.success, failures(result)
    assert scene.target_ids() == []
    assert told(result, "prove_collection")["records pending"] == 12
    assert run(scene, "migrate").success
    assert held(scene.target.inner) == held(scene.source.inner)


def test_what_the_filter_leaves_out_is_filtered_and_what_the_launch_leaves_is_not(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "filter": {"number": {"$lt": 9}}, "push_down": False})
    assert run(scene, "migrate", only=EVEN).success
    assert held(scene.target.inner) == source_of(scene, 0, 2, 4, 6, 8)
    counts = [read_receipt(scene.folder.receipt(key)).counts["filtered"] for key in scene.keys]
    assert counts == [0, 0, 1]
    result = run(scene, "migrate")
    assert result.success, failures(result)
    assert held(scene.target.inner) == source_of(scene, *range(9))
    counts = [read_receipt(scene.folder.receipt(key)).counts["filtered"] for key in scene.keys]
    assert counts == [0, 1, 2]


def named(number: int) -> str:
    """Give a record another id, as a user's function does."""
    return f"n{number:02d}"


@pytest.mark.parametrize(
    ("mapping", "first"),
    [
        ({"field_mapping": {"kind": "sort"}}, "r00000"),
        ({"field_mapping": {"number": "id"}, "transforms": {"number": named}}, "n00"),
    ],
    ids=["plain", "with a function, and other ids"],
)
def test_it_looks_at_records_as_the_source_has_them_before_any_mapping(
    make_scene: MakeScene, mapping: dict[str, Any], first: str
) -> None:
    scene = make_scene(12, options={**QUICK, "mapping": mapping})
    assert run(scene, "migrate", only=EVEN).success
    half = sorted(scene.target_ids())
    assert (half[0], len(half)) == (first, 6)
    result = run(scene, "migrate")
    assert result.success, failures(result)
    there = held(scene.target.inner)
    assert len(there) == 12
    assert set(half) < set(there)
    words = [payload.get("sort", payload.get("kind")) for payload, _, _ in there.values()]
    assert sorted(words) == ["even"] * 6 + ["odd"] * 6


def test_a_run_of_the_partitions_alone_leaves_them_as_they_were(scene: Scene) -> None:
    assert scene.materialize("source_manifest").success
    keys = scene.keys
    config = {"resources": {"docs_run": {"config": {"only": EVEN}}}}
    result = partitions(scene, keys[0], keys[-1], config)
    assert result.success, failures(result)
    assert scene.materialized() == set()
    assert not scene.materialize("target_collection").success, "the proof says what is missing"
    assert partitions(scene, keys[0], keys[-1], {}).success
    assert scene.materialized() == set(keys)
    assert scene.materialize("target_collection").success
    assert held(scene.target.inner) == held(scene.source.inner)


def partitions(scene: Scene, start: str, stop: str, config: dict[str, Any]) -> dg.ExecuteInProcessResult:
    tags = {"dagster/asset_partition_range_start": start, "dagster/asset_partition_range_end": stop}
    return scene.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=scene.instance,
        asset_selection=[scene.declaration.key("loaded_ranges")],
        raise_on_error=False,
        run_config=config,
        tags=tags,
    )


def test_of_a_range_that_is_proven_those_taken_are_carried_again_and_it_stays_proven(scene: Scene) -> None:
    assert scene.migrate().success
    with scene.target.inner.open(create=False) as store:
        store.delete(COLLECTION, ["r00002", "r00003"])
    first = scene.keys[0]
    config = {"resources": {"docs_run": {"config": {"only": "number=2"}}}}
    assert partitions(scene, first, first, config).success
    assert "r00002" in scene.target_ids()
    assert "r00003" not in scene.target_ids()
    assert proven(scene) == scene.keys
    result = run(scene, "migrate")  # the proof finds what is still missing, which the range's receipt claims
    assert not result.success
    assert "1 missing (string:r00003)" in failures(result)["prove_collection"]["what"]
    assert run(scene, "migrate").success
    assert held(scene.target.inner) == held(scene.source.inner)


def test_a_sync_carries_what_is_taken_of_what_changed_and_the_next_one_the_rest(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "deletes": "mirror"})
    assert run(scene, "sync").success
    for number in (2, 3, 6, 7):
        change(scene, number, colour="red")
    remove(scene, 11)
    scene.fill(2, start=20)
    result = run(scene, "sync", only=EVEN)
    assert result.success, failures(result)
    assert told(result, "prove_collection")["records pending"] == 3  # r3, r7, r21
    there = held(scene.target.inner)
    assert {i for i, (payload, _, _) in there.items() if "colour" in payload} == {"r00002", "r00006"}
    assert "r00020" in there
    assert "r00021" not in there
    result = run(scene, "sync")
    assert result.success, failures(result)
    assert held(scene.target.inner) == held(scene.source.inner)
    assert scene.is_materialized("target_collection")


def test_a_record_that_was_set_aside_and_one_that_failed_are_told_apart_from_what_waits(
    make_scene: MakeScene,
) -> None:
    scene = make_scene(12, options=QUICK)
    scene.target.poison["r00006"] = REFUSED
    result = run(scene, "migrate", only=EVEN)
    assert not result.success, "a range that fails is a failure, narrowed or not"
    assert set(failures(result)) == {f"load_range[{scene.keys[1]}]"}
    scene.target.poison.clear()
    result = run(scene, "migrate")
    assert result.success, failures(result)
    assert held(scene.target.inner) == held(scene.source.inner)


def test_a_rollback_after_a_narrowed_run_takes_away_what_it_wrote(scene: Scene) -> None:
    assert run(scene, "migrate", only=EVEN).success
    assert run(scene, "rollback").success
    with scene.target.inner.open(create=True) as store:
        assert not store.exists(COLLECTION)


def test_a_dry_run_says_what_would_wait(scene: Scene) -> None:
    result = run(scene, "migrate", dry_run=True, only="number<5")
    assert result.success
    (shown,) = [
        event.step_output_data.metadata
        for event in result.all_events
        if event.is_successful_output and event.step_output_data.output_name == "round"
    ]
    said = {name: value.value for name, value in shown.items()}
    assert (said["records that would be written"], said["records that would be left pending"]) == (5, 7)
    assert said["records filtered out"] == 0


@pytest.mark.parametrize("only", ["number>", "{kind: even", "$no=1"])
def test_a_filter_that_is_none_is_refused_before_anything_is_read(scene: Scene, only: str) -> None:
    result = run(scene, "migrate", only=only)
    assert not result.success
    (said,) = failures(result).values()
    assert said["error"] == "SpecError"
    assert "the option only of this launch is wrong: filter" in said["what"]
    assert scene.source.calls == {}


def folders(name: str, path: str) -> StoreSettings:
    """Return the settings of an embedded store in a folder."""
    made: dict[str, Callable[[], StoreSettings]] = {
        "chroma": lambda: ChromaSettings(path=path),
        "milvus": lambda: MilvusSettings(path=f"{path}/lite.db"),
        "qdrant folder": lambda: QdrantSettings(path=path),
        "qdrant edge": lambda: QdrantEdgeSettings(path=path),
    }
    return made[name]()


@pytest.mark.parametrize(
    "target",
    ["milvus", *(pytest.param(name, marks=pytest.mark.slow) for name in ("chroma", "qdrant folder", "qdrant edge"))],
)
def test_real_engines_end_with_every_record(make_scene: MakeScene, tmp_path: Any, target: str) -> None:
    """From a Chroma folder: a narrowed run, then the rest; the records are those of the source."""
    scene = make_scene()
    scene.source.inner = folders("chroma", str(tmp_path / "source"))
    scene.target.inner = folders(target, str(tmp_path / "target"))
    scene.fill(12)
    assert run(scene, "migrate", only=EVEN).success
    assert len(held(scene.target.inner)) == 6
    result = run(scene, "migrate", only="number>=7")
    assert result.success, failures(result)
    assert len(held(scene.target.inner)) == 9
    result = run(scene, "migrate")
    assert result.success, failures(result)
    assert held(scene.target.inner) == held(scene.source.inner)
