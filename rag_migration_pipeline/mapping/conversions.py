"""Conversions of values by name: the exact meaning of ``int``, ``split(",")``, ``timestamp`` and the others.

Belongs here: the functions, their names, which of them another one undoes. Does not belong here: which field they are
applied to, what happens to a record that one refuses (``mapping/``).

Each takes one value and returns another or raises ValueError with the reason; values stay out of the reason. None
passes every conversion as it is. Nothing is guessed: what a conversion does not name is refused.

    int             whole numbers; texts of digits with a sign; floats without a fraction below 2**53
    float           numbers that a float holds exactly; decimal texts, not nan or inf
    str             texts; whole numbers; floats in their shortest form; true, false; dates in ISO 8601; UUIDs
    bool            true, false; the texts "true" and "false" in any case; the numbers 0 and 1. Not "yes".
    uuid            UUID texts in any spelling (capitals, urn:uuid:, braces), as canonical lower-case text
    timestamp       dates -> whole seconds since 1970 (timestamp_ms: milliseconds); a rest is refused
    iso_datetime    dates, and seconds since 1970 -> text such as 2024-01-02T03:04:05+00:00
    datetime        dates as texts of ISO 8601 -> date values
    json            any value -> JSON text;       from_json    JSON text -> value
    join(",")       lists of texts -> text;       split(",")   text -> list of texts; "" is the empty list
    lower upper strip nfc    texts; nfc is the unicode normal form C

Dates are date values and texts of ISO 8601 with a zone; for those without one, name the zone: ``timestamp("UTC")``,
``iso_datetime("Europe/Paris")``, ``datetime("UTC")``.
"""

import json
import math
import re
import unicodedata
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from rag_migration_pipeline.payloads import check_json

MAX_EXACT_FLOAT_INT = 2**53
"""Up to here every whole number has a float of its own."""

_CALL = re.compile(r"""\s*([a-z_0-9]+)\s*(?:\(\s*("(?:[^"\\]|\\.)*"|'[^']*')\s*\))?\s*""", re.DOTALL)


@dataclass(frozen=True)
class Conversion:
    """A conversion with its argument.

    Attributes:
        name: As it is written, with the argument.
        function: Value (never None) -> value.
        reverse: The text of the conversion that undoes it exactly, or None.
    """

    name: str
    function: Callable[[Any], Any]
    reverse: str | None = None

    def __call__(self, value: Any) -> Any:
        """Convert a value; None stays None.

        Raises:
            ValueError: The conversion does not take this value.
        """
        return None if value is None else self.function(value)


def parse_conversion(text: str) -> Conversion:
    """Return the conversion that a text names, such as ``int`` or ``split(",")``.

    Raises:
        ValueError: There is none of that name, or its argument is wrong; names those that there are.
    """
    match = _CALL.fullmatch(text)
    if match is None:
        raise ValueError(f'{text!r} is no conversion; expected a name or a name with a text, as in split(",")')
    name, quoted = match.groups()
    if name in _PLAIN and quoted is None:
        return Conversion(name, _PLAIN[name], _REVERSES.get(name))
    if name in _ZONED:
        zone = None if quoted is None else _zone(_unquoted(quoted))
        return Conversion(text.strip(), partial(_ZONED[name], zone=zone))
    if name in _SEPARATED and quoted is not None and _unquoted(quoted):
        other = "join" if name == "split" else "split"
        return Conversion(text.strip(), partial(_SEPARATED[name], separator=_unquoted(quoted)), f"{other}({quoted})")
    if name in _PLAIN:
        raise ValueError(f"the conversion {name} takes no argument")
    if name in _SEPARATED:
        raise ValueError(f'the conversion {name} takes the text between the items, as in {name}(",")')
    raise ValueError(f"unknown conversion {name!r}; known: {', '.join(conversion_names())}")


def conversion_names() -> list[str]:
    """Return the names of all conversions, sorted."""
    return sorted([*_PLAIN, *_ZONED, *_SEPARATED])


def _unquoted(quoted: str) -> str:
    if quoted.startswith("'"):
        return quoted[1:-1]
    try:
        return str(json.loads(quoted))
    except ValueError as error:
        raise ValueError(f"{quoted} is no text: {error}") from error


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {name!r}") from error


def _refusal(expected: str, value: Any) -> ValueError:
    return ValueError(f"expected {expected}, got {type(value).__name__}")


