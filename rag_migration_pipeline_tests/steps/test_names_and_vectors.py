"""A translated collection name is used everywhere; chosen vectors arrive under their new names, and are proven."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.names import NameRule, original_name
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.stores.memory import MemorySettings
from rag_migration_pipeline_tests.steps.support import World, numbered, records

BACKUP = "backup_2026-01-02T03:04:05+00:00"
TRANSLATED = "backup_2026_x2d_01_x2d_02T03_x3a_04_x3a_05_x2b_00_x3a_00"


class StrictSettings(MemorySettings):
    """A target that allows few names."""

    name_rule = NameRule(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


def into_backup(world: World, **options: Any) -> Migration:
    migration = world.migration(**options)
    return replace(migration, target=StrictSettings(name=migration.target.name), target_name=BACKUP)  # type: ignore[attr-defined]


def test_a_name_that_is_not_allowed_is_refused_with_a_suggestion(world: World) -> None:
    world.fill(records(numbered(3)))
    with pytest.raises(SchemaCompatibilityError) as caught, world.opened(into_backup(world)):
        pass
    assert "backup_2026_01_02T03_04_05_00_00" in str(caught.value)
    assert "translate_names: true" in str(caught.value)
    assert world.b.list_collections() == []


def test_a_translated_name_is_used_everywhere_and_recorded(world: World) -> None:
    world.fill(records(numbered(9)))
    migration = into_backup(world, translate_names=True)
    receipts, report = world.run(migration)
    assert (len(receipts), report.is_proven) == (3, True)
    assert world.b.list_collections() == [TRANSLATED]
    assert original_name(TRANSLATED) == BACKUP
    assert report.target_collection == TRANSLATED
    with world.opened(migration, plan=False) as context:
        assert context.manifest.plan.target_name == BACKUP
        assert context.manifest.target_spec.name == TRANSLATED
    assert world.run(migration)[0] == []


def test_the_identity_follows_the_name_that_was_asked_for(world: World) -> None:
    plain = into_backup(world)
    translated = into_backup(world, translate_names=True)
    assert plain.identity_facts()["target"] == translated.identity_facts()["target"]
    assert plain.identity != translated.identity
    assert translated.identity == into_backup(world, translate_names=True).identity
    assert "translate_names" not in plain.options.plan_fingerprint()


NAMED = CollectionSpec(
    "docs", (VectorSpec(2, Metric.COSINE, "title"), VectorSpec(3, Metric.L2, "body")), frozenset(IdKind)
)


@pytest.fixture
def named(world: World) -> World:
    world.a.create(NAMED)
    values = np.arange(1, 46, dtype=np.float32).reshape(9, 5)
    columns = {"title": DenseColumn(values[:, :2].copy()), "body": DenseColumn(values[:, 2:].copy())}
    world.a.upsert("docs", RecordBatch(numbered(9), columns, [{"n": row} for row in range(9)]))
    return world


def test_vectors_arrive_under_the_names_that_were_chosen(named: World) -> None:
    options = {"vectors": {"title": "", "body": None}}
    assert named.run(named.migration(**options))[1].is_proven
    assert named.b.describe("docs").spec.vectors == (VectorSpec(2, Metric.COSINE),)
    arrived = named.b.fetch("docs", numbered(9))
    there = named.a.fetch("docs", numbered(9))
    assert np.array_equal(arrived.dense().values, there.dense("title").values)


def test_several_vectors_change_names_and_a_metric(named: World) -> None:
    options = {"vectors": {"title": "body", "body": {"name": "text", "metric": "dot"}}}
    assert named.run(named.migration(**options))[1].is_proven
    assert set(named.b.describe("docs").spec.vectors) == {
        VectorSpec(2, Metric.COSINE, "body"),
        VectorSpec(3, Metric.DOT, "text"),
    }
    assert np.array_equal(
        named.b.fetch("docs", numbered(9)).dense("text").values, named.a.fetch("docs", numbered(9)).dense("body").values
    )


@pytest.mark.parametrize("choice", [{"titel": ""}, {"title": "body"}, {"title": None, "body": None}])
def test_a_wrong_choice_is_refused_before_the_first_write(named: World, choice: dict[str, Any]) -> None:
    with pytest.raises(SchemaCompatibilityError, match="vectors"), named.opened(named.migration(vectors=choice)):
        pass
    assert named.b.list_collections() == []


def test_another_choice_is_another_migration() -> None:
    chosen = [None, {"a": ""}, {"a": None}, {"a": {"metric": "dot"}}]
    options = [MigrationOptions.model_validate({"vectors": value}) for value in chosen]
    fingerprints = [str(option.plan_fingerprint()) for option in options]
    assert len(set(fingerprints)) == len(chosen)
    assert "vectors" not in fingerprints[0]
