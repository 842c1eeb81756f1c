"""Reading ahead: pages in order from several readers.

Belongs here: the order and the bound. Does not belong here: what a page is (the adapters).
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

PartT = TypeVar("PartT")
ResultT = TypeVar("ResultT")


def read_in_order(
    read: Callable[[PartT], ResultT], parts: Iterable[PartT], reader_count: int
) -> Generator[ResultT, None, None]:
    """Yield what reading each part gives, in the order of the parts, reading ahead with several readers.

    At most ``reader_count + 1`` parts are in memory. The parts are asked for in the caller's thread. When the consumer
    stops early, what was begun is waited for and nothing new is begun.
    """
    if reader_count == 1:
        yield from map(read, parts)
        return
    with ThreadPoolExecutor(reader_count, thread_name_prefix="reader") as pool:
        ahead: deque[Future[ResultT]] = deque()
        try:
            for part in parts:
                ahead.append(pool.submit(read, part))
                if len(ahead) > reader_count:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
