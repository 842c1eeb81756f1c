"""Watching a source: a cheap look for changes in the sensor's tick, and a run that covers exactly them.

Belongs here: what is looked at in a tick, and what is asked for. Does not belong here: finding out what changed in
which range (``steps/changes.py``, in a run of its own), the schedule (`automation`).

A tick has 60 seconds and reads no vector. Each request has a run key made of the plan, its generation and what was
seen, so that the same change never launches twice; a proven sync makes a new generation or takes the change for known.

    count      the number of records, against that of the last proof
    watermark  how many records have a larger value than the last sync noted; and their number, as above
    ids        all ids, against those of the manifest; of more than `MOST_IDS`, what runs of ``<m>__detect`` found
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import dagster as dg
import orjson
from dagster._core.storage.tags import RUN_KEY_TAG

from rag_migration_pipeline.automation_options import Watch, WatchBy
from rag_migration_pipeline.digests import digest_ids
from rag_migration_pipeline.errors import StoreLockedError
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.orchestration.automation import migration_of
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.detected import read_detected
from rag_migration_pipeline.orchestration.words import MIGRATION_TAG
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.records import id_text
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.state_files import read_facts
from rag_migration_pipeline.steps.leaving_out import gone_digest
from rag_migration_pipeline.steps.listing import list_selected
from rag_migration_pipeline.steps.manifest import Manifest, open_manifest
from rag_migration_pipeline.steps.planning import has_the_same_ids, is_finished
from rag_migration_pipeline.steps.watching import noted_watermark
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.narrowing import query_of

MOST_IDS = 200_000
"""Records whose ids a tick lists: twice, which takes a server about ten seconds."""

_MOST_RUNS = 500  # unfinished ones that are looked through
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Seen:
    """What a look found.

    Attributes:
        what: What was seen, in a few words; part of the run key.
        is_changed: Whether it is other than at the last proof.
    """

    what: str
    is_changed: bool


def build_watches(declaration: MigrationDeclaration) -> list[dg.SensorDefinition]:
    """Return the sensors of a migration that is watched, if it is: one for syncs, by ids one more for detections."""
    watch = declaration.options.watch
    if watch is None:
        return []
    said = f"Looks at the source by {watch.by.value}, and syncs when it changed."
    sensors = [_sensor(declaration, watch, "changes", "sync", said, _changes)]
    if watch.by is WatchBy.IDS:
        said = f"Where the source has more than {MOST_IDS:,} records, runs what finds out which ids came and went."
        sensors.append(_sensor(declaration, watch, "detection", "detect", said, _detection))
    return sensors


Answer = dg.RunRequest | dg.SkipReason


def _sensor(
    declaration: MigrationDeclaration,
    watch: Watch,
    name: str,
    job: str,
    description: str,
    answer: Callable[["Look"], Answer],
) -> dg.SensorDefinition:
    # By name: a sensor of several jobs makes Dagster 1.13.27 warn of its own beta arguments.
    @dg.sensor(
        name=f"{declaration.name}__{name}",
        job_name=f"{declaration.name}__{job}",
        minimum_interval_seconds=watch.every_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys=declaration.resource_keys,
        description=description,
    )
    def tick(context: dg.SensorEvaluationContext) -> Answer:
        migration = declaration.migration(context.resources)
        return answer(Look(context, declaration, watch, migration, declaration.state_folder(context.resources)))

    return tick


@dataclass(frozen=True)
class Look:
    """One tick."""

    context: dg.SensorEvaluationContext
    declaration: MigrationDeclaration
    watch: Watch
    migration: Migration
    state: StateFolder

    @cached_property
    def manifest(self) -> Manifest:
        """What the migration planned last."""
        return open_manifest(self.state, self.migration)

    @cached_property
    def source(self) -> VectorStore:
        """The source, read-only; Dagster closes the resource with the tick."""
        store: VectorStore = getattr(self.context.resources, self.declaration.source).open_source()
        store.begin_reading()
        return store

    def running(self) -> dg.SkipReason | None:
        """Say which run of the migration goes on, if one does."""
        for run in self.context.instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED), limit=_MOST_RUNS):
            if migration_of(run) == self.declaration.name:
                return dg.SkipReason(f"run {run.run_id[:8]} of {run.job_name} goes on")
        return None

    def unfinished(self) -> dg.SkipReason | None:
        """Say that the last run left something, if it did."""
        if self.state.manifest.exists() and not is_finished(self.state, self.manifest):
            todo = f"launch {self.declaration.name}__retry_failed, or wait for the schedule"
            return dg.SkipReason(f"the last run left ranges that are not proven: {todo}")
        return None

    def request(self, what: str) -> dg.RunRequest:
        """Ask for a run of the sensor's job; never twice for the same of one manifest."""
        place = f"{self.manifest.plan_digest}:{self.manifest.generation}" if self.state.manifest.exists() else "first"
        return dg.RunRequest(
            run_key=f"{self.declaration.name}:{self.migration.identity[:8]}:{place}:{what}",
            tags={MIGRATION_TAG: self.declaration.name},
        )

    def was_launched(self, request: dg.RunRequest) -> bool:
        """Return whether a run was launched for this request already, whatever became of it."""
        found = dg.RunsFilter(tags={RUN_KEY_TAG: request.run_key or ""})
        return bool(self.context.instance.get_run_records(found, limit=1))


