"""Laws of vectors: a store keeps every kind of vector that it declares, and refuses the others by name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    Metric,
    MultiColumn,
    RecordBatch,
    VectorColumn,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.stores.base import VectorStore, WriteResult
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline_tests.contract import vector_samples as made
from rag_migration_pipeline_tests.contract.comparison import assert_same_records
from rag_migration_pipeline_tests.contract.doors import Door
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.support import all_ids, error_of, joined, ranges_of, scanned

Create = Callable[[CollectionSpec], CollectionSpec]
EmptyCollection = Callable[..., CollectionSpec]

NAN, INF = float("nan"), float("inf")


class VectorLaws(StoreForm):
    """Whatever kinds of vectors a collection has, they are written and read like the one dense vector."""

    @pytest.mark.parametrize("layout", made.LAYOUTS, ids=lambda layout: f"{layout[0].value}-{layout[1]}")
    def test_every_kind_of_vector_is_kept_or_refused(
        self, store: VectorStore, door: Door, capabilities: Capabilities, create: Create, layout: tuple[VectorKind, str]
    ) -> None:
        """Vectors of a declared kind and element type are kept under all their metrics, others are refused by name."""
        kind, dtype = layout
        vector = made.vector_of(kind, dtype, min(capabilities.metrics_of(made.vector_of(kind, dtype, Metric.DOT))))
        if not capabilities.has_type(kind, dtype):
            spec = self.spec_of(capabilities, vectors=(vector,))
            error = error_of(lambda: store.create(spec), SchemaCompatibilityError, f"create with {kind} {dtype}")
            assert (kind.value if kind not in capabilities.vector_kinds else dtype) in str(error)
            assert spec.name not in door.raw_collections()
            return
        for vectors in self._with_every_metric(vector, capabilities):
            spec = create(self.spec_of(capabilities, vectors=vectors))
            assert _by_name(store.describe(spec.name).spec.vectors) == _by_name(vectors)
            given, theirs = made.records(spec, 9), made.records(spec, 5, start=9, seed=3)
            assert store.upsert(spec.name, given) == WriteResult(9)
            assert_same_records(given, door.raw_read(spec.name), spec, capabilities)
            assert_same_records(given, store.fetch(spec.name, given.ids), spec, capabilities)
            store.delete(spec.name, given.ids)
            door.raw_write(spec.name, theirs)
            assert_same_records(theirs, scanned(store, spec, 2), spec, capabilities)

    def test_metrics_that_a_kind_of_vector_lacks_are_refused(
        self, store: VectorStore, door: Door, capabilities: Capabilities
    ) -> None:
        """For every kind that the store declares, a metric that it does not is refused, naming it."""
        for kind, dtype in made.LAYOUTS:
            vector = made.vector_of(kind, dtype, Metric.DOT)
            for metric in set(Metric) - capabilities.metrics_of(vector) if capabilities.has_type(kind, dtype) else ():
                spec = self.spec_of(capabilities, vectors=(replace(vector, metric=metric),))
                error = error_of(lambda spec=spec: store.create(spec), SchemaCompatibilityError, f"{kind} by {metric}")
                assert metric.value in str(error)
                assert spec.name not in door.raw_collections()

    def test_several_vectors_by_name_are_kept_or_refused(
        self, store: VectorStore, door: Door, capabilities: Capabilities, create: Create
    ) -> None:
        """A collection has as many vectors as were asked for, under their own names, or is refused."""
        vectors = made.some_vectors(replace(capabilities, has_named_vectors=True), self.vector_names)
        spec = self.spec_of(capabilities, vectors=vectors)
        if not capabilities.has_named_vectors:
            error = error_of(lambda: store.create(spec), SchemaCompatibilityError, "create with several vectors")
            assert "vector" in str(error)
            assert spec.name not in door.raw_collections()
            return
        create(spec)
        assert _by_name(store.describe(spec.name).spec.vectors) == _by_name(vectors)
        given = made.records(spec, 13)
        assert store.upsert(spec.name, given) == WriteResult(13)
        assert_same_records(given, door.raw_read(spec.name), spec, capabilities)
        assert_same_records(given, scanned(store, spec), spec, capabilities)

    def test_a_modifier_of_sparse_vectors_is_described(
        self, store: VectorStore, capabilities: Capabilities, create: Create
    ) -> None:
        """A modifier that the store declares for sparse vectors is described as it was asked for."""
        for modifier in capabilities.sparse_modifiers:
            vector = VectorSpec(None, Metric.DOT, self.vector_names[0], VectorKind.SPARSE, modifier=modifier)
            spec = create(self.spec_of(capabilities, vectors=(vector,)))
            assert store.describe(spec.name).spec.vectors == (vector,)

    @pytest.mark.parametrize("page_count", [1, 3, 1_000])
    def test_records_may_miss_their_vectors_or_are_rejected(
        self,
        store: VectorStore,
        door: Door,
        capabilities: Capabilities,
        empty_collection: EmptyCollection,
        page_count: int,
    ) -> None:
        """Records without some or any of their vectors are kept so, in pages and ranges of any size, or rejected."""
        spec = empty_collection(vectors=made.some_vectors(capabilities, self.vector_names))
        given = made.records(spec, 17, is_partial=True)
        result = store.upsert(spec.name, given)
        missing = {i for row, i in enumerate(given.ids) if row % 2 ** len(spec.vectors)}
        rejected = [rejection.record_id for rejection in result.rejections]
        assert set(rejected) == (set() if capabilities.has_partial_vectors else missing)
        kept = given.take(row for row, record_id in enumerate(given.ids) if record_id not in rejected)
        assert_same_records(kept, door.raw_read(spec.name), spec, capabilities)
        assert_same_records(kept, scanned(store, spec, page_count), spec, capabilities)
        parts = ranges_of(all_ids(store, spec.name), 5)
        read = [batch for part in parts for batch in store.read_range(spec.name, part, page_count)]
        assert_same_records(kept, joined(iter(read), spec), spec, capabilities)

    def test_an_upsert_replaces_all_vectors_of_a_record(
        self, store: VectorStore, door: Door, capabilities: Capabilities, empty_collection: EmptyCollection
    ) -> None:
        """A vector that is not given again is gone, and the others are the new ones."""
        spec = empty_collection(vectors=made.some_vectors(capabilities, self.vector_names))
        is_partial = capabilities.has_partial_vectors
        store.upsert(spec.name, made.records(spec, 16))
        again = made.records(spec, 16, seed=5, is_partial=is_partial)
        assert store.upsert(spec.name, again) == WriteResult(16)
        assert_same_records(again, door.raw_read(spec.name), spec, capabilities)

    def test_a_batch_may_leave_out_a_vector_that_no_record_has(
        self, store: VectorStore, door: Door, capabilities: Capabilities, empty_collection: EmptyCollection
    ) -> None:
        """Where vectors may be missing, a batch without the column of one is the same as one with nothing in it."""
        spec = empty_collection(vectors=made.some_vectors(capabilities, self.vector_names))
        if not capabilities.has_partial_vectors:
            return  # a law of its own: test_records_without_their_vector_are_kept_or_refused
        given = made.records(spec, 5)
        for name in given.vectors:
            left = given.with_columns(vectors={other: c for other, c in given.vectors.items() if other != name})
            assert store.upsert(spec.name, left) == WriteResult(5)
            assert_same_records(left, door.raw_read(spec.name), spec, capabilities)

    @pytest.mark.parametrize("layout", made.LAYOUTS, ids=lambda layout: f"{layout[0].value}-{layout[1]}")
    def test_odd_vectors_of_every_kind_are_kept_or_rejected(
        self,
        store: VectorStore,
        door: Door,
        capabilities: Capabilities,
        empty_collection: EmptyCollection,
        layout: tuple[VectorKind, str],
    ) -> None:
        """Zero, NaN, infinite, empty, doubled and misfitting values are kept exactly or their record is rejected."""
        kind, dtype = layout
        if not capabilities.has_type(kind, dtype):
            return
        vector = made.vector_of(kind, dtype, min(capabilities.metrics_of(made.vector_of(kind, dtype, Metric.DOT))))
        if capabilities.has_named_vectors:
            vector = replace(vector, name=self.vector_names[0])
        spec = empty_collection(vectors=(vector,))
        plain = made.records(spec, 3)
        for value in _odd_values(vector):
            given = plain.with_columns(vectors={vector.name: made.with_row(plain.vectors[vector.name], 1, value)})
            result = store.upsert(spec.name, given)
            rejected = [rejection.record_id for rejection in result.rejections]
            assert rejected in ([], [given.ids[1]]), value
            if kind is VectorKind.SPARSE and np.min(value[1], initial=0) < 0:
                assert bool(rejected) is not capabilities.has_any_sparse_weights
            assert result.written + len(rejected) == 3
            assert all("vector" in rejection.reason for rejection in result.rejections)
            kept = _as_declared(given.take([0, 2] if rejected else [0, 1, 2]), spec, capabilities)
            assert_same_records(kept, door.raw_read(spec.name), spec, capabilities)
            assert_same_records(kept, scanned(store, spec), spec, capabilities)
            store.delete(spec.name, given.ids)

    # -- how ----------------------------------------------------------------------------------------------------

    def _with_every_metric(self, vector: VectorSpec, capabilities: Capabilities) -> list[tuple[VectorSpec, ...]]:
        """Return the vectors of as few collections as it takes to have one of each metric."""
        metrics = sorted(capabilities.metrics_of(vector))
        if not capabilities.has_named_vectors:
            return [(replace(vector, metric=metric),) for metric in metrics]
        at_once = len(self.vector_names)
        return [
            tuple(
                replace(vector, metric=metric, name=name)
                for metric, name in zip(metrics[start : start + at_once], self.vector_names, strict=False)
            )
            for start in range(0, len(metrics), at_once)
        ]


def _by_name(vectors: tuple[VectorSpec, ...]) -> dict[str, VectorSpec]:
    assert len({vector.name for vector in vectors}) == len(vectors)
    return {vector.name: vector for vector in vectors}


def _odd_values(vector: VectorSpec) -> list[Any]:
    """Return vectors at and beyond the edge of what a store holds."""
    if vector.kind is VectorKind.SPARSE:
        pairs = [([], []), ([5], [0.0]), ([9, 2], [0.0, 1.0]), ([2, 2], [1, 2]), ([3], [NAN]), ([3], [INF])]
        pairs += [([1], [1e-40]), ([made.MAX_INDEX], [1.0]), ([1, 8], [-0.5, 1])]
        return [(np.array(i, np.uint32), np.array(v, np.float32)) for i, v in pairs]
    width = made.DIMENSION // (8 if vector.dtype == "binary" else 1)
    numbers = {"float32": (0.0, 1e-40, 1e30, NAN, INF), "float16": (0.0, 6e-8, 65_504, 70_000, 0.1, NAN, INF)}
    whole = (0, 1, 127, 128, 255, 256, -1, -128, 0.5, NAN)
    rows = [np.array([value, *[1] * (width - 1)], np.float32) for value in numbers.get(vector.dtype, whole)]
    rows.append(np.zeros(width, np.float32))
    if vector.kind is VectorKind.MULTI:
        return [np.zeros((0, width), np.float32), *(np.stack([row, np.ones_like(row)]) for row in rows)]
    return rows


def _as_declared(kept: RecordBatch, spec: CollectionSpec, capabilities: Capabilities) -> RecordBatch:
    """Return records that were carried in float32 in the element type of their collection, whose values they have."""
    columns: dict[str, VectorColumn] = dict(kept.vectors)
    for vector in spec.vectors:
        column, held = columns[vector.name], made.NUMBERS.get(vector.dtype, np.float32)
        is_direction = capabilities.is_normalised(vector)
        if isinstance(column, DenseColumn):
            columns[vector.name] = DenseColumn(_typed(column.values, held, is_direction), column.present)
        elif isinstance(column, MultiColumn):
            items = [item if item is None else _typed(item, held, is_direction) for item in column.values]
            columns[vector.name] = MultiColumn(tuple(items))
    return kept.with_columns(vectors=columns)


def _typed(values: Any, held: Any, is_direction: bool) -> Any:
    if is_direction and held != np.float32:  # a length may have no place in the type, where the direction has
        lengths = np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
        values = np.divide(values, lengths, out=np.zeros(values.shape), where=lengths > 0)
    return values.astype(held)
