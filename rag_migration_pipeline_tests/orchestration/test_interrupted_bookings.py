"""What an attempt or another run leaves half-done between two steps is never taken for something else."""

from collections.abc import Callable
from typing import Any

import pytest

from rag_migration_pipeline.errors import StoreUnavailableError
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.orchestration import ops
from rag_migration_pipeline.orchestration.staging import (
    StagedRange,
    note_written,
    stage_extract,
    stage_selection,
    staged_batches,
    written_batches,
)
from rag_migration_pipeline.sightings import Watch
from rag_migration_pipeline.steps import validate
from rag_migration_pipeline.steps.context import MigrationContext, open_migration
from rag_migration_pipeline.steps.load import load_batches
from rag_migration_pipeline.steps.receipt_comparison import written_batch
from rag_migration_pipeline_tests.orchestration.scene import (
    COLLECTION,
    QUICK,
    Bag,
    Scene,
    change,
    contents,
    failures,
    records,
    run,
    spec_of,
)

MakeScene = Callable[..., Scene]
EVEN = {"kind": "even"}


def staged(context: MigrationContext, key: str) -> StagedRange:
    """Extract and filter a range."""
    extract = stage_extract(context, key)
    taken = stage_selection(context, key, parse_filter(EVEN))
    return extract.after("filter", 0.0, records=taken, is_filtered=True)


def test_what_another_run_extracted_since_is_not_taken_for_what_was_loaded(make_scene: MakeScene) -> None:
    scene = make_scene(10, options={**QUICK, "range_count": 10, "filter": EVEN, "push_down": False})
    migration = scene.declaration.migration(Bag(scene.resources))
    with open_migration(migration, scene.state_dir, plan=True) as context:
        key = context.manifest.ranges[0].key
        mine = staged(context, key)
        batches = (batch for batch, _ in staged_batches(context, mine, lambda *_: None))
        loaded = list(load_batches(context, key, batches))
        for number, (packed, _) in enumerate(loaded, start=1):
            note_written(context, key, "mine", number, written_batch(context, packed))
        mine = mine.after("load", 0.0, written_by="mine", batches=len(loaded))
        assert written_batches(context, mine, Watch()) is not None
        change(scene, 0, kind="odd")  # one leaves the filter, another enters: the numbers stay
        change(scene, 1, kind="even")
    with open_migration(migration, scene.state_dir) as context:
        staged(context, key)
        assert written_batches(context, mine, Watch()) is None
        findings = [found for found, _ in ops._compared(context, mine)[0]]
        assert any(found.missing for found in findings), "the slower way tells of it"


@pytest.mark.parametrize("write", ["write_pending", "write_sightings", "write_receipt"])
@pytest.mark.parametrize("between", ["", "number=0", "number=6"])
@pytest.mark.parametrize("job", ["migrate", "sync"])
def test_a_kill_while_a_narrowed_range_is_booked_leaves_nothing_unaccounted(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch, write: str, job: str, between: str
) -> None:
    scene = make_scene(5)
    if job == "migrate":
        assert run(scene, job, only="kind=even").success
    else:
        assert scene.migrate().success
        for number in (0, 1, 2):
            change(scene, number, more=number)
        scene.fill(2, 5)

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(validate, write, killed)
        assert not run(scene, job, only='{"number": {"$in": [1, 5]}}').success
    if between:
        narrowed = run(scene, job, only=between)
        assert narrowed.success, failures(narrowed)
    later = run(scene, job)
    assert later.success, failures(later)
    assert contents(scene.target) == contents(scene.source)


def test_a_validation_that_is_repeated_after_its_booking_claims_nothing_and_fails_nothing(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, told = make_scene(5), []

    def lost_once(*arguments: Any) -> dict[str, Any]:
        told.append(arguments)
        if len(told) == 1:
            raise StoreUnavailableError("gone.", todo="")
        return tell(*arguments)

    tell = ops.tell_pending
    monkeypatch.setattr(ops, "tell_pending", lost_once)
    narrowed = run(scene, "migrate", only="kind=even")
    assert narrowed.success, failures(narrowed)
    assert not scene.materialized()
    assert scene.migrate().success
    assert contents(scene.target) == contents(scene.source)


@pytest.mark.parametrize("own", [{}, {"conflict": "fail"}, {"conflict": "skip"}], ids=str)
def test_a_full_comparison_after_a_launch_that_overwrote_finds_no_change(
    make_scene: MakeScene, own: dict[str, str]
) -> None:
    scene = make_scene(10, options={**QUICK, "detect": "full", **own})
    with scene.target.inner.open(create=True) as store:
        store.create(spec_of(COLLECTION))
        store.upsert(COLLECTION, records(1, 1).with_columns(payloads=[{"theirs": 1}]))
    assert run(scene, "migrate", conflict="overwrite").success
    before = scene.target.calls["upsert"]
    for job in ("detect", "sync"):
        result = run(scene, job)
        assert result.success, failures(result)
    assert scene.target.calls["upsert"] == before
    assert contents(scene.target) == contents(scene.source)


def test_fail_concerns_the_records_that_the_launch_takes(make_scene: MakeScene) -> None:
    scene = make_scene(10, options={**QUICK, "conflict": "skip"})
    with scene.target.inner.open(create=True) as store:
        store.create(spec_of(COLLECTION))
        store.upsert(COLLECTION, records(1, 1))
    assert run(scene, "migrate", only="number=999").success
    narrowed = run(scene, "migrate", only="kind=even", conflict="fail")
    assert narrowed.success, failures(narrowed)
    assert not run(scene, "migrate", only="kind=odd", conflict="fail").success
