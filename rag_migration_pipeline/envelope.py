"""What a target cannot hold natively, packed beside the record and unpacked on the way home.

Belongs here: turning records into a target's own terms and back. Does not belong here: what the target can hold
(``stores/capabilities.py``), which target spec is chosen (``plan.py``).

The envelope is one reserved payload key holding one versioned JSON string, written only for records that need it:

    {"v": 1, "id": "int:7", "doc": null, "norm": {"": 12.5}, "payload": {"tags": []}}

    id       the original id as `records.id_text`, where the target's id does not say it
    doc      the original document, where the document key does not say it (null: there was none)
    key      "user" where a user's own key stands under the document key
    norm     per vector name, the length of a vector of which the target keeps the direction only
    payload  the keys that the target cannot hold exactly, with their values

Natural fields stay where a filter or an index finds them; the envelope adds, it does not hide.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rag_migration_pipeline.ids import IdRule
from rag_migration_pipeline.payloads import decode, encode
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    Payload,
    RecordBatch,
    RecordId,
    VectorColumn,
    id_from_text,
    id_text,
)
from rag_migration_pipeline.stores.capabilities import Capabilities, PayloadRules

ENVELOPE_KEY = "_rmp_envelope"
"""Reserved payload key; a user's key of this name travels inside the envelope."""

VERSION = 1
UNIT_LENGTH_TOLERANCE = 5e-7
"""A length this near to 1 is 1. What Qdrant normalised is off by up to 1.3e-7 (qdrant-edge-py 0.9.0, 4 to 1,536
dimensions), and it leaves vectors within 5e-7 as they are (``is_length_zero_or_normalized``: 1e-6 of the square)."""


@dataclass(frozen=True)
class Layout:
    """How one collection of one store holds records.

    Attributes:
        id_rule: How ids are written.
        document_key: Payload key of the document where the store has none beside the payload; None where it has.
        text_fields: Typed text fields, which every record is given; "" stands for nothing there (null, in records
            that others wrote into a field that may be null).
        payload: Rules for payload values, with the collection's own field names reserved.
        normalised: Names of vectors of which the store keeps the direction only.
    """

    id_rule: IdRule
    document_key: str | None
    text_fields: frozenset[str]
    payload: PayloadRules
    normalised: frozenset[str]


def layout_of(spec: CollectionSpec, capabilities: Capabilities, document_key: str) -> Layout:
    """Return how a collection holds records.

    Args:
        spec: The collection as the store describes it (or as it is about to be created).
        capabilities: What the store can hold.
        document_key: The store's setting of that name.
    """
    typed = {field.name for field in spec.fields if field.type == "string"}
    reserved = {ENVELOPE_KEY} | set(capabilities.payload.reserved_keys)
    reserved |= {name for name in (spec.id_field, spec.settings.get("vector_field")) if name}
    reserved |= set(spec.settings.get("vector_fields", {}).values())
    rules = replace(capabilities.payload, reserved_keys=frozenset(reserved))
    return Layout(
        id_rule=IdRule(spec.id_kinds, spec.max_id_length_bytes, capabilities.has_empty_string_id),
        document_key=None if capabilities.has_documents else document_key,
        text_fields=frozenset(typed & {document_key, ENVELOPE_KEY}),
        payload=rules,
        normalised=frozenset(v.name for v in spec.vectors if v.metric in capabilities.normalised_metrics),
    )


def pack(batch: RecordBatch, layout: Layout) -> RecordBatch:
    """Return the batch in the target's own terms.

    Args:
        batch: Records as they left their source; not changed.
        layout: How the target holds them.

    Returns:
        A batch with the same vectors (same arrays), native ids, and payloads with the envelope where one is needed.
    """
    norms = _norms(batch.vectors, layout.normalised)
    ids: list[RecordId] = []
    payloads: list[Payload] = []
    originals = _documents_of(batch)
    documents = list(originals)
    for row, record_id in enumerate(batch.ids):
        native = layout.id_rule.native(record_id)
        notes: dict[str, Any] = {}
        if native != record_id:
            notes["id"] = id_text(record_id)
        lengths = {name: values[row] for name, values in norms.items() if values[row] is not None}
        if lengths:
            notes["norm"] = lengths
        ids.append(native)
        if layout.document_key is None:
            documents[row] = _native_document(documents[row], notes, layout.payload)
        payloads.append(_pack_payload(batch.payloads[row], originals[row], notes, layout))
    return RecordBatch(ids, batch.vectors, payloads, documents if layout.document_key is None else None)


def _native_document(document: str | None, notes: dict[str, Any], rules: PayloadRules) -> str | None:
    """Return the document for the store's own document column; the envelope keeps one that it cannot hold."""
    if document is None or rules.text_refusal(document) is None:
        return document
    notes["doc"] = document
    return None


def _pack_payload(payload: Payload, document: str | None, notes: dict[str, Any], layout: Layout) -> Payload:
    refused = {key: value for key, value in payload.items() if layout.payload.refusal(key, value) is not None}
    natural = {key: value for key, value in payload.items() if key not in refused} if refused else dict(payload)
    if refused:
        notes["payload"] = refused
    if layout.document_key is not None:
        _pack_document(natural, layout.document_key, document, notes, layout)
    if notes:
        natural[ENVELOPE_KEY] = encode({"v": VERSION, **notes})
    elif ENVELOPE_KEY in layout.text_fields:
        natural[ENVELOPE_KEY] = ""
    return natural


