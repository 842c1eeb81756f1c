"""A request to stop: once made it stays, the first signal makes one, the second one does what it always does."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_migration_pipeline.errors import MigrationInterruptedError
from rag_migration_pipeline.stopping import StopRequest, stopping_on_signals
from rag_migration_pipeline_tests.contract.elsewhere import ROOT

WAIT_S = 30.0
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)

# Says what it hears; waits in pieces, as a run does.
_PROGRAM = """
import signal, sys, time
from rag_migration_pipeline.stopping import StopRequest, stopping_on_signals
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
stop = StopRequest()
deadline = time.monotonic() + 30
try:
    with stopping_on_signals(stop, at_once="at once" in sys.argv):
        print("ready", flush=True)
        while not stop.is_requested and time.monotonic() < deadline:
            stop.event.wait(0.001)
        print(stop.reason, flush=True)
        while "stay" in sys.argv and time.monotonic() < deadline:
            time.sleep(0.01)
finally:
    print("restored", [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before, flush=True)
"""


def started(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A program that stops on signals, and is gone after the test."""
    process = started(*request.param)
    yield process
    process.kill()
    process.communicate(timeout=WAIT_S)


@SIGNALS
@pytest.mark.parametrize("program", [()], indirect=True, ids=["ends"])
def test_a_signal_requests_a_stop_and_the_handlers_are_restored(
    program: subprocess.Popen[str], number: signal.Signals
) -> None:
    program.send_signal(number)
    out, _ = program.communicate(timeout=WAIT_S)
    assert out.splitlines() == [number.name, "restored True"]
    assert program.returncode == 0


@SIGNALS
@pytest.mark.parametrize("program", [("stay",), ("stay", "at once")], indirect=True, ids=["as always", "at once"])
def test_the_second_signal_of_a_kind_does_what_it_always_does_or_ends_the_process_at_once(
    program: subprocess.Popen[str], number: signal.Signals
) -> None:
    program.send_signal(number)
    assert program.stdout is not None
    assert program.stdout.readline().strip() == number.name
    program.send_signal(number)
    out, error = program.communicate(timeout=WAIT_S)
    assert program.returncode == -number
    raises = number is signal.SIGINT and "at once" not in program.args  # type: ignore[operator]  # a list, as it was given
    assert ("KeyboardInterrupt" in error) is raises
    assert out.splitlines() == (["restored True"] if raises else [])


def test_a_signal_never_waits_for_the_event_that_its_own_thread_holds() -> None:
    """A handler runs between any two steps of the main thread, also while that holds the lock inside the event."""
    stop = StopRequest()
    with stopping_on_signals(stop):
        with stop.event._cond:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)  # the handler has run when this is over
            assert not stop.is_requested
        assert stop.event.wait(WAIT_S)
    assert stop.reason == "SIGTERM"


def test_handlers_of_a_program_stay(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        stop = StopRequest()
        with stopping_on_signals(stop):
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        assert not stop.is_requested
    finally:
        signal.signal(signal.SIGTERM, before)


def test_no_thread_is_left_and_what_is_raised_inside_comes_out() -> None:
    before, handler = threading.active_count(), signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), stopping_on_signals(StopRequest()):
        raise ZeroDivisionError
    assert threading.active_count() == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_outside_the_main_thread_nothing_changes() -> None:
    found: list[object] = []

    def enter() -> None:
        with stopping_on_signals(StopRequest()):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_the_first_reason_stays_and_everybody_is_stopped() -> None:
    stop = StopRequest()
    stop.check()
    assert not stop.is_requested
    stop.request("SIGTERM")
    stop.request("SIGINT")
    assert stop.is_requested
    for _ in range(2):
        with pytest.raises(MigrationInterruptedError, match=r"stopped on request \(SIGTERM\)") as caught:
            stop.check()
    assert caught.value.facts["reason"] == "SIGTERM"
