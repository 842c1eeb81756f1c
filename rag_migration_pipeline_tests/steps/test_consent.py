"""A loss needs consent before the first write; giving it later is the same migration."""

import datetime as dt

import pytest

from rag_migration_pipeline.errors import RecordRejectedError, SchemaCompatibilityError
from rag_migration_pipeline.records import Payload
from rag_migration_pipeline.spec import Migration, migration_from_spec
from rag_migration_pipeline.steps.context import open_migration
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.verdicts import Level
from rag_migration_pipeline_tests.steps.support import World, numbered, records


def into_qdrant(world: World, **options: object) -> Migration:
    """Return a migration to an engine that keeps the direction of vectors only, and no dates."""
    source = f"memory://docs?name={world.a.settings.name}"  # type: ignore[attr-defined]
    target = f"qdrant+edge://{world.state_dir.parent}/target/docs"
    return migration_from_spec({"name": "docs", "source": source, "target": target, "range_count": 4, **options})


def test_nothing_is_written_without_consent_and_all_is_with_it(world: World) -> None:
    world.fill(records(numbered(6), on=dt.date(2026, 1, 2)))
    with (
        pytest.raises(SchemaCompatibilityError, match="does not consent") as caught,
        open_migration(into_qdrant(world, envelope=False), world.state_dir, plan=True),
    ):
        pass
    subjects = caught.value.facts["lossy"]
    assert subjects == ['vector ""', "id", "field on"]
    with into_qdrant(world).target.open(create=True) as store:
        assert store.list_collections() == []

    consenting = into_qdrant(world, envelope=False, accept_lossy=subjects)
    assert consenting.identity == into_qdrant(world, envelope=False).identity
    with open_migration(consenting, world.state_dir, plan=True) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        assert prove_collection(context).is_proven
        lossy = [verdict for verdict in context.manifest.plan.verdicts if verdict.level is Level.LOSSY]
        assert {verdict.consent for verdict in lossy} == {"accept_lossy"}
        (arrived,) = context.target.scan("docs")
    assert arrived.payloads[0]["on"] == "2026-01-02"


def test_what_the_plan_has_not_looked_at_is_lost_with_consent_only(world: World) -> None:
    """It looks at some of the records; of the others, those that would lose something are set aside by name."""
    batch = records([f"r{number:04d}" for number in range(3000)])
    payloads: list[Payload] = list(batch.payloads)
    partitions: list[str | None] = [None] * len(batch)
    payloads[205] = {"on": dt.date(2026, 1, 2)}
    partitions[206] = "archive"
    world.fill(batch.with_columns(payloads=payloads, partitions=partitions))
    known = ['vector ""', "id"]
    with open_migration(into_qdrant(world, envelope=False, accept_lossy=known), world.state_dir, plan=True) as context:
        keys = [entry.key for entry in context.manifest.ranges]
        with pytest.raises(RecordRejectedError, match=r"would lose its type.*name of its partition would be lost"):
            migrate_range(context, keys[51])
    for consent in (True, [*known, "field on", "partition"]):
        with open_migration(into_qdrant(world, envelope=False, accept_lossy=consent), world.state_dir) as context:
            assert len(migrate_range(context, keys[51])) == 4


def test_with_the_envelope_nothing_of_this_is_lost(world: World) -> None:
    world.fill(records(numbered(6), on=dt.date(2026, 1, 2)))
    with open_migration(into_qdrant(world), world.state_dir, plan=True) as context:
        assert {verdict.level for verdict in context.manifest.plan.verdicts} <= {Level.EXACT, Level.NOTE}
