"""After a migration was proven, each single change of any kind of vector turns the check of range and whole red.

Belongs here: one change behind our back, per kind of vector. Does not belong here: changes of ids, payloads and
documents (``test_mutations.py``), and the journeys (``test_vectors.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.errors import ValidationError
from rag_migration_pipeline.records import DenseColumn, MultiColumn, RecordBatch, RecordId, SparseColumn, id_text
from rag_migration_pipeline.sightings import Watch
from rag_migration_pipeline.steps.context import MigrationContext, open_migration
from rag_migration_pipeline.steps.extract import extract_batches
from rag_migration_pipeline.steps.load import pack_batch
from rag_migration_pipeline.steps.manifest import read_range_ids
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.steps.task import open_task
from rag_migration_pipeline.steps.validate import prove_range, validate_batches
from rag_migration_pipeline_tests.matrix import mutations
from rag_migration_pipeline_tests.matrix.places import Place, fresh_name, migration_between
from rag_migration_pipeline_tests.matrix.vector_records import GIVEN, HALF, IMAGE, TOKENS, WORDS, every_form, origin


@dataclass
class Proven:
    """A migration that was proven, still open."""

    context: MigrationContext
    place: Place
    collection: str

    def native(self, key: str) -> dict[RecordId, RecordId]:
        """Source id -> id in the target, of the records of a range."""
        found: dict[RecordId, RecordId] = {}
        record_range = read_range_ids(self.context.state, self.context.manifest, key)
        for batch in extract_batches(self.context, record_range):
            found.update(zip(batch.ids, pack_batch(self.context, batch).records.ids, strict=True))
        return found

    def validate(self, key: str) -> None:
        """Check one range again, as a retried validation does."""
        task, watch = open_task(self.context.state, self.context.manifest, key), Watch()
        batches = extract_batches(self.context, task.record_range, watch)
        packed = ((pack_batch(self.context, batch), ()) for batch in batches)
        prove_range(self.context, task, validate_batches(self.context, key, packed, watch), watch)


def change_dense(name: str, change: Callable[[Any], None]) -> Callable[[Any], Any]:
    def changed(column: Any) -> Any:
        assert isinstance(column, DenseColumn)
        values = column.values.copy()
        change(values[0])
        return DenseColumn(values, column.present)

    return lambda record: record.with_columns(vectors={**record.vectors, name: changed(record.vectors[name])})


def change_words(change: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    def changed(column: Any) -> Any:
        assert isinstance(column, SparseColumn)
        indices, values = change(column.indices[0].copy(), column.values[0].copy())
        return SparseColumn((indices,), (values,))

    return lambda record: record.with_columns(
        vectors={**record.vectors, WORDS.name: changed(record.vectors[WORDS.name])}
    )


def change_tokens(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def changed(column: Any) -> Any:
        assert isinstance(column, MultiColumn)
        return MultiColumn((change(column.values[0].copy()),))

    def apply(record: RecordBatch) -> RecordBatch:
        return record.with_columns(vectors={**record.vectors, TOKENS.name: changed(record.vectors[TOKENS.name])})

    return apply


def next_up(values: Any) -> Any:
    values[0] = np.nextafter(values[0], values.dtype.type(9))
    return values


def turned(values: Any) -> Any:
    values[0, :2] = values[0, 1::-1]
    return values


CHANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "one bit of a sparse value": (WORDS.name, change_words(lambda i, v: (i, next_up(v)))),
    "one sparse index": (WORDS.name, change_words(lambda i, v: (i ^ np.uint32(1 << 20), v))),
    "one sparse entry more": (WORDS.name, change_words(lambda i, v: (np.append(i, i.max() ^ 3), np.append(v, v[:1])))),
    "one vector of a multi-vector turned": (TOKENS.name, change_tokens(turned)),
    "one vector of a multi-vector less": (TOKENS.name, change_tokens(lambda values: values[:-1])),
    "two vectors of a multi-vector swapped": (TOKENS.name, change_tokens(lambda values: values[::-1].copy())),
    "one bit of a float16": (HALF.name, change_dense(HALF.name, next_up)),
    "one bit of a named vector": (IMAGE.name, change_dense(IMAGE.name, next_up)),
    "a vector that is gone": (
        IMAGE.name,
        lambda record: record.with_columns(vectors={k: v for k, v in record.vectors.items() if k != IMAGE.name}),
    ),
}


@every_form
def test_one_change_of_any_vector_turns_range_and_whole_red(
    form: str, open_place: Callable[[str], Place], tmp_path: Path
) -> None:
    home, there, into = open_place("memory"), open_place(form), fresh_name()
    chosen = CHANGES if form == "edge" else dict(list(CHANGES.items())[::3])
    with open_migration(migration_between(home, origin(home), there, into), tmp_path, plan=True) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        assert prove_collection(context).is_proven
        proven, key = Proven(context, there, into), context.manifest.ranges[0].key
        names = proven.native(key)
        for label, (name, change) in chosen.items():
            target_id = next(native for i, native in names.items() if _has(name, i))
            mutations.in_place(there, into, target_id, change)
            with pytest.raises(ValidationError) as caught:
                proven.validate(key)
            assert caught.value.report.changed == {id_text(target_id): f"vector {name!r}"}, label
            with pytest.raises(ValidationError) as caught:
                prove_collection(context)
            assert dict(caught.value.report.findings.changed) == {id_text(target_id): f"vector {name!r}"}, label
            migrate_range(context, key)
            assert prove_collection(context).is_proven, label


def _has(name: str, record_id: RecordId) -> bool:
    """Return whether a record has that vector, and two vectors at least of a multi-vector."""
    row, column = list(GIVEN.ids).index(record_id), GIVEN.vectors[name]
    if isinstance(column, DenseColumn):
        return bool(column.present is None or column.present[row])
    item = column.values[row]
    return item is not None and len(item) >= 2
