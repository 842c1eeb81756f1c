"""Looking at a plan changes no store, on either side, whatever the stores are."""

from pathlib import Path

import pytest

from rag_migration_pipeline.records import Metric
from rag_migration_pipeline.steps.preview import plan_migration
from rag_migration_pipeline_tests.matrix import awkward
from rag_migration_pipeline_tests.matrix.places import STARTS, TARGETS, Place, fresh_name, migration_between


@pytest.mark.parametrize("target", TARGETS)
def test_planning_alone_writes_nothing(target: str, places: dict[str, Place], tmp_path: Path) -> None:
    there = places[target]
    start = next(item for item in STARTS.values() if item.store != target)
    home = places[start.store]
    origin = start.fill(home, Metric.COSINE)
    before, collections = home.meaning(origin), there.store.list_collections()
    plan = plan_migration(migration_between(home, origin, there, fresh_name()), tmp_path / "state")
    assert plan.is_applicable, plan.refusals
    assert plan.count == len(start.records)
    assert there.store.list_collections() == collections
    assert awkward.differences(before, home.meaning(origin)) == []
    assert not (tmp_path / "state").exists()
