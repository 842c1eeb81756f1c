"""One open engine per folder and process, shared by all stores that have the folder open.

Belongs here: the counting of users. Does not belong here: what is opened (the adapters), the lock against other
processes (`folder_lock`), which is taken and given back here so that it outlives the engine.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from rag_migration_pipeline.stores.folder_lock import FolderLock

HandleT = TypeVar("HandleT")


class SharedHandles(Generic[HandleT]):
    """Handles by real path, opened by the first user and closed by the last."""

    def __init__(self, open_handle: Callable[[str], HandleT], close_handle: Callable[[HandleT], None]) -> None:
        """Keep how a folder's engine is opened and closed."""
        self._open = open_handle
        self._close = close_handle
        self._guard = threading.Lock()
        self._handles: dict[str, tuple[HandleT, FolderLock, int]] = {}

    def acquire(self, folder: str | Path) -> HandleT:
        """Return the folder's handle; every call needs one `release`.

        Raises:
            StoreLockedError: Another process uses the folder.
        """
        path = os.path.realpath(folder)
        with self._guard:
            if path in self._handles:
                handle, lock, users = self._handles[path]
            else:
                lock, users = FolderLock(path), 0
                try:
                    handle = self._open(path)
                except BaseException:
                    lock.release()
                    raise
            self._handles[path] = (handle, lock, users + 1)
            return handle

    def release(self, folder: str | Path) -> None:
        """Give the handle back; the last user closes it."""
        path = os.path.realpath(folder)
        with self._guard:
            handle, lock, users = self._handles.pop(path)
            if users > 1:
                self._handles[path] = (handle, lock, users - 1)
                return
            try:
                self._close(handle)
            finally:
                lock.release()
