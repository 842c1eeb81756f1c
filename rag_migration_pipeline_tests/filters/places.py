"""Where filters are tried: an open store of each form, and collections filled from a seed.

Belongs here: opening, filling, reading back. Does not belong here: what is written (``makers.py``), what must hold (the
tests).
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.envelope import ENVELOPE_KEY, Layout, layout_of, pack, unpack
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    FieldSpec,
    IdKind,
    Metric,
    RecordBatch,
    RecordId,
    VectorSpec,
)
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.chroma import ChromaSettings
from rag_migration_pipeline.stores.chroma_schema import PAYLOAD_RULES
from rag_migration_pipeline.stores.memory import MemorySettings
from rag_migration_pipeline.stores.milvus import MilvusSettings
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline.stores.screening import payload_reason
from rag_migration_pipeline_tests.filters.makers import Maker

TYPED = (
    *(FieldSpec("title", "string"), FieldSpec("year", "int"), FieldSpec("score", "float"), FieldSpec("flag", "bool")),
    *(FieldSpec("small", "int", bits=8), FieldSpec("single", "float", bits=32)),
)
_NULLABLE = (FieldSpec("title", "string", is_nullable=True), FieldSpec("year", "int", is_nullable=True))
_TEXTS = (FieldSpec("document", "string"), FieldSpec(ENVELOPE_KEY, "string"))
_INDEXED = tuple(
    FieldSpec(name, kind, is_nullable=True, is_indexed=True)
    for name, kind in (("text", "string"), ("year", "int"), ("number", "float"), ("flag", "bool"))
)
_numbers = itertools.count(1)
RECORD_COUNT = 40


def _server(name: str, make: Callable[[Any], StoreSettings]) -> Callable[[pytest.FixtureRequest, Path], StoreSettings]:
    return lambda request, _: make(request.getfixturevalue(name))


FORMS: dict[str, Callable[[pytest.FixtureRequest, Path], StoreSettings]] = {
    "memory": lambda _, folder: MemorySettings(name=f"filters-{folder}"),
    "chroma_folder": lambda _, folder: ChromaSettings(path=str(folder / "chroma")),
    "chroma_server": _server("chroma_server", lambda s: ChromaSettings(host=s.host, port=s.port)),
    "qdrant_folder": lambda _, folder: QdrantSettings(path=str(folder / "qdrant")),
    "qdrant_edge": lambda _, folder: QdrantEdgeSettings(path=str(folder / "edge")),
    "qdrant_grpc": _server(
        "qdrant_double",
        lambda s: QdrantSettings(host=s.host, port=s.port, grpc_port=s.grpc_port, prefer_grpc="true"),
    ),
    "qdrant_rest": _server("qdrant_double", lambda s: QdrantSettings(host=s.host, port=s.port, prefer_grpc="false")),
    "milvus_file": lambda _, folder: MilvusSettings(path=str(folder / "lite.db")),
    "milvus_lite_server": _server("milvus_lite_server", lambda s: MilvusSettings(host=s.host, port=s.port)),
    "milvus_server": _server("milvus_server", lambda s: MilvusSettings(host=s.host, port=s.port)),
}
SERVERS = frozenset({"chroma_server", "qdrant_grpc", "qdrant_rest", "milvus_lite_server", "milvus_server"})


@dataclass(frozen=True)
class Filled:
    """A collection with records, and what lies in it.

    Attributes:
        stored_ids: Ids as the store names them, in the order of the records.
        records: All records, unpacked.
    """

    store: VectorStore
    name: str
    layout: Layout
    stored_ids: Sequence[RecordId]
    records: RecordBatch

    def ids_of(self, rows: Sequence[int]) -> set[RecordId]:
        """Return the stored ids of some rows."""
        return {self.stored_ids[row] for row in rows}


def kinds_of(form: str) -> Sequence[str]:
    """Return the kinds of collections that a form is tried with.

    natural: as a user of the store wrote them; mixed: every second record packed by a migration; typed: with fields of
    a schema, or payload indexes; nullable: with fields that may be null; bare: Milvus without text fields for document
    and envelope, mixed.
    """
    if form.startswith("milvus"):
        return ("natural", "mixed", "typed", "bare", *(("nullable",) if form != "milvus_server" else ()))
    return (
        ("natural", "mixed") if form in ("memory", "chroma_folder", "chroma_server") else ("natural", "mixed", "typed")
    )


def pairs() -> list[Any]:
    """Return every form with each of its kinds, marked as server where it is one."""
    server, slow = pytest.mark.server, pytest.mark.slow  # the server of Milvus waits 200 ms for each answer
    marks = {form: [server] if form in SERVERS else [] for form in FORMS}
    slower = {("milvus_server", kind): [slow] for kind in ("mixed", "bare", "typed")}
    pairs = [(form, kind) for form in FORMS for kind in kinds_of(form)]
    return [pytest.param(*pair, marks=[*marks[pair[0]], *slower.get(pair, [])]) for pair in pairs]


def fill(store: VectorStore, maker: Maker, kind: str) -> Filled:
    """Make a collection and fill it."""
    name = f"filters_{next(_numbers)}"
    id_kinds = _id_kinds(store, kind)
    store.create(
        CollectionSpec(name, (VectorSpec(2, Metric.L2),), id_kinds, _fields(store, kind), max_id_length_bytes=400)
    )
    layout = layout_of(store.spec(name), store.capabilities, store.settings.document_key)
    turns = sorted(id_kinds)
    natural = _batch(
        [maker.record_id(number, turns[number % len(turns)]) for number in range(1, RECORD_COUNT + 1)],
        [_natural(store, kind, maker) for _ in range(RECORD_COUNT)],
        [maker.document() for _ in range(RECORD_COUNT)] if store.capabilities.has_documents else None,
    )
    if kind in ("natural", "typed", "nullable"):
        store.upsert(name, natural)
    else:
        store.upsert(name, natural.take(range(0, RECORD_COUNT, 2)))
        count = RECORD_COUNT // 2
        has_strings = id_kinds != {IdKind.INT64}
        originals = _batch(
            [f"packed {number}" if has_strings else 1000 + number for number in range(count)],
            [maker.payload() for _ in range(count)],
            [maker.document() for _ in range(count)],
        )
        # Memory holds everything, so its packed records are such as a poorer store would have been given.
        poorer = replace(layout, payload=PAYLOAD_RULES) if store.capabilities.store == "memory" else layout
        store.upsert(name, pack(originals, poorer))
    if kind in ("mixed", "typed"):
        store.finish_loading(name)  # Milvus answers from what is on disk then, otherwise from what is in memory
    stored = concatenate(list(store.scan(name)))
    return Filled(store, name, layout, list(stored.ids), unpack(stored, layout))


def _id_kinds(store: VectorStore, kind: str) -> frozenset[IdKind]:
    if store.capabilities.store == "milvus":
        return frozenset({IdKind.INT64 if kind == "natural" else IdKind.STRING})
    return store.capabilities.id_kinds - {IdKind.UINT64 if store.capabilities.store == "memory" else IdKind.INT64}


def _fields(store: VectorStore, kind: str) -> tuple[FieldSpec, ...]:
    if store.capabilities.store == "milvus":
        typed = {"typed": TYPED, "nullable": _NULLABLE}.get(kind, ())
        return typed if kind == "bare" else (*typed, *_TEXTS)
    return _INDEXED if kind == "typed" else ()


def _natural(store: VectorStore, kind: str, maker: Maker) -> dict[str, Any]:
    """Return a payload as a user of the store would have written it, within what the store holds."""
    held = store.capabilities
    given = maker.payload()
    payload = {key: value for key, value in given.items() if payload_reason({key: value}, held) is None}
    payload.pop(ENVELOPE_KEY, None)
    if not held.has_documents:
        document = maker.document()
        if document is not None:
            payload["document"] = document
    if held.store == "milvus":
        for key in ("id", "pk", "vector"):
            payload.pop(key, None)
        if kind != "bare":
            payload = {"document": "", **payload, ENVELOPE_KEY: ""}
        if kind == "typed":
            payload |= maker.typed()
        elif kind == "nullable":
            payload |= {name: value for name, value in maker.typed().items() if name in ("title", "year")}
            payload |= dict.fromkeys(maker.some_of(["title", "year"]))
    return payload


def _batch(ids: Sequence[RecordId], payloads: Sequence[Any], documents: Sequence[str | None] | None) -> RecordBatch:
    return RecordBatch(ids, {"": DenseColumn(np.ones((len(ids), 2), np.float32))}, payloads, documents)
