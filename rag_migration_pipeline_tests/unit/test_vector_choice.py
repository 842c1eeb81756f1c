"""The option vectors renames and leaves out columns, without a copy."""

from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.records import DenseColumn, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.vector_choice import choice_problems, renaming_routes, route_vectors, routes_of

TITLE, BODY = VectorSpec(2, Metric.COSINE, "title"), VectorSpec(3, Metric.L2, "body")
SOURCE = (TITLE, BODY)
BATCH = RecordBatch(
    ["a"],
    {"title": DenseColumn(np.ones((1, 2), np.float32)), "body": DenseColumn(np.full((1, 3), 1e5, np.float32))},
    [{}],
)


def choices(value: Any) -> Any:
    return MigrationOptions.model_validate({"vectors": value}).vectors


@pytest.mark.parametrize(
    ("value", "targets"),
    [
        (None, [TITLE, BODY]),
        ({"title": ""}, [VectorSpec(2, Metric.COSINE), BODY]),
        ({"title": "", "body": None}, [VectorSpec(2, Metric.COSINE), None]),
        ({"title": "body", "body": "title"}, [VectorSpec(2, Metric.COSINE, "body"), VectorSpec(3, Metric.L2, "title")]),
        ({"body": {"metric": "dot", "dtype": "float16"}}, [TITLE, VectorSpec(3, Metric.DOT, "body", dtype="float16")]),
        ({"body": {"name": "text"}}, [TITLE, VectorSpec(3, Metric.L2, "text")]),
    ],
)
def test_each_vector_goes_where_the_option_says(value: Any, targets: list[VectorSpec | None]) -> None:
    routes = routes_of(SOURCE, choices(value))
    assert [route.source for route in routes] == list(SOURCE)
    assert [route.target for route in routes] == targets
    assert choice_problems(SOURCE, choices(value)) == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"titel": ""}, ["no vector 'titel'", "['body', 'title']"]),
        ({"title": "body"}, ["['title', 'body'] would all become 'body'"]),
        ({"x": None, "y": "z"}, ["'x'", "'y'"]),
    ],
)
def test_a_wrong_choice_is_told(value: Any, words: list[str]) -> None:
    problems = choice_problems(SOURCE, choices(value))
    assert [word for word in words if not any(word in problem for problem in problems)] == []


def test_two_vectors_of_one_name_are_refused_with_the_options() -> None:
    with pytest.raises(ValueError, match=r"vectors.c: 'a' and 'c' would both become 'b'"):
        MigrationOptions.model_validate({"vectors": {"a": "b", "b": None, "c": {"name": "b"}}})
    assert MigrationOptions.model_validate({"vectors": {"a": "b", "b": "a", "c": {"metric": "dot"}}})


@pytest.mark.parametrize(
    "value", [{"a": 3}, {"a": {"metrik": "dot"}}, {"a": {"metric": "far"}}, {"a": {"dtype": "int8"}}]
)
def test_what_is_no_choice_is_refused_with_the_options(value: Any) -> None:
    with pytest.raises(ValueError, match="vectors"):
        MigrationOptions.model_validate({"vectors": value})


def test_columns_are_renamed_and_dropped_without_a_copy() -> None:
    routes = renaming_routes(SOURCE, choices({"title": "", "body": None}))
    routed = route_vectors(BATCH, routes)
    assert list(routed.vectors) == [""]
    assert routed.dense().values is BATCH.dense("title").values
    assert list(BATCH.vectors) == ["title", "body"]


def test_what_stays_as_it_is_costs_nothing() -> None:
    for value in (None, {"title": "title"}, {"body": {"metric": "dot"}}):
        assert renaming_routes(SOURCE, choices(value)) == ()
    assert route_vectors(BATCH, ()) is BATCH
