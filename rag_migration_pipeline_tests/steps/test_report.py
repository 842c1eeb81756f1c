"""The proof of the whole finds what is missing, extra, changed or doubled, names it, and says so in a file."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from rag_migration_pipeline.errors import ManifestError, StoreRequestError, ValidationError
from rag_migration_pipeline.events import CollectionProven
from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import Report, prove_collection
from rag_migration_pipeline.stores.memory import MemoryStore
from rag_migration_pipeline.stores.narrowing import Narrowing
from rag_migration_pipeline_tests.steps.support import World, numbered, records, with_faults


def proof_fails(world: World, **options: Any) -> Report:
    """Return the report of a proof that must fail, after checking that the stored report says the same."""
    with world.opened(world.migration(**options)) as context:
        with pytest.raises(ValidationError) as caught:
            prove_collection(context)
        stored = json.loads(context.state.report.read_bytes())
    report: Report = caught.value.report
    assert not report.is_proven
    assert not stored["is_proven"]
    assert stored["findings"]["missing_ids"] == list(report.findings.missing)
    assert stored["findings"]["extra_ids"] == list(report.findings.extra)
    assert stored["findings"]["changed_ids"] == report.findings.changed
    assert world.target.address in str(caught.value)
    return report


def test_a_whole_collection_is_proven_and_the_report_is_stored(world: World) -> None:
    world.fill(records(numbered(9)))
    migration = world.migration(filter={"n": {"$ne": 4}}, push_down=False)
    _, report = world.run(migration)
    assert report.is_proven
    stored = json.loads(world.state(migration).report.read_bytes())
    counts = {name: stored[name] for name in ("planned", "written", "filtered", "skipped", "target_count", "ranges")}
    assert counts == {"planned": 9, "written": 8, "filtered": 1, "skipped": 0, "target_count": 8, "ranges": 3}
    assert stored["is_proven"] is True
    assert stored["identity"] == migration.identity
    assert [e.is_proven for e in world.events if isinstance(e, CollectionProven)] == [True]


def test_an_empty_collection_is_proven(world: World) -> None:
    world.fill(records([]))
    receipts, report = world.run()
    assert (receipts, report.ranges, report.written, report.is_proven) == ([], 0, 0, True)
    assert world.b.count("docs") == 0


def test_ranges_without_receipt_are_named_and_nothing_is_proven(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened() as context:
        keys = [entry.key for entry in context.manifest.ranges]
        migrate_range(context, keys[1])
        with pytest.raises(ManifestError, match=f"2 of 3 ranges.*{keys[0]}, {keys[2]}") as caught:
            prove_collection(context)
        assert caught.value.facts["ranges"] == [keys[0], keys[2]]
        assert not context.state.report.exists()


def test_missing_records_withdraw_the_receipts_of_their_ranges_alone(world: World) -> None:
    world.fill(records(numbered(9)))
    world.run()
    world.b.delete("docs", ["r001", "r008"])
    report = proof_fails(world)
    assert report.findings.missing == ("string:r001", "string:r008")
    assert report.findings.extra == ()
    assert report.findings.compared == 7
    with world.opened() as context:
        keys = [entry.key for entry in context.manifest.ranges]
        assert proven_keys(context.state, context.manifest) == [keys[1]]
    receipts, report = world.run()
    assert (len(receipts), report.is_proven) == (2, True), "only the ranges concerned were loaded again"


def test_changed_records_are_named(world: World) -> None:
    world.fill(records(numbered(9)))
    world.run()
    world.b.write("docs", records(["r004"], start=4, more=1))
    vectors = world.b.fetch("docs", ["r005"])
    vectors.dense().values[0, 0] += 1
    world.b.write("docs", vectors)
    report = proof_fails(world)
    assert report.findings.changed["string:r004"] == "payload or document"
    assert report.findings.changed["string:r005"] == "vector"
    assert set(report.findings.changed) == {"string:r004", "string:r005"}


@pytest.mark.parametrize("validate", ["full", "counts"])
def test_extra_records_are_named_and_no_range_is_to_blame(world: World, validate: str) -> None:
    world.fill(records(numbered(9)))
    world.run(world.migration(validate=validate))
    world.b.write("docs", records(["intruder", 7]))
    report = proof_fails(world, validate=validate)
    assert set(report.findings.extra) == {"string:intruder", "int:7"}
    assert report.findings.missing == ()
    assert report.findings.changed == {}
    with world.opened() as context:
        assert len(proven_keys(context.state, context.manifest)) == 3


def test_one_missing_and_one_extra_do_not_cancel_out(world: World) -> None:
    world.fill(records(numbered(9)))
    world.run()
    world.b.delete("docs", ["r002"])
    world.b.write("docs", records(["intruder"]))
    report = proof_fails(world)
    assert report.target_count == 9
    assert (report.findings.missing, report.findings.extra) == (("string:r002",), ("string:intruder",))


def test_counting_alone_names_what_is_missing_too(world: World) -> None:
    world.fill(records(numbered(9)))
    world.run(world.migration(validate="counts"))
    world.b.delete("docs", ["r002"])
    assert proof_fails(world, validate="counts").findings.missing == ("string:r002",)


def count_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the target count one record more than there are different ids."""
    count = MemoryStore.count

    def more(self: MemoryStore, collection: str, where: Narrowing | None = None) -> int:
        return count(self, collection, where) + (self.settings.name == world.b.settings.name)

    monkeypatch.setattr(MemoryStore, "count", more)


