"""Files of the state: written so that a kill at any moment leaves old or new, never half, and read with clear errors.

Belongs here: atomic writes, what kills leave of them, errors that name the file. Does not belong here: which files
there are (``state.py``), what is in them.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, overload

from rag_migration_pipeline.errors import MigrationError, StagingError
from rag_migration_pipeline.remote_files import AnyPath, RemotePath

_SUFFIX = ".tmp"

ABANDONED_S = 3600.0
"""Nobody writes any more to a temporary file that was last written to so long ago."""


@overload
def write_atomically(path: Path, write: Callable[[Path], None], *, is_synced: bool = True) -> None: ...


@overload
def write_atomically(path: AnyPath, write: Callable[[AnyPath], None], *, is_synced: bool = True) -> None: ...


def write_atomically(path: AnyPath, write: Callable[[Any], None], *, is_synced: bool = True) -> None:
    """Write a file so that it is there completely or not at all, and survives a crash of the machine.

    Args:
        path: The file; its folder is created.
        write: Writes the content to the path that it is given: a temporary file beside ``path``, or ``path`` itself on
            an object store, where an object is there once it is complete.
        is_synced: Whether a crash of the machine is survived; without it such a crash may leave a file with holes.

    Raises:
        StagingError: The disk is full, or the folder cannot be written.
        StagingUnavailableError: The object store does not answer now.
    """
    if isinstance(path, RemotePath):
        write(path)
        return
    with staging_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_SUFFIX, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            if is_synced:
                _sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        if is_synced:
            _sync(path.parent)


def write_content(path: AnyPath, content: bytes) -> None:
    """Write a file with this content; see `write_atomically`."""
    write_atomically(path, lambda to: _fill(to, content))


def _fill(path: AnyPath, content: bytes) -> None:
    path.write_bytes(content)


@contextmanager
def staging_errors(path: AnyPath) -> Iterator[None]:
    """Turn errors of the file system into ours, naming the path.

    Raises:
        StagingError: See above.
    """
    try:
        yield
    except MigrationError:
        raise  # also when it is an OSError: a store that times out while its records are staged is no full disk
    except OSError as error:
        raise StagingError(
            f"cannot write or read {path}: {error.strerror or error}.",
            todo="Free space or let it be written, or choose another state folder (RAG_MIGRATE_STATE_DIR); then run "
            "again: finished ranges are kept.",
            path=str(path),
        ) from error


def read_facts(path: AnyPath, todo: str) -> dict[str, Any]:
    """Return one of the state's small JSON files.

    Args:
        path: The file.
        todo: What to do where it is damaged.

    Raises:
        StagingError: It cannot be read, or is damaged.
    """
    with staging_errors(path):
        content = path.read_bytes()
    try:
        facts = json.loads(content)
    except ValueError as error:
        raise damaged(path, str(error), todo) from error
    if not isinstance(facts, dict):
        raise damaged(path, f"expected an object, got {type(facts).__name__}", todo)
    return facts


def damaged(path: AnyPath, why: str, todo: str) -> StagingError:
    """Return the error for a file of the state that is not what was written."""
    return StagingError(f"{path} is damaged: {why}.", todo=todo, path=str(path))


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed writers left in a folder and below; those of the last hour stay.

    Others may be writing there meanwhile; a file that cannot be removed stays, too.
    """
    for found, _, names in os.walk(folder):
        for path in (Path(found, name) for name in names if name.startswith(".") and name.endswith(_SUFFIX)):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
