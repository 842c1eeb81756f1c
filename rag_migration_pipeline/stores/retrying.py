"""A store that tries again: requests that failed for a reason that may pass are repeated, after a wait.

Belongs here: what of each promise is repeated, and from where on. Does not belong here: how often and after how long
(``retries.py``), which errors may pass (the adapters say so).

Reading goes on behind what was read already. Writing is repeated as it was: writes are upserts.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar

from rag_migration_pipeline.errors import MigrationError, StoreUnavailableError
from rag_migration_pipeline.events import RequestRepeated
from rag_migration_pipeline.filters.nodes import Filter
from rag_migration_pipeline.records import CollectionInfo, CollectionSpec, RecordBatch, RecordId, RecordRange
from rag_migration_pipeline.retries import RetryPolicy, wait
from rag_migration_pipeline.stores.base import VectorStore, WriteResult
from rag_migration_pipeline.stores.narrowing import Narrowing
from rag_migration_pipeline.stores.readiness import Readiness
from rag_migration_pipeline.stores.wrappers import WrapperStore

ValueT = TypeVar("ValueT")
Emit = Callable[[RequestRepeated], None]

_log = logging.getLogger(__name__)
_is_searching: ContextVar[bool] = ContextVar("is_searching", default=False)


@contextmanager
def no_patience_with_failures() -> Iterator[None]:
    """Do not repeat requests that a store answered with an internal failure: somebody looks for the reason in them."""
    token = _is_searching.set(True)
    try:
        yield
    finally:
        _is_searching.reset(token)


class Repeater:
    """Repeats what failed for a reason that may pass; may be used by several threads."""

    def __init__(
        self, address: str, policy: RetryPolicy, emit: Emit | None = None, stop: threading.Event | None = None
    ) -> None:
        """Say how.

        Args:
            address: The store's, for messages.
            policy: How often, and after how long.
            emit: Is told of every repetition; without it, each is logged.
            stop: Ends waiting; the error that was waited for is raised then.
        """
        self._address = address
        self._policy = policy
        self._emit = emit
        self._stop = stop or threading.Event()

    def repeat(self, operation: str, call: Callable[[], ValueT]) -> ValueT:
        """Return what a call returns, in the first attempt that does not fail.

        Raises:
            MigrationError: The last attempt's.
        """
        attempts = Attempts(self, operation)
        while True:
            try:
                return call()
            except MigrationError as error:
                attempts.fail(error)

    def failed(self, operation: str, attempt: int, error: MigrationError) -> None:
        """Wait for the next attempt, or raise the error if there is to be none."""
        is_told = isinstance(error, StoreUnavailableError) and error.is_internal and _is_searching.get()
        if is_told or self._stop.is_set() or not self._policy.may_try_again(attempt, error):
            raise error
        wait_s = self._policy.wait_s(attempt, error)
        cause = f"{type(error).__name__}: {error.what}"
        if self._emit is not None:
            self._emit(RequestRepeated(self._address, operation, attempt, wait_s, cause))
        else:
            said = f"{self._address}: {operation.replace('_', ' ')} failed at attempt {attempt}"
            _log.warning("%s, again in %g s: %s", said, wait_s, cause)
        wait(wait_s, self._stop)
        if self._stop.is_set():
            raise error


class Attempts:
    """Counts the attempts in a row that failed."""

    def __init__(self, repeater: Repeater, operation: str) -> None:
        """Begin with none."""
        self._repeater = repeater
        self._operation = operation
        self._failed = 0

    def succeed(self) -> None:
        """Begin anew."""
        self._failed = 0

    def fail(self, error: MigrationError) -> None:
        """Wait, or raise the error; see `Repeater.failed`."""
        self._failed += 1
        self._repeater.failed(self._operation, self._failed, error)


class RetryingStore(WrapperStore):
    """Repeats requests; may be used by several threads."""

    def __init__(self, inner: VectorStore, repeater: Repeater) -> None:
        """Wrap a store."""
        super().__init__(inner)
        self._repeater = repeater

    def _repeat(self, operation: str, call: Callable[[], ValueT]) -> ValueT:
        return self._repeater.repeat(operation, call)

    def _attempts(self, operation: str) -> Attempts:
        return Attempts(self._repeater, operation)

    # -- calls ----------------------------------------------------------------------------------------------------

    def list_collections(self) -> list[str]:
        """See `VectorStore.list_collections`."""
        return self._repeat("list_collections", self.inner.list_collections)

    def describe(self, collection: str) -> CollectionInfo:
        """See `VectorStore.describe`."""
        return self._repeat("describe", lambda: self.inner.describe(collection))

    def exists(self, collection: str) -> bool:
        """See `VectorStore.exists`."""
        return self._repeat("describe", lambda: self.inner.exists(collection))

    def spec(self, collection: str) -> CollectionSpec:
        """See `VectorStore.spec`."""
        return self._repeat("describe", lambda: self.inner.spec(collection))

    def create(self, spec: CollectionSpec) -> None:
        """See `VectorStore.create`."""
        self._repeat("create", lambda: self.inner.create(spec))

    def drop(self, collection: str) -> None:
        """See `VectorStore.drop`."""
        self._repeat("drop", lambda: self.inner.drop(collection))

    def begin_reading(self) -> None:
        """See `VectorStore.begin_reading`."""
        self._repeat("begin_reading", self.inner.begin_reading)

    def narrow(self, collection: str, parts: Sequence[Filter]) -> Narrowing:
        """See `VectorStore.narrow`."""
        return self._repeat("narrow", lambda: self.inner.narrow(collection, parts))

    def count(self, collection: str, where: Narrowing | None = None) -> int:
        """See `VectorStore.count`."""
        return self._repeat("count", lambda: self.inner.count(collection, where))

    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch`."""
        return self._repeat("fetch", lambda: self.inner.fetch(collection, ids))

    def fetch_contents(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch_contents`."""
        return self._repeat("fetch_contents", lambda: self.inner.fetch_contents(collection, ids))

    def upsert(self, collection: str, batch: RecordBatch) -> WriteResult:
        """See `VectorStore.upsert`."""
        return self._repeat("upsert", lambda: self.inner.upsert(collection, batch))

    def screen_payload(self, spec: CollectionSpec, payload: dict[str, Any]) -> str | None:
        """See `VectorStore.screen_payload`."""
        return self._repeat("describe", lambda: self.inner.screen_payload(spec, payload))

    def write(self, collection: str, batch: RecordBatch) -> None:
        """See `VectorStore.write`."""
        self._repeat("write", lambda: self.inner.write(collection, batch))

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `VectorStore.delete`."""
        self._repeat("delete", lambda: self.inner.delete(collection, ids))

    def finish_loading(self, collection: str) -> None:
        """See `VectorStore.finish_loading`."""
        self._repeat("finish_loading", lambda: self.inner.finish_loading(collection))

    def readiness(self, collection: str) -> Readiness:
        """See `VectorStore.readiness`."""
        return self._repeat("readiness", lambda: self.inner.readiness(collection))

    # -- streams --------------------------------------------------------------------------------------------------

    def iter_ids(
        self, collection: str, page_count: int = 10_000, where: Narrowing | None = None
    ) -> Iterator[list[RecordId]]:
        """See `VectorStore.iter_ids`; a repeated listing begins anew, and what was yielded is passed over."""
        pages = self._anew("iter_ids", lambda: ((ids,) for ids in self.inner.iter_ids(collection, page_count, where)))
        yield from (ids for (ids,) in pages)

    def iter_field(
        self, collection: str, key: str, where: Narrowing | None = None
    ) -> Iterator[tuple[list[RecordId], list[Any]]]:
        """See `VectorStore.iter_field`; as `iter_ids`."""
        yield from self._anew("iter_field", lambda: self.inner.iter_field(collection, key, where))

    def _anew(self, operation: str, begin: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        """Yield tuples of equally long columns; after a failure from the start, without the rows that were yielded."""
        attempts = self._attempts(operation)
        done = 0
        while True:
            position = 0
            try:
                for columns in begin():
                    fresh = max(0, done - position)
                    position += len(columns[0])
                    if position > done:
                        done = position
                        attempts.succeed()
                        yield tuple(column[fresh:] for column in columns)
                return
            except MigrationError as error:
                attempts.fail(error)

    def read_range(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_range`; a repeated reading begins at the last record that was read."""
        yield from self._onward(
            "read_range", record_range, lambda part: self.inner.read_range(collection, part, page_count)
        )

    def read_contents(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_contents`; as `read_range`."""
        yield from self._onward(
            "read_contents", record_range, lambda part: self.inner.read_contents(collection, part, page_count)
        )

    def _onward(
        self, operation: str, record_range: RecordRange, begin: Callable[[RecordRange], Iterator[RecordBatch]]
    ) -> Iterator[RecordBatch]:
        attempts = self._attempts(operation)
        last: RecordId | None = None
        seen: set[RecordId] = set()
        part = record_range
        while True:
            try:
                for batch in begin(part):
                    rows = [row for row, record_id in enumerate(batch.ids) if record_id != last]
                    attempts.succeed()
                    seen.update(batch.ids)
                    last = batch.ids[-1]
                    if rows:
                        yield batch if len(rows) == len(batch) else batch.take(rows)
                return
            except MigrationError as error:
                attempts.fail(error)
                if last is not None:
                    left = [record_id for record_id in record_range.ids if record_id not in seen]
                    part = replace(record_range, start=last, ids=left)

    def scan(self, collection: str, page_count: int | None = None) -> Iterator[RecordBatch]:
        """See `VectorStore.scan`; by the ranges of `read_range`."""
        yield from VectorStore.scan(self, collection, page_count)

    def fetch_pages(self, collection: str, pages: Iterable[Sequence[RecordId]]) -> Iterator[RecordBatch]:
        """See `VectorStore.fetch_pages`; pages that were asked for and not answered are asked for again."""
        attempts = self._attempts("fetch_pages")
        asked = _Asked(pages)
        while True:
            try:
                for batch in self.inner.fetch_pages(collection, asked):
                    attempts.succeed()
                    asked.waiting.popleft()
                    yield batch
                return
            except MigrationError as error:
                if asked.has_failed:  # whoever gives the ids failed, and not this store
                    raise
                attempts.fail(error)


class _Asked:
    """Pages of ids, which can be iterated again: what was not answered comes first."""

    def __init__(self, pages: Iterable[Sequence[RecordId]]) -> None:
        self._pages = iter(pages)
        self.waiting: deque[Sequence[RecordId]] = deque()
        self.has_failed = False

    def __iter__(self) -> Iterator[Sequence[RecordId]]:
        yield from list(self.waiting)
        while True:
            try:
                page = next(self._pages, None)
            except BaseException:
                self.has_failed = True
                raise
            if page is None:
                return
            self.waiting.append(page)
            yield page
