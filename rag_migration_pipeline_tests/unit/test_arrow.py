"""A range waits between steps as an Arrow file, and comes out of it exactly as it went in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.arrow import (
    binary_array,
    digest_array,
    from_arrow,
    number_array,
    numbers_of,
    read_batches,
    to_arrow,
    write_batches,
)
from rag_migration_pipeline.errors import RateLimitedError, StagingError, StoreTimeoutError, StoreUnavailableError
from rag_migration_pipeline.records import DenseColumn, MultiColumn, RecordBatch, SparseColumn, VectorColumn
from rag_migration_pipeline_tests.contract.samples import (
    AWKWARD_VALUES,
    EDGE_INTEGER_IDS,
    HOSTILE_STRING_IDS,
    NUMERIC_EXTREMES,
)
from rag_migration_pipeline_tests.unit.envelope_samples import contents, ids, texts, values


@given(st.lists(st.none() | st.binary(max_size=20), max_size=40))
def test_a_column_of_bytes_is_the_one_that_arrow_makes(parts: list[bytes | None]) -> None:
    column = binary_array(parts)
    column.validate(full=True)
    assert column.equals(pa.array(parts, pa.large_binary()))


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=40))
def test_a_column_of_digests_is_the_one_that_arrow_makes(digests: list[bytes]) -> None:
    column = digest_array(digests)
    column.validate(full=True)
    assert column.equals(pa.array(digests, pa.binary(16)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "uint32", "int64"])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_column_of_numbers_is_the_one_that_arrow_makes(dtype: str, rows: int) -> None:
    values = np.asfortranarray(np.arange(3 * rows, dtype=dtype).reshape(rows, 3))
    column = number_array(values)
    column.validate(full=True)
    assert column.equals(pa.array(values.reshape(-1)))
    assert numbers_of(column).dtype == values.dtype
    assert numbers_of(column[1:]).tolist() == values.reshape(-1)[1:].tolist()


def assert_same(expected: RecordBatch, got: RecordBatch) -> None:
    assert contents(got) == contents(expected)
    assert set(got.vectors) == set(expected.vectors)
    for name, column in expected.vectors.items():
        assert_same_column(column, got.vectors[name])


def assert_same_column(expected: VectorColumn, got: VectorColumn) -> None:
    assert type(got) is type(expected)
    if isinstance(expected, DenseColumn) and isinstance(got, DenseColumn):
        assert got.values.dtype == expected.values.dtype
        assert got.values.shape == expected.values.shape
        assert got.values.tobytes() == expected.values.tobytes()
        masks = [np.ones(len(c.values), bool) if c.present is None else c.present for c in (expected, got)]
        assert masks[0].tolist() == masks[1].tolist()
        return
    pairs = [zip(expected.values, got.values, strict=True)]
    if isinstance(expected, SparseColumn) and isinstance(got, SparseColumn):
        pairs.append(zip(expected.indices, got.indices, strict=True))
    for left, right in [pair for part in pairs for pair in part]:
        assert (left is None) is (right is None)
        if left is not None and right is not None:
            assert (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())


def f4(*numbers: float) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return np.array(numbers, np.float32)


COLUMNS: dict[str, VectorColumn] = {
    "": DenseColumn(np.arange(12, dtype=np.float32).reshape(4, 3)),
    "partial": DenseColumn(np.arange(8, dtype=np.float32).reshape(4, 2), np.array([True, False, True, False])),
    "half": DenseColumn(np.arange(8, dtype=np.float16).reshape(4, 2)),
    "bytes": DenseColumn(np.arange(8, dtype=np.uint8).reshape(4, 2)),
    "a:b": SparseColumn(
        (np.array([1, 2**32 - 1], np.uint32), None, np.array([], np.uint32), np.array([0], np.uint32)),
        (f4(1, 0.5), None, f4(), f4(-0.0)),
    ),
    "x:indices": SparseColumn((None, None, np.array([7], np.uint32), None), (None, None, f4(1e-40), None)),
    "multi:m": MultiColumn((np.array([[1, 2], [3, 4]], np.float32), None, np.array([[5, 6]], np.float32), None)),
}
BATCH = RecordBatch(["a", 7, "7", -7], COLUMNS, [{"a": 1}, {}, {"n": None}, {"b": [1.0, 1]}], ["", None, "x", "\ud800"])


def test_every_kind_of_vector_comes_out_as_it_went_in() -> None:
    assert_same(BATCH, from_arrow(to_arrow(BATCH)))


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (0, 1), (1, 3), (3, 4), (2, 2)])
def test_slices_come_out_as_they_went_in(start: int, stop: int) -> None:
    part = BATCH.slice(start, stop)
    assert_same(part, from_arrow(to_arrow(part)))
    assert_same(part, from_arrow(to_arrow(BATCH).slice(start, stop - start)))
    assert_same(BATCH.take(range(start, stop)), from_arrow(to_arrow(BATCH.take(range(start, stop)))))


def test_awkward_ids_values_and_floats_survive_the_file(tmp_path: Path) -> None:
    hostile = [*HOSTILE_STRING_IDS, *EDGE_INTEGER_IDS]
    payloads = [{"k": AWKWARD_VALUES[row % len(AWKWARD_VALUES)]} for row in range(len(hostile))]
    column = DenseColumn(np.zeros((len(hostile), 2), np.float32))
    for row, (_, value) in enumerate(NUMERIC_EXTREMES):
        column.values[row] = value
    batch = RecordBatch(hostile, {"": column}, payloads, None)
    assert write_batches(tmp_path / "a" / "b.arrow", [batch]) == len(hostile)
    (found,) = read_batches(tmp_path / "a" / "b.arrow")
    assert_same(batch, found)


@given(data=st.data())
def test_any_batch_survives(data: st.DataObject) -> None:
    found = data.draw(st.lists(ids, max_size=4))
    size = len(found)
    numbers = np.array(data.draw(st.lists(st.floats(width=32), min_size=3 * size, max_size=3 * size)), np.float32)
    batch = RecordBatch(
        found,
        {"": DenseColumn(numbers.reshape(size, 3))},
        data.draw(st.lists(st.dictionaries(texts, values, max_size=3), min_size=size, max_size=size)),
        data.draw(st.none() | st.lists(st.none() | texts, min_size=size, max_size=size)),
    )
    assert_same(batch, from_arrow(to_arrow(batch)))


def plain(start: int, documents: list[str | None] | None = None, size: int = 3) -> RecordBatch:
    vectors = np.arange(start, start + 2 * size, dtype=np.float32).reshape(size, 2)
    return RecordBatch([*range(start, start + size)], {"": DenseColumn(vectors)}, [{"n": 1}] * size, documents)


def test_documents_that_begin_in_a_later_batch_are_not_lost(tmp_path: Path) -> None:
    batches = [plain(0), plain(10, ["a", None, ""]), plain(20), plain(30, [None, None, "z"])]
    assert write_batches(tmp_path / "x.arrow", iter(batches)) == 12
    for expected, got in zip(batches, read_batches(tmp_path / "x.arrow"), strict=True):
        assert_same(expected, got)


def test_presence_that_begins_in_a_later_batch_is_not_lost(tmp_path: Path) -> None:
    gap = DenseColumn(np.zeros((3, 2), np.float32), np.array([True, False, True]))
    batches = [plain(0), plain(10).with_columns(vectors={"": gap}), plain(20)]
    write_batches(tmp_path / "x.arrow", batches)
    for expected, got in zip(batches, read_batches(tmp_path / "x.arrow"), strict=True):
        assert_same(expected, got)


def test_dense_vectors_are_read_as_views_of_the_file(tmp_path: Path) -> None:
    write_batches(tmp_path / "x.arrow", [plain(0), plain(10)])
    found = list(read_batches(tmp_path / "x.arrow"))
    assert all(not batch.dense().values.flags.owndata for batch in found)
    (tmp_path / "x.arrow").unlink()
    assert found[1].dense().values[0].tolist() == [10, 11], "the memory lives as long as its readers"


def test_no_batches_make_a_file_without_records(tmp_path: Path) -> None:
    assert write_batches(tmp_path / "x.arrow", []) == 0
    assert list(read_batches(tmp_path / "x.arrow")) == []


@pytest.mark.parametrize("content", [b"not arrow", b"ARROW1\x00\x00 and then nothing of it", None])
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.arrow"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StagingError, match="x\\.arrow") as caught:
        list(read_batches(path))
    assert caught.value.todo


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    write_batches(path, [plain(0, size=100), plain(200, size=100)])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StagingError, match="damaged"):
        list(read_batches(path))


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), StoreTimeoutError("late"), RateLimitedError("slow")])
def test_a_store_that_fails_while_its_records_are_staged_keeps_its_own_error(tmp_path: Path, error: Exception) -> None:
    """These are also ConnectionError and TimeoutError, hence OSError: taken for a full disk, nobody would try again."""

    def failing() -> Iterator[RecordBatch]:
        yield plain(0)
        raise error

    with pytest.raises(type(error)) as caught:
        write_batches(tmp_path / "x.arrow", failing())
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_plain_arrow_that_others_can_read(tmp_path: Path) -> None:
    write_batches(tmp_path / "x.arrow", [BATCH])
    with pa.ipc.open_file(str(tmp_path / "x.arrow")) as reader:
        table = reader.read_all()
    assert table.column_names[:4] == ["id", "document", "payload", "dense:"]
    assert table["id"].to_pylist()[:2] == [b"string:a", b"int:7"]
