"""Where the matrix moves records: one open store of each kind, with its back door.

Belongs here: opening them once, names that nobody else uses, one whole migration by the steps. Does not belong here:
what is moved (``awkward.py``), what must hold (the tests).
"""

import itertools
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.records import CollectionSpec, FieldSpec, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.context import open_migration
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import Report, prove_collection
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline_tests.contract.doors import Door
from rag_migration_pipeline_tests.matrix import awkward

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """One open store and its back door."""

    settings: StoreSettings
    store: VectorStore
    door: Door
    filled: dict[tuple[str, Metric], str] = field(default_factory=dict)

    def meaning(self, collection: str) -> awkward.Meaning:
        """Return what lies in a collection, read through the back door."""
        return awkward.meaning(self.door.raw_read(collection))


@dataclass(frozen=True)
class Start:
    """What a source is filled with: records, and the collection that a user of the store would make for them."""

    label: str
    store: str
    records: RecordBatch
    id_kind: IdKind
    fields: tuple[FieldSpec, ...] = ()

    def fill(self, place: Place, metric: Metric) -> str:
        """Make and fill a collection through the back door, once; tests only read it. Return its name."""
        known = (self.label, metric)
        if known not in place.filled:
            place.filled[known] = self._fill(place, metric)
        return place.filled[known]

    def _fill(self, place: Place, metric: Metric) -> str:
        name = fresh_name()
        kinds = frozenset({IdKind.UINT64, IdKind.UUID}) if self.store == "qdrant" else frozenset({self.id_kind})
        vector = VectorSpec(awkward.DIMENSION, metric)
        place.door.raw_create(
            CollectionSpec(
                name, (vector,), kinds, self.fields, {}, awkward.COLLECTION_METADATA, max_id_length_bytes=400
            )
        )
        place.door.raw_write(name, self.records)
        return name


TYPED = (FieldSpec("title", "string"), FieldSpec("year", "int"), FieldSpec("score", "float"), FieldSpec("flag", "bool"))
STARTS = {
    "chroma": Start("chroma", "chroma", awkward.chroma_records(), IdKind.STRING),
    "qdrant": Start("qdrant", "qdrant", awkward.qdrant_records(), IdKind.UINT64),
    "milvus": Start("milvus", "milvus", awkward.milvus_text_records(), IdKind.STRING),
    "milvus_integers": Start("milvus_integers", "milvus", awkward.milvus_integer_records(), IdKind.INT64, TYPED),
}
TARGETS = ("chroma", "qdrant", "milvus")


def fresh_name() -> str:
    """Return a collection name that every store allows and nobody used yet."""
    return f"matrix_{next(_numbers)}"


def open_places(stack: ExitStack, chosen: dict[str, tuple[StoreSettings, Any]]) -> dict[str, Place]:
    """Open each store with its door; the stack closes them and removes what the tests made."""
    places = {}
    for name, (settings, make_door) in chosen.items():
        store = stack.enter_context(settings.open(create=True))
        stack.callback(_clear, store)
        door = make_door(settings, store)
        stack.callback(door.close)
        places[name] = Place(settings, store, door)
    return places


def _clear(store: VectorStore) -> None:
    for name in store.list_collections():
        if name.startswith("matrix_"):
            store.drop(name)


def migration_between(source: Place, collection: str, target: Place, into: str) -> Migration:
    """Return a migration in ranges of 13 and pages of 5, so that there are several of each."""
    options = MigrationOptions(range_count=13, page_count=5)
    return Migration("matrix", source.settings, collection, target.settings, into, options)


def move(source: Place, collection: str, target: Place, state_dir: Path) -> tuple[str, Report]:
    """Migrate a collection into a new one and prove it; return the new name and the report."""
    into = fresh_name()
    migration = migration_between(source, collection, target, into)
    with open_migration(migration, state_dir, plan=True) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        report = prove_collection(context)
    target.store.forget_spec(into)
    return into, report
