"""Files on an object store, through fsspec: where staged records wait that are not to wait on this machine's disk.

Belongs here: the location that a setting names, and the few things that are done with a file there, named as
`pathlib.Path` names them. Does not belong here: which files there are (``orchestration/staging.py``), what errors of
fsspec mean (``remote_errors.py``), files of this machine (``state.py``).

An object is there completely or not at all, so nothing is renamed: a file is written to its place, in parts, and is
there once the last part is acknowledged. Listings are never kept, because other machines write there too.

This is fsspec itself and not ``universal_pathlib``: a file has to be given up without being completed, and every error
to be ours, for which a path of that kind would have to be wrapped all the same.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rag_migration_pipeline.errors import StagingError
from rag_migration_pipeline.locators import mask_url
from rag_migration_pipeline.remote_errors import EXTRAS, STAGING_VARIABLE, remote_errors, translated

BLOCK_BYTES = 8 * 2**20
"""Size of a part that is written, and of what is read ahead: what a file takes of the memory beside one batch. Parts
are at least 5 MiB on S3, multiples of 256 KiB on Google Cloud Storage, and at most 10,000."""


@dataclass(frozen=True)
class RemotePath:
    """A file or a prefix on an object store; connects when it is used, with the options of the environment.

    Attributes:
        protocol: Such as ``s3``.
        path: Bucket and key.
    """

    protocol: str
    path: str

    def __str__(self) -> str:
        """Return the URL."""
        return f"{self.protocol}://{self.path}"

    def __truediv__(self, name: str) -> "RemotePath":
        """Return what lies below."""
        return RemotePath(self.protocol, f"{self.path}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.path.rpartition("/")[2]

    def size(self) -> int | None:
        """Return the size in bytes; None where there is no such file.

        Raises:
            StagingError: The store cannot be asked.
            StagingUnavailableError: It cannot be asked now.
        """
        with remote_errors(str(self)):
            system, path = self._opened()
            try:
                return int(system.info(path)["size"] or 0)
            except FileNotFoundError:
                return None

    def exists(self) -> bool:
        """Return whether the file is there; raises as `size` does."""
        return self.size() is not None

    def children(self) -> list["RemotePath"]:
        """Return what lies directly below, in any order; raises as `size` does."""
        with remote_errors(str(self)):
            system, path = self._opened()
            try:
                found = system.ls(path, detail=False)
            except FileNotFoundError:
                return []
        names = {str(item).rstrip("/").rpartition("/")[2] for item in found if str(item).rstrip("/") != path}
        return [self / name for name in names]

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file; raises as `size` does, and where it is missing."""
        with remote_errors(str(self)):
            system, path = self._opened()
            try:
                system.rm_file(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def remove_tree(self) -> None:
        """Remove all that lies below; quiet where there is nothing; raises as `size` does."""
        with remote_errors(str(self)):
            system, path = self._opened()
            try:
                system.rm(path, recursive=True)
            except FileNotFoundError:
                return

    @contextmanager
    def open(self, mode: Literal["rb", "wb"]) -> Iterator["RemoteFile"]:
        """Open the file; one that is written is there once the block has ended without an error, or not at all.

        Raises:
            StagingError: It is missing, or the store refuses it.
            StagingUnavailableError: The store does not answer, or not now.
        """
        with remote_errors(str(self), writing=mode == "wb"):
            system, path = self._opened()
            raw = system.open(path, mode, block_size=BLOCK_BYTES)
            if mode == "rb" and raw.size <= BLOCK_BYTES:
                raw = io.BytesIO(raw.read())  # one request: Arrow reads the end first, then goes back
            file = RemoteFile(str(self), raw, mode)
        try:
            yield file
        except BaseException:
            file.discard()
            raise
        file.finish()

    def read_bytes(self) -> bytes:
        """Return the content; raises as `open` does."""
        with self.open("rb") as file:
            return file.read()

    def write_bytes(self, content: bytes) -> None:
        """Write the content; raises as `open` does."""
        with self.open("wb") as file:
            file.write(content)

    def _opened(self) -> tuple[Any, str]:
        import fsspec.core

        system, path = fsspec.core.url_to_fs(str(self), use_listings_cache=False)
        return system, path


AnyPath = Path | RemotePath
"""A file or folder of this machine, or of an object store."""


class RemoteFile:
    """An open file whose errors are ours, also where Arrow calls it; after the first error nothing is tried again.

    ``close`` does nothing: Arrow calls it, and closing one of fsspec's files that is half written would complete it.
    """

    closed = False

    def __init__(self, name: str, raw: Any, mode: str) -> None:
        """Take over one of fsspec's files."""
        self._name = name
        self._raw = raw
        self._is_written = mode == "wb"
        self._error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer at the end of the file."""
        return bytes(self._do(self._raw.read, size))

    def write(self, content: Any) -> int:
        """Take in bytes, and send a part where there are enough of them."""
        return int(self._do(self._raw.write, memoryview(content).cast("B")))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place of a file that is read."""
        return int(self._do(self._raw.seek, offset, whence))

    def tell(self) -> int:
        """Return the place."""
        return int(self._raw.tell())

    def readable(self) -> bool:
        """Return whether it is read."""
        return not self._is_written

    def writable(self) -> bool:
        """Return whether it is written."""
        return self._is_written

    def seekable(self) -> bool:
        """Return whether `seek` works."""
        return not self._is_written

    def flush(self) -> None:
        """Send nothing: parts have a size."""

    def close(self) -> None:
        """See the class."""

    def finish(self) -> None:
        """Complete what is written."""
        self._do(self._raw.close)

    def discard(self) -> None:
        """Forget what is written; the parts that were sent already are removed, if that can be done."""
        if not self._is_written:
            self._raw.close()
            return
        try:
            self._raw.discard()
        except Exception:  # noqa: BLE001, S110 - a rule of the bucket removes what is left; the first error counts
            pass
        finally:
            self._raw.closed = True  # or the end of the object would complete the file

    def _do(self, what: Any, *values: Any) -> Any:
        if self._error is not None:
            raise self._error
        try:
            return what(*values)
        except Exception as error:  # noqa: BLE001 - drivers share no base; it goes on as ours
            self._error, cause = translated(error, self._name, writing=self._is_written)
            raise self._error from cause


def location_of(text: str) -> AnyPath:
    """Return the folder or prefix that a setting names: a path, ``file:///path``, ``s3://bucket/prefix`` and its like.

    Raises:
        StagingError: There is no such kind of place, or a secret stands in the URL.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        if not re.match(r"[A-Za-z][\w+.-]+:", text):
            return Path(text).expanduser().absolute()
        rest = ""
    elif scheme == "file" and rest.startswith("/"):
        return Path(rest)
    bucket = rest.partition("/")[0]
    if ":" in bucket or "?" in rest or "#" in rest or "::" in text:
        raise StagingError(
            f"{mask_url(text)} is no place for staged files: a URL with a password or with options.",
            todo=f"Give {STAGING_VARIABLE} without; keys and options come from the environment (docs/deployment.md).",
        )
    if scheme not in EXTRAS or not bucket:
        known = ", ".join(f"{name}://bucket/prefix" for name in EXTRAS)
        raise StagingError(
            f"{mask_url(text)} is no place for staged files: expected a folder, file:///folder, or one of {known}.",
            todo=f"Correct {STAGING_VARIABLE}, or the field staging of the state resource.",
        )
    return RemotePath(scheme, rest.rstrip("/"))
