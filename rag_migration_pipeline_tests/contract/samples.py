"""Records that the laws write: ordinary ones that every store must hold, and awkward ones that it may refuse.

Belongs here: fixed sample data, made without randomness that changes between runs. Does not belong here: random data
(``strategies.py``) and what is expected of it (the laws).
"""

import datetime as dt
import decimal
import os
import secrets
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    INT64_MAX,
    INT64_MIN,
    UINT64_MAX,
    CollectionSpec,
    DenseColumn,
    Float32Array,
    IdKind,
    Metric,
    Payload,
    RecordBatch,
    RecordId,
    VectorSpec,
)
from rag_migration_pipeline.stores.capabilities import Capabilities

NAME_PREFIX = f"contract_{os.getpid()}_{secrets.token_hex(3)}_"
"""Start of all collection names of this run: a shared server may hold other people's collections."""

DIMENSION = 8

_NAMESPACE = uuid.UUID("6f1d6f0e-52a4-4ba1-9f0a-4d5d5a2f3d4e")


def vector_spec(capabilities: Capabilities, metric: Metric | None = None, dimension: int = DIMENSION) -> VectorSpec:
    """Return the spec of one dense, unnamed vector; cosine where there is a choice, as it is the hardest to keep."""
    if metric is None:
        metric = Metric.COSINE if Metric.COSINE in capabilities.metrics else min(capabilities.metrics)
    return VectorSpec(dimension, metric, DEFAULT_VECTOR)


def sample_id(number: int, kind: IdKind) -> RecordId:
    """Return the id with that number; ids of one kind do not sort in the order of their numbers."""
    if kind is IdKind.STRING:
        return f"{'bdac'[number % 4]}-{number}"
    if kind is IdKind.INT64:
        return number if number % 2 else -number - 2
    if kind is IdKind.UINT64:
        return number * 7919 % 100_003
    return uuid.uuid5(_NAMESPACE, str(number))


def sample_ids(count: int, kinds: frozenset[IdKind], start: int = 0) -> list[RecordId]:
    """Return that many different ids, the kinds taking turns."""
    turns = sorted(kinds)
    if IdKind.INT64 in kinds and IdKind.UINT64 in kinds:
        turns.remove(IdKind.UINT64)  # a number is one id whatever its kind is called
    return [sample_id(number, turns[number % len(turns)]) for number in range(start, start + count)]


def vectors(count: int, dimension: int = DIMENSION, seed: int = 0) -> Float32Array:
    """Return float32 vectors of shape (count, dimension), of no particular length."""
    generator = np.random.default_rng(seed)
    return (generator.standard_normal((count, dimension)) * 3).astype(np.float32)


def ordinary_payload(number: int) -> Payload:
    """Return a payload of values that every store must hold; every fifth is empty."""
    if number % 5 == 4:
        return {}
    payload: Payload = {
        "title": f"Kapitel {number} – naïve 漢字 🜚",
        "number": number,
        "negative": -number,
        "score": number / 8,
        "whole_float": float(number),
        "is_public": number % 2 == 0,
        "text_number": f"{number:03d}",
        "empty": "",
    }
    if number % 3 == 0:
        del payload["score"]  # a missing key, not a null
    return payload


def ordinary_document(number: int) -> str | None:
    """Return a text, an empty text or no text, in turns."""
    if number % 4 == 3:
        return None
    return "" if number % 6 == 1 else f"Text {number}:\n\t\"naïve\" 'quotes' \\ 漢字 🜚"


def ordinary(
    count: int, spec: CollectionSpec, capabilities: Capabilities, *, start: int = 0, seed: int = 0
) -> RecordBatch:
    """Return records that the collection must hold.

    Args:
        count: How many.
        spec: The collection; only its first vector is given, which must be dense.
        capabilities: Whether there are documents.
        start: Number of the first record; other numbers are other ids.
        seed: Another seed gives other vectors.
    """
    vector = spec.vectors[0]
    values = vectors(start + count, vector.dimension or DIMENSION, seed)[start:]
    numbers = range(start, start + count)
    return RecordBatch(
        ids=sample_ids(count, spec.id_kinds, start),
        vectors={vector.name: DenseColumn(values)},
        payloads=[ordinary_payload(number) for number in numbers],
        documents=[ordinary_document(number) for number in numbers] if capabilities.has_documents else None,
    )


def batch_of(
    ids: Sequence[Any],
    spec: CollectionSpec,
    *,
    payloads: Sequence[Payload] | None = None,
    documents: Sequence[str | None] | None = None,
    values: Float32Array | None = None,
) -> RecordBatch:
    """Return a batch with these ids, and plain columns for what is not given."""
    vector = spec.vectors[0]
    if values is None:
        values = vectors(len(ids), vector.dimension or DIMENSION, seed=len(ids))
    return RecordBatch(
        ids=list(ids),
        vectors={vector.name: DenseColumn(values)},
        payloads=list(payloads) if payloads is not None else [{"n": number} for number in range(len(ids))],
        documents=documents,
    )


def _nested(depth: int) -> Any:
    value: Any = {"leaf": 1}
    for _ in range(depth):
        value = {"inner": [value]}
    return value


class _Text(str):
    """A string that is not of type str."""

    __slots__ = ()


