"""Stores around stores: read-only, faulty. Adapters stay plain; tests and sources put these around them.

Belongs here: behaviour that is the same for every store. Does not belong here: anything that one store needs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from rag_migration_pipeline.errors import ReadOnlyStoreError
from rag_migration_pipeline.filters.nodes import Filter
from rag_migration_pipeline.records import CollectionInfo, CollectionSpec, RecordBatch, RecordId, RecordRange
from rag_migration_pipeline.stores.base import VectorStore, WriteResult
from rag_migration_pipeline.stores.narrowing import Narrowing
from rag_migration_pipeline.stores.readiness import Readiness


class WrapperStore(VectorStore):
    """Passes every call to the store inside; subclasses override what they change."""

    def __init__(self, inner: VectorStore) -> None:
        """Wrap a store; closing the wrapper closes it."""
        super().__init__(inner.settings, inner.capabilities)
        self.inner = inner

    def before(self, operation: str, collection: str | None) -> None:
        """Run before every operation; does nothing here."""

    def list_collections(self) -> list[str]:
        """See `VectorStore.list_collections`."""
        self.before("list_collections", None)
        return self.inner.list_collections()

    def describe(self, collection: str) -> CollectionInfo:
        """See `VectorStore.describe`."""
        self.before("describe", collection)
        return self.inner.describe(collection)

    def exists(self, collection: str) -> bool:
        """See `VectorStore.exists`."""
        self.before("list_collections", None)
        return self.inner.exists(collection)

    def spec(self, collection: str) -> CollectionSpec:
        """See `VectorStore.spec`; the store inside remembers it."""
        self.before("describe", collection)
        return self.inner.spec(collection)

    def forget_spec(self, collection: str) -> None:
        """See `VectorStore.forget_spec`."""
        self.inner.forget_spec(collection)

    def create(self, spec: CollectionSpec) -> None:
        """See `VectorStore.create`."""
        self.before("create", spec.name)
        self.inner.create(spec)

    def drop(self, collection: str) -> None:
        """See `VectorStore.drop`."""
        self.before("drop", collection)
        self.inner.drop(collection)

    def begin_reading(self) -> None:
        """See `VectorStore.begin_reading`."""
        self.before("begin_reading", None)
        self.inner.begin_reading()

    def narrow(self, collection: str, parts: Sequence[Filter]) -> Narrowing:
        """See `VectorStore.narrow`."""
        self.before("narrow", collection)
        return self.inner.narrow(collection, parts)

    def count(self, collection: str, where: Narrowing | None = None) -> int:
        """See `VectorStore.count`."""
        self.before("count", collection)
        return self.inner.count(collection, where)

    def iter_ids(
        self, collection: str, page_count: int = 10_000, where: Narrowing | None = None
    ) -> Iterator[list[RecordId]]:
        """See `VectorStore.iter_ids`."""
        self.before("iter_ids", collection)
        yield from self.inner.iter_ids(collection, page_count, where)

    def iter_field(
        self, collection: str, key: str, where: Narrowing | None = None
    ) -> Iterator[tuple[list[RecordId], list[Any]]]:
        """See `VectorStore.iter_field`."""
        self.before("iter_field", collection)
        yield from self.inner.iter_field(collection, key, where)

    def read_range(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_range`."""
        self.before("read_range", collection)
        yield from self.inner.read_range(collection, record_range, page_count)

    def read_contents(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_contents`."""
        self.before("read_contents", collection)
        yield from self.inner.read_contents(collection, record_range, page_count)

    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch`."""
        self.before("fetch", collection)
        return self.inner.fetch(collection, ids)

    def fetch_contents(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch_contents`."""
        self.before("fetch_contents", collection)
        return self.inner.fetch_contents(collection, ids)

    def fetch_pages(self, collection: str, pages: Iterable[Sequence[RecordId]]) -> Iterator[RecordBatch]:
        """See `VectorStore.fetch_pages`."""
        self.before("fetch_pages", collection)
        yield from self.inner.fetch_pages(collection, pages)

    def scan(self, collection: str, page_count: int | None = None) -> Iterator[RecordBatch]:
        """See `VectorStore.scan`."""
        self.before("scan", collection)
        yield from self.inner.scan(collection, page_count)

    def upsert(self, collection: str, batch: RecordBatch) -> WriteResult:
        """See `VectorStore.upsert`."""
        self.before("upsert", collection)
        return self.inner.upsert(collection, batch)

    def screen_payload(self, spec: CollectionSpec, payload: dict[str, Any]) -> str | None:
        """See `VectorStore.screen_payload`."""
        return self.inner.screen_payload(spec, payload)

    def write(self, collection: str, batch: RecordBatch) -> None:
        """See `VectorStore.write`."""
        self.before("write", collection)
        self.inner.write(collection, batch)

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `VectorStore.delete`."""
        self.before("delete", collection)
        self.inner.delete(collection, ids)

    def finish_loading(self, collection: str) -> None:
        """See `VectorStore.finish_loading`."""
        self.before("finish_loading", collection)
        self.inner.finish_loading(collection)

    def readiness(self, collection: str) -> Readiness:
        """See `VectorStore.readiness`."""
        self.before("readiness", collection)
        return self.inner.readiness(collection)

    def close(self) -> None:
        """Close the store inside."""
        self.inner.close()


WRITES = frozenset({"create", "drop", "upsert", "write", "delete", "finish_loading"})
"""Operations that change a store."""


class ReadOnlyStore(WrapperStore):
    """A source: refuses every operation that would change the store."""

    def before(self, operation: str, collection: str | None) -> None:
        """Refuse writes.

        Raises:
            ReadOnlyStoreError: The operation would change the store.
        """
        if operation in WRITES:
            self.refuse(operation, collection)

    def refuse(self, operation: str, collection: str | None) -> NoReturn:
        """Raise the error that names the refused operation."""
        raise ReadOnlyStoreError(
            f"{operation} on collection {collection!r} was refused: {self.address} is open as a source, read-only.",
            todo="Open the store as a target to write to it.",
            operation=operation,
        )


class FaultyStore(WrapperStore):
    """Calls a function before every operation, which may raise, wait or kill; for tests of recovery."""

    def __init__(self, inner: VectorStore, fault: Callable[[str, str | None], Any]) -> None:
        """Wrap a store.

        Args:
            inner: The store.
            fault: Called with the operation's name and the collection before each operation.
        """
        super().__init__(inner)
        self.fault = fault

    def before(self, operation: str, collection: str | None) -> None:
        """Let the fault happen."""
        self.fault(operation, collection)
