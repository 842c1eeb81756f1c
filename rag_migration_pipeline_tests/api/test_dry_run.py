"""A dry run reads, filters, maps and looks at every record, and changes nothing anywhere."""

import threading
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline import (
    ConflictError,
    MigrationInterruptedError,
    MigrationProgress,
    SchemaCompatibilityError,
    StoreService,
    VectorStoreMigrator,
)
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.running import run_migration
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.stopping import StopRequest
from rag_migration_pipeline_tests.api.places import FORMS, change, digests, store_of
from rag_migration_pipeline_tests.docs.stand_ins import COUNT


@pytest.mark.parametrize("form", FORMS)
def test_no_file_of_the_target_changes(form: str, source: StoreService, tmp_path: Path) -> None:
    with store_of(form, tmp_path / "target") as target:
        migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
        assert migrator.migrate("docs", dry_run=True).vectors_migrated == COUNT
        assert not (tmp_path / "target").exists()
        assert not (tmp_path / "state").exists()
        migrator.migrate("images")
        target.close()
        before = digests(tmp_path / "target"), digests(tmp_path / "state")
        for name in ("docs", "images"):
            assert migrator.migrate("docs", name, dry_run=True).vectors_migrated == COUNT
        assert (digests(tmp_path / "target"), digests(tmp_path / "state")) == before
        assert target.list_collections() == ["images"]


OPTIONS: list[dict[str, Any]] = [
    {"filter": {"status": "active", "year": {"$gte": 2024}}},
    {"schema_mapping": {"field_mapping": {"status": "state"}, "exclude_fields": ["year"]}},
    {"batch_size": 7, "range_count": 11, "filter": "priority=high"},
    {"prefetch_bytes": 0, "max_rejected": 3, "conflict": "skip"},
]


def test_it_counts_what_the_migration_then_does(source: StoreService, target: StoreService, tmp_path: Path) -> None:
    migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
    for options in OPTIONS:
        dry, done = migrator.migrate("docs", dry_run=True, **options), migrator.migrate("docs", **options)
        for name in ("success", "vectors_migrated", "vectors_failed", "success_rate", "target_collection"):
            assert getattr(dry, name) == getattr(done, name), (options, name)
        for name in ("skipped", "filtered", "rejected", "batch_size", "filter"):
            assert dry.metadata[name] == done.metadata[name], (options, name)
        assert (dry.metadata["validated"], done.metadata["validated"]) == (False, True)


def test_records_that_would_be_set_aside_are_named(source: StoreService, target: StoreService, tmp_path: Path) -> None:
    change(source, "docs", version="draft")
    mapping = {"transforms": {"version": "float"}, "on_error": "quarantine"}
    migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
    dry = migrator.migrate("docs", schema_mapping=mapping, dry_run=True)
    assert (dry.success, dry.vectors_failed, dry.vectors_migrated) == (False, 1, COUNT - 1)
    assert len(dry.errors) == 1
    assert "doc-" in dry.errors[0]
    assert "version" in dry.errors[0]
    assert migrator.migrate("docs", schema_mapping=mapping, dry_run=True, max_rejected=1).success
    assert not (tmp_path / "edge").exists()
    assert not (tmp_path / "state").exists()


def test_a_plan_that_cannot_be_applied_is_refused(source: StoreService, target: StoreService, tmp_path: Path) -> None:
    migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
    migrator.migrate("images")
    with pytest.raises(ConflictError, match="images"):
        migrator.migrate("docs", "images", conflict="fail", dry_run=True)
    with pytest.raises(SchemaCompatibilityError):
        migrator.migrate("docs", "docs", envelope=False, ids={"strategy": "keep"}, dry_run=True)


def test_a_callback_that_raises_ends_it_and_a_request_to_stop_does(
    source: StoreService, target: StoreService, tmp_path: Path
) -> None:
    def refuse(progress: MigrationProgress) -> None:
        raise ZeroDivisionError(f"at {progress.vectors_processed}")

    migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
    with pytest.raises(ZeroDivisionError, match="at 5"):
        migrator.migrate("docs", batch_size=5, dry_run=True, on_progress=refuse)
    told: list[MigrationProgress] = []
    stop = StopRequest()

    def ask(progress: MigrationProgress) -> None:
        told.append(progress)
        stop.request("enough")

    options = MigrationOptions.model_validate({"batch_size": 5, "dry_run": True, "prefetch_bytes": 0})
    migration = Migration("docs", source.settings, "docs", target.settings, "docs", options)
    with pytest.raises(MigrationInterruptedError, match=r"the dry run was stopped on request \(enough\)"):
        run_migration(migration, tmp_path / "state", on_progress=ask, stop=stop)
    assert [progress.vectors_processed for progress in told] == [5]
    assert not [thread for thread in threading.enumerate() if thread.name == "signals"]
    assert not (tmp_path / "state").exists()
