"""Random sequences of operations give what a plain dict gives, on the reference store and the quick embedded ones."""

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.records import DEFAULT_VECTOR, CollectionSpec, DenseColumn, IdKind, RecordBatch, RecordId
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.chroma import ChromaSettings
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline.stores.milvus import MilvusSettings
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.comparison import assert_same_records
from rag_migration_pipeline_tests.contract.strategies import batches
from rag_migration_pipeline_tests.contract.support import all_ids, empty_batch, ranges_of, scanned

ID_COUNT = 12

_numbers = itertools.count()


class StoreMachine(RuleBasedStateMachine):
    """A store beside a dict: every answer of the one is the answer of the other."""

    settings: ClassVar[StoreSettings]
    id_kinds: ClassVar[frozenset[IdKind]]
    store: VectorStore
    spec: CollectionSpec

    @initialize()
    def open(self) -> None:
        """Open the store and make a collection."""
        self.store = self.settings.open(create=True)
        self.model: dict[RecordId, RecordBatch] = {}
        self._create()

    def teardown(self) -> None:
        """Drop the collection and close the store."""
        if hasattr(self, "store"):
            self.store.drop(self.spec.name)
            self.store.close()

    def _create(self) -> None:
        vector = samples.vector_spec(self.store.capabilities, dimension=3)
        name = f"{samples.NAME_PREFIX}m{next(_numbers)}"
        self.spec = CollectionSpec(name, (vector,), self.id_kinds)
        self.store.create(self.spec)

    def _expected(self) -> RecordBatch:
        return concatenate(list(self.model.values())) if self.model else empty_batch(self.spec)

    def _compare(self, expected: RecordBatch, actual: RecordBatch) -> None:
        assert_same_records(expected, actual, self.spec, self.store.capabilities, is_empty_expected=not len(expected))

    @rule(data=st.data())
    def upsert(self, data: st.DataObject) -> None:
        """Write some records, new ones and old ones."""
        batch = data.draw(batches(self.spec, self.store.capabilities, id_count=ID_COUNT))
        result = self.store.upsert(self.spec.name, batch)
        rejected = {rejection.record_id for rejection in result.rejections}
        assert result.written + len(rejected) == len(batch)
        for row, record_id in enumerate(batch.ids):
            if record_id not in rejected:
                self.model[record_id] = batch.slice(row, row + 1)

    @rule(numbers=st.sets(st.integers(0, ID_COUNT - 1), max_size=4))
    def delete(self, numbers: set[int]) -> None:
        """Delete some ids, whether they are there or not."""
        ids = samples.sample_ids(ID_COUNT, self.id_kinds)
        self.store.delete(self.spec.name, [ids[number] for number in numbers])
        for number in numbers:
            self.model.pop(ids[number], None)

    @rule(numbers=st.lists(st.integers(0, ID_COUNT - 1), max_size=6, unique=True))
    def fetch(self, numbers: list[int]) -> None:
        """Fetch some ids, whether they are there or not."""
        ids = samples.sample_ids(ID_COUNT, self.id_kinds)
        asked = [ids[number] for number in numbers]
        found = self.store.fetch(self.spec.name, asked)
        held = [record_id for record_id in asked if record_id in self.model]
        assert list(found.ids) == held
        expected = concatenate([self.model[record_id] for record_id in held]) if held else empty_batch(self.spec)
        self._compare(expected, found)

    @rule(page_count=st.sampled_from([1, 2, 5, 100]))
    def scan(self, page_count: int) -> None:
        """Read everything."""
        self._compare(self._expected(), scanned(self.store, self.spec, page_count))

    @precondition(lambda self: self.model)
    @rule(size=st.integers(1, ID_COUNT), page_count=st.sampled_from([1, 3, 100]))
    def read_ranges(self, size: int, page_count: int) -> None:
        """Read everything range by range."""
        parts = ranges_of(all_ids(self.store, self.spec.name), size)
        read = [batch for part in parts for batch in self.store.read_range(self.spec.name, part, page_count)]
        self._compare(self._expected(), concatenate([batch for batch in read if len(batch)]))

    @rule()
    def drop_and_create(self) -> None:
        """Begin again with a new collection."""
        self.store.drop(self.spec.name)
        self.model = {}
        self._create()

    @rule()
    def reopen(self) -> None:
        """Close the store and open it again."""
        self.store.close()
        self.store = self.settings.open(create=False)

    @invariant()
    def count(self) -> None:
        """The store counts what the dict counts."""
        if hasattr(self, "store"):
            assert self.store.count(self.spec.name) == len(self.model)


