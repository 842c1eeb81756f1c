"""Copies vector collections between ChromaDB, Qdrant and Milvus, and proves that nothing was lost.

    from rag_migration_pipeline import VectorStoreMigrator, get_chromadb_service, get_qdrant_service

    migrator = VectorStoreMigrator(get_chromadb_service(), get_qdrant_service())
    result = migrator.migrate("docs")

What is named here is imported when it is first used, so that the package itself costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Migration": "orchestration.component",  # for Dagster: `type: rag_migration_pipeline.Migration`
    "migration_definitions": "orchestration.factory",
    "VectorStoreMigrator": "migrator",
    "get_chromadb_service": "services",
    "get_qdrant_service": "services",
    "get_milvus_service": "services",
    "StoreService": "services",
    "MigrationResult": "models",
    "MigrationEstimate": "models",
    "MigrationProgress": "progress",
    "MigrationPlan": "steps.plan_view",
    "Verification": "steps.verification",
    "MigrationError": "errors",
    "CollectionNotFoundError": "errors",
    "ValidationError": "errors",
    "SchemaCompatibilityError": "errors",
    "MigrationInterruptedError": "errors",
    "MigrationLockedError": "errors",
    "ConflictError": "errors",
    "RecordRejectedError": "errors",
    "SpecError": "errors",
    "TryAgainError": "errors",
    "StopError": "errors",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - strings, as they should be


def __getattr__(name: str) -> Any:
    """Import what is asked for from its home."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    """Name what there is, imported or not."""
    return sorted({*globals(), *_HOMES})
