"""What fits the target stands there in its natural form, where filters find it, and what was written there since wins.

Belongs here: payload keys and documents beside the envelope. Does not belong here: the way home (``test_envelope.py``).
"""

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.envelope import ENVELOPE_KEY, Layout, pack, unpack
from rag_migration_pipeline.envelope.notes import mark_of
from rag_migration_pipeline.payloads import decode
from rag_migration_pipeline.records import DenseColumn, RecordBatch
from rag_migration_pipeline_tests.unit.envelope_samples import FLAT, OPEN, TYPED, every_layout, one


def test_a_record_that_fits_gets_no_envelope() -> None:
    packed = pack(one({"n": 1, "tags": ["a"]}, "text", "id"), FLAT)
    assert packed.payloads == [{"n": 1, "tags": ["a"]}]
    assert packed.documents == ["text"]
    assert pack(one({"n": 1}, "text", 7), OPEN).payloads == [{"n": 1, "document": "text"}]
    assert pack(one({"n": 1}, "text"), TYPED).payloads == [{"n": 1, "document": "text", ENVELOPE_KEY: ""}]


def test_records_of_the_store_itself_go_home_without_an_envelope() -> None:
    native = [{"document": "text", "n": 1}, {"document": 5}, {"document": None}, {}, {"document": ["x"]}]
    batch = RecordBatch([1, 2, 3, 4, 5], {"": DenseColumn(np.tile(np.float32([0.6, 0.8, 0]), (5, 1)))}, native)
    assert pack(unpack(batch, OPEN), OPEN).payloads == native


def test_natural_fields_stay_where_a_filter_finds_them() -> None:
    payload = pack(one({"n": 1, "none": None, "deep": {"a": 1}}, "text", 7), FLAT).payloads[0]
    assert payload["n"] == 1
    assert decode(payload[ENVELOPE_KEY]) == {
        "v": 1,
        "for": mark_of("7"),
        "id": "int:7",
        "payload": {"none": None, "deep": {"a": 1}},
    }


@pytest.mark.parametrize(
    ("value", "natural"),
    [
        (dt.datetime.fromisoformat("2024-01-02T03:04:05"), "2024-01-02T03:04:05"),
        (dt.datetime(2024, 1, 2, 3, 4, 5, 6, dt.timezone(dt.timedelta(hours=2))), "2024-01-02T01:04:05.000006+00:00"),
        (dt.date(2024, 1, 2), "2024-01-02"),
        (b"\x00\xff", "AP8="),
        (Decimal("1.10"), 1.1),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ((dt.date(2024, 1, 2),), ["2024-01-02"]),
        ({"b", "a"}, ["a", "b"]),
    ],
)
def test_a_typed_value_stands_in_a_form_that_filters_find(value: Any, natural: Any) -> None:
    for layout in (FLAT, OPEN, TYPED):
        assert pack(one({"k": value}), layout).payloads[0]["k"] == natural


def test_a_users_own_document_key_wins_and_the_document_is_kept() -> None:
    payload = pack(one({"document": "the user's"}, "the text", 7), OPEN).payloads[0]
    assert payload["document"] == "the user's"
    assert decode(payload[ENVELOPE_KEY])["doc"] == "the text"


@every_layout
def test_a_natural_value_that_was_set_since_wins_over_the_envelope(layout: Layout) -> None:
    """An application that works with the target writes natural fields; what it wrote is newer than what was packed."""
    packed = pack(one({"year": None, "kept": None}), layout)
    payload = {**packed.payloads[0], "year": 2024}
    documents = packed.documents
    if layout.document_key is None:
        documents = ["newer"]
    else:
        payload[layout.document_key] = "newer"
    home = unpack(packed.with_columns(payloads=[payload], documents=documents), layout)
    assert home.payloads == [{"year": 2024, "kept": None}]
    assert home.documents == ["newer"]


@every_layout
def test_a_natural_form_that_was_changed_or_removed_since_wins(layout: Layout) -> None:
    if layout.payload.has_typed:
        return
    batch = one({"when": dt.date(2024, 1, 2), "gone": dt.date(2024, 1, 2), "kept": b"x"})
    packed = pack(batch, layout)
    payload = {key: value for key, value in packed.payloads[0].items() if key != "gone"} | {"when": "2025-01-02"}
    assert unpack(packed.with_columns(payloads=[payload]), layout).payloads == [{"when": "2025-01-02", "kept": b"x"}]
