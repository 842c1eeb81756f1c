"""Laws of schemas: what a collection is comes from the store, is what was asked for, or is refused before it exists."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from rag_migration_pipeline.errors import CollectionExistsError, SchemaCompatibilityError
from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, RecordBatch
from rag_migration_pipeline.stores.base import VectorStore, WriteResult
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.comparison import assert_same_records
from rag_migration_pipeline_tests.contract.doors import Door
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.support import error_of, scanned

Create = Callable[[CollectionSpec], CollectionSpec]
EmptyCollection = Callable[..., CollectionSpec]


class SchemaLaws(StoreForm):
    """`describe` tells what `create` was given."""

    @pytest.mark.parametrize("metric", list(Metric))
    def test_every_metric_is_described_or_refused(
        self,
        store: VectorStore,
        door: Door,
        capabilities: Capabilities,
        empty_collection: EmptyCollection,
        metric: Metric,
    ) -> None:
        """A collection has the metric and dimension it was created with, or is refused and does not exist."""
        vector = samples.vector_spec(capabilities, metric, dimension=5)
        if metric in capabilities.metrics:
            spec = empty_collection(vectors=(vector,))
            assert store.describe(spec.name).spec.vectors == (vector,)
        else:
            spec = self.spec_of(capabilities, vectors=(vector,))
            error = error_of(lambda: store.create(spec), SchemaCompatibilityError, f"create with {metric}")
            assert metric.value in str(error)
            assert spec.name not in door.raw_collections()

    def test_every_sort_of_ids_is_described(self, store: VectorStore, empty_collection: EmptyCollection) -> None:
        """A collection has the id kinds it was created with."""
        for kinds in self.id_kind_sets:
            spec = empty_collection(id_kinds=kinds)
            assert store.describe(spec.name).spec.id_kinds == kinds

    def test_id_kinds_that_the_store_lacks_are_refused(
        self, store: VectorStore, door: Door, capabilities: Capabilities
    ) -> None:
        """A collection for id kinds that the store cannot hold, all or some, is refused and does not exist."""
        for kind in set(IdKind) - capabilities.id_kinds:
            for kinds in (frozenset({kind}), frozenset({kind}) | self.id_kind_sets[0]):
                spec = self.spec_of(capabilities, id_kinds=kinds)
                error = error_of(lambda spec=spec: store.create(spec), SchemaCompatibilityError, f"create with {kinds}")
                assert kind.value in str(error)
                assert spec.name not in door.raw_collections()

    def test_a_collection_made_round_the_store_is_described(
        self, store: VectorStore, door: Door, capabilities: Capabilities
    ) -> None:
        """What the vendor's client created is described as what it is, and can be used."""
        metric = Metric.L2 if Metric.L2 in capabilities.metrics else None
        spec = self.spec_of(capabilities, vectors=(samples.vector_spec(capabilities, metric, dimension=3),))
        door.raw_create(spec)
        try:
            info = store.describe(spec.name)
            assert info.count == 0
            assert info.spec.name == spec.name
            assert info.spec.vectors == spec.vectors
            assert info.spec.id_kinds == spec.id_kinds
            records = samples.ordinary(3, spec, capabilities)
            assert store.upsert(spec.name, records) == WriteResult(3)
            assert_same_records(records, door.raw_read(spec.name), spec, capabilities)
        finally:
            store.drop(spec.name)

    def test_a_described_collection_can_be_made_again(
        self, store: VectorStore, capabilities: Capabilities, create: Create, empty_collection: EmptyCollection
    ) -> None:
        """Creating what was described under another name gives a collection that is described the same."""
        spec = empty_collection(fields=self.typed_fields, metadata=self.collection_metadata)
        first = store.describe(spec.name).spec
        second = create(replace(first, name=self.spec_of(capabilities).name))
        assert replace(store.describe(second.name).spec, name=first.name) == first

    def test_typed_fields_and_metadata_are_described(
        self, store: VectorStore, empty_collection: EmptyCollection
    ) -> None:
        """Typed fields and the collection's own metadata are described as they were asked for."""
        spec = empty_collection(fields=self.typed_fields, metadata=self.collection_metadata)
        described = store.describe(spec.name).spec
        assert {field.name: field for field in described.fields} == {field.name: field for field in spec.fields}
        assert dict(described.metadata) == dict(spec.metadata)

    def test_settings_are_what_they_were_asked_to_be_when_a_load_is_finished(
        self, store: VectorStore, capabilities: Capabilities, create: Create, sample: RecordBatch
    ) -> None:
        """A collection has the index settings it was created with, whatever was done to load it fast."""
        vectors = (samples.vector_spec(capabilities),)
        spec = create(self.spec_of(capabilities, vectors=vectors, settings=self.index_settings))
        assert not store.upsert(spec.name, sample).rejections
        store.finish_loading(spec.name)
        assert _part_of(self.index_settings, store.describe(spec.name).spec.settings)
        with store.settings.open(create=True) as another:
            assert _part_of(self.index_settings, another.describe(spec.name).spec.settings)

    def test_the_description_is_plain_data(self, store: VectorStore, filled: CollectionSpec) -> None:
        """Settings and metadata of a description are JSON values, so that a report can hold them."""
        spec = store.describe(filled.name).spec
        assert _is_json(dict(spec.settings))
        assert _is_json(dict(spec.metadata))

    def test_the_count_is_exact_after_changes(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Overwritten records are counted once and deleted ones not at all."""
        records = samples.ordinary(12, scratch, capabilities)
        store.upsert(scratch.name, records)
        store.upsert(scratch.name, records.slice(0, 6))
        store.delete(scratch.name, records.ids[:4])
        store.upsert(scratch.name, records.slice(3, 4))
        assert store.count(scratch.name) == 9
        assert store.describe(scratch.name).count == 9

    def test_an_existing_collection_is_not_created_again(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Creating a collection that exists is an error that names it, even with the same spec; its records stay."""
        records = samples.ordinary(3, scratch, capabilities)
        store.upsert(scratch.name, records)
        other = replace(scratch, vectors=(samples.vector_spec(capabilities, dimension=3),))
        for spec in (scratch, other):
            error = error_of(lambda spec=spec: store.create(spec), CollectionExistsError, "create what exists")
            assert scratch.name in str(error)
        assert store.describe(scratch.name).spec.vectors == scratch.vectors
        assert_same_records(records, scanned(store, scratch), scratch, capabilities)

    def test_a_dropped_collection_is_gone_and_can_be_made_anew(
        self, store: VectorStore, door: Door, capabilities: Capabilities, create: Create
    ) -> None:
        """Dropping removes a collection with its records; dropping what is not there is quiet; a new one is new."""
        old = create(self.spec_of(capabilities))
        store.upsert(old.name, samples.ordinary(5, old, capabilities))
        store.drop(old.name)
        store.drop(old.name)
        assert old.name not in store.list_collections()
        assert old.name not in door.raw_collections()
        new = create(replace(old, vectors=(samples.vector_spec(capabilities, dimension=3),)))
        assert store.count(new.name) == 0
        records = samples.ordinary(5, new, capabilities)
        assert store.upsert(new.name, records) == WriteResult(5)
        assert_same_records(records, door.raw_read(new.name), new, capabilities)

    def test_a_dropped_collection_leaves_nothing_to_the_next_one(
        self, store: VectorStore, door: Door, capabilities: Capabilities, create: Create
    ) -> None:
        """Records of a new collection have no values of a dropped collection's records."""
        old = create(self.spec_of(capabilities))
        payloads: list[dict[str, Any]] = [{"k": "p", "tags": ["SECRET", "a"]}] * 40
        ids = samples.sample_ids(40, old.id_kinds)
        store.upsert(old.name, samples.batch_of(ids, old, payloads=payloads))
        store.drop(old.name)
        spec = create(self.spec_of(capabilities))
        records = samples.batch_of(ids, spec, payloads=[{"k": "p"}] * 40)
        store.upsert(spec.name, records)
        assert_same_records(records, door.raw_read(spec.name), spec, capabilities)

    @pytest.mark.parametrize("dimension", [None, 0, -1])
    def test_an_impossible_dimension_is_refused(
        self, store: VectorStore, door: Door, capabilities: Capabilities, dimension: int | None
    ) -> None:
        """A dense vector without a positive dimension is refused and nothing is created."""
        vector = replace(samples.vector_spec(capabilities), dimension=dimension)
        spec = self.spec_of(capabilities, vectors=(vector,))
        error_of(lambda: store.create(spec), SchemaCompatibilityError, f"create with dimension {dimension}")
        assert spec.name not in door.raw_collections()

    def test_a_dimension_above_the_limit_is_refused(
        self, store: VectorStore, door: Door, capabilities: Capabilities
    ) -> None:
        """Where the store declares a largest dimension, one more is refused and named."""
        if capabilities.max_dimension is None:
            return
        dimension = capabilities.max_dimension + 1
        spec = self.spec_of(capabilities, vectors=(samples.vector_spec(capabilities, dimension=dimension),))
        error = error_of(lambda: store.create(spec), SchemaCompatibilityError, "create above the largest dimension")
        assert str(dimension) in str(error)
        assert spec.name not in door.raw_collections()

    def test_all_problems_of_a_spec_are_named_at_once(
        self, store: VectorStore, door: Door, capabilities: Capabilities
    ) -> None:
        """A spec with two problems is refused once, naming both."""
        spec = self.spec_of(capabilities, vectors=(), id_kinds=frozenset())
        error = error_of(lambda: store.create(spec), SchemaCompatibilityError, "create without ids and vectors")
        assert "id kind" in str(error)
        assert "vector" in str(error)
        assert spec.name not in door.raw_collections()

    def test_collection_names_are_used_as_they_are_or_refused(
        self, store: VectorStore, capabilities: Capabilities, create: Create
    ) -> None:
        """A name that the declared pattern allows is listed exactly; another is refused before anything exists."""
        stem = self.spec_of(capabilities).name
        for name in ("", stem + "_Ab1", stem + ".b-c", stem + " b'\"ü漢", stem + "/b", stem + "%2F", "n" * 600):
            spec = self.spec_of(capabilities, name=name)
            if re.fullmatch(capabilities.collection_name_pattern, name, re.DOTALL):
                create(spec)
                assert name in store.list_collections()
                assert store.describe(name).spec.name == name
            else:
                error_of(lambda spec=spec: store.create(spec), SchemaCompatibilityError, f"create {name[:60]!r}")
                assert name not in store.list_collections()


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_json(item) for item in value)
    return value is None or type(value) in (str, int, float, bool)


def _part_of(asked: Any, found: Any) -> bool:
    """Return whether everything that was asked for is found; a store may say more of itself."""
    if isinstance(asked, Mapping) and isinstance(found, Mapping):
        return all(key in found and _part_of(value, found[key]) for key, value in asked.items())
    return bool(asked == found)
