"""A quarantine file holds records as they were read, and people can read and repair it with pandas and pyarrow."""

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.errors import StagingError
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.quarantine import (
    ACCOUNT,
    Quarantine,
    SetAsideRecords,
    join_quarantines,
    make_quarantine,
    read_quarantine,
    write_quarantine,
)
from rag_migration_pipeline.records import (
    DenseColumn,
    MultiColumn,
    RecordBatch,
    RecordId,
    Rejection,
    SparseColumn,
)

IDS: list[RecordId] = ["a", "json:x", 7, 2**64 - 1, uuid.UUID(int=5), "\ud800", ""]


def set_aside(batch: RecordBatch, stage: str = "load") -> SetAsideRecords:
    rejections = [Rejection(i, stage, f"why {row} \ud800", "StoreRequestError") for row, i in enumerate(batch.ids)]
    return SetAsideRecords(batch, rejections, [None if row % 2 else i for row, i in enumerate(batch.ids)])


def every_kind() -> RecordBatch:
    """Return a record per id, with vectors of every kind and payloads that are hard to write."""
    count = len(IDS)
    dense = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    dense[1] = [np.nan, np.inf, -np.inf]
    indices = tuple(None if row == 2 else np.array([row, 2**32 - 1], np.uint32) for row in range(count))
    weights = tuple(None if row == 2 else np.array([0.1, row], np.float32) for row in range(count))
    multi = tuple(None if row == 3 else np.full((row + 1, 2), row, np.float32) for row in range(count))
    present = np.arange(count) != 4
    return RecordBatch(
        IDS,
        {
            "": DenseColumn(dense),
            "half": DenseColumn(np.where(present[:, None], dense[:, :2], 0).astype(np.float16), present),
            "bytes": DenseColumn(np.arange(count * 4, dtype=np.uint8).reshape(count, 4)),
            "sparse": SparseColumn(indices, weights),
            "multi": MultiColumn(multi),
        },
        [{"n": 2**70, "f": float("nan"), "s": "\ud800 ü\n'", "deep": [{"a": None}], "": -0.0}, *[{}] * (count - 1)],
        ["text", None, "", "\ud800", "ü", '"', "null"],
    )


def assert_same(left: RecordBatch, right: RecordBatch) -> None:
    assert list(map(repr, left.ids)) == list(map(repr, right.ids))
    assert list(map(encode, left.payloads)) == list(map(encode, right.payloads))
    assert left.documents == right.documents
    assert left.vectors.keys() == right.vectors.keys()
    for name, column in left.vectors.items():
        other: Any = right.vectors[name]
        assert type(other) is type(column)
        if isinstance(column, DenseColumn):
            assert column.values.dtype == other.values.dtype
            there = np.ones(len(left), np.bool_) if column.present is None else column.present
            assert np.array_equal(column.values[there], other.values[there], equal_nan=column.values.dtype.kind == "f")
            assert other.present is None or np.array_equal(there, other.present)
        else:
            assert [None if v is None else v.tolist() for v in column.values] == [
                None if v is None else v.tolist() for v in other.values
            ]


def test_every_kind_of_record_comes_back(tmp_path: Path) -> None:
    batch = every_kind()
    write_quarantine(tmp_path / "q" / "k.arrow", make_quarantine("abc_000001", [set_aside(batch)]))
    found = read_quarantine(tmp_path / "q" / "k.arrow")
    assert_same(found.records, batch)
    assert [repr(r.record_id) for r in found.rejections] == [repr(i) for i in IDS]
    assert {(r.stage, r.error) for r in found.rejections} == {("load", "StoreRequestError")}
    assert found.rejections[0].reason == r"why 0 \ud800"
    assert found.range_keys == ["abc_000001"] * len(IDS)
    assert found.target_ids == [None if row % 2 else i for row, i in enumerate(IDS)]
    assert found.table.schema.names[: len(ACCOUNT)] == list(ACCOUNT)
    assert found.table.column("time").type == pa.timestamp("us", tz="UTC")


def test_pandas_reads_it_and_what_pandas_writes_is_read(tmp_path: Path) -> None:
    batch, path = every_kind(), tmp_path / "k.arrow"
    write_quarantine(path, make_quarantine("abc_000001", [set_aside(batch)]))
    frame = pd.read_feather(path)
    assert frame.loc[0, "source_id"] == "string:a"
    assert frame.loc[0, "document"] == '"text"'
    assert frame.loc[1, "dense:"].tolist()[1] == np.inf
    frame.to_feather(path)
    assert_same(read_quarantine(path).record_rows(0, len(batch), like=batch.slice(0, 0)), batch)


