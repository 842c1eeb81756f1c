"""Readiness: whether searches see all of a collection, as its store says it.

Belongs here: the value that every adapter answers with. Does not belong here: waiting until a collection is ready
(`VectorStore.finish_loading`), what a check makes of it (``orchestration/``).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether a collection can be searched, and whether its index is as far as its store will build it.

    Attributes:
        is_ready: Searches see every acknowledged record, and the store has nothing left to build.
        is_loaded: Searches are answered; only Milvus knows collections that are there and not loaded.
        is_stuck: Waiting does not help: the store gave building up, has no index to build, or does not load.
        total: Records, as the store counts them for its index; a Qdrant server says about how many.
        indexed: How many of them are in an index; in Qdrant vectors, of all names together. None where a store says
            nothing of it.
        detail: The store's own state, in one sentence for people.
    """

    is_ready: bool
    is_loaded: bool = True
    is_stuck: bool = False
    total: int = 0
    indexed: int | None = None
    detail: str = ""
