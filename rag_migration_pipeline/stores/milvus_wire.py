"""Batches as Milvus' columnar messages and back: no object per record where a column does.

Belongs here: scalar field data, filter expressions, pages. Does not belong here: vectors (``milvus_vectors.py``), what
fits a collection (``milvus_screening.py``), when to send what (``milvus.py``).

Row-wise ``MilvusClient.upsert`` spends most of its time looping over characters of strings (pymilvus 3.0.2); columns
built on the generated messages, with vectors as packed floats, take half the time of the whole write on 2.3.5.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from rag_migration_pipeline.errors import StoreRequestError
from rag_migration_pipeline.records import (
    INT64_MAX,
    INT64_MIN,
    Payload,
    RecordBatch,
    RecordId,
)
from rag_migration_pipeline.stores.milvus_schema import DYNAMIC_FIELD, Layout
from rag_migration_pipeline.stores.milvus_types import Column, FieldType
from rag_migration_pipeline.stores.milvus_vectors import decode_vectors, empty_column, encode_vectors

_SLOTS = {
    FieldType.BOOL: "bool_data",
    FieldType.INT8: "int_data",
    FieldType.INT16: "int_data",
    FieldType.INT32: "int_data",
    FieldType.INT64: "long_data",
    FieldType.FLOAT: "float_data",
    FieldType.DOUBLE: "double_data",
    FieldType.VARCHAR: "string_data",
    FieldType.TEXT: "string_data",
    FieldType.TIMESTAMPTZ: "string_data",
    FieldType.GEOMETRY: "geometry_wkt_data",
}
"""Field type -> the slot of ``schema.ScalarField`` that carries its values."""

# orjson turns integers above 64 bits into floats without a word; the standard library keeps them.
_LONG_INTEGER = re.compile(rb"[0-9]{20}")


# -- filter expressions ----------------------------------------------------------------------------------------------


def literal(record_id: RecordId) -> str:
    r"""Return an id as a literal of Milvus' filter language.

    Inside double quotes only ``\\``, ``\"``, ``\n`` and ``\r`` need escaping, on servers (Go's ``strconv.Unquote``
    behind the ANTLR grammar) and in Milvus Lite, which knows few other escapes; NUL, tabs and all of Unicode stand as
    they are. Tried on 2.3.5 and 3.2.2. pymilvus escapes nothing, which is why its ``get`` fails on backslashes.
    """
    if isinstance(record_id, str):
        text = record_id.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        return f'"{text}"'
    return str(record_id)


def key_range(
    key: Column, *, start: RecordId | None = None, after: RecordId | None = None, stop: RecordId | None = None
) -> str:
    """Return the expression of keys in [start, stop), or of those after a key.

    Args:
        key: The key column.
        start: First key, inclusive.
        after: Key before the first; wins over ``start``.
        stop: First key that is not meant, or None for all.
    """
    if key.type == FieldType.INT64:
        low = _above(key.name, start, after)
    elif after is not None:
        low = f"{key.name} > {literal(after)}"
    else:
        low = f"{key.name} >= {literal(start if start is not None else '')}"
    return low if stop is None else f"{low} && {_below(key, stop)}"


def _above(name: str, start: RecordId | None, after: RecordId | None) -> str:
    # 2.3.5 cannot read the literal -2**63: it parses the digits before the sign.
    if after is not None:
        return f"{name} > {after}" if after != INT64_MIN else f"{name} >= {INT64_MIN + 1}"
    return f"{name} <= {INT64_MAX}" if start in (None, INT64_MIN) else f"{name} >= {start}"


def _below(key: Column, stop: RecordId) -> str:
    if stop == INT64_MIN:
        return f"{key.name} < {INT64_MIN + 1} && {key.name} > 0"  # nothing lies below the smallest key
    return f"{key.name} < {literal(stop)}"


def key_in(key: Column, ids: Sequence[RecordId]) -> str:
    """Return the expression of exactly these keys (at least one)."""
    listed = ",".join(literal(record_id) for record_id in ids if record_id != INT64_MIN)
    expression = f"{key.name} in [{listed}]" if listed else ""
    if INT64_MIN in ids and key.type == FieldType.INT64:
        smallest = f"{key.name} < {INT64_MIN + 1}"
        expression = f"{expression} || {smallest}" if expression else smallest
    return expression


def holdable(key: Column, ids: Sequence[RecordId]) -> list[RecordId]:
    """Return the ids that the key column could hold; others cannot exist there and need no question."""
    if key.type == FieldType.VARCHAR:
        return [record_id for record_id in ids if isinstance(record_id, str) and _has_utf8(record_id)]
    return [record_id for record_id in ids if type(record_id) is int and INT64_MIN <= record_id <= INT64_MAX]


def _has_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


# -- batch -> messages -----------------------------------------------------------------------------------------------


def encode(layout: Layout, batch: RecordBatch) -> list[Any]:
    """Return the ``schema.FieldData`` columns of a screened batch, without a partition key's copy or auto ids."""
    from pymilvus.grpc_gen import schema_pb2

    key = schema_pb2.FieldData(field_name=layout.key.name, type=layout.key.type)
    getattr(key.scalars, _SLOTS[layout.key.type]).data.extend(batch.ids)
    columns = [key]
    columns.extend(encode_vectors(column, batch.vectors[name]) for name, column in layout.vectors.items())
    columns.extend(_encode_field(column, batch.payloads) for column in layout.fields.values())
    if layout.has_dynamic:
        dynamic = schema_pb2.FieldData(field_name=DYNAMIC_FIELD, type=FieldType.JSON, is_dynamic=True)
        dynamic.scalars.json_data.data.extend(dynamic_json(layout.fields, payload) for payload in batch.payloads)
        columns.append(dynamic)
    return columns


