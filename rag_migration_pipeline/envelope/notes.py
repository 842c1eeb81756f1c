"""The text of an envelope: written, told apart from a user's own value, and read.

Belongs here: the notes of one record as text under `ENVELOPE_KEY`. Does not belong here: which notes a record needs,
and what is made of them (``envelope/``).

    {"v": 1, "for": "e42bfdc1", "id": "int:7", "doc": null, "norm": {"": 12.5}, "payload": {"tags": []}}

    v        1
    for      mark of the id under which the record is stored: what carries another mark is no envelope of this record
    id       the original id as `records.id_text`, where the target's id does not say it
    doc      the original document, where the document key does not say it (null: there was none)
    key      "user" where a user's own key stands under the document key
    norm     per vector name, the length of a vector of which the target keeps the direction only; of a multi-vector the
             list of all its lengths
    payload  the keys that the target cannot hold, with their values
    typed    the keys that stand in the payload in their natural form, with the values that they had
    part     the partition that the record was in
"""

import hashlib
from typing import Any

from rag_migration_pipeline.payloads import decode, encode
from rag_migration_pipeline.records import RecordId, id_from_text, id_text

VERSION = 1

Notes = dict[str, Any]

_MARK_BYTES = 4
_KNOWN = frozenset({"v", "for", "id", "doc", "key", "norm", "payload", "typed", "part"})


def seal(stored_id: RecordId, notes: Notes) -> str:
    """Return the envelope of a record.

    Raises:
        TypeError: A payload value is of a type that is not carried; names its path.
    """
    return encode({"v": VERSION, "for": mark_of(stored_id), **notes})


def mark_of(stored_id: RecordId) -> str:
    """Return the mark of an id: 8 hex digits."""
    text = id_text(stored_id).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=_MARK_BYTES).hexdigest()


def open_envelope(stored_id: RecordId, envelope: Any) -> Notes:
    """Return what an envelope says of a record; nothing where the value is no envelope of it.

    Args:
        stored_id: The id in the store that holds the record now.
        envelope: The value under `ENVELOPE_KEY`, or None.
    """
    if not isinstance(envelope, str) or not envelope:
        return {}
    try:
        notes = decode(envelope)
    except (ValueError, RecursionError):
        return {}
    return notes if isinstance(notes, dict) and _is_whole(notes) and notes["for"] == mark_of(stored_id) else {}


def original_id(stored_id: RecordId, envelope: Any) -> RecordId:
    """Return the id that a record had before it was packed; arguments as of `open_envelope`."""
    if not envelope:
        return stored_id
    notes = open_envelope(stored_id, envelope)
    return id_from_text(notes["id"]) if "id" in notes else stored_id


def _is_whole(notes: Notes) -> bool:
    """Return whether a JSON object is an envelope; one that is damaged stays in the payload like any user's value."""
    if notes.get("v") != VERSION or "for" not in notes or not notes.keys() <= _KNOWN:
        return False
    try:
        id_from_text(notes.get("id", "string:"))
    except (ValueError, AttributeError):
        return False
    lengths = notes.get("norm", {})
    return (
        isinstance(notes.get("doc", ""), str | None)
        and notes.get("key", "user") == "user"
        and isinstance(notes.get("payload", {}), dict)
        and isinstance(notes.get("typed", {}), dict)
        and isinstance(notes.get("part", ""), str)
        and isinstance(lengths, dict)
        and all(_is_length(length) for length in lengths.values())
    )


def _is_length(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, list) and all(isinstance(item, float) for item in value))
