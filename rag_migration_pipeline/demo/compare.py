"""Compare two Chroma collections record by record, without a line of the pipeline.

Belongs here: reading the collection that left and the one that came home with Chroma's own client, and saying in which
records they differ. Does not belong here: anything imported from this project, its errors included. This module needs
chromadb, numpy and the standard library, so it can also be run by itself:
``python -m rag_migration_pipeline.demo.compare FOLDER COLLECTION FOLDER COLLECTION``.

Ids are compared as sets first, then documents, metadata and vectors of each. Nothing compared is never a success: a
collection without records, or one that cannot be read, is not "identical".
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RELATIVE_TOLERANCE = 1e-6
MAX_NAMED = 10
# Pages of 1,000 read fastest (measured on chromadb 1.5.9).
PAGE_SIZE = 1_000

# Document, metadata, embedding; each None where the record has none.
Record = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One record that is not the same, or the collection itself where ``id`` is None."""

    id: str | None
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found.

    Attributes:
        total: Records that left.
        identical: Records that came home the same.
        missing: Records that left and did not come home.
        extra: Records that came home and had not left.
        changed: Records on both sides that differ.
        differences: The first ten of each kind by id, and what differs; kinds: collection, missing, extra, changed.
    """

    total: int
    identical: int
    missing: int
    extra: int
    changed: int
    differences: tuple[Difference, ...] = ()

    @property
    def is_identical(self) -> bool:
        """Whether there were records, all are the same, none is missing or extra, and the metric is the same."""
        return self.total > 0 and self.identical == self.total and not self.extra and not self.differences

    @property
    def summary(self) -> str:
        """The one line that the demo ends with."""
        return f"round trip: {self.identical} of {self.total} records identical"


def compare_collections(
    left_path: str | Path, left_collection: str, home_path: str | Path, home_collection: str
) -> Comparison:
    """Compare the collection that left with the one that came home, in one Chroma folder or two.

    Raises:
        FileNotFoundError: A folder is not a Chroma store; it is not created.
        LookupError: A folder has no collection of that name.
    """
    with ExitStack() as stack:
        left = _find_collection(stack.enter_context(_open_folder(left_path)), left_path, left_collection)
        home = _find_collection(stack.enter_context(_open_folder(home_path)), home_path, home_collection)
        return _compare(left, home)


def compare_clients(left_client: Any, left_collection: str, home_client: Any, home_collection: str) -> Comparison:
    """Compare two collections through ``chromadb`` clients, which may be one and the same.

    Raises:
        LookupError: There is no collection of that name.
    """
    left = _find_collection(left_client, "the source", left_collection)
    return _compare(left, _find_collection(home_client, "the target", home_collection))


@contextmanager
def _open_folder(path: str | Path) -> Iterator[Any]:
    import chromadb
    from chromadb.config import Settings

    folder = Path(path).resolve()
    # A client creates what it does not find, so the store's file must be there before.
    if not (folder / "chroma.sqlite3").is_file():
        raise FileNotFoundError(f"{folder} is not a Chroma folder: it holds no chroma.sqlite3.")
    # chromadb 1.5.9 writes into the Settings it is given: one object per client. By default they would also read (and
    # fail on) a foreign `.env` in the working directory.
    settings = Settings(_env_file=None, anonymized_telemetry=False)
    client: Any = chromadb.PersistentClient(path=str(folder), settings=settings)
    try:
        engine = type(client._server).__name__
        if engine != "RustBindingsAPI":
            raise LookupError(f"Chroma opened {folder} as {engine}, expected its embedded engine RustBindingsAPI.")
        yield client
    finally:
        client.close()


def _find_collection(client: Any, path: str | Path, name: str) -> Any:
    from chromadb.errors import NotFoundError

    try:
        return client.get_collection(name, embedding_function=None)
    except NotFoundError as error:
        names = sorted(collection.name for collection in client.list_collections())
        raise LookupError(f"No collection {name!r} in {path}; it holds {names}.") from error


def _compare(left: Any, home: Any) -> Comparison:
    left_ids, home_ids = _list_ids(left), _list_ids(home)
    shared = sorted(left_ids & home_ids)
    changed = list(_find_changed(left, home, shared))
    missing, extra = sorted(left_ids - home_ids), sorted(home_ids - left_ids)
    return Comparison(
        total=len(left_ids),
        identical=len(shared) - len(changed),
        missing=len(missing),
        extra=len(extra),
        changed=len(changed),
        differences=(
            *_compare_metrics(left, home),
            *(Difference(name, "missing", "left and did not come home") for name in missing[:MAX_NAMED]),
            *(Difference(name, "extra", "came home and had not left") for name in extra[:MAX_NAMED]),
            *changed[:MAX_NAMED],
        ),
    )


def _list_ids(collection: Any) -> set[str]:
    """Return all ids; the list must be as long as the count and name each id once, or nothing can be said."""
    ids = collection.get(include=[])["ids"]
    unique, count = set(ids), collection.count()
    if not len(ids) == len(unique) == count:
        raise LookupError(f"{collection.name!r} counts {count} records, lists {len(ids)}, of {len(unique)} ids.")
    return unique


def _find_changed(left: Any, home: Any, ids: Sequence[str]) -> Iterator[Difference]:
    for start in range(0, len(ids), PAGE_SIZE):
        page = list(ids[start : start + PAGE_SIZE])
        left_records, home_records = _read_records(left, page), _read_records(home, page)
        for record_id in page:
            reasons = _compare_records(left_records[record_id], home_records[record_id])
            if reasons:
                yield Difference(record_id, "changed", "; ".join(reasons))


def _read_records(collection: Any, ids: list[str]) -> dict[str, Record]:
    """Read records by id; Chroma answers in its own order and leaves out what it does not find."""
    answer = collection.get(ids=ids, include=["documents", "metadatas", "embeddings"])
    columns = (answer["ids"], answer["documents"], answer["metadatas"], answer["embeddings"])
    if [len(column) for column in columns] != [len(ids)] * 4:
        raise LookupError(f"{collection.name!r} answered with {len(columns[0])} of {len(ids)} records it listed.")
    return {record_id: tuple(values) for record_id, *values in zip(*columns, strict=True)}


def _compare_records(left: Record, home: Record) -> list[str]:
    """Return what differs between two records, in words; empty where nothing does."""
    reasons = []
    if not _is_same(left[0], home[0]):
        reasons.append(f"document: {_shorten(left[0])} became {_shorten(home[0])}")
    reasons += _compare_metadata(left[1], home[1])
    return reasons + _compare_vectors(left[2], home[2])


def _compare_metadata(left: dict[str, Any] | None, home: dict[str, Any] | None) -> list[str]:
    """Compare key by key; Chroma reads a record without metadata as None, which is not the same as an empty dict."""
    if left is None or home is None:
        return [] if left is home else [f"metadata: {_shorten(left)} became {_shorten(home)}"]
    reasons = [f"metadata {key!r}: missing, was {_shorten(left[key])}" for key in sorted(left.keys() - home.keys())]
    reasons += [f"metadata {key!r}: new, {_shorten(home[key])}" for key in sorted(home.keys() - left.keys())]
    return reasons + [
        f"metadata {key!r}: {_shorten(left[key])} became {_shorten(home[key])}"
        for key in sorted(left.keys() & home.keys())
        if not _is_same(left[key], home[key])
    ]


def _is_same(left: Any, home: Any) -> bool:
    """Say whether two values are the same in type and value: True is not 1, 1 is not 1.0, None is not ''."""
    if type(left) is not type(home):
        return False
    if isinstance(left, float):
        # Spelled out: tells 0.0 from -0.0, and NaN is the same as NaN.
        return bool(left.hex() == home.hex())
    if isinstance(left, list):
        return len(left) == len(home) and all(_is_same(*pair) for pair in zip(left, home, strict=True))
    if isinstance(left, dict):
        return set(left) == set(home) and all(_is_same(left[key], home[key]) for key in left)
    return bool(left == home)


def _compare_vectors(left: Any, home: Any) -> list[str]:
    """Compare by ||left - home|| / ||left||, so that a lost length counts like a lost direction."""
    if left is None or home is None:
        return [] if left is home else ["vector: there on one side only"]
    one, other = np.asarray(left, dtype=np.float64), np.asarray(home, dtype=np.float64)
    if one.shape != other.shape:
        return [f"vector: dimension {one.shape} became {other.shape}"]
    length, distance = float(np.linalg.norm(one)), float(np.linalg.norm(one - other))
    error = distance / length if length else (0.0 if distance == 0 else math.inf)
    # Asked this way round, so that NaN is a difference.
    if error <= RELATIVE_TOLERANCE:
        return []
    return [f"vector: relative error {error:.3g} is above {RELATIVE_TOLERANCE:g}"]


def _compare_metrics(left: Any, home: Any) -> list[Difference]:
    one, other = _read_metric(left), _read_metric(home)
    return [] if one == other else [Difference(None, "collection", f"metric: {one} became {other}")]


def _read_metric(collection: Any) -> str:
    """Return the distance that Chroma computes; where configuration and metadata conflict, this shows who won.

    Raises:
        LookupError: The configuration names none; two metrics that cannot be read are not the same metric.
    """
    configuration = collection.configuration_json
    index = configuration.get("hnsw") or configuration.get("spann") or {}
    if not index.get("space"):
        raise LookupError(f"Cannot read the metric of {collection.name!r} from its configuration.")
    return str(index["space"])


def _shorten(value: Any) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare from the command line; exit code 0 only if everything is identical."""
    parser = argparse.ArgumentParser(description="Compare two Chroma collections record by record.")
    for name in ("left_path", "left_collection", "home_path", "home_collection"):
        parser.add_argument(name)
    given = parser.parse_args(arguments)
    try:
        found = compare_collections(given.left_path, given.left_collection, given.home_path, given.home_collection)
    except (FileNotFoundError, LookupError) as error:
        print(error, file=sys.stderr)
        return 2
    for difference in found.differences:
        print(f"{difference.kind} {difference.id or ''}: {difference.reason}")
    print(found.summary)
    return 0 if found.is_identical else 1


if __name__ == "__main__":
    sys.exit(main())
