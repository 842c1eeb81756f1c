"""What Qdrant can hold, and its collections in our words and back.

Belongs here: `Capabilities` of every form, names, metrics, the translation between `CollectionSpec` and Qdrant's
parameters. Does not belong here: requests (``qdrant.py``, ``qdrant_edge.py``), points (``qdrant_points.py``).

The engine's limits are declared for the local folder too, although that is laxer (it takes id -1 and 2**64, 2**70 in
payloads, lone surrogates): what is written there would not move on to a server.
"""

import re
from collections.abc import Mapping
from typing import Any

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.names import NameRule
from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    CollectionSpec,
    FieldSpec,
    IdKind,
    Metric,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.stores.capabilities import Capabilities, PayloadRules
from rag_migration_pipeline.vectors import FLOAT32

ID_KINDS = frozenset({IdKind.UINT64, IdKind.UUID})

DISTANCES = {
    Metric.COSINE: "Cosine",
    Metric.DOT: "Dot",
    Metric.L2: "Euclid",
    Metric.MANHATTAN: "Manhattan",
}
"""Metric -> Qdrant's name of the distance."""

METRICS = {distance: metric for metric, distance in DISTANCES.items()}

FIELD_TYPES = {
    "keyword": "string",
    "text": "string",
    "integer": "int",
    "float": "float",
    "bool": "bool",
    "geo": "geo",
    "datetime": "datetime",
    "uuid": "uuid",
}
"""Qdrant's payload index type -> our field type."""

INDEX_TYPES = {"string": "keyword", **{ours: theirs for theirs, ours in FIELD_TYPES.items() if ours != "string"}}
"""Our field type -> the payload index that Qdrant makes for it; an index of a list indexes its elements."""

# Source: qdrant/qdrant lib/collection/src/operations/validation.rs (forbidden characters, at most 255 long), and
# qdrant-client 1.20 http/api_client.py, which refuses "." and "..". A name becomes a folder, so bytes count as well.
NAME_PATTERN = r'(?!\.{1,2}$)[^<>:"/\\|?*\x00\x1f]{1,255}'
MAX_NAME_BYTES = 255
NAME_RULE = NameRule(NAME_PATTERN, MAX_NAME_BYTES)
MAX_DIMENSION = 65_536

# Measured on qdrant-edge-py 0.9.0: the engine's own normalisation is off by up to 1.4e-7 of the length (dimensions 1 to
# 4096), and a vector whose squared length is within 1e-6 of 1 is left as it is, off by up to 5e-7.
# Source of the second: qdrant/qdrant lib/segment/src/spaces/tools.rs, is_length_zero_or_normalized.
VECTOR_TOLERANCE = 7e-7

# gRPC carries payload integers as int64 and floats as doubles (json_with_int.proto); the engine keeps up to 2**64-1,
# which gRPC then answers as a double (see `qdrant_points`). Floats: see `decimal_floats`. Depth: protobuf and the
# server's prost read 100 messages inside each other, and an object takes three; the engine itself takes 124 levels, and
# accepts deeper ones that make its log or its pages unreadable (tried on qdrant-edge-py 0.9.0).
PAYLOAD_RULES = PayloadRules(has_all_floats=False, max_depth=32)


def capabilities(form: str) -> Capabilities:
    """Return what Qdrant can hold in a form: folder (local mode of the client), edge or server."""
    is_server = form == "server"
    return Capabilities(
        store="qdrant",
        form=form,
        id_kinds=ID_KINDS,
        metrics=frozenset(DISTANCES),
        payload=PAYLOAD_RULES,
        vector_kinds=frozenset(VectorKind),
        other_types=frozenset() if form == "folder" else _OTHER_TYPES,
        sparse_modifiers=frozenset({"idf"}),
        has_named_vectors=True,
        has_partial_vectors=True,
        # The engine keeps what it is given where it does not normalise (tried on qdrant-edge-py 0.9.0); JSON has no
        # form for it, so a server's collection could not be read over REST, and local mode refuses NaN.
        has_non_finite_vectors=form == "edge",
        normalised_metrics=frozenset({Metric.COSINE}),
        vector_tolerance=VECTOR_TOLERANCE,
        max_dimension=MAX_DIMENSION,
        indexed_types=frozenset() if form == "folder" else frozenset(INDEX_TYPES),
        collection_name_pattern=NAME_PATTERN,
        max_batch_count=10_000,
        # A server takes 32 MB over REST and 64 MB over gRPC by default (service.max_request_size_mb).
        max_batch_bytes=16 * 2**20,
        page_count=1_000,
        concurrent_readers=2 if is_server else 1,
        concurrent_writers=2 if is_server else 1,
        is_embedded=not is_server,
    )


_OTHER_TYPES = frozenset(
    (kind, dtype) for kind in (VectorKind.DENSE, VectorKind.MULTI) for dtype in ("float16", "uint8")
)
"""What the engine keeps vectors in beside float32. It truncates a float for uint8 (3.7 is 3, 300 is 255) and normalises
uint8 under no metric (tried on qdrant-edge-py 0.9.0). Local mode takes the setting and keeps float32 all the same
(qdrant-client 1.20), so a folder's vectors are float32 whatever it was told. A sparse vector's datatype is that of
its index alone: the values come back bit for bit."""

_VECTOR_NAME = r'(?!\.{1,2}$)[^<>:"/\\|?*\x00\x1f]*'
MAX_VECTOR_NAME_BYTES = 200
"""Source: qdrant-client 1.20 local/qdrant_local.py, ``_validate_new_vector_name``: the rules of the server, which keeps
vectors in folders of their names. The engine alone takes more, and fails where the file system does."""


