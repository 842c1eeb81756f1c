"""Prefetching changes nothing but when things are read."""

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.prefetching import prefetched


@given(sizes=st.lists(st.integers(0, 50)), max_bytes=st.integers(1, 100))
def test_everything_comes_once_and_in_order(sizes: list[int], max_bytes: int) -> None:
    assert list(prefetched(iter(sizes), lambda size: size, max_bytes)) == sizes


def test_no_more_waits_than_is_allowed_and_always_something() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    ahead = prefetched(items(), lambda _: 10, 30)
    assert next(ahead) == 0
    settle(taken)
    assert taken == [0, 1, 2, 3, 4], "three wait, and one is held by the thread"
    huge = prefetched(iter(range(3)), lambda _: 1_000, 1)
    assert list(huge) == [0, 1, 2]
    ahead.close()


def settle(taken: list[int]) -> None:
    count = -1
    while count != len(taken):
        count = len(taken)
        time.sleep(0.05)


def test_reading_goes_on_while_the_consumer_works() -> None:
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    ahead = prefetched(items(), lambda _: 1, 10)
    assert next(ahead) == 1
    assert second.wait(10), "the second was read before it was asked for"
    assert list(ahead) == [2]


def test_an_error_comes_after_what_was_read_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("gone")

    found = []
    with pytest.raises(LookupError, match="gone"):
        found.extend(prefetched(items(), lambda _: 1, 10))
    ahead = prefetched(items(), lambda _: 1, 10)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(LookupError):
        next(ahead)


def test_a_consumer_that_stops_leaves_no_thread_and_closes_what_is_read() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            closed.set()

    before = threading.active_count()
    ahead = prefetched(items(), lambda _: 1, 5)
    assert next(ahead) == 0
    ahead.close()
    assert closed.is_set()
    assert threading.active_count() == before