def dynamic_json(fields: Mapping[str, Column], payload: Payload) -> bytes:
    """Return the part of a payload that goes into the dynamic field, as JSON."""
    if fields:
        payload = {key: value for key, value in payload.items() if key not in fields}
    return orjson.dumps(payload)


def _encode_field(column: Column, payloads: Sequence[Payload]) -> Any:
    from pymilvus.grpc_gen import schema_pb2

    values: list[Any] = [payload.get(column.name) for payload in payloads]
    data = schema_pb2.FieldData(field_name=column.name, type=column.type)
    if column.is_nullable:
        data.valid_data.extend(value is not None for value in values)
        values = [value for value in values if value is not None]
    if column.type == FieldType.JSON:
        data.scalars.json_data.data.extend(orjson.dumps(value) for value in values)
    elif column.type == FieldType.ARRAY:
        data.scalars.array_data.element_type = column.element_type
        for value in values:
            getattr(data.scalars.array_data.data.add(), _SLOTS[_element(column)]).data.extend(value)
        data.scalars.array_data.SetInParent()
    else:
        slot = getattr(data.scalars, _SLOTS[column.type])
        slot.data.extend(values)
        slot.SetInParent()  # all rows null: the empty column must still be there
    return data


def is_readable(column: Column) -> bool:
    """Return whether the values of a payload column are read here."""
    return column.type == FieldType.JSON or (column.element_type or column.type) in _SLOTS


def _element(column: Column) -> FieldType:
    if column.element_type is None:
        raise StoreRequestError(
            f"array field {column.name!r} has no element type.", todo="Recreate the collection.", concerns_all=True
        )
    return column.element_type


# -- messages -> batch -----------------------------------------------------------------------------------------------


def decode_ids(layout: Layout, answer: Any) -> list[RecordId]:
    """Return the keys of a query's answer, in its order."""
    for data in answer.fields_data:
        if data.field_name == layout.key.name:
            return list(getattr(data.scalars, _SLOTS[layout.key.type]).data)
    return []


def decode_batch(layout: Layout, answer: Any) -> RecordBatch:
    """Return the records of a query's answer, in its order."""
    by_name = {DYNAMIC_FIELD if data.is_dynamic else data.field_name: data for data in answer.fields_data}
    ids = decode_ids(layout, answer)
    payloads: list[Payload] = [{} for _ in ids]
    dynamic = by_name.get(DYNAMIC_FIELD)
    if dynamic is not None and layout.has_dynamic:
        payloads = _decode_json(dynamic.scalars.json_data.data)
    for column in layout.fields.values():
        for payload, value in zip(payloads, _decode_field(column, by_name[column.name], len(ids)), strict=True):
            payload[column.name] = value
    vectors = {name: decode_vectors(column, by_name[column.name], len(ids)) for name, column in layout.vectors.items()}
    return RecordBatch(ids, vectors, payloads)


def decode_values(layout: Layout, name: str, answer: Any, count: int) -> list[Any]:
    """Return one payload value per record of a query's answer that has its column; None where it is missing."""
    by_name = {DYNAMIC_FIELD if data.is_dynamic else data.field_name: data for data in answer.fields_data}
    if name in layout.fields:
        return _decode_field(layout.fields[name], by_name[name], count)
    if not layout.has_dynamic or DYNAMIC_FIELD not in by_name:
        return [None] * count
    return [payload.get(name) for payload in _decode_json(by_name[DYNAMIC_FIELD].scalars.json_data.data)]


def empty_batch(layout: Layout) -> RecordBatch:
    """Return a batch of no records with the collection's vectors."""
    return RecordBatch([], {name: empty_column(column) for name, column in layout.vectors.items()}, [])


def _decode_json(texts: Sequence[bytes]) -> list[Any]:
    try:
        if _LONG_INTEGER.search(b"\n".join(texts)) is None:
            return [orjson.loads(text) if text else {} for text in texts]
    except orjson.JSONDecodeError:
        pass  # NaN, or a bare string: told apart below, one by one
    return [_decode_one(text) for text in texts]


def _decode_one(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        # Milvus Lite 3.2.2 answers the JSON string "a" as the bare bytes a.
        return text.decode()


def _decode_field(column: Column, data: Any, count: int) -> list[Any]:
    values: list[Any]
    if column.type == FieldType.JSON:
        values = _decode_json(data.scalars.json_data.data)
    elif column.type == FieldType.ARRAY:
        slot = _SLOTS[_element(column)]
        values = [list(getattr(row, slot).data) for row in data.scalars.array_data.data]
    else:
        slot = data.scalars.WhichOneof("data") or _SLOTS[column.type]
        values = list(getattr(data.scalars, slot).data)
    valid = list(data.valid_data)
    if not valid:
        return values
    if len(values) == count:
        return [value if is_valid else None for value, is_valid in zip(values, valid, strict=True)]
    present = iter(values)
    return [next(present) if is_valid else None for is_valid in valid]


def refuse_disorder(ids: Sequence[Any], after: RecordId | None, collection: str) -> None:
    """Refuse a page whose keys do not rise: reading on after its last key would lose records.

    Raises:
        StoreRequestError: The page is out of order.
    """
    previous: Any = after
    for record_id in ids:
        if previous is not None and not previous < record_id:
            raise StoreRequestError(
                f"Milvus answered the keys of {collection!r} out of order ({previous!r} before {record_id!r}); reading "
                "by key would lose records.",
                todo="Report this with the server's version.",
                collection=collection,
            )
        previous = record_id
