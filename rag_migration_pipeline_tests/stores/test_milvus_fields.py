"""Typed fields of every type Milvus has, in every form: read, written and refused exactly, checked with its client."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline import errors
from rag_migration_pipeline.records import INT64_MAX, INT64_MIN, FieldSpec, IdKind
from rag_migration_pipeline.stores.milvus import MilvusStore
from rag_migration_pipeline_tests.contract.comparison import value_differences
from rag_migration_pipeline_tests.stores.milvus_samples import DIMENSION, batch_of, make_collection, spec_of, vendor


def rules_of(milvus: MilvusStore) -> Any:
    rules = milvus.capabilities.fields
    assert rules is not None
    return rules


TENTH = float(np.float32(0.1))
FIELDS: dict[str, tuple[FieldSpec, list[Any]]] = {
    item.name: (item, values)
    for item, values in (
        (FieldSpec("bool", "bool"), [True, False]),
        (FieldSpec("int8", "int", bits=8), [-128, 0, 127]),
        (FieldSpec("int16", "int", bits=16), [-(2**15), 2**15 - 1]),
        (FieldSpec("int32", "int", bits=32), [-(2**31), 2**31 - 1]),
        (FieldSpec("int64", "int"), [INT64_MIN, INT64_MAX]),
        (FieldSpec("float", "float", bits=32), [TENTH, -0.0, float(np.float32(1e-45))]),
        (FieldSpec("double", "float"), [0.1, -0.0, 5e-324, 1.7976931348623157e308]),
        (FieldSpec("text", "string", max_length_bytes=10), ["", "ü" * 5, 'a"b\\\n\x00x', "漢字漢"]),
        (FieldSpec("json", "json"), [{}, {"a": [1, None, {"b": 1.0}], "": "x", "a.b": 2**63, "n": None}]),
        (FieldSpec("bools", "array", element_type="bool", max_items=4), [[], [True, False]]),
        (FieldSpec("bytes8", "array", element_type="int", bits=8, max_items=4), [[], [-128, 127]]),
        (FieldSpec("shorts", "array", element_type="int", bits=16, max_items=4), [[], [-(2**15)]]),
        (FieldSpec("ints", "array", element_type="int", bits=32, max_items=4), [[], [-(2**31)]]),
        (FieldSpec("longs", "array", element_type="int", max_items=4), [[], [INT64_MIN, INT64_MAX]]),
        (
            FieldSpec("floats", "array", element_type="float", bits=32, max_items=4),
            [[], [TENTH, -0.0]],
        ),
        (FieldSpec("doubles", "array", element_type="float", max_items=4), [[], [0.1, 5e-324]]),
        (FieldSpec("texts", "array", element_type="string", max_length_bytes=10, max_items=4), [[], ["", "ü" * 5]]),
    )
}
COUNT = max(len(values) for _, values in FIELDS.values())
PAYLOADS = [
    {name: values[row % len(values)] for name, (_, values) in FIELDS.items()} | {"free": [row, None]}
    for row in range(COUNT)
]
"""Every value of every field at least once, beside an untyped key."""
UNFIT: dict[str, list[Any]] = {
    "bool": [1, "true", None],
    "int8": [128, -129, 1.0, True, "1", None],
    "int16": [2**15],
    "int32": [2**31],
    "int64": [2**63, 1.0],
    "float": [0.1, 1, 1e300],
    "double": [1, True, "0.1"],
    "text": ["ü" * 6, "x" * 11, 1, None],
    "json": ["text", 1, None],
    "bools": [[1], [None], "x"],
    "bytes8": [[128], [1.0], [1] * 5],
    "longs": [[2**63], [True]],
    "floats": [[0.1]],
    "texts": [["a", 1], [None]],
}


@pytest.fixture(scope="module")
def typed(milvus: MilvusStore) -> str:
    """A collection with every field, made by us."""
    spec = spec_of(IdKind.INT64, fields=tuple(item for item, _ in FIELDS.values()))
    milvus.create(spec)
    return spec.name


def rows_of(client: Any, collection: str) -> dict[int, dict[str, Any]]:
    """Return all payloads by id, as the vendor's client reads them."""
    rows = client.query(collection, filter="id >= 0", output_fields=["*"], limit=999, consistency_level="Strong")
    return {row["id"]: {key: value for key, value in row.items() if key not in ("id", "vector")} for row in rows}


