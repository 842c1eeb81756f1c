"""What the payloads of a collection hold, key by key, and the typed fields that would hold it.

Belongs here: the profile of batches, and the schema that follows from one. Does not belong here: reading the batches
(``steps/``), what a store's fields hold (`FieldRules` in ``stores/capabilities.py``), verdicts (``verdicts/``).
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.records import INT64_MAX, INT64_MIN, FieldSpec, RecordBatch
from rag_migration_pipeline.stores.capabilities import FieldRules, PayloadRules, type_label

MIN_TEXT_BYTES = 64
MIN_ITEMS = 16
ROOM = 2
"""How much longer than what was seen a field may hold."""
REASONS_KEPT = 3


class ValueKind(StrEnum):
    """Types of payload values, as JSON tells them apart; integers and floats are two."""

    NULL = "null"
    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STRING = "string"
    OBJECT = "object"
    LIST = "list"
    OTHER = "other"


_KINDS: dict[type, ValueKind] = {
    type(None): ValueKind.NULL,
    bool: ValueKind.BOOL,
    int: ValueKind.INT,
    float: ValueKind.FLOAT,
    str: ValueKind.STRING,
    dict: ValueKind.OBJECT,
    list: ValueKind.LIST,
}


@dataclass
class KeyProfile:
    """What one payload key holds in the records seen; sizes are 0 and ranges None where there was no such value.

    Attributes:
        present: Records that have the key, null included.
        kinds: How many of its values are of each kind.
        item_kinds: The same for the items of its lists.
        empty_lists: Lists without items.
        mixed_lists: Lists with items of several kinds.
        max_bytes: Longest string, in bytes of UTF-8.
        max_item_bytes: Longest string in a list, in bytes of UTF-8.
        max_items: Most items of a list.
        max_json_bytes: Longest list or object as JSON, in bytes.
        int_min: Smallest integer, items of lists included.
        int_max: Largest integer, items of lists included.
        non_finite: How many floats are NaN or infinite, items of lists included.
        refused: Values that the rules, where some were given, do not hold exactly; the envelope would.
        reasons: The first few different reasons for that.
    """

    present: int = 0
    kinds: Counter[ValueKind] = field(default_factory=Counter)
    item_kinds: Counter[ValueKind] = field(default_factory=Counter)
    empty_lists: int = 0
    mixed_lists: int = 0
    max_bytes: int = 0
    max_item_bytes: int = 0
    max_items: int = 0
    max_json_bytes: int = 0
    int_min: int | None = None
    int_max: int | None = None
    non_finite: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)

    @property
    def nulls(self) -> int:
        """How many values are null."""
        return self.kinds[ValueKind.NULL]

    @property
    def kind(self) -> ValueKind | None:
        """The one kind of all values that are not null; None where they are of several, or all null."""
        kinds = [kind for kind, count in self.kinds.items() if count and kind is not ValueKind.NULL]
        return kinds[0] if len(kinds) == 1 else None

    def add(self, values: list[Any]) -> None:
        """Take in the values of one batch."""
        self.present += len(values)
        by_kind = _by_kind(values)
        self.kinds.update({kind: len(found) for kind, found in by_kind.items()})
        self._add_numbers(by_kind)
        self.max_bytes = max(self.max_bytes, _longest(by_kind.get(ValueKind.STRING, ())))
        for items in by_kind.get(ValueKind.LIST, ()):
            self._add_list(items)
        for kind in (ValueKind.OBJECT, ValueKind.LIST):
            for value in by_kind.get(kind, ()):
                self.max_json_bytes = max(self.max_json_bytes, _json_bytes(value))

    def add_refusals(self, reasons: Iterable[str | None]) -> None:
        """Count the values that a store does not hold exactly: those with a reason."""
        for reason in reasons:
            if reason is not None:
                self.refused += 1
                if len(self.reasons) < REASONS_KEPT and reason not in self.reasons:
                    self.reasons.append(reason)

    def _add_list(self, items: list[Any]) -> None:
        by_kind = _by_kind(items)
        self.item_kinds.update({kind: len(found) for kind, found in by_kind.items()})
        self.empty_lists += not items
        self.mixed_lists += len(by_kind) > 1
        self.max_items = max(self.max_items, len(items))
        self.max_item_bytes = max(self.max_item_bytes, _longest(by_kind.get(ValueKind.STRING, ())))
        self._add_numbers(by_kind)

    def _add_numbers(self, by_kind: Mapping[ValueKind, list[Any]]) -> None:
        integers = by_kind.get(ValueKind.INT)
        if integers:
            self.int_min = min([*integers, self.int_min] if self.int_min is not None else integers)
            self.int_max = max([*integers, self.int_max] if self.int_max is not None else integers)
        self.non_finite += sum(not math.isfinite(number) for number in by_kind.get(ValueKind.FLOAT, ()))


@dataclass
class SchemaProfile:
    """What the records seen hold.

    Attributes:
        count: Records seen.
        keys: Profiles by payload key, in the order in which keys were first seen.
        documents: The same for the documents; ``present`` counts those that are not missing.
    """

    count: int = 0
    keys: dict[str, KeyProfile] = field(default_factory=dict)
    documents: KeyProfile = field(default_factory=KeyProfile)

    def missing(self, key: str) -> int:
        """Return how many records lack the key."""
        return self.count - (self.keys[key].present if key in self.keys else 0)

    def add(self, batch: RecordBatch, rules: PayloadRules | None = None) -> None:
        """Take in a batch, and count what rules refuse of it."""
        self.count += len(batch)
        columns: dict[str, list[Any]] = {}
        for payload in batch.payloads:
            for key, value in payload.items():
                columns.setdefault(key, []).append(value)
        for key, values in columns.items():
            profile = self.keys.setdefault(key, KeyProfile())
            profile.add(values)
            if rules is not None:
                profile.add_refusals(rules.refusal(key, value) for value in values)
        self.documents.add([text for text in batch.documents or () if text is not None])


def profile_batches(batches: Iterable[RecordBatch], rules: PayloadRules | None = None) -> SchemaProfile:
    """Return what all these records hold.

    Args:
        batches: Records as they are to be written, before they are packed.
        rules: What the target holds exactly, to count values that it does not; None counts none.
    """
    profile = SchemaProfile()
    for batch in batches:
        profile.add(batch, rules)
    return profile


def infer_fields(profile: SchemaProfile, rules: FieldRules, taken: Collection[str] = ()) -> tuple[FieldSpec, ...]:
    """Return typed fields, with room, for the keys whose every value they hold exactly.

    A key that some record lacks gets none: a field would answer null, or a filler, where nothing was. Nor does one with
    values of several types. They stay where the store keeps untyped payloads.

    Args:
        profile: What the records hold.
        rules: What the store's fields hold.
        taken: Names that other fields have.
    """
    found = []
    for name, key in profile.keys.items():
        is_nameable = name not in taken and re.fullmatch(rules.name_pattern, name) is not None
        is_whole = profile.missing(name) == 0 and not key.refused and (rules.has_nullable or not key.nulls)
        if is_nameable and is_whole:
            found.append(_field(name, key, rules))
    return tuple(item for item in found if item is not None)


def _field(name: str, key: KeyProfile, rules: FieldRules) -> FieldSpec | None:
    """Return the typed field for one key that every record has, or None where no type holds all its values."""
    kind = key.kind
    is_in_range = (key.int_min or 0) >= INT64_MIN and (key.int_max or 0) <= INT64_MAX
    if kind is None or kind.value not in _FIELD_TYPES or key.non_finite or not is_in_range:
        return None
    type_name = _FIELD_TYPES[kind.value]
    if type_label(type_name, None) not in rules.types:
        return None
    if kind is ValueKind.STRING:
        if key.max_bytes > rules.max_text_bytes:
            return None
        return FieldSpec(name, type_name, bool(key.nulls), max_length_bytes=_text_room(key.max_bytes, rules))
    if kind is ValueKind.OBJECT and rules.max_json_bytes is not None and key.max_json_bytes > rules.max_json_bytes:
        return None
    if kind is ValueKind.LIST:
        return _array(name, key, rules)
    return FieldSpec(name, type_name, bool(key.nulls))


_FIELD_TYPES = {"bool": "bool", "int": "int", "float": "float", "string": "string", "object": "json", "list": "array"}


def _array(name: str, key: KeyProfile, rules: FieldRules) -> FieldSpec | None:
    kinds = [kind for kind, count in key.item_kinds.items() if count]
    if (
        len(kinds) != 1
        or type_label(kinds[0].value, None) not in rules.element_types
        or key.max_items > rules.max_items
    ):
        return None
    if key.max_item_bytes > rules.max_text_bytes:
        return None
    is_text = kinds[0] is ValueKind.STRING
    return FieldSpec(
        name,
        "array",
        bool(key.nulls),
        max_length_bytes=_text_room(key.max_item_bytes, rules) if is_text else None,
        element_type=kinds[0].value,
        max_items=min(rules.max_items, max(MIN_ITEMS, ROOM * key.max_items)),
    )


def _text_room(longest: int, rules: FieldRules) -> int:
    return min(rules.max_text_bytes, max(MIN_TEXT_BYTES, ROOM * longest))


def _by_kind(values: Iterable[Any]) -> dict[ValueKind, list[Any]]:
    found: dict[ValueKind, list[Any]] = {}
    for value in values:
        found.setdefault(_KINDS.get(type(value), ValueKind.OTHER), []).append(value)
    return found


def _longest(texts: Iterable[str]) -> int:
    return max((len(t) if t.isascii() else len(t.encode("utf-8", "surrogatepass")) for t in texts), default=0)


def _json_bytes(value: Any) -> int:
    """Return a value's size as JSON; 0 where a value inside has no JSON form (it counts as another kind anyway)."""
    try:
        return len(encode(value).encode("utf-8", "surrogatepass"))
    except TypeError:
        return 0