def test_duplicate_ids_in_the_target_are_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(records(numbered(3)))
    with world.opened() as context:
        migrate_range(context, context.manifest.ranges[0].key)
    count_more(world, monkeypatch)
    listed: list[RecordId] = ["r000", "r001", "r001", "r002"]
    monkeypatch.setattr(MemoryStore, "iter_ids", lambda *_, **__: iter([listed]))
    assert proof_fails(world).findings.extra == ("string:r001",)


def test_duplicates_that_only_the_count_shows_turn_the_whole_red(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(records(numbered(3)))
    world.run()
    count_more(world, monkeypatch)
    assert set(proof_fails(world).findings.changed) == {"(count)"}


def test_records_of_others_are_neither_extra_nor_touched(world: World) -> None:
    world.fill(records(numbered(5)))
    world.fill_target(records(["theirs", "r001"], start=900))
    _, report = world.run(world.migration(conflict="skip"))
    assert report.is_proven
    assert world.b.fetch("docs", ["theirs", "r001"]).payloads == [{"n": 900}, {"n": 901}]


@pytest.mark.parametrize("intruder", [True, False])
def test_records_of_others_that_vanish_are_named(world: World, intruder: bool) -> None:
    """With an intruder in its place the count alone would not show it."""
    world.fill(records(numbered(5)))
    world.fill_target(records(["theirs"]))
    world.run(world.migration(conflict="overwrite"))
    world.b.delete("docs", ["theirs"])
    if intruder:
        world.b.write("docs", records(["intruder"]))
    report = proof_fails(world, conflict="overwrite")
    assert report.findings.changed == {"string:theirs": "was in the target before the migration, and is gone"}
    assert report.findings.extra == (("string:intruder",) if intruder else ())


def test_what_changed_in_the_source_since_is_told_and_no_failure(world: World) -> None:
    world.fill(records(numbered(5)))
    with world.opened() as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        world.fill(records(["zz"]))
        report = prove_collection(context)
    assert (report.planned, report.source_count, report.is_proven) == (5, 6, True)


def test_loading_is_finished_before_the_proof_reads(world: World) -> None:
    world.fill(records(numbered(5)))
    operations: list[str] = []
    target = with_faults(world.target, lambda _, operation: operations.append(operation))
    with world.opened(replace(world.migration(), target=target)) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        operations.clear()
        prove_collection(context)
    assert operations.index("finish_loading") < operations.index("fetch_pages")


def test_the_report_names_at_most_a_thousand_ids_and_counts_all(world: World) -> None:
    world.fill(records(numbered(5)))
    world.run()
    world.b.write("docs", records([*range(1_200)]))
    with world.opened() as context:
        with pytest.raises(ValidationError) as caught:
            prove_collection(context)
        stored = json.loads(context.state.report.read_bytes())["findings"]
    assert (stored["extra"], len(stored["extra_ids"])) == (1_200, 1_000)
    assert len(str(caught.value)) < 1_000


def test_memory_of_the_proof_is_a_page_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(records(numbered(9)))
    asked: list[int] = []
    fetch = MemoryStore.fetch

    def counting(self: MemoryStore, collection: str, ids: Any) -> Any:
        asked.append(len(ids))
        return fetch(self, collection, ids)

    monkeypatch.setattr(MemoryStore, "fetch", counting)
    with world.opened() as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        asked.clear()
        prove_collection(context)
    assert max(asked) <= 4, "no more than a range"


def test_scanning_is_left_alone_where_the_count_decides(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(records(numbered(9)))

    def refuse(*_: Any) -> Iterator[Any]:
        raise AssertionError("ids were listed")

    with world.opened() as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        monkeypatch.setattr(MemoryStore, "iter_ids", refuse)
        assert prove_collection(context).is_proven


def test_a_store_that_does_not_say_whether_it_is_ready_ends_no_proof(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreRequestError("you may not ask that.", todo="")

    monkeypatch.setattr(MemoryStore, "readiness", refuse)
    world.fill(records(numbered(5)))
    _, report = world.run()
    assert report.is_proven
    assert report.readiness is None