def _int(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is str:
        if re.fullmatch(r"[+-]?[0-9]{1,1000}", value):
            return int(value)
        raise ValueError("expected a whole number, got a text that is none")
    if type(value) is float:
        if value.is_integer() and abs(value) <= MAX_EXACT_FLOAT_INT:
            return int(value)
        raise ValueError("expected a whole number, got a float with a fraction, above 2**53 or not finite")
    raise _refusal("a whole number or a text of one", value)


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        if abs(value) <= MAX_EXACT_FLOAT_INT:
            return float(value)
        raise ValueError("expected a number that a float holds exactly, got one above 2**53")
    if type(value) is str:
        if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value) and math.isfinite(float(value)):
            return float(value)
        raise ValueError("expected a decimal number, got a text that is none")
    raise _refusal("a number or a text of one", value)


def _str(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) in (int, float):
        return repr(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    raise _refusal("a text, a number, true, false, a date or a UUID (for lists and objects there is json)", value)


def _bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is int and value in (0, 1):
        return value == 1
    if type(value) is str and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if type(value) in (str, int):
        raise ValueError('expected true, false, "true", "false", 0 or 1, got another text or number')
    raise _refusal("true or false", value)


def _uuid(value: Any) -> str:
    if isinstance(value, uuid.UUID):
        return str(value)
    if type(value) is not str:
        raise _refusal("a UUID as text", value)
    try:
        return str(uuid.UUID(value))
    except ValueError as error:
        raise ValueError("expected a UUID, got a text that is none") from error


def _datetime(value: Any, zone: ZoneInfo | None = None) -> datetime:
    if type(value) is str:
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("expected a date in ISO 8601, got a text that is none") from error
    if not isinstance(value, datetime):
        raise _refusal("a date or a text of ISO 8601", value)
    if value.tzinfo is not None:
        return value
    if zone is None:
        raise ValueError('the date has no time zone; name the one that is meant, as in timestamp("UTC")')
    return value.replace(tzinfo=zone)


def _epoch(value: Any, zone: ZoneInfo | None = None, *, per_second: int = 1) -> int:
    moment = _datetime(value, zone) - datetime(1970, 1, 1, tzinfo=UTC)
    microseconds = (moment.days * 86_400 + moment.seconds) * 10**6 + moment.microseconds
    whole, rest = divmod(microseconds * per_second, 10**6)
    if rest:
        unit = "second" if per_second == 1 else "millisecond"
        raise ValueError(f"the date has a fraction of a {unit}, which would be lost")
    return whole


def _iso_datetime(value: Any, zone: ZoneInfo | None = None) -> str:
    if type(value) in (int, float):
        try:
            return datetime.fromtimestamp(value, UTC).isoformat()
        except (OverflowError, ValueError, OSError) as error:
            raise ValueError("expected seconds since 1970, got a number outside the years 1 to 9999") from error
    return _datetime(value, zone).isoformat()


def _json(value: Any) -> str:
    try:
        check_json(value)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _from_json(value: Any) -> Any:
    if type(value) is not str:
        raise _refusal("JSON text", value)
    try:
        return json.loads(value)  # not orjson, which makes floats of large integers
    except (ValueError, RecursionError) as error:
        raise ValueError("expected JSON, got a text that is none") from error


def _join(value: Any, separator: str) -> str:
    if type(value) is not list or any(type(item) is not str for item in value):
        raise _refusal("a list of texts", value)
    if value == [""] or any(separator in item for item in value):
        raise ValueError(f"an item contains {separator!r} or is the only one and empty: split could not bring it back")
    return separator.join(value)


def _split(value: Any, separator: str) -> list[str]:
    if type(value) is not str:
        raise _refusal("a text", value)
    return value.split(separator) if value else []


def _on_text(function: Callable[[str], str]) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if type(value) is not str:
            raise _refusal("a text", value)
        return function(value)

    return convert


_PLAIN: dict[str, Callable[[Any], Any]] = {
    "int": _int,
    "float": _float,
    "str": _str,
    "bool": _bool,
    "uuid": _uuid,
    "json": _json,
    "from_json": _from_json,
    "lower": _on_text(str.lower),
    "upper": _on_text(str.upper),
    "strip": _on_text(str.strip),
    "nfc": _on_text(partial(unicodedata.normalize, "NFC")),
}
_ZONED: dict[str, Callable[..., Any]] = {
    "timestamp": _epoch,
    "timestamp_ms": partial(_epoch, per_second=1000),
    "iso_datetime": _iso_datetime,
    "datetime": _datetime,
}
_SEPARATED: dict[str, Callable[..., Any]] = {"join": _join, "split": _split}
_REVERSES = {"json": "from_json"}
