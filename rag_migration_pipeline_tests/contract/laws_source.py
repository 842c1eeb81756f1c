"""Laws of sources: a store that is opened read-only refuses every write, and nothing is ever created in it."""

from collections.abc import Callable
from typing import Any

import pytest

from rag_migration_pipeline.errors import CollectionNotFoundError, ReadOnlyStoreError
from rag_migration_pipeline.records import CollectionSpec, RecordBatch
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.stores.registry import open_source
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.comparison import assert_same_records
from rag_migration_pipeline_tests.contract.doors import Door
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.support import scanned


class SourceLaws(StoreForm):
    """Reading never changes what is read."""

    @pytest.mark.parametrize("operation", ["create", "drop", "upsert", "write", "delete", "finish_loading"])
    def test_a_source_refuses_every_write(
        self,
        settings: StoreSettings,
        filled: CollectionSpec,
        sample: RecordBatch,
        door: Door,
        capabilities: Capabilities,
        operation: str,
    ) -> None:
        """Every operation that would change a source is refused by name, and the source stays as it was."""
        new = self.spec_of(capabilities)
        before = sorted(door.raw_collections())
        with open_source(settings) as source:
            writes: dict[str, Callable[[], Any]] = {
                "create": lambda: source.create(new),
                "drop": lambda: source.drop(filled.name),
                "upsert": lambda: source.upsert(filled.name, samples.ordinary(2, filled, capabilities, start=90)),
                "write": lambda: source.write(filled.name, samples.ordinary(2, filled, capabilities, start=90)),
                "delete": lambda: source.delete(filled.name, sample.ids),
                "finish_loading": lambda: source.finish_loading(filled.name),
            }
            with pytest.raises(ReadOnlyStoreError, match=operation):
                writes[operation]()
        assert sorted(door.raw_collections()) == before
        assert_same_records(sample, door.raw_read(filled.name), filled, capabilities)

    def test_a_source_is_read_like_any_store(
        self, settings: StoreSettings, filled: CollectionSpec, sample: RecordBatch, capabilities: Capabilities
    ) -> None:
        """A source lists, describes, scans and fetches."""
        with open_source(settings) as source:
            assert filled.name in source.list_collections()
            assert source.describe(filled.name).count == len(sample)
            assert_same_records(sample, scanned(source, filled), filled, capabilities)
            assert_same_records(sample, source.fetch(filled.name, sample.ids), filled, capabilities)

    def test_asking_for_what_is_missing_creates_nothing(
        self, settings: StoreSettings, store: VectorStore, filled: CollectionSpec, door: Door
    ) -> None:
        """A missing source collection is an error and is still missing afterwards."""
        before = sorted(door.raw_collections())
        name = filled.name + "_never_made"
        with open_source(settings) as source:
            for ask in (source.describe, source.count, lambda name: list(source.scan(name)), source.spec):
                with pytest.raises(CollectionNotFoundError, match=name):
                    ask(name)
            assert not source.exists(name)
        assert sorted(door.raw_collections()) == before
