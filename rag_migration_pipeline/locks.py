"""Where lock files lie: in the system's temporary folder, keyed by the real path of what they lock.

Belongs here: that path. Does not belong here: what is locked (``stores/folder_lock.py``, ``state.py``). Locking must
not create anything in the folder that is locked: a source is not written to, and a refused plan leaves nothing.
"""

import hashlib
import os
import tempfile
from pathlib import Path


def lock_file_of(path: str | Path) -> Path:
    """Return the lock file for a path; its folder is made where it is missing."""
    owner = os.getuid() if hasattr(os, "getuid") else "all"
    folder = Path(tempfile.gettempdir()) / f"rag_migration_pipeline-{owner}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = hashlib.blake2b(os.path.realpath(path).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return folder / f"{name}.lock"
