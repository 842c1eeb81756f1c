"""The verdict on every kind of record and feature between every two stores: ``python -m ... --write docs/fidelity.md``.

Belongs here: one example of each kind, and the tables that the real planning makes of them from the real capabilities.
Does not belong here: whether a verdict is true (``unit/test_verdicts.py``, ``fidelity/``).
"""

import datetime as dt
import re
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.plan import make_plan
from rag_migration_pipeline.records import (
    CollectionInfo,
    CollectionSpec,
    FieldSpec,
    IdKind,
    Metric,
    RecordBatch,
    RecordId,
    VectorColumn,
    VectorKind,
    VectorSpec,
    id_kind,
)
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.stores.abilities import abilities
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.stores.chroma_settings import ChromaSettings
from rag_migration_pipeline.stores.memory import MemorySettings
from rag_migration_pipeline.stores.milvus_settings import MilvusSettings
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline.stores.screening import screen
from rag_migration_pipeline.vectors import column_of
from rag_migration_pipeline.verdicts import Level, Verdict
from rag_migration_pipeline.verdicts.profile import Sample
from rag_migration_pipeline_tests.generated import write_blocks

COLUMNS = {
    "memory": "memory",
    "Chroma": "Chroma server",
    "Qdrant": "Qdrant server",
    "Milvus Lite": "Milvus Lite file",
    "Milvus 2.3.5": "Milvus server",
}
"""How the tables call a store -> its form in `abilities`."""

SETTINGS = {
    "memory": MemorySettings(name="there"),
    "Chroma": ChromaSettings(path="/there"),
    "Qdrant": QdrantSettings(path="/there"),
    "Milvus Lite": MilvusSettings(path="/there.db"),
    "Milvus 2.3.5": MilvusSettings(host="there"),
}
DIMENSION = 8


