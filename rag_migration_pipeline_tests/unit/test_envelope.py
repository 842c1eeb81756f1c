"""The envelope brings every record home, and what is packed is what the target can hold.

Belongs here: the way there and back. Does not belong here: what stands beside the envelope for filters and applications
(``test_envelope_natural.py``), and targets without one (``test_envelope_switched_off.py``).
"""

import copy
import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given

from rag_migration_pipeline.envelope import ENVELOPE_KEY, Layout, layout_of, original_id, pack, pack_some, unpack
from rag_migration_pipeline.envelope.notes import mark_of, open_envelope, seal
from rag_migration_pipeline.errors import RecordRejectedError
from rag_migration_pipeline.ids import IdRule
from rag_migration_pipeline.payloads import decode, encode
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    FieldSpec,
    IdKind,
    Metric,
    RecordBatch,
    VectorSpec,
)
from rag_migration_pipeline.stores import memory
from rag_migration_pipeline.stores.capabilities import Capabilities, PayloadRules
from rag_migration_pipeline_tests.contract.samples import AWKWARD_KEYS, AWKWARD_VALUES
from rag_migration_pipeline_tests.unit.envelope_samples import (
    ANYTHING,
    FLAT,
    OPEN,
    TYPED,
    batches,
    contents,
    every_layout,
    one,
    typed,
)


def as_stored(batch: RecordBatch, layout: Layout) -> RecordBatch:
    """Return a packed batch as a store gives it back: vectors at length 1 where it normalises."""
    column = batch.dense()
    if "" not in layout.normalised:
        return batch
    wide = column.values.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return batch.with_columns(vectors={"": DenseColumn(unit.astype(np.float32))})


def assert_accepted(batch: RecordBatch, layout: Layout) -> None:
    for row, payload in enumerate(batch.payloads):
        natural = {key: value for key, value in payload.items() if key != ENVELOPE_KEY}
        refused = {k: layout.payload.refusal(k, v) for k, v in natural.items() if layout.payload.refusal(k, v)}
        if layout.document_key in layout.text_fields and natural.get(layout.document_key or "") == "":
            refused.pop(layout.document_key, None)  # the filler of a field that must be there
        assert not refused
        assert layout.payload.text_refusal(payload.get(ENVELOPE_KEY, "")) is None
        assert all(isinstance(payload[name], str) for name in layout.text_fields)
        assert layout.id_rule.native(batch.ids[row]) == batch.ids[row]
        document = None if batch.documents is None else batch.documents[row]
        assert batch.partitions is None or layout.has_partitions
        assert document is None or layout.document_key is None
        assert document is None or layout.payload.text_refusal(document) is None


@every_layout
@given(batch=batches())
def test_every_record_comes_home_as_it_left(layout: Layout, batch: RecordBatch) -> None:
    before = copy.deepcopy(batch)
    packed = pack(batch, layout)
    assert contents(batch) == contents(before), "pack changed its input"
    assert_accepted(packed, layout)
    stored = copy.deepcopy(packed)
    home = unpack(as_stored(packed, layout), layout)
    assert contents(packed) == contents(stored), "unpack changed its input"
    assert contents(home) == contents(before)
    expected, got = batch.dense().values.astype(np.float64), home.dense().values.astype(np.float64)
    errors = np.linalg.norm(got - expected, axis=1)
    assert (errors <= 1e-6 * np.linalg.norm(expected, axis=1)).all()


@every_layout
@given(batch=batches())
def test_packing_what_was_unpacked_gives_the_same_again(layout: Layout, batch: RecordBatch) -> None:
    packed = pack(batch, layout)
    again = pack(unpack(as_stored(packed, layout), layout), layout)
    assert [(typed(i), sorted(p)) for i, p in zip(again.ids, again.payloads, strict=True)] == [
        (typed(i), sorted(p)) for i, p in zip(packed.ids, packed.payloads, strict=True)
    ]


# -- values and keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", AWKWARD_VALUES, ids=range(len(AWKWARD_VALUES)))
@every_layout
def test_every_awkward_value_comes_home(layout: Layout, value: Any) -> None:
    for key in ("k", "document"):
        for document in (None, "", "text"):
            batch = RecordBatch(["a"], {"": DenseColumn(np.ones((1, 3), np.float32))}, [{key: value}], [document])
            packed = pack(batch, layout)
            assert_accepted(packed, layout)
            assert contents(unpack(packed, layout)) == contents(batch)


