"""Which payloads a Milvus collection holds exactly, field by field.

Belongs here: the check of a payload against typed columns and the dynamic field. Does not belong here: the general
rules of the store (`Capabilities` in ``milvus.py``).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from rag_migration_pipeline.payloads import ENVELOPE_KEY
from rag_migration_pipeline.records import INT64_MAX, INT64_MIN, Payload
from rag_migration_pipeline.stores.capabilities import FieldRules
from rag_migration_pipeline.stores.milvus_schema import Layout
from rag_migration_pipeline.stores.milvus_types import Column, FieldType
from rag_migration_pipeline.stores.milvus_wire import dynamic_json

_INTEGER_BITS = {FieldType.INT8: 8, FieldType.INT16: 16, FieldType.INT32: 32, FieldType.INT64: 64}


def payload_problem(layout: Layout, payload: Payload, rules: FieldRules) -> str | None:
    """Return why the collection cannot hold the payload exactly, or None.

    Args:
        layout: The collection.
        payload: A payload that the store's general rules let pass.
        rules: What the store's fields hold; the dynamic field has the limit of a JSON field.
    """
    for key in payload:
        if key in layout.reserved_keys:
            return f"payload key {key!r} is the name of the collection's key, vector or dynamic field"
        if key not in layout.fields and not layout.has_dynamic:
            return f"payload key {key!r} is no field of the collection, which has no dynamic field"
    for name, column in layout.fields.items():
        if name not in payload:
            return f"the collection wants the field {name!r}{_stand_in(column)}"
        reason = _value_problem(column, payload[name], rules)
        if reason is not None:
            return f"field {name!r}: {reason}"
    if not layout.has_dynamic or rules.max_json_bytes is None:
        return None
    return _dynamic_problem(layout, payload, rules.max_json_bytes)


def _stand_in(column: Column) -> str:
    """Return what Milvus would answer for a value that was not given, in words for the reason."""
    if column.default is not None:
        return " (its default would read back, not nothing)"
    return " (null would read back, not nothing)" if column.is_nullable else ""


def _dynamic_problem(layout: Layout, payload: Payload, limit: int) -> str | None:
    bound = 2
    for key, value in payload.items():
        if key in layout.fields:
            continue
        if type(value) in (dict, list):
            bound = limit + 1
            break
        # JSON writes a control character in six bytes, others in at most four, and a number in at most 25.
        bound += 6 * (len(key) + (len(value) if type(value) is str else 4)) + 6
    if bound <= limit:
        return None
    size = len(dynamic_json(layout.fields, payload))
    if size <= limit:
        return None
    return f"the untyped payload takes {size} bytes as JSON, Milvus holds at most {limit}"


def _value_problem(column: Column, value: Any, rules: FieldRules) -> str | None:
    if value is None:
        if column.default is not None:  # Lite 3.2.2 and 2.3.5 put the default in for null, too (tried)
            return "null in a field with a default, which would read back"
        return None if column.is_nullable else "null in a field that is not nullable"
    if column.type == FieldType.JSON:
        return _json_problem(value, rules)
    return _CHECKS[column.type](column, value)


def _check_text(column: Column, value: Any) -> str | None:
    if type(value) is not str:
        return f"a value of type {type(value).__name__}, expected a string"
    # Servers count bytes and Lite characters; what fits both travels on.
    size = len(value) if value.isascii() else len(value.encode())
    if column.max_length is None or size <= column.max_length:
        return None
    if column.name == ENVELOPE_KEY:
        return (
            f"the envelope, which keeps what Milvus cannot hold natively, takes {size} bytes and the field holds at "
            f"most {column.max_length}; shorten these values at the source or in the mapping, or choose another target"
        )
    return f"{size} bytes, the field holds at most {column.max_length}"


def _check_integer(column: Column, value: Any) -> str | None:
    if type(value) is not int:
        return f"a value of type {type(value).__name__}, expected an integer"
    bits = _INTEGER_BITS[column.type]
    if not INT64_MIN >> (64 - bits) <= value <= INT64_MAX >> (64 - bits):
        return f"{value} does not fit {bits} bits"
    return None


def _check_float(column: Column, value: Any) -> str | None:
    if type(value) is not float:
        return f"a value of type {type(value).__name__}, expected a float"
    if not math.isfinite(value):
        return f"the float {value}"
    with np.errstate(over="ignore"):
        is_exact = column.type == FieldType.DOUBLE or float(np.float32(value)) == value
    return None if is_exact else f"{value} has no exact 32-bit form"


def _check_bool(_: Column, value: Any) -> str | None:
    return None if type(value) is bool else f"a value of type {type(value).__name__}, expected true or false"


def _json_problem(value: Any, rules: FieldRules) -> str | None:
    # 2.3.5 reads nothing but objects there; Lite takes strings too, but answers them without their quotes.
    if type(value) is not dict and not (type(value) is list and rules.has_json_lists):
        return f"a value of type {type(value).__name__}, the store's JSON fields hold objects"
    if rules.max_json_bytes is None:
        return None
    size = len(orjson.dumps(value))
    return (
        None if size <= rules.max_json_bytes else f"{size} bytes as JSON, Milvus holds at most {rules.max_json_bytes}"
    )


def _check_array(column: Column, value: Any) -> str | None:
    if type(value) is not list:
        return f"a value of type {type(value).__name__}, expected a list"
    if column.max_capacity is not None and len(value) > column.max_capacity:
        return f"{len(value)} items, the field holds at most {column.max_capacity}"
    if column.element_type is None:
        return "an array without an element type"
    check = _CHECKS[column.element_type]
    return next((reason for item in value if (reason := check(column_of_items(column), item)) is not None), None)


def column_of_items(column: Column) -> Column:
    """Return an array's column as one of its items, with the same limits."""
    return Column(name=column.name, type=column.element_type or column.type, max_length=column.max_length)


def _check_unknown(column: Column, _: Any) -> str | None:
    return f"fields of type {column.type.name} are not written here"


_CHECKS: dict[FieldType, Callable[[Column, Any], str | None]] = {
    **dict.fromkeys(FieldType, _check_unknown),
    **dict.fromkeys(_INTEGER_BITS, _check_integer),
    FieldType.BOOL: _check_bool,
    FieldType.FLOAT: _check_float,
    FieldType.DOUBLE: _check_float,
    FieldType.VARCHAR: _check_text,
    FieldType.ARRAY: _check_array,
}
