"""The laws see broken stores: for each defect that a store could have there is a law that fails on it."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.records import (
    CollectionInfo,
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    MultiColumn,
    RecordBatch,
    RecordId,
    RecordRange,
    SparseColumn,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.stores import memory
from rag_migration_pipeline.stores.base import WriteResult
from rag_migration_pipeline.stores.memory import MemorySettings, MemoryStore, forget_space
from rag_migration_pipeline.stores.readiness import Readiness
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.doors_memory import MemoryDoor
from rag_migration_pipeline_tests.contract.laws import Laws


class _Form(Laws):
    label = "memory"
    id_kind_sets = (frozenset(IdKind),)


class ForgetsOrder(MemoryStore):
    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        return super().fetch(collection, sorted(ids, key=memory.order_key))


class MergesPayloads(MemoryStore):
    def write(self, collection: str, batch: RecordBatch) -> None:
        old = {i: p for scanned in self.scan(collection) for i, p in zip(scanned.ids, scanned.payloads, strict=True)}
        merged = [{**old.get(i, {}), **p} for i, p in zip(batch.ids, batch.payloads, strict=True)]
        super().write(collection, batch.with_columns(payloads=merged))


class LosesTheLast(MemoryStore):
    def write(self, collection: str, batch: RecordBatch) -> None:
        super().write(collection, batch.slice(0, len(batch) - 1))


class MovesVectors(MemoryStore):
    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        batch = super().fetch(collection, ids)
        moved = DenseColumn(np.nextafter(batch.dense().values, np.float32(9)))
        return batch.with_columns(vectors={"": moved})


class SwapsVectors(MemoryStore):
    def write(self, collection: str, batch: RecordBatch) -> None:
        reversed_values = np.ascontiguousarray(batch.dense().values[::-1])
        super().write(collection, batch.with_columns(vectors={"": DenseColumn(reversed_values)}))


class MakesFloats(MemoryStore):
    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        batch = super().fetch(collection, ids)
        floats = [{k: float(v) if type(v) is int else v for k, v in payload.items()} for payload in batch.payloads]
        return batch.with_columns(payloads=floats)


class DropsEmptyTexts(MemoryStore):
    def write(self, collection: str, batch: RecordBatch) -> None:
        super().write(collection, batch.with_columns(documents=[text or None for text in batch.documents or []]))


class CountsTheDeleted(MemoryStore):
    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        self.deleted = getattr(self, "deleted", 0) + len(ids)
        super().delete(collection, ids)

    def count(self, collection: str) -> int:
        return super().count(collection) + getattr(self, "deleted", 0)


class PagesByOffset(MemoryStore):
    def read_range(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        offset = record_range.offset
        while offset < record_range.offset + record_range.count:
            page = self._sorted_ids(collection)[offset : offset + page_count]
            offset += page_count
            yield self.fetch(collection, page)


class IncludesTheStop(MemoryStore):
    def read_range(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        yield from super().read_range(collection, record_range, page_count)
        if record_range.stop is not None:
            yield self.fetch(collection, [record_range.stop])


class ListsTwice(MemoryStore):
    def iter_ids(self, collection: str, page_count: int = 10_000) -> Iterator[list[RecordId]]:
        for page in super().iter_ids(collection, page_count):
            yield [*page[:-1], page[-1], page[-1]][:page_count] if len(page) > 1 else page


class InsistsOnDeleting(MemoryStore):
    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        for record_id in ids:
            del self._collection(collection).records[record_id]


class NormalisesItsInput(MemoryStore):
    def write(self, collection: str, batch: RecordBatch) -> None:
        values = batch.dense().values
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        super().write(collection, batch)


class KeepsTheInput(MemoryStore):
    def write(self, collection: str, batch: RecordBatch) -> None:
        super().write(collection, batch)
        for record_id, payload in zip(batch.ids, batch.payloads, strict=True):
            records = self._collection(collection).records
            records[record_id] = replace(records[record_id], payload=payload)


class LendsItsRecords(MemoryStore):
    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        records = self._collection(collection).records
        return super().fetch(collection, ids).with_columns(payloads=[records[i].payload for i in ids if i in records])


class CreatesOrGets(MemoryStore):
    def create(self, spec: CollectionSpec) -> None:
        if spec.name not in self.list_collections():
            super().create(spec)


class GuessesTheMetric(MemoryStore):
    def describe(self, collection: str) -> CollectionInfo:
        info = super().describe(collection)
        guessed = tuple(replace(vector, metric=Metric.L2) for vector in info.spec.vectors)
        return replace(info, spec=replace(info.spec, vectors=guessed))


class CreatesWhatItIsAskedFor(MemoryStore):
    def describe(self, collection: str) -> CollectionInfo:
        if collection not in self.list_collections():
            self.create(CollectionSpec(collection, (VectorSpec(8, Metric.L2),), frozenset({IdKind.STRING})))
        return super().describe(collection)


class LeaksKeyErrors(MemoryStore):
    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        if collection not in self._space.collections:
            raise KeyError(collection)
        return super().fetch(collection, ids)


class RejectsInSilence(MemoryStore):
    def upsert(self, collection: str, batch: RecordBatch) -> WriteResult:
        return WriteResult(super().upsert(collection, batch).written)


class TurnsNullIntoText(MemoryStore):
    def write(self, collection: str, batch: RecordBatch) -> None:
        texts = [{k: "" if v is None else v for k, v in payload.items()} for payload in batch.payloads]
        super().write(collection, batch.with_columns(payloads=texts))


class FoldsIds(MemoryStore):
    def write(self, collection: str, batch: RecordBatch) -> None:
        folded = [i.strip() or i if isinstance(i, str) else i for i in batch.ids]
        super().write(collection, batch.with_columns(ids=folded))


class FillsMissingVectors(MemoryStore):
    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        batch = super().fetch(collection, ids)
        filled = {n: DenseColumn(c.values) if isinstance(c, DenseColumn) else c for n, c in batch.vectors.items()}
        return batch.with_columns(vectors=filled)


class DropsZeroEntries(MemoryStore):
    def write(self, collection: str, batch: RecordBatch) -> None:
        columns = dict(batch.vectors)
        for name, column in batch.vectors.items():
            if isinstance(column, SparseColumn):
                pairs = [(i[v != 0], v[v != 0]) for i, v in zip(column.indices, column.values, strict=True)]
                columns[name] = SparseColumn(*map(tuple, zip(*pairs, strict=True)))
        super().write(collection, batch.with_columns(vectors=columns))


class SortsMultiVectors(MemoryStore):
    def write(self, collection: str, batch: RecordBatch) -> None:
        columns = dict(batch.vectors)
        for name, column in batch.vectors.items():
            if isinstance(column, MultiColumn):
                columns[name] = MultiColumn(tuple(None if v is None else np.sort(v, axis=0) for v in column.values))
        super().write(collection, batch.with_columns(vectors=columns))


class MergesVectors(MemoryStore):
    def write(self, collection: str, batch: RecordBatch) -> None:
        old = dict(self._collection(collection).records)
        super().write(collection, batch)
        records = self._collection(collection).records
        for record_id in batch.ids:
            vectors = {**getattr(old.get(record_id), "vectors", {}), **records[record_id].vectors}
            records[record_id] = replace(records[record_id], vectors=vectors)


class ForgetsElementTypes(MemoryStore):
    def describe(self, collection: str) -> CollectionInfo:
        info = super().describe(collection)
        plain = tuple(replace(vector, dtype="float32") for vector in info.spec.vectors)
        return replace(info, spec=replace(info.spec, vectors=plain))


class IsNeverReady(MemoryStore):
    def readiness(self, collection: str) -> Readiness:
        return replace(super().readiness(collection), is_ready=False)


class WorksAfterClosing(MemoryStore):
    def close(self) -> None:
        """Stay open."""


DEFECTS: dict[type[MemoryStore], str] = {
    ForgetsOrder: "test_fetch_keeps_the_order_and_leaves_out_the_missing",
    MergesPayloads: "test_an_upsert_replaces_a_record_completely",
    LosesTheLast: "test_what_is_written_can_be_read_round_the_store",
    MovesVectors: "test_a_scan_reads_what_was_written_round_the_store",
    SwapsVectors: "test_what_is_written_can_be_read_round_the_store",
    MakesFloats: "test_a_fetch_reads_what_was_written_round_the_store",
    DropsEmptyTexts: "test_what_is_written_can_be_read_round_the_store",
    CountsTheDeleted: "test_the_count_is_exact_after_changes",
    PagesByOffset: "test_reading_survives_changes_made_meanwhile",
    IncludesTheStop: "test_any_split_into_ranges_gives_each_record_once",
    ListsTwice: "test_ids_are_listed_once_at_any_page_size",
    InsistsOnDeleting: "test_deleting_what_is_missing_is_quiet",
    NormalisesItsInput: "test_inputs_are_not_changed",
    KeepsTheInput: "test_what_was_written_does_not_change_with_the_input",
    LendsItsRecords: "test_what_is_read_belongs_to_the_reader",
    CreatesOrGets: "test_an_existing_collection_is_not_created_again",
    GuessesTheMetric: "test_every_metric_is_described_or_refused",
    CreatesWhatItIsAskedFor: "test_asking_for_what_is_missing_creates_nothing",
    LeaksKeyErrors: "test_a_missing_collection_is_named",
    RejectsInSilence: "test_ids_of_the_wrong_type_or_kind_are_rejected",
    TurnsNullIntoText: "test_awkward_payload_values_are_kept_or_rejected",
    FoldsIds: "test_hostile_string_ids_stay_themselves",
    FillsMissingVectors: "test_records_may_miss_their_vectors_or_are_rejected",
    DropsZeroEntries: "test_odd_vectors_of_every_kind_are_kept_or_rejected[sparse]",
    SortsMultiVectors: "test_several_vectors_by_name_are_kept_or_refused",
    MergesVectors: "test_an_upsert_replaces_all_vectors_of_a_record",
    ForgetsElementTypes: "test_every_kind_of_vector_is_kept_or_refused",
    IsNeverReady: "test_finished_collections_are_ready_and_asking_changes_nothing",
    WorksAfterClosing: "test_a_closed_store_says_so",
}
"""Defect -> the law that sees it."""

PARAMETERS = {
    "page_count": 7,
    "metric": Metric.DOT,
    "operation": "fetch",
    "layout": (VectorKind.DENSE, "float16"),
}
SPARSE_LAYOUT = (VectorKind.SPARSE, "float32")


@dataclass(frozen=True, kw_only=True)
class DefectiveSettings(MemorySettings):
    store_class: type[MemoryStore] = MemoryStore

    def open(self, *, create: bool = False) -> MemoryStore:
        return self.store_class(self, super().open()._space)


def obey(law_name: str, store_class: type[MemoryStore]) -> None:
    """Run one law on a store of that class, with the fixtures that it asks for made by hand."""
    settings = DefectiveSettings(name=f"bite-{store_class.__name__}", store_class=store_class)
    store = settings.open()
    try:
        form: Any = _Form()
        door = MemoryDoor(settings)
        capabilities = store.capabilities
        spec = _Form.spec_of(capabilities)
        sample = samples.ordinary(23, spec, capabilities)
        door.raw_create(spec)
        door.raw_write(spec.name, sample)

        def empty_collection(**changes: Any) -> CollectionSpec:
            made = _Form.spec_of(capabilities, **changes)
            store.create(made)
            return made

        fixtures: dict[str, Callable[[], Any]] = {
            "settings": lambda: settings,
            "store": lambda: store,
            "door": lambda: door,
            "capabilities": lambda: capabilities,
            "filled": lambda: spec,
            "sample": lambda: sample,
            "empty_collection": lambda: empty_collection,
            **dict.fromkeys(("scratch", "string_scratch"), empty_collection),
            "create": lambda: lambda made: [store.create(made), made][1],
            **{name: lambda value=value: value for name, value in PARAMETERS.items()},
        }
        law_name, _, is_sparse = law_name.partition("[")
        if is_sparse:
            fixtures["layout"] = lambda: SPARSE_LAYOUT
        law = getattr(form, law_name)
        law(**{name: fixtures[name]() for name in inspect.signature(law).parameters})
    finally:
        forget_space(settings.name)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_law_sees_the_defect(defect: type[MemoryStore]) -> None:
    law = DEFECTS[defect]
    obey(law, MemoryStore)
    with pytest.raises((AssertionError, KeyError, ValueError, pytest.fail.Exception)):
        obey(law, defect)
