"""Typed fields of Milvus are asked for the next integers, and only for literals that the field's type has."""

from typing import Any

import pytest

from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.stores.milvus_filter import narrow_records
from rag_migration_pipeline.stores.milvus_schema import Layout
from rag_migration_pipeline.stores.milvus_types import Column, FieldType

LAYOUT = Layout(
    collection="docs",
    key=Column(name="id", type=FieldType.INT64),
    vectors={"": Column(name="vector", type=FieldType.FLOAT_VECTOR, dimension=2)},
    fields={name: Column(name=name, type=kind) for name, kind in (("n", FieldType.INT64), ("small", FieldType.INT8))},
    has_dynamic=False,
    is_auto_id=False,
    partitions=(),
    partition_key=None,
    description="",
    properties={},
)


@pytest.mark.parametrize(
    ("wanted", "expression"),
    [
        ({"n": {"$gt": 2.5}}, "n >= 3"),
        ({"n": {"$gte": 2.5}}, "n >= 3"),
        ({"n": {"$lt": 2.5}}, "n <= 2"),
        ({"n": {"$lte": 2.5}}, "n <= 2"),
        ({"n": {"$gt": 2}}, "n >= 3"),
        ({"n": {"$lt": 2.0}}, "n <= 1"),
        ({"n": 2.0}, "n == 2"),
        ({"n": 2.5}, None),
        ({"n": {"$ne": 2}}, "!(n == 2)"),
        ({"n": {"$gte": -(2**63)}}, None),
        ({"small": {"$gt": 127}}, None),
        ({"small": {"$lte": 300}}, None),
        ({"other": 1}, None),
        ({"id": 1}, None),
    ],
)
def test_a_typed_field_is_asked_for_what_it_can_hold(wanted: dict[str, Any], expression: str | None) -> None:
    assert narrow_records([parse_filter(wanted)], LAYOUT, "document", is_lite=False).query == expression
