"""Whole collections, generated: every kind of id, key, value, document and vector that their store can hold.

Belongs here: what a user of a store may have written into it. Does not belong here: where it travels (the tests).

Hypothesis draws the pools (keys, values, texts) and a seed; the records are put together from them, because a
collection of some hundred records is more than Hypothesis draws one by one.
"""

import datetime as dt
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import strategies as st

from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.stores.screening import payload_reason
from rag_migration_pipeline_tests.contract.samples import AWKWARD_VALUES, HOSTILE_STRING_IDS

MAX_VALUE_CHARACTERS = 2_000
"""Longer values are left out: limits of size have tests of their own."""

RESERVED_LOOKALIKES = (
    *(
        "_rmp_envelope",
        "_rmp_type",
        "id",
        "_id",
        "document",
        "vector",
        "payload",
        "metadata",
        "$meta",
        "pk",
        "chroma:uri",
    ),
    *("a.b", "", " ", "🜚", "ü", "#x", "$x", "chroma:document", "k" * 300, "n'ull", 'q"uote', "back\\slash", "\x00"),
)
ENVELOPE_LOOKALIKES = (
    '{"v":1,"id":"int:7"}',
    '{"v":1,"for":"00000000","id":"int:7","payload":{}}',
    '{"v":1,"for":"e42bfdc1","doc":null}',
    '{"v":1,"for"',
    "",
)
TYPED_VALUES = (
    *(dt.datetime(2024, 1, 2, 3, 4, 5, 6, dt.UTC), dt.datetime.fromisoformat("2024-01-02"), dt.date(2024, 1, 2)),
    *(dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), b"", b"\x00\xff", (1, ("a", None))),
    *(
        Decimal("1.10"),
        Decimal("NaN"),
        Decimal(10) ** 400,
        uuid.UUID(int=7),
        {"a", 1},
        (),
        {"deep": [dt.date(1, 1, 1)]},
    ),
)
METRICS = (Metric.COSINE, Metric.COSINE, Metric.DOT, Metric.L2)
MORE_METRICS = {"memory": tuple(Metric), "qdrant": (Metric.MANHATTAN,)}


@dataclass(frozen=True)
class Generated:
    """A collection as a user of its store made it; the name is given when it is made."""

    spec: CollectionSpec
    records: RecordBatch


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | _texts
    | st.sampled_from(ENVELOPE_LOOKALIKES)
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3), max_leaves=5
)
_flat_metadata = st.dictionaries(
    st.sampled_from(["a", "owner", "ü 🜚", "year", "_rmp_envelope"]),
    st.integers(-(2**60), 2**60) | st.booleans() | _texts,
)


@st.composite
def generated_collections(draw: st.DrawFn, store: str, held: Capabilities, count: int) -> Generated:
    """Return collections of about that many records that this store can hold.

    Args:
        draw: Hypothesis' own.
        store: chroma, qdrant, milvus or memory.
        held: What the store can hold.
        count: How many records; a few less where ids meet.
    """
    keys = [*RESERVED_LOOKALIKES, *draw(st.lists(_texts, min_size=3, max_size=6))]
    values = [*draw(st.lists(_values, min_size=15, max_size=25)), *AWKWARD_VALUES, *ENVELOPE_LOOKALIKES]
    values += TYPED_VALUES if held.payload.has_typed else ()
    values = [value for value in values if len(repr(value)) <= MAX_VALUE_CHARACTERS]
    documents = [None, "", 'naïve 漢字 🜚\n\t"q" \\ \'', *draw(st.lists(_texts, max_size=4))]
    drawn_ids = draw(st.lists(_texts, min_size=5, max_size=10))
    metric = draw(st.sampled_from(METRICS + MORE_METRICS.get(store, ())))
    dimension = draw(st.integers(1, 6))
    kinds = draw(st.sampled_from(_id_kinds(store)))
    metadata = draw(st.just({}) if store == "milvus" else _flat_metadata)
    chance = random.Random(draw(st.integers(0, 2**64)))
    ids = _unique_ids(chance, _ID_MAKERS[min(kinds) if len(kinds) == 1 else store], drawn_ids, count)
    spec = CollectionSpec(
        "", (VectorSpec(dimension, metric),), kinds, metadata=metadata, max_id_length_bytes=_id_length(store)
    )
    return Generated(
        spec,
        RecordBatch(
            ids,
            {"": DenseColumn(_vectors(chance, len(ids), dimension))},
            [_payload(chance, keys, values, held) for _ in ids],
            [chance.choice(documents) for _ in ids] if held.has_documents else None,
            [chance.choice((None, "a", "b")) for _ in ids] if store == "memory" else None,
        ),
    )