def machine_of(settings: StoreSettings, id_kinds: frozenset[IdKind]) -> Callable[[], StoreMachine]:
    """Return a machine class for one store."""
    attributes: dict[str, Any] = {"settings": settings, "id_kinds": id_kinds}
    machine: Callable[[], StoreMachine] = type("Machine", (StoreMachine,), attributes)
    return machine


NUMBERS_AND_UUIDS = frozenset({IdKind.UINT64, IdKind.UUID})
# Examples at scale 1: what takes a few seconds. The folder of the Qdrant client commits every point by itself.
FORMS: dict[str, tuple[Callable[[str], StoreSettings], frozenset[IdKind], int]] = {
    "memory": (lambda folder: MemorySettings(name=folder), frozenset(IdKind), 60),
    "chroma_folder": (lambda folder: ChromaSettings(path=folder), frozenset({IdKind.STRING}), 6),
    "qdrant_folder": (lambda folder: QdrantSettings(path=folder), NUMBERS_AND_UUIDS, 6),
    "qdrant_edge": (lambda folder: QdrantEdgeSettings(path=folder), NUMBERS_AND_UUIDS, 10),
    "milvus_lite_file": (lambda folder: MilvusSettings(path=folder), frozenset({IdKind.STRING}), 6),
}


@pytest.mark.parametrize("form", FORMS)
def test_random_operations_give_what_a_dict_gives(form: str, scale: float) -> None:
    """Any sequence of writes, deletes, reads, drops and reopenings leaves what a dict would hold."""
    make, id_kinds, example_count = FORMS[form]
    with tempfile.TemporaryDirectory(prefix="machine-") as folder:
        settings = make(str(Path(folder) / "store"))
        run_state_machine_as_test(
            machine_of(settings, id_kinds),
            settings=hypothesis.settings(
                max_examples=max(1, round(example_count * scale)),
                stateful_step_count=12,
                suppress_health_check=list(hypothesis.HealthCheck),
            ),
        )
    forget_space(str(Path(folder) / "store"))


def test_the_machine_sees_a_store_that_loses_a_key() -> None:
    """The machine fails on a store that merges payloads instead of replacing them."""

    class Merging(type(MemorySettings().open())):  # type: ignore[misc]
        def write(self, collection: str, batch: RecordBatch) -> None:
            old = self.fetch(collection, batch.ids)
            kept = dict(zip(old.ids, old.payloads, strict=True))
            payloads = [{**kept.get(i, {}), **payload} for i, payload in zip(batch.ids, batch.payloads, strict=True)]
            super().write(collection, batch.with_columns(payloads=payloads))

    class MergingSettings(MemorySettings):
        def open(self, *, create: bool = False) -> VectorStore:
            return Merging(self, super().open()._space)

    machine = machine_of(MergingSettings(name="merging"), frozenset({IdKind.STRING}))
    quickly = hypothesis.settings(max_examples=200, phases=[hypothesis.Phase.generate])  # shrinking takes minutes
    with pytest.raises(AssertionError, match="payloads or documents differ"):
        run_state_machine_as_test(machine, settings=quickly)
    forget_space("merging")


def test_a_batch_of_the_machine_fits_its_collection() -> None:
    """The random batches have the collection's dimension and columns of equal length."""
    store = MemorySettings(name="batches").open()
    spec = CollectionSpec("c", (samples.vector_spec(store.capabilities, dimension=3),), frozenset({IdKind.STRING}))

    @hypothesis.given(batches(spec, store.capabilities))
    @hypothesis.settings(max_examples=20)
    def check(batch: RecordBatch) -> None:
        column = batch.vectors[DEFAULT_VECTOR]
        assert isinstance(column, DenseColumn)
        assert column.values.shape == (len(batch), 3)
        assert len(set(batch.ids)) == len(batch)

    check()
    forget_space("batches")
