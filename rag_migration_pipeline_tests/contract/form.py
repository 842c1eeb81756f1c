"""How one store form is reached in the tests: its settings, its back door, and what its laws may vary.

Belongs here: the base of every test class of the contract, with the fixtures that the laws share. Does not belong
here: the laws (``laws_*.py``), and what a store can hold (`Capabilities`).
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pytest

from rag_migration_pipeline.records import CollectionSpec, FieldSpec, IdKind, RecordBatch
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.doors import Door

_numbers = itertools.count(1)


class StoreForm:
    """Base of the test class of one store form.

    Attributes:
        label: What the docs call the form.
        documented_as: Column of the docs' table of abilities, where it is not the label.
        gaps: Laws that the form does not keep; filled by the marks of ``gaps.py``.
        id_kind_sets: The id kinds that a collection of this store can have, one set per sort of collection.
        typed_fields: Fields of a schema that the store can be asked for.
        vector_names: Names that vectors can have, where the store has named vectors.
        collection_metadata: Metadata that the store keeps on a collection; empty where it keeps none.
        index_settings: Settings that a collection can be created with, in the store's words; empty where it has none.
        bulk_count: Records of the law that writes more than one request holds.
        bulk_bytes: Bytes of the law that writes more than one request holds.
        bulk_text_bytes: Size of one text in that law.
        is_away: The store cannot be reached here; one law is shown as skipped, with the reason.
        is_server: The store is reached over the network, so it can vanish.
    """

    label: ClassVar[str] = ""
    documented_as: ClassVar[str] = ""
    gaps: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    id_kind_sets: ClassVar[tuple[frozenset[IdKind], ...]] = ()
    typed_fields: ClassVar[tuple[FieldSpec, ...]] = ()
    vector_names: ClassVar[tuple[str, ...]] = ("text", "Bild 漢字 🜚", "a.b", "x:indices")
    collection_metadata: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    index_settings: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    bulk_count: ClassVar[int] = 12_000
    bulk_bytes: ClassVar[int] = 40 * 2**20
    bulk_text_bytes: ClassVar[int] = 2**20
    is_away: ClassVar[bool] = False
    is_server: ClassVar[bool] = False

    # -- what a form supplies ---------------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls) -> StoreSettings:
        """Settings of a store that is the class's own, empty at first."""
        raise NotImplementedError

    @classmethod
    def open_door(cls, settings: StoreSettings, store: VectorStore) -> Door:
        """Return a back door to the open store."""
        raise NotImplementedError

    @classmethod
    def settings_in(cls, folder: Path) -> StoreSettings:
        """Embedded forms: settings for a store in that folder, which may not exist."""
        raise NotImplementedError

    @classmethod
    def settings_at(cls, settings: StoreSettings, host: str, ports: Sequence[int]) -> StoreSettings:
        """Server forms: the same settings for another host and other ports, with a short time-out."""
        raise NotImplementedError

    @classmethod
    def ports_of(cls, settings: StoreSettings) -> Sequence[int]:
        """Server forms: the ports that the settings name."""
        raise NotImplementedError

    @classmethod
    def settings_with_secret(cls, settings: StoreSettings, secret: str) -> StoreSettings | None:
        """Return the same settings with a secret in every place for one, or None where the store has none."""
        return None

    # -- what the laws share ----------------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def store(cls, settings: StoreSettings) -> Iterator[VectorStore]:
        """The open store; emptied and closed at the end of the class."""
        store = settings.open(create=True)
        try:
            yield store
            for name in store.list_collections():
                if name.startswith(samples.NAME_PREFIX):
                    store.drop(name)
        finally:
            store.close()

    @pytest.fixture(scope="class")
    @classmethod
    def capabilities(cls, store: VectorStore) -> Capabilities:
        """What the store says it can hold."""
        return store.capabilities

    @pytest.fixture(scope="class")
    @classmethod
    def door(cls, settings: StoreSettings, store: VectorStore) -> Iterator[Door]:
        """The back door."""
        door = cls.open_door(settings, store)
        try:
            yield door
        finally:
            door.close()

    @pytest.fixture(scope="class")
    @classmethod
    def sample(cls, capabilities: Capabilities) -> RecordBatch:
        """23 ordinary records, with the first of the form's id kinds."""
        return samples.ordinary(23, cls.spec_of(capabilities), capabilities)

    @pytest.fixture(scope="class")
    @classmethod
    def filled(cls, store: VectorStore, door: Door, capabilities: Capabilities, sample: RecordBatch) -> CollectionSpec:
        """A collection that the back door filled with the sample; laws only read it."""
        spec = cls.spec_of(capabilities)
        store.create(spec)
        door.raw_write(spec.name, sample)
        return spec

    @pytest.fixture(scope="class")
    @classmethod
    def empty_collection(cls, store: VectorStore, capabilities: Capabilities) -> Callable[..., CollectionSpec]:
        """Return empty collections by what differs from an ordinary spec.

        Collections of one sort are one collection, emptied between the laws: making one takes a server seconds.
        """
        made: list[CollectionSpec] = []

        def get(**changes: Any) -> CollectionSpec:
            for spec in made:
                if cls.spec_of(capabilities, **changes, name=spec.name) == spec:
                    ids = [record_id for page in store.iter_ids(spec.name) for record_id in page]
                    if ids:
                        store.delete(spec.name, ids)
                    return spec
            spec = cls.spec_of(capabilities, **changes)
            store.create(spec)
            made.append(spec)
            return spec

        return get

    @pytest.fixture
    def scratch(self, empty_collection: Callable[..., CollectionSpec]) -> CollectionSpec:
        """An empty ordinary collection."""
        return empty_collection()

    @pytest.fixture
    def create(self, store: VectorStore) -> Iterator[Callable[..., CollectionSpec]]:
        """Make collections that go away after the test."""
        made: list[str] = []

        def make(spec: CollectionSpec) -> CollectionSpec:
            made.append(spec.name)
            store.create(spec)
            return spec

        yield make
        for name in made:
            store.drop(name)

    @classmethod
    def spec_of(cls, capabilities: Capabilities, **changes: Any) -> CollectionSpec:
        """Return the spec of an ordinary collection under a name that is used once."""
        given: dict[str, Any] = {
            "name": f"{samples.NAME_PREFIX}{next(_numbers)}",
            "vectors": (samples.vector_spec(capabilities),),
            "id_kinds": cls.id_kind_sets[0],
            **changes,
        }
        return CollectionSpec(**given)
