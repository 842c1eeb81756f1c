"""Layouts like those of the stores, records of all sorts, and what it means that two of them are the same.

Belongs here: what several test files of the envelope need. Does not belong here: what must hold (the tests).
"""

import datetime as dt
import uuid
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import strategies as st

from rag_migration_pipeline.envelope import ENVELOPE_KEY, Layout
from rag_migration_pipeline.envelope.notes import seal
from rag_migration_pipeline.ids import IdRule
from rag_migration_pipeline.records import DenseColumn, IdKind, RecordBatch
from rag_migration_pipeline.stores.capabilities import ListRule, PayloadRules

FLAT = Layout(  # like Chroma
    IdRule(frozenset({IdKind.STRING}), None, has_empty=False),
    document_key=None,
    text_fields=frozenset(),
    payload=PayloadRules(
        has_null=False,
        has_nested=False,
        lists=ListRule.HOMOGENEOUS,
        reserved_keys=frozenset({ENVELOPE_KEY, "chroma:document"}),
        key_pattern=r"[^#$].*",
    ),
    normalised=frozenset(),
)
OPEN = Layout(  # like Qdrant
    IdRule(frozenset({IdKind.UINT64, IdKind.UUID})),
    document_key="document",
    text_fields=frozenset(),
    payload=PayloadRules(has_all_floats=False, reserved_keys=frozenset({ENVELOPE_KEY})),
    normalised=frozenset({""}),
)
TYPED = Layout(  # like Milvus
    IdRule(frozenset({IdKind.STRING}), 40),
    document_key="document",
    text_fields=frozenset({"document", ENVELOPE_KEY}),
    payload=PayloadRules(reserved_keys=frozenset({ENVELOPE_KEY, "id", "vector", "$meta"})),
    normalised=frozenset(),
)
NO_LISTS = Layout(  # what no store of ours is, yet
    IdRule(frozenset({IdKind.INT64, IdKind.STRING}), 36),
    document_key="document",
    text_fields=frozenset({"document"}),
    payload=PayloadRules(
        has_null=False,
        lists=ListRule.NONE,
        has_nested=False,
        int_min=-(2**31),
        int_max=2**31,
        reserved_keys=frozenset({ENVELOPE_KEY, "document"}),
    ),
    normalised=frozenset({""}),
)
ANYTHING = Layout(  # like the memory store
    IdRule(frozenset(IdKind)),
    document_key=None,
    text_fields=frozenset(),
    payload=PayloadRules(
        has_non_finite=True,
        has_surrogates=True,
        has_typed=True,
        int_min=-(2**80),
        int_max=2**80,
        reserved_keys=frozenset({ENVELOPE_KEY}),
    ),
    normalised=frozenset(),
    has_partitions=True,
)
LAYOUTS = {"flat": FLAT, "open": OPEN, "typed": TYPED, "no_lists": NO_LISTS, "anything": ANYTHING}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)

texts = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(["", "\ud800", "a\udfffb", "\ud800\udc00"])
hostile_keys = [
    *(
        ENVELOPE_KEY,
        "document",
        "id",
        "vector",
        "$meta",
        "",
        "a.b",
        "🜚",
        "#x",
        "chroma:document",
        "\ud800",
        "_rmp_type",
    ),
    *("for", "v", "payload", "k" * 300),
]
envelopes = st.sampled_from(["a", 7, uuid.UUID(int=7)]).flatmap(
    lambda i: st.sampled_from([seal(i, {"id": "int:5"}), seal(i, {"payload": {"k": 1}, "doc": "x"}), seal(i, {})])
)
"""Well-formed envelopes of some record, as somebody's own value."""
keys = st.sampled_from(hostile_keys) | texts
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True, allow_infinity=True)
    | texts
    | envelopes
    | st.sampled_from(['{"v":1,"id":"int:7"}', '{"v":2}', "null"])
    | st.datetimes(
        timezones=st.none() | st.sampled_from([dt.UTC, ZoneInfo("Europe/Berlin"), dt.timezone(-dt.timedelta(1e-5))])
    )
    | st.dates()
    | st.binary(max_size=4)
    | st.decimals()
    | st.uuids()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.sets(st.integers() | texts, max_size=2)
    ),
    max_leaves=6,
)
ids = st.integers(-(2**63), 2**64 - 1) | st.uuids() | texts | st.uuids().map(str) | st.integers(0, 9).map(str)
vectors = st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=3, max_size=3)


@st.composite
def batches(draw: st.DrawFn) -> RecordBatch:
    """Records of all sorts; what stands under the reserved key is the user's own."""
    found = draw(st.lists(ids, min_size=1, max_size=4, unique_by=lambda i: (type(i).__name__, i)))
    payload = st.dictionaries(keys, values, max_size=5)
    size = len(found)
    return RecordBatch(
        found,
        {"": DenseColumn(np.array([draw(vectors) for _ in found], dtype=np.float32))},
        draw(st.lists(payload, min_size=size, max_size=size)),
        draw(st.none() | st.lists(st.none() | texts, min_size=size, max_size=size)),
        draw(st.none() | st.lists(st.none() | st.sampled_from(["a", "b"]), min_size=size, max_size=size)),
    )


def one(payload: dict[str, Any], document: str | None = None, record_id: Any = "a") -> RecordBatch:
    return RecordBatch([record_id], {"": DenseColumn(np.array([[0.6, 0.8, 0]], np.float32))}, [payload], [document])


def typed(value: Any) -> Any:
    """Return a value in which 1, 1.0, True and "1" differ, 0.0 and -0.0 too, and NaN equals itself."""
    if isinstance(value, set):
        return "set", sorted(map(repr, value))
    if isinstance(value, tuple):
        return "tuple", [typed(item) for item in value]
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value).__name__, repr(value)


def contents(batch: RecordBatch) -> list[Any]:
    none = [None] * len(batch)
    columns = (batch.ids, batch.payloads, batch.documents or none, batch.partitions or none)
    rows = zip(*columns, strict=True)
    return [(typed(i), typed(dict(payload)), document, partition) for i, payload, document, partition in rows]
