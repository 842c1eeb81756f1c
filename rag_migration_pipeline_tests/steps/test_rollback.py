"""After a rollback the target is what it was before the migration, or the rollback says by name what it cannot do."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rag_migration_pipeline.errors import (
    ConflictError,
    ManifestError,
    RecordRejectedError,
    SpecError,
    StagingError,
    StoreUnavailableError,
    ValidationError,
)
from rag_migration_pipeline.spec import Migration, migration_from_spec
from rag_migration_pipeline.steps import pre_images as pre_images_step
from rag_migration_pipeline.steps import rollback as rollback_step
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.replay import replay
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.steps.rollback import RollbackReport, rollback
from rag_migration_pipeline_tests.steps.support import World, dump, numbered, records, with_faults


def rolled_back(world: World, migration: Migration | None = None, **options: Any) -> RollbackReport:
    migration = migration or world.migration()
    return rollback(migration, world.state(migration), world.b, **options)


def states(world: World) -> list[str]:
    return [path.name for path in world.state_dir.iterdir()]


def test_a_collection_that_the_migration_made_goes_and_so_does_its_state(world: World) -> None:
    world.fill(records(numbered(9)))
    world.run()
    source = dump(world.a)
    report = rolled_back(world)
    assert (report.dropped, report.deleted) == (True, 9)
    assert world.b.list_collections() == []
    assert states(world) == []
    assert dump(world.a) == source
    _, again = world.run()
    assert (again.written, again.is_proven) == (9, True), "a later run starts afresh"


def test_a_collection_that_others_write_to_by_now_is_dropped_only_by_force(world: World) -> None:
    world.fill(records(numbered(9)))
    world.run()
    world.fill_target(records(["theirs", "also"], start=70))
    before = world.dump()
    with pytest.raises(ConflictError, match=r"2 records now that are not the migration's: string:also, string:theirs"):
        rolled_back(world)
    assert world.dump() == before
    assert states(world) != []
    assert rolled_back(world, force=True).deleted == 11
    assert world.b.list_collections() == []


def test_in_a_collection_of_others_exactly_our_records_go(world: World) -> None:
    world.fill_target(records(["theirs", "r100"], start=70))
    before = dump(world.b)
    world.fill(records(numbered(9)))
    migration = world.migration(conflict="fail")
    world.run(migration)
    world.fill_target(records(["later"], start=90))
    report = rolled_back(world, migration)
    assert (report.dropped, report.deleted, report.restored) == (False, 9, 0)
    world.b.delete("docs", ["later"])
    assert dump(world.b) == before


def test_what_was_overwritten_comes_back_where_it_was_kept(world: World) -> None:
    world.fill_target(records([*numbered(5, 2), "theirs"], start=70, old=True))
    before = dump(world.b)
    world.fill(records(numbered(9)))
    migration = world.migration(conflict="overwrite", keep_overwritten=True)
    _, proven = world.run(migration)
    assert (proven.written, proven.is_proven) == (9, True)
    report = rolled_back(world, migration)
    assert (report.deleted, report.restored, report.lost) == (4, 5, ())
    assert dump(world.b) == before


def test_what_was_overwritten_and_not_kept_is_named_and_left_only_by_force(world: World) -> None:
    world.fill_target(records(["r002", "r003", "theirs"], start=70))
    world.fill(records(numbered(9)))
    migration = world.migration(conflict="overwrite")
    world.run(migration)
    before = world.dump()
    with pytest.raises(ConflictError, match=r"overwrote 2 records of others.*string:r002, string:r003"):
        rolled_back(world, migration)
    assert world.dump() == before
    report = rolled_back(world, migration, force=True)
    assert (report.deleted, report.lost) == (7, ("r002", "r003"))
    assert sorted(i for page in world.b.iter_ids("docs") for i in page) == ["r002", "r003", "theirs"]  # type: ignore[type-var]


def test_under_skip_nothing_of_others_is_touched(world: World) -> None:
    world.fill_target(records(["r002", "theirs"], start=70))
    before = dump(world.b)
    world.fill(records(numbered(9)))
    migration = world.migration(conflict="skip")
    world.run(migration)
    assert rolled_back(world, migration).deleted == 8
    assert dump(world.b) == before


@pytest.mark.parametrize("upserts", [1, 2, 3])
def test_a_migration_that_stopped_half_way_is_taken_away_to_the_record(world: World, upserts: int) -> None:
    """Records with planned ids that others write later stay: the migration never came to them."""
    world.fill_target(records([*numbered(2), "theirs"], start=70))
    before = dump(world.b)
    world.fill(records(numbered(12)))
    left = {"upserts": upserts}

    def stop(_: object, operation: str) -> None:
        if operation == "upsert":
            left["upserts"] -= 1
            if left["upserts"] < 0:
                raise StoreUnavailableError("gone")

    options = {"conflict": "overwrite", "keep_overwritten": True}
    migration = world.migration(**options)
    faulty = Migration(
        migration.name, migration.source, "docs", with_faults(world.target, stop), "docs", migration.options
    )
    with pytest.raises(StoreUnavailableError):
        world.run(faulty)
    world.fill_target(records(["r011"], start=99))
    rolled_back(world, migration)
    assert world.b.fetch("docs", ["r011"]).payloads == [{"n": 99}]
    world.b.delete("docs", ["r011"])
    assert dump(world.b) == before


def test_a_pre_image_is_taken_once_and_never_of_our_own_record(world: World) -> None:
    world.fill_target(records(numbered(4), start=70))
    before = dump(world.b)
    world.fill(records(numbered(4)))
    migration = world.migration(conflict="overwrite", keep_overwritten=True)
    for _ in range(3):
        with world.opened(migration) as context:
            migrate_range(context, context.manifest.ranges[0].key)
    world.run(migration)
    world.fill(records(["r004"], start=4))  # a new generation
    world.run(migration)
    rolled_back(world, migration)
    assert dump(world.b) == before


def test_a_record_of_others_that_vanished_before_it_was_overwritten_stays_away(world: World) -> None:
    world.fill_target(records(["r001", "r002"], start=70))
    world.fill(records(numbered(4)))
    migration = world.migration(conflict="overwrite", keep_overwritten=True)
    with world.opened(migration) as context:
        world.b.delete("docs", ["r001"])
        before = dump(world.b)
        migrate_range(context, context.manifest.ranges[0].key)
    rolled_back(world, migration)
    assert dump(world.b) == before


def test_keeping_cannot_begin_after_records_were_overwritten(world: World) -> None:
    world.fill_target(records(["r001"], start=70))
    world.fill(records(numbered(4)))
    world.run(world.migration(conflict="overwrite"))
    with (
        world.opened(world.migration(conflict="overwrite", keep_overwritten=True)) as context,
        pytest.raises(ManifestError, match="may have overwritten records of others without keeping them"),
    ):
        migrate_range(context, context.manifest.ranges[0].key)


def test_keeping_without_overwriting_is_refused() -> None:
    stores = {"name": "docs", "source": "memory://a?name=x", "target": "memory://b?name=y"}
    with pytest.raises(SpecError, match="keep_overwritten: it has no effect"):
        migration_from_spec({**stores, "keep_overwritten": True, "conflict": "skip"})


def test_records_of_all_generations_and_of_repairs_go(world: World) -> None:
    world.fill_target(records(["theirs"], start=70))
    before = dump(world.b)
    world.fill(records(numbered(9)))
    migration = world.poisoned(conflict="fail", max_rejected=3)
    world.run(migration)
    world.a.delete("docs", ["r001"])  # stays in the target, left over
    world.fill(records(["r002"], start=2, poison=True))  # stays in the target, as an earlier run wrote it
    world.run(migration)
    (path,) = world.state_dir.rglob("quarantine/*/*.arrow")
    frame = pd.read_feather(path)
    frame["payload"], frame["id"] = '{"n": 2}', "string:other"
    frame.to_feather(path)
    with world.opened(migration) as context:
        assert replay(context, path).loaded == 1
    held = {record_id for page in world.b.iter_ids("docs") for record_id in page}
    assert held == {*numbered(9), "other", "theirs"}
    rolled_back(world, migration)
    assert dump(world.b) == before


@pytest.mark.parametrize("step", ["restored", "deleted", "state renamed"])
def test_a_rollback_that_ends_anywhere_is_finished_by_repeating_it(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    world.fill_target(records([*numbered(3), "theirs"], start=70))
    before = dump(world.b)
    world.fill(records(numbered(9)))
    migration = world.migration(conflict="overwrite", keep_overwritten=True)
    world.run(migration)

    class Killed(BaseException):
        pass

    def after(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def die(*args: Any, **kwargs: Any) -> Any:
            real(*args, **kwargs)
            raise Killed

        monkeypatch.setattr(owner, name, die)

    with monkeypatch.context():
        if step == "restored":
            after(rollback_step, "_restore")
        elif step == "deleted":
            after(type(world.b), "delete")
        else:
            after(Path, "rename")
        with pytest.raises(Killed):
            rolled_back(world, migration)
        monkeypatch.undo()
    if step == "state renamed":
        with pytest.raises(ManifestError, match="no manifest"):
            rolled_back(world, migration)
    else:
        rolled_back(world, migration)
    assert dump(world.b) == before
    assert world.run(world.migration(conflict="overwrite"))[1].is_proven


def test_a_full_disk_under_a_pre_image_stops_the_load_before_anything_is_overwritten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill_target(records(numbered(4), start=70))
    before = dump(world.b)
    world.fill(records(numbered(4)))
    migration = world.migration(conflict="overwrite", keep_overwritten=True)

    def full(path: Path, _write: Any) -> None:
        raise StagingError(f"cannot write {path}: No space left on device.")

    with world.opened(migration) as context, monkeypatch.context() as patch:
        patch.setattr(pre_images_step, "write_atomically", full)
        with pytest.raises(StagingError, match="No space left"):
            migrate_range(context, context.manifest.ranges[0].key)
    assert dump(world.b) == before
    world.run(migration)
    rolled_back(world, migration)
    assert dump(world.b) == before


def test_without_a_manifest_or_with_the_collection_gone_nothing_is_done(world: World) -> None:
    world.fill_target(records(["theirs"], start=70))
    with pytest.raises(ManifestError, match="no manifest yet"):
        rolled_back(world)
    world.fill(records(numbered(4)))
    migration = world.migration(conflict="fail")
    world.run(migration)
    world.b.drop("docs")
    with pytest.raises(ManifestError, match="is gone: there is nothing to roll back"):
        rolled_back(world, migration)
    assert rolled_back(world, migration, force=True) == RollbackReport()
    assert states(world) == []


@pytest.mark.parametrize("budget", [0, 1])
def test_a_record_that_was_set_aside_is_not_ours_when_others_write_it(world: World, budget: int) -> None:
    world.fill_target(records(["theirs"], start=70))
    before = dump(world.b)
    world.fill(records(numbered(4)))
    world.fill(records(["r001"], start=1, poison=True))
    migration = world.poisoned(conflict="fail", max_rejected=budget)
    for _ in range(2):
        try:
            world.run(migration)
        except RecordRejectedError:
            assert not budget
    world.fill_target(records(["r001"], start=80))
    assert rolled_back(world, migration).deleted == 3
    assert world.b.fetch("docs", ["r001"]).payloads == [{"n": 80}]
    world.b.delete("docs", ["r001"])
    assert dump(world.b) == before


def test_what_an_earlier_generation_wrote_is_never_taken_for_a_record_of_others(world: World) -> None:
    world.fill(records(numbered(5)))
    migration = world.poisoned(max_rejected=1)
    world.run(migration)
    world.fill(records(["r002"], start=2, poison=True))  # its old form stays in the target
    world.fill(records(["r005"], start=5))
    world.run(migration)
    world.fill(records(["r006"], start=6))
    with world.opened(migration) as context:  # a third generation: the target is not empty, and all of it is ours
        assert (context.manifest.generation, context.manifest.known_count) == (2, 0)
    assert rolled_back(world, migration).dropped


def test_a_range_whose_receipt_was_withdrawn_is_still_ours(world: World) -> None:
    world.fill_target(records(["theirs"], start=70))
    before = dump(world.b)
    world.fill(records(numbered(9)))
    migration = world.migration(conflict="fail")
    world.run(migration)
    world.b.delete("docs", ["r001"])
    with world.opened(migration) as context, pytest.raises(ValidationError, match="1 missing"):
        prove_collection(context)
    assert rolled_back(world, migration).deleted == 8
    assert dump(world.b) == before


def test_a_line_of_the_journal_that_a_full_disk_cut_off_stops_neither_the_next_run_nor_the_rollback(
    world: World,
) -> None:
    world.fill(records(numbered(6)))
    migration = world.poisoned()
    world.fill(records(["r002"], start=2, poison=True))
    with pytest.raises(RecordRejectedError):
        world.run(migration)
    (journal,) = world.state(migration).journals.glob("*/*.jsonl")
    with journal.open("ab") as file:
        file.write(b'["string:r00')
    world.fill(records(["r002"], start=2))
    assert world.run(migration)[1].is_proven
    assert rolled_back(world, migration).dropped