@every_layout
def test_every_awkward_key_comes_home(layout: Layout) -> None:
    payload = {key: 1 for key in AWKWARD_KEYS if isinstance(key, str)}
    batch = RecordBatch(["a"], {"": DenseColumn(np.ones((1, 3), np.float32))}, [payload])
    packed = pack(batch, layout)
    assert_accepted(packed, layout)
    assert contents(unpack(packed, layout)) == contents(batch)


TYPED_VALUES = (
    dt.datetime.fromisoformat("2024-01-02T03:04:05.000006"),
    dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
    dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=3))),
    *(dt.date(2024, 1, 2), b"", b"\x00\xff", Decimal("1.10"), Decimal("1e400"), Decimal("NaN"), uuid.UUID(int=7)),
    *((), (1, (2, None)), set(), {1, "a"}, [dt.date(2024, 1, 2)], {"a": {"b": (1, b"x")}}),
)


@pytest.mark.parametrize("value", TYPED_VALUES, ids=lambda value: type(value).__name__)
@every_layout
def test_every_typed_value_comes_home_with_its_type(layout: Layout, value: Any) -> None:
    for key in ("k", "document", "_rmp_type"):
        batch = one({key: value}, "text")
        packed = pack(batch, layout)
        assert_accepted(packed, layout)
        assert contents(unpack(packed, layout)) == contents(batch)


class Colour(enum.StrEnum):
    RED = "red"


@every_layout
def test_a_value_that_is_not_carried_sets_its_record_aside(layout: Layout) -> None:
    batch = RecordBatch(["a", "b", "c"], {"": DenseColumn(np.ones((3, 3), np.float32))}, [{"k": 1}] * 3)
    batch = batch.with_columns(payloads=[{"k": 1}, {"deep": [{"k": Colour.RED}]}, {"k": np.int64(1)}])
    packed, rows, reasons = pack_some(batch, layout)
    assert (len(packed), list(rows), list(reasons)) == (1, [0], [1, 2])
    assert "deep[0].k: a value of type Colour" in reasons[1]
    assert "int64" in reasons[2]
    with pytest.raises(RecordRejectedError, match=r"2 records.*string:b") as caught:
        pack(batch, layout)
    assert [rejection.record_id for rejection in caught.value.facts["rejections"]] == ["b", "c"]


# -- what a record has beside its payload ---------------------------------------------------------------------


def test_a_length_is_kept_only_where_it_is_not_one() -> None:
    rows = np.array([[0, 0, 0], [0.6, 0.8, 0], [3, 4, 0], [1 + 3e-7, 0, 0], [1e-30, 0, 0]], np.float32)
    packed = pack(RecordBatch([1, 2, 3, 4, 5], {"": DenseColumn(rows)}, [{}] * 5), OPEN)
    norms = [decode(p[ENVELOPE_KEY])["norm"][""] if ENVELOPE_KEY in p else None for p in packed.payloads]
    assert norms == [None, None, 5.0, None, pytest.approx(1e-30)]
    assert packed.vectors[""] is packed.dense()
    home = unpack(as_stored(packed, OPEN), OPEN).dense().values
    assert np.linalg.norm(home - rows, axis=1) == pytest.approx(0, abs=4e-7)


def test_absent_vectors_stay_absent() -> None:
    column = DenseColumn(np.array([[3, 4, 0], [0, 0, 0]], np.float32), np.array([True, False]))
    home = unpack(as_stored(pack(RecordBatch([1, 2], {"": column}, [{}, {}]), OPEN), OPEN), OPEN)
    assert home.dense().values.tolist() == [[3, 4, 0], [0, 0, 0]]


def test_null_in_a_typed_document_field_is_no_document_and_no_key() -> None:
    column = DenseColumn(np.ones((3, 3), np.float32))
    raw = [{"document": None, ENVELOPE_KEY: None, "n": None}, {"document": "", ENVELOPE_KEY: ""}, {"document": "x"}]
    home = unpack(RecordBatch(["a", "b", "c"], {"": column}, raw), TYPED)
    assert home.payloads == [{"n": None}, {}, {}]
    assert home.documents == [None, "", "x"]


def test_a_partition_travels_where_the_target_has_none() -> None:
    batch = one({"n": 1}).with_columns(partitions=["germany"])
    packed = pack(batch, FLAT)
    assert packed.partitions is None
    assert unpack(packed, FLAT).partitions == ["germany"]
    assert pack(batch, ANYTHING).partitions == ["germany"]
    assert ENVELOPE_KEY not in pack(batch.with_columns(partitions=[None]), FLAT).payloads[0]
    moved = packed.with_columns(partitions=["france"])
    assert unpack(moved, ANYTHING).partitions == ["france"], "where it lies now is newer than what was packed"


