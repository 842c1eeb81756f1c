"""Without the envelope nothing reserved is written, and what only it could carry needs consent or is set aside by name.

Belongs here: layouts with the envelope switched off. Does not belong here: the envelope itself (``test_envelope.py``).
"""

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given

from rag_migration_pipeline.envelope import ENVELOPE_KEY, Layout, pack, pack_some, unpack
from rag_migration_pipeline.ids import IdRule
from rag_migration_pipeline.payloads import encode, natural_form
from rag_migration_pipeline.records import IdKind, RecordBatch
from rag_migration_pipeline.stores.capabilities import PayloadRules
from rag_migration_pipeline_tests.unit.envelope_samples import FLAT, OPEN, batches, every_layout, one


def without_envelope(layout: Layout) -> Layout:
    rules = replace(layout.payload, reserved_keys=layout.payload.reserved_keys - {ENVELOPE_KEY})
    return replace(layout, has_envelope=False, payload=rules, text_fields=layout.text_fields - {ENVELOPE_KEY})


@pytest.mark.parametrize(
    ("accepted", "refused"),
    [
        (False, ["date", "part", "null", "user"]),
        (["field on", "partition"], ["null", "user"]),
        (["document", "field document"], ["date", "part"]),
        (True, []),
    ],
)
def test_with_the_envelope_switched_off_nothing_is_lost_without_consent(
    accepted: bool | list[str], refused: list[str]
) -> None:
    batch = RecordBatch(
        ["date", "part", "null", "user"],
        {},
        [{"on": dt.date(2026, 1, 2)}, {}, {}, {"document": "a field"}],
        ["text", "text", None, None],
        [None, "archive", None, None],
    )
    rule = IdRule(frozenset({IdKind.STRING}))
    layout = Layout(rule, "document", frozenset({"document"}), PayloadRules(), frozenset())
    _, _, reasons = pack_some(batch, replace(layout, has_envelope=False, accepted=accepted))
    assert [batch.ids[row] for row in reasons] == refused


@every_layout
@given(batch=batches())
def test_with_the_envelope_switched_off_nothing_reserved_is_written_and_no_value_is_dropped(
    layout: Layout, batch: RecordBatch
) -> None:
    layout = without_envelope(layout)
    packed, rows, reasons = pack_some(batch, layout)
    assert sorted([*rows, *reasons]) == list(range(len(batch)))
    assert all("switched off" in reason for reason in reasons.values())
    texts = packed.documents or [None] * len(packed)
    for row, payload, text in zip(rows, packed.payloads, texts, strict=True):
        given = batch.payloads[row]
        document = None if batch.documents is None else batch.documents[row]
        assert {key for key in payload if key != layout.document_key} == {
            key for key in given if key != layout.document_key
        }
        assert document in (None, text, payload.get(layout.document_key or ""))
        for key, value in given.items():
            assert encode(payload[key]) in (encode(value), encode(natural_form(value)))


def test_with_the_envelope_switched_off_an_envelope_is_still_read() -> None:
    packed = pack(one({"none": None}, "text", 7), FLAT)
    assert unpack(packed, without_envelope(FLAT)).ids == [7]


def test_a_value_without_any_form_is_named_where_the_envelope_is_switched_off() -> None:
    _, _, reasons = pack_some(one({"fine": 1, "none": None, "deep": {"a": 1}}), without_envelope(FLAT))
    assert reasons[0].startswith("payload key 'none': null; payload key 'deep': a nested object; the envelope")
    _, _, reasons = pack_some(one({"document": "mine"}, "text", 7), without_envelope(OPEN))
    assert "the document has no place" in reasons[0]
