"""A receipt comes back from its file as it was written."""

import uuid
from pathlib import Path

import numpy as np
import pytest

from rag_migration_pipeline.errors import StagingError
from rag_migration_pipeline.receipts import Receipt, join_receipts, make_receipt, read_receipt, write_receipt
from rag_migration_pipeline.records import DenseColumn, Metric, RecordBatch, RecordId, VectorKind, VectorSpec


def batch_of(ids: list[RecordId], *, is_partial: bool = False) -> RecordBatch:
    values = np.random.default_rng(len(ids)).normal(size=(len(ids), 5)).astype(np.float32)
    present = np.arange(len(ids)) % 2 == 0 if is_partial else None
    if present is not None:
        values[~present] = 0
    columns = {"": DenseColumn(values, present), "title": DenseColumn(values[:, :2].copy())}
    return RecordBatch(ids, columns, [{"n": n} for n in range(len(ids))], [None, "", *["x"] * len(ids)][: len(ids)])


def inexact_if(is_inexact: bool) -> frozenset[str]:
    return frozenset({"", "title"}) if is_inexact else frozenset()


def assert_same(left: Receipt, right: Receipt) -> None:
    assert [(type(i), i) for i in left.ids] == [(type(i), i) for i in right.ids]
    assert [(type(i), i) for i in left.source_ids] == [(type(i), i) for i in right.source_ids]
    assert list(left.contents) == list(right.contents)
    assert {name: list(d) for name, d in left.vectors.items()} == {name: list(d) for name, d in right.vectors.items()}
    assert left.sketches.keys() == right.sketches.keys()
    for name, sketches in left.sketches.items():
        assert np.array_equal(sketches, right.sketches[name], equal_nan=True)
    assert left.counts == right.counts


@pytest.mark.parametrize("is_exact", [True, False])
@pytest.mark.parametrize("is_partial", [True, False])
def test_a_receipt_survives_its_file(tmp_path: Path, is_exact: bool, is_partial: bool) -> None:
    ids: list[RecordId] = ["a", "", 7, "7", -7, 2**64 - 1, uuid.UUID(int=7), "ü\ud800"]
    source_ids: list[RecordId] = ["a", 0, 7, 7, "-7", "big", str(uuid.UUID(int=7)), ""]
    receipt = make_receipt(batch_of(ids, is_partial=is_partial), source_ids, inexact=inexact_if(not is_exact))
    receipt.counts.update(written=8, skipped=0, rejected=2)
    assert set(receipt.vectors if is_exact else receipt.sketches) == {"", "title"}
    write_receipt(tmp_path / "receipts" / "k.arrow", receipt)
    assert_same(read_receipt(tmp_path / "receipts" / "k.arrow"), receipt)


@pytest.mark.parametrize("is_exact", [True, False])
def test_receipts_of_batches_join_to_that_of_the_range(is_exact: bool) -> None:
    whole = batch_of([*range(10)])
    parts = []
    for start, stop in ((0, 4), (4, 4), (4, 10)):
        part = make_receipt(whole.slice(start, stop), [*range(start, stop)], inexact=inexact_if(not is_exact))
        part.counts["written"] = stop - start
        parts.append(part)
    joined = join_receipts(iter(parts))
    expected = make_receipt(whole, [*range(10)], inexact=inexact_if(not is_exact))
    expected.counts["written"] = 10
    assert_same(joined, expected)


@pytest.mark.parametrize("is_exact", [True, False])
def test_a_range_without_records_has_a_receipt_too(tmp_path: Path, is_exact: bool) -> None:
    empty = make_receipt(batch_of([]), [], inexact=inexact_if(not is_exact))
    for receipt in (empty, join_receipts([]), join_receipts([empty, empty])):
        write_receipt(tmp_path / "k.arrow", receipt)
        found = read_receipt(tmp_path / "k.arrow")
        assert len(found) == 0
        assert found.counts == receipt.counts


def test_a_missing_or_damaged_receipt_is_named(tmp_path: Path) -> None:
    path = tmp_path / "k.arrow"
    with pytest.raises(StagingError, match="k\\.arrow"):
        read_receipt(path)
    write_receipt(path, make_receipt(batch_of([1, 2]), [1, 2]))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StagingError, match="k\\.arrow is damaged"):
        read_receipt(path)


@pytest.mark.parametrize("is_exact", [True, False])
def test_zero_vectors_are_counted_from_the_receipt_and_absent_ones_are_not(is_exact: bool) -> None:
    batch = batch_of([*range(8)], is_partial=True)
    batch.dense().values[4] = 0.0
    batch.dense().values[6] = -0.0
    receipt = make_receipt(batch, batch.ids, inexact=inexact_if(not is_exact))
    assert receipt.count_zeros(VectorSpec(5, Metric.COSINE)) == 2
    assert receipt.count_zeros(VectorSpec(2, Metric.COSINE, "title")) == 4, "zero in those that lack the other"
    assert receipt.count_zeros(VectorSpec(None, Metric.DOT, "words", VectorKind.SPARSE)) == 0
