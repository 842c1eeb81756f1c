"""Locks of this host: where their files lie, who holds them, and the lock that several may share.

Belongs here: lock files and their holders' notes. Does not belong here: what is locked (``stores/folder_lock.py``,
``state.py``). Lock files lie in the system's temporary folder, keyed by the real path of what they lock: locking must
not create anything in the folder that is locked, because a source is not written to, and a refused plan leaves nothing.
The kernel frees a lock when its process ends, however it ends.
"""

import fcntl
import hashlib
import json
import os
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rag_migration_pipeline.errors import MigrationLockedError


def lock_file_of(path: str | Path) -> Path:
    """Return the lock file for a path; its folder is made where it is missing."""
    owner = os.getuid() if hasattr(os, "getuid") else "all"
    folder = Path(tempfile.gettempdir()) / f"rag_migration_pipeline-{owner}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = hashlib.blake2b(os.path.realpath(path).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return folder / f"{name}.lock"


def note_holder(note: Path) -> None:
    """Write down that this process holds a lock, for the messages of others."""
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "program": Path(sys.argv[0]).name or "python",
    }
    note.write_text(json.dumps(holder))


def holder_named(note: Path) -> str:
    """Return who wrote a note; "another process" where it cannot be read."""
    try:
        holder = json.loads(note.read_text())
        return f"process {holder['pid']} on {holder['host']} ({holder['program']}) since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


@contextmanager
def in_use(path: Path, what: str, *, alone: bool) -> Iterator[None]:
    """Work on something: beside others who do, or alone, which is refused while anybody does.

    Args:
        path: What is worked on; it need not exist.
        what: How messages name it.
        alone: Whether nobody else may work on it meanwhile, not even another thread of this process.

    Raises:
        MigrationLockedError: Somebody works on it alone, or ``alone`` is asked for and somebody works on it; says who.
    """
    file = lock_file_of(path).with_suffix(".use")
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holders = sorted({holder_named(note) for note in _living_notes(file)}) or ["another process"]
            raise MigrationLockedError(
                f"{what} is in use by {'; '.join(holders)}.",
                todo="Wait for it to end, or stop it; then try again.",
                holders=holders,
            ) from error
        note = file.with_suffix(f".{os.getpid()}-{uuid.uuid4().hex[:8]}.json")
        try:
            note_holder(note)
            yield
        finally:
            note.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _living_notes(file: Path) -> Iterator[Path]:
    """Yield the notes of living processes; those that killed ones left are removed."""
    import psutil

    for note in file.parent.glob(f"{file.stem}.*.json"):
        pid = note.name.split(".")[1].partition("-")[0]
        if pid.isdigit() and psutil.pid_exists(int(pid)):
            yield note
        else:
            note.unlink(missing_ok=True)