def _id_length(store: str) -> int | None:
    return 400 if store == "milvus" else None


def _id_kinds(store: str) -> list[frozenset[IdKind]]:
    return {
        "chroma": [frozenset({IdKind.STRING})],
        "milvus": [frozenset({IdKind.STRING}), frozenset({IdKind.INT64})],
        "qdrant": [frozenset({IdKind.UINT64, IdKind.UUID})],
        "memory": [frozenset(IdKind)],
    }[store]


def _payload(chance: random.Random, keys: list[str], values: list[Any], held: Capabilities) -> dict[str, Any]:
    """Return a payload that the store can hold: what it refuses is left out key by key."""
    chosen = {key: chance.choice(values) for key in chance.sample(keys, chance.randint(0, 5))}
    if not held.has_documents and chance.random() < 0.5:
        chosen["document"] = chance.choice(["text", "", "漢字", None, 5])
    taken = {"id", "vector"} if held.store == "milvus" else set()
    return {k: v for k, v in chosen.items() if k not in taken and payload_reason({k: v}, held) is None}


def _vectors(chance: random.Random, count: int, dimension: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return vectors of many lengths; among them zero, length 1, and components of -0.0."""
    values = np.random.default_rng(chance.getrandbits(63)).normal(size=(count, dimension))
    for row in range(count):
        sort = chance.randrange(8)
        values[row] *= {0: 0.0, 1: 1 / np.linalg.norm(values[row])}.get(sort, 10.0 ** chance.randint(-3, 3))
        if sort == 2:
            values[row, 0] = -0.0
    return values.astype(np.float32)


def _text_id(chance: random.Random, drawn: list[str]) -> str:
    return chance.choice(
        [
            lambda: chance.choice(HOSTILE_STRING_IDS),
            lambda: chance.choice(drawn) or "x",
            lambda: f"doc-{chance.randrange(10**6)}",
            lambda: str(chance.randrange(10**4)),
            lambda: str(uuid.UUID(int=chance.getrandbits(128))).upper(),
            lambda: str(uuid.UUID(int=chance.getrandbits(128))),
            lambda: chance.choice(drawn) + f" {chance.randrange(1000)} ",
        ]
    )()


def _unsigned_id(chance: random.Random, _: list[str]) -> int:
    return chance.choice([chance.randrange(10**4), chance.getrandbits(53), chance.getrandbits(64)])


def _signed_id(chance: random.Random, _: list[str]) -> int:
    # 2**63 - 1 is no key that a Milvus server answers; that has a test of its own.
    return chance.choice([chance.randrange(-(10**4), 10**4), chance.randrange(-(2**63), 2**63 - 1)])


def _point_id(chance: random.Random, drawn: list[str]) -> Any:
    return uuid.UUID(int=chance.getrandbits(128)) if chance.random() < 0.5 else _unsigned_id(chance, drawn)


def _any_id(chance: random.Random, drawn: list[str]) -> Any:
    return chance.choice([_text_id, _unsigned_id, _signed_id, _point_id])(chance, drawn)


_IdMaker = Callable[[random.Random, list[str]], Any]
_ID_MAKERS: dict[str, _IdMaker] = {
    IdKind.STRING: _text_id,
    IdKind.INT64: _signed_id,
    "qdrant": _point_id,
    "memory": _any_id,
}


def _unique_ids(chance: random.Random, make: _IdMaker, drawn: list[str], count: int) -> list[Any]:
    """Return ids whose texts differ: that ids which meet are refused has tests of its own."""
    found = {str(record_id): record_id for record_id in (make(chance, drawn) for _ in range(count))}
    while len(found) < count:
        record_id = make(chance, drawn)
        found.setdefault(str(record_id), record_id)
    return list(found.values())
