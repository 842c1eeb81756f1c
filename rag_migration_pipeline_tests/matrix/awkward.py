"""Awkward records in each store's own terms, and what such a record means when no store is asked.

Belongs here: records as their store's users write them, the meaning of what lies in a store (id, document, payload,
vector), and the comparison of meanings. It shares no code with the pipeline: the envelope is read as its page says.
"""

import json
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from rag_migration_pipeline.records import DenseColumn, RecordBatch
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.comparison import value_differences

DIMENSION = 6
RELATIVE_ERROR = 1e-6
COLLECTION_METADATA = {"description": "naïve 漢字 🜚", "number": 1, "share": 0.5, "is_old": False}
ENVELOPE = "_rmp_envelope"

TEXT_IDS = (
    *("a", "007", "7", " 7", "true", "null", "a b", "tab\there", "line\nbreak", "o'neill", 'say "hi"', "back\\slash"),
    *("naïve", "e\u0301", "é", "漢字", "🜚", "\u202e", "' or 1==1 or '", "%_*?", "../up", "a/b", "x" * 300),
    *("6f1d6f0e-52a4-4ba1-9f0a-4d5d5a2f3d4e", "6F1D6F0E-52A4-4BA1-9F0A-4D5D5A2F3D4F", "-7", "int:7", "string:a"),
)
POINT_IDS = (
    *(0, 1, 7, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1),
    *map(uuid.UUID, ("6f1d6f0e-52a4-4ba1-9f0a-4d5d5a2f3d4e", "00000000-0000-0000-0000-000000000000")),
    *(uuid.uuid5(uuid.NAMESPACE_URL, str(number)) for number in range(6)),
)
INTEGER_IDS = (0, 1, -1, -7, 7, 2**31, -(2**31) - 1, 2**53 + 1, -(2**53) - 1, 2**63 - 2, -(2**63))
DOCUMENTS: tuple[str | None, ...] = ("text", "", None, 'naïve 漢字 🜚\n\t"quotes" \\ null', "x" * 5_000)

_SIMPLE: tuple[dict[str, Any], ...] = (
    {},
    {"text": "naïve 漢字 🜚 'q' \"Q\" \\", "empty": "", "digits": "007", "yes": "true"},
    {"true": True, "false": False, "one": 1, "zero": 0, "minus": -1, "float": 0.25, "whole": 1.0},
    {
        "max": 2**63 - 1,
        "min": -(2**63),
        "odd": 2**53 + 1,
        "tiny": 5e-324,
        "large": 1.7976931348623157e308,
        "pi": 0.1 + 0.2,
    },
    {"texts": ["a", "b", "a"], "ints": [1, 2], "floats": [1.0, 2.5], "bools": [True, False], "one": [""]},
    {"a.b": 1, "ü": 2, "with space": 3, "quote'\"": 4, "k" * 200: 5, "vector": 6, "pk": 7, "payload": 8},
    {"long": "y" * 10_000},
)
_FREE: tuple[dict[str, Any], ...] = (
    {"null": None, "empty": "", "nothing": [], "object": {}},
    {"deep": {"a": {"b": [1, {"c": None}]}, "": 0}, "list": [{"x": 1}, {"x": None}], "lists": [[1], [], ["a"]]},
    {"mixed": [1, "a", None, True, 1.5, {"k": []}], "nearly": [1, 1.0], "nulls": [None], "flags": [1, True]},
    {"$dollar": 1, "#hash": 2, "": 3, "chroma:document": 4, "embedding": [1.0], "metadata": {"a": 1}},
)
"""What a store with free payloads holds beside the simple values."""


