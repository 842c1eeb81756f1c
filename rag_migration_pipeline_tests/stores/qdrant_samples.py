"""Small collections and records for the tests of Qdrant's quirks, and settings for a double that wants a key.

Belongs here: what several test files of Qdrant need. Does not belong here: the samples of the contract suite.
"""

from typing import Any

import numpy as np
from pydantic import SecretStr

from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    RecordBatch,
    RecordId,
    VectorSpec,
)
from rag_migration_pipeline.stores.qdrant_settings import GrpcPreference, QdrantSettings
from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

KINDS = frozenset({IdKind.UINT64, IdKind.UUID})
TRANSPORTS: tuple[GrpcPreference, ...] = ("true", "false")


def make_spec(name: str, *vectors: VectorSpec, **changes: Any) -> CollectionSpec:
    """Return the spec of a collection; without vectors it has one of four dimensions."""
    return CollectionSpec(name, vectors or (VectorSpec(4, Metric.DOT),), KINDS, **changes)


def make_batch(ids: list[RecordId], dimension: int = 4, payloads: list[dict[str, Any]] | None = None) -> RecordBatch:
    """Return records with these ids; without payloads each has its row as ``n``."""
    values = np.random.default_rng(len(ids)).standard_normal((len(ids), dimension)).astype(np.float32)
    return RecordBatch(ids, {DEFAULT_VECTOR: DenseColumn(values)}, payloads or [{"n": n} for n in range(len(ids))])


def settings_of(server: QdrantDouble, preference: GrpcPreference = "true", **changes: Any) -> QdrantSettings:
    """Return settings with the right key; the transport is said as ``prefer_grpc``."""
    return QdrantSettings(
        host=server.host,
        port=server.http_port,
        grpc_port=server.grpc_port,
        prefer_grpc=preference,
        api_key=SecretStr("right-key"),
        **changes,
    )
