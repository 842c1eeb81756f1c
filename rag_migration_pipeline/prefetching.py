"""Prefetching: what is read next is read while what was read before is worked on, within a bound of bytes.

Belongs here: one thread, one queue, the bound. Does not belong here: what is read, and by whom (the steps).
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


def prefetched(
    items: Iterator[ItemT], size_bytes: Callable[[ItemT], int], max_bytes: int
) -> Generator[ItemT, None, None]:
    """Yield the items in order; a thread takes the next ones meanwhile.

    At most about that many bytes wait, and at least one item is taken ahead, however large it is. What the items
    raise is raised here, after the items before it. When the consumer stops early, the thread ends after the item
    that it is at, and the items are closed.

    Args:
        items: Iterated in the thread, from the first item that is asked for.
        size_bytes: Returns the size of an item.
        max_bytes: Bound of what waits.
    """
    shelf: _Shelf[ItemT] = _Shelf(max_bytes)
    thread = threading.Thread(target=_fill, args=(items, size_bytes, shelf), name="prefetch", daemon=True)
    thread.start()
    try:
        yield from shelf.taken()
    finally:
        shelf.close()
        thread.join()


class _Shelf(Generic[ItemT]):
    """What waits between the thread and the consumer."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[ItemT, int]] = deque()
        self._held_bytes = 0
        self._is_over = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, item: ItemT, size_bytes: int) -> bool:
        """Wait for room, and put an item down; return False where nobody wants any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or not self._waiting or self._held_bytes < self._max_bytes)
            if self._is_over:
                return False
            self._waiting.append((item, size_bytes))
            self._held_bytes += size_bytes
            self._changed.notify_all()
            return True

    def end(self, error: BaseException | None) -> None:
        """Say that nothing comes any more, and why."""
        with self._changed:
            self._error, self._is_over = error, True
            self._changed.notify_all()

    def close(self) -> None:
        """Say that nobody wants any more."""
        with self._changed:
            self._is_over = True
            self._waiting.clear()
            self._changed.notify_all()

    def taken(self) -> Iterator[ItemT]:
        """Yield what is put down, until the end.

        Raises:
            BaseException: What ended the items.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_over)
                if not self._waiting:
                    break
                item, size_bytes = self._waiting.popleft()
                self._held_bytes -= size_bytes
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error


def _fill(items: Iterator[ItemT], size_bytes: Callable[[ItemT], int], shelf: _Shelf[ItemT]) -> None:
    error: BaseException | None = None
    try:
        for item in items:
            if not shelf.put(item, size_bytes(item)):
                break
    except BaseException as raised:  # noqa: BLE001  handed to the consumer
        error = raised
    finally:
        if isinstance(items, Generator):
            with suppress(ValueError):  # it is running: it is what raised
                items.close()
        shelf.end(error)
