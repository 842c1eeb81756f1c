"""A dry run and an estimate refuse, or answer, without a trace in the target or the state folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline import CollectionNotFoundError, SchemaCompatibilityError, StoreService, VectorStoreMigrator
from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, VectorSpec
from rag_migration_pipeline.stores.registry import open_target
from rag_migration_pipeline_tests.api.places import digests

CALLS: dict[str, Callable[[VectorStoreMigrator, str, str], Any]] = {
    "dry_run": lambda migrator, name, copy: migrator.migrate(name, copy, dry_run=True),
    "estimate": lambda migrator, name, copy: migrator.estimate(name, target_collection=copy),
    "probe": lambda migrator, name, copy: migrator.estimate(name, target_collection=copy, probe_target=True),
    "plan": lambda migrator, name, copy: migrator.plan(name, copy),
}


@pytest.fixture
def migrator(source: StoreService, target: StoreService, tmp_path: Path) -> VectorStoreMigrator:
    return VectorStoreMigrator(source, target, state_dir=tmp_path / "state")


@pytest.mark.parametrize("call", CALLS)
def test_a_missing_source_collection_is_told_and_nothing_is_made(
    call: str, migrator: VectorStoreMigrator, tmp_path: Path
) -> None:
    with pytest.raises(CollectionNotFoundError, match="missing"):
        CALLS[call](migrator, "missing", "copy")
    assert not (tmp_path / "edge").exists()
    assert not (tmp_path / "state").exists()


def test_another_dimension_is_an_answer_of_an_estimate_and_an_error_of_a_dry_run(
    migrator: VectorStoreMigrator, target: StoreService, tmp_path: Path
) -> None:
    with open_target(target.settings) as store:
        store.create(CollectionSpec("narrow", (VectorSpec(3, Metric.L2),), frozenset({IdKind.UINT64, IdKind.UUID})))
    before = digests(tmp_path / "edge")
    for call in ("estimate", "probe"):
        found = CALLS[call](migrator, "docs", "narrow")
        assert (found.compatible, found.source_dimension, found.target_dimension) == (False, 4, 3)
        assert any("dimension" in warning for warning in found.warnings)
    assert not CALLS["plan"](migrator, "docs", "narrow").is_applicable
    with pytest.raises(SchemaCompatibilityError, match="dimension"):
        CALLS["dry_run"](migrator, "docs", "narrow")
    target.close()
    assert digests(tmp_path / "edge") == before
    assert not (tmp_path / "state").exists()
