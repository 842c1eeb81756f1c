"""Laws of writing: what is given arrives, completely and once, and replaces what was there.

What was written is read by the back door, so that a writer's mistake cannot hide behind a reader's.
"""

import copy
from collections.abc import Callable

import numpy as np
import pytest

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.records import DEFAULT_VECTOR, CollectionSpec, DenseColumn, RecordBatch
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore, WriteResult
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.stores.wrappers import ReadOnlyStore
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.comparison import assert_same_records
from rag_migration_pipeline_tests.contract.doors import Door
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.support import all_ids, run_in_threads, scanned


class WritingLaws(StoreForm):
    """What is given to a store is what is in it."""

    def test_what_is_written_can_be_read_round_the_store(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """The vendor's client finds every record as it was given."""
        records = samples.ordinary(23, scratch, capabilities)
        assert store.upsert(scratch.name, records) == WriteResult(23)
        assert_same_records(records, door.raw_read(scratch.name), scratch, capabilities)

    def test_what_is_written_is_read_at_once(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Scan, fetch, count and ids see a write as soon as it returned."""
        records = samples.ordinary(11, scratch, capabilities)
        store.upsert(scratch.name, records)
        assert store.count(scratch.name) == 11
        assert_same_records(records, store.fetch(scratch.name, records.ids), scratch, capabilities)
        assert_same_records(records, scanned(store, scratch), scratch, capabilities)

    def test_loading_twice_equals_loading_once(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """The same records written again, wholly or in part, change nothing."""
        records = samples.ordinary(15, scratch, capabilities)
        store.upsert(scratch.name, records)
        store.upsert(scratch.name, records)
        store.upsert(scratch.name, records.slice(3, 9))
        assert store.count(scratch.name) == 15
        assert_same_records(records, door.raw_read(scratch.name), scratch, capabilities)

    def test_an_upsert_replaces_a_record_completely(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Vector, payload and document are replaced: keys and texts that are not given again are gone."""
        first = samples.ordinary(6, scratch, capabilities)
        old = first.with_columns(
            payloads=[{"old": 1, "both": "old", "type": 1}] * 6,
            documents=["old text"] * 6 if capabilities.has_documents else None,
        )
        new = samples.ordinary(6, scratch, capabilities, seed=9).with_columns(
            payloads=[{"new": 2, "both": "new", "type": "1"}, {"type": 1.0}, {"type": True}, {}, {"old": 2}, {"a": ""}],
            documents=["new", None, "", None, "", "x"] if capabilities.has_documents else None,
        )
        assert list(new.ids) == list(old.ids)
        store.upsert(scratch.name, old)
        store.upsert(scratch.name, new)
        assert_same_records(new, door.raw_read(scratch.name), scratch, capabilities)

    def test_a_batch_without_documents_removes_old_ones(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """A record that is written without a document has none afterwards; where there are none, one is refused."""
        records = samples.ordinary(4, scratch, capabilities).with_columns(documents=["a", "b", "", "d"])
        result = store.upsert(scratch.name, records)
        assert (result.written, len(result.rejections)) == ((4, 0) if capabilities.has_documents else (0, 4))
        records = records.with_columns(documents=None)
        store.upsert(scratch.name, records)
        assert_same_records(records, door.raw_read(scratch.name), scratch, capabilities)

    def test_records_written_round_the_store_are_replaced(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """An upsert replaces records that somebody else wrote, and leaves the others alone."""
        theirs = samples.ordinary(8, scratch, capabilities)
        ours = samples.ordinary(4, scratch, capabilities, start=4, seed=5).with_columns(payloads=[{"ours": 1}] * 4)
        door.raw_write(scratch.name, theirs)
        store.upsert(scratch.name, ours)
        expected = concatenate([theirs.slice(0, 4), ours])
        assert_same_records(expected, door.raw_read(scratch.name), scratch, capabilities)

    def test_delete_removes_exactly_the_given_records(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Deleted records are gone for every reader and the others are untouched."""
        records = samples.ordinary(12, scratch, capabilities)
        store.upsert(scratch.name, records)
        store.delete(scratch.name, [records.ids[row] for row in (0, 5, 11)])
        left = records.take([1, 2, 3, 4, 6, 7, 8, 9, 10])
        assert store.count(scratch.name) == 9
        assert_same_records(left, door.raw_read(scratch.name), scratch, capabilities)
        assert_same_records(left, scanned(store, scratch), scratch, capabilities)

    def test_deleting_what_is_missing_is_quiet(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Deleting ids that do not exist, no ids, or an id twice is not an error and removes nothing else."""
        records = samples.ordinary(5, scratch, capabilities)
        store.upsert(scratch.name, records)
        missing = samples.sample_ids(2, scratch.id_kinds, start=9_000)
        store.delete(scratch.name, [])
        store.delete(scratch.name, missing)
        store.delete(scratch.name, [records.ids[0], records.ids[0], *missing])
        store.delete(scratch.name, [records.ids[0]])
        assert store.count(scratch.name) == 4

    def test_a_deleted_record_can_be_written_again(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """An id that was deleted takes a new record, and nothing of the old one comes back."""
        records = samples.ordinary(6, scratch, capabilities)
        store.upsert(scratch.name, records)
        store.delete(scratch.name, records.ids)
        again = samples.ordinary(6, scratch, capabilities, seed=4).with_columns(payloads=[{"again": 1}] * 6)
        store.upsert(scratch.name, again)
        assert store.count(scratch.name) == 6
        assert_same_records(again, door.raw_read(scratch.name), scratch, capabilities)

    def test_a_batch_of_no_records_changes_nothing(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Writing no records is acknowledged as such."""
        records = samples.ordinary(3, scratch, capabilities)
        store.upsert(scratch.name, records)
        assert store.upsert(scratch.name, records.slice(0, 0)) == WriteResult(0)
        assert_same_records(records, scanned(store, scratch), scratch, capabilities)

    def test_inputs_are_not_changed(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """A batch is the same after it was written as before, to the last byte."""
        records = samples.ordinary(9, scratch, capabilities)
        before = copy.deepcopy(records)
        store.upsert(scratch.name, records)
        store.fetch(scratch.name, records.ids)
        store.delete(scratch.name, records.ids)
        assert records.ids == before.ids
        assert repr(records.payloads) == repr(before.payloads)
        assert records.documents == before.documents
        assert records.dense().values.tobytes() == before.dense().values.tobytes()

    def test_what_was_written_does_not_change_with_the_input(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Changing a batch after it was written changes nothing in the store."""
        records = samples.ordinary(3, scratch, capabilities)
        before = copy.deepcopy(records)
        store.upsert(scratch.name, records)
        records.dense().values[:] = 7
        for payload in records.payloads:
            payload["title"] = "changed"
        assert_same_records(before, scanned(store, scratch), scratch, capabilities)

    @pytest.mark.parametrize("layout", ["read_only", "fortran", "strided", "reversed"])
    def test_vectors_arrive_from_any_memory_layout(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities, layout: str
    ) -> None:
        """Read-only (memory-mapped), transposed and sliced arrays arrive like any other."""
        values = samples.vectors(6)
        wide = np.zeros((12, samples.DIMENSION * 2), dtype=np.float32)
        wide[::2, ::2] = values
        layouts = {
            "read_only": np.frombuffer(values.tobytes(), dtype=np.float32).reshape(values.shape),
            "fortran": np.asfortranarray(values),
            "strided": wide[::2, ::2],
            "reversed": np.ascontiguousarray(values[::-1])[::-1],
        }
        records = samples.ordinary(6, scratch, capabilities)
        given = records.with_columns(vectors={DEFAULT_VECTOR: DenseColumn(layouts[layout])})
        store.upsert(scratch.name, given)
        assert_same_records(records, door.raw_read(scratch.name), scratch, capabilities)

    def test_more_records_than_one_request_holds_arrive(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities, scale: float
    ) -> None:
        """A batch above the request limits in count arrives completely, as do its listing, fetch and deletion."""
        count = int(self.bulk_count * scale)
        records = samples.ordinary(count, scratch, capabilities)
        assert store.upsert(scratch.name, records) == WriteResult(count)
        assert store.count(scratch.name) == count
        assert_same_records(records, scanned(store, scratch), scratch, capabilities)
        assert_same_records(records, store.fetch(scratch.name, records.ids), scratch, capabilities)
        assert set(door.raw_read(scratch.name).ids) == set(records.ids)
        store.delete(scratch.name, records.ids[1:])
        assert all_ids(store, scratch.name) == [records.ids[0]]

    def test_more_bytes_than_one_request_holds_arrive(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities, scale: float
    ) -> None:
        """A batch above the request limits in bytes arrives completely and is read back completely."""
        limit = capabilities.payload.max_bytes
        size_bytes = self.bulk_text_bytes if limit is None else min(self.bulk_text_bytes, limit - 2_000)
        count = int(self.bulk_bytes * min(scale, 3)) // size_bytes
        texts = [chr(ord("a") + number % 26) * size_bytes for number in range(count)]
        texts[0] = "small"
        records = samples.ordinary(count, scratch, capabilities)
        if capabilities.has_documents:
            records = records.with_columns(documents=texts)
        else:
            records = records.with_columns(payloads=[{"text": text} for text in texts])
        assert store.upsert(scratch.name, records) == WriteResult(count)
        assert_same_records(records, scanned(store, scratch, count), scratch, capabilities)
        assert_same_records(records, store.fetch(scratch.name, records.ids), scratch, capabilities)

    def test_several_writers_write_the_same(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """As many writers at a time as the store declares, in threads of their own, lose nothing."""
        records = samples.ordinary(96, scratch, capabilities)
        calls: list[Callable[[], WriteResult]] = [
            lambda start=start: store.upsert(scratch.name, records.slice(start, start + 8)) for start in range(0, 96, 8)
        ]
        results = run_in_threads(capabilities.concurrent_writers, calls)
        assert results == [WriteResult(8)] * 12
        assert_same_records(records, door.raw_read(scratch.name), scratch, capabilities)

    def test_two_opened_stores_see_each_others_writes(
        self, settings: StoreSettings, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """What one opened store wrote, a second one in the same process reads at once, and the other way round."""
        records = samples.ordinary(8, scratch, capabilities)
        with settings.open(create=False) as second:
            store.upsert(scratch.name, records.slice(0, 4))
            assert list(second.fetch(scratch.name, records.ids).ids) == list(records.ids[:4])
            second.upsert(scratch.name, records.slice(4, 8))
            assert_same_records(records, scanned(store, scratch), scratch, capabilities)
            second.delete(scratch.name, records.ids[:2])
            assert store.count(scratch.name) == 6
        assert store.count(scratch.name) == 6

    def test_finish_loading_changes_no_record(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Flushing and indexing leaves every record as it was, and may be asked for twice."""
        records = samples.ordinary(10, scratch, capabilities)
        store.upsert(scratch.name, records)
        store.finish_loading(scratch.name)
        store.finish_loading(scratch.name)
        assert_same_records(records, scanned(store, scratch), scratch, capabilities)
        assert_same_records(records, door.raw_read(scratch.name), scratch, capabilities)

    def test_finished_collections_are_ready_and_asking_changes_nothing(
        self, settings: StoreSettings, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """A collection is ready when its load is finished, says of how many records, and a source may ask, too."""
        records = samples.ordinary(10, scratch, capabilities)
        store.readiness(scratch.name)  # also where nothing was written yet
        store.upsert(scratch.name, records)
        store.finish_loading(scratch.name)
        found = store.readiness(scratch.name)
        assert (found.is_ready, found.is_loaded, found.is_stuck) == (True, True, False), found.detail
        assert found.total == 10, found
        assert found.detail
        assert found.indexed is None or 0 <= found.indexed <= 10, found
        with ReadOnlyStore(settings.open()) as source:
            assert source.readiness(scratch.name).is_ready
        assert_same_records(records, scanned(store, scratch), scratch, capabilities)

    def test_ordinary_records_of_every_id_kind_are_held(
        self,
        store: VectorStore,
        door: Door,
        capabilities: Capabilities,
        empty_collection: Callable[..., CollectionSpec],
    ) -> None:
        """Every sort of collection that the store can have holds ordinary records of all its id kinds."""
        assert frozenset().union(*self.id_kind_sets) == capabilities.id_kinds
        for kinds in self.id_kind_sets:
            spec = empty_collection(id_kinds=kinds)
            records: RecordBatch = samples.ordinary(10, spec, capabilities)
            assert store.upsert(spec.name, records) == WriteResult(10)
            assert_same_records(records, door.raw_read(spec.name), spec, capabilities)
            assert_same_records(records, scanned(store, spec), spec, capabilities)
