"""A store is asked no faster than it is allowed to be, by all workers together, and slower when it asks for that."""

import multiprocessing
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from rag_migration_pipeline.errors import RateLimitedError
from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, VectorSpec
from rag_migration_pipeline.stores import rate_limits
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline.stores.rate_limits import SLOWEST, Pace, RateLimitedStore
from rag_migration_pipeline.stores.wrappers import FaultyStore
from rag_migration_pipeline_tests.steps.support import numbered, records


class Clock:
    """A clock that waiting moves on; so that pace is counted and not timed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(rate_limits, "now_s", lambda: self.now)
        monkeypatch.setattr(rate_limits, "pause", self.pause)

    def pause(self, seconds: float, _stop: object) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def store() -> Iterator[VectorStore]:
    name = f"paced-{uuid.uuid4()}"
    with MemorySettings(name=name).open(create=True) as inner:
        inner.create(CollectionSpec("docs", (VectorSpec(3, Metric.COSINE),), frozenset(IdKind)))
        yield inner
    forget_space(name)


def test_requests_come_at_the_pace_that_is_allowed(clock: Clock, store: VectorStore) -> None:
    paced = RateLimitedStore(store, Pace(requests_per_s=5))
    begun = clock.now
    for _ in range(51):
        paced.count("docs")
    assert 9 <= clock.now - begun <= 10.5


def test_records_come_at_the_pace_that_is_allowed_read_or_written(clock: Clock, store: VectorStore) -> None:
    paced = RateLimitedStore(store, Pace(records_per_s=100))
    begun = clock.now
    for start in range(0, 1_000, 50):
        paced.upsert("docs", records([f"r{n}" for n in range(start, start + 50)]))
    assert 8.5 <= clock.now - begun <= 10
    begun = clock.now
    assert sum(map(len, paced.scan("docs", 100))) == 1_000
    assert 8.5 <= clock.now - begun <= 10.5


def test_without_a_limit_nothing_waits(clock: Clock, store: VectorStore) -> None:
    paced, begun = RateLimitedStore(store, Pace()), clock.now
    for _ in range(100):
        paced.upsert("docs", records(numbered(10)))
    assert clock.now == begun


def test_a_store_that_asks_for_fewer_requests_is_asked_half_as_often_and_the_pace_recovers(
    clock: Clock, store: VectorStore
) -> None:
    pace = Pace(requests_per_s=10)
    errors = iter([RateLimitedError("slower")])

    def fault(_operation: str, _collection: str | None) -> None:
        error = next(errors, None)
        if error is not None:
            raise error

    paced = RateLimitedStore(FaultyStore(store, fault), pace)
    with pytest.raises(RateLimitedError):
        paced.count("docs")
    assert pace.factor == 0.5
    clock.now += 2
    assert pace.factor == pytest.approx(0.7)
    clock.now += 4
    assert pace.factor == 1.0


def test_without_a_limit_the_pace_that_was_measured_is_halved(clock: Clock) -> None:
    pace = Pace()
    for _ in range(100):  # ten requests of a hundred records a second
        pace.ask()
        pace.took(100)
        clock.now += 0.1
    pace.give_way()
    begun = clock.now
    for _ in range(20):
        pace.ask()
        pace.took(100)
    assert 1.5 <= clock.now - begun <= 4.5
    clock.now += 60
    begun = clock.now
    for _ in range(20):
        pace.ask()
    assert clock.now == begun, "recovered, there is no limit any more"


def test_halving_ends_somewhere(clock: Clock) -> None:
    pace = Pace(requests_per_s=10)
    for _ in range(30):
        pace.give_way()
    assert pace.factor == SLOWEST


def _ask(pace: Pace, count: int) -> None:
    for _ in range(count):
        pace.ask()


def test_threads_share_a_pace(store: VectorStore) -> None:
    pace = Pace(requests_per_s=40)
    begun = time.monotonic()
    threads = [threading.Thread(target=_ask, args=(pace, 20)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begun > 0.9  # 80 requests, of which a second's worth may come at once


def test_processes_share_a_pace() -> None:
    pace = Pace(requests_per_s=40, is_shared=True)
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_ask, args=(pace, 30)) for _ in range(2)]
    begun = time.monotonic()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert time.monotonic() - begun > 0.4
    pace.give_way()
    assert pace.factor < 0.6


def _hold(pace: Pace, is_held: Any) -> None:
    pace._lock.acquire()
    is_held.set()
    time.sleep(60)


def test_a_pace_whose_holder_was_killed_is_freed() -> None:
    context = multiprocessing.get_context("spawn")
    pace, is_held = Pace(1e6, is_shared=True), context.Event()
    holder = context.Process(target=_hold, args=(pace, is_held), daemon=True)
    holder.start()
    assert is_held.wait(60)
    holder.kill()
    holder.join(60)
    pace.free()
    asking = threading.Thread(target=pace.ask, daemon=True)
    asking.start()
    asking.join(10)
    assert not asking.is_alive()
    pace.free()
    pace.ask()
