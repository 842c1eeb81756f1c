"""Laws of errors: whatever goes wrong is one of our errors, says what, where and what to do, and tells no secret."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rag_migration_pipeline.errors import CollectionNotFoundError, MigrationError, SchemaCompatibilityError
from rag_migration_pipeline.records import DEFAULT_VECTOR, CollectionSpec, DenseColumn, RecordBatch
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.doors import Door
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.support import error_of, operations

OPERATIONS = (
    "describe",
    "count",
    "iter_ids",
    "iter_field",
    "read_range",
    "fetch",
    "fetch_pages",
    "scan",
    "upsert",
    "write",
    "delete",
    "readiness",
)

SECRET = "s3cr3t-Xyzzy-4711"


class ErrorLaws(StoreForm):
    """No driver's exception gets out."""

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_a_missing_collection_is_named(
        self,
        store: VectorStore,
        filled: CollectionSpec,
        sample: RecordBatch,
        door: Door,
        operation: str,
    ) -> None:
        """Every operation on a missing collection names it, the address and what exists; none creates it."""
        missing = replace(filled, name=filled.name + "_missing")
        error = error_of(operations(store, missing, sample)[operation], CollectionNotFoundError, operation)
        assert missing.name in str(error)
        assert store.address in str(error)
        assert filled.name in str(error) or len(store.list_collections()) > 20
        assert error.todo
        assert missing.name not in door.raw_collections()

    @pytest.mark.parametrize("operation", ["list_collections", "exists", "create", "drop", *OPERATIONS])
    def test_a_closed_store_says_so(
        self,
        settings: StoreSettings,
        store: VectorStore,
        filled: CollectionSpec,
        sample: RecordBatch,
        capabilities: Capabilities,
        operation: str,
    ) -> None:
        """Every operation on a closed store raises one of our errors, and other opened stores go on."""
        closed = settings.open(create=False)
        closed.describe(filled.name)
        closed.close()
        calls: dict[str, Callable[[], Any]] = {
            "list_collections": closed.list_collections,
            "exists": lambda: closed.exists(filled.name),
            "create": lambda: closed.create(self.spec_of(capabilities)),
            "drop": lambda: closed.drop(filled.name + "_missing"),
            **operations(closed, filled, sample),
        }
        error = error_of(calls[operation], MigrationError, f"{operation} on a closed store")
        assert store.address in str(error)
        assert store.count(filled.name) == len(sample)

    def test_a_wrong_dimension_names_both(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """A batch of another dimension is refused as a whole, naming both dimensions and the collection."""
        records = samples.ordinary(4, scratch, capabilities)
        wrong = records.with_columns(vectors={DEFAULT_VECTOR: DenseColumn(samples.vectors(4, 13))})
        error = error_of(lambda: store.upsert(scratch.name, wrong), SchemaCompatibilityError, "wrong dimension")
        assert "13" in str(error)
        assert str(samples.DIMENSION) in str(error)
        assert scratch.name in str(error)
        assert store.count(scratch.name) == 0

    def test_vectors_of_another_name_are_refused(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """A batch with a vector that the collection does not have is refused as a whole, naming it."""
        records = samples.ordinary(4, scratch, capabilities)
        other = records.with_columns(vectors={**records.vectors, "unheard_of": DenseColumn(samples.vectors(4))})
        error = error_of(lambda: store.upsert(scratch.name, other), SchemaCompatibilityError, "unknown vector")
        assert "unheard_of" in str(error)
        assert store.count(scratch.name) == 0

    def test_records_without_their_vector_are_kept_or_refused(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """A batch without the collection's vector is kept where vectors may be missing, else nothing is written."""
        records = samples.ordinary(4, scratch, capabilities).with_columns(vectors={})
        if capabilities.has_partial_vectors:
            assert store.upsert(scratch.name, records).written == 4
            assert len(store.fetch(scratch.name, records.ids)) == 4
            return
        try:
            result = store.upsert(scratch.name, records)
        except SchemaCompatibilityError:
            pass
        else:
            assert (result.written, len(result.rejections)) == (0, 4)
        assert store.count(scratch.name) == 0

    def test_secrets_are_shown_nowhere(self, settings: StoreSettings) -> None:
        """A secret is in no repr, no text, no address and no error; the settings keep it nevertheless."""
        given = self.settings_with_secret(settings, SECRET)
        if given is None:
            return  # a store without secrets
        shown = [repr(given), str(given), f"{given}", given.address]
        try:
            with given.open(create=False) as store:
                shown += [repr(store), str(store), repr(vars(store)), store.address]
                store.count("missing_" + samples.NAME_PREFIX)
        except MigrationError as error:
            chain: BaseException | None = error
            while chain is not None:
                shown += [str(chain), repr(chain), repr(getattr(chain, "facts", ""))]
                chain = chain.__cause__
        assert [text for text in shown if SECRET in text] == []
        assert given != settings
