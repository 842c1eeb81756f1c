"""Under `deletes: tombstone` records that the source lost stay in the target, and say since when."""

from datetime import UTC, datetime

import pytest

from rag_migration_pipeline.errors import SourceChangedError, SpecError, ValidationError
from rag_migration_pipeline.records import Rejection
from rag_migration_pipeline.stores.base import WriteResult
from rag_migration_pipeline.stores.memory import MemoryStore
from rag_migration_pipeline_tests.steps.support import World, numbered, records
from rag_migration_pipeline_tests.steps.test_syncing import start, sync


def payloads(world: World) -> dict[object, dict[str, object]]:
    """Return the payloads of the target, by id."""
    pages = list(world.b.scan("docs"))
    return {i: dict(payload) for page in pages for i, payload in zip(page.ids, page.payloads, strict=True)}


def test_what_the_source_lost_is_marked_once_and_the_mark_goes_when_it_is_back(world: World) -> None:
    migration = world.migration(deletes="tombstone", tombstone="gone_at")
    start(world, migration)
    before = payloads(world)
    world.a.delete("docs", ["r001", "r005"])
    begun = datetime.now(UTC).replace(microsecond=0)
    _, carried, report = sync(world, migration)
    assert (carried, report.is_proven, report.left_over, report.target_count) == (2, True, 2, 11)
    after = payloads(world)
    marks = {record_id: str(after[record_id].pop("gone_at")) for record_id in ("r001", "r005")}
    assert all(begun <= datetime.fromisoformat(mark) <= datetime.now(UTC) for mark in marks.values())
    assert after == before, "the marks are all that changed"

    world.fill(records(["r001"], start=60))  # it is back
    world.a.delete("docs", ["r006"])
    assert sync(world, migration)[2].is_proven
    marked = {record_id: payload["gone_at"] for record_id, payload in payloads(world).items() if "gone_at" in payload}
    assert sorted(map(str, marked)) == ["r005", "r006"]
    assert marked["r005"] == marks["r005"], "a mark keeps its time"


@pytest.mark.parametrize("empty", [None, "", False, 0])
def test_an_empty_field_of_the_source_is_no_mark(world: World, empty: object) -> None:
    world.fill(records(numbered(4), gone_at=empty))
    migration = world.migration(deletes="tombstone", tombstone="gone_at", max_deletes=0.5)
    world.run(migration)
    world.a.delete("docs", ["r001"])
    assert sync(world, migration)[2].is_proven
    marks = {record_id: payload["gone_at"] for record_id, payload in payloads(world).items()}
    assert isinstance(marks.pop("r001"), str)
    assert set(marks.values()) == {empty}


@pytest.mark.parametrize("key", ["document", "_rmp_envelope"])
def test_a_key_with_another_meaning_is_refused(world: World, key: str) -> None:
    with pytest.raises(SpecError, match=f"tombstone '{key}' is a key with another meaning"):
        world.migration(deletes="tombstone", tombstone=key)
    world.migration(tombstone=key)  # nothing is marked


def test_a_source_that_lost_most_of_its_records_marks_none(world: World) -> None:
    migration = world.migration(deletes="tombstone")
    start(world, migration)
    world.a.delete("docs", numbered(6))
    with pytest.raises(SourceChangedError, match=r"6 of 11 records are gone .*or marked there"):
        sync(world, migration)
    assert [payload for payload in payloads(world).values() if "deleted_at" in payload] == []


def test_a_target_that_cannot_hold_the_mark_says_so(world: World) -> None:
    migration = world.migration(deletes="tombstone")
    start(world, migration)
    world.a.delete("docs", ["r001"])
    reason = "there is no field deleted_at"
    refused = WriteResult(0, (Rejection("r001", "load", reason),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryStore, "upsert", lambda _store, _name, _batch: refused)
        with pytest.raises(ValidationError, match=reason):
            sync(world, migration)
    assert sync(world, migration)[2].is_proven
    assert "deleted_at" in payloads(world)["r001"]
