"""What the API returns has one form: fields, properties, JSON values, a data frame."""

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline import (
    MigrationEstimate,
    MigrationProgress,
    MigrationResult,
    StoreService,
    VectorStoreMigrator,
)
from rag_migration_pipeline_tests.api.places import FORMS, change, store_of
from rag_migration_pipeline_tests.docs.stand_ins import COUNT

RESULT = (
    *("success", "vectors_migrated", "vectors_failed", "duration_seconds", "source_collection", "target_collection"),
    *("started_at", "completed_at", "errors", "metadata"),
)
PROGRESS = ("vectors_processed", "total_vectors", "current_batch", "total_batches", "elapsed_seconds", "errors")
ESTIMATE = (
    *("total_vectors", "estimated_duration_seconds", "estimated_batches", "source_dimension", "target_dimension"),
    *("compatible", "warnings"),
)
METADATA = {
    *("batch_size", "total_batches", "validated", "dry_run", "filter", "rejected", "quarantine_file"),
    *("checkpoint_file", "rates"),
}


def test_the_fields_stand_in_the_order_that_users_know() -> None:
    assert tuple(item.name for item in fields(MigrationResult)) == RESULT
    assert tuple(item.name for item in fields(MigrationProgress)) == (*PROGRESS, "rate")
    assert tuple(item.name for item in fields(MigrationEstimate)) == (*ESTIMATE, "size_bytes", "plan")


@pytest.mark.parametrize("form", FORMS)
def test_a_collection_arrives_in_every_embedded_store_while_others_look_at_it(
    form: str, source: StoreService, tmp_path: Path
) -> None:
    with store_of(form, tmp_path / "target") as target:
        migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
        assert migrator.migrate("docs").vectors_migrated == COUNT
        assert (target.list_collections(), target.count("docs")) == (["docs"], COUNT)
        result = migrator.migrate("docs", "active_docs", batch_size=5, filter="status=active")
        assert (result.success, result.vectors_migrated, result.metadata["validated"]) == (True, COUNT // 4, True)
        assert (target.list_collections(), target.count("active_docs")) == (["active_docs", "docs"], COUNT // 4)
        assert set(result.metadata) >= METADATA
        assert result.metadata["filter"] == {"status": "active"}
        assert migrator.verify("docs").is_identical
        assert migrator.verify("docs", "active_docs", filter="status=active").is_identical


def test_everything_that_is_returned_becomes_json_and_a_frame(
    source: StoreService, target: StoreService, tmp_path: Path
) -> None:
    migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
    dry, result = migrator.migrate("docs", dry_run=True), migrator.migrate("docs", batch_size=20)
    change(target, "docs", version="3.0")
    found: list[Any] = [dry, result, migrator.estimate("docs"), migrator.plan("docs"), migrator.verify("docs")]
    facts: list[Any] = [json.loads(json.dumps(item.to_dict())) for item in found]
    frames: list[Any] = [item.to_pandas() for item in found]
    assert {*RESULT, "total_vectors", "success_rate"} == facts[0].keys() == facts[1].keys()
    assert (facts[0]["metadata"]["dry_run"], facts[1]["metadata"]["dry_run"]) == (True, False)
    assert facts[1]["started_at"] == result.started_at.isoformat()
    assert {*ESTIMATE, "vectors_per_second"} <= facts[2].keys()
    assert (facts[3]["records"], facts[3]["is_applicable"]) == (COUNT, True)
    assert (facts[4]["is_identical"], len(facts[4]["changed"])) == (False, 1)
    assert [len(frame) for frame in frames] == [1, 1, len(facts[3]["verdicts"]), len(facts[3]["verdicts"]), 1]
    assert frames[1].loc[0, "total_batches"] == 3
    assert frames[4].loc[0, "finding"] == "changed"
    assert "payload" in frames[4].loc[0, "detail"]
    assert "docs" in migrator.plan("docs").to_text()


def test_a_progress_counts_batches_and_errors(source: StoreService, target: StoreService, tmp_path: Path) -> None:
    told: list[MigrationProgress] = []
    migrator = VectorStoreMigrator(source, target, on_progress=told.append, state_dir=tmp_path / "state")
    migrator.migrate("docs", batch_size=10)
    processed = [progress.vectors_processed for progress in told]
    assert processed == sorted(processed)
    assert (told[-1].current_batch, told[-1].total_batches, told[-1].errors) == (5, 5, 0)
    for progress in told:
        facts = json.loads(json.dumps(progress.to_dict()))
        assert {*PROGRESS, "percentage", "eta_seconds"} <= facts.keys()
        assert facts["percentage"] == pytest.approx(100 * progress.vectors_processed / COUNT)
        assert 0 <= facts["eta_seconds"] < float("inf")


def test_a_progress_knows_what_is_left() -> None:
    half = MigrationProgress(50, 100, 5, 10, 2.0, 0, rate=25.0)
    assert (half.percentage, half.eta_seconds) == (50.0, 2.0)
    assert MigrationProgress(0, 100, 0, 10, 0.0, 0).eta_seconds == 0.0, "nothing is known yet"
    assert MigrationProgress(0, 0, 0, 0, 0.0, 0).percentage == 100.0, "nothing is to be done"


@pytest.mark.parametrize(("migrated", "failed", "rate"), [(0, 0, 0.0), (0, 5, 0.0), (3, 1, 75.0), (5, 0, 100.0)])
def test_a_success_rate_is_the_percentage_of_what_was_processed(migrated: int, failed: int, rate: float) -> None:
    begun = datetime.now(UTC)
    result = MigrationResult(not failed, migrated, failed, 2.0, "a", "b", begun, begun + timedelta(seconds=2))
    assert (result.total_vectors, result.success_rate) == (migrated + failed, rate)
    assert (result.errors, result.metadata) == ([], {})
    facts = json.loads(json.dumps(result.to_dict()))
    assert datetime.fromisoformat(facts["completed_at"]) == result.completed_at
    assert result.to_pandas().loc[0, "success_rate"] == rate


def test_records_that_are_set_aside_are_counted_and_their_file_is_named(
    source: StoreService, target: StoreService, tmp_path: Path
) -> None:
    change(source, "docs", version="draft")
    mapping = {"transforms": {"version": "float"}, "on_error": "quarantine"}
    migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
    result = migrator.migrate("docs", schema_mapping=mapping, batch_size=10)
    assert (result.success, result.vectors_failed, result.total_vectors) == (False, 1, COUNT)
    assert result.success_rate == pytest.approx(100 * (COUNT - 1) / COUNT)
    assert result.metadata["rejected"] == 1
    assert Path(result.metadata["quarantine_file"]).suffix == ".arrow"
    assert Path(result.metadata["quarantine_file"]).exists()
    assert all(isinstance(error, str) for error in result.errors)
    assert json.loads(json.dumps(result.to_dict()))["metadata"]["quarantine_file"] == result.metadata["quarantine_file"]
