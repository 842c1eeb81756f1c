"""Verdicts: how each field and feature of a source fares in a target, decided before the first write.

Belongs here: the verdict, its levels, consent, and the verdicts on what records consist of (ids, documents, payload
fields). Does not belong here: verdicts on vectors (``vectors.py``) and on the collection itself
(``collection.py``), the target spec they judge (``plan.py``), what a store can hold
(``stores/capabilities.py``).

    exact        comes home as it was (vectors within the store's declared tolerance)
    note         worth knowing: the collection differs in what is no record's, or single records would be set aside
    lossy        something of the records, or the way they are compared, is lost; needs consent in the spec
    impossible   cannot be carried; planning fails, naming all of them at once

The capabilities decide, not the name of a store: a store that learns to hold more changes the verdicts by itself.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import StrEnum

from rag_migration_pipeline.envelope import Layout
from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.ids import IdRule
from rag_migration_pipeline.inference import KeyProfile, SchemaProfile
from rag_migration_pipeline.records import CollectionSpec, RecordId, id_text
from rag_migration_pipeline.settings import SettingNote
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.vector_choice import VectorRoute

SHOWN = 5
SHOWN_SUBJECTS = 20
_CONSENT = "accept_lossy"
"""The option of the spec that consents to losses."""


class Level(StrEnum):
    """How something fares; see the module."""

    EXACT = "exact"
    NOTE = "note"
    LOSSY = "lossy"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True)
class Verdict:
    """How one field or feature of the source fares in the target.

    Attributes:
        subject: What it is about, as consent names it: ``id``, ``document``, ``vector "title"``, ``field tags``, ...
        how: How the target holds it, e.g. "native", "envelope", "uuid5, original in the envelope".
        reason: Why it is not simply native; what to do about it, where something can be done.
        consent: The option of the spec that consents to a loss; empty where none does, or none is needed.
    """

    subject: str
    level: Level
    how: str
    reason: str = ""
    consent: str = ""

    def __post_init__(self) -> None:
        """Write lone surrogates, which a user's key may have, as escapes: verdicts are stored and shown as UTF-8."""
        for name in ("subject", "how", "reason"):
            text = getattr(self, name)
            if not text.isascii():
                object.__setattr__(self, name, text.encode("utf-8", "backslashreplace").decode())

    def __str__(self) -> str:
        """Return subject and reason in one phrase."""
        return f"{self.subject}: {self.reason or self.how}"


