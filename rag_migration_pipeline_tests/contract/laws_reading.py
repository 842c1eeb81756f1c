"""Laws of reading: whatever way a collection is read, each record comes once and as it was written.

The records were written by the back door, so that a reader's mistake cannot hide behind a writer's.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from rag_migration_pipeline.digests import digest_contents
from rag_migration_pipeline.records import CollectionSpec, DenseColumn, RecordBatch, RecordId
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.comparison import assert_same_records
from rag_migration_pipeline_tests.contract.doors import Door
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.support import all_ids, joined, ranges_of, run_in_threads, scanned, whole

PAGE_COUNTS = (1, 2, 7, 1_000)


def digests(batches: Sequence[RecordBatch]) -> list[tuple[RecordId, bytes]]:
    """Return each record's id and the digest of its payload, document and partition."""
    return [pair for batch in batches for pair in zip(batch.ids, digest_contents(batch), strict=True)]


class ReadingLaws(StoreForm):
    """What is in a store is what a reader gets."""

    def test_a_scan_reads_what_was_written_round_the_store(
        self, store: VectorStore, filled: CollectionSpec, sample: RecordBatch, capabilities: Capabilities
    ) -> None:
        """A scan reads every record as the vendor's client wrote it."""
        assert_same_records(sample, scanned(store, filled), filled, capabilities)

    def test_a_fetch_reads_what_was_written_round_the_store(
        self, store: VectorStore, filled: CollectionSpec, sample: RecordBatch, capabilities: Capabilities
    ) -> None:
        """A fetch reads every record as the vendor's client wrote it."""
        assert_same_records(sample, store.fetch(filled.name, sample.ids), filled, capabilities)

    @pytest.mark.parametrize("page_count", PAGE_COUNTS)
    def test_ids_are_listed_once_at_any_page_size(
        self, store: VectorStore, filled: CollectionSpec, sample: RecordBatch, page_count: int
    ) -> None:
        """Pages of ids are never larger than asked for, and together they list each id once, in one order."""
        pages = list(store.iter_ids(filled.name, page_count))
        ids = [record_id for page in pages for record_id in page]
        assert [len(page) for page in pages if len(page) > page_count] == []
        assert sorted(map(repr, ids)) == sorted(map(repr, sample.ids))
        assert ids == all_ids(store, filled.name)

    @pytest.mark.parametrize("key", ["title", "number", "whole_float", "is_public", "score", "no.such[0]key", ""])
    def test_one_payload_value_is_listed_with_each_id(
        self, store: VectorStore, filled: CollectionSpec, sample: RecordBatch, key: str
    ) -> None:
        """Listing one payload value gives the ids as `iter_ids` does, each with its value and its type, or None."""
        pages = list(store.iter_field(filled.name, key))
        assert [len(ids) for ids, _ in pages] == [len(values) for _, values in pages]
        ids = [record_id for page, _ in pages for record_id in page]
        values = [value for _, page in pages for value in page]
        assert ids == all_ids(store, filled.name)
        expected = dict(zip(map(repr, sample.ids), (payload.get(key) for payload in sample.payloads), strict=True))
        assert [repr(value) for value in values] == [repr(expected[repr(record_id)]) for record_id in ids]

    @pytest.mark.parametrize("page_count", PAGE_COUNTS)
    def test_contents_are_read_as_with_vectors_and_come_without_them(
        self, store: VectorStore, filled: CollectionSpec, page_count: int
    ) -> None:
        """Reading contents gives a range as reading it with vectors does, digest for digest, and no vectors."""
        for part in ranges_of(all_ids(store, filled.name), 9):
            whole_batches = list(store.read_range(filled.name, part, page_count))
            batches = list(store.read_contents(filled.name, part, page_count))
            assert [len(batch) for batch in batches if len(batch) > page_count] == []
            assert [dict(batch.vectors) for batch in batches if batch.vectors] == []
            assert digests(batches) == digests(whole_batches)
            assert [record_id for record_id, _ in digests(batches)] == list(part.ids)

    def test_contents_of_ids_are_fetched_in_the_order_asked_and_without_vectors(
        self, store: VectorStore, filled: CollectionSpec
    ) -> None:
        """Fetching contents gives what fetching records gives, digest for digest, and no vectors."""
        ids = [*reversed(all_ids(store, filled.name)), *samples.sample_ids(1, filled.id_kinds, start=7_000)]
        found = store.fetch_contents(filled.name, ids)
        assert found.vectors == {}
        assert digests([found]) == digests([store.fetch(filled.name, ids)])
        assert list(found.ids) == ids[:-1]
        assert len(store.fetch_contents(filled.name, [])) == 0

    @pytest.mark.parametrize("page_count", PAGE_COUNTS)
    def test_any_split_into_ranges_gives_each_record_once(
        self,
        store: VectorStore,
        filled: CollectionSpec,
        sample: RecordBatch,
        capabilities: Capabilities,
        page_count: int,
    ) -> None:
        """Ranges of any size, read in pages of any size, give each record once and in the order of the ids."""
        ids = all_ids(store, filled.name)
        for size in {1: (len(ids),), 2: (9,), 7: (1, 9), 1_000: (len(ids), 22)}[page_count]:
            read = []
            for part in ranges_of(ids, size):
                batches = list(store.read_range(filled.name, part, page_count))
                assert [len(batch) for batch in batches if len(batch) > page_count] == []
                assert [record_id for batch in batches for record_id in batch.ids] == list(part.ids)
                read += batches
            assert_same_records(sample, joined(iter(read), filled), filled, capabilities)

    def test_a_range_without_stop_reads_to_the_end(self, store: VectorStore, filled: CollectionSpec) -> None:
        """The last range has no stop and reads to the last record; one before it ends before its stop."""
        ids = all_ids(store, filled.name)
        parts = ranges_of(ids, 15)
        assert parts[-1].stop is None
        last = [record_id for batch in store.read_range(filled.name, parts[-1], 4) for record_id in batch.ids]
        assert last == ids[15:]

    def test_ranges_can_be_read_in_any_order_and_again(self, store: VectorStore, filled: CollectionSpec) -> None:
        """A range reads the same whether it is read first, last or twice."""
        ids = all_ids(store, filled.name)
        parts = ranges_of(ids, 8)
        for part in (*reversed(parts), parts[1], parts[1]):
            read = [record_id for batch in store.read_range(filled.name, part, 3) for record_id in batch.ids]
            assert read == list(part.ids)

    def test_count_equals_the_scan(self, store: VectorStore, filled: CollectionSpec, sample: RecordBatch) -> None:
        """The count, the description's count and the number of scanned records are the same."""
        assert store.count(filled.name) == len(sample)
        assert store.describe(filled.name).count == len(sample)
        assert sum(len(batch) for batch in store.scan(filled.name, 5)) == len(sample)

    def test_fetch_keeps_the_order_and_leaves_out_the_missing(
        self, store: VectorStore, filled: CollectionSpec, sample: RecordBatch, capabilities: Capabilities
    ) -> None:
        """A fetch answers in the order asked and leaves out ids that do not exist."""
        missing = samples.sample_ids(3, filled.id_kinds, start=5_000)
        rows = [17, 3, 22, 0, 8]
        asked = [missing[0], *(sample.ids[row] for row in rows), *missing[1:]]
        found = store.fetch(filled.name, asked)
        assert list(found.ids) == [sample.ids[row] for row in rows]
        assert_same_records(sample.take(rows), found, filled, capabilities)

    def test_fetch_answers_once_for_each_time_asked(
        self, store: VectorStore, filled: CollectionSpec, sample: RecordBatch
    ) -> None:
        """An id that is asked for twice is answered twice, at its places."""
        first, second = sample.ids[2], sample.ids[1]
        assert list(store.fetch(filled.name, [first, second, first]).ids) == [first, second, first]

    def test_pages_of_ids_are_fetched_in_turn(
        self, store: VectorStore, filled: CollectionSpec, sample: RecordBatch, capabilities: Capabilities
    ) -> None:
        """Page after page of ids is answered as `fetch` answers it, with nothing for a page of missing ids."""
        missing = samples.sample_ids(2, filled.id_kinds, start=6_000)
        pages = [
            sample.ids[5:9],
            missing,
            [sample.ids[20], missing[0], sample.ids[0]],
            *([i] for i in sample.ids[10:14]),
        ]
        found = list(store.fetch_pages(filled.name, iter(pages)))
        assert [list(batch.ids) for batch in found] == [[i for i in page if i not in missing] for page in pages]
        rows = [*range(5, 9), 20, 0, *range(10, 14)]
        assert_same_records(sample.take(rows), joined(iter(found), filled), filled, capabilities)

    def test_pages_see_writes_made_before_their_ids_were_given(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """A page that is asked for after a write through the same store sees that write."""
        records = samples.ordinary(12, scratch, capabilities)

        def written_pages() -> Iterator[Sequence[RecordId]]:
            for start in range(0, 12, 3):
                store.upsert(scratch.name, records.slice(start, start + 3))
                yield records.ids[start : start + 3]

        found = list(store.fetch_pages(scratch.name, written_pages()))
        assert [len(batch) for batch in found] == [3, 3, 3, 3]
        assert_same_records(records, joined(iter(found), scratch), scratch, capabilities)

    def test_reads_since_a_moment_see_what_was_written_before_it(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities, door: Door
    ) -> None:
        """Whoever begins to read sees what the store itself writes, and what others wrote until it began again."""
        records = samples.ordinary(12, scratch, capabilities)
        store.begin_reading()
        assert store.count(scratch.name) == 0
        store.upsert(scratch.name, records.slice(0, 5))
        assert store.count(scratch.name) == 5
        door.raw_write(scratch.name, records.slice(5, 12))
        store.begin_reading()
        assert store.count(scratch.name) == 12
        assert_same_records(records, store.fetch(scratch.name, records.ids), scratch, capabilities)
        assert_same_records(records, scanned(store, scratch), scratch, capabilities)

    def test_fetch_of_nothing_or_of_missing_ids_is_empty(self, store: VectorStore, filled: CollectionSpec) -> None:
        """No ids, or only ids that do not exist, give a batch of no records."""
        assert len(store.fetch(filled.name, [])) == 0
        assert len(store.fetch(filled.name, samples.sample_ids(2, filled.id_kinds, start=7_000))) == 0

    def test_fetch_keeps_ids_of_other_kinds_apart(
        self, store: VectorStore, filled: CollectionSpec, sample: RecordBatch
    ) -> None:
        """A fetch by an id of a kind that the collection does not hold finds nothing: "7" is not 7."""
        others = [str(record_id) for record_id in sample.ids if not isinstance(record_id, str)]
        others += [int(text) for text in ("1", "2") if all(isinstance(record_id, str) for record_id in sample.ids)]
        assert others
        assert list(store.fetch(filled.name, others).ids) == []

    def test_read_vectors_are_contiguous_arrays_of_the_declared_type(
        self, store: VectorStore, filled: CollectionSpec
    ) -> None:
        """Dense vectors come as one C-contiguous float32 array of shape (records, dimension), however they are read."""
        ids = all_ids(store, filled.name)
        batches = [*store.scan(filled.name, 6), *store.read_range(filled.name, whole(ids), 4)]
        for batch in (*batches, store.fetch(filled.name, ids[:3])):
            for vector in filled.vectors:
                column = batch.vectors[vector.name]
                assert isinstance(column, DenseColumn)
                assert column.values.shape == (len(batch), vector.dimension)
                assert column.values.dtype == np.float32
                assert column.values.flags.c_contiguous

    def test_what_is_read_belongs_to_the_reader(
        self, store: VectorStore, filled: CollectionSpec, sample: RecordBatch, capabilities: Capabilities
    ) -> None:
        """Changing a batch that was read changes nothing in the store."""
        batch = store.fetch(filled.name, sample.ids)
        for payload in batch.payloads:
            payload["title"] = "changed"
        values = batch.dense().values
        if values.flags.writeable:
            values[:] = 0
        assert_same_records(sample, store.fetch(filled.name, sample.ids), filled, capabilities)

    def test_collections_are_listed(self, store: VectorStore, filled: CollectionSpec, door: Door) -> None:
        """The list of collections is sorted and complete, and `exists` agrees with it."""
        names = store.list_collections()
        assert names == sorted(names)
        assert set(names) == set(door.raw_collections())
        assert filled.name in names
        assert store.exists(filled.name)
        assert not store.exists(filled.name + "x")

    def test_an_empty_collection_reads_as_empty(self, store: VectorStore, scratch: CollectionSpec) -> None:
        """A collection without records has no ids, no batches and the count 0."""
        assert all_ids(store, scratch.name) == []
        assert list(store.scan(scratch.name)) == []
        assert store.count(scratch.name) == 0
        assert len(store.fetch(scratch.name, samples.sample_ids(2, scratch.id_kinds))) == 0

    def test_reading_survives_changes_made_meanwhile(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Records deleted or added between listing and reading make no other record vanish or come twice."""
        records = samples.ordinary(24, scratch, capabilities)
        later = samples.ordinary(12, scratch, capabilities, start=24)
        store.upsert(scratch.name, records)
        ids = all_ids(store, scratch.name)
        pages = store.read_range(scratch.name, whole(ids), 4)
        read = list(next(pages).ids)
        gone = [ids[0], ids[4], ids[5], ids[6], ids[7], ids[15], ids[23]]
        store.delete(scratch.name, gone)
        store.upsert(scratch.name, later)
        read += [record_id for batch in pages for record_id in batch.ids]
        assert len(read) == len(set(read))
        listed = [record_id for record_id in read if record_id in set(ids)]
        assert [record_id for record_id in listed if record_id not in gone] == [i for i in ids if i not in gone]

    def test_ranges_survive_the_loss_of_their_first_record(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Ranges whose start or stop was deleted after they were cut still give each remaining record once."""
        store.upsert(scratch.name, samples.ordinary(20, scratch, capabilities))
        ids = all_ids(store, scratch.name)
        parts = ranges_of(ids, 5)
        gone = [ids[0], ids[5], ids[6], ids[14], ids[15]]
        store.delete(scratch.name, gone)
        read = [i for part in parts for batch in store.read_range(scratch.name, part, 2) for i in batch.ids]
        assert read == [record_id for record_id in ids if record_id not in gone]

    def test_a_range_of_deleted_records_reads_as_empty(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """A range whose records are all gone gives no records, and no error."""
        store.upsert(scratch.name, samples.ordinary(9, scratch, capabilities))
        ids = all_ids(store, scratch.name)
        store.delete(scratch.name, ids[3:6])
        middle = ranges_of(ids, 3)[1]
        assert sum(len(batch) for batch in store.read_range(scratch.name, middle, 2)) == 0

    def test_several_readers_read_the_same(
        self,
        store: VectorStore,
        filled: CollectionSpec,
        sample: RecordBatch,
        capabilities: Capabilities,
    ) -> None:
        """As many readers at a time as the store declares, in threads of their own, read every range exactly."""
        parts = ranges_of(all_ids(store, filled.name), 4)
        read = run_in_threads(
            capabilities.concurrent_readers,
            [lambda part=part: list(store.read_range(filled.name, part, 3)) for part in parts],
        )
        batches = [batch for result in read for batch in result]
        assert_same_records(sample, joined(iter(batches), filled), filled, capabilities)
