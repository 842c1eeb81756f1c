"""Workers: several ranges at once, in threads or in processes.

Belongs here: how many there are, handing out ranges, taking back results and events, workers that die. Does not belong
here: what is done with a range (``range_runner.py``), what follows from a result (``engine.py``).

Threads share the stores of the run. A process opens its own, gets everything it needs through a pipe (nothing of it can
be seen from outside), and ends when the process that started it does.
"""

import multiprocessing
import os
import pickle
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rag_migration_pipeline.errors import MigrationError, SpecError, StoreUnavailableError
from rag_migration_pipeline.events import Event, EventSink
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.range_runner import Paces, RangeResult, open_runner
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.stopping import StopRequest
from rag_migration_pipeline.stores.capabilities import Capabilities

MAX_DEATHS = 3
"""So many workers may die in a run before it ends."""

END_S = 30.0
"""So long a worker process may take to end after its last range; then it is killed."""

_POLL_S = 0.2
_STOP = "stop"

Results = Generator[RangeResult, None, None]
OnBegin = Callable[[str], None]
_Results = queue.SimpleQueue[RangeResult | BaseException | None]


def worker_count(options: MigrationOptions, source: Capabilities, target: Capabilities) -> int:
    """Return how many ranges are to run at once.

    Unless the options say so: one without ``parallel`` or beside an engine in this process, which more workers slow
    down; otherwise two, which was measured to help (docs/benchmarks.md).
    """
    if options.max_workers is not None:
        return options.max_workers
    is_embedded = source.is_embedded or target.is_embedded
    return AUTO_WORKERS if options.parallel and not is_embedded else 1


AUTO_WORKERS = 2


def refuse_one_process(*stores: Capabilities) -> None:
    """Refuse stores that live in one process only.

    Raises:
        SpecError: Names them.
    """
    alone = [f"{item.store} ({item.form})" for item in stores if item.is_embedded or item.form == "process"]
    if alone:
        raise SpecError(
            f"worker_type process: {' and '.join(alone)} can be used by one process only.",
            todo="Use threads, or run the store as a server.",
        )


def run_in_threads(
    work: Callable[[str], RangeResult], keys: Sequence[str], count: int, stop: StopRequest, on_begin: OnBegin
) -> Results:
    """Yield the results of ranges as they end.

    When somebody wants a stop no range is begun any more; those that are under way end by themselves.

    Args:
        work: Runs a range; its errors are in the result.
        keys: The ranges, in the order in which they are begun.
        count: Threads.
        stop: Whether somebody wants a stop.
        on_begin: Called when a range is begun.
    """
    waiting, results = deque(keys), _Results()
    # Waited for below; daemons, so that a second Ctrl-C while they are waited for ends the program as it always does.
    names = [f"worker-{number}" for number in range(min(count, len(keys)))]
    threads: list[threading.Thread] = []
    running = 0
    try:
        for name in names:
            job = work, waiting, results, stop, on_begin
            thread = threading.Thread(target=_serve_in_thread, args=job, name=name, daemon=True)
            thread.start()
            threads.append(thread)
            running += 1
        while running:
            try:
                result = results.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result
    except KeyboardInterrupt:
        threads.clear()  # a second Ctrl-C: they may be waiting for a store that does not answer
        raise
    finally:
        waiting.clear()
        if running:
            stop.request("the run has ended")
        for thread in threads:
            thread.join()


def _serve_in_thread(
    work: Callable[[str], RangeResult], waiting: deque[str], results: _Results, stop: StopRequest, on_begin: OnBegin
) -> None:
    """Run ranges until there are no more, or somebody wants a stop; the last thing said is None."""
    try:
        while not stop.is_requested:
            try:
                key = waiting.popleft()
            except IndexError:
                return
            on_begin(key)
            results.put(work(key))
    except BaseException as error:  # noqa: BLE001  a mistake of ours; raised in the caller's thread
        results.put(error)
    finally:
        results.put(None)


@dataclass(frozen=True)
class ProcessJob:
    """What a worker process needs to know."""

    migration: Migration
    state_dir: Path
    paces: Paces

    def check(self) -> None:
        """Refuse a migration that cannot be handed to another process.

        Raises:
            SpecError: It cannot; says what to do.
        """
        try:
            pickle.dumps(self.migration)
        except Exception as error:
            raise SpecError(
                f"worker_type process: the migration cannot be handed to another process: {error}.",
                todo="Name callables of a mapping by their import path (package.module:function), or use threads.",
            ) from error


