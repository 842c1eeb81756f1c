"""What Milvus can hold, in each form.

Belongs here: the store-wide `Capabilities`. Does not belong here: what one collection's fields hold
(``milvus_screening.py``).
"""

from rag_migration_pipeline.records import INT64_MIN, IdKind, Metric, VectorKind
from rag_migration_pipeline.stores import milvus_schema
from rag_migration_pipeline.stores.capabilities import Capabilities, FieldRules, PayloadRules
from rag_migration_pipeline.stores.milvus_types import (
    ELEMENT_TYPES,
    MAX_ARRAY_ITEMS,
    MAX_JSON_BYTES,
    MAX_VARCHAR_BYTES,
    NAME_PATTERN,
    TYPES,
)
from rag_migration_pipeline.vectors import BINARY

MAX_REQUEST_BYTES = 16 * 2**20
"""A server takes 64 MiB per request (``proxy.grpc.serverMaxRecvSize`` of 2.3.5); JSON may grow on its way."""


def capabilities_of(*, is_lite: bool, is_embedded: bool, version: tuple[int, ...] = ()) -> Capabilities:
    """Return what this Milvus can hold.

    Args:
        is_lite: Whether it is Milvus Lite, as a folder or a server.
        is_embedded: Whether it is a folder.
        version: The server's version.
    """
    # Lite uses these names for columns of its own, and loses a dynamic field of the same name (3.2.2, tried).
    is_new = is_lite or version >= (2, 4)  # 2.3.5 refuses a second vector field, and an index on a sparse one
    reserved = {milvus_schema.DYNAMIC_FIELD} | ({"_seq", "_partition"} if is_lite else set())
    return Capabilities(
        store="milvus",
        form="file" if is_embedded else "server",
        id_kinds=frozenset({IdKind.STRING, IdKind.INT64}),
        metrics=frozenset({Metric.COSINE, Metric.DOT, Metric.L2}),
        # Dynamic fields keep JSON as it was sent: all of 64 bits, signed and unsigned.
        payload=PayloadRules(int_min=INT64_MIN, int_max=2**64 - 1, reserved_keys=frozenset(reserved)),
        vector_kinds=frozenset({VectorKind.DENSE, VectorKind.SPARSE} if is_new else {VectorKind.DENSE}),
        other_types=frozenset() if is_lite else frozenset({(VectorKind.DENSE, t) for t in ("float16", BINARY)}),
        has_any_sparse_weights=False,  # Lite 3.2.2 drops weights of 0, and refuses negative ones and empty vectors
        max_sparse_index=2**32 - 2,
        has_named_vectors=is_new,
        hides_zero_vectors=not is_lite,  # 2.3.5 keeps them and leaves them out of every search; Lite scores them 0
        has_partitions=True,
        has_typed_text_fields=True,
        max_text_field_bytes=MAX_VARCHAR_BYTES,
        fields=field_rules(is_lite=is_lite, version=version),
        max_id_length_bytes=MAX_VARCHAR_BYTES,
        max_dimension=milvus_schema.MAX_DIMENSION,
        collection_name_pattern=NAME_PATTERN,
        max_batch_count=5_000,
        max_batch_bytes=MAX_REQUEST_BYTES,
        page_count=1_000,
        concurrent_readers=1 if is_lite else 2,
        concurrent_writers=1 if is_lite else 2,
        is_embedded=is_embedded,
    )


def field_rules(*, is_lite: bool, version: tuple[int, ...]) -> FieldRules:
    """Return what typed fields of this Milvus hold; see `capabilities_of`."""
    return FieldRules(
        types=TYPES,
        element_types=ELEMENT_TYPES,
        # 2.3.5 accepts the flag, drops it, and then refuses the null (tried).
        has_nullable=is_lite or version >= (2, 5),
        has_json_lists=is_lite,
        counts_characters=is_lite,
        max_text_bytes=MAX_VARCHAR_BYTES,
        max_json_bytes=None if is_lite else MAX_JSON_BYTES,
        max_items=MAX_ARRAY_ITEMS,
        name_pattern=NAME_PATTERN,
    )
