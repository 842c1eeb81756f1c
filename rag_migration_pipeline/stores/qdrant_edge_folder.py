"""A base folder of qdrant-edge: one shard per collection, opened at its first use and shared within this process.

Belongs here: which folders are shards, opening, making, dropping and closing them. Does not belong here: points and
descriptions (``qdrant_edge.py``).
"""

import json
import shutil
import threading
import uuid
from pathlib import Path
from typing import Any

import orjson

from rag_migration_pipeline.errors import CollectionNotFoundError
from rag_migration_pipeline.stores.shared_handles import SharedHandles

CONFIG_FILE = "edge_config.json"  # written by the engine; what makes a folder a shard
OUR_FILE = "rag_migration_pipeline.json"
_MAKING = ".making-"


class EdgeFolder:
    """The open shards of a base folder."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.address = f"qdrant+edge://{path}"
        self._lock = threading.Lock()
        self._shards: dict[str, Any] = {}
        self._written: set[str] = set()

    def names(self) -> list[str]:
        """Return the names of the shards, sorted."""
        made = [folder for folder in self.path.iterdir() if not folder.name.startswith(_MAKING)]
        return sorted(folder.name for folder in made if (folder / CONFIG_FILE).is_file())

    def has(self, collection: str) -> bool:
        """Return whether there is a shard of that name."""
        # The name comes from the user: it must not lead out of the base folder.
        return collection in self.names()

    def shard(self, collection: str, *, is_written: bool = False) -> Any:
        """Return the shard, loaded at its first use.

        Raises:
            CollectionNotFoundError: There is none of that name.
        """
        import qdrant_edge

        with self._lock:
            if is_written:
                self._written.add(collection)
            if collection not in self._shards:
                if not self.has(collection):
                    raise CollectionNotFoundError(f"there is no collection {collection!r} in {self.address}.")
                self._shards[collection] = qdrant_edge.EdgeShard.load(str(self.path / collection))
            return self._shards[collection]

    def create(self, collection: str, config: Any, ours: dict[str, Any]) -> None:
        """Make a shard aside and move it into place, so that a kill leaves no half-made collection."""
        import qdrant_edge

        making = self.path / f"{_MAKING}{uuid.uuid4().hex}"
        with self._lock:
            try:
                qdrant_edge.EdgeShard.create(str(making), config).close()
                (making / OUR_FILE).write_bytes(orjson.dumps(ours))
                making.rename(self.path / collection)
                self._written.add(collection)
            finally:
                shutil.rmtree(making, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a kill left half-made or half-dropped; nothing like that is in use while the lock is free."""
        with self._lock:
            for left in self.path.glob(_MAKING + "*"):
                shutil.rmtree(left)

    def drop(self, collection: str) -> None:
        """Close a shard and remove its folder; quiet where there is none."""
        with self._lock:
            self._written.discard(collection)
            shard = self._shards.pop(collection, None)
            if shard is not None:
                shard.close()
            if self.has(collection):
                going = self.path / f"{_MAKING}{uuid.uuid4().hex}"
                (self.path / collection).rename(going)
                shutil.rmtree(going)

    def close(self) -> None:
        """Close all shards, and settle those that were written (see the module's charter)."""
        import qdrant_edge

        with self._lock:
            while self._shards:
                shard = self._shards.popitem()[1]
                shard.flush()
                shard.close()
            for name in self._written:
                if self.has(name):
                    qdrant_edge.EdgeShard.load(str(self.path / name)).close()
            self._written.clear()


folders: SharedHandles[EdgeFolder] = SharedHandles(EdgeFolder, EdgeFolder.close)


def holds_shards(path: Path) -> bool:
    """Return whether a folder is a base folder with at least one shard."""
    if not path.is_dir():
        return False
    return any((folder / CONFIG_FILE).is_file() for folder in path.iterdir() if not folder.name.startswith(_MAKING))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one where there is none."""
    if not path.exists():
        return {}
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}