AWKWARD_VALUES: tuple[Any, ...] = (
    *("", " ", "7", "007", "true", "None", "null", "[1]", '{"a": 1}', "1.0", "NaN"),
    *("e\u0301", "é", "a\x00b", "\x01", "a\r\nb", "\u2028", "\ufeff", "🜚", "\ud800", "'\"\\`${}%s", "x" * 5_000),
    *("ß" * 40_000, "y" * 70_000),
    *(0, 1, -1, 2**31, 2**53, 2**53 + 1, -(2**53) - 1, INT64_MAX, INT64_MIN, 2**63, UINT64_MAX, 2**64, 2**70),
    *(0.0, -0.0, 1.0, -1.0, 0.1, 5e-324, 1e16, 1e22, 1.7976931348623157e308, 9007199254740993.0),
    *(float("nan"), float("inf"), float("-inf")),
    *(True, False, None),
    *([], [1], [1, 2], ["a", "b"], ["a", "a", ""], [True, False], [1.0, 2.5], [1.0, 2.0]),
    *([1, 1.5], [1, "a"], [True, 1], [None], [1, None], [[1], [2]], [[]], [{"a": 1}], [2**63], [float("nan")]),
    *({}, {"a": 1}, {"a": None}, {"a": {"b": []}}, {"": 1}, {"a.b": 1, "$c": 2}, _nested(30)),
)
"""JSON-like values: each is kept exactly or refused."""

ALIEN_VALUES: tuple[Any, ...] = (
    *(b"bytes", (1, 2), {1, 2}, uuid.UUID(int=7), decimal.Decimal("1.5"), 1j, object()),
    *(dt.datetime(2024, 1, 2, tzinfo=dt.UTC), dt.date(2024, 1, 2), Metric.COSINE, _Text("text")),
    *(np.int64(1), np.float32(1.5), np.float64(1.5), np.bool_(True), np.array([1, 2])),
    *([b"x"], [(1,)], {"a": b"x"}, {1: 2}, {"a": {2: 3}}),
)
"""Values that JSON does not have: each is refused, because none would come back as it was."""

AWKWARD_KEYS: tuple[Any, ...] = (
    *(
        "",
        " ",
        ".",
        "a.b",
        "$",
        "$x",
        "$meta",
        "#type",
        "#",
        "ü",
        "漢字",
        "a b",
        "a-b",
        "1",
        "a\x00b",
        "a\nb",
        "'",
        '"',
    ),
    *("id", "_id", "ids", "pk", "vector", "vectors", "embedding", "document", "documents", "payload", "metadata"),
    *("chroma:document", "hnsw:space", "__proto__", "\\", "[0]", "a[]", "k" * 300, "\ud800", "NULL", "None"),
    *(1, None, True, b"x"),
)
"""Payload keys: each is kept exactly or refused."""

HOSTILE_STRING_IDS: tuple[str, ...] = (
    *("a", "A", "7", "007", "7.0", " 7", "7 ", "-1", "true", "null", "None", "uuid", "id"),
    *("é", "e\u0301", "ß", "SS", "漢字", "🜚", "\u202e", "\ufeff", "a\u200bb"),
    *('"', "'", "''", "\\", "\\'", '\\"', "' or 1==1 or '", '") || true', "%", "%s", "_", "*", "?", "{}", "{0}", "$id"),
    *("a/b", "../a", "a\nb", "a\tb", "a\rb", "\x01", "\x7f", "a\x00b", "a,b", "a;b", "[1]", "#", "--", "id in ['a']"),
    *("6f1d6f0e-52a4-4ba1-9f0a-4d5d5a2f3d4e", "6F1D6F0E-52A4-4BA1-9F0A-4D5D5A2F3D4E", "x" * 400, " ", "  "),
)
"""String ids that filters, paths, SQL and case folding like to get wrong; all different."""

EDGE_INTEGER_IDS: dict[str, tuple[int, ...]] = {
    "small": (0, 1, 2, 7),
    "negative": (-1, -7, -(2**31), -(2**53) - 1),
    "32_bits": (2**31 - 1, 2**31, 2**32 - 1, 2**32),
    "53_bits": (2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2),
    "almost_64_bits": (INT64_MAX - 1, INT64_MAX - 2, INT64_MIN + 1, INT64_MIN + 2),
    "smallest_int64": (INT64_MIN,),
    "largest_int64": (INT64_MAX,),
    "unsigned": (2**63, 2**63 + 1, UINT64_MAX - 1, UINT64_MAX),
}
"""Integer ids at the edges of 32, 53 and 64 bits."""

ALIEN_IDS: tuple[Any, ...] = (
    *(None, True, False, 1.0, 1.5, b"a", (1,), 2**64, INT64_MIN - 1, np.int64(3), float("nan")),
    *("\ud800", [1]),
)
"""Ids that no store holds: each is refused."""

NUMERIC_EXTREMES: tuple[tuple[str, float], ...] = (
    ("zero", 0.0),
    ("negative_zero", -0.0),
    ("subnormal", 1e-40),
    ("tiny", 1e-30),
    ("huge", 1e30),
    ("largest", float(np.finfo(np.float32).max)),
    ("nan", float("nan")),
    ("infinite", float("inf")),
)
"""Value of every second component of a vector; the others are zero, but for one."""
