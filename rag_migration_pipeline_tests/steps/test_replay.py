"""A repaired record is loaded and booked; what fails stays with its new reason; nothing is doubled or forgotten."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rag_migration_pipeline.errors import ManifestError, RecordRejectedError, SpecError, StagingError, ValidationError
from rag_migration_pipeline.quarantine import read_quarantine, read_quarantine_if_any
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps import replay as replay_step
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.replay import ReplayReport, replay
from rag_migration_pipeline.stores.memory import MemorySettings
from rag_migration_pipeline_tests.steps.support import PoisonedSettings, World, dump, numbered, records

Change = Callable[[pd.DataFrame], Any]


def poison(world: World, *ids: str) -> None:
    for record_id in ids:
        world.fill(records([record_id], start=int(record_id[1:]), poison=True))


def files(world: World) -> list[Path]:
    return sorted(world.state_dir.rglob("quarantine/*/*.arrow"))


def repair(path: Path, change: Change) -> Path:
    """Repair a file in place, as a user does with pandas."""
    frame = pd.read_feather(path)
    change(frame)
    frame.to_feather(path)
    return path


def cure(frame: pd.DataFrame) -> None:
    frame["payload"] = frame["payload"].str.replace('"poison":true', '"repaired":true')


def replayed(world: World, migration: Migration, path: Path) -> ReplayReport:
    with world.opened(migration, plan=False) as context:
        return replay(context, path)


def passed(world: World, *poisoned: str, count: int = 9, **options: Any) -> Migration:
    """Run a migration that sets these records aside within its budget."""
    world.fill(records(numbered(count)))
    poison(world, *poisoned)
    migration = world.poisoned(max_rejected=len(poisoned), **options)
    world.run(migration)
    return migration


def test_after_the_repair_the_target_is_complete_and_the_whole_is_proven_without_rejections(world: World) -> None:
    migration = passed(world, "r001", "r005")
    for path in files(world):
        report = replayed(world, migration, repair(path, cure))
        assert (report.loaded, report.rejections, report.unproven) == (1, (), ())
    assert files(world) == []
    receipts, report = world.run(world.poisoned())  # the budget is 0 again
    assert receipts == [], "no range was loaded again"
    assert (report.written, report.rejected, report.is_proven) == (9, 0, True)
    expected = dump(world.a)["docs"][1]
    for row in (1, 5):
        name, payload, text, vector = expected[row]
        expected[row] = (name, payload.replace("poison", "repaired"), text, vector)
    assert dump(world.b)["docs"][1] == expected


def test_a_range_that_failed_is_loaded_with_the_repaired_record_in_the_place_of_the_sources(world: World) -> None:
    world.fill(records(numbered(9)))
    poison(world, "r005")
    with pytest.raises(RecordRejectedError):
        world.run(world.poisoned())
    (path,) = files(world)
    report = replayed(world, world.poisoned(), repair(path, cure))
    assert (report.loaded, len(report.unproven)) == (1, 1)
    assert world.b.fetch("docs", ["r005"]).payloads == [{"n": 5, "repaired": True}]
    receipts, whole = world.run(world.poisoned())
    assert [set(receipt.ids) for receipt in receipts] == [set(numbered(4, 4)), {"r008"}]
    assert (whole.written, whole.rejected, whole.is_proven) == (9, 0, True)
    assert world.b.fetch("docs", ["r005"]).payloads == [{"n": 5, "repaired": True}]


def test_a_repaired_record_survives_when_its_range_is_loaded_again(world: World) -> None:
    migration = passed(world, "r005")
    replayed(world, migration, repair(files(world)[0], cure))
    once = dump(world.b)
    with world.opened(migration) as context:
        migrate_range(context, context.manifest.ranges[1].key)
    assert dump(world.b) == once
    assert world.run(world.poisoned())[1].is_proven


def test_a_new_generation_takes_the_repairs_of_records_that_the_source_still_has(world: World) -> None:
    migration = passed(world, "r001", "r005", "r008")
    for path in files(world):
        replayed(world, migration, repair(path, cure))
    assert world.run(world.poisoned())[1].is_proven
    world.a.delete("docs", ["r000", "r008"])  # the ranges are cut elsewhere now, and one repair has lost its record
    world.fill(records(["r0035", "r009"], start=90))
    receipts, report = world.run(world.poisoned())
    assert sum(map(len, receipts)) == 9
    assert (report.rejected, report.is_proven, report.left_over) == (0, True, 2)
    assert files(world) == []
    for number in (1, 5):
        assert world.b.fetch("docs", [f"r00{number}"]).payloads == [{"n": number, "repaired": True}]


def test_what_still_fails_stays_in_the_file_with_the_new_reason(world: World) -> None:
    migration = passed(world, "r004", "r005", "r006", "r007")

    def change(frame: pd.DataFrame) -> None:
        frame.loc[frame["id"] == "string:r004", "payload"] = '{"n": 4}'
        frame.loc[frame["id"] == "string:r005", "payload"] = "{oops"
        frame.loc[frame["id"] == "string:r006", "reason"] = "not changed"

    report = replayed(world, migration, repair(files(world)[0], change))
    assert report.loaded == 1
    found = {r.record_id: r for r in read_quarantine(files(world)[0]).rejections}
    assert {name: (r.stage, r.error) for name, r in found.items()} == {
        "r005": ("replay", "ValueError"),
        "r006": ("load", "StoreRequestError"),
        "r007": ("load", "StoreRequestError"),
    }
    assert "column 'payload'" in found["r005"].reason
    assert found["r006"].reason == "one of 1 records is refused."
    assert sorted(r.record_id for r in report.rejections) == ["r005", "r006", "r007"]  # type: ignore[type-var]
    _, whole = world.run(migration)
    assert (whole.written, whole.rejected, whole.is_proven) == (6, 3, True)
    replayed(world, migration, repair(files(world)[0], lambda f: f.__setitem__("payload", '{"n": 0}')))
    assert world.run(world.poisoned())[1].written == 9


def test_a_copy_elsewhere_with_rows_of_several_ranges_is_taken_and_left_as_it_is(world: World, tmp_path: Path) -> None:
    migration = passed(world, "r001", "r005", "r006")
    frame = pd.concat([pd.read_feather(path) for path in files(world)], ignore_index=True)
    cure(frame)
    frame = frame[frame["id"] != "string:r006"].reset_index(drop=True)
    copy = tmp_path / "repaired.arrow"
    frame.to_feather(copy)
    before = copy.read_bytes()
    assert replayed(world, migration, copy).loaded == 2
    assert copy.read_bytes() == before
    (left,) = files(world)
    assert read_quarantine(left).records.ids == ["r006"]
    assert world.run(migration)[1].rejected == 1


def test_a_replay_may_be_repeated(world: World, tmp_path: Path) -> None:
    migration = passed(world, "r005")
    copy = tmp_path / "repaired.arrow"
    shutil.copy(files(world)[0], copy)
    repair(copy, cure)
    for _ in range(3):
        assert replayed(world, migration, copy).loaded == 1
    _, report = world.run(world.poisoned())
    assert (report.written, report.rejected, report.target_count, report.is_proven) == (9, 0, 9, True)


POINTS = ("write", "write_quarantine", "write_receipt")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("occurrence", [1, 2])
def test_a_replay_that_ends_anywhere_is_finished_by_repeating_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, occurrence: int
) -> None:
    migration = passed(world, "r004", "r006")
    copy = tmp_path / "repaired.arrow"
    shutil.copy(files(world)[0], copy)
    repair(copy, cure)
    repair(copy, lambda frame: frame.__setitem__("id", frame["id"].replace("string:r006", "string:new")))
    calls = {"n": 0}

    class Killed(BaseException):
        pass

    owner: Any = replay_step.RangeWriter if point == "write" else replay_step
    real = getattr(owner, point)

    def die(*args: Any) -> Any:
        done = real(*args)
        calls["n"] += 1
        if calls["n"] == occurrence:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(owner, point, die)
        try:
            replayed(world, migration, copy)
        except Killed:
            assert calls["n"] == occurrence
    assert replayed(world, migration, copy).loaded == 2
    receipts, report = world.run(world.poisoned())
    assert receipts == []
    assert (report.written, report.rejected, report.target_count, report.is_proven) == (9, 0, 9, True)
    assert sorted(i for page in world.b.iter_ids("docs") for i in page) == sorted(  # type: ignore[type-var]
        [*(set(numbered(9)) - {"r006"}), "new"]  # type: ignore[type-var]
    )


def test_a_changed_id_is_checked_against_everything_that_is_planned_or_repaired(world: World) -> None:
    migration = passed(world, "r001", "r002", "r005")

    def change(frame: pd.DataFrame) -> None:
        cure(frame)
        frame["id"] = frame["id"].replace({"string:r001": "string:r008", "string:r002": "string:fresh"})

    first, second = files(world)
    report = replayed(world, migration, repair(first, change))
    assert report.loaded == 1
    assert [(r.record_id, r.reason) for r in report.rejections] == [
        ("r001", "the id 'string:r008' in the target is that of 'string:r008'")
    ]
    again = repair(second, lambda f: (cure(f), f.__setitem__("id", "string:fresh")))
    (rejection,) = replayed(world, migration, again).rejections
    assert rejection.reason == "the id 'string:fresh' in the target is that of 'string:r002'"
    _, whole = world.run(migration)
    assert (whole.written, whole.rejected, whole.is_proven) == (7, 2, True)
    replayed(world, migration, repair(second, lambda f: f.__setitem__("id", "int:5")))
    assert world.b.fetch("docs", [5]).payloads == [{"n": 5, "repaired": True}]
    assert world.run(migration)[1].rejected == 1


def test_two_rows_with_one_id_are_told_apart(world: World) -> None:
    migration = passed(world, "r001", "r002")
    report = replayed(
        world, migration, repair(files(world)[0], lambda f: (cure(f), f.__setitem__("id", "string:same")))
    )
    assert report.loaded == 1
    assert [r.reason for r in report.rejections] == ["row 0 has the same id 'string:same'"]
    assert world.run(migration)[1].rejected == 1


@pytest.mark.parametrize("policy", ["overwrite", "skip"])
def test_an_id_that_others_have_in_the_target_follows_the_conflict_policy(world: World, policy: str) -> None:
    world.fill_target(records(["theirs"], start=50))
    migration = passed(world, "r001", conflict=policy)
    path = repair(files(world)[0], lambda f: (cure(f), f.__setitem__("id", "string:theirs")))
    report = replayed(world, migration, path)
    assert report.loaded == (policy == "overwrite")
    (payload,) = world.b.fetch("docs", ["theirs"]).payloads
    if policy == "skip":
        assert "the conflict policy is skip" in report.rejections[0].reason
        assert payload == {"n": 50}
    else:
        assert payload == {"n": 1, "repaired": True}
    assert world.run(migration)[1].is_proven


def test_a_repaired_record_that_the_filter_does_not_take_stays_aside(world: World) -> None:
    migration = passed(world, "r001", filter={"n": {"$lt": 5}})
    change = repair(files(world)[0], lambda f: f.__setitem__("payload", '{"n": 7}'))
    (rejection,) = replayed(world, migration, change).rejections
    assert "filter" in rejection.reason
    replayed(world, migration, repair(files(world)[0], lambda f: f.__setitem__("payload", '{"n": 2}')))
    assert world.run(migration)[1].rejected == 0


def test_a_file_of_another_migration_or_of_records_that_were_never_set_aside_is_refused(world: World) -> None:
    migration = passed(world, "r001")
    (path,) = files(world)
    for column, value, said in (
        ("range", "abcdef_000000", "not of this plan"),
        ("source_id", "string:r003", "1 records were not set aside .*string:r003"),
    ):
        copy = path.with_name("copy")
        shutil.copy(path, copy)
        frame = pd.read_feather(copy)
        frame[column] = value
        frame.to_feather(copy)
        with pytest.raises(ManifestError, match=said):
            replayed(world, migration, copy)
    frame = pd.read_feather(path)
    pd.concat([frame, frame], ignore_index=True).to_feather(path.with_name("twice"))
    with pytest.raises(SpecError, match="come twice: string:r001"):
        replayed(world, migration, path.with_name("twice"))
    frame.drop(columns=["dense:"]).to_feather(path.with_name("thin"))
    with pytest.raises(StagingError, match="lacks the columns 'dense:'"):
        replayed(world, migration, path.with_name("thin"))
    assert world.run(migration)[1].rejected == 1


def test_a_target_that_holds_something_else_afterwards_is_told_and_nothing_is_booked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration = passed(world, "r005")
    path = repair(files(world)[0], cure)
    with world.opened(migration, plan=False) as context:
        real = type(context.target).upsert

        def losing(self: Any, collection: str, batch: Any) -> Any:
            result = real(self, collection, batch)
            world.b.delete("docs", batch.ids)
            return result

        with monkeypatch.context() as patch:
            patch.setattr(type(context.target), "upsert", losing)
            with pytest.raises(ValidationError, match="1 missing"):
                replay(context, path)
        key = context.manifest.ranges[1].key
        assert read_receipt(context.state.receipt(key)).counts["rejected"] == 1
        assert read_quarantine_if_any(context.state.repairs(key)) is None
    assert len(read_quarantine(path)) == 1


MAPPING = {"transforms": {"n": "int"}, "on_error": "quarantine"}


def test_a_record_that_the_mapping_could_not_change_is_replayed_through_the_mapping(world: World) -> None:
    world.fill(records(numbered(4)))
    for record_id in ("r001", "r002"):
        world.fill(records([record_id]).with_columns(payloads=[{"n": "many"}]))
    migration = world.migration(mapping=MAPPING, max_rejected=2)
    _, report = world.run(migration)
    assert (report.written, report.rejected) == (2, 2)
    found = read_quarantine(files(world)[0])
    assert {(r.stage, r.record_id) for r in found.rejections} == {("transform", "r001"), ("transform", "r002")}
    assert found.target_ids == [None, None]
    assert found.records.payloads == [{"n": "many"}] * 2, "as it was read, before the mapping"

    path = repair(files(world)[0], lambda f: f.__setitem__("payload", ['{"n": "7"}', '{"n": "still"}']))
    (rejection,) = replayed(world, migration, path).rejections
    assert (rejection.record_id, rejection.stage) == ("r002", "transform")
    assert world.b.fetch("docs", ["r001"]).payloads == [{"n": 7}]
    replayed(world, migration, repair(path, lambda f: f.__setitem__("payload", '{"n": 8}')))
    _, report = world.run(world.migration(mapping=MAPPING))
    assert (report.written, report.rejected, report.is_proven) == (4, 0, True)


def test_a_repair_that_a_strict_mapping_refuses_stays_aside_and_the_others_are_loaded(world: World) -> None:
    world.fill(records(numbered(4)))
    poison(world, "r001", "r002")
    mapping = {"transforms": {"n": "int"}, "on_error": "fail"}
    migration = world.poisoned(mapping=mapping, max_rejected=2)
    world.run(migration)
    path = repair(files(world)[0], lambda f: f.__setitem__("payload", ['{"n": "many"}', '{"n": "2"}']))
    report = replayed(world, migration, path)
    assert report.loaded == 1
    assert [(r.record_id, r.stage) for r in report.rejections] == [("r001", "transform")]
    assert world.run(migration)[1].rejected == 1


def test_a_repaired_record_that_is_set_aside_again_keeps_the_name_that_the_source_gave_it(world: World) -> None:
    migration = passed(world, "r005")
    path = repair(files(world)[0], lambda f: (cure(f), f.__setitem__("id", "string:fresh")))
    replayed(world, migration, path)
    assert isinstance(world.target, MemorySettings)
    stricter = PoisonedSettings(world.target.name, lambda batch: [i for i in batch.ids if i == "fresh"])
    with world.opened(replace(migration, target=stricter)) as context:
        migrate_range(context, context.manifest.ranges[1].key)
    found = read_quarantine(path)
    assert ([r.record_id for r in found.rejections], found.records.ids) == (["r005"], ["fresh"])
    assert replayed(world, migration, path).loaded == 1
    assert world.run(world.poisoned())[1].is_proven
