"""Collections and filters made from a seed: values of every type under one key, strings that look like syntax.

Belongs here: payloads, ids, filters. Does not belong here: stores (``places.py``), what must hold (the tests). Seeds
and not Hypothesis, because a hundred filters belong to one collection, which a server takes seconds to make.
"""

import random
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from rag_migration_pipeline.filters.nodes import Comparison, Filter, Not, Or, all_of, checked
from rag_migration_pipeline.records import IdKind, Payload, RecordId
from rag_migration_pipeline_tests.filters.strategies import FIELDS, HOSTILE, NUMBERS, ODD_FIELDS

KEYS = tuple(
    field for field in FIELDS if "." not in field and field not in ("id", "vector", "pk", "nested", "document")
)
_PROFILES = ("text", "integer", "float", "number", "bool", "mixed", "mixed", "list", "few")
_ORDERINGS = ("$gt", "$gte", "$lt", "$lte")
_TYPED_PROFILES = {
    "title": "text",
    "year": "integer",
    "score": "number",
    "flag": "bool",
    "small": "number",
    "single": "single",
}
_SINGLES = (0.5, -1.5, 16777216.0, float(np.float32(0.1)), float(np.float32(3.4e38)), float(np.float32(1e-40)))


class Maker:
    """Makes what belongs to one collection; the same from the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        draw = self._random
        self.texts = [*draw.sample(HOSTILE, 8), "a", "b", "".join(chr(draw.randrange(32, 0x2FFF)) for _ in range(3))]
        self.integers = [0, 1, 5, *[number for number in draw.sample(NUMBERS, 20) if isinstance(number, int)][:6]]
        self.floats = [number for number in draw.sample(NUMBERS, 20) if isinstance(number, float)][:6]
        self.floats += [1.0, 5.0, draw.uniform(-3, 3), draw.random() * 10.0 ** draw.randrange(-20, 20)]
        keys = [*draw.sample(KEYS, 5), *draw.sample(ODD_FIELDS, 2)]
        self.profiles = {key: draw.choice(_PROFILES) for key in keys}
        self.fields = [*keys, *keys, "nested.a", "nested.b.c", "a.b", "missing", draw.choice(ODD_FIELDS)]

    def record_id(self, number: int, kind: IdKind) -> RecordId:
        """Return an id of a kind, another for each number."""
        if kind is IdKind.UUID:
            return uuid.UUID(int=number * 2**64 + number)
        if kind is IdKind.STRING:
            return f"{HOSTILE[number % len(HOSTILE)][:40]}-{number}" if number % 3 else str(number)
        return -number if kind is IdKind.INT64 and number % 2 else number

    def payload(self) -> Payload:
        """Return a payload."""
        draw = self._random
        payload = {key: self._value(profile) for key, profile in self.profiles.items() if draw.random() < 0.8}
        if draw.random() < 0.4:
            inner = {key: self._value("mixed") for key in ("a", "b", "b.c") if draw.random() < 0.6}
            if draw.random() < 0.5:
                inner["b"] = {"c": self._scalar()}
            payload["nested"] = inner
        if draw.random() < 0.3:
            payload["a.b"] = self._scalar()
        if draw.random() < 0.2:
            payload["a"] = {"b": self._scalar()}
        return payload

    def document(self) -> str | None:
        """Return a document, or none."""
        return self._random.choice([None, *self.texts])

    def typed(self) -> Payload:
        """Return values of the typed fields of `places.TYPED`."""
        draw = self._random
        year = draw.choice([number for number in self.integers if -(2**63) <= number < 2**63])
        score = draw.choice(self.floats)
        small, single = draw.choice([-128, -1, 0, 1, 5, 127]), draw.choice(_SINGLES)
        flag = draw.random() < 0.5
        return {
            "title": draw.choice(self.texts),
            "year": year,
            "score": score,
            "flag": flag,
            "small": small,
            "single": single,
        }

    def some_of(self, keys: Sequence[str]) -> list[str]:
        """Return some of these keys, or none."""
        return [key for key in keys if self._random.random() < 0.3]

    def filters(self, count: int, ids: Sequence[RecordId], extra_fields: Sequence[str] = ()) -> list[Filter]:
        """Return filters about the collection.

        Args:
            count: How many.
            ids: The collection's ids.
            extra_fields: Fields beside those of `payload`.
        """
        fields = [*self.fields, *extra_fields, *extra_fields, "$document"]
        return [self._filter(fields, ids, depth=0) for _ in range(count)]

    def _filter(self, fields: Sequence[str], ids: Sequence[RecordId], depth: int) -> Filter:
        draw = self._random
        choice = draw.random()
        if depth == 3 or choice < 0.55:
            return self._about_ids(ids) if draw.random() < 0.05 else self._comparison(draw.choice(fields))
        if choice < 0.65:
            return Not(self._filter(fields, ids, depth + 1))
        parts = [self._filter(fields, ids, depth + 1) for _ in range(draw.choice([2, 2, 3]))]
        return all_of(parts) if choice < 0.82 else Or(tuple(parts))

    def _about_ids(self, ids: Sequence[RecordId]) -> Comparison:
        draw = self._random
        some = [*draw.sample(list(ids), min(3, len(ids))), "7"]
        if draw.random() < 0.5:
            return checked("$id", draw.choice(["$in", "$nin"]), some, "")
        operand = next((record_id for record_id in some if not isinstance(record_id, uuid.UUID)), "7")
        return checked("$id", draw.choice(["$eq", "$ne", "$gt", "$lte"]), operand, "")

    def _comparison(self, field: str) -> Comparison:
        draw = self._random
        operators = ["$eq", "$eq", "$ne", *_ORDERINGS, "$in", "$nin", "$exists", "$contains", "$not_contains", "$like"]
        operator = draw.choice([*operators, "$regex"])
        value: Any
        if operator == "$exists":
            value = draw.random() < 0.5
        elif operator == "$regex":
            value = draw.choice(["a", "^a", r"\d", "(?i)A", ""])
        elif operator == "$like":
            value = draw.choice(["a%", "%b", "_", draw.choice(self.texts).replace("\\", "\\\\")])
        elif field == "$document":
            value = draw.sample(self.texts, 2) if operator in ("$in", "$nin") else draw.choice(self.texts)
        elif operator in _ORDERINGS:
            value = draw.choice(self.texts if field == "title" else [*self.texts, *self.integers, *self.floats])
        elif operator in ("$in", "$nin"):
            value = [self._operand(field) for _ in range(draw.randrange(5))]
        else:
            value = self._operand(field)
        return checked(field, operator, value, "")

    def _operand(self, field: str) -> Any:
        profile = self.profiles.get(field, _TYPED_PROFILES.get(field))
        return self._value(profile if profile is not None and self._random.random() < 0.7 else "mixed")

    def _scalar(self) -> Any:
        return self._random.choice([*self.texts[:4], *self.integers[:3], *self.floats[:2], True, False, None])

    def _value(self, profile: str) -> Any:
        draw = self._random
        if profile == "mixed":
            profile = draw.choice(["text", "text", "integer", "float", "bool", "list", "null", "nested"])
        pools = {
            "text": self.texts,
            "integer": self.integers,
            "float": self.floats,
            "number": [*self.integers, *self.floats],
            "bool": [True, False],
            "null": [None],
            "few": ["a", "b"],
            "single": [*_SINGLES, *self.floats, 0.1],
        }
        if profile == "list":
            pool = pools[draw.choice(["text", "integer", "float", "few"])]
            return [draw.choice(pool) for _ in range(draw.randrange(3))]
        if profile == "nested":
            return draw.choice([{}, {"a": self._scalar()}, [self._scalar(), self._scalar()], [[1]]])
        return draw.choice(pools[profile])
