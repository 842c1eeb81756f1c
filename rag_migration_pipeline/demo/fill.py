"""Fill a Chroma, embedded or a server, with the demo's corpus, once.

Belongs here: the collection that the demo's first migration reads. Does not belong here: what the documents are
(``corpus``), their vectors (``embedding``), and reading Chroma as a source (``stores/chroma``): the demo writes with
the vendor's client, so that the pipeline meets a collection which it did not make; only the folder's lock is shared.

A collection carries in its metadata how many records it should hold, a digest of their ids and a digest of their
content. Complete means that the ids in the store give that digest; a kill in between is seen and made good.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rag_migration_pipeline.demo.corpus import DEFAULT_LIMIT, CorpusDocument, corpus_digest, read_corpus
from rag_migration_pipeline.demo.embedding import HashedTfidf
from rag_migration_pipeline.errors import CollectionExistsError, StoreRequestError
from rag_migration_pipeline.stores.folder_lock import FolderLock

DEFAULT_BATCH_SIZE = 500
# chromadb 1.5.9 refuses more records than this in one call (client.get_max_batch_size() on an embedded folder).
MAX_BATCH_SIZE = 5_461
# Records between two writes of the vector index to its files. Chroma 1.5.9 (default 1,000) rewrites them in place: a
# SIGKILL in that moment left a collection that cannot be read any more in 17 of 30 trials ("Failed to apply logs to the
# hnsw segment writer", or a segmentation fault). Never reached, all records stay in SQLite's transactional log, and
# 0 of 90 trials lost anything; opening the folder then indexes 3,000 records in 0.4 s.
SYNC_THRESHOLD = 100_000

Progress = Callable[[int, int], None]


def fill_chroma(
    path: str | Path,
    collection: str,
    batch_size: int = DEFAULT_BATCH_SIZE,
    *,
    limit: int = DEFAULT_LIMIT,
    on_progress: Progress | None = None,
) -> int:
    """Write the corpus into an embedded Chroma folder; a collection that is complete is left alone.

    Args:
        path: Folder of the store; made where it is missing.
        collection: Name of the collection, made with cosine distance.
        batch_size: Records per write.
        limit: At most so many documents.
        on_progress: Called with (records there, records in all) after each write.

    Returns:
        How many records the collection holds.

    Raises:
        CollectionExistsError: The name is taken by a collection that is not this corpus.
        StoreRequestError: The folder cannot be made or opened as a Chroma store.
        StoreLockedError: Another process uses the folder.
    """
    with _open_client(Path(path)) as client:
        return fill_client(client, collection, batch_size, limit=limit, on_progress=on_progress)


def fill_client(
    client: Any,
    collection: str,
    batch_size: int = DEFAULT_BATCH_SIZE,
    *,
    limit: int = DEFAULT_LIMIT,
    on_progress: Progress | None = None,
) -> int:
    """Write the corpus through a client of Chroma; what is there already stays as it is.

    Args:
        client: A ``chromadb`` client.
        collection: Name of the collection, made with cosine distance.
        batch_size: Records per write.
        limit: At most so many documents.
        on_progress: Called with (records there, records in all) after each write.

    Returns:
        How many records the collection holds.

    Raises:
        CollectionExistsError: The name is taken by a collection that is not this corpus.
    """
    stored = _find_collection(client, collection)
    if stored is not None and _is_complete(stored):
        return int(stored.count())
    documents = read_corpus(limit)
    target = _create_collection(client, collection, documents) if stored is None else stored
    _refuse_other_content(target, documents)
    _write_missing(target, documents, max(1, min(batch_size, MAX_BATCH_SIZE)), on_progress or _ignore_progress)
    return int(target.count())


@contextmanager
def _open_client(path: Path) -> Iterator[Any]:
    import chromadb
    from chromadb.config import Settings

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreRequestError(
            f"Cannot make the folder {path} for the demo's Chroma: {error.strerror}.",
            todo="Choose a folder that can be written.",
        ) from error
    lock = FolderLock(path)
    try:
        # Settings of its own: chromadb 1.5.9 writes into the object it is given, and a later client would follow it.
        # By default they would also read (and fail on) a foreign `.env` in the working directory.
        settings = Settings(_env_file=None, anonymized_telemetry=False)
        client: Any = chromadb.PersistentClient(path=str(path.resolve()), settings=settings)
        with closing(client):
            _check_is_embedded(client, path)
            yield client
    finally:
        lock.release()


def _check_is_embedded(client: Any, path: Path) -> None:
    """Refuse a client that would silently talk to a server (chromadb 1.5.9, shared Settings)."""
    engine = type(client._server).__name__
    if engine != "RustBindingsAPI":
        raise StoreRequestError(f"Chroma opened {path} as {engine}, expected its embedded engine RustBindingsAPI.")


def _find_collection(client: Any, name: str) -> Any | None:
    from chromadb.errors import NotFoundError

    try:
        return client.get_collection(name, embedding_function=None)
    except NotFoundError:
        return None


def _create_collection(client: Any, name: str, documents: Sequence[CorpusDocument]) -> Any:
    return client.create_collection(
        name,
        configuration={"hnsw": {"space": "cosine", "sync_threshold": SYNC_THRESHOLD}},
        metadata={
            "records": len(documents),
            "ids_digest": _digest_ids(document.id for document in documents),
            "corpus_digest": corpus_digest(documents),
        },
        # None: Chroma would otherwise download a model when the collection is opened.
        embedding_function=None,
    )


def _is_complete(stored: Any) -> bool:
    expected = (stored.metadata or {}).get("ids_digest")
    return expected is not None and _digest_ids(stored.get(include=[])["ids"]) == expected


def _digest_ids(ids: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(sorted(ids)).encode(), digest_size=16).hexdigest()


def _refuse_other_content(stored: Any, documents: Sequence[CorpusDocument]) -> None:
    """Refuse to mix two corpora: an upsert in Chroma merges metadata, so the old one would shine through."""
    expected, found = corpus_digest(documents), (stored.metadata or {}).get("corpus_digest")
    if found != expected:
        raise CollectionExistsError(
            f"The collection {stored.name!r} is unfinished and not this Python's corpus: expected digest {expected}, "
            f"found {found or 'none'}.",
            todo="Remove the demo's folder and start again, or choose another collection name.",
            expected=expected,
            found=found,
        )


def _write_missing(target: Any, documents: Sequence[CorpusDocument], batch_size: int, on_progress: Progress) -> None:
    """Write what is not there yet, in the corpus' order."""
    there = set(target.get(include=[])["ids"])
    missing = [position for position, document in enumerate(documents) if document.id not in there]
    texts = [f"{document.metadata['qualified_name']}\n{document.text}" for document in documents]
    # Fitted to all texts, also when few are missing: weights depend on the whole corpus.
    embedding = HashedTfidf.fit(texts)
    for start in range(0, len(missing), batch_size):
        positions = missing[start : start + batch_size]
        target.upsert(
            ids=[documents[position].id for position in positions],
            documents=[documents[position].text for position in positions],
            metadatas=[documents[position].metadata for position in positions],
            embeddings=embedding.embed([texts[position] for position in positions]),
        )
        on_progress(len(documents) - len(missing) + start + len(positions), len(documents))


def _ignore_progress(done: int, total: int) -> None:
    """Report nothing."""