@dataclass(frozen=True)
class RecordProfile:
    """What the records that were looked at hold, in the terms of the target.

    Attributes:
        schema: Payload keys and documents, with the values that the target refuses.
        natural: Payload key -> values of a type beyond JSON that the target holds in their natural form.
        has_partitions: Some record is in a named partition.
        rejected: Reason -> how many of the records looked at would be set aside for it.
        unmapped: Reason -> how many more would be, because the mapping cannot change them.
        missing_vectors: Source vector name -> records that lack it.
        zero_vectors: Source vector name -> records in which all its components are 0.
    """

    schema: SchemaProfile = field(default_factory=SchemaProfile)
    natural: Mapping[str, int] = field(default_factory=dict)
    has_partitions: bool = False
    rejected: Mapping[str, int] = field(default_factory=dict)
    missing_vectors: Mapping[str, int] = field(default_factory=dict)
    zero_vectors: Mapping[str, int] = field(default_factory=dict)
    unmapped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class IdMapping:
    """How ids are written in the target.

    Attributes:
        counts: How many are kept, written as text or as UUID, or replaced by a uuid5.
        refused: Those that cannot be written.
    """

    counts: Mapping[str, int]
    refused: tuple[RecordId, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sides:
    """All that verdicts follow from.

    Attributes:
        source: The source collection.
        target: The target collection, as it is or as it will be created.
        is_new: The migration creates the target collection.
        capabilities: What the target store can hold.
        layout: How the target collection holds records.
        routes: Where each vector of the source goes.
        id_mapping: How the ids are written.
        profile: What the records hold.
        settings: What becomes of the source's settings in a new target.
    """

    source: CollectionSpec
    target: CollectionSpec
    is_new: bool
    capabilities: Capabilities
    layout: Layout
    routes: tuple[VectorRoute, ...]
    id_mapping: IdMapping
    profile: RecordProfile
    settings: tuple[SettingNote, ...] = ()

    @property
    def has_envelope(self) -> bool:
        """Whether what the target cannot hold natively travels in the envelope."""
        return self.layout.has_envelope


IDS_KEPT, IDS_AS_TEXT, IDS_AS_UUID, IDS_DERIVED = "kept", "as text", "as UUID", "uuid5"


def map_ids(ids: Iterable[RecordId], rule: IdRule) -> IdMapping:
    """Return how a rule writes these ids."""
    counts: Counter[str] = Counter()
    refused: list[RecordId] = []
    for record_id in ids:
        try:
            native = rule.native(record_id)
        except SchemaCompatibilityError:
            refused.append(record_id)
            continue
        if native == record_id and type(native) is type(record_id):
            counts[IDS_KEPT] += 1
        elif str(native) == str(record_id):
            counts[IDS_AS_TEXT if isinstance(native, str) else IDS_AS_UUID] += 1
        else:
            counts[IDS_DERIVED] += 1
    return IdMapping(dict(counts), tuple(refused))


def record_verdicts(sides: Sides) -> list[Verdict]:
    """Return the verdicts on ids, documents, payload fields, and on records that would be set aside."""
    schema = sides.profile.schema
    return [
        _id_verdict(sides),
        _document_verdict(sides, schema.documents),
        *(_field_verdict(sides, key, profile) for key, profile in schema.keys.items()),
        *_partition_verdicts(sides),
        *_rejection_notes(sides.profile),
    ]


def _id_verdict(sides: Sides) -> Verdict:
    counts = sides.id_mapping.counts
    if sides.target.settings.get("auto_id"):
        reason = "the target makes its own ids (auto_id), so the source's could not be kept"
        return Verdict("id", Level.IMPOSSIBLE, "", reason)
    refused = sides.id_mapping.refused
    if refused:
        kinds, shown = ", ".join(sorted(sides.target.id_kinds)), ", ".join(id_text(i)[:80] for i in refused[:SHOWN])
        reason = f"{len(refused)} ids do not fit a collection whose ids are {kinds}: {shown}"
        return Verdict("id", Level.IMPOSSIBLE, "", f"{reason}; let the migration create one with string ids")
    if not counts.keys() - {IDS_KEPT}:
        return Verdict("id", Level.EXACT, IDS_KEPT)
    how = ", ".join(f"{counts[way]} {way}" for way in sorted(counts)) if len(counts) > 1 else next(iter(counts))
    if sides.has_envelope:
        return Verdict("id", Level.EXACT, f"{how}; original in the envelope")
    return Verdict("id", Level.LOSSY, how, "without the envelope the original ids and their kinds do not come home")


def _document_verdict(sides: Sides, profile: KeyProfile) -> Verdict:
    key = sides.layout.document_key
    how = "native" if key is None else f"under the key {key!r}"
    missing = sides.profile.schema.count - profile.present
    if missing and not sides.has_envelope and key in sides.layout.text_fields:
        reason = f"{missing} of {sides.profile.schema.count} records looked at have none, which would become empty"
        return Verdict("document", Level.LOSSY, how, reason)
    if not profile.present:
        return Verdict("document", Level.EXACT, how, "none among the records looked at")
    if key is not None and key in sides.profile.schema.keys:
        reason = f"records have a key {key!r} of their own"
        if sides.has_envelope:
            return Verdict("document", Level.EXACT, f"{how}, beside a user's key in the envelope", reason)
        reason += "; those with both are set aside by name, unless document_key names another one in the target's URL"
        return Verdict("document", Level.NOTE, how, reason)
    return Verdict("document", Level.EXACT, how)


def _field_verdict(sides: Sides, key: str, profile: KeyProfile) -> Verdict:
    subject = f"field {key}"
    if key == sides.layout.document_key and not sides.has_envelope:
        reason = "the document stands under this key; without the envelope a text there comes home as the document"
        return Verdict(subject, Level.LOSSY, "native", reason)
    if not profile.refused:
        return Verdict(subject, Level.EXACT, "native")
    share = f"{profile.refused} of {profile.present} values" if profile.refused < profile.present else "its values"
    reason = f"{share}: {'; '.join(profile.reasons)}"
    natural = sides.profile.natural.get(key, 0)
    if sides.has_envelope:
        how = "native, some values in the envelope" if profile.refused < profile.present else "envelope"
        if natural:
            how = "natural form, its type in the envelope"
        return Verdict(subject, Level.EXACT, how, reason)
    if natural == profile.refused:
        return Verdict(subject, Level.LOSSY, "natural form", f"{reason}; without the envelope its type is lost")
    if profile.refused < sides.profile.schema.count:
        return Verdict(subject, Level.NOTE, "native; records with other values are set aside by name", reason)
    return Verdict(subject, Level.IMPOSSIBLE, "", f"{reason}; switch the envelope on, or leave the field out")


def _partition_verdicts(sides: Sides) -> list[Verdict]:
    if not sides.profile.has_partitions:
        return []
    if sides.layout.has_partitions:
        return [Verdict("partition", Level.EXACT, "native")]
    if sides.has_envelope:
        return [Verdict("partition", Level.EXACT, "envelope")]
    reason = f"{sides.capabilities.store} has no partitions, and without the envelope their names are lost"
    return [Verdict("partition", Level.LOSSY, "not carried", reason)]


def _rejection_notes(profile: RecordProfile) -> list[Verdict]:
    """Return a note per reason for which records would be set aside: the range names them, and max_rejected decides."""
    seen = profile.schema.count + sum(profile.unmapped.values())
    reasons = Counter(profile.rejected) + Counter(profile.unmapped)
    return [
        Verdict("records", Level.NOTE, "set aside by name", f"{count} of {seen} records looked at: {reason}")
        for reason, count in reasons.most_common(SHOWN)
    ]


def with_consent(verdicts: Iterable[Verdict], accept_lossy: bool | Sequence[str]) -> tuple[Verdict, ...]:
    """Return the verdicts with the spec's consent noted on those that need it, and a note on consent to nothing."""
    named = () if isinstance(accept_lossy, bool) else tuple(dict.fromkeys(accept_lossy))
    settled: list[Verdict] = []
    for verdict in verdicts:
        is_open = verdict.level is Level.LOSSY and not verdict.consent
        is_accepted = is_open and (accept_lossy is True or verdict.subject in named)
        settled.append(replace(verdict, consent=_CONSENT) if is_accepted else verdict)
    subjects = list(dict.fromkeys(verdict.subject for verdict in settled))
    return (*settled, *(_idle_consent(name, subjects) for name in named if name not in subjects))


def _idle_consent(name: str, subjects: Sequence[str]) -> Verdict:
    """Return the note on a subject in ``accept_lossy`` that the plan does not have: a typo, or a field that is gone."""
    close, shown = get_close_matches(name, subjects, n=1), ", ".join(map(repr, subjects[:SHOWN_SUBJECTS]))
    more = f" and {len(subjects) - SHOWN_SUBJECTS} more" if len(subjects) > SHOWN_SUBJECTS else ""
    hint = f"did you mean {close[0]!r}?" if close else f"it has {shown}{more}."
    reason = f"{name!r} is no subject of this plan; {hint}"
    return Verdict(_CONSENT, Level.NOTE, "nothing of it was seen", reason)


def refuse_verdicts(verdicts: Sequence[Verdict], source: str, target: str) -> None:
    """Refuse a plan with anything impossible in it, or with a loss that nobody consented to.

    Args:
        verdicts: All verdicts, consent noted.
        source: The source's address and collection, for the message.
        target: The same of the target.

    Raises:
        SchemaCompatibilityError: Names every one of them, and what to write to consent.
    """
    impossible = [verdict for verdict in verdicts if verdict.level is Level.IMPOSSIBLE]
    lossy = [verdict for verdict in verdicts if verdict.level is Level.LOSSY and not verdict.consent]
    if not impossible and not lossy:
        return
    parts, todo = [], []
    if impossible:
        parts.append(f"cannot hold what {source} has: {'; '.join(map(str, impossible))}")
        todo.append("Choose another target, or change what is named.")
    if lossy:
        parts.append(f"would lose something of {source}, and the spec does not consent: {'; '.join(map(str, lossy))}")
        subjects = ", ".join("'" + verdict.subject.replace("'", "''") + "'" for verdict in lossy)
        todo.append(f"To consent, write accept_lossy: [{subjects}] (accept_lossy: true consents to every loss).")
        todo += [f"In accept_lossy, {verdict.reason}" for verdict in verdicts if verdict.subject == _CONSENT]
    raise SchemaCompatibilityError(
        f"{target} {', and '.join(parts)}.",
        todo=" ".join(todo),
        problems=[str(verdict) for verdict in impossible],
        lossy=[verdict.subject for verdict in lossy],
    )
