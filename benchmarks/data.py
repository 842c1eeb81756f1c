"""The records: made up, the same on every machine, shaped like a RAG collection.

Belongs here: ids, vectors, documents and metadata by position. Does not belong here: how a store takes them.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_SEED = 20_261_123
_BLOCK_COUNT = 1_000
"""Records are made in blocks of this many, each from a seed of its own: record 70,000 needs none before it."""

_TEXT = (
    "the of and a to in is for that with as on by are be this from or an at which it not can have has was will its "
    "vector index query search document record collection store range batch filter schema field value type number text "
    "string list payload metadata distance cosine nearest neighbour recall latency memory disk segment shard replica "
    "request answer server client process thread write read page token chunk section paragraph table figure example "
    "function module package class method argument return error exception default optional required deprecated version "
    "naïve café Übersicht façade 検索 вектор"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True)
class Page:
    """Records in columns, as the straight-line scripts hand them on.

    Attributes:
        vectors: One sequence of floats per record, or an array of shape (n_records, dimension).
        payloads: Eight keys: three strings, an integer, a float, a bool, a list of strings, a year.
    """

    ids: list[str]
    vectors: Any
    documents: list[str]
    payloads: list[dict[str, Any]]


def pages(count: int, dimension: int) -> Iterator[Page]:
    """Yield the first ``count`` records of the collection with that dimension."""
    for start in range(0, count, _BLOCK_COUNT):
        block = _block(start // _BLOCK_COUNT, dimension)
        left = min(_BLOCK_COUNT, count - start)
        yield Page(block.ids[:left], block.vectors[:left], block.documents[:left], block.payloads[:left])


def short_pages(count: int, dimension: int, page_count: int = 10_000) -> Iterator[Page]:
    """Yield records without text and with one number of metadata, for collections of which the ids alone matter."""
    for start in range(0, count, page_count):
        positions = range(start, min(count, start + page_count))
        random = np.random.default_rng([_SEED, start])
        vectors = random.normal(0.0, 0.6, (len(positions), dimension)).astype(np.float32)
        ids = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"benchmark {position}")) for position in positions]
        yield Page(ids, vectors, [""] * len(positions), [{"chunk": position % 40} for position in positions])


def _block(number: int, dimension: int) -> Page:
    random = np.random.default_rng([_SEED, number])
    positions = range(number * _BLOCK_COUNT, (number + 1) * _BLOCK_COUNT)
    # Not of length 1, as those of most models that are not normalised.
    vectors: npt.NDArray[np.float32] = random.normal(0.0, 0.6, (_BLOCK_COUNT, dimension)).astype(np.float32)
    lengths = random.integers(300, 1_500, _BLOCK_COUNT)
    return Page(
        # UUIDs as text: a key that all three stores take.
        ids=[str(uuid.uuid5(uuid.NAMESPACE_OID, f"benchmark {position}")) for position in positions],
        vectors=vectors,
        documents=[_document(random, int(length)) for length in lengths],
        payloads=[_payload(random, position) for position in positions],
    )


def _document(random: np.random.Generator, length: int) -> str:
    words = random.integers(0, len(_WORDS), length // 4)
    return " ".join(_WORDS[word] for word in words)[:length]


def _payload(random: np.random.Generator, position: int) -> dict[str, Any]:
    tags = random.integers(0, len(_WORDS), 1 + position % 4)
    return {
        "source": f"https://docs.example.org/guide/{position // 40}/page-{position % 40}.html",
        "section": _WORDS[position % len(_WORDS)],
        "language": ("en", "de", "ja", "ru")[position % 4],
        "chunk": position % 40,
        "year": 2010 + position % 17,
        "score": float(random.random()),
        "is_public": position % 3 != 0,
        "tags": [_WORDS[tag] for tag in tags],
    }
