"""The promise of every store: what a migration may ask of one, and what it gets.

Belongs here: the abstract store, its settings, the result of a write. Does not belong here: what a store can hold
(`capabilities`), the check of a batch against it (`screening`), how any one store works (the adapters).

Neighbours on the data's way: ``steps/extract.py`` reads through `VectorStore.read_range`, ``steps/load.py`` writes
through `VectorStore.upsert`, ``steps/validate.py`` reads back through `VectorStore.fetch` and `VectorStore.scan`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from rag_migration_pipeline.errors import CollectionNotFoundError
from rag_migration_pipeline.filters.nodes import Filter
from rag_migration_pipeline.names import NameRule
from rag_migration_pipeline.records import (
    CollectionInfo,
    CollectionSpec,
    RecordBatch,
    RecordId,
    RecordRange,
    Rejection,
)
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.stores.in_order import run_in_order
from rag_migration_pipeline.stores.narrowing import Narrowing, not_narrowed, query_of
from rag_migration_pipeline.stores.readiness import Readiness
from rag_migration_pipeline.stores.screening import screen


@dataclass(frozen=True, kw_only=True)
class StoreSettings(ABC):
    """How to reach a store. Frozen, pickles, and shows no secret in its repr (secrets are `pydantic.SecretStr`).

    Attributes:
        document_key: Payload key under which the document travels in stores without documents of their own.
        timeout_s: Longest wait for one answer.
    """

    name_rule: ClassVar[NameRule] = NameRule()
    """Which names a collection of this store can have; known before the store is opened, because a migration's target
    name depends on it."""

    document_key: str = "document"
    timeout_s: float = 60.0

    @property
    @abstractmethod
    def address(self) -> str:
        """Canonical address without secrets and without a collection; part of a migration's identity."""

    @abstractmethod
    def open(self, *, create: bool = False) -> "VectorStore":
        """Open the store.

        Args:
            create: Whether an embedded folder may be created. A source is opened with False.

        Raises:
            CollectionNotFoundError: The folder does not exist and must not be created.
            StoreLockedError: Another process uses the folder.
            StoreUnavailableError: Nothing answers at that address.
            AuthenticationError: The credentials are refused.
        """


@dataclass(frozen=True)
class WriteResult:
    """What an acknowledged write did: ``written + len(rejections)`` is the number of records given."""

    written: int
    rejections: tuple[Rejection, ...] = ()


