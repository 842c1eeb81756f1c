"""A plan can be looked at without writing anything, also where it cannot be applied; it shows every verdict."""

from pathlib import Path

import pytest

from rag_migration_pipeline.errors import (
    CollectionNotFoundError,
    ConflictError,
    SchemaCompatibilityError,
)
from rag_migration_pipeline.records import Metric
from rag_migration_pipeline.spec import migration_from_spec
from rag_migration_pipeline.steps.plan_view import MigrationPlan, verdict_table
from rag_migration_pipeline.steps.preview import plan_migration
from rag_migration_pipeline.verdicts import Level, Verdict
from rag_migration_pipeline_tests.steps.support import World, numbered, records, spec_of

FOLDERS = ("chroma+file", "qdrant+file", "qdrant+edge", "milvus+file")


def planned(world: World, **options: object) -> MigrationPlan:
    return plan_migration(world.migration(**options), world.state_dir)


def test_a_plan_is_what_planning_stores(world: World) -> None:
    world.fill(records(numbered(9)))
    plan = planned(world)
    assert plan.is_applicable
    plan.refuse()
    with world.opened() as context:
        assert context.manifest.plan == plan.facts
        assert context.manifest.target_spec == plan.target_spec
        assert (context.manifest.count, len(context.manifest.ranges)) == (plan.count, plan.ranges) == (9, 3)


def test_a_plan_with_a_filter_shows_who_decides_what(world: World) -> None:
    world.fill(records(numbered(9)))
    options = {"filter": {"$id": {"$lt": "r004"}, "n": {"$gte": 2}}}
    plan = planned(world, **options)
    with world.opened(world.migration(**options)) as context:
        assert (plan.count, plan.facts) == (context.manifest.count, context.manifest.plan)
    assert plan.facts.push_down
    assert all(line in plan.to_text(300) for line in plan.facts.push_down)


def test_looking_at_a_plan_writes_nothing(world: World) -> None:
    world.fill(records(numbered(9)))
    world.fill_target(records(numbered(2)))
    before = world.dump()
    planned(world, conflict="overwrite")
    assert world.dump() == before
    assert not world.state_dir.exists()


@pytest.mark.parametrize("scheme", FOLDERS)
def test_a_target_folder_that_does_not_exist_is_not_made(world: World, scheme: str, tmp_path: Path) -> None:
    world.fill(records(numbered(3)))
    target = f"{scheme}://{tmp_path}/target/docs"
    plan = plan_migration(
        migration_from_spec({"name": "m", "source": f"memory://docs?name={world.a.settings.name}", "target": target}),  # type: ignore[attr-defined]
        tmp_path / "state",
    )
    assert plan.is_applicable, plan.refusals
    assert plan.creates_target
    assert list(tmp_path.iterdir()) == []


def test_what_forbids_a_plan_is_shown_and_not_raised(world: World) -> None:
    world.fill(records(["7", 7, "a"]))
    world.b.create(spec_of("docs", metric=Metric.L2))
    world.b.upsert("docs", records(["a", "b"]))
    plan = planned(world)
    assert [type(refusal) for refusal in plan.refusals] == [SchemaCompatibilityError, ConflictError]
    with pytest.raises(SchemaCompatibilityError, match="expected metric cosine"):
        plan.refuse()
    assert "expected metric cosine" in plan.to_text(400)
    assert "holds 2 records" in plan.to_markdown()


def test_a_missing_source_is_told(world: World) -> None:
    with pytest.raises(CollectionNotFoundError):
        planned(world)


def test_a_plan_over_a_finished_migration_knows_its_own_records(world: World) -> None:
    world.fill(records(numbered(5)))
    world.run()
    plan = planned(world)
    assert plan.is_applicable
    assert (plan.generation, plan.known_count, plan.creates_target) == (1, 0, True)


def test_both_forms_show_every_verdict_the_worst_first() -> None:
    found = (
        Verdict("field a|b\n", Level.EXACT, "native"),
        Verdict("id", Level.LOSSY, "uuid5", "why", "accept_lossy"),
        Verdict('vector "x"', Level.IMPOSSIBLE, "", "no"),
        Verdict("setting hnsw", Level.NOTE, "not carried"),
        Verdict("partition", Level.LOSSY, "not carried"),
    )
    rows = verdict_table(found).splitlines()[2:]
    assert [row.split(" | ")[1].strip() for row in rows] == [
        "impossible",
        "lossy (consent: accept_lossy)",
        "lossy (needs consent)",
        "note",
        "exact",
    ]
    assert "field a\\|b\\\\x0a" in rows[-1]
    many = verdict_table(tuple(Verdict(f"field {n}", Level.EXACT, "native") for n in range(2_000)))
    assert "1500 more" in many.splitlines()[-1]


def test_the_text_fits_the_terminal(world: World) -> None:
    world.fill(records(numbered(5)))
    text = planned(world).to_text(80)
    assert max(map(len, text.splitlines())) <= 80
    assert "plan of docs" in text
    for word in ("source:", "target:", "records:", "ids:", "field n"):
        assert word in text
