"""Watching: what changed since the last completed run, by the way that the migration's options choose.

Belongs here: choosing the comparison, and the watermark that is kept from run to run. Does not belong here: comparing
(``steps/changes.py``).

``sync.json`` in the migration's state holds the largest value that the watermark's field had before the records were
read that are proven now.
"""

import json
from typing import Any

from rag_migration_pipeline.options import Detect
from rag_migration_pipeline.payloads import decode, encode
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.state_files import damaged, read_facts, write_content
from rag_migration_pipeline.steps.changes import Changes, detect_by_watermark, detect_changes, newest_value
from rag_migration_pipeline.steps.context import MigrationContext


def find_changes(context: MigrationContext) -> tuple[Changes, Any]:
    """Return what changed in the source, and the watermark to note when that is done (None without one).

    Without a watermark of the last time everything is compared by payload.

    Args:
        context: A migration all ranges of which are proven.

    Raises:
        SourceChangedError: The source's ids do not hold still.
        SpecError: The field of the watermark has values that cannot be ordered.
    """
    context.source.begin_reading()  # what was written while earlier ranges were carried is to be found
    options = context.migration.options
    name, is_by_watermark = options.noted_field, options.detect is Detect.WATERMARK
    if name is None:
        return detect_changes(context, options.detect), None
    last = noted_watermark(context.state, name)
    if not is_by_watermark or last is None:
        newest = newest_value(context, name)  # first: what comes later is found again the next time
        return detect_changes(context, Detect.PAYLOAD if is_by_watermark else options.detect), newest
    return detect_by_watermark(context, name, last)


def note_watermark(context: MigrationContext, value: Any) -> None:
    """Note the watermark of a run that is done.

    Raises:
        StagingError: The disk is full, or the folder cannot be written.
    """
    name = context.migration.options.noted_field
    if name is not None and value is not None:
        text = json.dumps({"field": name, "value": encode(value)})
        write_content(context.state.sync, text.encode())


def noted_watermark(state: StateFolder, name: str) -> Any:
    """Return the watermark of the last run, or None where there is none for that field.

    Raises:
        StateError: The file is damaged.
    """
    path = state.sync
    if not path.exists():
        return None
    todo = "Remove it and run again: without a watermark all records are looked at."
    facts = read_facts(path, todo)
    try:
        return decode(facts["value"]) if facts["field"] == name else None
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}", todo) from error
