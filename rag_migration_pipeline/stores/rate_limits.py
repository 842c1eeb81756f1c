"""A store that is asked no faster than it is allowed to be: records and requests per second, over all workers.

Belongs here: the limit, how it gives way to a store that asks for fewer requests, and the wrapper. Does not belong
here: trying again (``retrying.py``).

A bucket of one second's worth fills at the limit's pace. What a request takes is known only when it is answered, so
that a bucket may go below zero; the next request waits until it has filled up again. When a store asks for fewer
requests, the pace is halved (without a limit: the pace that was measured), and grows back by a tenth of it each second.
"""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rag_migration_pipeline.errors import MigrationInterruptedError, RateLimitedError
from rag_migration_pipeline.filters.nodes import Filter
from rag_migration_pipeline.records import CollectionInfo, CollectionSpec, RecordBatch, RecordId, RecordRange
from rag_migration_pipeline.stores.base import VectorStore, WriteResult
from rag_migration_pipeline.stores.narrowing import Narrowing
from rag_migration_pipeline.stores.readiness import Readiness
from rag_migration_pipeline.stores.wrappers import WRITES, WrapperStore

ValueT = TypeVar("ValueT")

GROWTH = 0.1
"""By how much of the limit a halved pace grows each second."""

SLOWEST = 1 / 64
"""The smallest part of the limit that halving leaves."""

_MOMENT_S = 1e-6
_HELD_S = 5.0
_WINDOW_S = 5.0
"""Over how many seconds the pace is measured that is halved where there is no limit."""

_LAST, _FACTOR, _BEGUN, _NUMBERS = 0, 1, 2, 3
_LEVEL, _DONE, _FOUND, _WIDTH = 0, 1, 2, 3
_REQUESTS, _RECORDS = 0, 1


class Pace:
    """How fast a store may be asked; shared by everybody who asks it.

    Args:
        requests_per_s: Most requests per second; None for no limit.
        records_per_s: Most records per second, read or written; None for no limit.
        is_shared: Whether processes that are started with it share the pace; otherwise the threads of this one do.
    """

    def __init__(
        self, requests_per_s: float | None = None, records_per_s: float | None = None, *, is_shared: bool = False
    ) -> None:
        self._limits = (requests_per_s, records_per_s)
        count = _NUMBERS + 2 * _WIDTH
        self._numbers: MutableSequence[float] = [0.0] * count
        self._lock: Any = threading.Lock()
        if is_shared:
            context = multiprocessing.get_context("spawn")
            shared: Any = context.Array("d", count, lock=context.Lock())  # of this kind, others may release it
            self._numbers, self._lock = shared.get_obj(), shared.get_lock()
        self._numbers[_LAST] = self._numbers[_BEGUN] = now_s()
        self._numbers[_FACTOR] = 1.0

    def ask(self, stop: threading.Event | None = None) -> None:
        """Wait until a request may be sent."""
        while True:
            with self._lock:
                self._fill()
                missing_s = max(map(self._missing_s, (_REQUESTS, _RECORDS)))
                if missing_s < _MOMENT_S:
                    self._take(_REQUESTS, 1)
                    return
            if stop is not None and stop.is_set():
                return
            pause(min(missing_s, 1.0), stop)

    def took(self, records: int) -> None:
        """Note how many records a request read or wrote."""
        with self._lock:
            self._take(_RECORDS, records)

    def give_way(self) -> None:
        """Halve the pace: the store asks for fewer requests."""
        with self._lock:
            self._fill()
            numbers = self._numbers
            elapsed_s = max(numbers[_LAST] - numbers[_BEGUN], 0.1)
            for kind in (_REQUESTS, _RECORDS):
                at = _at(kind)
                if self._limits[kind] is None and not numbers[at + _FOUND]:
                    numbers[at + _FOUND] = max(numbers[at + _DONE] / elapsed_s, 1.0)
            numbers[_FACTOR] = max(numbers[_FACTOR] / 2, SLOWEST)

    def free(self) -> None:
        """Take the lock from a process that died with it; nobody who lives holds it for longer than a moment."""
        self._lock.acquire(timeout=_HELD_S)
        self._lock.release()

    @property
    def factor(self) -> float:
        """The part of the limit that holds now, 1.0 unless the store asked for fewer requests lately."""
        with self._lock:
            self._fill()
            return self._numbers[_FACTOR]

    def _limit(self, kind: int) -> float | None:
        return self._limits[kind] or self._numbers[_at(kind) + _FOUND] or None

    def _missing_s(self, kind: int) -> float:
        limit = self._limit(kind)
        return 0.0 if limit is None else -self._numbers[_at(kind) + _LEVEL] / (limit * self._numbers[_FACTOR])

    def _take(self, kind: int, count: int) -> None:
        at = _at(kind)
        self._numbers[at + _DONE] += count
        if self._limit(kind) is not None:
            self._numbers[at + _LEVEL] -= count

    def _fill(self) -> None:
        numbers, now = self._numbers, now_s()
        elapsed_s, numbers[_LAST] = now - numbers[_LAST], now
        for kind in (_REQUESTS, _RECORDS):
            at, limit = _at(kind), self._limit(kind)
            if limit is not None:
                full = max(limit, 1.0)
                numbers[at + _LEVEL] = min(full, numbers[at + _LEVEL] + limit * numbers[_FACTOR] * elapsed_s)
            if now - numbers[_BEGUN] > _WINDOW_S:
                numbers[at + _DONE] /= 2
        if now - numbers[_BEGUN] > _WINDOW_S:
            numbers[_BEGUN] += (now - numbers[_BEGUN]) / 2
        numbers[_FACTOR] = min(1.0, numbers[_FACTOR] + GROWTH * elapsed_s)
        if numbers[_FACTOR] >= 1.0:
            numbers[_at(_REQUESTS) + _FOUND] = numbers[_at(_RECORDS) + _FOUND] = 0.0


