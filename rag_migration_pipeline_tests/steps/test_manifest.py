"""The source is cut once, the cut is stored, and nothing moves it afterwards.

Belongs here: ranges, the stored manifest, its generations, whose it is. Does not belong here: what may lie in the
target (``test_conflict_policy.py``).
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rag_migration_pipeline import state as state_module
from rag_migration_pipeline.errors import ManifestError, SourceChangedError, SpecError, StagingError
from rag_migration_pipeline.events import ManifestMade
from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline.steps.listing import MAX_PASSES
from rag_migration_pipeline.steps.manifest import manifest_fingerprint, open_manifest, read_range_ids
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.stores.memory import MemoryStore
from rag_migration_pipeline_tests.steps.support import World, files_of, numbered, records, with_faults

# -- the cut ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 11])
def test_ranges_are_half_open_and_hold_every_id_once(world: World, count: int) -> None:
    world.fill(records(numbered(count)))
    with world.opened() as context:
        manifest = context.manifest
        ranges = [read_range_ids(context.state, manifest, entry.key) for entry in manifest.ranges]
    assert [record_id for record_range in ranges for record_id in record_range.ids] == numbered(count)
    assert [entry.count for entry in manifest.ranges] == [4] * (count // 4) + [count % 4] * bool(count % 4)
    assert manifest.count == count
    for this, following in zip(ranges, [*ranges[1:], None][: len(ranges)], strict=True):
        assert this.start == this.ids[0]
        assert this.stop == (following.start if following else None)
        assert this.offset == this.ordinal * 4
    keys = [entry.key for entry in manifest.ranges]
    assert keys == [f"{manifest.plan_digest}_{ordinal:06d}" for ordinal in range(len(ranges))]


def test_a_second_call_takes_up_the_same_ranges_whatever_happened_to_the_source(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened() as context:
        first = context.manifest
    before = files_of(world)
    world.fill(records(["a", "zz"]))
    world.a.delete("docs", ["r003"])
    with world.opened(world.migration(range_count=2)) as context:
        assert context.manifest == first
        assert manifest_fingerprint(context.manifest) == manifest_fingerprint(first)
    assert files_of(world) == before
    assert [e.is_resumed for e in world.events if isinstance(e, ManifestMade)] == [False, True]


def test_the_stored_manifest_says_what_the_open_one_says(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened() as context:
        assert open_manifest(context.state, context.migration) == context.manifest
        assert context.manifest.facts == context.migration.identity_facts()
        assert not context.manifest.target_existed
        rows = pq.ParquetFile(context.state.ids(0))
        assert [rows.metadata.row_group(i).num_rows for i in range(rows.num_row_groups)] == [4, 4, 1]


def test_a_range_of_another_plan_is_refused(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened() as context:
        for key in ("ffffff_000000", f"{context.manifest.plan_digest}_000003", ""):
            with pytest.raises(ManifestError, match=context.manifest.plan_digest):
                migrate_range(context, key)


# -- stored whole, or not at all -------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["ids-0.parquet", "known-0.parquet", "manifest.json"])
def test_a_crash_before_the_commit_point_leaves_no_manifest(
    world: World, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is renamed into place last; until then the next run plans afresh."""
    world.fill(records(numbered(9)))
    rename = Path.replace

    def crash(self: Path, target: Path) -> Path:
        if target.name == last:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt), world.opened():
            pass
    assert not world.state().manifest.exists()
    assert world.b.list_collections() == []
    world.fill(records(["zz"]))
    _, report = world.run()
    assert (report.written, report.is_proven) == (10, True)