# -- whose envelope it is -------------------------------------------------------------------------------------


def test_the_original_id_is_read_from_the_envelope_alone() -> None:
    packed = pack(one({}, None, -7), OPEN)
    assert isinstance(packed.ids[0], uuid.UUID)
    assert original_id(packed.ids[0], packed.payloads[0][ENVELOPE_KEY]) == -7
    for foreign in (None, "", "text", 5, "{", '{"v":2,"id":"int:1"}', "[1]", {"v": 1, "id": "int:1"}):
        assert original_id("own", foreign) == "own"
    assert original_id("own", seal("other", {"id": "int:1"})) == "own", "an envelope of another record is no envelope"


def test_an_envelope_belongs_to_one_record() -> None:
    text = pack(one({"none": None}, None, -7), FLAT).payloads[0][ENVELOPE_KEY]
    assert open_envelope("-7", text)["id"] == "int:-7"
    assert open_envelope("8", text) == {}
    stranger = one({ENVELOPE_KEY: text}, None, "8")
    assert unpack(stranger, FLAT).payloads == stranger.payloads
    assert contents(unpack(pack(stranger, FLAT), FLAT)) == contents(stranger)


def damaged(**notes: Any) -> str:
    """Return an envelope of the record "a" that says something impossible."""
    return encode({"v": 1, "for": mark_of("a"), **notes})


DAMAGED = (
    *(damaged(id="x"), damaged(id=7), damaged(id="uuid:x"), damaged(id="int:"), damaged(doc=5), damaged(payload=[])),
    *(damaged(norm=[1.0]), damaged(norm={"": "x"}), damaged(key=1), damaged(new=1), damaged(typed=[]), damaged(part=1)),
    *(damaged(v=2, id="int:7"), damaged()[:-1], "[]", "null", "1", " {", "text", '{"v":1,"id":"int:7"}'),
    *(damaged().replace("}", ',"typed":{"k":{"_rmp_type":"date","value":"x"}}}'), "[" * 100_000),
    seal("b", {"id": "int:7", "doc": None}),
)


@every_layout
@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_envelope_is_a_value_like_any_other_and_is_not_lost(layout: Layout, text: str) -> None:
    raw = one({ENVELOPE_KEY: text, "n": 1})
    home = unpack(raw, layout)
    assert home.payloads[0][ENVELOPE_KEY] == text
    assert home.ids == raw.ids
    again = unpack(pack(home, layout), layout)
    assert contents(again) == contents(home)


# -- layouts --------------------------------------------------------------------------------------------------


def test_the_layout_reserves_the_names_of_the_collections_own_fields() -> None:
    capabilities = Capabilities(
        store="test",
        form="file",
        id_kinds=frozenset({IdKind.STRING}),
        metrics=frozenset(Metric),
        normalised_metrics=frozenset({Metric.COSINE}),
        payload=PayloadRules(reserved_keys=frozenset({"$meta"})),
        has_typed_text_fields=True,
    )
    spec = CollectionSpec(
        "docs",
        (VectorSpec(3, Metric.COSINE, "a"), VectorSpec(3, Metric.L2, "b")),
        frozenset({IdKind.STRING}),
        fields=(
            FieldSpec("text", "string"),
            FieldSpec(ENVELOPE_KEY, "string", is_nullable=True),
            FieldSpec("year", "int"),
        ),
        settings={"vector_fields": {"a": "a_field", "b": "b_field"}},
        id_field="pk",
        max_id_length_bytes=9,
    )
    layout = layout_of(spec, capabilities, "text")
    assert layout.payload.reserved_keys == {ENVELOPE_KEY, "$meta", "pk", "a_field", "b_field"}
    assert layout.text_fields == {"text", ENVELOPE_KEY}
    assert layout.normalised == {"a"}
    assert layout.id_rule == IdRule(frozenset({IdKind.STRING}), 9, has_empty=True)


def test_the_memory_store_needs_no_envelope_for_anything_it_holds() -> None:
    spec = CollectionSpec("docs", (VectorSpec(3, Metric.L2),), frozenset(IdKind))
    layout = layout_of(spec, memory.CAPABILITIES, "document")
    for value in AWKWARD_VALUES:
        assert pack(one({"k": value}, "text", uuid.UUID(int=7)), layout).payloads == [{"k": value}]
