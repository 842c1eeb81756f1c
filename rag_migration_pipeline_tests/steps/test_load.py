"""Load writes what it says, sets aside by name what the target cannot hold, and may be done twice."""

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.envelope import ENVELOPE_KEY, layout_of, unpack
from rag_migration_pipeline.errors import RecordRejectedError, SchemaCompatibilityError, StoreUnavailableError
from rag_migration_pipeline.events import BatchDone, RangeProven, RecordsRejected
from rag_migration_pipeline.records import DenseColumn
from rag_migration_pipeline.steps.load import load_batches, pack_batch
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.stores import memory
from rag_migration_pipeline.stores.capabilities import PayloadRules
from rag_migration_pipeline_tests.steps.support import World, dump, numbered, records, with_faults


def test_a_batch_is_there_when_it_is_yielded(world: World) -> None:
    world.fill(records(numbered(8)))
    with world.opened() as context:
        batches = iter([records(numbered(2)), records(numbered(2, 2), start=2)])
        for done, (packed, rejections) in enumerate(load_batches(context, "k", batches), start=1):
            assert not rejections
            assert world.b.count("docs") >= 2 * done  # a second writer may be ahead
            assert world.b.fetch("docs", packed.records.ids).ids == packed.records.ids


def test_loading_twice_equals_loading_once(world: World) -> None:
    world.fill(records(numbered(8)))
    with world.opened() as context:
        first = [migrate_range(context, entry.key) for entry in context.manifest.ranges]
        once = dump(world.b)
        again = [migrate_range(context, entry.key) for entry in context.manifest.ranges]
    assert dump(world.b) == once
    assert [list(r.contents) for r in again] == [list(r.contents) for r in first]


def test_packing_is_the_same_each_time_it_is_asked(world: World) -> None:
    world.fill(records(numbered(4)))
    with world.opened() as context:
        batch = records(numbered(4))
        assert pack_batch(context, batch).records.payloads == pack_batch(context, batch).records.payloads
        assert batch.payloads == records(numbered(4)).payloads


def limited(world: World, monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
    """Make the target a store that holds less."""
    world.b.capabilities = replace(memory.CAPABILITIES, **limits)
    monkeypatch.setattr(memory, "CAPABILITIES", world.b.capabilities)


def test_records_that_cannot_be_stored_are_named_and_the_others_are_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill(records(numbered(3)))
    world.fill(records(["r001"], text="x" * 500))
    limited(world, monkeypatch, payload=PayloadRules(max_bytes=200))
    with world.opened() as context:
        key = context.manifest.ranges[0].key
        with pytest.raises(RecordRejectedError, match=r"string:r001.*at most 200") as caught:
            migrate_range(context, key)
        assert [r.record_id for r in caught.value.facts["rejections"]] == ["r001"]
        assert "others were written" in caught.value.todo
        assert not context.state.receipt(key).exists(), "a range with rejections is not proven"
    assert world.b.fetch("docs", numbered(3)).ids == ["r000", "r002"]
    assert [[r.record_id for r in e.rejections] for e in world.events if isinstance(e, RecordsRejected)] == [["r001"]]
    assert not [e for e in world.events if isinstance(e, RangeProven)]


def test_values_that_a_flat_target_cannot_hold_are_not_rejected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(records(numbered(4), null=None, deep={"a": []}))
    limited(world, monkeypatch, payload=PayloadRules(has_null=False, has_nested=False))
    _, report = world.run()
    assert (report.written, report.is_proven) == (4, True)
    assert set(world.b.fetch("docs", ["r000"]).payloads[0]) == {"n", ENVELOPE_KEY}


def test_typed_values_and_partitions_travel_through_a_store_that_has_neither(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"when": dt.datetime(2024, 1, 2, tzinfo=dt.UTC), "raw": b"\x00", "tags": ("a", dt.date(2024, 1, 2))}
    batch = records(numbered(4), **values).with_columns(partitions=["a", None, "b", None])
    world.fill(batch)
    limited(world, monkeypatch, payload=PayloadRules(), has_partitions=False)
    _, report = world.run()
    assert (report.written, report.is_proven) == (4, True)
    held = world.b.fetch("docs", numbered(4))
    assert held.partitions is None
    assert held.payloads[0]["when"] == "2024-01-02T00:00:00+00:00"
    home = unpack(held, layout_of(world.b.spec("docs"), world.b.capabilities, "document"))
    assert (home.payloads, home.partitions) == (batch.payloads, batch.partitions)


def test_without_an_envelope_a_record_that_loses_a_value_is_named_and_the_others_are_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill(records(numbered(4), **{ENVELOPE_KEY: "mine"}))
    world.fill(records(["r001"], null=None))
    limited(world, monkeypatch, payload=PayloadRules(has_null=False))
    with (
        world.opened(world.migration(envelope=False)) as context,
        pytest.raises(RecordRejectedError, match=r"1 of 4 .*: 'string:r001': payload key 'null': null; the envelope"),
    ):
        migrate_range(context, context.manifest.ranges[0].key)
    written = world.b.fetch("docs", numbered(4))
    assert written.ids == ["r000", "r002", "r003"]
    assert written.payloads[0] == {"n": 0, ENVELOPE_KEY: "mine"}


def test_vectors_that_do_not_fit_stop_the_load(world: World) -> None:
    world.fill(records(numbered(4)))
    with world.opened() as context:
        wide = records(["a"]).with_columns(vectors={"": DenseColumn(np.ones((1, 5), np.float32))})
        with pytest.raises(SchemaCompatibilityError, match="expected dimension 3, got 5"):
            list(load_batches(context, "k", [wide]))
    assert world.b.count("docs") == 0


def test_a_target_that_fails_leaves_the_range_unproven_and_the_next_run_finishes_it(world: World) -> None:
    world.fill(records(numbered(8)))
    calls = {"upsert": 0}

    def fault(_: object, operation: str) -> None:
        calls["upsert"] += operation == "upsert"
        if operation == "upsert" and calls["upsert"] == 2:
            raise StoreUnavailableError("gone for a while")

    migration = replace(world.migration(), target=with_faults(world.target, fault))
    with pytest.raises(StoreUnavailableError):
        world.run(migration)
    assert world.b.count("docs") == 3
    receipts, report = world.run()
    assert (len(receipts), report.written, report.is_proven) == (2, 8, True)


def test_the_events_tell_every_step_of_every_record(world: World) -> None:
    world.fill(records(numbered(9)))
    world.run()
    told: dict[str, int] = {}
    for event in world.events:
        if isinstance(event, BatchDone):
            told[event.step] = told.get(event.step, 0) + event.records
    assert told == {"extract": 9, "load": 9, "validate": 9}
