"""Embedded stores in place of the servers that the pages name.

Belongs here: which folder stands for which server, and the collections in it. Does not belong here: running the
blocks of a page (``test_programs.py``).

``get_chromadb_service(host=..)`` and the others are replaced where the package looks them up, so that the text of a
page runs as it stands. A server's name, or a relative path, becomes a folder of the real embedded engine.
"""

from pathlib import Path
from typing import Any

import numpy as np

from rag_migration_pipeline import services
from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.services import StoreService
from rag_migration_pipeline.stores.registry import open_target

COUNT = 48
OF_QDRANT = "critical_data"
"""The one collection that a page reads from Qdrant."""

_real = {name: getattr(services, name) for name in ("get_chromadb_service", "get_qdrant_service", "get_milvus_service")}
_FOLDERS = {"get_milvus_service": "lite.db"}
_OPTIONS: dict[str, dict[str, Any]] = {"get_qdrant_service": {"engine": "edge"}}


class StandIns:
    """Folders for the servers of one page."""

    def __init__(self, root: Path, collections: list[str]) -> None:
        """Stand for servers under a folder; sources hold these collections."""
        self._root = root
        self._collections = collections
        self._made: dict[Path, StoreService] = {}

    def install(self, patch: Any) -> None:
        """Replace the three functions, until the patch is undone."""
        for name in _real:
            patch.setattr(
                services, name, lambda host="localhost", port=0, name=name, **named: self._get(name, host, named)
            )

    def _get(self, name: str, host: str, named: dict[str, Any]) -> StoreService:
        folder = self._root / name / str(named.get("path", host)) / _FOLDERS.get(name, "")
        if folder not in self._made:
            folder.parent.mkdir(parents=True, exist_ok=True)
            service: StoreService = _real[name](path=folder, **_OPTIONS.get(name, {}))
            self._made[folder] = service
            is_source = name == "get_chromadb_service" and "path" not in named
            held = self._collections if is_source else [OF_QDRANT] if name == "get_qdrant_service" else []
            for collection in held:
                fill(service, collection)
        return self._made[folder]

    def close(self) -> None:
        """Close all of them."""
        for service in self._made.values():
            service.close()


def fill(service: StoreService, collection: str) -> None:
    """Make a collection with fields that the filters of the pages ask for."""
    rng = np.random.default_rng(5)
    kind = IdKind.STRING if service.address.startswith("chroma") else IdKind.UINT64
    ids: list[Any] = [f"doc-{n}" if kind is IdKind.STRING else n for n in range(COUNT)]
    vectors = rng.normal(size=(COUNT, 4)).astype(np.float32)
    with open_target(service.settings) as store:
        kinds = frozenset({kind}) if kind is IdKind.STRING else frozenset({IdKind.UINT64, IdKind.UUID})
        store.create(CollectionSpec(collection, (VectorSpec(4, Metric.COSINE),), kinds))
        store.upsert(collection, RecordBatch(ids, {"": DenseColumn(vectors)}, [payload(n) for n in range(COUNT)]))


def payload(number: int) -> dict[str, Any]:
    """Return fields whose values depend on the number, so that every filter of the pages takes some records."""
    return {
        "n": number,
        "status": ("published", "active", "archived", "draft")[number % 4],
        "year": 2023 + number // 4 % 3,
        "priority": "high" if number % 8 < 4 else "low",
        "document_type": "report" if number % 2 else "memo",
        "department": ("engineering", "research", "sales")[number % 3],
        "confidential": number % 5 == 0,
        "version": "2.0" if number % 7 else "1.0",
        "verified": number % 3 > 0,
        "active": number % 4 > 0,
        "validated": number % 8 > 0,
        "price": "on request" if number == 7 else f"{number}.5",
    }
