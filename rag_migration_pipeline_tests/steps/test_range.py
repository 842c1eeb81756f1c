"""One range, all steps in a row; and several migrations at once that know nothing of each other."""

import threading
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.errors import ConflictError, SchemaCompatibilityError, SourceChangedError
from rag_migration_pipeline.events import BatchDone, CollectionProven, RangeProven
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.records import DenseColumn, RecordId
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.stores.chroma import ChromaSettings
from rag_migration_pipeline.stores.milvus import MilvusSettings
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline_tests.steps.support import World, dump, end_world, new_world, numbered, records, spec_of


def test_a_range_is_carried_alone(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened() as context:
        _, second, _ = (entry.key for entry in context.manifest.ranges)
        receipt = migrate_range(context, second)
        assert receipt.ids == numbered(4, 4)
        assert proven_keys(context.state, context.manifest) == [second]
        assert read_receipt(context.state.receipt(second)).counts == receipt.counts
    assert dump(world.b)["docs"][1] == dump(world.a)["docs"][1][4:8]


def test_a_filter_takes_what_it_says_and_counts_the_rest(world: World) -> None:
    world.fill(records(numbered(9)))
    receipts, report = world.run(world.migration(filter={"n": {"$in": [0, 1, 8]}}, push_down=False))
    assert [receipt.counts["filtered"] for receipt in receipts] == [2, 4, 0]
    assert [receipt.counts.get("written", 0) for receipt in receipts] == [2, 0, 1]
    assert (report.planned, report.written, report.filtered, report.is_proven) == (9, 3, 6, True)
    assert world.b.fetch("docs", numbered(9)).ids == ["r000", "r001", "r008"]


def test_a_failing_range_fails_alone(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened() as context:
        first, second, third = (entry.key for entry in context.manifest.ranges)
        world.a.delete("docs", ["r005"])
        migrate_range(context, first)
        with pytest.raises(SourceChangedError):
            migrate_range(context, second)
        migrate_range(context, third)
        assert proven_keys(context.state, context.manifest) == [first, third]
        world.fill(records(["r005"], start=5))
        migrate_range(context, second)
        assert proven_keys(context.state, context.manifest) == [first, second, third]


def test_ranges_run_at_once_and_in_any_order(world: World) -> None:
    world.fill(records(numbered(40)))
    with world.opened() as context:
        keys = [entry.key for entry in context.manifest.ranges]
        threads = [threading.Thread(target=migrate_range, args=(context, key)) for key in reversed(keys)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    receipts, report = world.run()
    assert (receipts, report.written, report.is_proven) == ([], 40, True)


def test_events_name_migration_and_range(world: World) -> None:
    world.fill(records(numbered(5)))
    world.run(world.migration("named"))
    with world.opened() as context:
        keys = [entry.key for entry in context.manifest.ranges]
    assert {e.migration for e in world.events if isinstance(e, BatchDone | RangeProven | CollectionProven)} == {"named"}
    assert [e.range_key for e in world.events if isinstance(e, RangeProven)] == keys


@given(
    count=st.integers(0, 30),
    range_count=st.integers(1, 12),
    page_count=st.integers(1, 12),
    batch_bytes=st.integers(1, 2_000),
    least=st.integers(0, 30),
    known=st.sets(st.integers(0, 35), max_size=6),
    policy=st.sampled_from(["overwrite", "skip"]),
    lost=st.sets(st.integers(0, 30), max_size=3),
    push_down=st.booleans(),
)
def test_however_it_is_cut_the_target_holds_what_it_should(
    count: int,
    range_count: int,
    page_count: int,
    batch_bytes: int,
    least: int,
    known: set[int],
    policy: str,
    lost: set[int],
    push_down: bool,
) -> None:
    """Filter, policy, interruption and every size of range, page and batch: the reference is one line of Python."""
    with TemporaryDirectory() as folder:
        world = new_world(Path(folder))
        world.fill(records(numbered(count)))
        theirs: list[RecordId] = [f"r{number:03d}" for number in sorted(known)]
        world.fill_target(records(theirs, start=900))
        options: dict[str, Any] = {"range_count": range_count, "page_count": page_count, "batch_bytes": batch_bytes}
        options["push_down"] = push_down
        migration = world.migration(filter={"n": {"$gte": least}}, conflict=policy, **options)
        with world.opened(migration) as context:
            for entry in context.manifest.ranges:
                if entry.ordinal not in lost:
                    migrate_range(context, entry.key)
        _, report = world.run(migration)
        before = {i: 900 + row for row, i in enumerate(theirs)}
        moved = {f"r{n:03d}": n for n in range(least, count) if policy == "overwrite" or f"r{n:03d}" not in before}
        held = world.b.fetch("docs", numbered(40))
        assert {i: payload["n"] for i, payload in zip(held.ids, held.payloads, strict=True)} == before | moved
        assert report.is_proven
        left_out = min(least, count)
        assert (report.written, report.filtered) == (len(moved), 0 if push_down else left_out)
        assert report.written + report.filtered + report.skipped == report.planned
        assert report.planned == count - (left_out if push_down else 0)
        end_world(world)


@pytest.mark.parametrize("push_down", [True, False])
def test_what_the_filter_leaves_out_is_in_nobodys_way(tmp_path: Path, push_down: bool) -> None:
    """Ids of others, and two ids that meet, concern only records that are taken, however the filter is evaluated."""
    world = new_world(tmp_path)
    world.fill(records(numbered(9)))
    world.fill_target(records(["r001", "r002"], start=900))
    migration = world.migration(filter={"n": {"$gte": 2}}, conflict="fail", push_down=push_down)
    with pytest.raises(ConflictError, match=r"1 ids are already in .*: string:r002; the conflict policy is fail"):
        world.run(migration)
    migration = world.migration(filter={"n": {"$gte": 3}}, conflict="fail", push_down=push_down)
    assert world.run(migration)[1].written == 6
    assert [p["n"] for p in world.b.fetch("docs", numbered(4)).payloads] == [900, 901, 3]
    end_world(world)


@pytest.mark.parametrize("push_down", [True, False])
def test_ids_that_meet_are_told_only_where_both_records_are_taken(tmp_path: Path, push_down: bool) -> None:
    world = new_world(tmp_path)
    world.fill(records([7, "7", "8", 9, "9"]))

    def migration(wanted: dict[str, Any] | None) -> Migration:
        chosen = world.migration(filter=wanted, push_down=push_down)
        return replace(chosen, target=ChromaSettings(path=str(tmp_path / "chroma")))

    for wanted, pairs in ((None, 2), ({"n": {"$ne": 3}}, 1)):
        with pytest.raises(SchemaCompatibilityError, match=f"{pairs} pairs of ids would meet"):
            world.run(migration(wanted))
    assert world.run(migration({"n": {"$nin": [0, 4]}}))[1].written == 3
    with migration(None).target.open() as store:
        assert [p["n"] for p in store.fetch("docs", ["7", "8", "9"]).payloads] == [1, 2, 3]
    end_world(world)


def test_a_record_that_is_taken_only_after_the_plan_overwrites_nobody_under_fail(world: World) -> None:
    world.fill(records(numbered(6)))
    world.fill_target(records(["r001"], start=900))
    migration = world.migration(filter={"n": {"$gte": 3}}, conflict="fail", push_down=False)
    with world.opened(migration) as context:
        world.fill(records(["r001"], start=7))
        with pytest.raises(ConflictError, match="string:r001"):
            migrate_range(context, context.manifest.ranges[0].key)
    assert world.b.fetch("docs", ["r001"]).payloads == [{"n": 900}]


# -- several migrations at once --------------------------------------------------------------------------------------


def test_three_migrations_that_share_a_collection_name_run_at_once(tmp_path: Path) -> None:
    """Three sources and three targets, each with a collection ``docs``, over one state folder, all at the same time."""
    folder = tmp_path / "stores"
    targets: dict[str, Any] = {
        "chroma": ChromaSettings(path=str(folder / "chroma")),
        "qdrant": QdrantEdgeSettings(path=str(folder / "qdrant")),
        "milvus": MilvusSettings(path=str(folder / "lite.db")),
    }
    worlds = {name: replace(new_world(tmp_path / "state"), target=target) for name, target in targets.items()}
    counts = {"chroma": 21, "qdrant": 33, "milvus": 14}
    reports: dict[str, Any] = {}
    start = threading.Barrier(len(worlds))

    def run(name: str) -> None:
        start.wait()
        reports[name] = worlds[name].run()[1]

    for name, world in worlds.items():
        world.fill(records(numbered(counts[name]), start=counts[name] * 1_000, mine=name))
    threads = [threading.Thread(target=run, args=(name,)) for name in worlds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    identities = {name: world.migration().identity for name, world in worlds.items()}
    assert len(set(identities.values())) == 3
    assert {path.name for path in (tmp_path / "state").iterdir()} == set(identities.values())
    for name, world in worlds.items():
        assert reports[name].is_proven
        assert (reports[name].written, reports[name].identity) == (counts[name], identities[name])
        with targets[name].open() as store:
            found = [payload["mine"] for batch in store.scan("docs") for payload in batch.payloads]
            assert found == [name] * counts[name]
        receipts, report = world.run()
        assert (receipts, report.is_proven) == ([], True), "a second run finds its own state, complete"
        end_world(world)


def test_migrations_over_the_same_two_stores_keep_apart(world: World) -> None:
    """Migrations that differ in the target's collection alone, or in the filter alone, keep apart."""
    world.fill(records(numbered(9)))
    plans = {
        "all": {"target_name": "all"},
        "low": {"target_name": "part", "options": MigrationOptions(range_count=4, filter={"n": {"$lt": 5}})},
        "high": {
            "target_name": "part",
            "options": MigrationOptions(range_count=4, filter={"n": {"$gte": 5}}, conflict="overwrite"),
        },
    }
    chosen: dict[str, Migration] = {name: replace(world.migration(name), **plan) for name, plan in plans.items()}
    reports = {name: world.run(migration)[1] for name, migration in chosen.items()}
    assert {name: (r.written, r.is_proven) for name, r in reports.items()} == {
        "all": (9, True),
        "low": (5, True),
        "high": (4, True),
    }
    assert world.b.count("part") == 9
    assert len({migration.identity for migration in chosen.values()}) == 3
    assert world.b.count("all") == 9


def test_partial_and_several_vectors_travel(world: World) -> None:
    spec = spec_of("docs")
    spec = replace(spec, vectors=(spec.vectors[0], replace(spec.vectors[0], name="title", dimension=2)))
    world.a.create(spec)
    batch = records(numbered(6))
    title = DenseColumn(np.ones((6, 2), np.float32), np.array([True, False] * 3))
    title.values[1::2] = 0
    world.a.upsert("docs", batch.with_columns(vectors={**batch.vectors, "title": title}))
    _, report = world.run()
    assert report.is_proven
    found = world.b.fetch("docs", numbered(6)).vectors["title"]
    assert isinstance(found, DenseColumn)
    assert found.present is not None
    assert found.present.tolist() == [True, False] * 3