@dataclass(frozen=True)
class Kind:
    """One example of a kind of record or feature; what is not given is plain.

    Attributes:
        subject: Whose verdict the table shows.
        ids: Empty for ids that the source holds, whatever they are.
        rows: Per vector name, the vectors of two records in the form of `vectors.column_of`.
    """

    label: str
    subject: str
    ids: tuple[RecordId, ...] = ()
    payload: Mapping[str, Any] = field(default_factory=dict)
    document: str | None = None
    partition: str | None = None
    vectors: tuple[VectorSpec, ...] = (VectorSpec(DIMENSION, Metric.L2),)
    rows: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[FieldSpec, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    name: str = "docs"
    options: Mapping[str, Any] = field(default_factory=dict)


def _id(label: str, *ids: RecordId) -> Kind:
    return Kind(f"id: {label}", "id", ids=ids)


def _value(label: str, value: Any) -> Kind:
    return Kind(f"value: {label}", "field k", payload={"k": value})


def _key(key: str) -> Kind:
    return Kind(f"key: `{key}`" if key else "key: empty", f"field {key}", payload={key: 1})


def _vector(label: str, vector: VectorSpec, *more: VectorSpec, **changes: Any) -> Kind:
    return Kind(f"vector: {label}", f'vector "{vector.name}"', vectors=(vector, *more), **changes)


_ONES = [1] * DIMENSION
_NAMED = VectorSpec(DIMENSION, Metric.L2, "title"), VectorSpec(DIMENSION, Metric.L2, "body")
BACKUP = "backup_2026-01-02T03:04:05"
KINDS = (
    *(_id("string", "a", "b"), _id("text of a UUID", *(str(uuid.UUID(int=n)) for n in (1, 2)))),
    *(_id("empty string", ""), _id("integer", 7, 8), _id("negative integer", -7), _id("2**63 and more", 2**63)),
    *(_id("UUID", uuid.UUID(int=1)), _id("`7` and `8`, and strings", 7, 8, "x")),
    Kind("document", "document", document="text"),
    Kind("document: missing", "document"),
    *(_value("text", "naïve"), _value("bool", True), _value("integer", 7), _value("float", 0.25)),
    *(_value("float of 17 digits", 0.1 + 0.2), _value("-0.0", -0.0), _value("NaN, infinity", float("nan"))),
    *(_value("2**63", 2**63), _value("2**70", 2**70), _value("null", None)),
    *(_value("list of texts", ["a", "b"]), _value("empty list", []), _value("mixed list", [1, "a"])),
    *(_value("nested object", {"a": {"b": 1}}), _value("date", dt.date(2026, 1, 2)), _value("bytes", b"\x00\xff")),
    *map(_key, ("id", "document", "vector", "$meta", "a.b", "", "🜚", "_rmp_envelope")),
    Kind("partition", "partition", partition="p"),
    *(_vector(f"dense, {metric}", VectorSpec(DIMENSION, metric)) for metric in list(Metric)[:4]),
    *(_vector(dtype, VectorSpec(DIMENSION, Metric.L2, dtype=dtype)) for dtype in ("float16", "bfloat16", "int8")),
    _vector("uint8", VectorSpec(DIMENSION, Metric.L2, dtype="uint8")),
    *(_vector(f"binary, {m}", VectorSpec(DIMENSION, m, dtype="binary")) for m in (Metric.HAMMING, Metric.JACCARD)),
    _vector("one, with a name", _NAMED[0]),
    _vector('one, with a name, `vectors: {title: ""}`', _NAMED[0], options={"vectors": {"title": ""}}),
    _vector("several, by name", *_NAMED),
    _vector("sparse", VectorSpec(None, Metric.DOT, "words", VectorKind.SPARSE), _NAMED[0]),
    _vector(
        "sparse, `vectors: {words: null}`",
        VectorSpec(None, Metric.DOT, "words", VectorKind.SPARSE),
        VectorSpec(DIMENSION, Metric.L2),
        options={"vectors": {"words": None}},
    ),
    _vector("multi", VectorSpec(DIMENSION, Metric.COSINE, "", VectorKind.MULTI)),
    Kind("record without one of its vectors", 'vector "title"', vectors=_NAMED, rows={"title": [None, _ONES]}),
    _vector("zero, under cosine", VectorSpec(DIMENSION, Metric.COSINE), rows={"": [[0] * DIMENSION, _ONES]}),
    _vector("NaN component", VectorSpec(DIMENSION, Metric.L2), rows={"": [[float("nan")] * DIMENSION, _ONES]}),
    Kind("typed field", "schema of year", payload={"year": 7}, fields=(FieldSpec("year", "int"),)),
    Kind("collection metadata", "collection metadata", metadata={"owner": "me"}),
    Kind(f"name `{BACKUP}`", "collection name", name=BACKUP),
    Kind(f"name `{BACKUP}`, `translate_names`", "collection name", name=BACKUP, options={"translate_names": True}),
)


def example(kind: Kind, held: Capabilities) -> tuple[CollectionSpec, RecordBatch]:
    """Return a collection of that kind, as a store would have it, and records of it."""
    ids = list(kind.ids or (("a", "b") if IdKind.STRING in held.id_kinds else (1, 2)))
    count = len(ids)
    columns = {vector.name: _column(vector, kind.rows.get(vector.name), count) for vector in kind.vectors}
    batch = RecordBatch(
        ids,
        columns,
        [dict(kind.payload)] * count,
        [kind.document] * count,
        None if kind.partition is None else [kind.partition] * count,
    )
    kinds = frozenset(map(id_kind, ids))
    return CollectionSpec("docs", kind.vectors, kinds, kind.fields, metadata=kind.metadata), batch


def _column(vector: VectorSpec, rows: Any, count: int) -> VectorColumn:
    if rows is None:
        row: Any = {
            VectorKind.SPARSE: ([1, 5], [0.5, 1.0]),
            VectorKind.MULTI: [_ONES, _ONES],
            VectorKind.DENSE: [1] if vector.dtype == "binary" else _ONES,
        }[vector.kind]
        rows = [row] * count
    return column_of(vector, rows[:count])


def can_have(held: Capabilities, spec: CollectionSpec, batch: RecordBatch) -> bool:
    """Return whether a store can be the source of such records: it holds all of it as it is."""
    if spec.fields and held.fields is None:
        return False
    if IdKind.STRING in spec.id_kinds and len(spec.id_kinds) > 1 and held.id_kinds != frozenset(IdKind):
        return False  # Milvus: one kind per collection
    is_named = any(vector.name for vector in spec.vectors) or len(spec.vectors) > 1
    if is_named and not held.has_named_vectors:
        return False
    for vector in spec.vectors:
        if not held.has_type(vector.kind, vector.dtype) or vector.metric not in held.metrics_of(vector):
            return False
    if not held.has_documents:
        batch = batch.with_columns(documents=None)  # it stands in the payload there
    try:
        accepted, _ = screen(batch, replace(spec, id_kinds=held.id_kinds), held, lambda _spec, _payload: None)
    except ValueError:
        return False
    return len(accepted) == len(batch)


def verdict_between(kind: Kind, source: str, target: str, **options: Any) -> tuple[Verdict, tuple[Verdict, ...]] | None:
    """Return the verdict on a kind between two stores, and all verdicts; None where the source cannot have it."""
    forms = abilities()
    held = forms[COLUMNS[source]]
    spec, batch = example(kind, held)
    if not can_have(held, spec, batch):
        return None
    chosen = MigrationOptions.model_validate({**kind.options, **options})
    migration = Migration("table", MemorySettings(name="here"), "docs", SETTINGS[target], kind.name, chosen)
    info = CollectionInfo(spec, len(batch))
    plan = make_plan(migration, info, held, list(batch.ids), None, forms[COLUMNS[target]], Sample([batch]))
    found = plan.facts.verdicts
    about = [verdict for verdict in found if verdict.subject in (kind.subject, "vectors")]
    return max(about, key=lambda verdict: list(Level).index(verdict.level)), found


def cell(kind: Kind, source: str, target: str, **options: Any) -> str:
    """Return the cell of a table."""
    between = verdict_between(kind, source, target, **options)
    if between is None:
        return ""
    verdict, found = between
    if verdict.level is Level.IMPOSSIBLE:
        return "**impossible**"
    if verdict.level is Level.EXACT and any(other.subject == "records" for other in found):
        return "set aside by name"
    how = verdict.how
    for long, short in _SHORT:
        how = re.sub(long, short, how)
    if any(other.subject == f"{kind.subject}, where zero" for other in found):
        how = f"{how}, hidden from searches".removeprefix(", ")
    level = "*lossy*" if verdict.level is Level.LOSSY else verdict.level.value
    return f"{level}: {how}" if how else level


_SHORT = (
    (r"^(native|kept)(; |, | |$)", ""),
    (r"; original in the envelope$", ", envelope"),
    (r"(, its type|, length) in the envelope$", ", envelope"),
    (r"^under the key '(.*)'$", r"key `\1`"),
    (r"^'.*' translated to '.*'$", "translated"),
)
"""How a cell says in few words what a plan says in full."""


def table(source: str, **options: Any) -> str:
    """Return the table of one source: a row per kind that it can have, a column per target."""
    lines = [f"| from {source} | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for kind in KINDS:
        cells = [cell(kind, source, target, **options) for target in COLUMNS]
        if any(cells):
            lines.append(f"| {kind.label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables() -> str:
    """Return all tables: one per source, and what becomes of everything without the envelope."""
    parts = [f"#### From {source}\n\n{table(source)}" for source in COLUMNS]
    parts.append(f"#### From memory, with `envelope: false`\n\n{table('memory', envelope=False)}")
    return "\n\n".join(parts)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write_blocks(Path(sys.argv[2]), {"verdicts": tables()})
    else:
        print(tables())  # noqa: T201  this is the command
