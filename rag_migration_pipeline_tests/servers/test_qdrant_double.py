"""The vendor's unmodified client against the double: what a Qdrant server is known to do, the double does.

Expectations are the server's documented behaviour or the vendor's own in-memory implementation, not the double's code.
Filters and search are in ``test_qdrant_double_search.py``, refusals and faults in ``test_qdrant_double_refusals.py``.
"""

import importlib.metadata
import json
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

pytestmark = pytest.mark.server

UUIDS = sorted(str(uuid.uuid5(uuid.NAMESPACE_DNS, str(number))) for number in range(4))
# Zero, one past what int32 holds, and the largest that the server takes.
INTEGERS = [0, 1, 7, 2**31, 2**63, 2**64 - 1]
AWKWARD_PAYLOADS: list[dict[str, Any]] = [
    {},
    {"none": None, "nested": {"list": [1, 2.5, {"deep": None}], "empty": {}, "nothing": []}},
    {"big": 2**63 - 1, "small": -(2**63), "float": 5.0, "tiny": 1e-300, "huge": 1e300},
    {"yes": True, "no": False, "one": 1, "text": "1", "": "empty key", "a.b": "dotted", "ключ": "значение 🦀"},
    {"mixed": [True, 1, "1", None, [1, [2]], {}]},
]


@pytest.fixture(scope="module")
def double() -> Iterator[QdrantDouble]:
    with QdrantDouble() as running:
        yield running


@pytest.fixture(params=[False, True], ids=["rest", "grpc"])
def client(request: pytest.FixtureRequest, double: QdrantDouble) -> Iterator[QdrantClient]:
    opened = double.connect(prefer_grpc=request.param)
    yield opened
    for described in opened.get_collections().collections:
        opened.delete_collection(described.name)
    opened.close()


def make(client: QdrantClient, size: int = 4, distance: models.Distance = models.Distance.DOT, **options: Any) -> str:
    name = f"c-{uuid.uuid4()}"
    client.create_collection(name, vectors_config=models.VectorParams(size=size, distance=distance), **options)
    return name


def read_all(client: QdrantClient, name: str, **options: Any) -> list[models.Record]:
    records, offset = [], None
    while True:
        page, offset = client.scroll(name, offset=offset, with_vectors=True, **options)
        records += page
        if offset is None:
            return records


def test_the_client_finds_a_server_of_its_own_version(client: QdrantClient) -> None:
    assert client.info().version == importlib.metadata.version("qdrant-client")
    assert client.info().title.startswith("qdrant")


@pytest.mark.parametrize("distance", list(models.Distance))
def test_a_created_collection_is_described_as_it_was_asked_for(client: QdrantClient, distance: models.Distance) -> None:
    name = make(client, 3, distance)
    info = client.get_collection(name)
    assert info.status == models.CollectionStatus.GREEN
    assert info.points_count == 0
    assert isinstance(info.config.params.vectors, models.VectorParams)
    assert (info.config.params.vectors.size, info.config.params.vectors.distance) == (3, distance)
    assert (info.config.hnsw_config.m, info.config.hnsw_config.ef_construct) == (16, 100)
    assert info.payload_schema == {}


def test_index_and_storage_settings_are_kept_and_returned(client: QdrantClient) -> None:
    quantization = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8))
    name = make(
        client,
        hnsw_config=models.HnswConfigDiff(m=8, ef_construct=64),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),
        quantization_config=quantization,
        on_disk_payload=False,
    )
    client.update_collection(
        name,
        hnsw_config=models.HnswConfigDiff(ef_construct=128),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=20000),
    )
    config = client.get_collection(name).config
    assert (config.hnsw_config.m, config.hnsw_config.ef_construct) == (8, 128)
    assert config.optimizer_config.indexing_threshold == 20000
    assert config.quantization_config == quantization
    assert config.params.on_disk_payload is False


def test_named_sparse_and_multi_vectors_come_back_as_written(client: QdrantClient) -> None:
    name = f"c-{uuid.uuid4()}"
    multi = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    client.create_collection(
        name,
        vectors_config={
            "text": models.VectorParams(size=2, distance=models.Distance.EUCLID, on_disk=True),
            "rows": models.VectorParams(size=2, distance=models.Distance.DOT, multivector_config=multi),
        },
        sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
    )
    full = {
        "text": [0.5, -1.0],
        "rows": [[1.0, 2.0], [3.0, 4.0]],
        "words": models.SparseVector(indices=[3, 9], values=[1.5, 0.25]),
    }
    client.upsert(name, [models.PointStruct(id=1, vector=full), models.PointStruct(id=2, vector={"text": [1.0, 1.0]})])
    first, second = client.retrieve(name, [1, 2], with_vectors=True)
    assert first.vector == full
    assert second.vector == {"text": [1.0, 1.0]}
    assert client.retrieve(name, [1], with_vectors=["text"])[0].vector == {"text": [0.5, -1.0]}
    params = client.get_collection(name).config.params
    assert params.vectors["rows"].multivector_config == multi  # type: ignore[index]
    assert params.vectors["text"].on_disk is True  # type: ignore[index]
    assert params.sparse_vectors["words"].modifier == models.Modifier.IDF  # type: ignore[index]


