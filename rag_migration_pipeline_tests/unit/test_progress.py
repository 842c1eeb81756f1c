"""Progress: whatever happens in whatever order, counts only grow, and the time that is left is a finite number."""

import math
import threading
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline import progress as progresses
from rag_migration_pipeline.events import (
    BatchDone,
    Event,
    RangeFailed,
    RangeProven,
    RangeStarted,
    RecordsRejected,
    RecordsSkipped,
)
from rag_migration_pipeline.progress import WINDOW_S, MigrationProgress, Tally
from rag_migration_pipeline.records import Rejection

KEYS = ("r0", "r1", "r2")
WAIT_S = 30.0


def batch(key: str, records: int, step: str = "validate") -> BatchDone:
    return BatchDone("docs", key, step, records, 100 * records, 0.1)


def rejected(key: str, count: int) -> RecordsRejected:
    return RecordsRejected("docs", key, tuple(Rejection(f"x{number}", "load", "too long") for number in range(count)))


_keys, _counts = st.sampled_from(KEYS), st.integers(0, 50)
_steps = st.sampled_from(("extract", "load", "validate"))
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(lambda key, records: RangeStarted("docs", key, records, -(-records // 10)), _keys, _counts),
    st.builds(batch, _keys, _counts, _steps),
    st.builds(rejected, _keys, st.integers(0, 5)),
    st.builds(lambda key, count: RecordsSkipped("docs", key, tuple(range(count))), _keys, _counts),
    st.builds(lambda key, records: RangeProven("docs", key, records), _keys, _counts),
    st.builds(lambda key, records: RangeFailed("docs", key, records, "away"), _keys, _counts),
)


@st.composite
def moments(draw: st.DrawFn) -> list[tuple[float, Event]]:
    """Return events, each with the seconds that pass before it; none at all where the clock is coarse."""
    pauses = st.sampled_from((0.0, 1e-9, 0.3, WINDOW_S / 2, 2 * WINDOW_S))
    return draw(st.lists(st.tuples(pauses, EVENTS), max_size=30))


def assert_sound(progress: MigrationProgress) -> None:
    assert 0 <= progress.vectors_processed <= progress.total_vectors
    assert 0 <= progress.current_batch <= progress.total_batches
    assert 0.0 <= progress.percentage <= 100.0
    assert math.isfinite(progress.rate)
    assert progress.rate >= 0
    assert math.isfinite(progress.eta_seconds)
    assert progress.eta_seconds >= 0
    assert progress.elapsed_seconds >= 0
    assert orjson.loads(orjson.dumps(progress.to_dict())) == progress.to_dict()


@given(total=st.integers(0, 200), done=st.integers(0, 200), batches=st.integers(0, 20), happened=moments())
def test_whatever_happens_the_numbers_make_sense(
    total: int, done: int, batches: int, happened: list[tuple[float, Event]]
) -> None:
    told: list[MigrationProgress] = []
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progresses, "time", clock)
        tally = Tally(told.append)
        assert_sound(tally.progress)
        tally.plan(total, min(done, total), batches)
        for pause_s, event in happened:
            clock.now_s += pause_s
            tally.take(event)
            assert_sound(tally.progress)
        tally.end()
    for progress in told:
        assert_sound(progress)
    assert [p.vectors_processed for p in told] == sorted(p.vectors_processed for p in told)
    assert [p.current_batch for p in told] == sorted(p.current_batch for p in told)
    assert told[-1].current_batch == told[-1].total_batches


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progresses, "time", found)
    return found


def planned(clock: Clock, records: int = 1_000, **named: Any) -> Tally:
    tally = Tally(**named)
    tally.plan(records, 0, records // 10)
    tally.take(RangeStarted("docs", "r0", records, records // 10))
    return tally


def test_the_rate_is_that_of_lately_and_what_is_left_follows_from_it(clock: Clock) -> None:
    tally = planned(clock)
    for _ in range(10):  # one record per second
        clock.now_s += 10
        tally.take(batch("r0", 10))
    assert tally.progress.rate == pytest.approx(1.0)
    assert tally.progress.eta_seconds == pytest.approx(900.0)
    for _ in range(40):  # ten per second, for longer than the window
        clock.now_s += 1
        tally.take(batch("r0", 10))
    assert tally.progress.rate == pytest.approx(10.0)
    assert tally.progress.eta_seconds == pytest.approx(50.0)
    assert tally.progress.percentage == pytest.approx(50.0)


def test_what_was_done_before_the_run_counts_as_done_but_not_for_the_rate(clock: Clock) -> None:
    tally = Tally()
    tally.plan(1_000, 900, 10)
    assert (tally.progress.vectors_processed, tally.progress.rate, tally.progress.eta_seconds) == (900, 0.0, 0.0)
    tally.take(RangeStarted("docs", "r0", 100, 10))
    clock.now_s += 5
    tally.take(batch("r0", 50))
    assert tally.progress.rate == pytest.approx(10.0)
    assert tally.progress.eta_seconds == pytest.approx(5.0)


def test_a_run_that_stands_still_slows_down_and_keeps_no_old_numbers(clock: Clock) -> None:
    tally = planned(clock, 100_000)
    for _ in range(1_000):
        clock.now_s += 1
        tally.take(batch("r0", 1))
    assert len(tally._rates) <= WINDOW_S + 2, "also where nobody asks for the progress"
    rate = tally.progress.rate
    clock.now_s += 10 * WINDOW_S
    assert 0 < tally.progress.rate < rate


def test_nothing_to_do_is_all_done() -> None:
    told: list[MigrationProgress] = []
    tally = Tally(told.append)
    tally.plan(0, 0, 0)
    tally.end()
    assert (told[0].percentage, told[0].eta_seconds, told[0].total_batches) == (100.0, 0.0, 0)


def test_records_without_a_batch_are_counted_when_their_range_ends(clock: Clock) -> None:
    tally = planned(clock, 10)
    tally.take(batch("r0", 6))
    tally.take(rejected("r0", 2))
    tally.take(RecordsSkipped("docs", "r0", ("a",)))
    assert tally.progress.vectors_processed == 6
    tally.take(RangeProven("docs", "r0", 6))
    assert (tally.progress.vectors_processed, tally.progress.errors) == (10, 2)
    assert (tally.rejected, tally.skipped, tally.written("r0"), tally.written("r1")) == (2, 1, 6, 0)


def test_threads_are_told_one_at_a_time_and_no_record_is_lost() -> None:
    inside, told = threading.Lock(), []

    def on_progress(progress: MigrationProgress) -> None:
        assert inside.acquire(blocking=False), "called by two threads at once"
        told.append(progress.vectors_processed)
        time.sleep(0)
        inside.release()

    tally = Tally(on_progress)
    tally.plan(400, 0, 40)

    def work(key: str) -> None:
        tally.take(RangeStarted("docs", key, 100, 10))
        for _ in range(10):
            tally.take(batch(key, 10))
        tally.take(RangeProven("docs", key, 100))

    threads = [threading.Thread(target=work, args=(f"r{number}",), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not any(thread.is_alive() for thread in threads)
    assert told == sorted(told)
    assert (tally.progress.vectors_processed, tally.progress.current_batch) == (400, 40)
