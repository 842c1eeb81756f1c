"""What a migrator promises: results, retries, failures that do and do not end a run, many callers at once."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import UTC
from html import escape
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline import (
    CollectionNotFoundError,
    MigrationEstimate,
    MigrationProgress,
    MigrationResult,
    SchemaCompatibilityError,
    SpecError,
    StoreService,
    ValidationError,
    VectorStoreMigrator,
    get_chromadb_service,
    retries,
)
from rag_migration_pipeline.errors import MigrationError, StoreUnavailableError
from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, RecordId, VectorSpec
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline.stores.registry import open_target
from rag_migration_pipeline_tests.docs.stand_ins import COUNT
from rag_migration_pipeline_tests.steps.support import AwaySettings, with_faults


@pytest.fixture
def migrator(source: StoreService, target: StoreService, tmp_path: Path) -> VectorStoreMigrator:
    return VectorStoreMigrator(source, target, state_dir=tmp_path / "state")


def test_a_result_has_what_users_know(migrator: VectorStoreMigrator) -> None:
    result = migrator.migrate("docs", "copy", batch_size=10, filter={"status": "active"})
    assert {item.name for item in fields(MigrationResult)} == {
        *("success", "vectors_migrated", "vectors_failed", "duration_seconds", "source_collection"),
        *("target_collection", "started_at", "completed_at", "errors", "metadata"),
    }
    assert (result.success, result.vectors_migrated, result.vectors_failed) == (True, COUNT // 4, 0)
    assert (result.total_vectors, result.success_rate, result.errors) == (COUNT // 4, 100.0, [])
    assert (result.source_collection, result.target_collection) == ("docs", "copy")
    assert result.started_at.tzinfo is UTC
    assert result.completed_at.tzinfo is UTC
    assert 0 < result.duration_seconds == pytest.approx((result.completed_at - result.started_at).total_seconds())
    known = {"batch_size": 10, "validated": True, "dry_run": False, "filter": {"status": "active"}, "rejected": 0}
    assert {name: result.metadata[name] for name in known} == known
    assert result.metadata["total_batches"] >= 2
    assert result.metadata["quarantine_file"] is None
    assert Path(result.metadata["checkpoint_file"]).exists()
    assert Path(result.metadata["report"]).name == "report.json"
    assert Path(result.metadata["report_page"]) == Path(result.metadata["report"]).with_suffix(".html")
    assert Path(result.metadata["report_page"]).exists()
    assert result.metadata["rates"]["records_per_second"] > 0
    assert json.loads(json.dumps(result.to_dict()))["success_rate"] == 100.0
    assert result.to_pandas().loc[0, "vectors_migrated"] == COUNT // 4


def test_nothing_processed_is_a_rate_of_zero(migrator: VectorStoreMigrator) -> None:
    result = migrator.migrate("docs", filter={"status": "nobody"})
    assert (result.success, result.total_vectors, result.success_rate) == (True, 0, 0.0)


def test_progress_has_what_users_know_and_a_callback_that_raises_stops_cleanly(migrator: VectorStoreMigrator) -> None:
    told: list[MigrationProgress] = []
    migrator.migrate("docs", batch_size=10, on_progress=told.append)
    known = {"vectors_processed", "total_vectors", "current_batch", "total_batches", "elapsed_seconds", "errors"}
    assert known <= {item.name for item in fields(MigrationProgress)}
    assert (told[-1].percentage, told[-1].eta_seconds, told[-1].total_vectors) == (100.0, 0.0, COUNT)
    assert all(item.eta_seconds >= 0 for item in told)

    def refuse(progress: MigrationProgress) -> None:
        if progress.vectors_processed >= 20:
            raise ZeroDivisionError("enough")

    with pytest.raises(ZeroDivisionError, match="enough"):
        migrator.migrate("docs", "stopped", batch_size=5, range_count=10, on_progress=refuse)
    result = migrator.migrate("docs", "stopped", batch_size=5, range_count=10, resume=True)
    assert result.success
    assert 10 <= result.metadata["already_migrated"] < COUNT
    assert migrator.verify("docs", "stopped").is_identical


def test_an_estimate_has_what_users_know_and_leaves_nothing(
    migrator: VectorStoreMigrator, target: StoreService, tmp_path: Path
) -> None:
    found = migrator.estimate("docs", batch_size=10, filter={"status": "active"}, probe_target=True)
    known = {"total_vectors", "estimated_duration_seconds", "estimated_batches", "source_dimension"}
    assert known | {"target_dimension", "compatible", "warnings"} <= {item.name for item in fields(MigrationEstimate)}
    assert (found.total_vectors, found.estimated_batches, found.compatible) == (COUNT // 4, 2, True)
    assert (found.source_dimension, found.target_dimension) == (4, 4)
    assert found.estimated_duration_seconds > 0
    assert found.vectors_per_second == pytest.approx(found.total_vectors / found.estimated_duration_seconds)
    assert found.size_bytes > 0
    assert json.loads(json.dumps(found.to_dict()))["plan"]["is_applicable"] is True
    assert set(found.to_pandas()["verdict"]) <= {"exact", "note", "lossy", "impossible"}
    assert [name for name in files(tmp_path / "edge") if not name.endswith(".lock")] == []
    assert not (tmp_path / "state").exists()
    with pytest.raises(CollectionNotFoundError):
        migrator.estimate("missing")


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_dry_run_changes_nothing_in_a_target_that_is_there(
    migrator: VectorStoreMigrator, tmp_path: Path, target: StoreService
) -> None:
    dry = migrator.migrate("docs", dry_run=True)
    assert (dry.success, dry.vectors_migrated, dry.metadata["dry_run"]) == (True, COUNT, True)
    assert not (tmp_path / "edge").exists()
    assert not (tmp_path / "state").exists()
    migrator.migrate("images")
    target.close()
    before = files(tmp_path / "edge"), files(tmp_path / "state")
    assert migrator.migrate("docs", dry_run=True).vectors_migrated == COUNT
    assert migrator.migrate("docs", "images", dry_run=True).vectors_migrated == COUNT
    assert (files(tmp_path / "edge"), files(tmp_path / "state")) == before
    assert target.list_collections() == ["images"]


@pytest.fixture
def memory() -> Iterator[MemorySettings]:
    """A store in memory, whose faults are made in this process."""
    yield MemorySettings(name="api")
    forget_space("api")


def broken(memory: MemorySettings, failures: int) -> StoreService:
    left = [failures]

    def fault(_store: VectorStore, operation: str) -> None:
        if operation == "upsert" and left[0] > 0:
            left[0] -= 1
            raise StoreUnavailableError("connection reset")

    return StoreService(with_faults(memory, fault))


def test_five_attempts_wait_2_4_8_and_16_seconds(
    source: StoreService, memory: MemorySettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "rag_migration_pipeline")
    patient = VectorStoreMigrator(
        source, broken(memory, 4), max_retries=5, retry_delay=2.0, retry_backoff=2.0, state_dir=tmp_path / "state"
    )
    assert patient.migrate("docs").success
    waits = [record.event["wait_s"] for record in caplog.records if hasattr(record, "event")]
    assert waits == [pytest.approx(wait) for wait in (2, 4, 8, 16)]
    assert "failed at attempt 4, again in 16 s: StoreUnavailableError: connection reset" in caplog.text


def test_a_failed_batch_is_counted_and_resume_does_just_that(
    source: StoreService, memory: MemorySettings, tmp_path: Path
) -> None:
    named: dict[str, Any] = {"batch_size": 10, "range_count": 10}
    patient = VectorStoreMigrator(source, broken(memory, 2), max_retries=2, state_dir=tmp_path / "state")
    result = patient.migrate("docs", **named)
    assert (result.success, result.vectors_failed, result.vectors_migrated) == (False, 10, COUNT - 10)
    assert result.success_rate == pytest.approx(100 * (COUNT - 10) / COUNT)
    assert "batch 1 (10 records" in result.errors[0]
    again = VectorStoreMigrator(source, memory, state_dir=tmp_path / "state").migrate("docs", **named, resume=True)
    assert (again.success, again.vectors_migrated, again.metadata["already_migrated"]) == (True, 10, COUNT - 10)


def test_what_ends_a_whole_run_is_raised(migrator: VectorStoreMigrator, target: StoreService, tmp_path: Path) -> None:
    with pytest.raises(CollectionNotFoundError, match="missing"):
        migrator.migrate("missing")
    away = VectorStoreMigrator(migrator.source, "qdrant://127.0.0.1:1", max_retries=2, state_dir=tmp_path / "state")
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1"):
        away.migrate("docs")
    with open_target(target.settings) as store:
        store.create(CollectionSpec("narrow", (VectorSpec(3, Metric.L2),), frozenset({IdKind.UINT64, IdKind.UUID})))
    with pytest.raises(SchemaCompatibilityError, match="dimension"):
        migrator.migrate("docs", "narrow")
    assert migrator.estimate("docs", target_collection="narrow").compatible is False
    for wrong in ({"batch_sise": 3}, {"max_rejected": -1}, {"conflict": "ask"}):
        with pytest.raises(SpecError, match=next(iter(wrong))):
            migrator.migrate("docs", **wrong)
    with pytest.raises(SpecError, match="a store is a int"):
        VectorStoreMigrator(3, target)  # type: ignore[arg-type]


def test_a_contradiction_carries_the_result(source: StoreService, memory: MemorySettings, tmp_path: Path) -> None:
    """A store that forgets what it was given after its range was read back, before the whole is."""
    read_back: list[str] = []

    def forget(store: VectorStore, operation: str) -> None:
        read_back.append(operation)
        if operation == "fetch_pages" and read_back.count("fetch_pages") == 2:
            store.delete("docs", next(iter(store.scan("docs"))).ids[:1])

    forgetful = StoreService(with_faults(memory, forget))
    with pytest.raises(ValidationError) as caught:
        VectorStoreMigrator(source, forgetful, state_dir=tmp_path / "state").migrate("docs")
    result = caught.value.result
    assert isinstance(result, MigrationResult)
    assert (result.success, result.metadata["validated"]) == (False, False)
    page = Path(result.metadata["report_page"]).read_text(encoding="utf-8")
    assert all(escape(record_id) in page for record_id in caught.value.report.findings.missing)
    assert "Contradicted: 1 missing" in page
    assert isinstance(caught.value, MigrationError)


@pytest.mark.parametrize("detect", ["ids", "payload", "full", "watermark"])
def test_an_incremental_run_carries_what_changed_and_mirrors_deletes(
    migrator: VectorStoreMigrator, source: StoreService, detect: str
) -> None:
    options: dict[str, Any] = {"incremental": True, "detect": detect, "deletes": "mirror"}
    options |= {"watermark": "n"} if detect == "watermark" else {}
    assert migrator.migrate("docs", **options).vectors_migrated == COUNT
    source.close()
    with open_target(source.settings) as store:
        first = store.fetch("docs", ["doc-3", "doc-5"])
        store.upsert("docs", replace(first, payloads=[{**payload, "n": 900} for payload in first.payloads]))
        store.upsert("docs", first.take([0]).with_columns(ids=["new"]))
        store.delete("docs", ["doc-7"])
    result = migrator.migrate("docs", **options)
    changes = result.metadata["changes"]
    assert result.success
    assert (changes["gone"], changes["deletes"], changes["sees_vectors"]) == (1, "mirror", detect == "full")
    assert result.vectors_migrated == (1 if detect == "ids" else 3)
    assert migrator.verify("docs").is_identical is (detect != "ids")
    assert migrator.target.count("docs") == COUNT


def test_many_callers_share_a_migrator(migrator: VectorStoreMigrator) -> None:
    names = ["docs", "images", "audio"]
    with ThreadPoolExecutor(max_workers=3) as executor:
        results = list(executor.map(migrator.migrate, names))
    assert [(item.source_collection, item.vectors_migrated) for item in results] == [(name, COUNT) for name in names]
    assert all(migrator.verify(name).is_identical for name in names)


def test_a_service_takes_its_key_from_the_environment_and_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_TOKEN", "do-not-show-me-7391")
    settings: Any = get_chromadb_service(host="h").settings
    assert settings.token.get_secret_value() == "do-not-show-me-7391"
    assert "do-not-show-me" not in repr(settings)


def test_the_waits_between_attempts_are_really_waited_for_in_their_order(
    source: StoreService, memory: MemorySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("rag_migration_pipeline.stores.retrying.wait", lambda seconds, _stop: waited.append(seconds))
    patient = VectorStoreMigrator(
        source, broken(memory, 4), max_retries=5, retry_delay=2.0, retry_backoff=2.0, state_dir=tmp_path / "state"
    )
    assert patient.migrate("docs").success
    assert waited == [2.0, 4.0, 8.0, 16.0]


def test_without_test_mode_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float | None] = []

    class Clock:
        def wait(self, timeout: float | None = None) -> None:
            slept.append(timeout)

    clock: Any = Clock()
    retries.wait(8.0, clock)
    assert slept == [], "in test mode nothing waits"
    monkeypatch.setattr(retries, "_is_testing", False)
    monkeypatch.delenv(retries.TEST_MODE, raising=False)
    retries.wait(8.0, clock)
    assert slept == [8.0]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_a_store_that_cannot_be_reached_is_told_after_all_attempts(
    attempts: int, source: StoreService, memory: MemorySettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "rag_migration_pipeline")

    def refuse(_store: VectorStore, _operation: str) -> None:
        calls.append(_operation)
        raise StoreUnavailableError("connection refused")

    calls: list[str] = []
    away = StoreService(with_faults(memory, refuse))
    with pytest.raises(StoreUnavailableError, match="connection refused"):
        VectorStoreMigrator(source, away, max_retries=attempts, state_dir=tmp_path / "state").migrate("docs")
    assert len(calls) == attempts
    events: list[dict[str, Any]] = [record.__dict__["event"] for record in caplog.records if hasattr(record, "event")]
    repeated = [event["attempt"] for event in events if event["type"] == "RequestRepeated"]
    assert repeated == list(range(1, attempts))


def test_a_resumed_run_writes_only_what_failed(source: StoreService, memory: MemorySettings, tmp_path: Path) -> None:
    written: list[Any] = []
    poison: list[set[RecordId]] = [{"doc-3"}, set()]
    away, back = (AwaySettings(memory.name, fails, written) for fails in poison)
    named: dict[str, Any] = {"batch_size": 4, "range_count": 4}
    result = VectorStoreMigrator(source, away, max_retries=2, state_dir=tmp_path / "state").migrate("docs", **named)
    assert (result.success, result.vectors_failed, len(written)) == (False, 4, COUNT - 4)
    before = set(written)
    written.clear()
    again = VectorStoreMigrator(source, back, state_dir=tmp_path / "state").migrate("docs", **named, resume=True)
    assert (again.success, again.vectors_failed, again.errors) == (True, 0, [])
    assert "doc-3" in written
    assert len(written) == 4
    assert before.isdisjoint(written)


def test_two_migrators_share_services_from_several_threads(
    source: StoreService, target: StoreService, tmp_path: Path
) -> None:
    pair = [VectorStoreMigrator(source, target, state_dir=tmp_path / f"state-{number}") for number in range(2)]
    calls = [(pair[number % 2], name) for number, name in enumerate(("docs", "images", "audio"))]
    with ThreadPoolExecutor(max_workers=3) as executor:
        results = list(executor.map(lambda call: call[0].migrate(call[1], parallel=True), calls))
        compared = list(executor.map(lambda call: call[0].verify(call[1]), reversed(calls)))
    assert [item.vectors_migrated for item in results] == [COUNT] * 3
    assert all(found.is_identical and found.compared == COUNT for found in compared)
    assert target.list_collections() == ["audio", "docs", "images"]


def test_an_unknown_option_is_told_by_every_call_and_before_anything_is_opened(
    migrator: VectorStoreMigrator, tmp_path: Path
) -> None:
    wrong: dict[str, Any] = {"batch_sise": 3}
    with pytest.raises(SpecError, match="batch_sise"):
        VectorStoreMigrator(migrator.source, migrator.target, **wrong)
    calls = (migrator.migrate, migrator.estimate, migrator.plan, migrator.verify, migrator.rollback)
    for call in calls:
        with pytest.raises(SpecError, match="batch_sise"):
            call("docs", **wrong)
    assert not (tmp_path / "edge").exists()
    assert not (tmp_path / "state").exists()
