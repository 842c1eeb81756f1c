"""The envelope brings every record home, and what is packed is what the target can hold."""

import copy
import datetime as dt
import enum
import uuid
from dataclasses import replace
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.envelope import ENVELOPE_KEY, Layout, layout_of, original_id, pack, pack_some, unpack
from rag_migration_pipeline.envelope.notes import mark_of, open_envelope, seal
from rag_migration_pipeline.errors import RecordRejectedError
from rag_migration_pipeline.ids import IdRule
from rag_migration_pipeline.payloads import decode, encode, natural_form
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
from rag_migration_pipeline.stores.capabilities import Capabilities, ListRule, PayloadRules
from rag_migration_pipeline_tests.contract.samples import AWKWARD_KEYS, AWKWARD_VALUES

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


def one(payload: dict[str, Any], document: str | None = None, record_id: Any = "a") -> RecordBatch:
    return RecordBatch([record_id], {"": DenseColumn(np.array([[0.6, 0.8, 0]], np.float32))}, [payload], [document])


def test_a_record_that_fits_gets_no_envelope() -> None:
    packed = pack(one({"n": 1, "tags": ["a"]}, "text", "id"), FLAT)
    assert packed.payloads == [{"n": 1, "tags": ["a"]}]
    assert packed.documents == ["text"]
    assert pack(one({"n": 1}, "text", 7), OPEN).payloads == [{"n": 1, "document": "text"}]
    assert pack(one({"n": 1}, "text"), TYPED).payloads == [{"n": 1, "document": "text", ENVELOPE_KEY: ""}]


def test_natural_fields_stay_where_a_filter_finds_them() -> None:
    payload = pack(one({"n": 1, "none": None, "deep": {"a": 1}}, "text", 7), FLAT).payloads[0]
    assert payload["n"] == 1
    assert decode(payload[ENVELOPE_KEY]) == {
        "v": 1,
        "for": mark_of("7"),
        "id": "int:7",
        "payload": {"none": None, "deep": {"a": 1}},
    }


def test_a_users_own_document_key_wins_and_the_document_is_kept() -> None:
    payload = pack(one({"document": "the user's"}, "the text", 7), OPEN).payloads[0]
    assert payload["document"] == "the user's"
    assert decode(payload[ENVELOPE_KEY])["doc"] == "the text"


def test_records_of_the_store_itself_go_home_without_an_envelope() -> None:
    native = [{"document": "text", "n": 1}, {"document": 5}, {"document": None}, {}, {"document": ["x"]}]
    batch = RecordBatch([1, 2, 3, 4, 5], {"": DenseColumn(np.tile(np.float32([0.6, 0.8, 0]), (5, 1)))}, native)
    assert pack(unpack(batch, OPEN), OPEN).payloads == native


def test_a_length_is_kept_only_where_it_is_not_one() -> None:
    rows = np.array([[0, 0, 0], [0.6, 0.8, 0], [3, 4, 0], [1 + 3e-7, 0, 0], [1e-30, 0, 0]], np.float32)
    packed = pack(RecordBatch([1, 2, 3, 4, 5], {"": DenseColumn(rows)}, [{}] * 5), OPEN)
    norms = [decode(p[ENVELOPE_KEY])["norm"][""] if ENVELOPE_KEY in p else None for p in packed.payloads]
    assert norms == [None, None, 5.0, None, pytest.approx(1e-30)]
    assert packed.vectors[""] is packed.dense()
    home = unpack(as_stored(packed, OPEN), OPEN).dense().values
    assert np.linalg.norm(home - rows, axis=1) == pytest.approx(0, abs=4e-7)


def test_null_in_a_typed_document_field_is_no_document_and_no_key() -> None:
    column = DenseColumn(np.ones((3, 3), np.float32))
    raw = [{"document": None, ENVELOPE_KEY: None, "n": None}, {"document": "", ENVELOPE_KEY: ""}, {"document": "x"}]
    home = unpack(RecordBatch(["a", "b", "c"], {"": column}, raw), TYPED)
    assert home.payloads == [{"n": None}, {}, {}]
    assert home.documents == [None, "", "x"]


def test_absent_vectors_stay_absent() -> None:
    column = DenseColumn(np.array([[3, 4, 0], [0, 0, 0]], np.float32), np.array([True, False]))
    home = unpack(as_stored(pack(RecordBatch([1, 2], {"": column}, [{}, {}]), OPEN), OPEN), OPEN)
    assert home.dense().values.tolist() == [[3, 4, 0], [0, 0, 0]]


def test_the_original_id_is_read_from_the_envelope_alone() -> None:
    packed = pack(one({}, None, -7), OPEN)
    assert isinstance(packed.ids[0], uuid.UUID)
    assert original_id(packed.ids[0], packed.payloads[0][ENVELOPE_KEY]) == -7
    for foreign in (None, "", "text", 5, "{", '{"v":2,"id":"int:1"}', "[1]", {"v": 1, "id": "int:1"}):
        assert original_id("own", foreign) == "own"
    assert original_id("own", seal("other", {"id": "int:1"})) == "own", "an envelope of another record is no envelope"


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


@every_layout
def test_a_natural_form_that_was_changed_or_removed_since_wins(layout: Layout) -> None:
    if layout.payload.has_typed:
        return
    batch = one({"when": dt.date(2024, 1, 2), "gone": dt.date(2024, 1, 2), "kept": b"x"})
    packed = pack(batch, layout)
    payload = {key: value for key, value in packed.payloads[0].items() if key != "gone"} | {"when": "2025-01-02"}
    assert unpack(packed.with_columns(payloads=[payload]), layout).payloads == [{"when": "2025-01-02", "kept": b"x"}]


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


def test_an_envelope_belongs_to_one_record() -> None:
    text = pack(one({"none": None}, None, -7), FLAT).payloads[0][ENVELOPE_KEY]
    assert open_envelope("-7", text)["id"] == "int:-7"
    assert open_envelope("8", text) == {}
    stranger = one({ENVELOPE_KEY: text}, None, "8")
    assert unpack(stranger, FLAT).payloads == stranger.payloads
    assert contents(unpack(pack(stranger, FLAT), FLAT)) == contents(stranger)


def test_a_partition_travels_where_the_target_has_none() -> None:
    batch = one({"n": 1}).with_columns(partitions=["germany"])
    packed = pack(batch, FLAT)
    assert packed.partitions is None
    assert unpack(packed, FLAT).partitions == ["germany"]
    assert pack(batch, ANYTHING).partitions == ["germany"]
    assert ENVELOPE_KEY not in pack(batch.with_columns(partitions=[None]), FLAT).payloads[0]
    moved = packed.with_columns(partitions=["france"])
    assert unpack(moved, ANYTHING).partitions == ["france"], "where it lies now is newer than what was packed"
