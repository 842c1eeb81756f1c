"""A refused batch is bisected down to the guilty records; the rest is written; a refusal of all is told as it came."""

from collections.abc import Callable, Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.errors import (
    AuthenticationError,
    MigrationError,
    RecordRejectedError,
    StoreRequestError,
    StoreUnavailableError,
)
from rag_migration_pipeline.records import RecordBatch, RecordId, Rejection
from rag_migration_pipeline.steps.bisecting import CONFIRMATIONS, FEW, PATIENCE, PROBES, BisectingWriter
from rag_migration_pipeline.stores.base import WriteResult
from rag_migration_pipeline_tests.steps.support import numbered, records


class Target:
    """A target that refuses whole batches for the sake of single records, and counts what it is asked."""

    def __init__(self, guilty: Collection[RecordId], screened: Collection[RecordId] = ()) -> None:
        self.guilty = set(guilty)
        self.screened = set(screened)
        self.held: set[RecordId] = set()
        self.requests = 0
        self.make_error: Callable[[list[RecordId]], MigrationError] = lambda ids: StoreRequestError(f"no to {ids}")

    def write(self, batch: RecordBatch) -> WriteResult:
        self.requests += 1
        screened = [record_id for record_id in batch.ids if record_id in self.screened]
        found = [record_id for record_id in batch.ids if record_id in self.guilty and record_id not in self.screened]
        if found:
            raise self.make_error(found)
        self.held.update(set(batch.ids) - self.screened)
        return WriteResult(len(batch) - len(screened), tuple(Rejection(i, "load", "screened") for i in screened))


IDS = numbered(200)


@given(st.data())
def test_exactly_the_guilty_are_set_aside_wherever_they_hide(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 200))
    ids = IDS[:count]
    # At least one in four is good, so that some of the records tried all over the batch are.
    guilty = data.draw(st.sets(st.sampled_from(ids), max_size=count if count < FEW else count * 3 // 4))
    screened = data.draw(st.sets(st.sampled_from(ids), max_size=3))
    target = Target(guilty, screened)
    try:
        rejections = BisectingWriter(target.write).write_apart(records(ids))
    except StoreRequestError:
        probes = {ids[round(n * (count - 1) / (PROBES - 1) - 0.5)] for n in range(PROBES)}
        assert len(guilty - screened) >= FEW, "given up although few were refused"
        assert len(probes - guilty) < PROBES // 2, "given up although many would have been accepted"
        return
    assert sorted(r.record_id for r in rejections) == sorted(guilty | screened)
    assert len(rejections) == len({r.record_id for r in rejections})
    assert target.held == set(ids) - guilty - screened
    for rejection in rejections:
        expected = "screened" if rejection.record_id in screened else f"no to ['{rejection.record_id}']"
        assert rejection.reason == expected, "the reason is the one of the record alone"


def test_one_among_a_thousand_costs_twenty_requests() -> None:
    target = Target(["r0617"])
    ids: list[RecordId] = [f"r{number:04d}" for number in range(1000)]
    (rejection,) = BisectingWriter(target.write).write_apart(records(ids))
    assert rejection == Rejection("r0617", "load", "no to ['r0617']", "StoreRequestError")
    assert target.requests <= 1 + 2 * 10 + 1
    assert len(target.held) == 999


@pytest.mark.parametrize("count", [FEW, 40, 1000, 5000])
def test_a_refusal_of_every_record_is_raised_as_it_came_and_costs_few_requests(count: int) -> None:
    ids: list[RecordId] = list(range(count))
    target = Target(ids)
    target.make_error = lambda _: StoreRequestError("the schema is another one")
    with pytest.raises(StoreRequestError, match="the schema is another one"):
        BisectingWriter(target.write).write_apart(records(ids))
    assert target.requests <= 2 + PATIENCE + PROBES + 1


def test_a_few_guilty_records_alone_in_a_batch_are_set_aside() -> None:
    ids = numbered(FEW - 1)
    target = Target(ids)
    assert len(BisectingWriter(target.write).write_apart(records(ids))) == FEW - 1
    assert len(BisectingWriter(Target(["a"]).write).write_apart(records(["a"]))) == 1


def test_a_target_that_refuses_what_it_accepted_before_is_to_blame_and_no_record() -> None:
    target = Target([])
    writer = BisectingWriter(target.write)
    writer.write_apart(records(numbered(5)))
    target.guilty = set(IDS)  # the disk is full, say
    with pytest.raises(StoreRequestError):
        writer.write_apart(records(numbered(3, 5)))


def test_a_target_that_breaks_down_during_the_search_is_to_blame() -> None:
    target = Target(["r003"])

    def full(ids: list[RecordId]) -> MigrationError:
        if target.held:
            target.guilty = set(IDS)
        return StoreRequestError(f"no to {len(ids)}")

    target.make_error = full
    with pytest.raises(StoreRequestError):
        BisectingWriter(target.write).write_apart(records(numbered(100)))


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailableError("away"),
        AuthenticationError("no"),
        StoreRequestError("the collection is not loaded", concerns_all=True),
    ],
)
def test_an_error_that_lies_in_no_record_is_not_searched_for(error: MigrationError) -> None:
    target = Target(["r003"])
    target.make_error = lambda _: error
    with pytest.raises(type(error)):
        BisectingWriter(target.write).write_apart(records(numbered(10)))
    assert target.requests == 1


