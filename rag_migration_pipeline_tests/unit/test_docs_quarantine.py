"""docs/quarantine.md shows a repair and a replay that work, and the columns that there are."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.quarantine import ACCOUNT
from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space

PAGE = (Path(__file__).parents[2] / "docs" / "quarantine.md").read_text(encoding="utf-8")


def test_the_program_of_the_page_runs_and_its_remarks_are_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    shop = MemorySettings(name="shop")
    with shop.open(create=True) as store:
        store.create(CollectionSpec("products", (VectorSpec(2, Metric.COSINE),), frozenset({IdKind.STRING})))
        payloads = [{"price": "7.5"}, {"price": "on request"}]
        vectors = {"": DenseColumn(np.ones((2, 2), np.float32))}
        store.upsert("products", RecordBatch(["pen", "yacht"], vectors, payloads, ["a pen", "a yacht"]))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "docs_quarantine"}
    try:
        exec(compile(text, "docs/quarantine.md", "exec"), names)
        for remark in re.findall(r"# (\w+\.\w+ == \d+)$", text, re.MULTILINE):
            assert eval(remark, names), remark
        with MemorySettings(name="copy").open() as copy:
            assert copy.fetch("products", ["pen", "yacht"]).payloads == [{"price": 7.5}, {"price": 0.0}]
    finally:
        forget_space("shop")
        forget_space("copy")


def test_the_page_names_every_column_of_the_account() -> None:
    table = PAGE.partition("## The file")[2].partition("## Repair")[0]
    assert {name for name in ACCOUNT if f"`{name}`" not in table} == set()
