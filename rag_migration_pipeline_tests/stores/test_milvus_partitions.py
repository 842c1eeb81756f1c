"""Partitions, partition keys, keys that Milvus makes, and a collection's settings, in every form of Milvus."""

from dataclasses import replace
from typing import Any

import pytest

from rag_migration_pipeline import errors
from rag_migration_pipeline.records import FieldSpec, IdKind, RecordBatch, RecordRange
from rag_migration_pipeline.stores.milvus import MilvusStore
from rag_migration_pipeline_tests.stores.milvus_samples import DIMENSION, batch_of, make_collection, spec_of, vendor


def row_of(number: int, **payload: Any) -> dict[str, Any]:
    return {"id": number, "vector": [1, 2, 3, number], **payload}


def places(batches: Any) -> dict[Any, str | None]:
    """Return the partition of each record."""
    found: dict[Any, str | None] = {}
    for batch in batches:
        found.update(zip(batch.ids, batch.partitions or [None] * len(batch), strict=True))
    return found


def vendors_places(client: Any, collection: str) -> dict[str, list[int]]:
    """Return the keys of each partition, as the vendor's client reads them."""
    return {
        name: sorted(
            row["id"]
            for row in client.query(
                collection, filter="id >= 0", limit=999, partition_names=[name], consistency_level="Strong"
            )
        )
        for name in client.list_partitions(collection)
    }


def in_partitions(batch: RecordBatch, *names: str | None) -> RecordBatch:
    return batch.with_columns(partitions=list(names))


@pytest.fixture
def divided(milvus: MilvusStore) -> str:
    """A collection that the vendor's client filled: 0 to 9 in the default partition, 10 to 14 in `old`, 15 in `new`."""
    spec = spec_of(IdKind.INT64)
    milvus.create(spec)
    with vendor(milvus) as client:
        for name, rows in (("", range(10)), ("old", range(10, 15)), ("new", range(15, 16))):
            if name:
                client.create_partition(spec.name, name)
            client.insert(spec.name, [row_of(number) for number in rows], partition_name=name or None)
    milvus._forget(spec.name)
    return spec.name


def test_a_records_partition_is_read(milvus: MilvusStore, divided: str) -> None:
    """Whichever way records are read, with pages of any size; None stands for the default partition."""
    expected = dict.fromkeys(range(10)) | dict.fromkeys(range(10, 15), "old") | {15: "new"}
    assert places(milvus.scan(divided)) == expected
    assert places(milvus.scan(divided, 3)) == expected
    assert places([milvus.fetch(divided, [14, 3, 15])]) == {14: "old", 3: None, 15: "new"}
    part = RecordRange("k", 0, 8, 12, [8, 9, 10, 11], 0)
    assert places(milvus.read_range(divided, part, 2)) == {8: None, 9: None, 10: "old", 11: "old"}
    assert [record_id for page in milvus.iter_ids(divided, 3) for record_id in page] == list(range(16))
    assert milvus.describe(divided).count == 16


def test_records_are_written_into_their_partitions(milvus: MilvusStore) -> None:
    """Partitions come into being when the first record names them; the default one has no name."""
    spec = spec_of(IdKind.INT64, settings={"partitions": ["_default", "there"]})
    milvus.create(spec)
    given = in_partitions(batch_of([1, 2, 3, 4, 5]), "a", None, "b", "a", "there")
    assert milvus.upsert(spec.name, given).written == 5
    with vendor(milvus) as client:
        assert vendors_places(client, spec.name) == {"_default": [2], "there": [5], "a": [1, 4], "b": [3]}
    found = milvus.fetch(spec.name, given.ids)
    assert list(found.partitions or ()) == ["a", None, "b", "a", "there"]
    assert list(found.payloads) == list(given.payloads)


