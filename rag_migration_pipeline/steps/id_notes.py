"""Notes of ids: small JSON files that one run leaves to the next.

Belongs here: writing and reading them. Does not belong here: what follows from them (``steps/leaving_out.py``,
``steps/vanished.py``).
"""

import json
from collections.abc import Iterable
from pathlib import Path

from rag_migration_pipeline.records import RecordId, id_from_text
from rag_migration_pipeline.state_files import damaged, staging_errors, write_content


def write_note(path: Path, texts: Iterable[str]) -> None:
    """Note ids, as texts of `records.id_text`.

    Raises:
        StagingError: The disk is full, or the folder cannot be written.
    """
    write_content(path, json.dumps(list(texts)).encode())


def read_note(path: Path, if_damaged: str) -> list[RecordId]:
    """Return the ids of a note.

    Args:
        path: The file.
        if_damaged: What to do where it is damaged.

    Raises:
        StagingError: It cannot be read, or is damaged.
    """
    with staging_errors(path):
        content = path.read_bytes()
    try:
        return [id_from_text(text) for text in json.loads(content)]
    except (ValueError, TypeError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}", if_damaged) from error
