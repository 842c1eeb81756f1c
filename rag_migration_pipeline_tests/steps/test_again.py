"""A migration that is run again: at once, over a changed source or target, half-way through a range."""

import threading
from dataclasses import replace

import pytest

from rag_migration_pipeline.errors import ConflictError, ManifestError, SchemaCompatibilityError
from rag_migration_pipeline.events import Event, ManifestMade
from rag_migration_pipeline.receipts import read_receipt, write_receipt
from rag_migration_pipeline.records import CollectionInfo
from rag_migration_pipeline.steps.manifest import open_manifest, proven_keys
from rag_migration_pipeline.steps.planning import make_manifest
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.wrappers import WrapperStore
from rag_migration_pipeline_tests.steps.support import World, numbered, records, spec_of, with_faults


def test_two_starts_at_once_end_with_one_manifest(world: World) -> None:
    """A start that lists other ids meanwhile finds the first one's manifest and does not replace it."""
    world.fill(records(numbered(8)))
    migration = world.migration(conflict="overwrite")
    state = world.state(migration)
    has_listed, may_store = threading.Event(), threading.Event()
    found: list[object] = []

    def slow(store: VectorStore, operation: str) -> None:
        if operation == "describe":
            has_listed.set()
            assert may_store.wait(30)

    def plan_slowly() -> None:
        source = with_faults(world.source, slow).open()
        found.append(make_manifest(migration, source, world.b, state, events.append))

    def plan() -> None:
        found.append(make_manifest(migration, world.a, world.b, state, events.append))

    events: list[Event] = []
    first = threading.Thread(target=plan_slowly)
    first.start()
    assert has_listed.wait(30)
    world.a.upsert("docs", records(["r999"]))
    second = threading.Thread(target=plan)
    second.start()
    may_store.set()
    first.join(30)
    second.join(30)
    assert len(found) == 2
    assert found[0] == found[1] == open_manifest(state, migration)
    assert sorted(event.is_resumed for event in events if isinstance(event, ManifestMade)) == [False, True]


def test_a_receipt_of_other_ids_does_not_count(world: World) -> None:
    world.fill(records(numbered(8)))
    world.run()
    with world.opened() as context:
        first, second = context.manifest.ranges
        stolen = read_receipt(context.state.receipt(first.key))
        write_receipt(context.state.receipt(second.key), stolen)
        assert proven_keys(context.state, context.manifest) == [first.key]
        with pytest.raises(ManifestError, match=second.key):
            prove_collection(context)


def test_a_receipt_that_accounts_for_fewer_records_than_planned_is_no_proof(world: World) -> None:
    world.fill(records(numbered(4)))
    world.run()
    with world.opened() as context:
        path = context.state.receipt(context.manifest.ranges[0].key)
        receipt = read_receipt(path)
        write_receipt(path, replace(receipt, counts={**receipt.counts, "written": 3}))
        with pytest.raises(Exception, match="4 records were planned"):
            prove_collection(context)


def test_a_range_that_is_written_again_is_not_proven_meanwhile(world: World) -> None:
    """A failure half-way leaves no receipt, so that the next run loads the range."""
    world.fill(records(numbered(4)))
    world.run()
    world.fill(records(numbered(4), start=100))

    def fail(store: VectorStore, operation: str) -> None:
        if operation == "upsert":
            raise ConnectionError

    broken = replace(world.migration(), target=with_faults(world.target, fail))
    with world.opened(broken) as context, pytest.raises(ConnectionError):
        migrate_range(context, context.manifest.ranges[0].key)
    receipts, report = world.run()
    assert len(receipts) == 1
    assert report.is_proven
    assert world.b.fetch("docs", ["r000"]).payloads == [{"n": 100}]


def test_records_that_the_source_lost_stay_and_are_told(world: World) -> None:
    world.fill(records(numbered(5)))
    world.run()
    world.a.delete("docs", ["r002"])
    _, report = world.run()
    assert (report.is_proven, report.planned, report.left_over, report.target_count) == (True, 4, 1, 5)
    world.a.delete("docs", ["r003"])
    _, report = world.run()
    assert (report.is_proven, report.left_over) == (True, 2)
    world.a.upsert("docs", records(["r002"]))
    _, report = world.run()
    assert (report.is_proven, report.left_over) == (True, 1)


def test_conflicts_with_records_of_others_are_seen_in_every_generation(world: World) -> None:
    world.fill(records(numbered(5)))
    migration = world.migration(conflict="fail")
    world.run(migration)
    world.fill_target(records(["r900"], start=7))
    world.fill(records(["r900"]))
    with pytest.raises(ConflictError, match="r900"), world.opened(migration):
        pass
    assert world.b.fetch("docs", ["r900"]).payloads == [{"n": 7}]


def test_starting_afresh_gives_other_range_keys(world: World) -> None:
    """Otherwise Dagster would show the ranges of the first start as loaded."""
    world.fill(records(numbered(4)))
    world.run(world.migration(conflict="overwrite"))
    with world.opened(world.migration(conflict="overwrite")) as context:
        before = context.manifest.ranges[0].key
        (context.state.manifest).unlink()
    with world.opened(world.migration(conflict="overwrite")) as context:
        assert context.manifest.ranges[0].key != before


def test_a_proof_removes_what_other_plans_left(world: World) -> None:
    world.fill(records(numbered(5)))
    world.run()
    world.fill(records(numbered(2, start=20)))
    world.run()
    state = world.state()
    manifest = open_manifest(state, world.migration())
    assert sorted(path.name for path in state.root.glob("*.parquet")) == [
        "ids-1.parquet",
        "known-1.parquet",
        "left-1.parquet",
    ]
    assert [path.name for path in (state.root / "receipts").iterdir()] == [manifest.plan_digest]


def test_a_source_without_a_dimension_is_refused_when_planned(world: World) -> None:
    spec = spec_of("docs")
    open_ended = replace(spec, vectors=(replace(spec.vectors[0], dimension=None),))
    world.fill(records([]))

    class Undecided(WrapperStore):
        def describe(self, collection: str) -> CollectionInfo:
            return replace(self.inner.describe(collection), spec=open_ended)

    store = Undecided(world.a)
    with pytest.raises(SchemaCompatibilityError, match="no dimension yet: the source is empty"):
        make_manifest(world.migration(), store, world.b, world.state(), world.events.append)
    assert not world.state().manifest.exists()