def _pack_document(natural: Payload, key: str, document: str | None, notes: dict[str, Any], layout: Layout) -> None:
    """Put the document under its key; where it cannot stand there, or a user's value does, the envelope keeps it."""
    is_required = key in layout.text_fields
    if key in natural and is_required and not isinstance(natural[key], str):
        notes.setdefault("payload", {})[key] = natural.pop(key)
    if key in natural:
        if document is not None or isinstance(natural[key], str):  # else it is plain that this is no document
            notes.update(doc=document, key="user")
        return
    is_held = document is not None and layout.payload.refusal(key, document) is None
    if is_held and key not in notes.get("payload", {}):
        natural[key] = document
        return
    if document is not None or is_required:
        notes["doc"] = document
    if is_required:
        natural[key] = ""


def unpack(batch: RecordBatch, layout: Layout) -> RecordBatch:
    """Return the records as they were before `pack`; records that were never packed come out as they are.

    Args:
        batch: Records as a store holds them; not changed.
        layout: How that store holds them.
    """
    ids = list(batch.ids)
    payloads: list[Payload] = []
    documents = _documents_of(batch)
    scales: dict[str, dict[int, float]] = {}
    for row, stored in enumerate(batch.payloads):
        payload = dict(stored)
        notes = _pop_notes(payload, layout)
        if layout.document_key is not None:
            documents[row] = _unpack_document(payload, layout.document_key, notes, layout.text_fields)
        elif "doc" in notes:
            documents[row] = notes["doc"] if documents[row] is None else documents[row]
        if notes:
            # A natural value was set after the record was packed: somebody works with it, so it is the newer one.
            payload = {**notes.get("payload", {}), **payload}
            ids[row] = id_from_text(notes["id"]) if "id" in notes else ids[row]
            for name, length in notes.get("norm", {}).items():
                scales.setdefault(name, {})[row] = length
        payloads.append(payload)
    vectors = _rescale(batch.vectors, {name: rows for name, rows in scales.items() if name in layout.normalised})
    return RecordBatch(ids, vectors, payloads, documents)


def _documents_of(batch: RecordBatch) -> list[str | None]:
    return list(batch.documents) if batch.documents is not None else [None] * len(batch)


def original_id(stored_id: RecordId, envelope: Any) -> RecordId:
    """Return the id that a record had before it was packed.

    Args:
        stored_id: The id in the store that holds the record now.
        envelope: The value under `ENVELOPE_KEY`, or None.
    """
    notes = _parse_notes(envelope)
    return id_from_text(notes["id"]) if "id" in notes else stored_id


def _parse_notes(envelope: Any) -> dict[str, Any]:
    """Return what an envelope says; nothing where the value is no envelope of ours."""
    if not isinstance(envelope, str) or not envelope:
        return {}
    try:
        notes = decode(envelope)
    except ValueError:
        return {}
    return notes if isinstance(notes, dict) and _is_ours(notes) else {}


def _is_ours(notes: dict[str, Any]) -> bool:
    """Return whether a JSON object is an envelope; one that is damaged stays in the payload like any user's value."""
    if notes.get("v") != VERSION or not notes.keys() <= {"v", "id", "doc", "key", "norm", "payload"}:
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
        and isinstance(lengths, dict)
        and all(isinstance(length, float) for length in lengths.values())
    )


def _pop_notes(payload: Payload, layout: Layout) -> dict[str, Any]:
    """Take the envelope out of a payload; a value under its key that is no envelope is the user's and stays."""
    envelope = payload.get(ENVELOPE_KEY)
    notes = _parse_notes(envelope)
    if notes or (not envelope and ENVELOPE_KEY in layout.text_fields):
        payload.pop(ENVELOPE_KEY, None)
    return notes


def _unpack_document(payload: Payload, key: str, notes: dict[str, Any], text_fields: frozenset[str]) -> str | None:
    if "doc" in notes:
        document: str | None = notes["doc"]
        if notes.get("key") == "user":
            return document
        newer = payload.pop(key, None)  # the filler of a typed field, or a document that was set since
        return newer if isinstance(newer, str) and newer else document
    value = payload.get(key)
    is_document = isinstance(value, str) or (value is None and key in text_fields)
    return payload.pop(key, None) if is_document else None


def _norms(vectors: Mapping[str, VectorColumn], names: frozenset[str]) -> dict[str, list[float | None]]:
    """Return per vector the lengths worth keeping: None where it is 1, 0 or not finite."""
    norms: dict[str, list[float | None]] = {}
    for name in names:
        column = vectors.get(name)
        if not isinstance(column, DenseColumn):
            continue
        lengths = np.sqrt(np.einsum("ij,ij->i", column.values, column.values, dtype=np.float64))
        keep = np.isfinite(lengths) & (lengths > 0) & (np.abs(lengths - 1) > UNIT_LENGTH_TOLERANCE)
        norms[name] = [float(length) if kept else None for length, kept in zip(lengths, keep, strict=True)]
    return norms


def _rescale(vectors: Mapping[str, VectorColumn], scales: dict[str, dict[int, float]]) -> Mapping[str, VectorColumn]:
    """Give vectors the lengths they had; computed in float64, kept as float32."""
    if not scales:
        return vectors
    scaled = dict(vectors)
    for name, rows in scales.items():
        column = vectors.get(name)
        if isinstance(column, DenseColumn):
            factors = np.ones(len(column.values))
            index = np.fromiter(rows, dtype=np.intp)
            stored = column.values[index].astype(np.float64)
            lengths = np.linalg.norm(stored, axis=1)
            wanted = np.fromiter(rows.values(), dtype=np.float64)
            factors[index] = np.divide(wanted, lengths, out=np.ones_like(wanted), where=lengths > 0)
            values = (column.values * factors[:, None]).astype(np.float32)
            scaled[name] = DenseColumn(values, column.present)
    return scaled