def test_a_record_that_is_written_again_changes_its_partition(milvus: MilvusStore) -> None:
    """There is one record with its id afterwards, where it was written last."""
    spec = spec_of(IdKind.INT64)
    milvus.create(spec)
    milvus.upsert(spec.name, in_partitions(batch_of([1, 2, 3]), "a", "a", None))
    milvus.upsert(spec.name, in_partitions(batch_of([1, 2, 3], seed=1), "b", None, "a"))
    assert places(milvus.scan(spec.name)) == {1: "b", 2: None, 3: "a"}
    assert milvus.count(spec.name) == 3
    milvus.delete(spec.name, [1, 2, 3])
    assert milvus.count(spec.name) == 0


def test_an_id_in_two_partitions_is_listed_twice(milvus: MilvusStore) -> None:
    """So that planning can name it; Lite keeps one record per key."""
    spec = spec_of(IdKind.INT64)
    milvus.create(spec)
    with vendor(milvus) as client:
        client.create_partition(spec.name, "old")
        client.insert(spec.name, [row_of(number, n=number) for number in (1, 2)])
        client.insert(spec.name, [row_of(number, n=10 * number) for number in (2, 3)], partition_name="old")
    milvus._forget(spec.name)
    is_server = milvus.capabilities.hides_zero_vectors  # Lite does not
    ids = [record_id for page in milvus.iter_ids(spec.name) for record_id in page]
    assert ids == ([1, 2, 2, 3] if is_server else [1, 2, 3])
    values = [pair for page, given in milvus.iter_field(spec.name, "n") for pair in zip(page, given, strict=True)]
    assert values == ([(1, 1), (2, 2), (2, 20), (3, 30)] if is_server else [(1, 1), (2, 20), (3, 30)])


class TestPartitionKey:
    SETTINGS = {"partition_key": "tenant"}  # noqa: RUF012 - read only
    FIELDS = (FieldSpec("tenant", "string", max_length_bytes=40),)

    def test_the_key_decides_and_is_described(self, milvus: MilvusStore) -> None:
        """A record whose key changes is there once, with its new key."""
        spec = spec_of(IdKind.INT64, settings=self.SETTINGS, fields=self.FIELDS)
        milvus.create(spec)
        described = milvus.describe(spec.name).spec
        assert described.settings["partition_key"] == "tenant"
        ids = list(range(50))
        milvus.upsert(spec.name, batch_of(list(ids), [{"tenant": f"t{number}"} for number in ids]))
        milvus.upsert(spec.name, batch_of(list(ids), [{"tenant": f"u{number}"} for number in ids]))
        assert milvus.count(spec.name) == 50
        found = milvus.fetch(spec.name, list(ids))
        assert [payload["tenant"] for payload in found.payloads] == [f"u{number}" for number in ids]
        assert found.partitions is None
        with pytest.raises(errors.SchemaCompatibilityError, match="'tenant' decides the partition"):
            milvus.upsert(spec.name, in_partitions(batch_of([1], [{"tenant": "t"}]), "a"))

    def test_a_copy_has_the_same_key_and_as_many_partitions(self, milvus: MilvusStore) -> None:
        """The names of a partition key's partitions are Milvus' own."""
        settings = {**self.SETTINGS, "num_partitions": 3}
        first = spec_of(IdKind.INT64, settings=settings, fields=self.FIELDS)
        milvus.create(first)
        described = milvus.describe(first.name).spec
        if milvus.capabilities.hides_zero_vectors:  # Lite has 16, and one that nothing is in
            assert described.settings["num_partitions"] == 3
        second = replace(described, name=spec_of().name)
        milvus.create(second)
        assert replace(milvus.describe(second.name).spec, name=first.name) == described
        assert described.settings["partitions"] == []

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ((), "no typed field"),
            ((FieldSpec("tenant", "float"),), "neither int64 nor string"),
            ((FieldSpec("tenant", "int", bits=8),), "neither int64 nor string"),
        ],
    )
    def test_a_key_that_cannot_be_one_is_refused(self, milvus: MilvusStore, fields: Any, reason: str) -> None:
        spec = spec_of(IdKind.INT64, settings=self.SETTINGS, fields=fields)
        with pytest.raises(errors.SchemaCompatibilityError, match=reason):
            milvus.create(spec)
        assert not milvus.exists(spec.name)


