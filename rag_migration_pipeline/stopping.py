"""Stopping on request: a run finishes the batch that it is at, and says how to go on.

Belongs here: the request, and signals that make one. Does not belong here: what a run does about it (``engine.py``).
"""

import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rag_migration_pipeline.errors import MigrationInterruptedError


class StopRequest:
    """Somebody wants a run to stop, or nobody does yet.

    Attributes:
        event: Set when somebody wants it.
        reason: Who, in words.
    """

    def __init__(self) -> None:
        """Nobody wants it."""
        self.event = threading.Event()
        self.reason = ""

    def request(self, reason: str) -> None:
        """Want it; the first reason stays."""
        if not self.event.is_set():
            self.reason = reason
            self.event.set()

    @property
    def is_requested(self) -> bool:
        """Whether somebody wants it."""
        return self.event.is_set()

    def check(self) -> None:
        """End what goes on, if somebody wants it.

        Raises:
            MigrationInterruptedError: Somebody does.
        """
        if self.event.is_set():
            raise MigrationInterruptedError(f"stopped on request ({self.reason}).", reason=self.reason)


@contextmanager
def stopping_on_signals(stop: StopRequest, *, at_once: bool = False) -> Iterator[None]:
    """Let SIGINT and SIGTERM request a stop until the block ends; the second one of a kind does what it always does.

    Only the main thread of a process may set handlers, and a program's own handlers stay: there nothing changes.

    Args:
        stop: The request.
        at_once: Whether the second one ends the process, whatever its threads wait for; else a second SIGINT raises
            `KeyboardInterrupt`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    heard = queue.SimpleQueue[str | None]()

    def handle(number: int, _frame: object) -> None:
        heard.put(signal.Signals(number).name)
        signal.signal(number, signal.SIG_DFL if at_once else before[number])

    def listen() -> None:
        while (name := heard.get()) is not None:
            stop.request(name)

    # A handler may run while this very thread holds the lock inside an event, and would then wait for itself for ever;
    # a SimpleQueue may be used in handlers, so that another thread sets the event.
    listener = threading.Thread(target=listen, name="signals", daemon=True)
    listener.start()
    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = handler
                signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        heard.put(None)
        listener.join()
