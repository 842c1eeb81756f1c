"""One collection with every kind of vector, and the forms of Qdrant that it travels to.

Two named dense vectors, a sparse one, a multi-vector and a float16 one, under names beyond ASCII, on records that miss
some or all of them.

Belongs here: what is moved. Does not belong here: opening stores (``conftest.py``), what must hold (the tests).
"""

import numpy as np
import pytest

from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, RecordBatch, VectorKind, VectorSpec
from rag_migration_pipeline_tests.contract import vector_samples as made
from rag_migration_pipeline_tests.matrix.places import Place, fresh_name

COUNT = 32
TEXT = VectorSpec(6, Metric.COSINE, "text")
IMAGE = VectorSpec(3, Metric.MANHATTAN, "Bild 漢字 🜚")
HALF = VectorSpec(4, Metric.DOT, "half", dtype="float16")
TOKENS = VectorSpec(5, Metric.COSINE, "tökens", VectorKind.MULTI)
WORDS = VectorSpec(None, Metric.DOT, "wörter", VectorKind.SPARSE, modifier="idf")
VECTORS = (TEXT, IMAGE, HALF, TOKENS, WORDS)
FORMS = ["folder", "edge", *(pytest.param(form, marks=pytest.mark.server) for form in ("grpc", "rest"))]
every_form = pytest.mark.parametrize("form", FORMS)


def records() -> RecordBatch:
    """Return records with ids that Qdrant has and ids that it has not; a zero and an empty vector among the others."""
    spec = CollectionSpec("c", VECTORS, frozenset({IdKind.UINT64, IdKind.UUID, IdKind.STRING}))
    batch = made.records(spec, COUNT, is_partial=True)
    assert {len(set(map(type, batch.ids)))} == {3}
    columns = dict(batch.vectors)
    columns["text"] = made.with_row(columns["text"], 0, np.zeros(6, np.float32))
    columns[WORDS.name] = made.with_row(columns[WORDS.name], 1, (np.array([], np.uint32), np.array([], np.float32)))
    columns[WORDS.name] = made.with_row(columns[WORDS.name], 2, (np.array([9, 4], np.uint32), np.float32([0, 1])))
    columns[TOKENS.name] = made.with_row(
        columns[TOKENS.name], 0, np.float32([[3, 4, 0, 0, 0], [0] * 5, [1, 0, 0, 0, 0]])
    )
    return batch.with_columns(vectors=columns, documents=[f"text {row}" if row % 3 else None for row in range(COUNT)])


GIVEN = records()


def origin(home: Place) -> str:
    """Make and fill a collection in memory; return its name."""
    name = fresh_name()
    home.store.create(CollectionSpec(name, VECTORS, frozenset(IdKind), metadata={"about": "vectors"}))
    home.door.raw_write(name, GIVEN)
    return name