def test_what_is_repaired_in_pandas_is_what_is_read(tmp_path: Path) -> None:
    batch, path = every_kind().take([0, 1]).with_columns(vectors={"": every_kind().take([0, 1]).vectors[""]}), tmp_path
    path = tmp_path / "k.arrow"
    write_quarantine(path, make_quarantine("abc_000001", [set_aside(batch)]))
    frame = pd.read_feather(path)
    frame.at[1, "dense:"] = [0.5, 1.0, 2.0]
    frame.at[0, "payload"] = '{"big": 12345678901234567890123, "nan": NaN, "one": 1.0}'
    frame.at[0, "document"] = None
    frame.at[0, "id"] = "int:12"
    frame.to_feather(path)
    found = read_quarantine(path).records
    assert found.dense().values.dtype == np.float32
    assert found.dense().values[1].tolist() == [0.5, 1.0, 2.0]
    assert repr(found.payloads[0]) == "{'big': 12345678901234567890123, 'nan': nan, 'one': 1.0}"
    assert found.documents == [None, None]
    assert found.ids == [12, "json:x"]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("payload", "{'a': 1}", "row 1, column 'payload'"),
        ("payload", "[1]", "row 1, column 'payload': expected JSON of a dict, got list"),
        ("payload", None, "row 1, column 'payload': expected text"),
        ("document", "plain", "row 1, column 'document'"),
        ("document", "7", "row 1, column 'document': expected JSON of a str, got int"),
        ("id", "7", "row 1, column 'id'.*does not start with"),
        ("id", "int:seven", "row 1, column 'id'"),
        ("dense:", [1.0], "column 'dense:': expected fixed_size_list"),
        ("dense:", ["a", "b", "c"], "column 'dense:'"),
    ],
)
def test_what_is_no_record_any_more_is_named(tmp_path: Path, column: str, value: Any, said: str) -> None:
    batch = every_kind().take([0, 2]).with_columns(vectors={"": DenseColumn(np.ones((2, 3), np.float32))})
    frame = make_quarantine("abc_000001", [set_aside(batch)]).table.to_pandas()
    frame.at[1, column] = value
    table = frame.drop(columns="dense:")
    if column == "dense:":
        values = [[1.0] * 3, value]
        changed = pa.array(values) if all(isinstance(v, float) for v in value) else pa.array([["a"] * 3, value])
        spoiled = pa.Table.from_pandas(table).append_column("dense:", changed)
    else:
        spoiled = pa.Table.from_pandas(table).append_column("dense:", pa.array([[1.0] * 3] * 2))
    with pytest.raises(ValueError, match=said):
        Quarantine(spoiled).record_rows(0, 2, like=batch.slice(0, 0))


def test_a_file_that_lacks_columns_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"id": ["string:a"]}).to_feather(tmp_path / "k.arrow")
    with pytest.raises(StagingError, match="no quarantine file: it has no column 'stage', 'reason'"):
        read_quarantine(tmp_path / "k.arrow")
    whole = make_quarantine("abc_000001", [set_aside(every_kind())]).table
    with pytest.raises(ValueError, match="no column 'dense:half'"):
        Quarantine(whole.drop_columns(["dense:half"])).record_rows(0, 1, like=every_kind().slice(0, 0))


def test_a_file_that_is_missing_is_named_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(StagingError, match=r"there is no quarantine file .*k\.arrow\. Give the full path"):
        read_quarantine(tmp_path / "k.arrow")


def test_without_records_there_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "k.arrow"
    whole = make_quarantine("abc_000001", [set_aside(every_kind())])
    write_quarantine(path, whole)
    write_quarantine(path, whole.take([]))
    assert not path.exists()
    write_quarantine(path, None)


def test_rows_are_joined_kept_and_given_new_reasons() -> None:
    batch = every_kind().take([0, 2])
    parts = [make_quarantine("abc_000001", [set_aside(batch, stage)]) for stage in ("transform", "load")]
    whole = join_quarantines(parts)
    assert [r.stage for r in whole.rejections] == ["transform", "transform", "load", "load"]
    again = whole.with_reasons([3], [Rejection(7, "replay", "still no")])
    assert [(r.record_id, r.stage, r.reason) for r in again.rejections] == [(7, "replay", "still no")]
    assert_same(again.records, batch.take([1]))


@given(st.lists(st.dictionaries(st.text(), st.one_of(st.none(), st.text(), st.integers(), st.floats())), min_size=1))
def test_any_payload_comes_back(payloads: list[dict[str, Any]]) -> None:
    ids: list[RecordId] = [f"i{row}" for row in range(len(payloads))]
    batch = RecordBatch(ids, {"": DenseColumn(np.ones((len(ids), 2), np.float32))}, payloads, None)
    found = make_quarantine("abc_000001", [set_aside(batch)]).records
    assert list(map(encode, found.payloads)) == list(map(encode, payloads))
