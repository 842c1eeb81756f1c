"""Pre-images: what the target held under ids that others wrote, kept before the migration overwrites it.

Belongs here: taking them, once per id, and reading them. Does not belong here: putting them back
(``steps/rollback.py``).

Only with ``keep_overwritten``. Arrow files in the state folder, one per batch that met such ids: the records as the
target gave them, and in the schema's metadata the ids that it did not have any more. A file is complete before the
batch is written, and an id that is in one is never taken again: what lies in the target from then on is ours.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from rag_migration_pipeline.arrow import from_arrow, reading_errors, to_arrow
from rag_migration_pipeline.errors import ManifestError
from rag_migration_pipeline.options import Conflict
from rag_migration_pipeline.records import RecordBatch, RecordId, id_from_text, id_text
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.state_files import staging_errors, write_atomically
from rag_migration_pipeline.steps.context import MigrationContext

_ABSENT = b"absent"


class PreImages:
    """Takes pre-images for one load; its threads may ask at once, each for ids of its own."""

    def __init__(self, context: MigrationContext) -> None:
        """Look up what is kept already; costs nothing where the migration overwrites nothing of others.

        Raises:
            ManifestError: Records may have been overwritten without pre-images already.
            StagingError: The state cannot be written or read.
        """
        self._context = context
        self._wanted: frozenset[RecordId] = frozenset()
        options = context.migration.options
        if options.conflict is not Conflict.OVERWRITE or not context.manifest.known_count:
            return
        mark = context.state.overwritten_unkept
        if not options.keep_overwritten:
            with staging_errors(mark):
                mark.touch()
            return
        if mark.exists():
            raise ManifestError(
                f"migration {context.migration.name!r} may have overwritten records of others without keeping them: "
                "it was run without keep_overwritten before.",
                todo="Run it without keep_overwritten, or roll it back (see docs/quarantine.md) and start afresh.",
            )
        self._wanted = context.known_ids - kept_ids(context.state)

    def take(self, ids: Sequence[RecordId]) -> None:
        """Keep what the target holds under these ids, before they are written.

        Raises:
            StagingError: The disk is full, or the folder cannot be written.
        """
        wanted = [record_id for record_id in ids if record_id in self._wanted] if self._wanted else []
        if not wanted:
            return
        found = self._context.target.fetch(self._context.migration.target_collection, wanted)
        absent = sorted(id_text(record_id) for record_id in set(wanted) - set(found.ids))
        table = to_arrow(found).replace_schema_metadata({_ABSENT: json.dumps(absent).encode()})

        def write(temporary: Path) -> None:
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_batch(table)

        write_atomically(self._context.state.overwritten / f"{uuid.uuid4().hex}.arrow", write)


def kept_ids(state: StateFolder) -> set[RecordId]:
    """Return the ids of which there is a pre-image, or of which it is known that nothing was there."""
    return {record_id for kept, absent in pre_images(state) for record_id in (*kept.ids, *absent)}


def pre_images(state: StateFolder) -> Iterator[tuple[RecordBatch, list[RecordId]]]:
    """Yield what was kept, file by file: records as the target gave them, and ids that it did not have.

    Raises:
        StagingError: A file is damaged.
    """
    for path in sorted(state.overwritten.glob("*.arrow")):
        with reading_errors(path), pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            absent = json.loads((reader.schema.metadata or {}).get(_ABSENT, b"[]"))
            batch = from_arrow(reader.get_batch(0))
        yield batch, [id_from_text(text) for text in absent]
