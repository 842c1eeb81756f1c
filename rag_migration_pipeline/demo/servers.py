"""The demo between three servers: a real collection travels Chroma -> Qdrant -> Milvus -> Chroma and is compared.

    python -m rag_migration_pipeline.demo.servers chroma://localhost:8000 qdrant://localhost:6333 milvus://localhost:19530

Belongs here: the legs between servers that run already, without Dagster. Does not belong here: the demo in folders,
with Dagster (``__main__``), the corpus (``corpus``), the comparison (``compare``). Run again, it goes on from what is
done. Its neighbour in docker/ is the service ``demo``.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rag_migration_pipeline.demo.compare import compare_clients
from rag_migration_pipeline.demo.corpus import DEFAULT_LIMIT
from rag_migration_pipeline.demo.fill import fill_client
from rag_migration_pipeline.demo.migrations import COLLECTION
from rag_migration_pipeline.errors import MigrationError
from rag_migration_pipeline.locators import parse_locator
from rag_migration_pipeline.migrator import VectorStoreMigrator

HOME = f"{COLLECTION}_home"
"""The collection that comes home, in the same Chroma."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill, migrate three times, compare; return 0 only if every record came home identical."""
    parser = argparse.ArgumentParser(
        prog="python -m rag_migration_pipeline.demo.servers", description=__doc__.splitlines()[0]
    )
    for name in ("chroma", "qdrant", "milvus"):
        parser.add_argument(name, help=f"for example {name}://localhost:port")
    parser.add_argument("--limit", type=int, default=DEFAULT_LIMIT, help="at most so many documents")
    given = parser.parse_args(arguments)
    try:
        return _run(given.chroma, given.qdrant, given.milvus, given.limit)
    except (MigrationError, LookupError, OSError) as error:
        print(f"{type(error).__name__}: {error}")
        return 1


def _run(chroma: str, qdrant: str, milvus: str, limit: int) -> int:
    for url in (chroma, qdrant, milvus):
        with VectorStoreMigrator(url, url).source as service:
            service.list_collections()  # says which of them does not answer
    with open_chroma(chroma) as client:
        count = fill_client(client, COLLECTION, limit=limit)
        print(f"source: {count} documents of the Python standard library in Chroma", flush=True)
        legs = ((chroma, COLLECTION, qdrant, COLLECTION), (qdrant, COLLECTION, milvus, COLLECTION))
        for leg in (*legs, (milvus, COLLECTION, chroma, HOME)):
            if not _run_leg(*leg):
                return 1
        comparison = compare_clients(client, COLLECTION, client, HOME)
    for difference in comparison.differences:
        print(f"  {difference.kind}: {difference.id}: {difference.reason}")
    print(comparison.summary)
    return 0 if comparison.is_identical else 1


def _run_leg(source: str, read: str, target: str, written: str) -> bool:
    """Migrate one collection, print a line, and tell whether all of it is proven."""
    migrator = VectorStoreMigrator(source, target)
    with migrator.source, migrator.target:
        result = migrator.migrate(read, written, resume=True)
    print(
        f"{source} -> {target}: {result.vectors_migrated} records in this run, all proven: "
        f"{'yes' if result.metadata['validated'] else 'NO'}",
        flush=True,
    )
    if not result.success:
        print(f"failed: {result.errors}")
    return result.success


@contextmanager
def open_chroma(url: str) -> Iterator[Any]:
    """Give a client of the vendor's, so that the migrations meet a collection which they did not make."""
    import chromadb
    from chromadb.config import Settings

    locator = parse_locator(f"{url.rstrip('/')}/-", "source")
    # By default settings would also read (and fail on) a foreign `.env` in the working directory.
    settings = Settings(_env_file=None, anonymized_telemetry=False)
    client: Any = chromadb.HttpClient(locator.host or "localhost", locator.port or 8000, settings=settings)
    try:
        yield client
    finally:
        # close() of chromadb 1.5.9 leaves both HTTP sessions open.
        client._server._session.close()
        client._admin_client._server._session.close()
        client.close()


if __name__ == "__main__":
    sys.exit(main())
