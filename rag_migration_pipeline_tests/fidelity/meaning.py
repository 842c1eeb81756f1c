"""What lies in a store means, opened as docs/fidelity.md says; it shares no code with the pipeline.

Belongs here: reading an envelope, its marks and its tagged values from the page alone, and comparing two collections.
Does not belong here: reading a store (the back doors of the contract suite).
"""

import base64
import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from rag_migration_pipeline.records import DenseColumn, RecordBatch, SparseColumn, VectorColumn
from rag_migration_pipeline_tests.contract.comparison import value_differences

ENVELOPE = "_rmp_envelope"
RELATIVE_ERROR = 1e-6


Vector = npt.NDArray[np.float64] | dict[int, float]
"""A dense vector, the rows of a multi-vector, or the entries of a sparse one by index."""


@dataclass(frozen=True)
class Held:
    """One record without its id."""

    payload: Mapping[str, Any]
    document: str | None
    partition: str | None
    vectors: Mapping[str, Vector | None]


Meaning = dict[tuple[str, Any], Held]


def meaning(raw: RecordBatch, *, has_field: bool = False) -> Meaning:
    """Return records as they lie in a store by their original id (with its type), envelopes opened.

    Args:
        raw: As the back door reads them.
        has_field: Whether the envelope is a typed field (Milvus), in which an empty text stands for nothing.
    """
    found: Meaning = {}
    for row, stored_id in enumerate(raw.ids):
        payload = dict(raw.payloads[row])
        if has_field and payload[ENVELOPE] == "":
            del payload[ENVELOPE]
        notes = _open(payload, stored_id)
        partition = raw.partitions[row] if raw.partitions is not None else None
        document = _document(raw, row, payload, notes)
        for key, value in notes.get("typed", {}).items():
            assert key in payload, f"{stored_id!r}: the natural form of {key!r} is gone"
            payload[key] = value
        payload.update(notes.get("payload", {}))
        record_id = _id(notes["id"]) if "id" in notes else stored_id
        key = (type(record_id).__name__, record_id)
        assert key not in found, f"{record_id!r} comes twice"
        found[key] = Held(payload, document, partition or notes.get("part"), _vectors(raw, row, notes.get("norm", {})))
    return found


def _open(payload: dict[str, Any], stored_id: Any) -> dict[str, Any]:
    text = payload.get(ENVELOPE)
    try:
        notes = _value(json.loads(text)) if isinstance(text, str) else None
    except (ValueError, KeyError):
        return {}
    if not isinstance(notes, dict) or notes.get("for") != _mark(stored_id):
        return {}
    assert notes["v"] == 1
    del payload[ENVELOPE]
    return notes


def _mark(stored_id: Any) -> str:
    kind = {str: "string", int: "int", uuid.UUID: "uuid"}[type(stored_id)]
    return hashlib.blake2b(f"{kind}:{stored_id}".encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def _id(text: str) -> Any:
    kind, _, rest = text.partition(":")
    return {"int": int, "uuid": uuid.UUID, "string": str}[kind](rest)


def _document(raw: RecordBatch, row: int, payload: dict[str, Any], notes: dict[str, Any]) -> str | None:
    if "doc" in notes:
        if raw.documents is None and notes.get("key") != "user":
            payload.pop("document", None)
        return notes["doc"]  # type: ignore[no-any-return]
    if raw.documents is not None:
        return raw.documents[row]
    return payload.pop("document") if isinstance(payload.get("document"), str) else None


def _value(value: Any) -> Any:
    """Return a value of an envelope with its tagged objects replaced by what they stand for."""
    if isinstance(value, list):
        return [_value(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "_rmp_type" not in value:
        return {key: _value(item) for key, item in value.items()}
    return _TAGGED[value["_rmp_type"]](value)


def _datetime(tagged: dict[str, Any]) -> dt.datetime:
    zone: dt.tzinfo | None = None
    if "zone" in tagged:
        zone = ZoneInfo(tagged["zone"])
    if "offset" in tagged:
        days, seconds, microseconds = tagged["offset"]
        zone = dt.timezone(dt.timedelta(days, seconds, microseconds))
    return dt.datetime.fromisoformat(tagged["value"]).replace(tzinfo=zone, fold=tagged.get("fold", 0))


_TAGGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "datetime": _datetime,
    "date": lambda tagged: dt.date.fromisoformat(tagged["value"]),
    "bytes": lambda tagged: base64.b64decode(tagged["value"]),
    "decimal": lambda tagged: Decimal(tagged["value"]),
    "uuid": lambda tagged: uuid.UUID(tagged["value"]),
    "tuple": lambda tagged: tuple(map(_value, tagged["value"])),
    "set": lambda tagged: set(map(_value, tagged["value"])),
    "text": lambda tagged: "".join(map(chr, tagged["value"])),
    "object": lambda tagged: {_value(key): _value(item) for key, item in tagged["value"]},
}


def _vectors(raw: RecordBatch, row: int, norms: dict[str, Any]) -> dict[str, Vector | None]:
    found: dict[str, Vector | None] = {}
    for name, column in raw.vectors.items():
        vector = _vector(column, row)
        if name in norms and not isinstance(vector, dict | None):
            lengths = np.linalg.norm(vector, axis=-1, keepdims=True)
            wanted = np.reshape(norms[name], lengths.shape)
            vector = vector * np.divide(wanted, lengths, out=np.ones_like(lengths), where=lengths > 0)
        found[name] = vector
    return found


def _vector(column: VectorColumn, row: int) -> Vector | None:
    if isinstance(column, SparseColumn):
        indices, values = column.indices[row], column.values[row]
        if indices is None or values is None:
            return None
        return dict(zip(indices.tolist(), values.astype(np.float64).tolist(), strict=True))
    if isinstance(column, DenseColumn) and column.present is not None and not column.present[row]:
        return None
    value = column.values[row]
    return None if value is None else value.astype(np.float64)


def differences(expected: Meaning, got: Meaning, tolerance: float = RELATIVE_ERROR) -> list[str]:
    """Return every difference between two collections in words; vectors may be off by that share of their length."""
    assert expected, "a comparison of nothing proves nothing"
    found = [f"{key}: missing" for key in expected if key not in got]
    found += [f"{key}: extra" for key in got if key not in expected]
    for key in expected.keys() & got.keys():
        before, after = expected[key], got[key]
        found += [f"{key}: {text}" for text in value_differences(dict(before.payload), dict(after.payload))]
        for what in ("document", "partition"):
            if getattr(before, what) != getattr(after, what):
                found.append(f"{key}: {what} {getattr(before, what)!r:.60} became {getattr(after, what)!r:.60}")
        found += [f"{key}: {text}" for text in _vector_differences(before.vectors, after.vectors, tolerance)]
    return found


def _vector_differences(before: Mapping[str, Any], after: Mapping[str, Any], tolerance: float) -> list[str]:
    found = []
    for name in before.keys() | after.keys():
        vector, other = before.get(name), after.get(name)
        if not _is_near(vector, other, tolerance):
            found.append(f"vector {name!r}: {vector} became {other}")
    return found


def _is_near(vector: Vector | None, other: Vector | None, tolerance: float) -> bool:
    if vector is None or other is None or isinstance(vector, dict) or isinstance(other, dict):
        return type(vector) is type(other) and bool(vector == other)
    if vector.shape != other.shape:
        return False
    distance = np.linalg.norm(vector - other, axis=-1)  # of each vector of a multi-vector
    return bool((distance <= tolerance * np.linalg.norm(vector, axis=-1)).all())
