"""A small migration over memory stores, with a hook before every operation of the target.

Belongs here: what the tests of the Dagster layer set up and look at. Does not belong here: promises (``test_*.py``).
"""

import re
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from rag_migration_pipeline.errors import MigrationError, StopError, StoreUnavailableError
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.factory import migration_definitions
from rag_migration_pipeline.orchestration.resources import StateResource
from rag_migration_pipeline.orchestration.runs import run_job
from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.state import StateFolder, state_folder
from rag_migration_pipeline.steps.manifest import open_manifest
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore, WriteResult
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline.stores.readiness import Readiness
from rag_migration_pipeline.stores.wrappers import FaultyStore

NAME = "docs"
COLLECTION = "texts"
RANGE_COUNT = 5
QUICK = {"range_count": RANGE_COUNT, "retry_delay_s": 0.001}

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

Fault = Callable[[str, str | None], Any]


class WatchedResource:
    """A store resource that counts the operations of what it opens, and lets a test break them.

    Attributes:
        calls: Operation -> how often it was asked for, over all runs.
        fault: Called before each operation; may raise.
        poison: Record id -> error of a write with that record.
        readiness: What the store says of its index; None lets it speak for itself.
    """

    def __init__(self, settings: StoreSettings) -> None:
        """Open this store when asked."""
        self.inner = settings
        self.calls: Counter[str] = Counter()
        self.fault: Fault = lambda _operation, _collection: None
        self.poison: dict[str, MigrationError] = {}
        self.readiness: Readiness | None = None
        self._opened: list[VectorStore] = []

    def settings(self) -> StoreSettings:
        """See `VectorStoreResource.settings`."""
        return self.inner

    def open_source(self) -> VectorStore:
        """See `VectorStoreResource.open_source`."""
        return self._watched(self.inner.open(create=False))

    def open_target(self) -> VectorStore:
        """See `VectorStoreResource.open_target`."""
        return self._watched(self.inner.open(create=True))

    def _watched(self, store: VectorStore) -> VectorStore:
        self._opened.append(store)
        return _Watched(store, self)

    def close(self) -> None:
        """Close whatever was opened: a folder in use could not be opened by the next test."""
        while self._opened:
            self._opened.pop().close()


class _Watched(FaultyStore):
    def __init__(self, inner: VectorStore, resource: WatchedResource) -> None:
        super().__init__(inner, self._watch)
        self._resource = resource

    def _watch(self, operation: str, collection: str | None) -> None:
        self._resource.calls[operation] += 1
        self._resource.fault(operation, collection)

    def readiness(self, collection: str) -> Readiness:
        """Say what the test wants said."""
        found = super().readiness(collection)
        return self._resource.readiness or found

    def upsert(self, collection: str, batch: RecordBatch) -> WriteResult:
        """Refuse a batch with a poisoned record, after it was counted."""
        for record_id, error in [*self._resource.poison.items()]:
            if record_id in batch.ids:
                self.before("upsert", collection)  # which may heal the store for the next time
                raise error
        return super().upsert(collection, batch)


@dataclass
class Scene:
    """A migration between two spaces of this process's memory.

    Attributes:
        staging: Where staged files lie; empty for beside the state.
        space: Prefix of both spaces' names.
    """

    state_dir: Path
    instance: dg.DagsterInstance
    options: Mapping[str, Any] = field(default_factory=lambda: dict(QUICK))
    name: str = NAME
    staging: str = ""
    space: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        """Make the two watched stores."""
        self.source = WatchedResource(MemorySettings(name=f"{self.space}_source"))
        self.target = WatchedResource(MemorySettings(name=f"{self.space}_target"))

    def fill(self, count: int, start: int = 0) -> None:
        """Put records into the source collection, which is made where it is missing."""
        with self.source.inner.open(create=True) as store:
            if not store.exists(COLLECTION):
                store.create(spec_of(COLLECTION))
            store.upsert(COLLECTION, records(count, start))

    @property
    def declaration(self) -> MigrationDeclaration:
        """The migration as the factory takes it."""
        options = MigrationOptions.model_validate(self.options)
        return MigrationDeclaration(self.name, "source", COLLECTION, "target", COLLECTION, options)

    @property
    def resources(self) -> dict[str, object]:
        """The resources of its definitions."""
        state = StateResource(folder=str(self.state_dir), staging=self.staging)
        return {"source": self.source, "target": self.target, "state": state}

    @property
    def definitions(self) -> dg.Definitions:
        """Fresh definitions."""
        return migration_definitions([self.declaration], self.resources)

    @property
    def job(self) -> dg.JobDefinition:
        """The op job that does everything."""
        return self.definitions.resolve_job_def(f"{self.name}__migrate")

    @property
    def folder(self) -> StateFolder:
        """The migration's own state folder."""
        (root,) = self.state_dir.iterdir()
        return state_folder(self.state_dir, root.name)

    @property
    def keys(self) -> list[str]:
        """The partition keys of the stored manifest, in order."""
        return [
            entry.key for entry in open_manifest(self.folder, self.declaration.migration(Bag(self.resources))).ranges
        ]

    def migrate(self) -> dg.ExecuteInProcessResult:
        """Run the job."""
        return run_job(self.job, self.instance)

    def materialize(self, asset: str, **kwargs: Any) -> dg.ExecuteInProcessResult:
        """Materialize one asset by itself; ``start`` and ``stop`` make a run over a range of partitions."""
        start, stop = kwargs.pop("start", None), kwargs.pop("stop", None)
        if start is not None:
            kwargs["tags"] = {"dagster/asset_partition_range_start": start, "dagster/asset_partition_range_end": stop}
        return self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[self.declaration.key(asset)],
            raise_on_error=False,
            run_config=QUIET,
            **kwargs,
        )

    def materialized(self) -> set[str]:
        """The partitions of loaded_ranges that the instance calls materialized."""
        return self.instance.get_materialized_partitions(self.declaration.key("loaded_ranges"))

    def is_materialized(self, asset: str) -> bool:
        """Whether the instance has an event for the asset."""
        return self.instance.get_latest_materialization_event(self.declaration.key(asset)) is not None

    def target_ids(self) -> list[Any]:
        """What the target holds, read round the watched store."""
        with self.target.inner.open(create=False) as store:
            return [i for page in store.iter_ids(COLLECTION) for i in page] if store.exists(COLLECTION) else []

    def forget(self) -> None:
        """Close what the runs opened, and remove both spaces."""
        self.source.close()
        self.target.close()
        forget_space(f"{self.space}_source")
        forget_space(f"{self.space}_target")


