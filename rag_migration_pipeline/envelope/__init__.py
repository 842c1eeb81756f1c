"""What a target cannot hold natively, packed beside the record and unpacked on the way home.

Belongs here: turning records into a target's own terms and back. Does not belong here: the envelope's text
(``notes.py``), what the target can hold (``stores/capabilities.py``), which target is chosen (``plan.py``).

What a record needs to come home as it was goes into its envelope: one reserved payload key, written only for records
that need it. Natural fields stay where a filter or an index finds them; the envelope adds, it does not hide. A value of
a type beyond JSON stands in the payload in its natural form (`payloads.natural_form`); the envelope says what it was.

Where the envelope is switched off, nothing reserved is written. Then ids and typed values arrive in the target's own
form only, lengths of normalised vectors and partitions are not kept (the plan says so), and a record with a value that
the target cannot hold in any form is refused by name. So is one that would lose something without the spec's consent:
the plan looked at some of the records only.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rag_migration_pipeline.envelope.lengths import Length, lengths_of, with_lengths
from rag_migration_pipeline.envelope.notes import Notes, open_envelope, original_id, seal
from rag_migration_pipeline.errors import RecordRejectedError
from rag_migration_pipeline.ids import IdRule
from rag_migration_pipeline.payloads import ENVELOPE_KEY, MAX_DEPTH, encode, has_typed, is_too_deep, natural_form
from rag_migration_pipeline.records import (
    CollectionSpec,
    Payload,
    RecordBatch,
    RecordId,
    Rejection,
    id_from_text,
    id_text,
)
from rag_migration_pipeline.stores.capabilities import Capabilities, PayloadRules
from rag_migration_pipeline.vectors import FLOAT32, converted

__all__ = ["ENVELOPE_KEY", "Layout", "layout_of", "original_id", "pack", "pack_some", "unpack"]

STAGE = "pack"


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
        element_types: Vector name -> element type in which the store keeps it.
        has_partitions: Whether the store keeps a record's partition.
        has_envelope: Whether records are given an envelope.
        accepted: What a record may lose without one: everything, or the subjects named (see ``verdicts/``).
    """

    id_rule: IdRule
    document_key: str | None
    text_fields: frozenset[str]
    payload: PayloadRules
    normalised: frozenset[str]
    element_types: Mapping[str, str] = field(default_factory=dict)
    has_partitions: bool = False
    has_envelope: bool = True
    accepted: bool | Sequence[str] = True

    def accepts(self, subject: str) -> bool:
        """Return whether a record may lose this without an envelope."""
        if isinstance(self.accepted, bool):
            return self.accepted
        return subject.encode("utf-8", "backslashreplace").decode() in self.accepted


def layout_of(
    spec: CollectionSpec, capabilities: Capabilities, document_key: str, *, has_envelope: bool = True
) -> Layout:
    """Return how a collection holds records.

    Args:
        spec: The collection as the store describes it (or as it is about to be created).
        capabilities: What the store can hold.
        document_key: The store's setting of that name.
        has_envelope: Whether records that are written get an envelope; those that have one are read with it always.
    """
    has_typed_text = capabilities.has_typed_text_fields  # elsewhere a field of the spec is an index, and forces nothing
    typed = {item.name for item in spec.fields if item.type == "string"} if has_typed_text else set()
    reserved = set(capabilities.payload.reserved_keys) | ({ENVELOPE_KEY} if has_envelope else set())
    reserved |= {name for name in (spec.id_field, spec.settings.get("vector_field")) if name}
    reserved |= set(spec.settings.get("vector_fields", {}).values())
    rules = replace(capabilities.payload, reserved_keys=frozenset(reserved))
    if spec.settings.get("has_dynamic_field") is False and has_envelope and ENVELOPE_KEY in typed:
        # Milvus: only the schema's fields have a place beside the envelope.
        rules = replace(rules, key_pattern="|".join(re.escape(field.name) for field in spec.fields))
    return Layout(
        id_rule=IdRule(spec.id_kinds, spec.max_id_length_bytes, capabilities.has_empty_string_id),
        document_key=None if capabilities.has_documents else document_key,
        text_fields=frozenset(typed & {document_key, ENVELOPE_KEY}),
        payload=rules,
        normalised=frozenset(vector.name for vector in spec.vectors if capabilities.is_normalised(vector)),
        element_types={vector.name: vector.dtype for vector in spec.vectors},
        has_partitions=capabilities.has_partitions and spec.settings.get("partition_key") is None,
        has_envelope=has_envelope,
    )


