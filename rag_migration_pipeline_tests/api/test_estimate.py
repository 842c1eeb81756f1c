"""An estimate counts what would travel, times a probe, and leaves both sides as they were."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline import StoreService, VectorStoreMigrator
from rag_migration_pipeline.errors import StoreUnavailableError
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline_tests.api.places import ENGINES, digests, store_of
from rag_migration_pipeline_tests.docs.stand_ins import COUNT
from rag_migration_pipeline_tests.steps.support import with_faults


@pytest.fixture
def memory() -> Iterator[MemorySettings]:
    yield MemorySettings(name="api-estimate")
    forget_space("api-estimate")


@pytest.mark.parametrize(("form", "probe_target"), [("edge", False), *((form, True) for form in ENGINES)])
def test_a_probe_leaves_no_collection_behind(
    form: str, probe_target: bool, source: StoreService, tmp_path: Path
) -> None:
    with store_of(form, tmp_path / "target") as target:
        migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
        found = migrator.estimate("docs", batch_size=10, probe_target=probe_target)
        assert (found.total_vectors, found.estimated_batches, found.compatible) == (COUNT, 5, True)
        assert found.estimated_duration_seconds > 0
        assert found.vectors_per_second == pytest.approx(COUNT / found.estimated_duration_seconds)
        assert any("only reads were timed" in warning for warning in found.warnings) is not probe_target
        assert probe_target or not (tmp_path / "target").exists()
        assert not (tmp_path / "state").exists()
        migrator.migrate("images")
        migrator.estimate("docs", probe_target=probe_target)
        assert target.list_collections() == ["images"]
        assert target.count("images") == COUNT


FILTERS: list[Any] = [
    {"status": "active"},
    {"status": "published", "year": 2025},
    "confidential=false,year>=2024",
    {"$or": [{"version": "1.0"}, {"department": {"$in": ["sales"]}}]},
    {"$not": {"priority": "high"}},
    {"status": "nobody"},
]


def test_a_filtered_estimate_counts_what_a_migration_takes(
    source: StoreService, target: StoreService, tmp_path: Path
) -> None:
    migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
    for wanted in FILTERS:
        found = migrator.estimate("docs", batch_size=7, filter=wanted)
        dry = migrator.migrate("docs", batch_size=7, filter=wanted, dry_run=True)
        assert found.total_vectors == dry.vectors_migrated < COUNT
        assert found.estimated_batches == math.ceil(found.total_vectors / 7)
        assert (found.size_bytes > 0) == (found.total_vectors > 0)
    assert (found.total_vectors, found.vectors_per_second) == (0, 0.0)


def test_what_forbids_a_migration_is_an_answer_and_not_an_error(
    source: StoreService, target: StoreService, tmp_path: Path
) -> None:
    migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
    migrator.migrate("images")
    before = digests(tmp_path / "edge")
    found = migrator.estimate("docs", target_collection="images", conflict=None, probe_target=True)
    assert not found.compatible
    assert any("images" in warning for warning in found.warnings)
    assert not found.plan.is_applicable
    assert digests(tmp_path / "edge") == before, "nothing is tried where nothing may be written"


@pytest.mark.parametrize("failures", [2, 99])
def test_a_probe_tries_again_and_removes_its_collection_also_when_it_fails(
    failures: int, source: StoreService, memory: MemorySettings, tmp_path: Path
) -> None:
    left = [failures]

    def fault(_store: VectorStore, operation: str) -> None:
        if operation == "upsert" and left[0] > 0:
            left[0] -= 1
            raise StoreUnavailableError("connection reset")

    broken = StoreService(with_faults(memory, fault))
    migrator = VectorStoreMigrator(source, broken, max_retries=3, state_dir=tmp_path / "state")
    if failures < 3:
        assert migrator.estimate("docs", probe_target=True).compatible
    else:
        with pytest.raises(StoreUnavailableError, match="connection reset"):
            migrator.estimate("docs", probe_target=True)
    assert broken.list_collections() == []