@pytest.mark.parametrize("kind", ["INT64", "VARCHAR"])
def test_keys_that_milvus_made_are_read(milvus: MilvusStore, kind: str) -> None:
    """A collection with auto_id is a source like any other, and no target; Lite makes integers only."""
    from pymilvus import DataType

    is_lite = not milvus.capabilities.hides_zero_vectors
    if kind == "VARCHAR" and is_lite:
        return
    name = f"auto_{kind}"
    with vendor(milvus) as client:
        schema = client.create_schema(auto_id=True, enable_dynamic_field=True)
        more = {"max_length": 64} if kind == "VARCHAR" else {}
        schema.add_field("id", getattr(DataType, kind), is_primary=True, **more)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="L2")
        client.create_collection(name, schema=schema, index_params=index)
        made = client.insert(name, [{"vector": [1, 2, 3, number], "n": number} for number in range(5)])["ids"]
    spec = milvus.describe(name).spec
    assert spec.settings["auto_id"] is True
    assert spec.id_kinds == {IdKind.STRING if kind == "VARCHAR" else IdKind.INT64}
    (batch,) = milvus.scan(name)
    assert dict(zip(batch.ids, batch.payloads, strict=True)) == {
        record_id: {"n": number} for number, record_id in enumerate(made)
    }
    with pytest.raises(errors.SchemaCompatibilityError, match="auto_id"):
        milvus.upsert(name, batch_of(list(made)))


def test_settings_are_read_and_written_like_to_like(milvus: MilvusStore) -> None:
    """Index, properties, partitions, shards, consistency and description of a collection make another like it."""
    is_lite = not milvus.capabilities.hides_zero_vectors
    with vendor(milvus) as client:
        make_collection(client, "model")
        client.drop_collection("model")
        schema = client.create_schema(auto_id=False, enable_dynamic_field=True, description="what it is")
        from pymilvus import DataType

        schema.add_field("pk", DataType.INT64, is_primary=True)
        schema.add_field("emb", DataType.FLOAT_VECTOR, dim=DIMENSION)
        schema.add_field("year", DataType.INT64)
        schema.add_field("title", DataType.VARCHAR, max_length=100)
        index = client.prepare_index_params()
        index.add_index("emb", index_type="HNSW", metric_type="IP", params={"M": 8, "efConstruction": 64})
        index.add_index("year", index_type="INVERTED" if is_lite else "STL_SORT")
        index.add_index("title", index_type="INVERTED" if is_lite else "Trie")
        client.create_collection(
            "model",
            schema=schema,
            index_params=index,
            num_shards=2,
            consistency_level="Session",
            properties={"collection.ttl.seconds": "1800"},
        )
        client.create_partition("model", "old")
        client.create_alias("model", "nickname")
    spec = milvus.describe("model").spec
    settings = spec.settings
    assert settings["indexes"]["emb"]["index_type"] == "HNSW"
    assert settings["properties"] == {"collection.ttl.seconds": "1800"}
    assert settings["partitions"] == ["_default", "old"]
    assert [item.is_indexed for item in spec.fields] == [True, True]
    if not is_lite:  # Lite forgets these (3.2.2)
        assert settings["indexes"]["emb"]["params"] == {"M": 8, "efConstruction": 64}
        assert settings["aliases"] == ["nickname"]
        assert (settings["shards_num"], settings["consistency_level"]) == (2, "Session")
        assert spec.metadata == {"description": "what it is"}
    copy = spec_of()
    milvus.create(type(spec)(**{**vars(spec), "name": copy.name}))
    again = milvus.describe(copy.name).spec
    assert again.vectors == spec.vectors
    assert again.fields == spec.fields
    assert again.metadata == spec.metadata
    assert {**again.settings, "aliases": []} == {**settings, "aliases": []}
