"""Payloads as JSON text, without loss: the one codec of envelopes, digests and staged files.

Belongs here: encoding and decoding of payload values. Does not belong here: what a store can hold
(``stores/base.py``), the envelope (``envelope.py``).

orjson is several times faster than the standard library but turns NaN and infinities into null, refuses integers
above 64 bits when it writes and makes them floats when it reads (tried on orjson 3.11). Texts that need the standard
library's reader start with a blank, which JSON allows and which neither library writes by itself.
"""

import json
from typing import Any

import orjson

_OPTIONS = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


def encode(value: Any) -> str:
    """Return canonical JSON text: keys sorted, no spaces, the type of every value kept.

    Equal values give equal text, and values that differ in type (1, 1.0, True, "1") give different text.

    Raises:
        TypeError: A value that JSON does not have (bytes, datetime, NumPy scalar), or a key that is not a string.
    """
    try:
        text = orjson.dumps(value, option=_OPTIONS)
        if b"null" not in text:
            return text.decode()
    except TypeError:
        pass  # integers above 64 bits, lone surrogates, or a type that the slow path refuses by name
    check_json(value)
    return " " + json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def decode(text: str) -> Any:
    """Return the value that `encode` wrote."""
    return json.loads(text) if text.startswith(" ") else orjson.loads(text)


def check_json(value: Any, path: str = "payload") -> None:
    """Refuse values that JSON does not have.

    Raises:
        TypeError: Names the path of the first such value and its type.
    """
    if value is None or type(value) in (str, bool, int, float):
        return
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"{path}: key {key!r} is of type {type(key).__name__}, expected str")
            check_json(item, f"{path}.{key}")
    elif type(value) is list:
        for position, item in enumerate(value):
            check_json(item, f"{path}[{position}]")
    else:
        raise TypeError(f"{path}: a value of type {type(value).__name__} has no JSON form")
