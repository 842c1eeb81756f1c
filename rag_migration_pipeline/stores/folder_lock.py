"""One user at a time for an embedded store's folder: a lock that names its holder.

Belongs here: the lock. Does not belong here: the engines' own locks, which say only that somebody has the folder.

The lock lives in the system's temporary folder, keyed by the real path, because opening a source must not create
anything in it. Within one process a folder may be locked more than once; it is free after the last release.
"""

import os
import threading
from pathlib import Path

from filelock import FileLock, Timeout

from rag_migration_pipeline.errors import StoreLockedError
from rag_migration_pipeline.locks import holder_named, lock_file_of, note_holder

_held: dict[str, tuple[FileLock, int]] = {}
_guard = threading.Lock()


class FolderLock:
    """Holds an embedded store's folder for this process until `release`."""

    def __init__(self, folder: str | Path) -> None:
        """Take the lock at once.

        Raises:
            StoreLockedError: Another process holds it; the message says which, since when and running what.
        """
        self.folder = os.path.realpath(folder)
        self._is_held = False
        with _guard:
            lock, users = _held.get(self.folder, (None, 0))
            if lock is None:
                lock = self._acquire()
            _held[self.folder] = (lock, users + 1)
        self._is_held = True

    def release(self) -> None:
        """Give the folder back; more than once is fine."""
        with _guard:
            if not self._is_held:
                return
            self._is_held = False
            lock, users = _held[self.folder]
            if users > 1:
                _held[self.folder] = (lock, users - 1)
                return
            del _held[self.folder]
            self._holder_file().unlink(missing_ok=True)
            lock.release()

    def _acquire(self) -> FileLock:
        lock = FileLock(lock_file_of(self.folder), thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            holder = holder_named(self._holder_file())
            raise StoreLockedError(
                f"the folder {self.folder} is in use by {holder}; embedded folders have one user at a time.",
                todo="Wait for it to end or stop it, or run the store as a server.",
                folder=self.folder,
            ) from error
        note_holder(self._holder_file())
        return lock

    def _holder_file(self) -> Path:
        return lock_file_of(self.folder).with_suffix(".json")
