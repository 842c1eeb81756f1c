"""Payload values as text, without loss: the one codec of envelopes, digests and staged files.

Belongs here: encoding and decoding of payload values, the values beyond JSON that are carried, and the natural form in
which a store without them holds them. Does not belong here: what a store can hold (``stores/capabilities.py``), the
envelope (``envelope/``).

A payload holds JSON values, and beside them, from Python callers and from mappings, the types of `TYPES`. In text such
a value is a tagged object, ``{"_rmp_type": "date", "value": "2024-01-02"}``; a user's own object with that key is
tagged itself, so the two never meet.

orjson is several times faster than the standard library but turns NaN and infinities into null, refuses integers
above 64 bits when it writes and makes them floats when it reads, and writes tuples, UUIDs and enums as if they were
JSON (tried on orjson 3.11). Texts that need the standard library's reader start with a blank, which JSON allows and
which neither library writes by itself.
"""

import base64
import datetime as dt
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

ENVELOPE_KEY = "_rmp_envelope"
"""Reserved payload key of the envelope; a user's key of this name travels inside the envelope."""

TYPES = (dt.datetime, dt.date, bytes, Decimal, uuid.UUID, tuple, set)
"""Values beyond JSON that are carried with their type; subclasses are not."""

MAX_DEPTH = 200
"""Most lists and objects inside each other that a record may have on its way; Python allows 1,000 calls, two a level.

A Qdrant server reads 128 (serde_json's limit), gRPC about 32; only stores in this process hold more.
"""

_TAG = "_rmp_type"
_TAG_TEXT = f'"{_TAG}"'
_TAG_BYTES = _TAG_TEXT.encode()
_SCALARS = frozenset({str, bool, int, float, type(None)})
_CONTAINERS = frozenset({dict, list})
_OPTIONS = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
# In JSON's escapes, a high and a low surrogate in a row are one character; in Python they may be two.
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def encode(value: Any) -> str:
    """Return canonical text: keys sorted, no spaces, the type of every value kept.

    Equal values give equal text, and values that differ in type (1, 1.0, True, "1") give different text.

    Raises:
        TypeError: A value that is neither JSON nor of one of `TYPES` (a NumPy scalar, an enum), or a key that is not a
            string.
    """
    return encode_bytes(value).decode()


