"""What a load keeps of a batch comes back from its file as it was written."""

import uuid
from pathlib import Path

import numpy as np
import pytest

from rag_migration_pipeline.errors import StagingError
from rag_migration_pipeline.receipts import make_receipt
from rag_migration_pipeline.records import DenseColumn, MultiColumn, RecordBatch, RecordId, VectorColumn
from rag_migration_pipeline.written import WrittenBatch, read_written, write_written
from rag_migration_pipeline_tests.unit.test_receipts import assert_same

IDS: list[RecordId] = ["a", "", 7, "7", uuid.UUID(int=7), "ü\ud800"]
VALUES = np.random.default_rng(6).normal(size=(6, 4)).astype(np.float32)
PRESENT = np.array([True, False, True, True, False, True])
COLUMNS: dict[str, VectorColumn] = {
    "": DenseColumn(VALUES),
    "partial": DenseColumn(np.where(PRESENT[:, None], VALUES, 0), PRESENT),
    "many": MultiColumn((VALUES[:2], None, VALUES[2:3], VALUES[3:], None, VALUES[:1])),
}


def written(inexact: set[str], skipped: list[RecordId]) -> WrittenBatch:
    batch = RecordBatch(IDS, COLUMNS, [{"n": row} for row in range(6)], None)
    receipt = make_receipt(batch, IDS[::-1], inexact=inexact)
    receipt.counts.update(written=6, skipped=len(skipped), rejected=0)
    return WrittenBatch(receipt, {name: COLUMNS[name] for name in inexact}, skipped)


@pytest.mark.parametrize("inexact", [set(), {""}, set(COLUMNS)], ids=len)
@pytest.mark.parametrize("skipped", [[], ["s", 9, uuid.UUID(int=9), "\ud800"]], ids=len)
def test_a_batch_survives_its_file(tmp_path: Path, inexact: set[str], skipped: list[RecordId]) -> None:
    batch, path = written(inexact, skipped), tmp_path / "written" / "run-000001.arrow"
    write_written(path, batch)
    found = read_written(path)
    assert_same(found.receipt, batch.receipt)
    assert found.skipped_source_ids == skipped
    assert found.vectors.keys() == inexact
    for name, column in found.vectors.items():
        assert repr(column) == repr(COLUMNS[name])
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_batch_of_nothing_survives_its_file(tmp_path: Path) -> None:
    whole = written({""}, [1, 2])
    nothing = RecordBatch([], {name: column.take(np.arange(0)) for name, column in COLUMNS.items()}, [], None)
    empty = WrittenBatch(make_receipt(nothing, [], inexact={""}), {"": nothing.vectors[""]}, whole.skipped_source_ids)
    write_written(tmp_path / "x.arrow", empty)
    found = read_written(tmp_path / "x.arrow")
    assert (len(found.receipt), found.skipped_source_ids) == (0, [1, 2])


@pytest.mark.parametrize("start", range(0, 6_000, 250))
def test_a_file_with_a_hole_is_named(tmp_path: Path, start: int) -> None:
    """What a crash of the machine leaves of a file that was not synced."""
    path = tmp_path / "x.arrow"
    write_written(path, written({""}, ["s"]))
    data = bytearray(path.read_bytes())
    part = slice(start % len(data), start % len(data) + 64)
    data[part] = bytes(len(data[part]))
    is_whole = bytes(data) == path.read_bytes()
    path.write_bytes(data)
    if is_whole:  # zeros were there before
        assert len(read_written(path).receipt) == 6
    else:
        with pytest.raises(StagingError, match=r"x\.arrow is damaged"):
            read_written(path)


@pytest.mark.parametrize("size", [0, 10, 16, 500])
def test_a_file_that_ends_early_is_named(tmp_path: Path, size: int) -> None:
    write_written(tmp_path / "x.arrow", written(set(), []))
    (tmp_path / "x.arrow").write_bytes((tmp_path / "x.arrow").read_bytes()[:size])
    with pytest.raises(StagingError, match=r"x\.arrow is damaged"):
        read_written(tmp_path / "x.arrow")
