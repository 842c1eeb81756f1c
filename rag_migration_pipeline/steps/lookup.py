"""Lookup: which record of the source a record of the target is, and the other way round.

Belongs here: reading the pairs of ids that the receipts keep. Does not belong here: how ids are made (``ids.py``,
``steps/new_ids.py``).

Source ids are those of before the first migration that gave a record another one: where the source's own ids are
derived (a Qdrant collection that an earlier migration wrote), the original is meant.
"""

from collections.abc import Collection, Iterator

from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.steps.manifest import Manifest, proven_keys


def id_pairs(state: StateFolder, manifest: Manifest) -> Iterator[tuple[RecordId, RecordId]]:
    """Yield source id and target id of every record in the ranges that are proven."""
    for key in proven_keys(state, manifest):
        receipt = read_receipt(state.receipt(key))
        yield from zip(receipt.source_ids, receipt.ids, strict=True)


def source_ids_of(state: StateFolder, manifest: Manifest, target_ids: Collection[RecordId]) -> dict[RecordId, RecordId]:
    """Return target id -> source id; ids that the migration did not write are left out."""
    wanted = frozenset(target_ids)
    return {target: source for source, target in id_pairs(state, manifest) if target in wanted}


def target_ids_of(state: StateFolder, manifest: Manifest, source_ids: Collection[RecordId]) -> dict[RecordId, RecordId]:
    """Return source id -> target id; ids that the migration did not write are left out."""
    wanted = frozenset(source_ids)
    return {source: target for source, target in id_pairs(state, manifest) if source in wanted}
