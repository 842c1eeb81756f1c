"""The integrity report in Dagster: the asset leads to its page, whether the proof holds or not."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_migration_pipeline.orchestration.checks import COLLECTION_CHECK
from rag_migration_pipeline.orchestration.words import PAGE
from rag_migration_pipeline_tests.orchestration.scene import COLLECTION, QUIET, REFUSED, Scene, failures
from rag_migration_pipeline_tests.steps.pages import Page

RANGES = "Counts and rates of each range"


def page_at(metadata: Any) -> Path:
    """Return the page that an event leads to."""
    value = metadata[PAGE]
    assert isinstance(value, dg.PathMetadataValue)
    found = Path(str(value.path))
    assert found.is_absolute()
    return found


def last_check(scene: Scene) -> dg.AssetCheckEvaluation:
    """Return what the last evaluation of the collection's check says; a step that failed shows it in the log alone."""
    key = dg.AssetCheckKey(scene.declaration.key("target_collection"), COLLECTION_CHECK)
    (record,) = scene.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event is not None
    assert record.event.dagster_event is not None
    return record.event.dagster_event.asset_check_evaluation_data


def damage(scene: Scene) -> None:
    with scene.target.inner.open(create=False) as store:
        store.delete(COLLECTION, ["r00007"])


def facts_of(scene: Scene) -> Any:
    return json.loads(scene.folder.report.read_bytes())


def test_a_proven_collection_leads_to_the_page(scene: Scene) -> None:
    assert scene.migrate().success
    event = scene.instance.get_latest_materialization_event(scene.declaration.key("target_collection"))
    assert event is not None
    assert event.asset_materialization is not None
    path = page_at(event.asset_materialization.metadata)
    assert path == scene.folder.report_page.absolute()
    assert "Proven: all 12 records" in Page(path.read_text("utf-8")).text
    check = last_check(scene)
    assert (check.passed, page_at(check.metadata)) == (True, path)


@pytest.mark.parametrize("way", ["asset", "job", "check"])
def test_a_contradicted_collection_leads_to_the_page(scene: Scene, way: str) -> None:
    assert scene.migrate().success
    damage(scene)
    if way == "check":
        key = dg.AssetCheckKey(scene.declaration.key("target_collection"), COLLECTION_CHECK)
        job = scene.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={key})
        job.execute_in_process(instance=scene.instance, raise_on_error=False, run_config=QUIET)
    else:
        result = scene.materialize("target_collection") if way == "asset" else scene.migrate()
        (said,) = failures(result).values()
        assert said[PAGE] == str(scene.folder.report_page.absolute())
    check = last_check(scene)
    assert not check.passed
    page = Page(page_at(check.metadata).read_text("utf-8"))
    assert "Contradicted: 1 missing" in page.text
    assert "string:r00007" in page.text


def test_a_proof_that_could_not_be_made_leads_nowhere(scene: Scene) -> None:
    def refuse(operation: str, _collection: str | None) -> None:
        if operation == "finish_loading":
            raise REFUSED

    scene.target.fault = refuse
    (said,) = failures(scene.migrate()).values()
    assert PAGE not in said


def test_rates_of_ranges_are_those_of_their_materializations(scene: Scene) -> None:
    assert scene.migrate().success
    events = scene.instance.fetch_materializations(scene.declaration.key("loaded_ranges"), limit=100).records
    seconds = {}
    for record in events:
        assert record.asset_materialization is not None
        metadata = record.asset_materialization.metadata
        assert metadata["records read"].value == metadata["records"].value
        seconds[str(record.partition_key)] = sum(
            float(str(value.value)) for name, value in metadata.items() if name.endswith(" seconds")
        )
    ranges = facts_of(scene)["range_facts"]
    assert {item["key"]: item["duration_s"] for item in ranges} == pytest.approx(seconds)
    for item in ranges:
        assert item["records_per_s"] == pytest.approx(item["planned"] / item["duration_s"], abs=0.06)
    table = Page(scene.folder.report_page.read_text("utf-8")).tables[RANGES]
    assert table.column("seconds") == [str(item["duration_s"]) for item in ranges]
    damage(scene)
    assert not scene.migrate().success
    assert [item["duration_s"] for item in facts_of(scene)["range_facts"]] == [item["duration_s"] for item in ranges]


def test_a_range_that_was_loaded_again_says_its_last_seconds(scene: Scene) -> None:
    assert scene.migrate().success
    before = {item["key"]: item["duration_s"] for item in facts_of(scene)["range_facts"]}
    first, *others = scene.keys
    assert scene.materialize("loaded_ranges", partition_key=first).success
    assert scene.materialize("target_collection").success
    after = {item["key"]: item["duration_s"] for item in facts_of(scene)["range_facts"]}
    assert {key: after[key] for key in others} == {key: before[key] for key in others}
    events = scene.instance.fetch_materializations(
        dg.AssetRecordsFilter(scene.declaration.key("loaded_ranges"), asset_partitions=[first]), limit=1
    ).records
    assert events[0].asset_materialization is not None
    metadata = events[0].asset_materialization.metadata
    spent = sum(float(str(value.value)) for name, value in metadata.items() if name.endswith(" seconds"))
    assert after[first] == pytest.approx(spent)
