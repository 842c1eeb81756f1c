"""What a Chroma collection is, read into a `CollectionSpec` and back, and what Chroma can hold.

Belongs here: capabilities, metric, dimension, collection metadata, index settings. Does not belong here: records
(``chroma_records.py``), requests (``chroma.py``).

A new Chroma collection has no dimension before its first record, and its metadata are flat. What does not fit goes into
one metadata key of ours, `NOTE_KEY`, as JSON: the dimension asked for, and metadata values that Chroma cannot hold.
"""

import re
from collections.abc import Mapping
from typing import Any

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.payloads import check_json, decode, encode
from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, VectorKind, VectorSpec
from rag_migration_pipeline.stores.capabilities import Capabilities, ListRule, PayloadRules

NOTE_KEY = "rag_migration_pipeline"
URI_KEY = "chroma:uri"
"""Where a record's URI (a field of its own in Chroma) stands in the payload; Chroma's tables name it the same way."""

SPACES = {"cosine": Metric.COSINE, "ip": Metric.DOT, "l2": Metric.L2}
"""Chroma's name of a metric -> ours."""

_SPACE_OF = {metric: space for space, metric in SPACES.items()}
NAME_PATTERN = (
    r"(?!.*\.\.)"  # no two periods in a row
    r"(?!\d{1,3}(\.\d{1,3}){3}\Z)"  # no IP address
    r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,510}[a-zA-Z0-9]"
)
_INDEX_SETTINGS = ("ef_construction", "ef_search", "max_neighbors", "resize_factor", "sync_threshold")

_KEY_PATTERN = r"(?![$#]|chroma:(?!uri\Z)).+"
"""Empty keys and keys starting with ``$`` or ``#`` are refused by Chroma; ``chroma:`` keys are taken for its own fields
and vanish, and ``chroma:document`` with null stops the engine for good (tried on 1.5.9, folder and server)."""

PAYLOAD_RULES = PayloadRules(
    has_null=False,
    has_nested=False,
    lists=ListRule.HOMOGENEOUS,
    # Metadata pass through JSON in the engine's write-ahead log: one random float in seven came back changed in the
    # last digit, on folder and server alike, each as `decimal_floats` predicts. SQLite then drops the sign of -0.0.
    has_all_floats=False,
    has_negative_zero=False,
    key_pattern=_KEY_PATTERN,
    text_keys=frozenset({URI_KEY}),
)
_METADATA_RULES = PayloadRules(
    has_null=False,
    has_nested=False,
    lists=ListRule.NONE,  # a list stops the request with a panic (1.5.9)
    has_all_floats=False,
    has_negative_zero=False,
    reserved_keys=frozenset({NOTE_KEY}),
    key_pattern=_KEY_PATTERN,
)


def capabilities(form: str, max_batch_count: int) -> Capabilities:
    """Return what Chroma can hold.

    Args:
        form: "folder" or "server".
        max_batch_count: Most records of one request, as the store says.
    """
    return Capabilities(
        store="chroma",
        form=form,
        id_kinds=frozenset({IdKind.STRING}),
        metrics=frozenset(SPACES.values()),
        payload=PAYLOAD_RULES,
        # One unnamed dense float32 per record, and no record without: the client and the engine behind it refuse to add
        # one (1.5.9, folder). What an older version left without is read as missing.
        # Cosine collections keep direction and length apart and multiply them when they are read: up to 1.5e-7 off
        # over dimensions 3 to 1536. The other metrics came back bit for bit, subnormals included (1.5.9).
        vector_tolerance=5e-7,
        has_documents=True,
        has_empty_string_id=False,
        reads_by_key_order=False,
        collection_name_pattern=NAME_PATTERN,
        max_batch_count=max_batch_count,
        # The server refuses bodies above 40 MiB (its default, tried); a character takes up to 4 bytes, 6 when escaped.
        max_batch_bytes=8 * 2**20,
        page_count=1_000,
        # Two readers gave 1.5 times the records/s of one over HTTP, and no more in a folder.
        concurrent_readers=2 if form == "server" else 1,
        is_embedded=form == "folder",
    )


def is_name(collection: str) -> bool:
    """Return whether a collection can have that name; others must not get into the path of a request."""
    return re.fullmatch(NAME_PATTERN, collection) is not None


