"""Validate reads back what was written and names every record that is missing or changed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.errors import ValidationError
from rag_migration_pipeline.records import DenseColumn, RecordBatch, id_text
from rag_migration_pipeline.steps import range as range_step
from rag_migration_pipeline.steps.compare import changed_rows
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.validate import compare_batches
from rag_migration_pipeline.stores.memory import MemoryStore
from rag_migration_pipeline_tests.contract.samples import AWKWARD_VALUES
from rag_migration_pipeline_tests.steps.support import World, numbered, records, with_faults

Edit = Callable[[RecordBatch], RecordBatch]


def edit_payload(**changes: Any) -> Edit:
    return lambda batch: batch.with_columns(payloads=[{**batch.payloads[0], **changes}, *batch.payloads[1:]])


def edit_document(text: str | None) -> Edit:
    return lambda batch: batch.with_columns(documents=[text, *(batch.documents or [])[1:]])


def edit_vector(change: Callable[[Any], None]) -> Edit:
    def edit(batch: RecordBatch) -> RecordBatch:
        values = batch.dense().values.copy()
        change(values[0])
        return batch.with_columns(vectors={"": DenseColumn(values)})

    return edit


def nudge(row: Any) -> None:
    row[1] = np.nextafter(row[1], np.float32(9e9))


def swap(batch: RecordBatch) -> RecordBatch:
    return batch.with_columns(ids=[batch.ids[1], batch.ids[0], *batch.ids[2:]])


EDITS: dict[str, tuple[Edit, dict[str, str]]] = {
    "value": (edit_payload(n=99), {"r000": "payload keys 'n'"}),
    "type": (edit_payload(n=0.0), {"r000": "payload keys 'n'"}),
    "new_key": (edit_payload(more=None), {"r000": "payload keys 'more'"}),
    "lost_key": (lambda batch: batch.with_columns(payloads=[{}, *batch.payloads[1:]]), {"r000": "payload keys 'n'"}),
    "document": (edit_document("other"), {"r000": "document"}),
    "no_document": (edit_document(None), {"r000": "document"}),
    "empty_document": (edit_document(""), {"r000": "document"}),
    "one_bit": (edit_vector(nudge), {"r000": "vector"}),
    "sign": (edit_vector(lambda row: row.__imul__(-1)), {"r000": "vector"}),
    "nan": (edit_vector(lambda row: row.fill(np.nan)), {"r000": "vector"}),
    "swapped": (swap, {"r000": "document", "r001": "document"}),
}


def corrupt_target(world: World, monkeypatch: pytest.MonkeyPatch, edit: Edit) -> None:
    """Let the target answer with something else than it was given."""
    fetch = MemoryStore.fetch

    def corrupted(self: MemoryStore, collection: str, ids: Any) -> RecordBatch:
        batch = fetch(self, collection, ids)
        return edit(batch) if self.settings.name == world.b.settings.name else batch

    monkeypatch.setattr(MemoryStore, "fetch", corrupted)


@pytest.mark.parametrize("name", EDITS)
def test_a_target_that_holds_something_else_turns_the_range_red(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, expected = EDITS[name]
    world.fill(records(numbered(4)))
    corrupt_target(world, monkeypatch, edit)
    with world.opened(world.migration(page_count=4)) as context:
        key = context.manifest.ranges[0].key
        with pytest.raises(ValidationError) as caught:
            migrate_range(context, key)
        assert caught.value.report.changed == {id_text(i): what for i, what in expected.items()}
        assert not caught.value.report.missing
        assert key in str(caught.value)
        assert not context.state.receipt(key).exists()


def test_missing_records_are_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(records(numbered(4)))
    corrupt_target(world, monkeypatch, lambda batch: batch.take([0, 2]))
    with world.opened(world.migration(page_count=4)) as context, pytest.raises(ValidationError) as caught:
        migrate_range(context, context.manifest.ranges[0].key)
    assert "2 missing" in str(caught.value)
    assert caught.value.report.missing == ("string:r001", "string:r003")
    assert caught.value.report.compared == 2


def test_a_store_that_acknowledges_and_forgets_is_found_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(records(numbered(4)))
    with world.opened() as context:
        monkeypatch.setattr(type(world.b), "write", lambda *_: None)
        with pytest.raises(ValidationError, match="4 missing"):
            migrate_range(context, context.manifest.ranges[0].key)


def test_records_that_get_lost_between_two_steps_are_not_called_filtered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill(records(numbered(4)))

    def losing(_context: Any, _key: str, batches: Iterator[RecordBatch], _set_aside: Any) -> Iterator[Any]:
        for batch in batches:
            part = batch.slice(0, len(batch) - 1)
            yield part, partial(part.slice, 0, len(part))

    monkeypatch.setattr(range_step, "transformed", losing)
    with (
        world.opened() as context,
        pytest.raises(ValidationError, match=r"4 records were planned.*2 written.*0 filtered"),
    ):
        migrate_range(context, context.manifest.ranges[0].key)


def test_comparing_finds_extra_and_doubled_records() -> None:
    expected = records(["a", "b"])
    found = RecordBatch(
        ["b", "a", "c", "b"],
        {"": expected.dense().take(np.array([1, 0, 0, 1]))},
        [expected.payloads[i] for i in (1, 0, 0, 1)],
        [(expected.documents or [])[i] for i in (1, 0, 0, 1)],
    )
    findings = compare_batches(expected, found, frozenset(), {})
    assert findings.extra == ("string:c",)
    assert findings.changed == {"string:b": "is there more than once"}
    assert compare_batches(expected, found.take([0, 1]), frozenset(), {}).is_clean


def test_an_empty_document_is_not_a_missing_one() -> None:
    for before, after in ((None, ""), ("", None)):
        expected = records(["a", "b"]).with_columns(documents=[before, "x"])
        found = expected.with_columns(documents=[after, "x"])
        assert compare_batches(expected, found, frozenset(), {}).changed == {"string:a": "document"}
    without = records(["a", "b"]).with_columns(documents=None)
    assert compare_batches(without, without.with_columns(documents=[None, None]), frozenset(), {}).is_clean


def test_an_empty_answer_is_no_agreement() -> None:
    expected = records(["a", "b"])
    assert compare_batches(expected, expected.take([]), frozenset(), {}).missing == ("string:a", "string:b")


def test_every_awkward_value_differs_from_every_other() -> None:
    count = len(AWKWARD_VALUES)
    values = [{"k": value} for value in AWKWARD_VALUES]
    same = records([*range(count)]).with_columns(payloads=values)
    assert compare_batches(same, same, frozenset(), {}).is_clean
    for shift in (1, 2, 7):
        moved = same.with_columns(payloads=values[shift:] + values[:shift])
        assert len(compare_batches(same, moved, frozenset(), {}).changed) == count


def column(*rows: list[float], present: list[bool] | None = None) -> DenseColumn:
    return DenseColumn(np.array(rows, np.float32), None if present is None else np.array(present))


@pytest.mark.parametrize(
    ("a", "b", "is_normalised", "tolerance", "expected"),
    [
        ([1, 2], [1, 2], False, 0.0, False),
        ([1, 2], [1, 2.000001], False, 0.0, True),
        ([1, 2], [1, 2.000001], False, 1e-5, False),
        ([1, 2], [1, 2.1], False, 1e-5, True),
        ([1e-20, 0], [2e-20, 0], False, 1e-5, True),
        ([0, 0], [1e-20, 0], False, 1e-5, True),
        ([0.0, 1], [-0.0, 1], False, 0.0, False),
        ([3, 4], [0.6, 0.8], True, 1e-6, False),
        ([3, 4], [0.8, 0.6], True, 1e-6, True),
        ([3, 4], [-0.6, -0.8], True, 1e-6, True),
        ([0, 0], [0, 0], True, 1e-6, False),
        ([0, 0], [1, 0], True, 1e-6, True),
        ([1, 0], [0, 0], True, 1e-6, True),
        ([0, 0], [float("nan"), 0], True, 1e-6, True),
        ([1, 0], [float("nan"), 0], False, 1e-6, True),
        ([1, 0], [float("nan"), 0], False, 0.0, True),
        ([1, 0], [float("inf"), 0], True, 1e-6, True),
    ],
)
def test_vectors_differ_by_more_than_the_tolerance(
    a: list[float], b: list[float], is_normalised: bool, tolerance: float, expected: bool
) -> None:
    rows = changed_rows(column(a, [5, 5]), column(b, [5, 5]), 2, is_normalised=is_normalised, tolerance=tolerance)
    assert rows.tolist() == [expected, False]


def test_presence_is_compared() -> None:
    a, b = column([1, 0], [0, 0], present=[True, False]), column([1, 0], [0, 0])
    assert changed_rows(a, b, 2, is_normalised=False, tolerance=0.0).tolist() == [False, True]
    assert changed_rows(a, a, 2, is_normalised=True, tolerance=1e-6).tolist() == [False, False]


@pytest.mark.parametrize("validate", ["counts", "none"])
def test_without_validation_nothing_is_read_back_and_nothing_is_claimed(world: World, validate: str) -> None:
    world.fill(records(numbered(4)))
    operations: list[str] = []
    target = with_faults(world.target, lambda _, operation: operations.append(operation))
    migration = replace(world.migration(validate=validate), target=target)
    receipts, report = world.run(migration)
    assert not {"fetch", "fetch_pages", "scan"} & set(operations)
    assert not report.is_proven
    assert report.written == 4
    assert receipts[0].counts["compared"] == 0