def _changes(look: Look) -> Answer:
    """Look once, and return the sync that is to be launched, or why none is."""
    if (reason := look.running()) is not None:
        return reason
    if (reason := look.unfinished()) is not None:
        lost = gone_digest(look.state)  # what the source lost in the middle of a run: another run goes on without it
        without = look.request(f"without {lost}")
        return without if lost and not look.was_launched(without) else reason
    if not look.state.manifest.exists():
        return look.request("")
    try:
        seen = _LOOKS[look.watch.by](look)
    except StoreLockedError as error:  # an embedded store that somebody writes
        return dg.SkipReason(error.what)
    look.context.update_cursor(orjson.dumps({"seen": seen.what, "at": round(time.time(), 3)}).decode())
    return look.request(seen.what) if seen.is_changed else dg.SkipReason(f"nothing changed: {seen.what}")


def _detection(look: Look) -> Answer:
    """Return the detection that is to be launched: one per interval, until something is found."""
    if (reason := look.running() or look.unfinished()) is not None:
        return reason
    if not look.state.manifest.exists() or look.manifest.count <= MOST_IDS:
        return dg.SkipReason("the ids are few enough to be listed in a tick")
    found = read_detected(look.state, look.manifest)
    if found is not None and found.count:
        return dg.SkipReason(f"{found.count} changes wait to be synced")
    return look.request(f"detection {int(time.time() // look.watch.every_s)}")


def _by_count(look: Look) -> Seen:
    report = read_facts(look.state.report, "Remove it and run again: the whole is proven anew.")
    count = look.source.count(look.migration.source_collection)
    return Seen(f"{count} records", count != report.get("source_count"))


def _by_watermark(look: Look) -> Seen:
    counted = _by_count(look)
    collection, name = look.migration.source_collection, look.migration.options.noted_field or ""
    noted = noted_watermark(look.state, name)
    if noted is None:
        return Seen(f"{counted.what}, no watermark of {name}", is_changed=True)
    later = look.source.narrow(collection, [parse_filter({name: {"$gt": noted}})])
    if query_of(later) is None:
        values = (value for _, page in look.source.iter_field(collection, name) for value in page)
        count = sum(1 for value in values if value is not None and value > noted)
    else:
        count = look.source.count(collection, later)
    what = f"{counted.what}, {count} with {name} after {encode(noted).strip()}"
    return Seen(what, is_changed=counted.is_changed or bool(count))


def _by_ids(look: Look) -> Seen:
    if look.manifest.count > MOST_IDS:
        found = read_detected(look.state, look.manifest)
        if found is None:
            return Seen("not detected yet", is_changed=False)
        return Seen(f"{found.count} changes, {found.digest}", is_changed=found.count > 0)
    ids = list_selected(look.migration, look.source, with_originals=False).ids
    if has_the_same_ids(look.state, look.manifest, ids):
        return Seen(f"{len(ids)} ids", is_changed=False)
    return Seen(f"{len(ids)} ids, {digest_ids(sorted(ids, key=id_text))}", is_changed=True)


_LOOKS = {WatchBy.COUNT: _by_count, WatchBy.WATERMARK: _by_watermark, WatchBy.IDS: _by_ids}
