"""A target that is not empty needs a policy, which is kept; one that vanished or became another is refused.

Belongs here: what lies in the target before the first write, and in between. Does not belong here: the cut of the
source (``test_manifest.py``).
"""

from dataclasses import replace

import pytest

from rag_migration_pipeline.errors import ConflictError, ManifestError, SchemaCompatibilityError
from rag_migration_pipeline.events import RecordsSkipped
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline_tests.steps.support import World, files_of, numbered, records


def test_a_target_that_is_not_empty_needs_a_policy(world: World) -> None:
    world.fill(records(numbered(5)))
    world.fill_target(records(["theirs"]))
    before = world.dump()
    with pytest.raises(ConflictError, match="not empty: it holds 1 records") as caught, world.opened():
        pass
    assert "overwrite, skip or fail" in caught.value.todo
    assert world.dump() == before
    assert files_of(world) == {}


def test_an_empty_target_needs_no_policy(world: World) -> None:
    world.fill(records(numbered(5)))
    world.fill_target(records([]))
    assert world.run()[1].is_proven
    with world.opened() as context:
        assert context.manifest.target_existed


def test_overwrite_replaces_and_leaves_the_others(world: World) -> None:
    world.fill(records(numbered(5)))
    world.fill_target(records(["r001", "theirs"], start=900, old=True))
    _, report = world.run(world.migration(conflict="overwrite"))
    assert report.is_proven
    assert (report.written, report.skipped, report.target_count) == (5, 0, 6)
    assert world.b.fetch("docs", ["r001", "theirs"]).payloads == [{"n": 1}, {"n": 901, "old": True}]


def test_skip_keeps_and_counts_what_was_there(world: World) -> None:
    world.fill(records(numbered(9)))
    world.fill_target(records(["r001", "theirs", "r008"], start=900))
    receipts, report = world.run(world.migration(conflict="skip"))
    assert report.is_proven
    assert (report.planned, report.written, report.skipped, report.target_count) == (9, 7, 2, 10)
    assert [receipt.counts["skipped"] for receipt in receipts] == [1, 0, 1]
    assert [e.ids for e in world.events if isinstance(e, RecordsSkipped)] == [("r001",), ("r008",)]
    assert world.b.fetch("docs", ["r001", "r008", "r002"]).payloads == [{"n": 900}, {"n": 902}, {"n": 2}]


def test_fail_stops_before_the_first_write(world: World) -> None:
    world.fill(records(numbered(9)))
    world.fill_target(records(["r001", "theirs", "r008"], start=900))
    before = world.dump()
    with pytest.raises(ConflictError, match="string:r001, string:r008") as caught:
        world.run(world.migration(conflict="fail"))
    assert "2 ids" in str(caught.value)
    assert world.dump() == before


@pytest.mark.parametrize("policy", [None, "overwrite", "skip", "fail"])
def test_a_resumed_run_does_not_trip_over_its_own_writes(world: World, policy: str | None) -> None:
    world.fill(records(numbered(9)))
    if policy is not None:
        world.fill_target(records(["theirs"]))
    migration = world.migration(conflict=policy)
    with world.opened(migration) as context:
        keys = [entry.key for entry in context.manifest.ranges]
        migrate_range(context, keys[0])
        migrate_range(context, keys[1])
        context.state.receipt(keys[1]).unlink()  # as if killed between the writes and the receipt
    receipts, report = world.run(migration)
    assert report.is_proven
    assert (report.written, report.skipped) == (9, 0)
    assert [receipt.counts["written"] for receipt in receipts] == [4, 1]


def test_the_target_is_made_as_the_source_is(world: World) -> None:
    world.fill(records(numbered(2)))
    world.run()
    assert world.b.spec("docs").vectors == world.a.spec("docs").vectors


def test_a_target_that_vanished_is_not_made_again_behind_the_users_back(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened() as context:
        migrate_range(context, context.manifest.ranges[0].key)
    world.b.drop("docs")
    with pytest.raises(ManifestError, match=r"vanished.*1 of 3 ranges"), world.opened():
        pass
    assert world.b.list_collections() == []


def test_a_target_that_became_another_collection_is_refused(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened():
        pass
    world.b.drop("docs")
    world.b.create(replace(world.a.spec("docs"), vectors=(replace(world.a.spec("docs").vectors[0], dimension=5),)))
    with pytest.raises(SchemaCompatibilityError, match="not what was planned"), world.opened():
        pass
