"""A small migration in memory, and stores that misbehave: what the tests of the steps share."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rag_migration_pipeline.errors import StoreRequestError, StoreUnavailableError
from rag_migration_pipeline.events import Event
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.receipts import Receipt
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    Payload,
    RecordBatch,
    RecordId,
    VectorSpec,
)
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import StateFolder, state_folder
from rag_migration_pipeline.steps.context import MigrationContext, open_migration
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import Report, prove_collection
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore, WriteResult
from rag_migration_pipeline.stores.memory import MemorySettings, MemoryStore, forget_space
from rag_migration_pipeline.stores.wrappers import FaultyStore, WrapperStore

DIMENSION = 3
_spaces = itertools.count(1)


def records(ids: list[RecordId], *, start: int = 0, **payload: Any) -> RecordBatch:
    """Return plain records; ``start`` and ``payload`` make them differ from others of the same ids."""
    numbers = np.arange(len(ids), dtype=np.float32)[:, None] + start + 1
    return RecordBatch(
        ids,
        {"": DenseColumn(np.hstack([numbers, numbers**2, np.ones_like(numbers)]))},
        [{"n": start + row, **payload} for row in range(len(ids))],
        [f"text {start + row}" for row in range(len(ids))],
    )


def numbered(count: int, start: int = 0) -> list[RecordId]:
    """Return ids that sort in the order of their numbers."""
    return [f"r{number:03d}" for number in range(start, start + count)]


def spec_of(name: str, dimension: int = DIMENSION, metric: Metric = Metric.COSINE) -> CollectionSpec:
    """Return a collection that holds ids of every kind."""
    return CollectionSpec(name, (VectorSpec(dimension, metric),), frozenset(IdKind))


@dataclass
class World:
    """A source with one collection, an empty target, a state folder, and the events that were emitted."""

    state_dir: Path
    source: StoreSettings
    target: StoreSettings
    a: MemoryStore
    b: MemoryStore
    events: list[Event] = field(default_factory=list)

    def fill(self, batch: RecordBatch) -> None:
        """Write records into the source."""
        if not self.a.exists("docs"):
            self.a.create(spec_of("docs"))
        assert not self.a.upsert("docs", batch).rejections

    def fill_target(self, batch: RecordBatch) -> None:
        """Write records into the target, as somebody else would."""
        if not self.b.exists("docs"):
            self.b.create(spec_of("docs"))
        assert not self.b.upsert("docs", batch).rejections

    def migration(self, name: str = "docs", **options: Any) -> Migration:
        """Return the migration from source to target, in ranges of 4."""
        chosen = MigrationOptions.model_validate({"range_count": 4, "page_count": 3, **options})
        return Migration(name, self.source, "docs", self.target, "docs", chosen)

    def poisoned(self, **options: Any) -> Migration:
        """Return the migration into a target that refuses records whose payload has the key ``poison``."""
        assert isinstance(self.target, MemorySettings)
        return replace(self.migration(**options), target=PoisonedSettings(self.target.name, poisonous))

    def poisoned_away(self, *ids: RecordId, **options: Any) -> Migration:
        """Return the migration into a target that is away for batches with these records."""
        assert isinstance(self.target, MemorySettings)
        return replace(self.migration(**options), target=AwaySettings(self.target.name, {*ids}, []))

    def state(self, migration: Migration | None = None) -> StateFolder:
        """Return the migration's state folder."""
        return state_folder(self.state_dir, (migration or self.migration()).identity)

    @contextmanager
    def opened(self, migration: Migration | None = None, *, plan: bool = True) -> Iterator[MigrationContext]:
        """Open the migration."""
        with open_migration(migration or self.migration(), self.state_dir, self.events.append, plan=plan) as context:
            yield context

    def run(self, migration: Migration | None = None) -> tuple[list[Receipt], Report]:
        """Run what is not proven yet, then prove the whole."""
        with self.opened(migration) as context:
            done = set(proven_keys(context.state, context.manifest))
            receipts = [migrate_range(context, e.key) for e in context.manifest.ranges if e.key not in done]
            return receipts, prove_collection(context)

    def dump(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return everything that lies in source and target."""
        return dump(self.a), dump(self.b)


def new_world(state_dir: Path) -> World:
    """Return a world of two memory spaces that nobody else uses."""
    first, second = (MemorySettings(name=f"steps-{next(_spaces)}") for _ in range(2))
    return World(state_dir, first, second, first.open(create=True), second.open(create=True))


def end_world(world: World) -> None:
    """Forget the memory spaces."""
    for store in (world.a, world.b):
        forget_space(store.settings.name)


def fill(world: World, payloads: list[Payload], ids: list[RecordId] | None = None) -> None:
    """Write records with these payloads into the source."""
    batch = records(ids or numbered(len(payloads)))
    world.fill(replace(batch, payloads=payloads))


def from_field(field: str = "ref", **options: Any) -> dict[str, Any]:
    """Return the option ``ids`` that takes every id from a field of its record."""
    return {"strategy": "from_field", "field": field, **options}


def dump(store: VectorStore) -> dict[str, Any]:
    """Return all collections of a store with all their records, as comparable values."""
    found: dict[str, Any] = {}
    for name in store.list_collections():
        rows: list[Any] = []
        for batch in store.scan(name):
            documents = batch.documents or [None] * len(batch)
            vectors = batch.dense().values.tolist()
            rows += zip(map(repr, batch.ids), map(repr, batch.payloads), documents, vectors, strict=True)
        found[name] = (store.describe(name).spec, rows)
    return found


def files_of(world: World) -> dict[str, bytes]:
    """Return every file of the state folder with its content."""
    return {str(p.relative_to(world.state_dir)): p.read_bytes() for p in world.state_dir.rglob("*") if p.is_file()}


def held(store: VectorStore, collection: str = "docs") -> dict[RecordId, tuple[Payload, str | None]]:
    """Return what a store holds, by id."""
    found: dict[RecordId, tuple[Payload, str | None]] = {}
    for batch in store.scan(collection):
        documents = batch.documents or [None] * len(batch)
        found.update(zip(batch.ids, zip(batch.payloads, documents, strict=True), strict=True))
    return found


class FaultySettings(MemorySettings):
    """Settings of a memory space whose operations meet a fault."""

    def __init__(self, name: str, fault: Callable[[VectorStore, str], Any]) -> None:
        super().__init__(name=name)
        object.__setattr__(self, "fault", fault)

    def open(self, *, create: bool = False) -> Any:
        """Open the space behind the fault, which is given the store and the operation's name."""
        inner = super().open(create=create)
        fault: Callable[[VectorStore, str], Any] = self.__dict__["fault"]
        return FaultyStore(inner, lambda operation, _: fault(inner, operation))


def with_faults(settings: StoreSettings, fault: Callable[[VectorStore, str], Any]) -> FaultySettings:
    """Return settings of the same memory space whose operations meet a fault."""
    assert isinstance(settings, MemorySettings)
    return FaultySettings(settings.name, fault)


class PoisonedStore(WrapperStore):
    """A target that refuses every write with one of these records, as a server answers for a whole request."""

    def __init__(self, inner: VectorStore, poison: Callable[[RecordBatch], list[RecordId]]) -> None:
        super().__init__(inner)
        self.poison = poison

    def upsert(self, collection: str, batch: RecordBatch) -> WriteResult:
        """Refuse the batch, or pass it on."""
        guilty = self.poison(batch)
        if guilty:
            raise StoreRequestError(f"one of {len(batch)} records is refused.", address=self.address)
        return super().upsert(collection, batch)


class PoisonedSettings(MemorySettings):
    """Settings of a memory space that refuses some records."""

    def __init__(self, name: str, poison: Callable[[RecordBatch], list[RecordId]]) -> None:
        super().__init__(name=name)
        object.__setattr__(self, "poison", poison)

    def open(self, *, create: bool = False) -> Any:
        """Open the space behind the refusal."""
        return PoisonedStore(super().open(create=create), self.__dict__["poison"])


def poisonous(batch: RecordBatch) -> list[RecordId]:
    """Return the records whose payload says so: repairing one is taking the key away."""
    return [record_id for record_id, payload in zip(batch.ids, batch.payloads, strict=True) if "poison" in payload]


class Away(WrapperStore):
    """A target that is away for batches with some records, half of which it has taken before."""

    def __init__(self, inner: VectorStore, fails: set[RecordId], written: list[RecordId]) -> None:
        super().__init__(inner)
        self.fails = fails
        self.written = written

    def upsert(self, collection: str, batch: RecordBatch) -> WriteResult:
        if self.fails.intersection(batch.ids):
            super().upsert(collection, batch.slice(0, len(batch) // 2))
            raise StoreUnavailableError("answered 503")
        self.written += batch.ids
        return super().upsert(collection, batch)


class AwaySettings(MemorySettings):
    """Settings of a memory space that is away for some records."""

    def __init__(self, name: str, fails: set[RecordId], written: list[RecordId]) -> None:
        super().__init__(name=name)
        object.__setattr__(self, "away", (fails, written))

    def open(self, *, create: bool = False) -> Any:
        """Open the space behind it."""
        return Away(super().open(create=create), *self.__dict__["away"])
