"""Verification in every embedded store, through filters, mappings and translated names; it changes nothing."""

from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline import CollectionNotFoundError, SpecError, StoreService, VectorStoreMigrator
from rag_migration_pipeline_tests.api.places import ENGINES, change, digests, store_of
from rag_migration_pipeline_tests.docs.stand_ins import COUNT


@pytest.mark.parametrize("form", ENGINES)
def test_it_finds_a_change_in_every_store_and_changes_nothing(form: str, source: StoreService, tmp_path: Path) -> None:
    with store_of(form, tmp_path / "target") as target:
        migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
        migrator.migrate("docs")
        change(target, "docs", version="3.0")
        before = digests(tmp_path / "target"), digests(tmp_path / "state")
        found = migrator.verify("docs")
        assert (found.is_identical, len(found.changed), found.missing, found.extra) == (False, 1, [], [])
        assert "payload" in next(iter(found.changed.values()))
        target.close()
        assert (digests(tmp_path / "target"), digests(tmp_path / "state")) == before


def test_it_looks_through_filters_mappings_and_translated_names(
    source: StoreService, target: StoreService, tmp_path: Path
) -> None:
    migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
    wanted: dict[str, Any] = {"filter": {"status": "active"}, "schema_mapping": {"field_mapping": {"status": "state"}}}
    result = migrator.migrate("docs", "of: 2025", translate_names=True, **wanted)
    found = migrator.verify("docs", result.target_collection, **wanted)
    assert (found.is_identical, found.expected, found.source_count) == (True, COUNT // 4, COUNT)
    assert migrator.verify("docs", "of: 2025", translate_names=True, **wanted).is_identical
    assert len(migrator.verify("docs", result.target_collection).missing) == COUNT - COUNT // 4


def test_a_sample_has_the_size_that_was_asked_for(source: StoreService, target: StoreService, tmp_path: Path) -> None:
    migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
    migrator.migrate("docs")
    for sample in (1, 7, COUNT - 1, COUNT, 1000):
        found = migrator.verify("docs", sample=sample)
        assert (found.compared, found.is_identical, found.is_sample) == (min(sample, COUNT), True, sample < COUNT)


def test_what_cannot_be_compared_is_said(source: StoreService, target: StoreService, tmp_path: Path) -> None:
    migrator = VectorStoreMigrator(source, target, state_dir=tmp_path / "state")
    with pytest.raises(CollectionNotFoundError):
        migrator.verify("docs")
    migrator.migrate("docs")
    for pair in (("docs", "missing"), ("missing", "docs")):
        with pytest.raises(CollectionNotFoundError, match="missing"):
            migrator.verify(*pair)
    for sample in (0, -1):
        with pytest.raises(SpecError, match=f"sample is {sample}"):
            migrator.verify("docs", sample=sample)