def encode_bytes(value: Any) -> bytes:
    """Return what `encode` returns, in UTF-8: digests and files take it so."""
    if _is_json(value):
        try:
            text = orjson.dumps(value, option=_OPTIONS)
            if b"null" not in text and _TAG_BYTES not in text:
                return text
        except TypeError:
            pass  # integers above 64 bits, lone surrogates, or a key that the slow path refuses by name
    tagged = json.dumps(_tagged(value, "payload"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f" {tagged}".encode()


def decode(text: str | bytes) -> Any:
    """Return the value that `encode` or `encode_bytes` wrote.

    Raises:
        ValueError: The text is not JSON, or a tag in it is damaged.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    value = json.loads(data) if data.startswith(b" ") else orjson.loads(data)
    return _untagged(value) if _TAG_BYTES in data else value


def check_json(value: Any, path: str = "payload") -> None:
    """Refuse values that JSON does not have.

    Raises:
        TypeError: Names the path of the first such value and its type.
    """
    if type(value) in _SCALARS:
        return
    if type(value) is dict:
        for key, item in value.items():
            _check_key(key, path)
            check_json(item, f"{path}.{key}")
    elif type(value) is list:
        for position, item in enumerate(value):
            check_json(item, f"{path}[{position}]")
    else:
        raise TypeError(f"{path}: a value of type {type(value).__name__} has no JSON form")


def has_typed(value: Any) -> bool:
    """Return whether a value is, or holds, one of `TYPES`, and nothing that is not carried."""
    if _is_json(value):
        return False
    try:
        encode(value)
    except TypeError:
        return False
    return True


def is_deeper(value: Any, depth: int) -> bool:
    """Return whether more than that many lists and objects lie inside each other."""
    if type(value) is dict:
        items: Any = value.values()
    elif type(value) is list:
        items = value
    else:
        return False
    if depth == 0:
        return True
    for item in items:  # noqa: SIM110  without a call for each scalar
        if type(item) in _CONTAINERS and is_deeper(item, depth - 1):
            return True
    return False


def is_too_deep(payload: Mapping[str, Any]) -> bool:
    """Return whether a payload is nested more than `MAX_DEPTH` deep, which no step could encode."""
    return not _SCALARS.issuperset(map(type, payload.values())) and is_deeper(payload, MAX_DEPTH)


def natural_form(value: Any) -> Any:
    """Return a value as JSON, in a form that filters and indexes can use; JSON values are themselves.

    Dates are ISO 8601 text (datetimes with a zone in UTC, so that text sorts by time), bytes base64 text, decimals the
    nearest float, UUIDs their text, tuples and sets lists.
    """
    kind = type(value)
    if kind is dict:
        return {key: natural_form(item) for key, item in value.items()}
    if kind in (list, tuple):
        return [natural_form(item) for item in value]
    if kind is set:
        return [natural_form(item) for item in _in_order(value)]
    if kind is dt.datetime:
        return _in_utc(value).isoformat()
    if kind is Decimal:
        return _nearest_float(value)
    return _WRITERS[kind](value) if kind in _WRITERS else value


def _is_json(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        items: Iterable[Any] = value.values()
    elif kind is list:
        items = value
    else:
        return kind in _SCALARS
    if _SCALARS.issuperset(map(type, items)):
        return True
    for item in items:  # noqa: SIM110  a loop costs a third less here than `all` over a generator
        if type(item) not in _SCALARS and not _is_json(item):
            return False
    return True


def _check_key(key: Any, path: str) -> None:
    if type(key) is not str:
        raise TypeError(f"{path}: key {key!r} is of type {type(key).__name__}, expected str")


def _tagged(value: Any, path: str) -> Any:
    """Return a value as JSON with tags.

    Raises:
        TypeError: Names the path of the first value that has no form, and its type.
    """
    kind = type(value)
    if kind is str:
        return _tag("text", list(map(ord, value))) if _SURROGATE_PAIR.search(value) else value
    if kind in _SCALARS:
        return value
    if kind is list:
        return [_tagged(item, f"{path}[{position}]") for position, item in enumerate(value)]
    if kind is tuple:
        return _tag("tuple", [_tagged(item, f"{path}[{position}]") for position, item in enumerate(value)])
    if kind is set:
        return _tag("set", [_tagged(item, path) for item in _in_order(value)])
    if kind is dict:
        for key in value:
            _check_key(key, path)
        pairs = {key: _tagged(item, f"{path}.{key}") for key, item in value.items()}
        if _TAG in pairs or any(_SURROGATE_PAIR.search(key) for key in pairs):
            return _tag("object", [[_tagged(key, path), item] for key, item in sorted(pairs.items())])
        return pairs
    if kind is dt.datetime:
        return _tagged_datetime(value, path)
    if kind in _WRITERS:
        return _tag(_NAMES[kind], _WRITERS[kind](value))
    raise TypeError(f"{path}: a value of type {kind.__name__} has no JSON form and is not carried")


def _tag(name: str, value: Any) -> dict[str, Any]:
    return {_TAG: name, "value": value}


def _tagged_datetime(value: dt.datetime, path: str) -> dict[str, Any]:
    tagged = _tag("datetime", value.replace(tzinfo=None).isoformat())
    if value.fold:
        tagged["fold"] = value.fold
    zone = value.tzinfo
    if isinstance(zone, ZoneInfo) and zone.key is not None:
        tagged["zone"] = zone.key
    elif isinstance(zone, dt.timezone):
        offset = zone.utcoffset(None)
        tagged["offset"] = [offset.days, offset.seconds, offset.microseconds]
    elif zone is not None:
        raise TypeError(f"{path}: a datetime with a time zone of type {type(zone).__name__} is not carried")
    return tagged


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _TAG not in value:
        return {key: _untagged(item) for key, item in value.items()}
    try:
        return _READERS[value[_TAG]](value)
    except (KeyError, TypeError, AttributeError, ValueError, InvalidOperation, ZoneInfoNotFoundError) as error:
        raise ValueError(f"a damaged value of type {str(value.get(_TAG))[:40]!r}") from error


def _read_datetime(tagged: Mapping[str, Any]) -> dt.datetime:
    zone: dt.tzinfo | None = None
    if "zone" in tagged:
        zone = ZoneInfo(tagged["zone"])
    elif "offset" in tagged:
        zone = dt.timezone(dt.timedelta(*tagged["offset"]))
    return dt.datetime.fromisoformat(tagged["value"]).replace(tzinfo=zone, fold=tagged.get("fold", 0))


def _in_order(values: set[Any]) -> list[Any]:
    return sorted(values, key=encode)


def _in_utc(value: dt.datetime) -> dt.datetime:
    try:
        return value if value.tzinfo is None else value.astimezone(dt.UTC)
    except OverflowError:  # within a day of the first or last year
        return value


def _nearest_float(value: Decimal) -> float | str:
    try:
        return float(value)
    except ValueError:  # a signalling NaN
        return str(value)


_NAMES: Mapping[type, str] = {dt.date: "date", bytes: "bytes", Decimal: "decimal", uuid.UUID: "uuid"}
_WRITERS: Mapping[type, Callable[[Any], str]] = {
    dt.date: dt.date.isoformat,
    bytes: lambda value: base64.b64encode(value).decode(),
    Decimal: str,
    uuid.UUID: str,
}
_READERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "datetime": _read_datetime,
    "date": lambda tagged: dt.date.fromisoformat(tagged["value"]),
    "bytes": lambda tagged: base64.b64decode(tagged["value"], validate=True),
    "decimal": lambda tagged: Decimal(tagged["value"]),
    "uuid": lambda tagged: uuid.UUID(tagged["value"]),
    "tuple": lambda tagged: tuple(_untagged(tagged["value"])),
    "set": lambda tagged: set(_untagged(tagged["value"])),
    "text": lambda tagged: "".join(map(chr, tagged["value"])),
    "object": lambda tagged: {_untagged(key): _untagged(item) for key, item in tagged["value"]},
}
