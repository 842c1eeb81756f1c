"""Random stories: a source that changes under runs that are cut short anywhere; the end is always right and proven."""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline.errors import SourceChangedError, StoreUnavailableError
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.changes import detect_changes
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.leaving_out import without_gone
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.range import RangeOptions, migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.steps.syncing import plan_changes
from rag_migration_pipeline_tests.steps.support import World, end_world, new_world, numbered, records
from rag_migration_pipeline_tests.steps.syncs import StoppedError, breaking, contents, follow, stopping

STORIES = 15
"""Stories of each kind at scale 1."""

TAKEN_FROM = 200
"""The filter, where there is one, takes records whose number is at least that."""

KINDS = {
    "plain": {},
    "filter": {"filter": {"n": {"$gte": TAKEN_FROM}}},
    "others": {"conflict": "overwrite"},
    "poison": {"max_rejected": 50},
    "failing batches": {},
}


class Story:
    """One story, told by its seed.

    Attributes:
        log: What happened, for whoever has to find out why the end is wrong.
    """

    def __init__(self, world: World, kind: str, seed: int) -> None:
        self.world = world
        self.kind = kind
        self.random = random.Random(seed)
        deletes = self.random.choice(["mirror", "mirror", "tombstone", "keep"])
        options: dict[str, Any] = {"deletes": deletes, "max_deletes": 1.0, **KINDS[kind]}
        make: Callable[..., Migration] = world.poisoned if kind == "poison" else world.migration
        self.migration = make(**options)
        self.mirrors = deletes == "mirror" and kind != "poison"  # what was set aside later stays as it was written
        self.log: list[Any] = [deletes]
        self._present: list[str] = numbered(11)
        self._gone: list[str] = []
        self._next = 100

    def change_source(self) -> None:
        """Delete, change, bring back and add some records."""
        for _ in range(self.random.randint(0, 3)):
            what = self.random.choices(["delete", "change", "bring back", "add"], [35, 35, 10, 20])[0]
            if what == "delete" and self._present:
                record_id = self.random.choice(self._present)
                self.world.a.delete("docs", [record_id])
                self._present.remove(record_id)
                self._gone.append(record_id)
            elif what == "change" and self._present:
                record_id = self.random.choice(self._present)
                self._fill(record_id, poisoned=self.kind == "poison" and self.random.random() < 0.3)
            elif what == "bring back" and self._gone:
                record_id = self._gone.pop(self.random.randrange(len(self._gone)))
                self._fill(record_id)
                self._present.append(record_id)
            else:
                record_id, self._next = f"r{self._next}", self._next + 1
                self._fill(record_id)
                self._present.append(record_id)
            self.log.append((what, record_id))

    def _fill(self, record_id: str, *, poisoned: bool = False) -> None:
        more = {"poison": 1} if poisoned else {}
        self.world.fill(records([record_id], start=self.random.randint(0, 900), **more))

    def run(self, opened: MigrationContext) -> None:
        """Go on as a run does: without what is gone, range by range, then the proof and the next plan."""
        context = without_gone(opened)
        self.log.append(("generation", context.manifest.generation))
        left = [e.key for e in context.manifest.ranges if e.key not in proven_keys(context.state, context.manifest)]
        for key in left:
            if self.random.random() < 0.3:
                self.change_source()
            fails = self.kind == "failing batches" and self.random.random() < 0.5
            with suppress(SourceChangedError, StoreUnavailableError):
                migrate_range(context, key, RangeOptions(on_failure=(lambda _batch: None) if fails else None))
        if len(proven_keys(context.state, context.manifest)) == len(context.manifest.ranges):
            prove_collection(context, left)
            if (changes := detect_changes(context, self.migration.options.detect)).count:
                plan_changes(context, changes)

    def tell(self) -> None:
        """Run several times, most of them cut short: by a kill at a file, or by a target that goes away."""
        with self.world.opened(self.migration):
            pass
        for _ in range(self.random.randint(2, 7)):
            self.change_source()
            how = self.random.choice(["kill", "target away", "whole"])
            after = self.random.randint(0, 20)
            self.log.append((how, after))
            with suppress(StoppedError, StoreUnavailableError, SourceChangedError):
                if how == "kill":
                    with stopping(after), self.world.opened(self.migration, plan=False) as context:
                        self.run(context)
                elif how == "target away" and self.kind != "poison":
                    with breaking(self.world, self.migration, after) as context:
                        self.run(context)
                else:
                    with self.world.opened(self.migration, plan=False) as context:
                        self.run(context)

    def expected(self) -> dict[str, Any]:
        """Return what the target is to hold of the source, by id."""
        source = contents(self.world)[0]
        found = self.world.a.fetch("docs", self._present)
        payloads = dict(zip(map(repr, found.ids), found.payloads, strict=True))
        taken = {i: p["n"] >= TAKEN_FROM if self.kind == "filter" else "poison" not in p for i, p in payloads.items()}
        return {i: row for i, row in source.items() if taken[i]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_story_ends_well(tmp_path: Path, kind: str, scale: float) -> None:
    for seed in range(round(STORIES * scale)):
        world = new_world(tmp_path / str(seed))
        world.fill(records(numbered(11)))
        others = records(["theirs"], start=700) if kind == "others" else None
        if others is not None:
            world.fill_target(others)
        story = Story(world, kind, seed)
        story.tell()
        report = follow(world, story.migration)
        assert report.is_proven, (seed, story.log)
        expected, target = story.expected(), contents(world)[1]
        assert {i: target.get(i) for i in expected} == expected, (seed, story.log)
        extra = target.keys() - expected.keys() - ({"'theirs'"} if others is not None else set())
        assert not (story.mirrors and extra), (seed, story.log)
        if others is not None:
            assert world.b.fetch("docs", ["theirs"]).payloads == others.payloads, (seed, story.log)
        end_world(world)