class Bag:
    """Resources by attribute, as Dagster hands them to an op."""

    def __init__(self, values: Mapping[str, object]) -> None:
        """Take them over."""
        self.__dict__.update(values)


def contents(place: WatchedResource) -> dict[Any, tuple[Any, ...]]:
    """Return id -> vector, payload and document of all records of a place, read round the watched store."""
    with place.inner.open(create=False) as store:
        batches = list(store.scan(COLLECTION))
    found = {}
    for batch in batches:
        rows = zip(batch.ids, batch.dense().values.tolist(), batch.payloads, batch.documents or (), strict=True)
        found |= {record_id: (vector, dict(payload), document) for record_id, vector, payload, document in rows}
    return found


def spec_of(name: str, dimension: int = 4) -> CollectionSpec:
    """Return a collection with one vector."""
    return CollectionSpec(name, (VectorSpec(dimension, Metric.COSINE),), frozenset({IdKind.STRING}))


def records(count: int, start: int = 0) -> RecordBatch:
    """Return records whose ids sort in the order of their numbers."""
    numbers = range(start, start + count)
    values = np.array([[n + 1, n % 3, 1, n % 7] for n in numbers], dtype=np.float32).reshape(count, 4)
    return RecordBatch(
        ids=[f"r{number:05d}" for number in numbers],
        vectors={"": DenseColumn(values)},
        payloads=[{"number": number, "kind": "even" if number % 2 == 0 else "odd"} for number in numbers],
        documents=[f"text {number}" for number in numbers],
    )


READS_OF_VECTORS = ("read_range", "fetch", "fetch_pages", "scan")
"""Operations of a store that read vectors."""


def run(scene: Scene, job: str, **launch: Any) -> dg.ExecuteInProcessResult:
    """Run one of the migration's jobs, with options of a launch."""
    resources = {f"{scene.name}_run": {"config": launch}} if launch else None
    return run_job(scene.definitions.resolve_job_def(f"{scene.name}__{job}"), scene.instance, resources=resources)


def losing(scene: Scene, *numbers: int) -> None:
    """Let the source lose records when the next range is read: after they were planned, and before they are carried."""

    def lose(operation: str, _collection: str | None) -> None:
        if operation in ("read_range", "fetch_pages"):
            scene.source.fault = lambda _operation, _collection: None
            remove(scene, *numbers)

    scene.source.fault = lose


def be_away_until(scene: Scene, record_id: str, *, writes: int) -> None:
    """Let the target be away for batches with a record, until it was asked for so many writes."""
    scene.target.poison[record_id] = AWAY

    def come_back(operation: str, _collection: str | None) -> None:
        if operation == "upsert" and scene.target.calls["upsert"] == writes:
            scene.target.poison.clear()

    scene.target.fault = come_back


def change(scene: Scene, number: int, /, **payload: Any) -> None:
    """Give a record of the source another payload."""
    with scene.source.inner.open(create=False) as store:
        one = records(1, number)
        store.upsert(COLLECTION, one.with_columns(payloads=[{**one.payloads[0], **payload}]))


def remove(scene: Scene, *numbers: int) -> None:
    """Delete records of the source."""
    with scene.source.inner.open(create=False) as store:
        store.delete(COLLECTION, [f"r{number:05d}" for number in numbers])


def steps_started(result: dg.ExecuteInProcessResult) -> list[str]:
    """Return the keys of the steps that began."""
    return [event.step_key or "" for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_START]


def ranges_of(steps: Sequence[str], op: str) -> list[str]:
    """Return the range keys for which this op began."""
    found = (re.fullmatch(rf"(?:.*\.)?{op}\[(.+)\]", step) for step in steps)
    return [match.group(1) for match in found if match]


def failures(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, str]]:
    """Return what failed steps say: step key -> failure metadata as text, with the description as ``""``."""
    said = {}
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data.user_failure_data
            assert data is not None, f"{event.step_key}: no failure data: {event.step_failure_data.error}"
            said[event.step_key or ""] = {
                "": data.description or "",
                **{key: str(value.value) for key, value in data.metadata.items()},
            }
    return said


AWAY = StoreUnavailableError("the store is away.", todo="Start it.")
REFUSED = StopError("the store refuses this.", todo="Allow it.")