def test_collections_are_listed_found_and_dropped(client: QdrantClient) -> None:
    names = {make(client), make(client)}
    assert {described.name for described in client.get_collections().collections} == names
    gone = names.pop()
    assert client.collection_exists(gone)
    assert client.delete_collection(gone) is True
    assert client.delete_collection(gone) is False
    assert not client.collection_exists(gone)
    assert {described.name for described in client.get_collections().collections} == names


def test_aliases_lead_to_their_collection_until_deleted(client: QdrantClient) -> None:
    name, alias = make(client), f"a-{uuid.uuid4()}"
    assert client.get_aliases().aliases == []
    create = models.CreateAlias(collection_name=name, alias_name=alias)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])
    assert client.get_collection_aliases(name).aliases == [
        models.AliasDescription(alias_name=alias, collection_name=name)
    ]
    client.upsert(alias, [models.PointStruct(id=1, vector=[1, 2, 3, 4])])
    assert client.count(name).count == 1
    client.update_collection_aliases([models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))])
    assert client.get_aliases().aliases == []
    assert not client.collection_exists(alias)


def test_ids_come_back_integers_first_then_uuids_each_ascending(client: QdrantClient) -> None:
    name = make(client)
    shuffled = [*UUIDS[::-1], *INTEGERS[::-1]]
    client.upsert(name, [models.PointStruct(id=value, vector=[1, 2, 3, 4]) for value in shuffled])
    assert [record.id for record in read_all(client, name)] == [*INTEGERS, *UUIDS]


@pytest.mark.parametrize("page", [1, 3, 10, 100])
def test_pages_of_any_size_give_each_point_once(client: QdrantClient, page: int) -> None:
    name = make(client)
    client.upsert(name, [models.PointStruct(id=value, vector=[1, 2, 3, 4]) for value in [*INTEGERS, *UUIDS]])
    assert [record.id for record in read_all(client, name, limit=page)] == [*INTEGERS, *UUIDS]


def test_a_page_starts_at_the_offset_even_if_that_point_is_gone(client: QdrantClient) -> None:
    name = make(client)
    client.upsert(name, [models.PointStruct(id=value, vector=[1, 2, 3, 4]) for value in (1, 3, 5)])
    page, following = client.scroll(name, offset=2, limit=1)
    assert ([record.id for record in page], following) == ([3], 5)


def test_every_spelling_of_a_uuid_is_the_same_point(client: QdrantClient) -> None:
    name = make(client)
    plain = UUIDS[0]
    for spelling in (plain, plain.upper(), plain.replace("-", ""), f"urn:uuid:{plain}"):
        client.upsert(name, [models.PointStruct(id=spelling, vector=[1, 2, 3, 4])])
    assert [record.id for record in read_all(client, name)] == [plain]


@pytest.mark.parametrize("payload", AWKWARD_PAYLOADS)
def test_payloads_come_back_value_for_value_and_type_for_type(client: QdrantClient, payload: dict[str, Any]) -> None:
    name = make(client)
    client.upsert(name, [models.PointStruct(id=1, vector=[1, 2, 3, 4], payload=payload)])
    found = client.retrieve(name, [1])[0].payload
    assert found == payload
    # Equality takes 1, 1.0 and True for the same; their JSON text does not.
    assert json.dumps(found, sort_keys=True) == json.dumps(payload, sort_keys=True)


def test_vectors_keep_every_bit_of_a_float32(client: QdrantClient) -> None:
    name = make(client, 64)
    written = np.random.default_rng(1).standard_normal((50, 64)).astype(np.float32)
    written[0, :4] = [np.finfo(np.float32).max, np.finfo(np.float32).tiny, 0.1, -0.0]
    points = [models.PointStruct(id=row, vector=vector.tolist()) for row, vector in enumerate(written)]
    client.upsert(name, points)
    read = np.asarray([record.vector for record in read_all(client, name, limit=50)], dtype=np.float32)
    assert np.array_equal(read.view(np.uint32), written.view(np.uint32))


def test_cosine_collections_store_unit_vectors_and_others_do_not(client: QdrantClient) -> None:
    for distance, expected in ((models.Distance.COSINE, [0.6, 0.8]), (models.Distance.EUCLID, [3.0, 4.0])):
        name = make(client, 2, distance)
        client.upsert(name, [models.PointStruct(id=1, vector=[3.0, 4.0])])
        assert client.retrieve(name, [1], with_vectors=True)[0].vector == pytest.approx(expected, rel=1e-6)


def test_an_upsert_replaces_vector_and_payload_whole(client: QdrantClient) -> None:
    name = make(client)
    client.upsert(name, [models.PointStruct(id=1, vector=[1, 2, 3, 4], payload={"old": 1, "both": 1})])
    result = client.upsert(name, [models.PointStruct(id=1, vector=[4, 3, 2, 1], payload={"both": 2})])
    assert result.status == models.UpdateStatus.COMPLETED
    record = client.retrieve(name, [1], with_vectors=True)[0]
    assert (record.vector, record.payload) == ([4, 3, 2, 1], {"both": 2})
    assert client.count(name).count == 1


