"""Chroma in a folder: what opening and reading leaves behind, and who shares the engine.

Belongs here: quirks of the embedded form. Does not belong here: what both forms share (``test_chroma.py``).
"""

import os
import sqlite3
import threading
from pathlib import Path

import chromadb
import pytest
from chromadb.config import Settings

from rag_migration_pipeline.errors import StoreRequestError
from rag_migration_pipeline.stores import chroma_connection
from rag_migration_pipeline.stores.chroma import ChromaSettings, ChromaStore
from rag_migration_pipeline_tests.stores.chroma_samples import batch_of, spec_of


@pytest.fixture
def folder(tmp_path: Path) -> ChromaSettings:
    """Settings of a folder that does not exist yet."""
    return ChromaSettings(path=str(tmp_path / "data"))


def tables_of(path: Path) -> list[str]:
    """Return the whole database as SQL, without the table that the engine writes to whenever it is opened."""
    database = sqlite3.connect(path)
    try:
        return [line for line in database.iterdump() if '"acquire_write"' not in line]
    finally:
        database.close()


def test_reading_a_folder_changes_no_table_of_it(folder: ChromaSettings) -> None:
    spec = spec_of()
    with folder.open(create=True) as store:
        store.create(spec)
        store.upsert(spec.name, batch_of([{"a": 1, "l": ["x"]}] * 1_200, ["text"] * 1_200))
    path = Path(folder.path or "") / chroma_connection.DATABASE_FILE
    before = tables_of(path)
    with folder.open(create=False) as store:
        assert sum(len(batch) for batch in store.scan(spec.name)) == store.count(spec.name) == 1_200
    assert tables_of(path) == before


def test_a_folder_of_an_older_chroma_is_not_changed_by_a_source(folder: ChromaSettings) -> None:
    with folder.open(create=True) as store:
        store.create(spec_of())
    path = Path(folder.path or "") / chroma_connection.DATABASE_FILE
    with sqlite3.connect(path) as database:
        database.execute("delete from migrations where dir = 'metadb' and version = 6")
        database.execute("drop table embedding_metadata_array")
    database.close()
    before = tables_of(path)
    with pytest.raises(StoreRequestError, match="cannot be opened"):
        folder.open(create=False)
    assert tables_of(path) == before
    with folder.open(create=True) as store:
        assert len(store.list_collections()) == 1


def test_a_folder_that_could_not_be_opened_can_be_opened_later(folder: ChromaSettings) -> None:
    path = Path(folder.path or "")
    path.mkdir()
    (path / chroma_connection.DATABASE_FILE).write_bytes(b"SQLite format 3\x00" + b"no" * 1000)
    for _ in range(2):
        with pytest.raises(StoreRequestError):
            folder.open(create=False)
    (path / chroma_connection.DATABASE_FILE).unlink()
    with folder.open(create=True) as store:
        assert store.list_collections() == []


def test_the_client_that_the_program_has_open_is_shared(folder: ChromaSettings) -> None:
    client = chromadb.PersistentClient(folder.path or "", settings=Settings(anonymized_telemetry=False))
    held = client.create_collection("theirs", embedding_function=None)
    held.add(ids=["a"], embeddings=[[1.0, 2.0]])
    with folder.open(create=False) as store:
        assert store.count("theirs") == 1
        held.add(ids=["b"], embeddings=[[3.0, 4.0]])
        assert store.fetch("theirs", ["b"]).dense().values.tolist() == [[3.0, 4.0]]
    assert held.count() == 2, "closing our store closed their client"
    client.close()


def test_one_engine_serves_all_who_open_a_folder(folder: ChromaSettings) -> None:
    stores: list[ChromaStore] = []
    threads = [threading.Thread(target=lambda: stores.append(folder.open(create=True))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(store.api) for store in stores}) == 1
    for store in stores:
        store.close()
    assert folder.path is not None
    assert os.path.realpath(folder.path) not in chroma_connection._folders


def test_a_closed_store_says_so(folder: ChromaSettings) -> None:
    store = folder.open(create=True)
    store.close()
    with pytest.raises(StoreRequestError, match="is closed"):
        store.list_collections()
