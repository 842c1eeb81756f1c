"""A request that failed for a reason that may pass is repeated, goes on where it was, and waits as it was told."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline import retries
from rag_migration_pipeline.errors import (
    AuthenticationError,
    MigrationError,
    MigrationLockedError,
    RateLimitedError,
    StoreRequestError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from rag_migration_pipeline.events import RequestRepeated
from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, RecordBatch, RecordRange, VectorSpec
from rag_migration_pipeline.retries import RetryPolicy
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline.stores.retrying import Repeater, RetryingStore, no_patience_with_failures
from rag_migration_pipeline.stores.wrappers import WrapperStore
from rag_migration_pipeline_tests.steps.support import numbered, records

FIVE = RetryPolicy(max_attempts=5, delay_s=2.0, backoff=2.0)


class Flaky(WrapperStore):
    """Fails before or within operations as a plan says: a list of errors, None for a success."""

    def __init__(self, inner: VectorStore) -> None:
        super().__init__(inner)
        self.plan: Iterator[MigrationError | None] = iter(())
        self.calls = 0

    def step(self) -> None:
        self.calls += 1
        error = next(self.plan, None)
        if error is not None:
            raise error

    def before(self, operation: str, collection: str | None) -> None:
        self.step()

    def iter_ids(self, *arguments: Any, **named: Any) -> Iterator[Any]:
        return self.paged(self.inner.iter_ids(*arguments, **named))

    def iter_field(self, *arguments: Any, **named: Any) -> Iterator[Any]:
        return self.paged(self.inner.iter_field(*arguments, **named))

    def read_range(self, *arguments: Any) -> Iterator[RecordBatch]:
        return self.paged(self.inner.read_range(*arguments))

    def read_contents(self, *arguments: Any) -> Iterator[RecordBatch]:
        return self.paged(self.inner.read_contents(*arguments))

    def fetch_pages(self, *arguments: Any) -> Iterator[RecordBatch]:
        return self.paged(self.inner.fetch_pages(*arguments))

    def paged(self, pages: Iterator[Any]) -> Iterator[Any]:
        for page in pages:
            self.step()
            yield page


@pytest.fixture
def flaky() -> Iterator[Flaky]:
    name = f"retrying-{uuid.uuid4()}"
    with MemorySettings(name=name).open(create=True) as store, retries.test_mode():
        store.create(CollectionSpec("docs", (VectorSpec(3, Metric.COSINE),), frozenset(IdKind)))
        store.upsert("docs", records(numbered(20)))
        yield Flaky(store)
    forget_space(name)


def retrying(flaky: Flaky, policy: RetryPolicy = FIVE) -> tuple[RetryingStore, list[RequestRepeated]]:
    events: list[RequestRepeated] = []
    return RetryingStore(flaky, Repeater(flaky.address, policy, events.append)), events


def test_five_attempts_wait_two_four_eight_and_sixteen_seconds(flaky: Flaky) -> None:
    store, events = retrying(flaky)
    flaky.plan = iter([StoreUnavailableError("away")] * 4)
    assert store.count("docs") == 20
    assert [(event.attempt, event.wait_s) for event in events] == [(1, 2.0), (2, 4.0), (3, 8.0), (4, 16.0)]
    assert {(event.operation, event.cause) for event in events} == {("count", "StoreUnavailableError: away")}
    flaky.plan, flaky.calls = iter([StoreTimeoutError("slow")] * 9), 0
    with pytest.raises(StoreTimeoutError):
        store.count("docs")
    assert flaky.calls == 5


@pytest.mark.parametrize(
    "error",
    [
        StoreRequestError("no"),
        AuthenticationError("no"),
        MigrationLockedError("no"),
        MigrationError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_will_not_pass_is_not_repeated(flaky: Flaky, error: MigrationError) -> None:
    store, events = retrying(flaky)
    flaky.plan = iter([error])
    with pytest.raises(type(error)):
        store.count("docs")
    assert (flaky.calls, events) == (1, [])


def test_a_store_that_says_when_is_asked_then_and_no_sooner(flaky: Flaky) -> None:
    store, events = retrying(flaky)
    asked = (None, 1.0, 60.0, 1e9)
    flaky.plan = iter([RateLimitedError("slower", retry_after_s=seconds) for seconds in asked])
    assert store.count("docs") == 20
    assert [event.wait_s for event in events] == [2.0, 4.0, 60.0, retries.LONGEST_WAIT_S]


def test_each_repetition_is_logged_with_attempt_wait_and_cause(flaky: Flaky, caplog: pytest.LogCaptureFixture) -> None:
    """By whoever is told of it: a run logs its events, and a store without listeners logs itself."""
    store = RetryingStore(flaky, Repeater(flaky.address, RetryPolicy(max_attempts=5, delay_s=2.0)))
    flaky.plan = iter([StoreUnavailableError("connection reset")])
    store.fetch("docs", ["r001"])
    (line,) = caplog.messages
    assert line.startswith("memory://?name=retrying-")
    assert line.endswith(": fetch failed at attempt 1, again in 2 s: StoreUnavailableError: connection reset")


def test_failures_are_counted_in_a_row_and_not_over_a_whole_stream(flaky: Flaky) -> None:
    store, events = retrying(flaky, RetryPolicy(max_attempts=2, delay_s=0.5))
    away = StoreUnavailableError("away")
    flaky.plan = iter([None, away] * 4)
    assert [len(page) for page in store.read_range("docs", part(), 5)] == [5, 4, 4]
    assert [event.attempt for event in events] == [1, 1]


def test_a_listing_that_never_gets_further_ends(flaky: Flaky) -> None:
    store, events = retrying(flaky, RetryPolicy(max_attempts=3, delay_s=0.5))
    flaky.plan = iter([None, StoreUnavailableError("away")] * 9)
    with pytest.raises(StoreUnavailableError):
        list(store.iter_ids("docs", 5))
    assert [event.attempt for event in events] == [1, 2]


STREAMS: dict[str, Callable[[VectorStore], list[Any]]] = {
    "ids": lambda store: [i for page in store.iter_ids("docs", 3) for i in page],
    "field": lambda store: [
        pair for ids, values in store.iter_field("docs", "n") for pair in zip(ids, values, strict=True)
    ],
    "range": lambda store: rows(store.read_range("docs", part(), 3)),
    "contents": lambda store: rows(store.read_contents("docs", part(), 3)),
    "pages": lambda store: rows(store.fetch_pages("docs", iter([numbered(4), ["r100"], numbered(9, 4), ["r019"]]))),
    "scan": lambda store: rows(store.scan("docs", 4)),
}


def part() -> RecordRange:
    return RecordRange("k", 0, "r002", "r015", numbered(13, 2), 2)


def rows(batches: Iterator[RecordBatch]) -> list[Any]:
    return [row for batch in batches for row in zip(batch.ids, batch.payloads, batch.documents or [], strict=True)]


@pytest.mark.parametrize("stream", STREAMS)
@given(plan=st.lists(st.booleans(), max_size=30))
def test_a_stream_that_broke_anywhere_gives_everything_once(stream: str, plan: list[bool]) -> None:
    name = f"retrying-{uuid.uuid4()}"
    with MemorySettings(name=name).open(create=True) as inner, retries.test_mode():
        inner.create(CollectionSpec("docs", (VectorSpec(3, Metric.COSINE),), frozenset(IdKind)))
        inner.upsert("docs", records(numbered(20)))
        flaky = Flaky(inner)
        expected = STREAMS[stream](inner)
        flaky.plan = iter([StoreUnavailableError("away") if fails else None for fails in plan])
        assert (
            STREAMS[stream](RetryingStore(flaky, Repeater("", RetryPolicy(max_attempts=40, delay_s=0.0)))) == expected
        )
    forget_space(name)


def test_an_error_of_whoever_gives_the_ids_is_not_taken_for_the_stores(flaky: Flaky) -> None:
    store, events = retrying(flaky)

    def pages() -> Iterator[list[Any]]:
        yield numbered(2)
        raise StoreUnavailableError("another store is away")

    with pytest.raises(StoreUnavailableError, match="another store"):
        list(store.fetch_pages("docs", pages()))
    assert events == []


def test_while_somebody_looks_for_the_reason_an_internal_failure_is_told_at_once(flaky: Flaky) -> None:
    store, events = retrying(flaky)
    flaky.plan = iter([StoreUnavailableError("500", is_internal=True), StoreUnavailableError("503")])
    with no_patience_with_failures(), pytest.raises(StoreUnavailableError, match="500"):
        store.upsert("docs", records(["a"]))
    with no_patience_with_failures():
        assert store.upsert("docs", records(["a"])).written == 1
    assert [event.cause for event in events] == ["StoreUnavailableError: 503"]


def test_a_stop_ends_the_wait_with_the_error_that_was_waited_for() -> None:
    name = f"retrying-{uuid.uuid4()}"
    with MemorySettings(name=name).open(create=True) as inner:
        flaky, stop = Flaky(inner), threading.Event()
        flaky.plan = iter([StoreUnavailableError("away")] * 3)
        threading.Timer(0.2, stop.set).start()
        begun = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            RetryingStore(flaky, Repeater("", RetryPolicy(3, delay_s=60.0), stop=stop)).list_collections()
        assert time.monotonic() - begun < 20
        assert flaky.calls == 1
    forget_space(name)