def spec_of(model: Any) -> CollectionSpec:
    """Return the spec of a collection as the store describes it.

    Args:
        model: The client's ``chromadb.types.Collection``.

    Raises:
        SchemaCompatibilityError: The metric is not one that we know.
    """
    configuration = model.configuration_json or {}
    index_name = "spann" if configuration.get("spann") else "hnsw"  # SPANN: Chroma's distributed form
    index = configuration.get(index_name) or {}
    metric = SPACES.get(str(index.get("space")))
    if metric is None:
        raise SchemaCompatibilityError(
            f"collection {model.name!r} has the metric {index.get('space')!r}; known: {', '.join(SPACES)}.",
            todo="This version of the project cannot read it.",
            collection=model.name,
        )
    metadata, note = _split_metadata(model.metadata)
    settings: dict[str, Any] = {index_name: {key: value for key, value in index.items() if value is not None}}
    embedding = configuration.get("embedding_function")
    if embedding:
        # Only its name: the rest is the configuration of a model, which may hold addresses and names of secrets.
        settings["embedding_function"] = {key: embedding[key] for key in ("type", "name") if key in embedding}
    dimension = model.dimension or note.get("dimension")
    return CollectionSpec(
        name=model.name,
        vectors=(VectorSpec(dimension, metric),),
        id_kinds=frozenset({IdKind.STRING}),
        settings=settings,
        metadata=metadata,
    )


def _split_metadata(metadata: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the user's metadata, and our note."""
    users = dict(metadata or {})
    text = users.pop(NOTE_KEY, None)
    if not isinstance(text, str):
        return dict(metadata or {}), {}
    try:
        note = decode(text)
        users.update(note.get("metadata", {}))
    except (ValueError, AttributeError):
        return dict(metadata or {}), {}  # somebody else's value under our key
    return users, note


def metadata_for(spec: CollectionSpec) -> dict[str, Any]:
    """Return the collection metadata that hold the spec's metadata and dimension."""
    flat = {key: value for key, value in spec.metadata.items() if _METADATA_RULES.refusal(key, value) is None}
    note: dict[str, Any] = {"dimension": spec.vectors[0].dimension}
    rest = {key: value for key, value in spec.metadata.items() if key not in flat}
    if rest:
        note["metadata"] = rest
    return {**flat, NOTE_KEY: encode(note)}


def configuration_for(spec: CollectionSpec) -> dict[str, Any]:
    """Return the configuration of a new collection: its metric, and index settings read from another Chroma."""
    index = spec.settings.get("hnsw")
    given = index if isinstance(index, Mapping) else {}
    kept = {key: given[key] for key in _INDEX_SETTINGS if type(given.get(key)) in (int, float)}
    return {"hnsw": {**kept, "space": _SPACE_OF[spec.vectors[0].metric]}}


def problems_of(spec: CollectionSpec) -> list[str]:
    """Return why Chroma cannot have such a collection; empty if it can."""
    problems = []
    if not is_name(spec.name):
        problems.append(
            f"the name {spec.name!r} is not 3 to 512 characters of a-z, A-Z, 0-9, '.', '_', '-' with a letter or digit "
            "at both ends, no '..' and no IP address"
        )
    if len(spec.vectors) != 1:
        problems.append(f"a record has exactly one vector, got {[vector.name for vector in spec.vectors]}")
    for vector in spec.vectors:
        problems += _vector_problems(vector)
    if spec.id_kinds != {IdKind.STRING}:
        problems.append(f"the one id kind is string, got {', '.join(sorted(spec.id_kinds)) or 'none'}")
    if spec.fields:
        problems.append(f"there are no typed fields, got {[field.name for field in spec.fields]}")
    space = spec.metadata.get("hnsw:space")
    if space is not None and spec.vectors and SPACES.get(space) is not spec.vectors[0].metric:
        # Chroma takes the metric from there before its configuration (1.5.9).
        problems.append(f"metadata key 'hnsw:space' is {space!r}, the metric is {spec.vectors[0].metric}")
    try:
        check_json(dict(spec.metadata), "metadata")
    except TypeError as error:
        problems.append(str(error))
    return problems


def _vector_problems(vector: VectorSpec) -> list[str]:
    problems = []
    if vector.name:
        problems.append(f"the vector has no name, got {vector.name!r}")
    if vector.kind is not VectorKind.DENSE or vector.dtype != "float32":
        problems.append(f"vectors are dense float32, got {vector.kind} {vector.dtype}")
    if vector.metric not in _SPACE_OF:
        problems.append(f"metrics are {', '.join(sorted(_SPACE_OF))}, got {vector.metric}")
    if vector.dimension is None or vector.dimension < 1:
        problems.append(f"the dimension must be at least 1, got {vector.dimension}")
    return problems


def keys_of(model: Any) -> frozenset[str] | None:
    """Return every payload key that a record of a collection ever had; None where the collection does not tell.

    Args:
        model: The client's ``chromadb.types.Collection``.
    """
    keys = (model.serialized_schema or {}).get("keys")
    return None if keys is None else frozenset(keys)
