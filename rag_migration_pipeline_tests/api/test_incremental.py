"""Incremental runs: what each way of looking sees, and what becomes of records that the source lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline import MigrationError, StoreService, VectorStoreMigrator
from rag_migration_pipeline.records import DenseColumn
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline.stores.registry import open_target
from rag_migration_pipeline_tests.docs.stand_ins import COUNT, fill

SPACES = "incremental-source", "incremental-target"


@pytest.fixture
def migrator(tmp_path: Path) -> Iterator[VectorStoreMigrator]:
    """Between two stores in memory, for speed."""
    source, target = (StoreService(MemorySettings(name=name)) for name in SPACES)
    fill(source, "docs")
    yield VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
    for name in SPACES:
        forget_space(name)


@pytest.mark.parametrize("detect", ["ids", "payload", "watermark", "full"])
def test_only_full_promises_to_see_a_change_in_a_vector_alone(detect: str, migrator: VectorStoreMigrator) -> None:
    options: dict[str, Any] = {"incremental": True, "detect": detect}
    options |= {"watermark": "n"} if detect == "watermark" else {}
    migrator.migrate("docs", **options)
    assert migrator.migrate("docs", **options).vectors_migrated == 0
    with open_target(migrator.source.settings) as store:
        found = store.fetch("docs", [3])
        turned = DenseColumn(np.flip(found.dense().values, axis=1).copy())
        store.upsert("docs", found.with_columns(vectors={"": turned}))
    result = migrator.migrate("docs", **options)
    is_full = detect == "full"
    assert result.metadata["changes"]["sees_vectors"] is is_full
    assert result.metadata["changes"]["detect"] == detect
    assert result.vectors_migrated == (1 if is_full else 0)
    assert migrator.verify("docs").is_identical is is_full


def test_what_the_source_lost_stays_unless_it_is_mirrored_and_never_too_much_goes(
    migrator: VectorStoreMigrator,
) -> None:
    for name in ("docs", "kept"):
        migrator.migrate("docs", name, incremental=True)
    with open_target(migrator.source.settings) as store:
        store.delete("docs", [7, 8])
    kept = migrator.migrate("docs", "kept", incremental=True)
    assert (kept.success, kept.metadata["changes"]["gone"], kept.metadata["left_over"]) == (True, 2, 2)
    assert len(migrator.verify("docs", "kept").extra) == 2
    with pytest.raises(MigrationError, match="max_deletes"):
        migrator.migrate("docs", incremental=True, deletes="mirror", max_deletes=1)
    assert migrator.target.count("docs") == COUNT
    assert migrator.migrate("docs", incremental=True, deletes="mirror").success
    assert migrator.target.count("docs") == COUNT - 2
    assert migrator.verify("docs").is_identical


def test_records_that_changed_on_both_sides_are_named_in_the_result(migrator: VectorStoreMigrator) -> None:
    assert migrator.migrate("docs", incremental=True).metadata["both_changed"] == []
    with open_target(migrator.source.settings) as source, open_target(migrator.target.settings) as target:
        found = source.fetch("docs", [3, 4])
        source.upsert("docs", found.with_columns(documents=["here", "here"]))
        target.upsert("docs", target.fetch("docs", [4, 5]).with_columns(documents=["there", "there"]))
    result = migrator.migrate("docs", incremental=True, validate=False)
    assert result.metadata["both_changed"] == ["int:4"]
    assert migrator.verify("docs").changed.keys() == {"int:5"}, "what changed there alone is no business of a sync"