class _Worker:
    """A process with its pipe.

    Attributes:
        key: The range that it is at, or None.
    """

    def __init__(self, job: ProcessJob, number: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(theirs, job), name=f"worker-{number}", daemon=True)
        # Ctrl-C goes to all processes of a terminal. Ours asks its workers to stop; they hear it from nobody else.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self.key: str | None = None

    def give(self, key: str) -> None:
        self.key = key
        self.say(key)

    def say(self, word: str | None) -> None:
        with suppress(OSError):  # one that has died is found out when its pipe is read
            self.pipe.send(word)

    def end(self) -> None:
        """Wait until it has ended; it is killed if it does not end by itself."""
        self.say(None)
        self.process.join(END_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(END_S)
        self.pipe.close()


def run_in_processes(
    job: ProcessJob, keys: Sequence[str], count: int, stop: StopRequest, sink: EventSink, on_begin: OnBegin
) -> Results:
    """Yield the results of ranges as they end; the events of the workers go to the sink.

    A worker that dies fails its range and is replaced.

    Args:
        job: What the workers need.
        keys: The ranges, in the order in which they are begun.
        count: Processes.
        stop: Whether somebody wants a stop.
        sink: Takes the workers' events.
        on_begin: Called when a range is begun.

    Raises:
        MigrationError: A worker could not begin: its stores are away, say.
        StoreUnavailableError: Too many workers died.
    """
    job.check()
    pool = _Pool(job, keys, stop, on_begin)
    try:
        pool.start(min(count, len(keys)))
        while pool.workers:
            for message in pool.messages():
                if isinstance(message, RangeResult):
                    yield message
                else:
                    sink(message)
    finally:
        pool.end()


class _Pool:
    def __init__(self, job: ProcessJob, keys: Sequence[str], stop: StopRequest, on_begin: OnBegin) -> None:
        self.workers: list[_Worker] = []
        self._job = job
        self._waiting = deque(keys)
        self._stop = stop
        self._on_begin = on_begin
        self._deaths = 0
        self._started = 0
        self._has_told = False

    def start(self, count: int) -> None:
        for _ in range(count):
            self._started += 1
            self.workers.append(_Worker(self._job, self._started))

    def messages(self) -> list[Event | RangeResult]:
        """Return what workers say, and give them what they are to do next."""
        if self._stop.is_requested and not self._has_told:
            self._has_told = True
            self._waiting.clear()
            for worker in self.workers:
                worker.say(_STOP)
        said: list[Event | RangeResult] = []
        ready = wait([worker.pipe for worker in self.workers], _POLL_S)
        for worker in [worker for worker in self.workers if worker.pipe in ready]:
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                said += self._died(worker)
                continue
            if isinstance(message, MigrationError):
                raise message
            if message is not None:
                said.append(message)
            if message is None or isinstance(message, RangeResult):  # it is idle
                self._employ(worker)
        return said

    def _employ(self, worker: _Worker) -> None:
        worker.key = None
        if self._waiting:
            key = self._waiting.popleft()
            self._on_begin(key)
            worker.give(key)
        else:
            self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.end()

    def _died(self, worker: _Worker) -> list[RangeResult]:
        worker.end()
        for pace in (self._job.paces.source, self._job.paces.target):
            pace.free()
        code, key = worker.process.exitcode, worker.key
        self.workers.remove(worker)
        self._deaths += 1
        text = f"a worker process died with exit code {code}" + (f" at range {key}" if key else "")
        todo = "Look for a lack of memory; run again with resume."
        if code == 1:  # Python's own exit code for an exception, which it has printed
            todo = (
                "Look at what it wrote to stderr. A script that migrates with processes must do so under "
                '`if __name__ == "__main__":`, because each of them imports it.'
            )
        error = StoreUnavailableError(f"{text}.", todo=todo)
        if self._deaths >= MAX_DEATHS and not self._stop.is_requested:  # who stops us may have stopped them too
            raise error
        if self._waiting:
            self.start(1)
        return [RangeResult(key, 0, 0, (f"range {key}: {text}",), error)] if key else []

    def end(self) -> None:
        for worker in self.workers:
            worker.process.terminate()
        while self.workers:
            self._dismiss(self.workers[-1])


def _serve(pipe: Connection, job: ProcessJob) -> None:
    """Run ranges until there are no more; the main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # see `_Worker`
    turn, stop = threading.Lock(), StopRequest()

    def say(message: Any) -> None:
        with turn:  # several threads emit events
            pipe.send(message)

    keys: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def listen() -> None:
        """Take orders; where the process that gives them has ended, end this one."""
        word: str | None = ""
        while word is not None:
            try:
                word = pipe.recv()
            except (EOFError, OSError):
                os._exit(1)  # at once, as if killed too: a resumed run must not meet it, and no request hold it up
            if word == _STOP:
                stop.request("asked by the main process")
            else:
                keys.put(word)

    threading.Thread(target=listen, name="orders", daemon=True).start()
    with suppress(BrokenPipeError, ConnectionResetError, EOFError):
        try:
            with open_runner(job.migration, job.state_dir, job.paces, say, stop) as runner:
                say(None)
                while (key := keys.get()) is not None:
                    say(runner.run(key))
        except MigrationError as error:
            say(error)
