"""Seven poison records of different kinds hidden in 20,000: the others arrive, the seven are named, and repaired.

The source is memory, which holds anything. Some of the seven are seen before they are sent; two are let through to the
real store, which refuses the whole request for their sake, so that they have to be found.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rag_migration_pipeline.errors import RecordRejectedError
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.quarantine import read_quarantine
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    RecordBatch,
    RecordId,
    VectorSpec,
)
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.context import MigrationContext, open_migration
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.replay import replay
from rag_migration_pipeline.steps.report import Report, prove_collection
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore, WriteResult
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline.stores.milvus import MilvusSettings
from rag_migration_pipeline.stores.screening import screen
from rag_migration_pipeline.stores.wrappers import WrapperStore

Source = tuple[StoreSettings, dict[RecordId, str]]
"""The source store, and part of the reason that each poison record is to have."""

_NONE: Mapping[RecordId, str] = MappingProxyType({})
COUNT = 20_000
DIMENSION = 4
TOO_LONG = "ü" * 40_000
"""80,000 bytes; Milvus' text fields hold 65,535. A server counts bytes, and Lite characters."""
_numbers = itertools.count(1)


class ShortSighted(WrapperStore):
    """A target whose adapter does not know yet that its store refuses these records: they are sent unscreened."""

    def __init__(self, inner: VectorStore, unscreened: frozenset[RecordId]) -> None:
        super().__init__(inner)
        self.unscreened = unscreened
        self.requests = 0

    def upsert(self, collection: str, batch: RecordBatch) -> WriteResult:
        """Screen all but a few, and send these with the others."""
        self.requests += 1
        rest = batch.take(row for row, record_id in enumerate(batch.ids) if record_id not in self.unscreened)
        _, rejections = screen(rest, self.spec(collection), self.capabilities, self.inner.screen_payload)
        refused = {rejection.record_id for rejection in rejections}
        accepted = batch.take(row for row, record_id in enumerate(batch.ids) if record_id not in refused)
        if len(accepted):
            self.inner.write(collection, accepted)
        return WriteResult(len(accepted), tuple(rejections))


def source_records() -> RecordBatch:
    numbers = np.arange(COUNT)
    values = np.stack([numbers + 1, numbers % 7, np.ones(COUNT), numbers % 11], axis=1).astype(np.float32)
    return RecordBatch(
        ids=[f"r{number:05d}" for number in numbers],
        vectors={"": DenseColumn(values)},
        payloads=[{"number": int(number)} for number in numbers],
        documents=[f"text {number}" for number in numbers],
    )


def poisoned(batch: RecordBatch) -> tuple[RecordBatch, dict[RecordId, str]]:
    """Return the records with seven of them spoiled, and part of the reason that each is to have."""
    values, documents = batch.dense().values.copy(), list(batch.documents or [])
    ids, payloads = list(batch.ids), list(batch.payloads)
    values[17, 2], values[6_000] = np.nan, -np.inf
    documents[999], documents[1_000], documents[19_999] = TOO_LONG, "x" * 65_536, "y" * 100_000
    ids[12_345] = "long " * 20_000
    payloads[7_777] = {"lone": "\ud800" * 40_000}  # only the envelope holds it, and that is a text field too
    reasons: dict[RecordId, str] = {
        "r00017": "nan or infinite components",
        "r06000": "nan or infinite components",
        "r00999": "80000 bytes, the field holds at most 65535",
        "r01000": "65536",  # the store's own words
        "r19999": "100000",
        ids[12_345]: "envelope",
        "r07777": "envelope",
    }
    return RecordBatch(ids, {"": DenseColumn(values)}, payloads, documents), reasons


@pytest.fixture
def source() -> Iterator[Source]:
    settings = MemorySettings(name=f"poison-{next(_numbers)}")
    batch, reasons = poisoned(source_records())
    with settings.open(create=True) as store:
        store.create(CollectionSpec("docs", (VectorSpec(DIMENSION, Metric.L2),), frozenset({IdKind.STRING})))
        assert not store.upsert("docs", batch).rejections
    yield settings, reasons
    forget_space(settings.name)


