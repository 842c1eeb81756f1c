"""Laws of opening and closing: settings travel between processes, closing is final and may be repeated."""

import copy
import pickle
from dataclasses import FrozenInstanceError

import pytest

from rag_migration_pipeline.records import CollectionSpec, RecordBatch
from rag_migration_pipeline.stores.abilities import abilities
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline_tests.contract.comparison import assert_same_records
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.support import scanned


class LifeLaws(StoreForm):
    """A store is opened from its settings, anywhere, any number of times."""

    def test_close_may_be_repeated(self, settings: StoreSettings, store: VectorStore, filled: CollectionSpec) -> None:
        """Closing twice is fine, `with` closes too, and other opened stores are not touched."""
        second = settings.open(create=False)
        second.list_collections()
        second.close()
        second.close()
        with settings.open(create=False) as third:
            assert third.exists(filled.name)
        third.close()
        assert store.exists(filled.name)

    def test_settings_are_frozen_values(self, settings: StoreSettings) -> None:
        """Settings cannot be changed, equal their copies, and survive pickling."""
        with pytest.raises(FrozenInstanceError):
            settings.timeout_s = 1.0  # type: ignore[misc]
        assert copy.deepcopy(settings) == settings
        again = pickle.loads(pickle.dumps(settings))
        assert again == settings
        assert again.address == settings.address
        assert hash(again) == hash(settings)

    def test_a_store_opens_again_from_pickled_settings(
        self, settings: StoreSettings, filled: CollectionSpec, sample: RecordBatch, capabilities: Capabilities
    ) -> None:
        """Pickled settings open the same store, with the same capabilities and records."""
        with pickle.loads(pickle.dumps(settings)).open(create=False) as again:
            assert again.capabilities == capabilities
            assert_same_records(sample, scanned(again, filled), filled, capabilities)

    def test_the_documented_abilities_are_the_stores_own(self, capabilities: Capabilities) -> None:
        """The table of abilities in the docs shows what the opened store declares."""
        assert abilities()[self.documented_as or self.label] == capabilities

    def test_the_address_names_the_store_and_no_collection(
        self, settings: StoreSettings, store: VectorStore, filled: CollectionSpec
    ) -> None:
        """The address is the same for every opening and has no collection in it: it identifies a migration's end."""
        assert store.address == settings.address
        assert store.capabilities.store in store.address
        assert filled.name not in store.address
