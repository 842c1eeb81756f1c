"""What a load keeps of its batches is enough to find whatever the records themselves would find."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from rag_migration_pipeline.records import RecordBatch, id_text
from rag_migration_pipeline.sightings import Watch
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.load import load_batches
from rag_migration_pipeline.steps.receipt_comparison import compare_with_receipt, validate_written, written_batch
from rag_migration_pipeline.steps.validate import Findings, total_findings
from rag_migration_pipeline.written import WrittenBatch
from rag_migration_pipeline_tests.steps.support import World, numbered, records
from rag_migration_pipeline_tests.steps.test_validate import EDITS, Edit, corrupt_target, edit_vector


@contextmanager
def loaded(world: World, *, is_exact: bool = True) -> Iterator[tuple[MigrationContext, list[WrittenBatch]]]:
    """Load two batches of four and two records, and give what is kept of them."""
    world.fill(records(numbered(6)))
    with world.opened(world.migration(range_count=6)) as context:
        if not is_exact:
            context.__dict__.update(inexact_vectors=frozenset({""}), tolerances={"": 1e-7})
        batches = [records(numbered(4)), records(numbered(2, 4), start=4)]
        answers = load_batches(context, context.manifest.ranges[0].key, batches)
        yield context, [written_batch(context, packed) for packed, _ in answers]


def found_by(context: MigrationContext, written: list[WrittenBatch]) -> Findings:
    """Return what a validation finds."""
    key = context.manifest.ranges[0].key
    return total_findings(findings for findings, _ in validate_written(context, key, written, Watch()))


def in_the_first_batch(edit: Edit) -> Edit:
    return lambda batch: edit(batch) if "r000" in batch.ids else batch


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("is_exact", [True, False], ids=["exact", "kept"])
def test_what_differs_is_named(world: World, name: str, is_exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    edit, expected = EDITS[name]
    if name == "one_bit" and not is_exact:
        edit = edit_vector(lambda row: row.__imul__(np.array([1, 1 + 1e-6, 1], np.float32)))
    with loaded(world, is_exact=is_exact) as (context, written):
        assert found_by(context, written) == Findings(6)
        corrupt_target(world, monkeypatch, in_the_first_batch(edit))
        assert found_by(context, written).changed.keys() == {id_text(record_id) for record_id in expected}


def test_kept_vectors_find_what_sketches_pass_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is why they are kept: a range is compared as closely as with its records."""
    edit = edit_vector(lambda row: row.__imul__(np.array([1, 1 + 1e-6, 1], np.float32)))
    with loaded(world, is_exact=False) as (context, written):
        corrupt_target(world, monkeypatch, in_the_first_batch(edit))
        assert compare_with_receipt(context, written[0].receipt).is_clean
        assert found_by(context, written).changed == {"string:r000": "vector"}


def test_missing_records_and_those_that_come_twice_are_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose_and_repeat(batch: RecordBatch) -> RecordBatch:
        return batch.take([0, 2, 2]) if "r000" in batch.ids else batch

    with loaded(world) as (context, written):
        corrupt_target(world, monkeypatch, lose_and_repeat)
        found = found_by(context, written)
    assert found.missing == ("string:r001", "string:r003")
    assert found.changed == {"string:r002": "is there more than once"}


def test_a_vector_that_nobody_wrote_is_a_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def add_vector(batch: RecordBatch) -> RecordBatch:
        return batch.with_columns(vectors={**batch.vectors, "new": batch.vectors[""]})

    with loaded(world) as (context, written):
        corrupt_target(world, monkeypatch, add_vector)
        assert set(found_by(context, written).changed.values()) == {"vector 'new'"}


def test_the_receipts_say_what_was_compared(world: World) -> None:
    with loaded(world) as (context, written):
        parts = list(validate_written(context, context.manifest.ranges[0].key, written, Watch()))
    counts = [receipt.counts for _, receipt in parts]
    assert counts == [{"written": n, "skipped": 0, "rejected": 0, "compared": n} for n in (4, 2)]


def test_a_record_that_nobody_asked_for_is_extra(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with loaded(world) as (context, written):
        corrupt_target(world, monkeypatch, lambda batch: batch.with_columns(ids=["other", *batch.ids[1:]]))
        found = found_by(context, written)
    assert found.extra == ("string:other", "string:other")
    assert found.missing == ("string:r000", "string:r004")
    assert not found.changed
