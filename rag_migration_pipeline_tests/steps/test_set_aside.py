"""Records are set aside by name in a file, the rest arrives, and the error budget decides whether that is enough."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline import quarantine as quarantine_file
from rag_migration_pipeline.errors import (
    RecordRejectedError,
    SpecError,
    StagingError,
    StoreRequestError,
    StoreUnavailableError,
    ValidationError,
)
from rag_migration_pipeline.events import RecordsRejected
from rag_migration_pipeline.quarantine import read_quarantine
from rag_migration_pipeline.records import DenseColumn, RecordBatch
from rag_migration_pipeline.spec import migration_from_spec
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.stores import memory
from rag_migration_pipeline_tests.steps.support import World, numbered, records


def poison(world: World, *ids: str) -> None:
    """Put records into the source that the poisoned target refuses."""
    for record_id in ids:
        world.fill(records([record_id], start=int(record_id[1:]), poison=True))


def test_the_file_holds_the_refused_record_as_it_was_read(world: World) -> None:
    world.fill(records(numbered(9)))
    poison(world, "r005")
    with world.opened(world.poisoned()) as context:
        key = context.manifest.ranges[1].key
        path = context.state.quarantine(key)
        with pytest.raises(
            RecordRejectedError, match=r"1 of 4 records were set aside, max_rejected allows 0"
        ) as caught:
            migrate_range(context, key)
        assert str(path) in caught.value.todo
        assert caught.value.facts["quarantine"] == str(path)
        assert [r.record_id for r in caught.value.facts["rejections"]] == ["r005"]
        assert "one of 1 records is refused" in caught.value.what
        assert not context.state.receipt(key).exists()
    found = read_quarantine(path)
    assert found.records.ids == ["r005"]
    assert found.records.payloads == [{"n": 5, "poison": True}]
    assert found.records.documents == ["text 5"]
    assert found.records.dense().values.tolist() == records(["r005"], start=5).dense().values.tolist()
    assert [(r.record_id, r.stage, r.error) for r in found.rejections] == [("r005", "load", "StoreRequestError")]
    assert (found.range_keys, found.target_ids) == ([key], ["r005"])
    assert world.b.fetch("docs", numbered(9)).ids == ["r004", "r006", "r007"], "the rest of the range arrived"
    events = [event for event in world.events if isinstance(event, RecordsRejected)]
    assert [(e.range_key, [r.record_id for r in e.rejections]) for e in events] == [(key, ["r005"])]


def test_within_the_budget_the_range_and_the_whole_are_proven(world: World) -> None:
    world.fill(records(numbered(9)))
    poison(world, "r001", "r005")
    receipts, report = world.run(world.poisoned(max_rejected=2))
    assert [receipt.counts["rejected"] for receipt in receipts] == [1, 1, 0]
    assert (report.planned, report.written, report.rejected, report.is_proven) == (9, 7, 2, True)
    assert dict(report.rejections) == {
        "string:r001": "one of 1 records is refused.",
        "string:r005": "one of 1 records is refused.",
    }
    assert json.loads(world.state().report.read_bytes())["rejected"] == 2


def test_a_larger_budget_lets_the_next_run_pass_without_loading_proven_ranges_again(world: World) -> None:
    world.fill(records(numbered(9)))
    poison(world, "r005")
    with world.opened(world.poisoned()) as context:
        for entry in context.manifest.ranges:
            if entry.ordinal == 1:
                with pytest.raises(RecordRejectedError):
                    migrate_range(context, entry.key)
            else:
                migrate_range(context, entry.key)
    receipts, report = world.run(world.poisoned(max_rejected=1))
    assert [receipt.ids for receipt in receipts] == [["r004", "r006", "r007"]], "only the failed range was loaded"
    assert (report.written, report.rejected, report.is_proven) == (8, 1, True)


def test_ranges_within_the_budget_that_together_exceed_it_fail_the_proof(world: World) -> None:
    world.fill(records(numbered(9)))
    poison(world, "r001", "r005")
    with pytest.raises(RecordRejectedError, match=r"2 of 9 records were set aside in 2 ranges.*allows 1.*r001.*r005"):
        world.run(world.poisoned(max_rejected=1))
    assert json.loads(world.state().report.read_bytes())["is_proven"] is False
    receipts, report = world.run(world.poisoned(max_rejected=2))
    assert (receipts, report.is_proven) == ([], True)
    with pytest.raises(RecordRejectedError):
        world.run(world.poisoned())  # lowered again: what is proven is not proven enough


@pytest.mark.parametrize(("share", "passes"), [(0.25, True), (0.24, False)])
def test_a_share_is_of_the_planned_records(world: World, share: float, *, passes: bool) -> None:
    world.fill(records(numbered(4)))
    poison(world, "r002")
    if passes:
        assert world.run(world.poisoned(max_rejected=share))[1].rejected == 1
        return
    with pytest.raises(RecordRejectedError, match=rf"allows {share} of them"):
        world.run(world.poisoned(max_rejected=share))


@pytest.mark.parametrize("value", [-1, 1.0, 0.0, 1.5, True, "7", None, float("nan")])
def test_a_budget_that_is_neither_count_nor_share_is_refused(value: Any) -> None:
    stores = {"name": "docs", "source": "memory://a?name=x", "target": "memory://b?name=y"}
    with pytest.raises(SpecError, match=r"max_rejected.*a count .* or a share"):
        migration_from_spec({**stores, "max_rejected": value})


def test_the_budget_makes_no_other_migration(world: World) -> None:
    assert world.migration(max_rejected=0.5).identity == world.migration().identity


def test_a_run_that_sets_nothing_aside_removes_the_file(world: World) -> None:
    world.fill(records(numbered(4)))
    poison(world, "r002")
    with world.opened(world.poisoned()) as context:
        key = context.manifest.ranges[0].key
        with pytest.raises(RecordRejectedError):
            migrate_range(context, key)
        assert context.state.quarantine(key).exists()
        world.fill(records(["r002"], start=2))
        migrate_range(context, key)
        assert not context.state.quarantine(key).exists()
    assert world.run()[1].is_proven


def test_the_file_is_written_although_the_range_fails_for_another_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill(records(numbered(4)))
    poison(world, "r001")

    def away(_collection: str, pages: Any) -> Any:
        list(pages)  # all of the range is loaded by then
        raise StoreUnavailableError("gone for a while")

    with world.opened(world.poisoned()) as context:
        monkeypatch.setattr(context.target, "fetch_pages", away)
        key = context.manifest.ranges[0].key
        with pytest.raises(StoreUnavailableError):
            migrate_range(context, key)
        assert read_quarantine(context.state.quarantine(key)).records.ids == ["r001"]


def test_a_target_that_refuses_everything_is_told_as_it_is(world: World) -> None:
    world.fill(records(numbered(40)))
    poison(world, *numbered(40))  # type: ignore[arg-type]
    with pytest.raises(StoreRequestError, match="one of 40 records"):
        world.run(world.poisoned(range_count=40, page_count=40, max_rejected=40))
    assert not list(world.state_dir.rglob("quarantine/*/*"))


def test_vectors_with_nan_arrive_where_both_stores_hold_them_and_are_set_aside_elsewhere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = records(numbered(4))
    values = batch.dense().values.copy()
    values[1, 0], values[2, 2] = np.nan, -np.inf
    world.fill(batch.with_columns(vectors={"": DenseColumn(values)}))
    assert world.run()[1].written == 4
    world.b.drop("docs")
    with world.opened(world.migration(name="again", conflict="overwrite")) as context:
        finite = replace(context.target.capabilities, has_non_finite_vectors=False)
        monkeypatch.setattr(context.target, "capabilities", finite)
        key = context.manifest.ranges[0].key
        with pytest.raises(RecordRejectedError, match=r"2 of 4 records.*NaN or infinite components"):
            migrate_range(context, key)
        found = read_quarantine(context.state.quarantine(key))
    assert found.records.ids == ["r001", "r002"]
    assert np.array_equal(found.records.dense().values, values[1:3], equal_nan=True)


def test_a_quarantine_file_that_is_gone_fails_the_proof(world: World) -> None:
    world.fill(records(numbered(4)))
    poison(world, "r002")
    _, report = world.run(world.poisoned(max_rejected=1))
    (path,) = world.state_dir.rglob("quarantine/*/*.arrow")
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(ValidationError, match=r"counts 1 records that were set aside, and .* holds 0"):
        world.run(world.poisoned(max_rejected=1))
    path.write_bytes(content)
    assert world.run(world.poisoned(max_rejected=1))[1].written == report.written


def test_a_record_of_an_earlier_run_under_a_refused_id_is_no_extra_record(world: World) -> None:
    world.fill(records(numbered(4)))
    world.run(world.poisoned())
    poison(world, "r002")
    with world.opened(world.poisoned(max_rejected=1)) as context:
        migrate_range(context, context.manifest.ranges[0].key)
    _, report = world.run(world.poisoned(max_rejected=1))
    assert (report.written, report.rejected, report.target_count, report.is_proven) == (3, 1, 4, True)


@pytest.mark.parametrize("id_from", [None, "k"])
@pytest.mark.parametrize("is_new_generation", [False, True])
def test_a_record_of_an_earlier_run_that_cannot_be_mapped_now_is_no_extra_record(
    world: World, *, is_new_generation: bool, id_from: str | None
) -> None:
    world.fill(records(numbered(6)).with_columns(payloads=[{"n": row, "k": f"k{row}"} for row in range(6)]))
    mapping = {"transforms": {"n": "int"}, "id_from": id_from, "on_error": "quarantine"}
    migration = world.migration(mapping=mapping, max_rejected=1)
    world.run(migration)
    world.fill(records(["r002"], start=2).with_columns(payloads=[{"n": "no number", "k": "k2"}]))
    if is_new_generation:
        world.fill(records(["r100"], start=100, k="k100"))
    with world.opened(migration) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        report = prove_collection(context)
    assert (report.written, report.rejected, report.is_proven) == (5 + is_new_generation, 1, True)
    world.fill_target(records(["foreign"]))
    with world.opened(migration) as context, pytest.raises(ValidationError, match="1 extra"):
        prove_collection(context)


def test_a_full_disk_under_the_quarantine_file_fails_the_range_and_leaves_the_old_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill(records(numbered(4)))
    poison(world, "r002")
    with world.opened(world.poisoned(max_rejected=1)) as context:
        key = context.manifest.ranges[0].key
        migrate_range(context, key)
        path = context.state.quarantine(key)
        before = path.read_bytes()

        def full(path: Path, write: Any) -> None:
            from rag_migration_pipeline import state_files

            def fill_up(temporary: Path) -> None:
                write(temporary)
                raise OSError(errno.ENOSPC, "No space left on device")

            state_files.write_atomically(path, fill_up)

        monkeypatch.setattr(quarantine_file, "write_atomically", full)
        with pytest.raises(StagingError, match="No space left"):
            migrate_range(context, key)
        assert path.read_bytes() == before
        assert [item.name for item in path.parent.iterdir()] == [path.name], "nothing half-written stays"
        assert not context.state.receipt(key).exists(), "the range is not proven"


def test_ids_of_the_source_name_the_record_where_the_target_names_it_otherwise(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_migration_pipeline.records import IdKind

    world.fill(RecordBatch([7], records(["a"]).vectors, [{"poison": 1}], ["text"]))
    texts = replace(memory.CAPABILITIES, id_kinds=frozenset({IdKind.STRING}))
    monkeypatch.setattr(memory, "CAPABILITIES", texts)
    with world.opened(world.poisoned(max_rejected=1)) as context:
        migrate_range(context, context.manifest.ranges[0].key)
        found = read_quarantine(context.state.quarantine(context.manifest.ranges[0].key))
    assert (found.records.ids, found.target_ids) == ([7], ["7"])
    assert found.table.column("source_id").to_pylist() == ["int:7"]
