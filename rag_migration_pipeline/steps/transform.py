"""Transform: changes records on the way. For now it passes them through; schema mapping comes here.

Belongs here: applying a mapping to batches. Does not belong here: what the target can hold (``envelope.py``).
"""

from collections.abc import Iterable, Iterator

from rag_migration_pipeline.records import RecordBatch


def transform_batches(batches: Iterable[RecordBatch]) -> Iterator[RecordBatch]:
    """Yield the batches as they are."""
    yield from batches