def awkward_vectors(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return vectors of many lengths, one of them zero and one of length 1."""
    values = np.random.default_rng(count).normal(size=(count, DIMENSION)) * 10.0 ** (np.arange(count) % 5 - 2)[:, None]
    values[1] = 0
    values[2] /= np.linalg.norm(values[2])
    return values.astype(np.float32)


def _batch(
    ids: Sequence[Any], payloads: Sequence[dict[str, Any]], documents: Sequence[str | None] | None
) -> RecordBatch:
    return RecordBatch(list(ids), {"": DenseColumn(awkward_vectors(len(ids)))}, list(payloads), documents)


def _in_turns(values: Sequence[Any], count: int) -> list[Any]:
    return [values[row % len(values)] for row in range(count)]


def chroma_records() -> RecordBatch:
    """Strings as ids, documents beside flat metadata."""
    count = len(TEXT_IDS)
    return _batch(TEXT_IDS, _in_turns((*_SIMPLE, {"document": "mine", "id": 5}), count), _in_turns(DOCUMENTS, count))


def _under_a_key(payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put a document under its key, in turns, and now and then a value that is no document."""
    values: tuple[Any, ...] = (*DOCUMENTS, 5, ["x"], None)
    return [
        payload if row % (len(values) + 1) == len(values) else {**payload, "document": values[row % (len(values) + 1)]}
        for row, payload in enumerate(payloads)
    ]


def qdrant_records() -> RecordBatch:
    """Unsigned integers and UUIDs as ids, payloads of any JSON."""
    kinds = (*_SIMPLE, *_FREE, {"id": "mine", ENVELOPE: "not an envelope"})
    ids = (*POINT_IDS, *range(100, 100 + 2 * len(kinds)))
    return _batch(ids, _under_a_key(_in_turns(kinds, len(ids))), None)


def milvus_text_records() -> RecordBatch:
    """VARCHAR keys and dynamic fields; the key and the vector field take their names from the payload."""
    kinds = [{k: v for k, v in payload.items() if k not in ("vector", "id")} for payload in (*_SIMPLE, *_FREE)]
    ids = (*TEXT_IDS, "")
    return _batch(ids, _under_a_key(_in_turns(kinds, len(ids))), None)


def milvus_integer_records() -> RecordBatch:
    """INT64 keys, negative ones too, and typed fields: title VARCHAR, year INT64, score DOUBLE, flag BOOL."""
    payloads = [
        {
            "title": f"t{row}" if row % 3 else "",
            "year": (2**63 - 1, -5, 0)[row % 3],
            "score": row / 7,
            "flag": row % 2 == 0,
        }
        for row in range(len(INTEGER_IDS))
    ]
    extra = _in_turns(({}, {"note": None}, {"tags": ["a", 1]}), len(payloads))
    return _batch(INTEGER_IDS, [{**a, **b} for a, b in zip(payloads, extra, strict=True)], None)


MAX_VALUE_CHARACTERS = 10_000
"""Longer samples are left out: a Milvus text field ends at 65,535 bytes, and that limit has a test of its own."""


def everything(ids: Sequence[Any]) -> RecordBatch:
    """Return records with every awkward key and value of the contract's samples, and documents of all sorts."""
    values = [value for value in samples.AWKWARD_VALUES if len(repr(value)) <= MAX_VALUE_CHARACTERS]
    texts = [value for value in values if isinstance(value, str)]
    keys = [key for key in samples.AWKWARD_KEYS if isinstance(key, str)]
    payloads: list[dict[str, Any]] = [{"value": value, "document": value} for value in values]
    payloads += [{key: values[row % len(values)]} for row, key in enumerate(keys)] + [dict.fromkeys(keys, 1)]
    assert len(payloads) <= len(ids), f"{len(payloads)} payloads want as many ids"
    return _batch(ids, _in_turns(payloads, len(ids)), _in_turns([None, *texts], len(ids)))


# -- what a record means ----------------------------------------------------------------------------------------------


Meaning = dict[tuple[str, Any], tuple[dict[str, Any], str | None, Any]]


def meaning(raw: RecordBatch) -> Meaning:
    """Return id (with its type) -> payload, document, vector of records as they lie in a store, envelopes opened."""
    found: Meaning = {}
    for row, stored_id in enumerate(raw.ids):
        payload = dict(raw.payloads[row])
        notes = _open_envelope(payload)
        document = raw.documents[row] if raw.documents is not None else None
        if raw.documents is None and "doc" not in notes and isinstance(payload.get("document"), str):
            document = payload.pop("document")
        if "doc" in notes:
            document = notes["doc"]
            if raw.documents is None and notes.get("key") != "user":
                payload.pop("document", None)
        payload.update(notes.get("payload", {}))
        vector = raw.dense().values[row].astype(np.float64)
        if "" in notes.get("norm", {}) and np.linalg.norm(vector) > 0:
            vector *= notes["norm"][""] / np.linalg.norm(vector)
        record_id = _id_of(notes["id"]) if "id" in notes else stored_id
        key = (type(record_id).__name__, record_id)
        assert key not in found, f"{record_id!r} comes twice"
        found[key] = (payload, document, vector)
    return found


def _open_envelope(payload: dict[str, Any]) -> dict[str, Any]:
    text = payload.get(ENVELOPE)
    if text == "":
        del payload[ENVELOPE]  # the filler of a typed field
    if not isinstance(text, str) or not text.lstrip().startswith("{"):
        return {}
    notes: dict[str, Any] = json.loads(text)
    assert notes.pop("v") == 1
    del payload[ENVELOPE]
    return notes


def _id_of(text: str) -> Any:
    kind, _, rest = text.partition(":")
    return {"int": int, "uuid": uuid.UUID, "string": str}[kind](rest)


def differences(expected: Meaning, got: Meaning) -> list[str]:
    """Return every difference between two collections in words."""
    found = [f"{key}: missing" for key in expected if key not in got]
    found += [f"{key}: extra" for key in got if key not in expected]
    for key, (payload, document, vector) in expected.items():
        if key not in got:
            continue
        other_payload, other_document, other_vector = got[key]
        found += [f"{key}: {text}" for text in value_differences(payload, other_payload)]
        if document != other_document:
            found.append(f"{key}: document {str(document)[:20]!r} became {str(other_document)[:20]!r}")
        distance = float(np.linalg.norm(vector - other_vector))
        if not distance <= RELATIVE_ERROR * float(np.linalg.norm(vector)):
            found.append(f"{key}: vector {vector} became {other_vector}")
    return found
