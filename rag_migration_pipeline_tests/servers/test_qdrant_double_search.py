"""Filters and search through the double, against the vendor's own in-memory implementation as the reference."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

pytestmark = pytest.mark.server

A_UUID = str(uuid.uuid5(uuid.NAMESPACE_DNS, "a point"))


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


@pytest.fixture
def reference() -> Iterator[QdrantClient]:
    opened = QdrantClient(":memory:")
    yield opened
    opened.close()


def make(client: QdrantClient, name: str, distance: models.Distance = models.Distance.DOT) -> None:
    client.create_collection(name, vectors_config=models.VectorParams(size=4, distance=distance))


def field(key: str, **match: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(**match))


FILTERS = {
    "value": models.Filter(must=[field("lang", value="de")]),
    "bool": models.Filter(must=[field("public", value=True)]),
    "any": models.Filter(must=[models.FieldCondition(key="lang", match=models.MatchAny(any=["de", "en"]))]),
    "except": models.Filter(must=[models.FieldCondition(key="n", match=models.MatchExcept(**{"except": [1, 2]}))]),
    "range": models.Filter(must=[models.FieldCondition(key="n", range=models.Range(gt=2, lte=7.5))]),
    "dates": models.Filter(
        must=[models.FieldCondition(key="day", range=models.DatetimeRange(gte="2026-01-03T00:00:00Z"))]
    ),
    "should and not": models.Filter(
        should=[field("n", value=1), field("n", value=2)], must_not=[field("lang", value="de")]
    ),
    "null": models.Filter(must=[models.IsNullCondition(is_null=models.PayloadField(key="maybe"))]),
    "empty": models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="maybe"))]),
    "ids": models.Filter(must=[models.HasIdCondition(has_id=[1, 5, A_UUID])]),
    "nested": models.Filter(
        must=[
            models.NestedCondition(nested=models.Nested(key="parts", filter=models.Filter(must=[field("k", value=3)])))
        ]
    ),
    "count": models.Filter(must=[models.FieldCondition(key="tags", values_count=models.ValuesCount(gte=2))]),
    "at least": models.Filter(
        min_should=models.MinShould(conditions=[field("n", value=3), field("lang", value="de")], min_count=2)
    ),
    "filter in filter": models.Filter(must=[models.Filter(should=[field("n", value=0), field("n", value=9)])]),
}


def fill(client: QdrantClient, name: str) -> None:
    points = []
    for row in range(10):
        payload: dict[str, Any] = {"n": row, "lang": ("de", "en", "fr")[row % 3], "public": row % 2 == 0}
        payload |= {
            "day": f"2026-01-0{row % 9 + 1}T00:00:00Z",
            "tags": ["t"] * (row % 4),
            "parts": [{"k": row}, {"k": 0}],
        }
        if row % 2:
            payload["maybe"] = None if row % 4 == 1 else "here"
        points.append(models.PointStruct(id=A_UUID if row == 9 else row, vector=[row, 1, 0, -row], payload=payload))
    client.upsert(name, points)


@pytest.mark.parametrize("chosen", FILTERS.values(), ids=FILTERS.keys())
def test_filters_match_what_the_reference_matches(
    client: QdrantClient, reference: QdrantClient, chosen: models.Filter
) -> None:
    name = "filtered"
    for filled in (client, reference):
        make(filled, name)
        fill(filled, name)
    expected = [record.id for record in reference.scroll(name, scroll_filter=chosen, limit=100)[0]]
    assert 0 < len(expected) < 10
    assert [record.id for record in client.scroll(name, scroll_filter=chosen, limit=100)[0]] == expected
    assert client.count(name, count_filter=chosen, exact=True).count == len(expected)
    client.delete(name, chosen)
    assert client.count(name).count == 10 - len(expected)


def test_search_finds_what_the_reference_finds(client: QdrantClient, reference: QdrantClient) -> None:
    name = "searched"
    for filled in (client, reference):
        make(filled, name, models.Distance.COSINE)
        fill(filled, name)
    variants: list[dict[str, Any]] = [{}, {"query_filter": FILTERS["any"]}, {"score_threshold": 0.5, "offset": 1}]
    for query in ([1.0, 2.0, 3.0, 4.0], 3):
        for options in variants:
            expected = reference.query_points(name, query=query, limit=4, **options).points
            found = client.query_points(name, query=query, limit=4, with_payload=True, **options).points
            assert [point.score for point in found] == pytest.approx([point.score for point in expected], abs=1e-5)
            assert all(point.payload and point.payload["n"] in range(10) for point in found)


def test_fused_prefetches_and_named_vectors_are_searched(client: QdrantClient) -> None:
    name = "fused"
    client.create_collection(
        name,
        vectors_config={"a": models.VectorParams(size=2, distance=models.Distance.DOT)},
        sparse_vectors_config={"s": models.SparseVectorParams()},
    )
    sparse = [models.SparseVector(indices=[row], values=[1.0]) for row in range(3)]
    client.upsert(name, [models.PointStruct(id=row, vector={"a": [row, 0], "s": sparse[row]}) for row in range(3)])
    assert client.query_points(name, query=[1.0, 0.0], using="a", limit=1).points[0].id == 2
    assert [point.id for point in client.query_points(name, query=sparse[1], using="s").points] == [1]
    fused = client.query_points(
        name,
        prefetch=[models.Prefetch(query=[1.0, 0.0], using="a", limit=1), models.Prefetch(query=sparse[0], using="s")],
        query=models.FusionQuery(fusion=models.Fusion.RRF),
    )
    assert {point.id for point in fused.points} == {0, 2}


def test_values_of_an_indexed_field_are_counted(client: QdrantClient) -> None:
    name = "counted"
    make(client, name)
    fill(client, name)
    client.create_payload_index(name, "lang", models.PayloadSchemaType.KEYWORD)
    hits = client.facet(name, "lang", exact=True).hits
    assert {hit.value: hit.count for hit in hits} == {"de": 4, "en": 3, "fr": 3}
