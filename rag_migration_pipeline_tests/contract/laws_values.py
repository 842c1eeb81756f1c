"""Laws of awkward values: each is kept exactly or refused by name; nothing is changed or dropped in silence."""

import copy
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.payloads import has_typed
from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, RecordBatch
from rag_migration_pipeline.stores.base import VectorStore, WriteResult
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.comparison import assert_same_records
from rag_migration_pipeline_tests.contract.doors import Door
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.support import all_ids, scanned

_FITTING = {"string": "naïve", "int": 2**53 + 1, "float": 1.0, "bool": True, "json": {"a": [1]}, "array": ["a", "b"]}
"""Type of a typed field -> a value of it."""


class ValueLaws(StoreForm):
    """Kept + rejected = given."""

    def test_awkward_payload_values_are_kept_or_rejected(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Every JSON-like value is read back with its type and value, or its record is rejected with a reason."""
        payloads = [{"keep": number, "value": value} for number, value in enumerate(samples.AWKWARD_VALUES)]
        kept = self._check_split(store, door, scratch, capabilities, payloads=payloads)
        for payload in kept.payloads:
            assert capabilities.payload.refusal("value", payload["value"]) is None

    def test_values_that_json_does_not_have_are_kept_or_rejected(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Bytes, tuples, dates, NumPy scalars and their like come back as they were where declared, else rejected."""
        payloads = [{"value": value} for value in (1, *samples.ALIEN_VALUES)]
        kept = self._check_split(store, door, scratch, capabilities, payloads=payloads)
        assert (len(kept) > 1) is capabilities.payload.has_typed
        assert all(has_typed(payload["value"]) for payload in kept.payloads[1:])

    def test_awkward_payload_keys_are_kept_or_rejected(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Every key is read back, or its record is rejected with a reason."""
        payloads = [{"keep": number, key: number} for number, key in enumerate(samples.AWKWARD_KEYS)]
        self._check_split(store, door, scratch, capabilities, payloads=payloads)

    def test_a_payload_of_many_keys_is_kept(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """A payload of 500 keys, of all ordinary types, is kept in full."""
        kinds = (str, int, float, bool)
        payload = {f"key_{number}": kinds[number % 4](number) for number in range(500)}
        records = samples.batch_of(samples.sample_ids(2, scratch.id_kinds), scratch, payloads=[payload, {}])
        assert store.upsert(scratch.name, records) == WriteResult(2)
        assert_same_records(records, door.raw_read(scratch.name), scratch, capabilities)

    def test_records_that_disagree_about_a_key_are_kept_apart(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """The same key may have another type in every record of a batch."""
        values: list[Any] = ["1", 1, 1.0, True, "true", "", 0, 0.0, False, -1]
        payloads = [{"value": value} for value in values] + [{}]
        records = samples.batch_of(samples.sample_ids(len(payloads), scratch.id_kinds), scratch, payloads=payloads)
        assert store.upsert(scratch.name, records) == WriteResult(len(payloads))
        assert_same_records(records, door.raw_read(scratch.name), scratch, capabilities)
        assert_same_records(records, scanned(store, scratch), scratch, capabilities)

    def test_typed_fields_keep_their_values_or_reject_them(
        self, store: VectorStore, door: Door, capabilities: Capabilities, empty_collection: Any
    ) -> None:
        """Values of a typed field are kept as they are; missing, null and other types are kept or rejected."""
        spec = empty_collection(fields=self.typed_fields, metadata=self.collection_metadata)
        fitting = [{field.name: _FITTING[field.type] for field in spec.fields} | {"free": number} for number in (1, 2)]
        result = store.upsert(spec.name, samples.batch_of(samples.sample_ids(2, spec.id_kinds), spec, payloads=fitting))
        assert result == WriteResult(2)
        store.delete(spec.name, samples.sample_ids(2, spec.id_kinds))
        others = [
            {**fitting[0], field.name: value}
            for field in spec.fields
            for value in (None, "x" * 300, "", 1, 1.0, True, [])
        ]
        missing = [{key: value for key, value in fitting[0].items() if key != field.name} for field in spec.fields]
        kept = self._check_split(store, door, spec, capabilities, payloads=[*fitting, *others, *missing])
        assert [payload for payload in kept.payloads if payload in fitting][:2] == fitting

    def test_awkward_documents_are_kept_or_rejected(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Every text is read back to the last character, or its record is rejected; missing is not empty."""
        documents = [None, *(value for value in samples.AWKWARD_VALUES if type(value) is str), "z" * 2_000_000]
        kept = self._check_split(store, door, scratch, capabilities, documents=documents)
        assert len(kept) >= (2 if capabilities.has_documents else 1)

    def test_ids_of_the_wrong_type_or_kind_are_rejected(
        self, store: VectorStore, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Ids that no store holds, and kinds that this collection does not hold, are rejected one by one."""
        good = samples.sample_ids(2, scratch.id_kinds, start=100)
        others = [samples.sample_id(3, kind) for kind in IdKind if not self._holds(scratch, kind)]
        bad = [*samples.ALIEN_IDS, *others]
        records = samples.batch_of([good[0], *bad, good[1]], scratch)
        result = store.upsert(scratch.name, records)
        assert [repr(rejection.record_id) for rejection in result.rejections] == [repr(item) for item in bad]
        assert all(rejection.reason and rejection.stage for rejection in result.rejections)
        assert result.written == 2
        assert sorted(all_ids(store, scratch.name), key=repr) == sorted(good, key=repr)

    def test_hostile_string_ids_stay_themselves(
        self, store: VectorStore, door: Door, capabilities: Capabilities, string_scratch: CollectionSpec
    ) -> None:
        """Ids with quotes, escapes, wildcards, odd spaces and look-alikes are read, fetched and deleted singly."""
        ids = list(samples.HOSTILE_STRING_IDS)
        if IdKind.STRING not in capabilities.id_kinds:
            result = store.upsert(string_scratch.name, samples.batch_of(ids, string_scratch))
            assert [rejection.record_id for rejection in result.rejections] == ids
            return
        self._check_ids(store, door, string_scratch, capabilities, ids)

    @pytest.mark.parametrize("edge", samples.EDGE_INTEGER_IDS)
    def test_integer_ids_at_the_edges_stay_themselves(
        self, store: VectorStore, door: Door, capabilities: Capabilities, integer_scratch: CollectionSpec, edge: str
    ) -> None:
        """Integer ids that the collection's id kinds have are kept to the last bit, and the others are rejected."""
        ids = list(samples.EDGE_INTEGER_IDS[edge])
        kinds = integer_scratch.id_kinds
        held = [
            number
            for number in ids
            if (IdKind.INT64 in kinds and -(2**63) <= number < 2**63) or (IdKind.UINT64 in kinds and number >= 0)
        ]
        result = store.upsert(integer_scratch.name, samples.batch_of(ids, integer_scratch))
        assert [rejection.record_id for rejection in result.rejections] == [i for i in ids if i not in held]
        store.delete(integer_scratch.name, held or ids)
        if held:
            self._check_ids(store, door, integer_scratch, capabilities, held)

    def test_an_id_that_comes_twice_is_written_once(
        self, store: VectorStore, door: Door, scratch: CollectionSpec, capabilities: Capabilities
    ) -> None:
        """Of several records with one id in one batch the first is written and the others are rejected."""
        ids = samples.sample_ids(5, scratch.id_kinds)
        records = samples.batch_of([*ids, ids[1], ids[1]], scratch)
        result = store.upsert(scratch.name, records)
        assert result.written == 5
        assert [rejection.record_id for rejection in result.rejections] == [ids[1], ids[1]]
        assert_same_records(records.slice(0, 5), door.raw_read(scratch.name), scratch, capabilities)

    @pytest.mark.parametrize(("label", "value"), samples.NUMERIC_EXTREMES, ids=[x[0] for x in samples.NUMERIC_EXTREMES])
    def test_extreme_vectors_are_kept_or_rejected(
        self,
        store: VectorStore,
        door: Door,
        scratch: CollectionSpec,
        capabilities: Capabilities,
        label: str,
        value: float,
    ) -> None:
        """Zero, tiny, huge, NaN and infinite components are kept within the tolerance, or the record is rejected."""
        values = np.zeros((3, samples.DIMENSION), dtype=np.float32)
        values[0] = 1.0
        values[1, ::2] = value
        values[2] = -1.0
        ids = samples.sample_ids(3, scratch.id_kinds)
        records = samples.batch_of(ids, scratch, values=values)
        result = store.upsert(scratch.name, records)
        rejected = [rejection.record_id for rejection in result.rejections]
        assert rejected in ([], [ids[1]])
        assert not (value == 0.0 and rejected), "zero is an ordinary number"
        kept = records.take([row for row in range(3) if ids[row] not in rejected])
        assert_same_records(kept, door.raw_read(scratch.name), scratch, capabilities)
        assert_same_records(kept, scanned(store, scratch), scratch, capabilities)

    @pytest.mark.parametrize("metric", list(Metric))
    def test_vectors_of_every_metric_are_kept(
        self, store: VectorStore, door: Door, capabilities: Capabilities, empty_collection: Any, metric: Metric
    ) -> None:
        """Vectors are kept as given under every metric that the store has, or as directions where it says so."""
        if metric not in capabilities.metrics:
            return  # the refusal has a law of its own: test_every_metric_is_described_or_refused
        spec = empty_collection(vectors=(samples.vector_spec(capabilities, metric, dimension=5),))
        records = samples.ordinary(7, spec, capabilities)
        store.upsert(spec.name, records)
        assert_same_records(records, door.raw_read(spec.name), spec, capabilities)
        assert_same_records(records, store.fetch(spec.name, records.ids), spec, capabilities)

    # -- how ----------------------------------------------------------------------------------------------------

    @pytest.fixture
    def string_scratch(self, capabilities: Capabilities, empty_collection: Any) -> CollectionSpec:
        """An empty collection with string ids, or an ordinary one where the store has none."""
        return self._scratch_for(IdKind.STRING, capabilities, empty_collection)

    @pytest.fixture
    def integer_scratch(self, capabilities: Capabilities, empty_collection: Any) -> CollectionSpec:
        """An empty collection with integer ids, or an ordinary one where the store has none."""
        kind = IdKind.INT64 if IdKind.INT64 in capabilities.id_kinds else IdKind.UINT64
        return self._scratch_for(kind, capabilities, empty_collection)

    def _scratch_for(self, kind: IdKind, capabilities: Capabilities, empty_collection: Any) -> CollectionSpec:
        sets = [kinds for kinds in self.id_kind_sets if kind in kinds]
        assert bool(sets) == (kind in capabilities.id_kinds)
        made: CollectionSpec = empty_collection(id_kinds=sets[0]) if sets else empty_collection()
        return made

    @staticmethod
    def _holds(spec: CollectionSpec, kind: IdKind) -> bool:
        is_number_held = kind is IdKind.UINT64 and IdKind.INT64 in spec.id_kinds
        return kind in spec.id_kinds or is_number_held or (kind is IdKind.INT64 and IdKind.UINT64 in spec.id_kinds)

    @staticmethod
    def _check_split(
        store: VectorStore, door: Door, spec: CollectionSpec, capabilities: Capabilities, **columns: Any
    ) -> RecordBatch:
        """Write one record per item and check that it is held exactly or rejected; return those that are held."""
        count = len(next(iter(columns.values())))
        given = samples.batch_of(samples.sample_ids(count, spec.id_kinds), spec, **columns)
        before = copy.deepcopy(given)
        result = store.upsert(spec.name, given)
        rejected = {rejection.record_id for rejection in result.rejections}
        assert result.written + len(result.rejections) == count
        assert len(rejected) == len(result.rejections)
        assert rejected <= set(given.ids)
        assert all(rejection.reason and rejection.stage for rejection in result.rejections)
        kept = before.take(row for row in range(count) if given.ids[row] not in rejected)
        assert result.written == len(kept)
        assert_same_records(kept, door.raw_read(spec.name), spec, capabilities)
        assert_same_records(kept, scanned(store, spec), spec, capabilities)
        return kept

    @staticmethod
    def _check_ids(
        store: VectorStore, door: Door, spec: CollectionSpec, capabilities: Capabilities, ids: list[Any]
    ) -> None:
        """Write, read, fetch each, delete every second one singly, and read again."""
        limit = capabilities.max_id_length_bytes
        records = samples.batch_of(ids, spec)
        result = store.upsert(spec.name, records)
        rejected = [rejection.record_id for rejection in result.rejections]
        assert all(limit is not None and len(record_id.encode()) > limit for record_id in rejected)
        kept = records.take(row for row, record_id in enumerate(ids) if record_id not in rejected)
        assert_same_records(kept, door.raw_read(spec.name), spec, capabilities)
        assert_same_records(kept, scanned(store, spec, 3), spec, capabilities)
        for record_id in kept.ids[:: max(1, len(kept) // 12)]:
            assert list(store.fetch(spec.name, [record_id]).ids) == [record_id]
        assert list(store.fetch(spec.name, list(reversed(kept.ids))).ids) == list(reversed(kept.ids))
        for record_id in kept.ids[::8]:
            store.delete(spec.name, [record_id])
        store.delete(spec.name, [record_id for row, record_id in enumerate(kept.ids) if row % 8 and row % 2 == 0])
        left = kept.take(row for row in range(len(kept)) if row % 2)
        assert_same_records(left, scanned(store, spec), spec, capabilities, is_empty_expected=len(kept) == 1)