def plain(value: Any) -> Any:
    """Return lists where the vendor's client answers its own sequences, and objects where it answers their text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if not isinstance(value, str) and hasattr(value, "__iter__") else value


def test_fields_are_described_as_they_were_asked_for(milvus: MilvusStore, typed: str) -> None:
    """Width, capacity and length included; Lite forgets the length of an array's texts (3.2.2)."""
    found = {item.name: item for item in milvus.describe(typed).spec.fields}
    for name, (item, _) in FIELDS.items():
        if name == "texts" and rules_of(milvus).counts_characters:
            assert found[name].max_length_bytes is None
        else:
            assert found[name] == item


def test_what_the_vendor_wrote_is_read_exactly(milvus: MilvusStore, typed: str) -> None:
    """No null becomes 0 or "", no float gains digits, no integer becomes a float."""
    milvus.delete(typed, list(range(100)))
    with vendor(milvus) as client:
        client.insert(typed, [{"id": row, "vector": [1, 2, 3, 4], **payload} for row, payload in enumerate(PAYLOADS)])
    found = {record_id: payload for batch in milvus.scan(typed) for record_id, payload in _rows(batch)}
    assert value_differences({str(row): payload for row, payload in enumerate(PAYLOADS)}, found) == []


def test_what_we_write_is_what_the_vendor_reads(milvus: MilvusStore, typed: str) -> None:
    milvus.delete(typed, list(range(100)))
    result = milvus.upsert(typed, batch_of(list(range(COUNT)), PAYLOADS))
    assert (result.written, result.rejections) == (COUNT, ())
    with vendor(milvus) as client:
        found = {str(row): plain(payload) for row, payload in rows_of(client, typed).items()}
    assert value_differences({str(row): payload for row, payload in enumerate(PAYLOADS)}, found) == []


@pytest.mark.parametrize("name", UNFIT)
def test_what_a_field_cannot_hold_is_rejected_by_name(milvus: MilvusStore, typed: str, name: str) -> None:
    """Nothing is cut, rounded or converted: the record is set aside, the others arrive."""
    good = PAYLOADS[0]
    payloads = [{**good, name: value} for value in UNFIT[name]]
    payloads.append({key: value for key, value in good.items() if key != name})
    result = milvus.upsert(typed, batch_of(list(range(100, 100 + len(payloads) + 1)), [*payloads, good]))
    assert result.written == 1
    assert [rejection.record_id for rejection in result.rejections] == list(range(100, 100 + len(payloads)))
    assert [name in rejection.reason for rejection in result.rejections] == [True] * len(payloads)


def test_lengths_are_bytes_where_we_write_whatever_the_form_counts(milvus: MilvusStore, typed: str) -> None:
    """A server refuses ten characters of two bytes in ten, Lite takes them: both are read as they are."""
    from pymilvus import MilvusException

    counts_characters = rules_of(milvus).counts_characters
    with vendor(milvus) as client:
        row = {"id": 77, "vector": [1, 2, 3, 4], **PAYLOADS[0], "text": "ü" * 10}
        with ExitStack() as stack:
            if not counts_characters:
                stack.enter_context(pytest.raises(MilvusException, match="max length"))
            client.insert(typed, [row])
    assert [payload["text"] for payload in milvus.fetch(typed, [77]).payloads] == ["ü" * 10] * counts_characters


def test_an_array_holds_texts_up_to_its_length(milvus: MilvusStore, typed: str) -> None:
    """Where the store tells the length: Lite forgets it, and holds longer texts as well (3.2.2)."""
    result = milvus.upsert(typed, batch_of([300], [{**PAYLOADS[0], "texts": ["ü" * 6]}]))
    if rules_of(milvus).counts_characters:
        assert [payload["texts"] for payload in milvus.fetch(typed, [300]).payloads] == [["ü" * 6]]
    else:
        assert ["texts" in rejection.reason for rejection in result.rejections] == [True]