def is_sparse(vector: VectorSpec) -> bool:
    """Return whether the vector stands among a collection's sparse ones."""
    return vector.kind is VectorKind.SPARSE


def check_creatable(spec: CollectionSpec, capabilities: Capabilities) -> None:
    """Refuse a collection that this form of Qdrant cannot have.

    Raises:
        SchemaCompatibilityError: Lists all reasons.
    """
    problems = [*_name_problems(spec.name), *_vector_problems(spec.vectors, capabilities)]
    others = sorted(kind for kind in spec.id_kinds if kind not in ID_KINDS)
    if not spec.id_kinds:
        problems.append("no id kind")
    if others:
        problems.append(f"ids of kind {', '.join(others)}; Qdrant holds uint64 and uuid")
    if problems:
        raise SchemaCompatibilityError(
            f"Qdrant cannot have the collection {spec.name!r}: {'; '.join(problems)}.",
            todo="Choose another name or another target, or let the plan map what does not fit.",
            collection=spec.name,
        )


def _name_problems(name: str) -> list[str]:
    if NAME_RULE.allows(name):
        return []
    return [f'the name {name[:60]!r} is empty, longer than {MAX_NAME_BYTES} bytes or has one of < > : " / \\ | ? *']


def _vector_problems(vectors: tuple[VectorSpec, ...], capabilities: Capabilities) -> list[str]:
    problems = []
    names = [vector.name for vector in vectors]
    if not vectors:
        problems.append("no vectors")
    if DEFAULT_VECTOR in names and any(vector.name and not is_sparse(vector) for vector in vectors):
        problems.append("an unnamed vector beside named dense ones")
    if len(set(names)) < len(names):
        problems.append(f"vector names that come twice: {names}")
    for vector in vectors:
        label = f"vector {vector.name!r}"
        if not _is_vector_name(vector.name) or (is_sparse(vector) and not vector.name):
            problems.append(f'{label} has a name that is too long, has one of < > : " / \\ | ? *, or is missing')
        if not capabilities.has_type(vector.kind, vector.dtype):
            problems.append(
                f"{label} is {vector.kind} {vector.dtype}, which Qdrant ({capabilities.form}) does not keep"
            )
        elif vector.metric not in capabilities.metrics_of(vector):
            known = ", ".join(sorted(capabilities.metrics_of(vector)))
            problems.append(f"{label} has metric {vector.metric}; Qdrant has {known}")
        elif not is_sparse(vector) and not 1 <= (vector.dimension or 0) <= MAX_DIMENSION:
            problems.append(f"{label} has dimension {vector.dimension}; Qdrant has 1 to {MAX_DIMENSION}")
        if vector.modifier is not None and not (is_sparse(vector) and vector.modifier in capabilities.sparse_modifiers):
            problems.append(f"{label} has the modifier {vector.modifier}; Qdrant has idf, for sparse vectors")
    return problems


def _is_vector_name(name: str) -> bool:
    is_short = len(name.encode("utf-8", "surrogatepass")) <= MAX_VECTOR_NAME_BYTES
    return is_short and re.fullmatch(_VECTOR_NAME, name, re.DOTALL) is not None


def vectors_from_config(
    vectors: Any, sparse: Mapping[str, Any] | None, *, has_types: bool = True
) -> tuple[VectorSpec, ...]:
    """Return our vectors from a collection's parameters in Qdrant's JSON form.

    Args:
        vectors: One vector's parameters, or parameters by name.
        sparse: Parameters of the sparse vectors by name.
        has_types: Whether a vector is kept in the element type that its parameters say; else in float32.
    """
    if not vectors:
        named: Mapping[str, Any] = {}
    else:
        named = {DEFAULT_VECTOR: vectors} if "size" in vectors and not isinstance(vectors["size"], dict) else vectors
    dense = [_dense_spec(name, params, has_types=has_types) for name, params in sorted(named.items())]
    # Sparse vectors are compared by dot product and nothing else.
    others = [
        VectorSpec(None, Metric.DOT, name, VectorKind.SPARSE, modifier=_modifier(params))
        for name, params in sorted((sparse or {}).items())
    ]
    return (*dense, *others)


def _dense_spec(name: str, params: Mapping[str, Any], *, has_types: bool) -> VectorSpec:
    kind = VectorKind.MULTI if params.get("multivector_config") else VectorKind.DENSE
    dtype = str(params.get("datatype") or FLOAT32).lower() if has_types else FLOAT32
    return VectorSpec(int(params["size"]), METRICS[str(params["distance"])], name, kind, dtype)


def _modifier(params: Mapping[str, Any] | None) -> str | None:
    text = str((params or {}).get("modifier") or "none").lower()
    return None if text == "none" else text


def fields_from_schema(schema: Mapping[str, str]) -> tuple[FieldSpec, ...]:
    """Return the indexed fields; an index forces nothing on the payload, so every field may be null or missing.

    Args:
        schema: Payload index type (keyword, integer, ...) by payload key.
    """
    return tuple(
        FieldSpec(name, FIELD_TYPES.get(kind, kind), is_nullable=True, is_indexed=True)
        for name, kind in sorted(schema.items())
    )


def indexes_for(spec: CollectionSpec) -> dict[str, str]:
    """Return the payload indexes to make for a spec's indexed fields: index type by key.

    A field type that Qdrant cannot index (json) is left out: an index only makes searching faster.
    """
    wanted = {}
    for field in spec.fields:
        kind = INDEX_TYPES.get(field.element_type or "" if field.type == "array" else field.type)
        if field.is_indexed and kind is not None:
            wanted[field.name] = kind
    return wanted
