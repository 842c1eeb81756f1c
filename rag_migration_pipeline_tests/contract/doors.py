"""Back doors: how the laws write and read round an adapter, with the vendor's client alone.

Belongs here: the protocol. Does not belong here: the doors themselves (``doors_<store>.py``), which share no code with
the adapters, so that two bugs that cancel out are still seen.
"""

from typing import Protocol

from rag_migration_pipeline.records import CollectionSpec, RecordBatch


class Door(Protocol):
    """The vendor's client in its plainest documented use."""

    def raw_create(self, spec: CollectionSpec) -> None:
        """Create a collection."""

    def raw_collections(self) -> list[str]:
        """Return the names of all collections, in any order."""

    def raw_write(self, collection: str, batch: RecordBatch) -> None:
        """Write records whose ids are new."""

    def raw_read(self, collection: str) -> RecordBatch:
        """Return all records, in any order, as any reader sees them now."""

    def close(self) -> None:
        """Release what the door itself opened."""
