"""The folder of an embedded store that is to be a target: made where there is none.

Belongs here: making it, and saying why that is impossible. Does not belong here: what an engine keeps in it.
"""

from pathlib import Path

from rag_migration_pipeline.errors import StoreRequestError


def make_folder(path: str | Path) -> None:
    """Make a folder, and those above it; one that is there is fine.

    Raises:
        StoreRequestError: Something else is there, or it must not be written.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "there is something else" if isinstance(error, FileExistsError) else error.strerror or str(error)
        raise StoreRequestError(
            f"the folder {path} cannot be made: {reason}.",
            todo="Choose a path that is a folder or free, where this user may write.",
            folder=str(path),
        ) from error