def pack(batch: RecordBatch, layout: Layout) -> RecordBatch:
    """Return the batch in the target's own terms.

    Args:
        batch: Records as they left their source; not changed.
        layout: How the target holds them.

    Returns:
        A batch with the same vectors (same arrays, or in the target's element type), native ids, and payloads with the
        envelope where one is needed.

    Raises:
        RecordRejectedError: Some records cannot be packed; names them (see `pack_some`).
    """
    packed, reasons = _pack_rows(batch, layout)
    if reasons:
        rejections = tuple(Rejection(batch.ids[row], STAGE, reason) for row, reason in reasons.items())
        shown = "; ".join(f"{id_text(r.record_id)[:80]!r}: {r.reason}" for r in rejections[:10])
        raise RecordRejectedError(
            f"{len(rejections)} records cannot be written in the target's terms: {shown}.",
            todo="Change or filter them out, or map the named keys.",
            rejections=rejections,
        )
    return packed


def pack_some(batch: RecordBatch, layout: Layout) -> tuple[RecordBatch, Sequence[int], dict[int, str]]:
    """Return the records that can be packed (see `pack`), their rows in the batch, and why the others cannot, by row.

    A record cannot be packed with a value of a type that is not carried, or where the envelope is switched off and the
    target cannot hold a value or the document without it.
    """
    packed, reasons = _pack_rows(batch, layout)
    if not reasons:
        return packed, range(len(batch)), reasons
    rows = [row for row in range(len(batch)) if row not in reasons]
    return packed.take(rows), rows, reasons


def _pack_rows(batch: RecordBatch, layout: Layout) -> tuple[RecordBatch, dict[int, str]]:
    """Pack all records; those with a reason are left half-packed."""
    norms = lengths_of(batch.vectors, layout.normalised, layout.element_types) if layout.has_envelope else {}
    ids: list[RecordId] = []
    payloads: list[Payload] = []
    originals = _documents_of(batch)
    documents = list(originals)
    partitions = batch.partitions if batch.partitions is not None and not layout.has_partitions else None
    reasons: dict[int, str] = {}
    for row, record_id in enumerate(batch.ids):
        native = layout.id_rule.native(record_id)
        notes: Notes = {}
        if native != record_id:
            notes["id"] = id_text(record_id)
        lengths = {name: values[row] for name, values in norms.items() if values[row] is not None}
        if lengths:
            notes["norm"] = lengths
        if partitions is not None and partitions[row] is not None:
            notes["part"] = partitions[row]
        ids.append(native)
        if layout.document_key is None:
            documents[row] = _native_document(documents[row], notes, layout.payload)
        payload = _pack_payload(batch.payloads[row], originals[row], notes, layout)
        if notes:
            try:
                _note(payload, native, notes, layout)
            except ValueError as error:
                reasons[row] = str(error)
        if ENVELOPE_KEY in layout.text_fields:
            payload.setdefault(ENVELOPE_KEY, "")
        payloads.append(payload)
    held = documents if layout.document_key is None else None
    types = layout.element_types
    vectors = {name: converted(column, types.get(name, FLOAT32)) for name, column in batch.vectors.items()}
    return RecordBatch(ids, vectors, payloads, held, batch.partitions if layout.has_partitions else None), reasons


def _note(payload: Payload, native: RecordId, notes: Notes, layout: Layout) -> None:
    """Put the envelope into a packed payload.

    Raises:
        ValueError: The record cannot be packed, and why.
    """
    if layout.has_envelope:
        try:
            payload[ENVELOPE_KEY] = seal(native, notes)
        except TypeError as error:
            raise ValueError(str(error)) from error
        return
    lost = [
        f"payload key {key!r}: {layout.payload.refusal(key, value)}" for key, value in notes.get("payload", {}).items()
    ]
    if notes.get("doc") is not None:
        lost.append("the document has no place in the target beside the payload")
    lost += [text for subject, text in _losses(notes, layout).items() if not layout.accepts(subject)]
    if lost:
        raise ValueError(f"{'; '.join(lost)}; the envelope, which would keep it, is switched off")


def _losses(notes: Notes, layout: Layout) -> dict[str, str]:
    """Return what a record loses without these notes, which needs consent: subject -> what becomes of it."""
    losses = {f"field {key}": f"payload key {key!r} would lose its type" for key in notes.get("typed", {})}
    if "part" in notes:
        losses["partition"] = "the name of its partition would be lost"
    if "doc" in notes and notes["doc"] is None:
        if notes.get("key") == "user":
            losses[f"field {layout.document_key}"] = f"payload key {layout.document_key!r} would become the document"
        else:
            losses["document"] = "no document would become an empty one"
    return losses


def _native_document(document: str | None, notes: Notes, rules: PayloadRules) -> str | None:
    """Return the document for the store's own document column; the envelope keeps one that it cannot hold."""
    if document is None or rules.text_refusal(document) is None:
        return document
    notes["doc"] = document
    return None


