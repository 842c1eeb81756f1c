"""Several workers, answers in order: readers that read ahead, writers that write while others wait for an answer.

Belongs here: the order and the bound. Does not belong here: what is read or written (the adapters, the steps).
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

PartT = TypeVar("PartT")
ResultT = TypeVar("ResultT")


def run_in_order(
    work: Callable[[PartT], ResultT], parts: Iterable[PartT], worker_count: int
) -> Generator[ResultT, None, None]:
    """Yield what the work on each part gives, in the order of the parts, with several workers.

    At most ``worker_count + 1`` parts are in memory. The parts are asked for in the caller's thread. When the consumer
    stops early, what was begun is waited for and nothing new is begun.
    """
    if worker_count == 1:
        yield from map(work, parts)
        return
    pool = ThreadPoolExecutor(worker_count, thread_name_prefix="in-order")
    ahead: deque[Future[ResultT]] = deque()
    try:
        for part in parts:
            ahead.append(pool.submit(work, part))
            if len(ahead) > worker_count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        # Threads are not joined: where the collector ends this, it may do so in a thread that is just beginning and
        # holds the lock that joining needs (CPython 3.11, threading._shutdown_locks_lock): it would wait for ever.
        wait([future for future in ahead if not future.cancel()])
        pool.shutdown(wait=False)
