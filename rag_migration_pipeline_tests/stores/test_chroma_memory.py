"""What reading a Chroma server leaves in memory."""

import gc
import uuid
from typing import Any

import httpx
import numpy as np
import pytest

from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    RecordBatch,
    VectorSpec,
)
from rag_migration_pipeline.stores.chroma import ChromaSettings


@pytest.mark.server
def test_answers_go_when_they_are_read_without_waiting_for_the_garbage_collector(chroma_server: Any) -> None:
    name = f"memory-{uuid.uuid4().hex[:12]}"
    spec = CollectionSpec(name, (VectorSpec(4, Metric.L2),), frozenset({IdKind.STRING}))
    vectors = {DEFAULT_VECTOR: DenseColumn(np.ones((9, 4), dtype=np.float32))}
    batch = RecordBatch([f"id-{row}" for row in range(9)], vectors, [{} for _ in range(9)], ["text"] * 9)
    with ChromaSettings(host=chroma_server.host, port=chroma_server.port).open() as store:
        store.create(spec)
        store.upsert(name, batch)
        gc.collect()
        gc.disable()
        try:
            pages = [batch.ids[start : start + 3] for start in range(0, 9, 3)]
            assert sum(len(page) for page in store.fetch_pages(name, pages)) == 9
            left = [item for item in gc.get_objects() if isinstance(item, httpx.Response)]
        finally:
            gc.enable()
        assert left == []
        store.drop(name)