def test_a_columnar_batch_is_the_same_as_single_points(client: QdrantClient) -> None:
    name = make(client)
    batch = models.Batch(ids=[1, UUIDS[0]], vectors=[[1, 2, 3, 4], [5, 6, 7, 8]], payloads=[{"a": 1}, {"a": None}])
    client.upsert(name, batch)
    found = [(record.id, record.vector, record.payload) for record in read_all(client, name)]
    assert found == [(1, [1, 2, 3, 4], {"a": 1}), (UUIDS[0], [5, 6, 7, 8], {"a": None})]


def test_payload_and_vectors_are_read_only_as_far_as_asked(client: QdrantClient) -> None:
    name = make(client)
    client.upsert(name, [models.PointStruct(id=1, vector=[1, 2, 3, 4], payload={"a": 1, "b": {"c": 2, "d": 3}})])
    assert client.scroll(name)[0][0].vector is None
    assert not client.scroll(name, with_payload=False)[0][0].payload
    assert client.scroll(name, with_payload=["b.c"])[0][0].payload == {"b": {"c": 2}}
    excluded = client.scroll(name, with_payload=models.PayloadSelectorExclude(exclude=["b"]))[0][0]
    assert excluded.payload == {"a": 1}


def test_missing_ids_are_left_out_when_read_and_quiet_when_deleted(client: QdrantClient) -> None:
    name = make(client)
    client.upsert(name, [models.PointStruct(id=1, vector=[1, 2, 3, 4])])
    assert [record.id for record in client.retrieve(name, [5, 1, UUIDS[0]])] == [1]
    client.delete(name, [5, UUIDS[0]])
    assert client.count(name).count == 1
    client.delete(name, [1])
    assert client.count(name).count == 0


def test_payload_changes_touch_only_what_they_name(client: QdrantClient) -> None:
    name = make(client)
    points = [models.PointStruct(id=row, vector=[1, 2, 3, 4], payload={"n": row, "keep": True}) for row in (1, 2, 3)]
    client.upsert(name, points)
    third = models.FieldCondition(key="n", match=models.MatchValue(value=3))
    client.set_payload(name, {"new": [1]}, points=[1])
    client.overwrite_payload(name, {"only": None}, points=[2])
    client.delete_payload(name, ["keep"], points=models.Filter(must=[third]))
    found = {record.id: record.payload for record in read_all(client, name)}
    assert found == {1: {"n": 1, "keep": True, "new": [1]}, 2: {"only": None}, 3: {"n": 3}}
    client.clear_payload(name, [1, 2, 3])
    assert all(record.payload == {} for record in read_all(client, name))


def test_single_vectors_are_replaced_and_removed(client: QdrantClient) -> None:
    name = f"c-{uuid.uuid4()}"
    params = models.VectorParams(size=2, distance=models.Distance.DOT)
    client.create_collection(name, vectors_config={"a": params, "b": params})
    client.upsert(name, [models.PointStruct(id=1, vector={"a": [1, 1], "b": [2, 2]})])
    client.update_vectors(name, [models.PointVectors(id=1, vector={"a": [9, 9]})])
    client.delete_vectors(name, ["b"], [1])
    assert client.retrieve(name, [1], with_vectors=True)[0].vector == {"a": [9, 9]}


def test_a_batch_of_updates_is_applied_in_order(client: QdrantClient) -> None:
    name = make(client)
    points = [models.PointStruct(id=row, vector=[1, 2, 3, 4]) for row in (1, 2)]
    results = client.batch_update_points(
        name,
        [
            models.UpsertOperation(upsert=models.PointsList(points=points)),
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"a": 1}, points=[2])),
            models.DeleteOperation(delete=models.PointIdsList(points=[1])),
        ],
    )
    assert [result.status for result in results] == [models.UpdateStatus.COMPLETED] * 3
    assert [(record.id, record.payload) for record in read_all(client, name)] == [(2, {"a": 1})]


def test_field_indexes_are_remembered_with_type_and_parameters(client: QdrantClient) -> None:
    name = make(client)
    client.upsert(name, [models.PointStruct(id=row, vector=[1, 2, 3, 4], payload={"n": -row}) for row in range(5)])
    client.create_payload_index(name, "n", models.PayloadSchemaType.INTEGER)
    client.create_payload_index(name, "tenant", models.KeywordIndexParams(type="keyword", is_tenant=True))
    schema = client.get_collection(name).payload_schema
    assert (schema["n"].data_type, schema["n"].points) == (models.PayloadSchemaType.INTEGER, 5)
    assert schema["tenant"].params.is_tenant is True  # type: ignore[union-attr]
    ordered = client.scroll(name, order_by="n", limit=5)[0]
    assert [record.id for record in ordered] == [4, 3, 2, 1, 0]
    client.delete_payload_index(name, "n")
    assert set(client.get_collection(name).payload_schema) == {"tenant"}