def test_a_full_disk_while_planning_is_told_and_nothing_is_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(records(numbered(9)))
    monkeypatch.setattr(state_module.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(StagingError, match="No space left"), world.opened():
        pass
    assert files_of(world) == {}
    assert world.b.list_collections() == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "damaged"),
        ('{"version": 1', "damaged"),
        ('{"version": 1}', "identity"),
        ("version", "of another version: expected 1, got 2"),
        ("ranges", "damaged.*ranges"),
    ],
)
def test_a_damaged_manifest_is_named(world: World, content: str, words: str) -> None:
    world.fill(records(numbered(9)))
    with world.opened() as context:
        path = context.state.manifest
    stored = json.loads(path.read_text())
    if content == "version":
        content = json.dumps({**stored, "version": 2})
    if content == "ranges":
        content = json.dumps({**stored, "ranges": [{"key": "x"}]})
    path.write_text(content)
    for plan in (True, False):
        with pytest.raises(ManifestError, match=words) as caught, world.opened(plan=plan):
            pass
        assert str(path) in str(caught.value)
        assert "state folder" in caught.value.todo


def test_the_manifest_of_another_migration_is_refused_with_both_sides_named(world: World) -> None:
    world.fill(records(numbered(9)))
    other = world.migration(filter={"n": {"$gte": 5}})
    with world.opened(other):
        pass
    mine = world.state()
    mine.root.mkdir(parents=True)
    for file in world.state(other).root.iterdir():
        if file.is_file():
            (mine.root / file.name).write_bytes(file.read_bytes())
    before = world.dump()
    with pytest.raises(ManifestError, match="another migration") as caught, world.opened():
        pass
    assert "$gte" in str(caught.value)
    assert "'filter': None" in str(caught.value)
    assert world.dump() == before


@pytest.mark.parametrize("damage", ["swapped", "cut", "gone"])
def test_damaged_ids_are_noticed_before_they_are_used(world: World, damage: str) -> None:
    world.fill(records(numbered(9)))
    with world.opened() as context:
        path = context.state.ids(0)
        key = context.manifest.ranges[0].key
        if damage == "swapped":
            table = pq.read_table(path)
            pq.write_table(table.take([1, 0, *range(2, 9)]), path, row_group_size=4)
        elif damage == "cut":
            path.write_bytes(path.read_bytes()[:-50])
        else:
            path.unlink()
        with pytest.raises((ManifestError, StagingError), match=path.name):
            migrate_range(context, key)
        assert world.b.count("docs") == 0


def test_without_planning_nothing_is_opened_or_made(world: World) -> None:
    world.fill(records(numbered(9)))
    opened: list[str] = []
    migration = replace(world.migration(), source=with_faults(world.source, lambda _, name: opened.append(name)))
    with pytest.raises(ManifestError, match="no manifest yet"), world.opened(migration, plan=False):
        pass
    assert opened == []
    assert files_of(world) == {}


# -- a source that does not hold still -------------------------------------------------------------------------------


def test_a_source_that_keeps_changing_is_refused(world: World) -> None:
    world.fill(records(numbered(9)))
    added = iter(range(100))

    def grow(store: Any, operation: str) -> None:
        if operation in ("iter_ids", "iter_field"):
            store.upsert("docs", records([f"new{next(added)}"]))

    migration = replace(world.migration(), source=with_faults(world.source, grow))
    with pytest.raises(SourceChangedError, match="changing") as caught, world.opened(migration):
        pass
    assert f"{MAX_PASSES} passes" in str(caught.value)
    assert "Stop the writers" in caught.value.todo
    assert files_of(world) == {}
    assert world.b.list_collections() == []


def test_a_source_that_comes_to_rest_is_listed_until_two_passes_agree(world: World) -> None:
    world.fill(records(numbered(9)))
    added = iter(["r900", "r901"])

    def grow(store: Any, operation: str) -> None:
        new = next(added, None) if operation in ("iter_ids", "iter_field") else None
        if new is not None:
            store.upsert("docs", records([new]))

    migration = replace(world.migration(), source=with_faults(world.source, grow))
    with world.opened(migration) as context:
        assert context.manifest.count == 11


def test_an_order_that_changes_is_a_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(records(numbered(9)))
    turn = iter(range(100))

    def shuffled(self: MemoryStore, collection: str, *_: object, **__: object) -> Iterator[list[RecordId]]:
        ids = self._sorted_ids(collection)
        shift = next(turn) % len(ids) or 1
        yield ids[shift:] + ids[:shift]

    monkeypatch.setattr(MemoryStore, "iter_ids", shuffled)
    with pytest.raises(SourceChangedError, match="changing"), world.opened():
        pass


