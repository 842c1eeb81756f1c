"""Batches stay whole whatever is done to them, and ids keep their kind."""

import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.batching import concatenate, cut
from rag_migration_pipeline.records import (
    INT64_MAX,
    INT64_MIN,
    UINT64_MAX,
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    MultiColumn,
    RecordBatch,
    RecordId,
    SparseColumn,
    VectorKind,
    VectorSpec,
    id_from_text,
    id_kind,
    id_text,
)
from rag_migration_pipeline.stores.memory import CAPABILITIES
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.comparison import assert_same_records

SPEC = CollectionSpec(
    "all_layouts",
    (
        VectorSpec(4, Metric.L2),
        VectorSpec(4, Metric.L2, "partial"),
        VectorSpec(None, Metric.DOT, "words", VectorKind.SPARSE),
        VectorSpec(2, Metric.L2, "tokens", VectorKind.MULTI),
    ),
    frozenset(IdKind),
)

IDS = st.one_of(st.text(), st.integers(INT64_MIN, UINT64_MAX), st.uuids())


def batch(count: int) -> RecordBatch:
    """Return records with every layout of vectors."""
    rows = range(count)
    return RecordBatch(
        ids=samples.sample_ids(count, SPEC.id_kinds),
        vectors={
            "": DenseColumn(samples.vectors(count, 4)),
            "partial": DenseColumn(samples.vectors(count, 4), np.array([row % 2 == 0 for row in rows], dtype=bool)),
            "words": SparseColumn(
                tuple(np.arange(row % 3, dtype=np.uint32) if row % 4 else None for row in rows),
                tuple(np.ones(row % 3, dtype=np.float32) if row % 4 else None for row in rows),
            ),
            "tokens": MultiColumn(tuple(samples.vectors(row % 3 + 1, 2) if row % 5 else None for row in rows)),
        },
        payloads=[samples.ordinary_payload(row) for row in rows],
        documents=[samples.ordinary_document(row) for row in rows],
    )


@pytest.mark.parametrize(
    ("record_id", "kind"),
    [
        ("", IdKind.STRING),
        ("7", IdKind.STRING),
        (str(uuid.UUID(int=7)), IdKind.STRING),
        (7, IdKind.INT64),
        (-1, IdKind.INT64),
        (INT64_MIN, IdKind.INT64),
        (INT64_MAX, IdKind.INT64),
        (INT64_MAX + 1, IdKind.UINT64),
        (UINT64_MAX, IdKind.UINT64),
        (uuid.UUID(int=7), IdKind.UUID),
    ],
)
def test_the_kind_of_an_id_is_its_type(record_id: RecordId, kind: IdKind) -> None:
    assert id_kind(record_id) is kind


@pytest.mark.parametrize("alien", [None, True, 1.0, b"a", (1,), UINT64_MAX + 1, INT64_MIN - 1, np.int64(1), [1]])
def test_what_no_store_holds_is_no_id(alien: object) -> None:
    with pytest.raises(TypeError, match="64-bit integer or UUID"):
        id_kind(alien)  # type: ignore[arg-type]


@given(IDS)
def test_an_id_survives_its_text(record_id: RecordId) -> None:
    again = id_from_text(id_text(record_id))
    assert (type(again), again) == (type(record_id), record_id)


@given(IDS, IDS)
def test_different_ids_have_different_texts(first: RecordId, second: RecordId) -> None:
    is_same = (type(first), first) == (type(second), second)
    assert (id_text(first) == id_text(second)) == is_same


def test_a_text_without_a_kind_is_no_id() -> None:
    for text in ("7", "", "float:1.0", "STRING:a"):
        with pytest.raises(ValueError, match="string:"):
            id_from_text(text)


@pytest.mark.parametrize("column", ["payloads", "documents", "vectors"])
def test_a_torn_batch_is_refused(column: str) -> None:
    whole = batch(4)
    torn = {
        "payloads": whole.payloads[:3],
        "documents": [*(whole.documents or []), "one more"],
        "vectors": {**whole.vectors, "partial": DenseColumn(samples.vectors(3, 4))},
    }
    with pytest.raises(ValueError, match="of other lengths"):
        whole.with_columns(**{column: torn[column]})


@pytest.mark.parametrize("step", [1, 3, 7, 100])
def test_parts_put_together_are_the_whole(step: int) -> None:
    whole = batch(11)
    parts = [whole.slice(start, start + step) for start in range(0, 11, step)]
    assert_same_records(whole, concatenate(parts), SPEC, CAPABILITIES)
    assert concatenate(parts).ids == whole.ids


def test_taken_rows_are_whole_records_in_the_order_asked() -> None:
    whole = batch(11)
    rows = [10, 0, 5]
    taken = whole.take(rows)
    assert taken.ids == [whole.ids[row] for row in rows]
    assert_same_records(concatenate([whole.slice(row, row + 1) for row in rows]), taken, SPEC, CAPABILITIES)
    assert len(whole.take([])) == 0


def test_a_slice_shares_its_dense_vectors() -> None:
    whole = batch(6)
    assert np.shares_memory(whole.slice(1, 3).dense().values, whole.dense().values)


def test_batches_of_different_columns_are_not_put_together() -> None:
    whole = batch(2)
    with pytest.raises(ValueError, match="different vectors"):
        concatenate([whole, whole.with_columns(vectors={})])
    with pytest.raises(ValueError, match="nothing"):
        concatenate([])


def test_documents_of_some_parts_are_missing_in_the_others() -> None:
    whole = batch(4)
    joined = concatenate([whole.slice(0, 2).with_columns(documents=None), whole.slice(2, 4)])
    assert joined.documents == [None, None, *(whole.documents or [])[2:]]


@given(st.lists(st.integers(0, 3_000), max_size=30), st.integers(1, 40), st.integers(1, 5_000))
def test_cut_parts_keep_both_limits_and_lose_nothing(sizes: list[int], max_count: int, max_bytes: int) -> None:
    records = RecordBatch(
        list(range(len(sizes))),
        {"": DenseColumn(samples.vectors(len(sizes), 4))},
        [{"t": "x" * size} for size in sizes],
    )
    parts = list(cut(records, max_count, max_bytes))
    assert [record_id for part in parts for record_id in part.ids] == list(range(len(sizes)))
    for part in parts:
        assert 1 <= len(part) <= max_count
        assert len(part) == 1 or part.size_bytes() <= max_bytes


def test_a_missing_vector_is_named() -> None:
    with pytest.raises(KeyError, match="no dense vector 'words'"):
        batch(1).dense("words")
    with pytest.raises(KeyError, match="not 'none'"):
        SPEC.vector("none")
    assert SPEC.vector("tokens").dimension == 2