def test_a_store_that_names_the_record_itself_is_believed() -> None:
    target = Target(["r003"])
    target.make_error = lambda ids: RecordRejectedError(f"too large: {ids}")
    (rejection,) = BisectingWriter(target.write).write_apart(records(numbered(10)))
    assert (rejection.record_id, rejection.error) == ("r003", "RecordRejectedError")


def failing(_: object) -> MigrationError:
    return StoreUnavailableError("answered 500", is_internal=True)


def test_a_record_that_the_store_fails_at_every_time_is_set_aside() -> None:
    target = Target(["r0617"])
    target.make_error = failing
    ids: list[RecordId] = [f"r{number:04d}" for number in range(1000)]
    (rejection,) = BisectingWriter(target.write).write_apart(records(ids))
    assert rejection == Rejection("r0617", "load", "answered 500", "StoreUnavailableError")
    assert len(target.held) == 999
    assert target.requests <= 1 + 2 * 10 + 2 * CONFIRMATIONS + 1


@pytest.mark.parametrize("failures", range(1, 14))
@pytest.mark.parametrize("begun", range(12))
def test_a_store_that_fails_for_a_while_blames_nobody(failures: int, begun: int) -> None:
    """The outage begins with the batch that has a record which is refused for good reason, or while it is searched."""
    target = Target(["r003"])
    outage = range(begun, begun + failures)

    def fail(ids: list[RecordId]) -> MigrationError:
        return failing(ids) if asked in outage else StoreRequestError("no")

    asked = -1
    write = target.write

    def count(batch: RecordBatch) -> WriteResult:
        nonlocal asked
        asked += 1
        target.guilty = set(IDS) if asked in outage else {"r003"}
        return write(batch)

    target.make_error = fail
    writer = BisectingWriter(target.write)
    writer.write_apart(records(numbered(4, 10)))
    writer.write = count
    try:
        found = writer.write_apart(records(numbered(10)))
    except StoreUnavailableError:
        return  # whoever owns the retries tries again
    assert {item.record_id for item in found} <= {"r003"}


def test_a_store_that_fails_at_everything_is_asked_only_once_more() -> None:
    target = Target([])
    writer = BisectingWriter(target.write)
    writer.write_apart(records(numbered(5)))
    target.guilty, target.make_error, before = set(IDS), failing, target.requests
    with pytest.raises(StoreUnavailableError):
        writer.write_apart(records(numbered(100, 5)))
    assert target.requests - before == 2


@pytest.mark.parametrize("count", [1, 2, FEW - 1, 100])
def test_a_store_that_failed_at_everything_so_far_blames_nobody(count: int) -> None:
    target = Target(IDS)
    target.make_error = failing
    with pytest.raises(StoreUnavailableError):
        BisectingWriter(target.write).write_apart(records(numbered(count)))