def _pack_payload(payload: Payload, document: str | None, notes: Notes, layout: Layout) -> Payload:
    refused = {key: payload[key] for key in layout.payload.refusals(payload)}
    natural = {key: value for key, value in payload.items() if key not in refused} if refused else dict(payload)
    if refused:
        _pack_refused(natural, refused, notes, layout.payload)
    if layout.document_key is not None:
        _pack_document(natural, layout.document_key, document, notes, layout)
    return natural


def _pack_refused(natural: Payload, refused: Payload, notes: Notes, rules: PayloadRules) -> None:
    """Put typed values in their natural form where the target can hold that, and note what the payload lacks."""
    for key, value in refused.items():
        form = natural_form(value) if has_typed(value) else value
        if form is not value and rules.refusal(key, form) is None:
            natural[key] = form
            notes.setdefault("typed", {})[key] = value
        else:
            notes.setdefault("payload", {})[key] = value


def _pack_document(natural: Payload, key: str, document: str | None, notes: Notes, layout: Layout) -> None:
    """Put the document under its key; where it cannot stand there, or a user's value does, the envelope keeps it."""
    is_required = key in layout.text_fields
    if key in natural and is_required and not isinstance(natural[key], str):
        form = natural.pop(key)
        notes.setdefault("payload", {})[key] = notes.get("typed", {}).pop(key, form)
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

    Raises:
        RecordRejectedError: Payloads are nested so deeply that no step could carry them; names the records.
    """
    _refuse_deep(batch)
    ids = list(batch.ids)
    payloads: list[Payload] = []
    documents = _documents_of(batch)
    scales: dict[str, dict[int, Length]] = {}
    partitions: dict[int, str] = {}
    for row, stored in enumerate(batch.payloads):
        payload = dict(stored)
        notes = _pop_notes(payload, batch.ids[row], layout)
        if layout.document_key is not None:
            documents[row] = _unpack_document(payload, layout.document_key, notes, layout.text_fields)
        elif "doc" in notes:
            documents[row] = notes["doc"] if documents[row] is None else documents[row]
        if notes:
            payload = _unpack_payload(payload, notes)
            ids[row] = id_from_text(notes["id"]) if "id" in notes else ids[row]
            for name, length in notes.get("norm", {}).items():
                scales.setdefault(name, {})[row] = length
            if "part" in notes:
                partitions[row] = notes["part"]
        payloads.append(payload)
    vectors = with_lengths(batch.vectors, {name: rows for name, rows in scales.items() if name in layout.normalised})
    return RecordBatch(ids, vectors, payloads, documents, _unpack_partitions(batch, partitions))


def _refuse_deep(batch: RecordBatch) -> None:
    ids = [record_id for record_id, payload in zip(batch.ids, batch.payloads, strict=True) if is_too_deep(payload)]
    if ids:
        raise RecordRejectedError(
            f"{len(ids)} records have payloads with more than {MAX_DEPTH} lists and objects inside each other: "
            f"{', '.join(id_text(record_id)[:80] for record_id in ids[:10])}.",
            todo="Flatten them at the source, or leave them out with filter: {$id: {$nin: [...]}}.",
        )


def _unpack_payload(payload: Payload, notes: Notes) -> Payload:
    """Return a payload with what its envelope keeps.

    A natural value that is not the packed one was set since: somebody works with it, so it is the newer one.
    """
    for key, value in notes.get("typed", {}).items():
        if key in payload and encode(payload[key]) == encode(natural_form(value)):
            payload[key] = value
    return {**notes.get("payload", {}), **payload}


def _unpack_partitions(batch: RecordBatch, noted: dict[int, str]) -> Sequence[str | None] | None:
    if not noted:
        return batch.partitions
    stored = batch.partitions or [None] * len(batch)
    return [noted.get(row) if partition is None else partition for row, partition in enumerate(stored)]


def _documents_of(batch: RecordBatch) -> list[str | None]:
    return list(batch.documents) if batch.documents is not None else [None] * len(batch)


def _pop_notes(payload: Payload, stored_id: RecordId, layout: Layout) -> Notes:
    """Take the envelope out of a payload; a value under its key that is no envelope is the user's and stays."""
    envelope = payload.get(ENVELOPE_KEY)
    notes = open_envelope(stored_id, envelope) if envelope else {}
    if notes or (not envelope and ENVELOPE_KEY in layout.text_fields):
        payload.pop(ENVELOPE_KEY, None)
    return notes


def _unpack_document(payload: Payload, key: str, notes: Notes, text_fields: frozenset[str]) -> str | None:
    if "doc" in notes:
        document: str | None = notes["doc"]
        if notes.get("key") == "user":
            return document
        newer = payload.pop(key, None)  # the filler of a typed field, or a document that was set since
        return newer if isinstance(newer, str) and newer else document
    value = payload.get(key)
    is_document = isinstance(value, str) or (value is None and key in text_fields)
    return payload.pop(key, None) if is_document else None