def run(context: MigrationContext) -> Report:
    """Load what is not proven yet and prove the whole; a range that fails does not keep the others from going on."""
    refusals = []
    done = set(proven_keys(context.state, context.manifest))
    for entry in context.manifest.ranges:
        if entry.key not in done:
            try:
                migrate_range(context, entry.key)
            except RecordRejectedError as error:
                refusals.append(error)
    if refusals:
        raise refusals[0]
    return prove_collection(context)


def held(store: VectorStore, collection: str) -> dict[RecordId, tuple[Any, ...]]:
    """Return what a target holds, record by record."""
    rows: dict[RecordId, tuple[Any, ...]] = {}
    for batch in store.scan(collection):
        texts = batch.documents or [payload.get("document") for payload in batch.payloads]
        numbers = [payload.get("number") for payload in batch.payloads]
        vectors = map(tuple, batch.dense().values.tolist())
        rows.update(zip(batch.ids, zip(numbers, texts, vectors, strict=True), strict=True))
    return rows


def expected(batch: RecordBatch) -> dict[RecordId, tuple[Any, ...]]:
    numbers = [payload.get("number") for payload in batch.payloads]
    vectors = map(tuple, batch.dense().values.tolist())
    return dict(zip(batch.ids, zip(numbers, batch.documents or [], vectors, strict=True), strict=True))


def cure(path: Path) -> None:
    """Repair all that a range set aside, as a user does with pandas."""
    frame = pd.read_feather(path)
    for row, source_id in enumerate(frame["source_id"]):
        number = 12_345 if source_id.startswith("string:long") else int(source_id.removeprefix("string:r"))
        frame.at[row, "id"] = f"string:r{number:05d}"
        frame.at[row, "payload"] = f'{{"number": {number}}}'
        frame.at[row, "document"] = f'"text {number}"'
        frame.at[row, "dense:"] = [number + 1, number % 7, 1, number % 11]
    frame.to_feather(path)


def check_all(
    source: Source, target: StoreSettings, collection: str, state_dir: Path, also_sent: Mapping[RecordId, str] = _NONE
) -> None:
    settings, reasons = source[0], {**source[1], **also_sent}
    sent = frozenset({"r01000", "r19999", *also_sent})
    options = MigrationOptions(range_count=5_000)
    migration = Migration("poison", settings, "docs", target, collection, options)
    with open_migration(migration, state_dir, plan=True) as opened:
        short = ShortSighted(opened.target, sent)
        context = replace(opened, target=short)
        with pytest.raises(RecordRejectedError, match="max_rejected allows 0"):
            run(context)
        assert short.requests < 150, "a record among thousands is found in a few requests"
        assert context.target.count(collection) == COUNT - 7
        files = sorted(state_dir.rglob("quarantine/*/*.arrow"))
        found = {item.record_id: item for path in files for item in read_quarantine(path).rejections}
        assert found.keys() == reasons.keys()
        for record_id, words in reasons.items():
            assert words in found[record_id].reason.lower()
            assert found[record_id].error == ("StoreRequestError" if record_id in sent else "RecordRejectedError")

        generous = options.model_copy(update={"max_rejected": 7})
        report = run(replace(context, migration=replace(migration, options=generous)))
        assert (report.written, report.rejected, report.is_proven) == (COUNT - 7, 7, True)

        for path in files:
            cure(path)
            assert not replay(context, path).rejections
        report = run(context)  # the budget is 0 again
        assert (report.written, report.rejected, report.is_proven) == (COUNT, 0, True)
        assert held(opened.target, collection) == expected(source_records())


def test_into_milvus_lite(source: Source, tmp_path: Path, scale: float) -> None:
    if scale < 2:
        pytest.skip("the server shows it in make test; this one takes longer")
    check_all(source, MilvusSettings(path=str(tmp_path / "lite.db")), "poisoned", tmp_path / "state")


@pytest.mark.server
def test_into_milvus(source: Source, milvus_server: Any, tmp_path: Path) -> None:
    name = "poisoned"
    settings = MilvusSettings(host=milvus_server.host, port=milvus_server.port)
    try:
        # The server refuses these two itself as well.
        check_all(source, settings, name, tmp_path / "state", {"r00017": "nan", "r07777": "exceeds max length"})
    finally:
        with settings.open() as store:
            store.drop(name)