def test_duplicate_ids_are_refused_by_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(records(numbered(3)))
    listed: list[RecordId] = ["r000", "r001", "r001", "r002"]
    monkeypatch.setattr(MemoryStore, "iter_ids", lambda *_, **__: iter([listed]))
    monkeypatch.setattr(MemoryStore, "iter_field", lambda *_: iter([(listed, [None] * 4)]))
    monkeypatch.setattr(MemoryStore, "count", lambda *_: 4)
    with pytest.raises(SourceChangedError, match="string:r001") as caught, world.opened():
        pass
    assert "4 records" in str(caught.value)
    assert "3 different ids" in str(caught.value)


def test_duplicates_that_only_the_count_shows_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Milvus answers one of two records with the same key, but counts both."""
    world.fill(records(numbered(3)))
    monkeypatch.setattr(MemoryStore, "count", lambda *_: 5)
    with pytest.raises(SourceChangedError, match="5 records, but 3 different ids"), world.opened():
        pass


# -- generations -----------------------------------------------------------------------------------------------------


def test_a_finished_migration_whose_source_has_other_ids_starts_again_with_new_keys(world: World) -> None:
    world.fill(records(numbered(9)))
    world.run()
    with world.opened() as context:
        first = context.manifest
    world.fill(records(numbered(3, start=20), start=20))
    world.fill(records(["r000"], start=500))
    _, report = world.run()
    assert report.is_proven
    assert (report.planned, report.written, report.target_count) == (12, 12, 12)
    with world.opened() as context:
        second = context.manifest
    assert second.generation == first.generation + 1
    assert not {e.key for e in first.ranges} & {e.key for e in second.ranges}
    assert manifest_fingerprint(first) != manifest_fingerprint(second)
    assert world.b.fetch("docs", ["r000"]).payloads == [{"n": 500}]
    with pytest.raises(ManifestError), world.opened() as context:
        migrate_range(context, first.ranges[0].key)


def test_an_unfinished_migration_keeps_its_ranges(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened() as context:
        first = context.manifest
        migrate_range(context, first.ranges[0].key)
    world.fill(records(numbered(3, start=20)))
    with world.opened() as context:
        assert context.manifest == first


def test_a_new_generation_begins_without_the_old_report(world: World) -> None:
    """Otherwise all ranges loaded would count as all proven, and the generation would never be proven itself."""
    world.fill(records(numbered(5)))
    world.run()
    world.fill(records(numbered(2, start=20)))
    with world.opened() as context:
        assert context.manifest.generation == 1
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
    world.fill(records(numbered(2, start=40)))
    with world.opened() as context:
        assert context.manifest.generation == 1


def test_what_an_earlier_generation_wrote_is_no_conflict_and_is_written_anew(world: World) -> None:
    world.fill(records(numbered(5)))
    world.fill_target(records(["r001", "theirs"], start=900))
    migration = world.migration(conflict="skip")
    world.run(migration)
    world.fill(records(numbered(6), start=50))
    _, report = world.run(migration)
    assert (report.written, report.skipped, report.is_proven) == (5, 1, True)
    kept = world.b.fetch("docs", ["r000", "r001", "theirs"]).payloads
    assert kept == [{"n": 50}, {"n": 900}, {"n": 901}]


# -- identity --------------------------------------------------------------------------------------------------------


def test_identity_follows_what_arrives_and_where_and_nothing_else(world: World) -> None:
    base = world.migration()
    others = [
        world.migration(filter={"n": 1}),
        world.migration(conflict="skip"),
        replace(base, source_collection="other"),
        replace(base, target_name="other"),
        replace(base, target=replace(world.target, document_key="text")),
        replace(base, source=world.target, target=world.source),
    ]
    assert len({m.identity for m in (base, *others)}) == 1 + len(others)
    for same in (world.migration("renamed"), world.migration(range_count=9, validate="none", max_attempts=1)):
        assert same.identity == base.identity


def test_the_target_must_not_be_the_source(world: World) -> None:
    with pytest.raises(SpecError, match="the target is the source"):
        replace(world.migration(), target=world.source)
