"""Extract gives a range exactly as the manifest recorded it, or says by name what is gone."""

from dataclasses import replace

import pytest

from rag_migration_pipeline.errors import RecordRejectedError, SourceChangedError, StoreUnavailableError
from rag_migration_pipeline.events import BatchDone
from rag_migration_pipeline.payloads import MAX_DEPTH, is_too_deep
from rag_migration_pipeline.records import RecordBatch, RecordId
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.extract import extract_batches
from rag_migration_pipeline.steps.manifest import read_range_ids
from rag_migration_pipeline_tests.steps.support import World, numbered, records, with_faults


def extracted(context: MigrationContext, ordinal: int = 0) -> list[RecordBatch]:
    key = context.manifest.ranges[ordinal].key
    return list(extract_batches(context, read_range_ids(context.state, context.manifest, key)))


def ids_of(batches: list[RecordBatch]) -> list[RecordId]:
    return [record_id for batch in batches for record_id in batch.ids]


@pytest.mark.parametrize("page_count", [1, 2, 3, 4, 100])
def test_every_record_of_a_range_comes_once_and_in_order(world: World, page_count: int) -> None:
    world.fill(records(numbered(11)))
    with world.opened(world.migration(page_count=page_count)) as context:
        found = [ids_of(extracted(context, ordinal)) for ordinal in range(3)]
    assert found == [numbered(4), numbered(4, 4), numbered(3, 8)]


def test_batches_are_bounded_by_count_and_by_bytes(world: World) -> None:
    world.fill(records(numbered(8), text="x" * 1_000))
    with world.opened(world.migration(range_count=8, page_count=5)) as context:
        assert [len(batch) for batch in extracted(context)] == [5, 3]
    with world.opened(world.migration(range_count=8, page_count=5, batch_bytes=2_200)) as context:
        assert [len(batch) for batch in extracted(context)] == [2, 2, 1, 2, 1]


def test_records_that_came_since_are_passed_over(world: World) -> None:
    world.fill(records(numbered(8)))
    with world.opened() as context:
        world.fill(records(["r000x", "r001x", "r003x", "r007x", "a", "z"]))
        assert ids_of(extracted(context, 0)) == numbered(4)
        assert ids_of(extracted(context, 1)) == numbered(4, 4)


def test_records_that_are_gone_are_named(world: World) -> None:
    world.fill(records(numbered(8)))
    with world.opened() as context:
        world.a.delete("docs", ["r000", "r003"])
        with pytest.raises(SourceChangedError, match=r"2 of 4 records.*string:r000, string:r003") as caught:
            extracted(context, 0)
        assert caught.value.facts["ids"] == ["string:r000", "string:r003"]
        assert context.manifest.ranges[0].key in str(caught.value)
        assert world.source.address in str(caught.value)
        assert ids_of(extracted(context, 1)) == numbered(4, 4), "other ranges are not concerned"


def test_a_range_whose_records_are_all_gone_is_named_too(world: World) -> None:
    world.fill(records(numbered(8)))
    with world.opened() as context:
        world.a.delete("docs", numbered(4))
        with pytest.raises(SourceChangedError, match="4 of 4 records"):
            extracted(context, 0)


def test_each_page_is_told_with_its_size_and_time(world: World) -> None:
    world.fill(records(numbered(4)))
    with world.opened() as context:
        extracted(context)
    done = [e for e in world.events if isinstance(e, BatchDone)]
    assert [(e.step, e.records) for e in done] == [("extract", 3), ("extract", 1)]
    assert all(e.duration_s >= 0 and e.size_bytes > 0 for e in done)


def test_an_error_of_the_store_comes_through_as_it_is(world: World) -> None:
    world.fill(records(numbered(4)))
    error = StoreUnavailableError("gone")

    def fault(_: object, operation: str) -> None:
        if operation == "read_range":
            raise error

    with (
        world.opened(replace(world.migration(), source=with_faults(world.source, fault))) as context,
        pytest.raises(StoreUnavailableError) as caught,
    ):
        extracted(context)
    assert caught.value is error


def test_payloads_that_are_nested_too_deeply_are_refused_by_name_and_can_be_left_out(world: World) -> None:
    world.fill(records(numbered(7)))
    world.fill(records(["r005"], deep=nested(MAX_DEPTH)))  # the payload itself is one level more
    with pytest.raises(RecordRejectedError, match=r"1 records have payloads with more than 200 .*: string:r005\."):
        world.run()
    assert not world.b.exists("docs")
    world.fill(records(["r005"], deep=nested(MAX_DEPTH - 1)))
    assert world.run()[1].is_proven
    world.fill(records(["r005"], deep=nested(MAX_DEPTH)))
    receipts, report = world.run(world.migration(filter={"$id": {"$nin": ["r005"]}}, conflict="overwrite"))
    assert report.is_proven
    assert sum(map(len, receipts)) == 6


def test_depth_is_measured_without_going_down_all_the_way() -> None:
    assert is_too_deep({"a": 1, "b": nested(100_000)})
    assert not is_too_deep({"a": 1, "b": [{"c": 2}]})


def nested(depth: int) -> list[object]:
    found: list[object] = []
    for _ in range(depth - 1):
        found = [found]
    return found