def test_a_default_is_never_taken_for_what_a_record_says(milvus: MilvusStore) -> None:
    """Milvus puts its default in for a missing value and for null: it is read as the value that it is there, and a
    record of ours that would be changed so is rejected."""
    spec = spec_of(IdKind.INT64, fields=tuple(FieldSpec(f"d{bits}", "int", bits=bits, default=7) for bits in (8, None)))
    milvus.create(spec)
    fields = {item.name: item.default for item in milvus.describe(spec.name).spec.fields}
    assert fields == {"d8": 7, "dNone": 7}
    payloads = [{"d8": 0, "dNone": 0}, {"d8": 1}, {"d8": None, "dNone": 1}]
    result = milvus.upsert(spec.name, batch_of([0, 1, 2], payloads))
    assert [rejection.record_id for rejection in result.rejections] == [1, 2]
    assert all("default" in rejection.reason for rejection in result.rejections)
    with vendor(milvus) as client:
        client.insert(spec.name, [{"id": 5, "vector": [1, 2, 3, 4], "d8": 3}])
    assert list(milvus.fetch(spec.name, [0, 5]).payloads) == [{"d8": 0, "dNone": 0}, {"d8": 3, "dNone": 7}]


def test_null_stays_null_where_a_field_may_hold_it(milvus: MilvusStore) -> None:
    """Not 0, not "", not missing; servers before 2.5 have no such fields, and say so when asked for one."""
    fields = tuple(FieldSpec(item.name, item.type, True, **_limits(item)) for item, _ in FIELDS.values())
    spec = spec_of(IdKind.INT64, fields=fields)
    if not rules_of(milvus).has_nullable:
        with pytest.raises(errors.SchemaCompatibilityError, match="nullable") as caught:
            milvus.create(spec)
        assert [item.name for item in fields if repr(item.name) not in str(caught.value)] == []
        return
    milvus.create(spec)
    nulls = dict.fromkeys(FIELDS)
    typed = {key: value for key, value in PAYLOADS[1].items() if key != "free"}
    assert milvus.upsert(spec.name, batch_of([0, 1, 2], [nulls, typed, nulls])).written == 3
    with vendor(milvus) as client:
        assert {row: plain(payload) for row, payload in rows_of(client, spec.name).items()} == {
            0: nulls,
            1: typed,
            2: nulls,
        }
        client.insert(spec.name, [{"id": 3, "vector": [1, 2, 3, 4]}])
    found = milvus.fetch(spec.name, [0, 1, 2, 3])
    assert value_differences([nulls, typed, nulls, nulls], list(found.payloads)) == []


def test_lists_in_json_fields_are_kept_or_rejected_as_declared(milvus: MilvusStore) -> None:
    """Lite's JSON fields hold lists, the server's objects only."""
    spec = spec_of(IdKind.INT64, fields=(FieldSpec("json", "json"),))
    milvus.create(spec)
    result = milvus.upsert(spec.name, batch_of([1], [{"json": [1, None]}]))
    assert bool(result.written) == rules_of(milvus).has_json_lists
    assert list(milvus.fetch(spec.name, [1]).payloads) == [{"json": [1, None]}] * result.written


def test_without_a_dynamic_field_unknown_keys_are_rejected_by_name(milvus: MilvusStore) -> None:
    from pymilvus import DataType

    with vendor(milvus) as client:
        make_collection(
            client,
            "strict",
            ("vector", DataType.FLOAT_VECTOR, {"dim": DIMENSION}),
            ("year", DataType.INT64, {}),
            dynamic=False,
        )
    result = milvus.upsert("strict", batch_of([1, 2], [{"year": 1}, {"year": 2, "more": 3}]))
    assert [rejection.reason for rejection in result.rejections] == [
        "payload key 'more' is no field of the collection, which has no dynamic field"
    ]
    assert list(milvus.fetch("strict", [1, 2]).payloads) == [{"year": 1}]


def _rows(batch: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(str(record_id), payload) for record_id, payload in zip(batch.ids, batch.payloads, strict=True)]


def _limits(item: FieldSpec) -> dict[str, Any]:
    return {name: getattr(item, name) for name in ("max_length_bytes", "element_type", "bits", "max_items")}