def now_s() -> float:
    """Return the seconds of a clock that all processes of this host share."""
    return time.monotonic()


def pause(seconds: float, stop: threading.Event | None) -> None:
    """Wait, not longer than until the event is set."""
    (stop or threading.Event()).wait(seconds)


def _at(kind: int) -> int:
    return _NUMBERS + kind * _WIDTH


class RateLimitedStore(WrapperStore):
    """Asks its store at a pace; every page of a stream counts as a request."""

    def __init__(self, inner: VectorStore, pace: Pace, stop: threading.Event | None = None) -> None:
        """Wrap a store.

        Args:
            inner: The store.
            pace: Shared by everybody who asks the store.
            stop: Ends waiting.
        """
        super().__init__(inner)
        self._pace = pace
        self._stop = stop

    def before(self, operation: str, collection: str | None) -> None:  # noqa: ARG002 - a hook
        """Wait for the turn.

        Raises:
            MigrationInterruptedError: Somebody wants everything to stop; writes go on, so that a batch is finished.
        """
        if operation not in WRITES:
            self._refuse_when_stopped()
        self._pace.ask(self._stop)

    def _refuse_when_stopped(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise MigrationInterruptedError("stopped on request.")

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except RateLimitedError:
            self._pace.give_way()
            raise

    def _paged(self, pages: Iterator[ValueT], size: Callable[[ValueT], int]) -> Iterator[ValueT]:
        """Yield pages; the first one's turn was waited for already."""
        is_first = True
        while True:
            if not is_first:
                self._refuse_when_stopped()
                self._pace.ask(self._stop)
            is_first = False
            with self._watched():
                page = next(pages, None)
            if page is None:
                return
            self._pace.took(size(page))
            yield page

    def list_collections(self) -> list[str]:
        """See `VectorStore.list_collections`."""
        with self._watched():
            return super().list_collections()

    def describe(self, collection: str) -> CollectionInfo:
        """See `VectorStore.describe`."""
        with self._watched():
            return super().describe(collection)

    def exists(self, collection: str) -> bool:
        """See `VectorStore.exists`."""
        with self._watched():
            return super().exists(collection)

    def spec(self, collection: str) -> CollectionSpec:
        """See `VectorStore.spec`; asked once, and then remembered by the store inside."""
        with self._watched():
            return self.inner.spec(collection)

    def create(self, spec: CollectionSpec) -> None:
        """See `VectorStore.create`."""
        with self._watched():
            super().create(spec)

    def drop(self, collection: str) -> None:
        """See `VectorStore.drop`."""
        with self._watched():
            super().drop(collection)

    def begin_reading(self) -> None:
        """See `VectorStore.begin_reading`."""
        with self._watched():
            super().begin_reading()

    def narrow(self, collection: str, parts: Sequence[Filter]) -> Narrowing:
        """See `VectorStore.narrow`."""
        with self._watched():
            return super().narrow(collection, parts)

    def count(self, collection: str, where: Narrowing | None = None) -> int:
        """See `VectorStore.count`."""
        with self._watched():
            return super().count(collection, where)

    def iter_ids(
        self, collection: str, page_count: int = 10_000, where: Narrowing | None = None
    ) -> Iterator[list[RecordId]]:
        """See `VectorStore.iter_ids`; ids are requests, and no records."""
        yield from self._paged(super().iter_ids(collection, page_count, where), lambda _: 0)

    def iter_field(
        self, collection: str, key: str, where: Narrowing | None = None
    ) -> Iterator[tuple[list[RecordId], list[Any]]]:
        """See `VectorStore.iter_field`; as `iter_ids`."""
        yield from self._paged(super().iter_field(collection, key, where), lambda _: 0)

    def read_range(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_range`."""
        yield from self._paged(super().read_range(collection, record_range, page_count), len)

    def read_contents(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_contents`."""
        yield from self._paged(super().read_contents(collection, record_range, page_count), len)

    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch`."""
        with self._watched():
            return self._counted(super().fetch(collection, ids))

    def fetch_contents(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch_contents`."""
        with self._watched():
            return self._counted(super().fetch_contents(collection, ids))

    def fetch_pages(self, collection: str, pages: Iterable[Sequence[RecordId]]) -> Iterator[RecordBatch]:
        """See `VectorStore.fetch_pages`."""
        yield from self._paged(super().fetch_pages(collection, pages), len)

    def scan(self, collection: str, page_count: int | None = None) -> Iterator[RecordBatch]:
        """See `VectorStore.scan`."""
        yield from self._paged(super().scan(collection, page_count), len)

    def upsert(self, collection: str, batch: RecordBatch) -> WriteResult:
        """See `VectorStore.upsert`."""
        with self._watched():
            result = super().upsert(collection, batch)
        self._pace.took(result.written)
        return result

    def write(self, collection: str, batch: RecordBatch) -> None:
        """See `VectorStore.write`."""
        with self._watched():
            super().write(collection, batch)
        self._pace.took(len(batch))

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `VectorStore.delete`."""
        with self._watched():
            super().delete(collection, ids)
        self._pace.took(len(ids))

    def finish_loading(self, collection: str) -> None:
        """See `VectorStore.finish_loading`."""
        with self._watched():
            super().finish_loading(collection)

    def readiness(self, collection: str) -> Readiness:
        """See `VectorStore.readiness`."""
        with self._watched():
            return super().readiness(collection)

    def _counted(self, batch: RecordBatch) -> RecordBatch:
        self._pace.took(len(batch))
        return batch
