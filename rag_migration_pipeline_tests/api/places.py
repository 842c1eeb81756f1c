"""Embedded stores of every form, and what lies in a folder."""

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from rag_migration_pipeline import StoreService, get_chromadb_service, get_milvus_service, get_qdrant_service
from rag_migration_pipeline.stores.registry import open_target

_MAKERS: dict[str, Callable[[Path], StoreService]] = {
    "chroma": lambda folder: get_chromadb_service(path=folder),
    "edge": lambda folder: get_qdrant_service(path=folder, engine="edge"),
    "local": lambda folder: get_qdrant_service(path=folder),
    "milvus": lambda folder: get_milvus_service(path=folder / "lite.db"),
}
FORMS = tuple(_MAKERS)
ENGINES = ("chroma", "edge", "milvus")
"""The forms that have an engine of their own."""


def store_of(form: str, folder: Path) -> StoreService:
    """Return an embedded store; its folder does not exist before it is written to."""
    return _MAKERS[form](folder)


def digests(folder: Path) -> dict[str, str]:
    """Return every file and folder under a folder, each file with a digest of its bytes.

    Chroma's engine (1.5.9) has no read-only mode: it notes in its database that it opened a folder, and writes its
    index files anew when it reads. There the rows of all other tables are digested, and index files are only named.
    """
    return {str(path.relative_to(folder)): _digest(path) for path in sorted(folder.rglob("*"))}


def _digest(path: Path) -> str:
    if path.is_dir():
        return "folder"
    if (path.parents[1] / DATABASE).exists():
        return "index file"
    if path.name == DATABASE:
        with closing(sqlite3.connect(path)) as books:
            names = [name for (name,) in books.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {name: books.execute(f'SELECT * FROM "{name}"').fetchall() for name in names if name != BOOKS}
        return hashlib.sha256(repr(sorted(rows.items())).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


DATABASE, BOOKS = "chroma.sqlite3", "acquire_write"


def change(service: StoreService, collection: str, row: int = 0, **payload: Any) -> None:
    """Change fields of one record, as somebody else would."""
    service.close()
    with open_target(service.settings) as store:
        found = next(iter(store.scan(collection))).take([row])
        store.upsert(collection, found.with_columns(payloads=[{**found.payloads[0], **payload}]))
