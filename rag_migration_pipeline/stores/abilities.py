"""What each store can hold, as a table: ``python -m rag_migration_pipeline.stores.abilities``.

Belongs here: which forms of stores there are, and how their `Capabilities` read as a table. Does not belong here: the
capabilities themselves (the adapters), and the gaps that the contract suite found (its own command lists them).

``docs/stores.md`` holds what this command prints, and a test holds it to that.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rag_migration_pipeline.records import INT64_MAX, INT64_MIN, UINT64_MAX, VectorKind
from rag_migration_pipeline.stores import chroma_schema, memory, milvus_capabilities, qdrant_schema
from rag_migration_pipeline.stores.capabilities import Capabilities, ListRule
from rag_migration_pipeline.vectors import FLOAT32

_CHROMA_BATCH_COUNT = 5_461  # what Chroma 1.5.9 says, as folder and as server


def abilities() -> dict[str, Capabilities]:
    """Return the capabilities of every form of every store, by the name that the docs use."""
    milvus = milvus_capabilities.capabilities_of
    return {
        "Chroma folder": chroma_schema.capabilities("folder", _CHROMA_BATCH_COUNT),
        "Chroma server": chroma_schema.capabilities("server", _CHROMA_BATCH_COUNT),
        "Qdrant folder": qdrant_schema.capabilities("folder"),
        "Qdrant edge": qdrant_schema.capabilities("edge"),
        "Qdrant server": qdrant_schema.capabilities("server"),
        "Milvus Lite file": milvus(is_lite=True, is_embedded=True),
        "Milvus Lite server": milvus(is_lite=True, is_embedded=False),
        "Milvus server": milvus(is_lite=False, is_embedded=False),
        "memory": memory.CAPABILITIES,
    }


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _names(values: Any) -> str:
    return ", ".join(sorted(str(value) for value in values)) or "none"


def _limit(value: int | None, unit: str = "") -> str:
    return "none" if value is None else f"{value:,}{unit}"


def _kept_vectors(held: Capabilities) -> str:
    if held.vector_tolerance == 0:
        return "bit for bit"
    how = f"bit for bit; within {held.vector_tolerance:g} under {_names(held.inexact_metrics)}"
    return f"{how}, direction only" if held.normalised_metrics else how


def _element_types(held: Capabilities) -> str:
    return _names({FLOAT32} | {dtype for kind, dtype in held.other_types if kind is VectorKind.DENSE})


def _integers(held: Capabilities) -> str:
    bounds = (held.payload.int_min, held.payload.int_max)
    names = {(INT64_MIN, INT64_MAX): "int64", (INT64_MIN, UINT64_MAX): "int64, uint64"}
    return names.get(bounds, "any" if bounds[1] > UINT64_MAX else f"{bounds[0]} to {bounds[1]}")


def _floats(held: Capabilities) -> str:
    rules = held.payload
    base = "all finite" if rules.has_all_floats else "finite, if they survive decimal text"
    base += "" if rules.has_negative_zero else ", not -0.0"
    return base + (", NaN, infinities" if rules.has_non_finite else "")


def _lists(held: Capabilities) -> str:
    rule = held.payload.lists
    return "not empty, of one type" if rule is ListRule.HOMOGENEOUS else rule.value


def _fields(held: Capabilities) -> str:
    if held.fields is None:
        return "none"
    return _names(held.fields.types) + ("; may be null" if held.fields.has_nullable else "; never null")


def _payload_size(held: Capabilities) -> str:
    depth = "" if held.payload.max_depth is None else f"; {held.payload.max_depth} levels"
    return _limit(held.payload.max_bytes, " bytes") + depth


ROWS: Mapping[str, Callable[[Capabilities], str]] = {
    "ids": lambda held: _names(held.id_kinds),
    "longest string id": lambda held: _limit(held.max_id_length_bytes, " bytes"),
    "empty string id": lambda held: _yes(held.has_empty_string_id),
    "metrics": lambda held: _names(held.metrics),
    "vectors come back": _kept_vectors,
    "named vectors": lambda held: _yes(held.has_named_vectors),
    "records without a vector": lambda held: _yes(held.has_partial_vectors),
    "element types": _element_types,
    "sparse vectors": lambda held: _yes(VectorKind.SPARSE in held.vector_kinds),
    "multi-vectors": lambda held: _yes(VectorKind.MULTI in held.vector_kinds),
    "NaN or infinite components": lambda held: _yes(held.has_non_finite_vectors),
    "largest dimension": lambda held: _limit(held.max_dimension),
    "partitions": lambda held: _yes(held.has_partitions),
    "document beside the payload": lambda held: _yes(held.has_documents),
    "longest text field": lambda held: _limit(held.max_text_field_bytes, " bytes"),
    "typed payload fields": _fields,
    "integers": _integers,
    "floats": _floats,
    "null": lambda held: _yes(held.payload.has_null),
    "lists": _lists,
    "nested objects": lambda held: _yes(held.payload.has_nested),
    "dates, bytes, decimals, UUIDs, tuples, sets": lambda held: "yes" if held.payload.has_typed else "natural form",
    "payload indexes on request": lambda held: _names(held.indexed_types),
    "reserved payload keys": lambda held: _names(f"`{key}`" for key in held.payload.reserved_keys),
    "largest payload": _payload_size,
    "ranges are read by": lambda held: "key" if held.reads_by_key_order else "list of ids",
    "records per request": lambda held: _limit(held.max_batch_count),
    "readers, writers at a time": lambda held: f"{held.concurrent_readers}, {held.concurrent_writers}",
}
"""Ability -> how it reads for one store."""


def ability_table() -> str:
    """Return the Markdown table: one row per ability, one column per form of a store."""
    forms = abilities()
    lines = ["| | " + " | ".join(forms) + " |", "|---" * (len(forms) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(tell(held) for held in forms.values()) + " |" for name, tell in ROWS.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(ability_table())  # noqa: T201  this is the command
