"""UUIDs out of their text, as fast as Python makes them.

Belongs here: that. Does not belong here: which ids are UUIDs (``ids.py``), ids as text (``records.py``).
"""

import uuid


def parse_uuid(text: str) -> uuid.UUID:
    """Return what ``uuid.UUID(text)`` returns, in less than half the time: stores with UUIDs parse one per record.

    Raises:
        ValueError: As there.
    """
    digits = text.replace("-", "")
    if len(digits) != _UUID_DIGITS:
        return uuid.UUID(text)
    parsed = _new_uuid(uuid.UUID)
    _set_attribute(parsed, "int", int(digits, 16))  # a UUID refuses to be changed; its own __init__ does the same
    _set_attribute(parsed, "is_safe", _UNKNOWN)
    return parsed


_UUID_DIGITS = 32
_new_uuid = uuid.UUID.__new__
_set_attribute = object.__setattr__
_UNKNOWN = uuid.SafeUUID.unknown
