"""When Chroma's engine in this process writes its index to files, so that a kill of the process destroys nothing.

Belongs here: holding these writes back while records are loaded, and letting them go on. Does not belong here: the
server, whose process is not ours and is not killed with us.

Every ``sync_threshold`` records (1,000 by default) the engine rewrites its index files in place and empties its log. A
SIGKILL in that moment left a collection that cannot be read any more in 17 of 30 trials ("Failed to apply logs to the
hnsw segment writer", or a segmentation fault); with a threshold that was not reached, all records were still in the log
and 0 of 90 trials lost anything (chromadb 1.5.9). So new collections get a higher threshold, others have it
raised before the first write of a process, and it is brought back when the load is finished. The files are then written
when the collection is next opened; ten kills in that moment lost nothing, because the log is emptied only afterwards.
Until then, opening indexes the log anew: 5,000 records of 64 dimensions in 1.8 s.

The engine reads the threshold when it first looks at a collection, a mere count included (1.5.9): a raised one holds
only once the folder was opened anew.
"""

from collections.abc import Callable
from typing import Any

DEFAULT_SYNC_THRESHOLD = 1_000  # chromadb 1.5.9

HELD_SYNC_THRESHOLD = 100_003
"""Records between two writes while a load is under way; a number that nobody else sets, so that the next process knows
a threshold that a killed one left behind."""


class IndexFiles:
    """The collections of one open store whose index files are held back."""

    def __init__(self) -> None:
        """Hold nothing back yet."""
        self._before: dict[str, int] = {}

    def hold_new(self, collection: str, index: dict[str, Any]) -> None:
        """Raise the threshold in the index settings of a collection that is to be made."""
        self._before[collection] = int(index.get("sync_threshold", DEFAULT_SYNC_THRESHOLD))
        index["sync_threshold"] = max(HELD_SYNC_THRESHOLD, self._before[collection])

    def hold(self, collection: str, model: Any, set_threshold: Callable[[int], None]) -> bool:
        """Raise the threshold where it is lower; returns whether that was done, and the folder must be opened anew."""
        found = _threshold(model)
        if found < HELD_SYNC_THRESHOLD:
            set_threshold(HELD_SYNC_THRESHOLD)
        remembered = self._before.get(collection, DEFAULT_SYNC_THRESHOLD)
        self._before[collection] = remembered if found == HELD_SYNC_THRESHOLD else found
        return found < HELD_SYNC_THRESHOLD

    def release(self, collection: str, model: Any, set_threshold: Callable[[int], None]) -> None:
        """Bring the threshold back to what it was; also where a killed process raised it."""
        before = self._before.pop(collection, DEFAULT_SYNC_THRESHOLD)
        if _threshold(model) == HELD_SYNC_THRESHOLD:
            set_threshold(before)

    def forget(self, collection: str) -> None:
        """Hold nothing of a collection that is dropped."""
        self._before.pop(collection, None)


def _threshold(model: Any) -> int:
    index = (model.configuration_json or {}).get("hnsw") or {}
    return int(index.get("sync_threshold") or DEFAULT_SYNC_THRESHOLD)
