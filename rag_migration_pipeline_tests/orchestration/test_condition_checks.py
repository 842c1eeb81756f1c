"""The checks of the whole collection beside its proof, and the numbers that every check shows."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from rag_migration_pipeline.errors import StoreRequestError
from rag_migration_pipeline.orchestration.words import (
    COLLECTION_CHECK,
    INDEX_CHECK,
    METRIC_CHECK,
    QUARANTINE_CHECK,
    RANGE_CHECK,
)
from rag_migration_pipeline.records import CollectionSpec, Metric, VectorSpec
from rag_migration_pipeline.stores.memory import MemorySettings
from rag_migration_pipeline.stores.readiness import Readiness
from rag_migration_pipeline_tests.orchestration.scene import (
    COLLECTION,
    QUICK,
    QUIET,
    READS_OF_VECTORS,
    Scene,
    failures,
    records,
    run,
    spec_of,
)

MakeScene = Callable[..., Scene]
CONDITIONS = (METRIC_CHECK, INDEX_CHECK, QUARANTINE_CHECK)
REFUSED = StoreRequestError("the server refuses this record.")
BUILDING = Readiness(is_ready=False, total=12, indexed=5, detail="the collection is yellow")
RELEASED = Readiness(is_ready=False, is_loaded=False, is_stuck=True, total=12, indexed=12, detail="not loaded")


def logged(scene: Scene, result: dg.ExecuteInProcessResult) -> list[dg.AssetCheckEvaluation]:
    """Return all evaluations of a run in their order; those of steps that failed are in the log alone."""
    entries = scene.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    return [entry.get_dagster_event().asset_check_evaluation_data for entry in entries]


def evaluations(scene: Scene, result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """Return the last evaluation of each check of the whole."""
    found = logged(scene, result)
    return {item.check_name: item for item in found if item.asset_key.path[-1] == "target_collection"}


def by_hand(scene: Scene, name: str) -> dg.AssetCheckEvaluation:
    """Run a check of the whole as its button in the UI does."""
    key = dg.AssetCheckKey(scene.declaration.key("target_collection"), name)
    job = scene.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={key})
    result = job.execute_in_process(instance=scene.instance, raise_on_error=False, run_config=QUIET)
    (found,) = result.get_asset_check_evaluations()
    return found


def shown(evaluation: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in evaluation.metadata.items()}


def table_of(evaluation: dg.AssetCheckEvaluation) -> list[dict[str, Any]]:
    value = evaluation.metadata["vectors"]
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]


def put_metric(scene: Scene, metric: Metric) -> None:
    """Make the target collection again with another metric, as somebody else might."""
    with scene.target.inner.open(create=False) as store:
        kinds = store.spec(COLLECTION).id_kinds
        store.drop(COLLECTION)
        store.create(CollectionSpec(COLLECTION, (VectorSpec(4, metric),), kinds))


def carry(scene: Scene, way: str) -> dg.ExecuteInProcessResult:
    """Load and prove everything by a job, or prove by the asset what the job loaded."""
    if way != "asset":
        return run(scene, way)
    assert run(scene, "migrate").success
    return scene.materialize("target_collection")


@pytest.mark.parametrize("way", ["migrate", "sync", "asset"])
def test_every_proof_evaluates_all_checks_of_the_whole(scene: Scene, way: str) -> None:
    result = carry(scene, way)
    assert result.success, failures(result)
    found = evaluations(scene, result)
    assert {name: item.passed for name, item in found.items()} == dict.fromkeys((COLLECTION_CHECK, *CONDITIONS), True)
    words = "dense, 4 dimensions, cosine, float32"
    assert table_of(found[METRIC_CHECK]) == [
        {"vector": "(unnamed)", "as planned": words, "as found": words, "kept": True}
    ]
    assert shown(found[INDEX_CHECK]) == {"ready": True, "loaded": True, "records": 12}
    assert shown(found[QUARANTINE_CHECK]) == {"set_aside": 0, "planned": 12, "ranges_over_budget": 0}
    assert shown(found[COLLECTION_CHECK])["compared"] == 12


def test_checks_by_hand_look_again_and_read_no_vector(scene: Scene) -> None:
    assert scene.migrate().success
    before = {name: scene.target.calls[name] for name in READS_OF_VECTORS}
    assert all(by_hand(scene, name).passed for name in CONDITIONS)
    assert {name: scene.target.calls[name] for name in READS_OF_VECTORS} == before
    scene.target.readiness = BUILDING
    assert not by_hand(scene, INDEX_CHECK).passed


@pytest.mark.parametrize(
    ("said", "severity"), [(BUILDING, dg.AssetCheckSeverity.WARN), (RELEASED, dg.AssetCheckSeverity.ERROR)]
)
def test_an_index_that_is_not_ready_warns_and_one_that_never_will_be_is_an_error(
    scene: Scene, said: Readiness, severity: dg.AssetCheckSeverity
) -> None:
    scene.target.readiness = said
    result = scene.migrate()
    assert result.success, "what was copied is proven all the same"
    found = evaluations(scene, result)[INDEX_CHECK]
    assert (found.passed, found.severity) == (False, severity)
    assert said.detail in (found.description or "")
    assert shown(found) == {
        "ready": False,
        "loaded": said.is_loaded,
        "records": said.total,
        "indexed": said.indexed,
    }


@pytest.mark.parametrize(("said", "goes_on"), [(BUILDING, True), (RELEASED, False)])
def test_what_follows_waits_for_a_collection_that_can_be_searched(scene: Scene, said: Readiness, goes_on: bool) -> None:
    assert scene.migrate().success
    scene.target.readiness = said

    @dg.asset(deps=[scene.declaration.key("target_collection")])
    def answers() -> None:
        """What an application makes of the collection."""

    both = dg.Definitions.merge(scene.definitions, dg.Definitions(assets=[answers]))
    names = [scene.declaration.key("target_collection"), answers.key]
    checks = dg.AssetSelection.checks(dg.AssetCheckKey(names[0], INDEX_CHECK))
    job = dg.define_asset_job("following", selection=dg.AssetSelection.assets(*names).without_checks() | checks)
    both = dg.Definitions.merge(both, dg.Definitions(jobs=[job]))
    result = both.resolve_job_def("following").execute_in_process(
        instance=scene.instance, raise_on_error=False, run_config=QUIET
    )
    done = {event.asset_key for event in result.get_asset_materialization_events()}
    assert (answers.key in done) is goes_on


def test_a_target_with_another_metric_is_refused_and_its_check_says_which(scene: Scene) -> None:
    assert scene.migrate().success
    put_metric(scene, Metric.DOT)
    result = scene.migrate()
    assert not result.success
    found = evaluations(scene, result)
    assert set(found) == {METRIC_CHECK}
    assert (found[METRIC_CHECK].passed, found[METRIC_CHECK].severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "vector '': expected metric cosine, got dot" in (found[METRIC_CHECK].description or "")
    hand = by_hand(scene, METRIC_CHECK)
    assert not hand.passed
    assert hand.description == "vector '': expected metric cosine, got dot"
    assert [(row["as planned"], row["as found"], row["kept"]) for row in table_of(hand)] == [
        ("dense, 4 dimensions, cosine, float32", "dense, 4 dimensions, dot, float32", False)
    ]
    put_metric(scene, Metric.COSINE)
    assert by_hand(scene, METRIC_CHECK).passed


def test_a_target_that_changes_while_it_is_proven_is_refused(scene: Scene) -> None:
    """The proof looks at the vectors as they are then, not as the run found them."""

    def swap(operation: str, _collection: str | None) -> None:
        if operation == "describe" and scene.target.calls["upsert"] == 3 and len(scene.materialized()) == 3:
            scene.target.fault = lambda _operation, _collection: None
            put_metric(scene, Metric.DOT)

    scene.target.fault = swap
    result = scene.migrate()
    assert not result.success
    assert not evaluations(scene, result)[METRIC_CHECK].passed


def poison(scene: Scene, *numbers: int) -> None:
    for number in numbers:
        scene.target.poison[f"r{number:05d}"] = REFUSED


def test_records_within_the_budget_warn_and_are_named(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "max_rejected": 2})
    poison(scene, 6, 11)
    found = evaluations(scene, scene.migrate())[QUARANTINE_CHECK]
    for item in (found, by_hand(scene, QUARANTINE_CHECK)):
        assert (item.passed, item.severity) == (False, dg.AssetCheckSeverity.WARN)
        assert item.description == "2 of 12 records are set aside; max_rejected allows 2"
        said = shown(item)
        assert (said["set_aside"], said["planned"], said["ranges_over_budget"]) == (2, 12, 0)
        assert list(said["first_ids"]) == ["string:r00006", "string:r00011"]
        assert sum(said["reasons"].values()) == 2
        assert said["quarantine"] == str(scene.folder.quarantine(scene.keys[0]).parent)


def test_more_than_the_budget_in_one_range_is_an_error_though_nothing_is_proven(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "max_rejected": 1})
    poison(scene, 6, 7)
    result = scene.migrate()
    assert not result.success
    (told,) = evaluations(scene, result).values()
    assert (told.passed, told.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert list(shown(told)["first_ids"]) == ["string:r00006", "string:r00007"]
    hand = by_hand(scene, QUARANTINE_CHECK)
    assert (hand.passed, hand.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert hand.description == (
        "2 of 12 records are set aside; max_rejected allows 1, also in each range; beyond it: " + scene.keys[1]
    )


def test_more_than_the_budget_in_all_ranges_together_is_an_error(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "max_rejected": 1})
    poison(scene, 1, 11)
    result = scene.migrate()
    assert not result.success
    found = evaluations(scene, result)
    assert (found[QUARANTINE_CHECK].passed, found[QUARANTINE_CHECK].severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert shown(found[QUARANTINE_CHECK])["ranges_over_budget"] == 0
    assert found[METRIC_CHECK].passed
    assert not found[COLLECTION_CHECK].passed


def test_a_contradicted_proof_shows_its_numbers_and_first_ids(scene: Scene) -> None:
    assert scene.migrate().success
    with scene.target.inner.open(create=False) as store:
        store.delete(COLLECTION, ["r00003", "r00007"])
        one = records(1, 8)
        store.upsert(COLLECTION, one.with_columns(payloads=[{"number": -8}]))
        store.upsert(COLLECTION, records(1, 99))
    result = scene.migrate()
    assert not result.success
    said = shown(evaluations(scene, result)[COLLECTION_CHECK])
    assert {name: said[name] for name in ("compared", "missing", "extra", "changed")} == {
        "compared": 10,
        "missing": 2,
        "extra": 1,
        "changed": 1,
    }
    assert said["changed_by_kind"] == {"payload or document": 1}
    assert said["first_ids"] == {
        "missing": ["string:r00003", "string:r00007"],
        "extra": ["string:r00099"],
        "changed": {"string:r00008": "payload or document"},
    }
    ranges = {item.partition: shown(item) for item in logged(scene, result) if item.partition}
    first, second, _ = scene.keys
    assert {key: (said["compared"], said["missing"], said["changed"]) for key, said in ranges.items()} == {
        first: (4, 1, 0),
        second: (4, 1, 1),
    }
    assert ranges[first]["first_ids"] == {"missing": ["string:r00003"], "extra": [], "changed": {}}


def test_a_range_shows_what_was_compared(scene: Scene) -> None:
    result = scene.migrate()
    ranges = {item.partition: item for item in logged(scene, result) if item.check_name == RANGE_CHECK}
    assert [shown(ranges[key]) for key in scene.keys] == [
        {"compared": count, "missing": 0, "extra": 0, "changed": 0} for count in (5, 5, 2)
    ]


def test_a_launch_that_only_counts_claims_nothing(scene: Scene) -> None:
    found = evaluations(scene, run(scene, "migrate", validation="counts"))
    assert COLLECTION_CHECK not in found
    assert set(found) == set(CONDITIONS)


def test_a_check_by_hand_of_a_target_that_is_gone_says_so_and_makes_none(scene: Scene) -> None:
    assert scene.migrate().success
    with scene.target.inner.open(create=False) as store:
        store.drop(COLLECTION)
    key = dg.AssetCheckKey(scene.declaration.key("target_collection"), INDEX_CHECK)
    job = scene.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={key})
    result = job.execute_in_process(instance=scene.instance, raise_on_error=False, run_config=QUIET)
    (said,) = failures(result).values()
    assert said["error"] == "CollectionNotFoundError"
    with MemorySettings(name=f"{scene.space}_target").open() as store:
        assert not store.exists(COLLECTION)
    assert spec_of(COLLECTION).name in said["what"]