class VectorStore(ABC):
    """A store of collections of records.

    All methods raise errors of ``rag_migration_pipeline.errors`` only. Reading never creates anything. Inputs are
    never changed. A store may be used by several threads unless its capabilities say one reader or writer.
    """

    def __init__(self, settings: StoreSettings, capabilities: Capabilities) -> None:
        """Keep how the store was opened and what it can hold."""
        self.settings = settings
        self.capabilities = capabilities
        self._specs: dict[str, CollectionSpec] = {}

    @property
    def address(self) -> str:
        """Canonical address without secrets."""
        return self.settings.address

    # -- collections ------------------------------------------------------------------------------------------

    @abstractmethod
    def list_collections(self) -> list[str]:
        """Return the names of all collections, sorted."""

    @abstractmethod
    def describe(self, collection: str) -> CollectionInfo:
        """Return what the collection is, read from the store, and its exact count.

        Raises:
            CollectionNotFoundError: There is none of that name; the message lists those that exist.
        """

    @abstractmethod
    def create(self, spec: CollectionSpec) -> None:
        """Create a collection with the spec's vectors, metric, id kind and typed fields.

        Raises:
            CollectionExistsError: There is one of that name already.
            SchemaCompatibilityError: The store cannot have such a collection.
        """

    @abstractmethod
    def drop(self, collection: str) -> None:
        """Remove a collection with all its records; quiet where there is none."""

    def exists(self, collection: str) -> bool:
        """Return whether there is a collection of that name."""
        return collection in self.list_collections()

    def spec(self, collection: str) -> CollectionSpec:
        """Return the collection's spec, described once per opened store."""
        if collection not in self._specs:
            self._specs[collection] = self._read_spec(collection)
        return self._specs[collection]

    def _read_spec(self, collection: str) -> CollectionSpec:
        """Return the collection's spec as the store has it; adapters that count slowly do so without counting."""
        return self.describe(collection).spec

    def forget_spec(self, collection: str) -> None:
        """Drop what was remembered of a collection: it was created, changed or removed."""
        self._specs.pop(collection, None)

    # -- reading ----------------------------------------------------------------------------------------------

    def begin_reading(self) -> None:  # noqa: B027 - a hook: most stores' reads see everything at no cost
        """Let later reads see what was acknowledged before this call, or through this store.

        What others write after it they may miss, until it is called again. Without it every read sees every
        acknowledged write, for which a store may have to wait each time.
        """

    def narrow(self, collection: str, parts: Sequence[Filter]) -> Narrowing:  # noqa: ARG002 - a hook
        """Return the store's own query for records of which all parts of a filter hold.

        It selects at least those, and every record with an envelope, which may keep other values than the payload
        shows. Adapters translate what their store means identically, or less strictly; here nothing is.
        """
        return not_narrowed(parts)

    @abstractmethod
    def count(self, collection: str, where: Narrowing | None = None) -> int:
        """Return the exact number of records that a reader sees now.

        Args:
            collection: The collection.
            where: Counts what this selects; from `narrow`, of the same collection.
        """

    @abstractmethod
    def iter_ids(
        self, collection: str, page_count: int = 10_000, where: Narrowing | None = None
    ) -> Iterator[list[RecordId]]:
        """Yield all ids in the store's order, page by page; duplicates, where a store has them, are yielded again.

        Args:
            collection: The collection.
            page_count: Most ids of a page.
            where: Yields the ids of what this selects; from `narrow`, of the same collection.
        """

    def iter_field(
        self, collection: str, key: str, where: Narrowing | None = None
    ) -> Iterator[tuple[list[RecordId], list[Any]]]:
        """Yield all ids in the store's order, as `iter_ids`, each with one payload value (None where it is missing).

        Adapters override this to read that field only; here whole records are read.
        """
        if query_of(where) is None:
            batches = self.scan(collection)
        else:
            batches = self.fetch_pages(collection, self.iter_ids(collection, self.capabilities.page_count, where))
        for batch in batches:
            yield list(batch.ids), [payload.get(key) for payload in batch.payloads]

    @abstractmethod
    def read_range(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """Yield the range's records in the store's order, in batches of at most ``page_count``.

        Stores that read by key yield every record with ``start <= id < stop``, also those that the manifest does not
        know (the extract step sorts that out); the others yield the range's ``ids`` that still exist.
        """

    @abstractmethod
    def read_contents(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """Yield the same records as `read_range`, without vectors: none are asked for, and the batches have none."""

    @abstractmethod
    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """Return the records with these ids in the order asked, with vectors; ids that do not exist are left out.

        Reads see every acknowledged write of any client.
        """

    @abstractmethod
    def fetch_contents(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """Return the same records as `fetch`, without vectors: none are asked for, and the batch has none."""

    def fetch_pages(self, collection: str, pages: Iterable[Sequence[RecordId]]) -> Iterator[RecordBatch]:
        """Yield `fetch` of each page of ids, in turn, reading ahead where several readers help.

        A page sees every write that was acknowledged before the first page was asked for, and every write through this
        store that was acknowledged before the page's ids were given.
        """
        readers = self.capabilities.concurrent_readers
        yield from run_in_order(lambda ids: self.fetch(collection, ids), pages, readers)

    def scan(self, collection: str, page_count: int | None = None) -> Iterator[RecordBatch]:
        """Yield all records in the store's order."""
        ids = [record_id for page in self.iter_ids(collection) for record_id in page]
        if ids:
            whole = RecordRange(key="", ordinal=0, start=ids[0], stop=None, ids=ids, offset=0)
            yield from self.read_range(collection, whole, page_count or self.capabilities.page_count)

    # -- writing ----------------------------------------------------------------------------------------------

    def upsert(self, collection: str, batch: RecordBatch) -> WriteResult:
        """Write records, replacing those with the same id completely; acknowledged when this returns.

        Records that the store cannot hold exactly are not written and come back as rejections with the reason.

        Raises:
            SchemaCompatibilityError: The batch's vectors do not fit the collection (dimension, names); nothing is
                written.
            CollectionNotFoundError: There is no such collection.
        """
        accepted, rejections = screen(batch, self.spec(collection), self.capabilities, self.screen_payload)
        if len(accepted):
            self.write(collection, accepted)
        return WriteResult(len(accepted), tuple(rejections))

    def screen_payload(self, spec: CollectionSpec, payload: dict[str, Any]) -> str | None:  # noqa: ARG002 - a hook
        """Return why a payload does not fit the collection's typed fields, or None; adapters with a schema refine."""
        return None

    @abstractmethod
    def write(self, collection: str, batch: RecordBatch) -> None:
        """Write screened records (see `upsert`), cut into requests within the store's limits, acknowledged."""

    @abstractmethod
    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """Delete records by id; quiet about ids that do not exist."""

    def finish_loading(self, collection: str) -> None:  # noqa: B027 - a hook: most stores need nothing
        """Flush, and wait until everything written can be searched; quiet where the store needs nothing."""

    @abstractmethod
    def readiness(self, collection: str) -> Readiness:
        """Return whether searches see all of the collection now; nothing is waited for, loaded or changed.

        Raises:
            CollectionNotFoundError: There is none of that name.
        """

    # -- end --------------------------------------------------------------------------------------------------

    @abstractmethod
    def close(self) -> None:
        """Release clients, files and locks; more than once is fine."""

    def __enter__(self) -> Self:
        """Return the open store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    def not_found(self, collection: str) -> CollectionNotFoundError:
        """Return the error for a missing collection, naming what exists here."""
        names = self.list_collections()
        shown = ", ".join(names[:20]) or "none"
        return CollectionNotFoundError(
            f"there is no collection {collection!r} in {self.address}; collections there: {shown}.",
            todo="Check the name (case matters) and the address.",
            collection=collection,
            address=self.address,
        )
