"""Syncs in memory, step by step and cut short: what the tests of syncing share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from rag_migration_pipeline.errors import (
    SourceChangedError,
    StoreUnavailableError,
)
from rag_migration_pipeline.options import Detect
from rag_migration_pipeline.records import RecordBatch, RecordId
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.changes import Changes, detect_by_watermark, detect_changes
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.leaving_out import without_gone
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import Report, prove_collection
from rag_migration_pipeline.steps.syncing import plan_changes
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline_tests.steps.support import World, dump, numbered, records, with_faults


def detected(context: MigrationContext) -> Changes:
    options = context.migration.options
    if options.detect is not Detect.WATERMARK:
        return detect_changes(context, options.detect)
    assert options.watermark is not None
    return detect_by_watermark(context, options.watermark, 0)[0]


def sync(world: World, migration: Migration) -> tuple[Changes, int, Report]:
    """Bring the target up to date; return what changed, how many records were carried, and the proof."""
    with world.opened(migration, plan=False) as context:
        changes = detected(context)
        if changes.count:
            plan_changes(context, changes)
    with world.opened(migration, plan=False) as context:
        carried, only = run_pending(context)
        return changes, carried, prove_collection(context, only)


def run_pending(context: MigrationContext) -> tuple[int, list[str]]:
    done = set(proven_keys(context.state, context.manifest))
    keys = [entry.key for entry in context.manifest.ranges if entry.key not in done]
    written: list[int] = []
    inner = context.target.upsert

    def counting(collection: str, batch: RecordBatch) -> Any:
        written.append(len(batch))
        return inner(collection, batch)

    context.target.upsert = counting  # type: ignore[method-assign]  # the context is frozen, its store is not
    for key in keys:
        migrate_range(context, key)
    return sum(written), keys


def start(world: World, migration: Migration, count: int = 11) -> None:
    world.fill(records(numbered(count)))
    assert world.run(migration)[1].is_proven


def contents(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return source and target, by id."""
    found = [dump(store)["docs"][1] for store in (world.a, world.b)]
    first, second = ({row[0]: row[1:] for row in rows} for rows in found)
    return first, second


def numbers(world: World) -> dict[RecordId, int]:
    """Return the number of each record of the target."""
    pages = world.b.scan("docs")
    return {i: payload["n"] for page in pages for i, payload in zip(page.ids, page.payloads, strict=True)}


@contextmanager
def breaking(world: World, migration: Migration, after: int) -> Iterator[MigrationContext]:
    """Open the migration with a target that fails from its n-th operation on."""
    left = iter(range(after))

    def fault(_store: VectorStore, operation: str) -> None:
        if operation not in ("spec", "describe", "list_collections") and next(left, None) is None:
            raise StoreUnavailableError("away")

    with world.opened(replace(migration, target=with_faults(world.target, fault)), plan=False) as context:
        yield context


class StoppedError(BaseException):
    """Stands for a kill: nothing of ours catches it."""


@contextmanager
def stopping(after: int) -> Iterator[None]:
    """Let nothing be stored from the n-th file on."""
    left, replace_file = iter(range(after)), os.replace

    def stop_or_replace(*paths: Any) -> None:
        if next(left, None) is None:
            raise StoppedError
        replace_file(*paths)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", stop_or_replace)
        yield


def plan(world: World, migration: Migration) -> None:
    with world.opened(migration, plan=False) as context:
        changes = detect_changes(context, context.migration.options.detect)
        if changes.count:
            plan_changes(context, changes)


def unfinished(world: World, migration: Migration) -> set[str] | None:
    """Return the ranges that are not proven, or None where all are."""
    with world.opened(migration, plan=False) as context:
        keys = {entry.key for entry in context.manifest.ranges} - {*proven_keys(context.state, context.manifest)}
    return keys or None


def follow(world: World, migration: Migration) -> Report:
    """Finish what is planned, as often as the source loses records of it, then sync and prove."""
    for _ in range(20):
        with world.opened(migration, plan=False) as found:
            context = without_gone(found)
            try:
                _, only = run_pending(context)
            except SourceChangedError:
                continue
            report = prove_collection(context, only)
            changes = detect_changes(context, context.migration.options.detect)
            if not changes.count:
                return report
            plan_changes(context, changes)
    raise AssertionError("it never ends")
