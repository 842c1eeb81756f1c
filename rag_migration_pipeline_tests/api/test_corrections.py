"""Records set aside are repaired and replayed, a migration is rolled back, options are checked: through the API."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rag_migration_pipeline import ConflictError, SpecError, StoreService, VectorStoreMigrator
from rag_migration_pipeline.errors import ManifestError, StagingError
from rag_migration_pipeline_tests.api.places import change
from rag_migration_pipeline_tests.docs.stand_ins import COUNT

MAPPING = {"transforms": {"version": "float"}, "on_error": "quarantine"}


@pytest.fixture
def migrator(source: StoreService, target: StoreService, tmp_path: Path) -> VectorStoreMigrator:
    return VectorStoreMigrator(source, target, state_dir=tmp_path / "state")


def test_a_record_that_was_set_aside_is_repaired_replayed_and_proven(
    migrator: VectorStoreMigrator, source: StoreService, tmp_path: Path
) -> None:
    change(source, "docs", version="draft")
    result = migrator.migrate("docs", schema_mapping=MAPPING, max_rejected=1)
    assert (result.vectors_failed, result.vectors_migrated, result.metadata["rejected"]) == (1, COUNT - 1, 1)
    path = result.metadata["quarantine_file"]
    frame = pd.read_feather(path)
    frame["payload"] = frame["payload"].str.replace('"draft"', '"3.0"')
    repaired = tmp_path / "repaired.arrow"
    frame.to_feather(repaired)
    assert migrator.replay(repaired, "docs", schema_mapping=MAPPING).loaded == 1
    again = migrator.migrate("docs", schema_mapping=MAPPING, resume=True)
    assert (again.success, again.metadata["rejected"], again.vectors_failed) == (True, 0, 0)
    assert again.metadata["quarantine_file"] is None
    assert migrator.target.count("docs") == COUNT
    with pytest.raises(ManifestError):
        migrator.replay(repaired, "docs")  # without its mapping it is another migration
    (tmp_path / "no.arrow").write_bytes(b"something else")
    with pytest.raises(StagingError):
        migrator.replay(tmp_path / "no.arrow", "docs", schema_mapping=MAPPING)


def test_over_the_budget_a_run_is_no_success_and_names_the_records(
    migrator: VectorStoreMigrator, source: StoreService
) -> None:
    change(source, "docs", version="draft")
    result = migrator.migrate("docs", schema_mapping=MAPPING)
    assert (result.success, result.vectors_failed, result.vectors_migrated) == (False, 1, COUNT - 1)
    assert Path(result.metadata["quarantine_file"]).exists()
    assert any("doc-" in error for error in result.errors)


def test_a_rollback_takes_away_what_the_migration_made_and_no_more(
    migrator: VectorStoreMigrator, target: StoreService, tmp_path: Path
) -> None:
    migrator.migrate("images")
    migrator.migrate("docs")
    report = migrator.rollback("docs")
    assert (report.dropped, report.deleted) == (True, COUNT)
    assert target.list_collections() == ["images"]
    with pytest.raises(ManifestError):
        migrator.rollback("docs")
    migrator.migrate("docs", "images")  # over records of another migration, which are not kept
    with pytest.raises(ConflictError):
        migrator.rollback("docs", "images")
    assert target.count("images") == COUNT
    assert migrator.rollback("docs", "images", force=True).lost


@pytest.mark.parametrize("options", [{"dry_run": True}, {"filter": {"a": 1}, "conflict": "skip"}, {"page_count": 9}])
def test_what_a_call_gives_is_refused_where_every_call_would_overrule_it(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=", ".join(options)):
        VectorStoreMigrator("memory://a", "memory://b", **options)


def test_options_have_the_names_of_the_page_and_of_the_arguments(migrator: VectorStoreMigrator) -> None:
    assert migrator.migrate("docs", page_count=7).metadata["batch_size"] == 7
    assert migrator.migrate("docs", max_retries=7, retry_delay=0.1, dry_run=True).success
    assert migrator.migrate("docs", retry={"max_retries": 7, "delay_s": 0.1}, dry_run=True).success
    wrongs: list[dict[str, Any]] = [
        {"batch_size": 0},
        {"retry_backoff": 0.5},
        {"worker_type": "fibre"},
        {"filter": "a>>3"},
    ]
    for wrong in wrongs:
        with pytest.raises(SpecError, match=next(iter(wrong))):
            migrator.migrate("docs", **wrong)
    with pytest.raises(SpecError, match="worker_type process"):
        migrator.migrate("docs", worker_type="process")


def test_without_validation_nothing_is_claimed(source: StoreService, target: StoreService, tmp_path: Path) -> None:
    trusting = VectorStoreMigrator(source, target, validate=False, state_dir=tmp_path / "state")
    result = trusting.migrate("docs")
    assert (result.success, result.metadata["validated"]) == (True, False)
    assert trusting.migrate("docs", validate=True).metadata["validated"] is True


def test_a_checkpoint_file_stands_where_it_was_asked_for(migrator: VectorStoreMigrator, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"
    assert migrator.migrate("docs", checkpoint_file=path).metadata["checkpoint_file"] == str(path)
    assert path.exists()


def test_limits_hold_for_all_workers(migrator: VectorStoreMigrator) -> None:
    result = migrator.migrate(
        *("docs", "docs", 8),
        parallel=True,
        max_workers=3,
        range_count=8,
        limits={"target": {"records_per_s": 100}},
    )
    assert result.success
    assert result.duration_seconds >= 0.2, "48 records, written and read back, the first few at once"
