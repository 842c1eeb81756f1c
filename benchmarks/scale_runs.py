"""What ``benchmarks.scale`` measures, each in a process of its own.

Belongs here: preparing one measured piece of work, and its clocks. Does not belong here: the order of the measurements,
their options and results (``scale``).
"""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.data import pages
from benchmarks.measure import Stopwatch
from benchmarks.pipeline import migration_values, prepare_dagster
from benchmarks.places import Place
from benchmarks.straight_line import fill

MEMORY = "memory"


@dataclass(frozen=True)
class Spent:
    """What a piece of work took.

    Attributes:
        seconds: By the clock.
        cpu_s: CPU seconds of the process, an embedded engine's included.
    """

    seconds: float
    cpu_s: float

    def to_json(self) -> dict[str, float]:
        return {"seconds": round(self.seconds, 6), "cpu_s": round(self.cpu_s, 6)}


def spent(work: Callable[[], object]) -> Spent:
    """Do some work, and say what it took."""
    begun, begun_cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - begun, time.process_time() - begun_cpu)


def register(folder: Path, ranges: int) -> dict[str, Any]:
    """Register the ranges of a manifest as dynamic partitions on a fresh SQLite instance, then the same once more."""
    import dagster as dg

    from rag_migration_pipeline.orchestration.config import declare
    from rag_migration_pipeline.orchestration.facts import register_partitions

    os.environ["DAGSTER_HOME"] = str(folder)
    (folder / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    declaration, _ = declare({"name": "benchmark", "source": "memory://a/x", "target": "memory://b/x"})
    manifest: Any = Keys(tuple(Key(f"abcdef_{number:06d}") for number in range(ranges)))
    with dg.DagsterInstance.get() as instance:
        instance.get_runs_count()  # makes the tables
        first = spent(lambda: register_partitions(instance, declaration, manifest))
        again = spent(lambda: register_partitions(instance, declaration, manifest))
        count = len(instance.get_dynamic_partitions("benchmark_ranges"))
    return {
        "partitions": count,
        "first": first.to_json(),
        "again": again.to_json(),
        "manifest": read_manifest(folder, ranges),
    }


def read_manifest(folder: Path, ranges: int) -> dict[str, float]:
    """Store a manifest of many ranges, and read it as every op does that works on a range; the best of five."""
    from rag_migration_pipeline.engine import Engine
    from rag_migration_pipeline.spec import migration_from_spec
    from rag_migration_pipeline.state import state_folder
    from rag_migration_pipeline.steps.manifest import open_manifest, store_manifest

    memory = Place(MEMORY)
    fill_memory(memory, 1)
    migration = migration_from_spec(values_of(memory, memory, 1))
    Engine(migration, folder / "state").run()
    state = state_folder(folder / "state", migration.identity)
    small = open_manifest(state, migration)
    entries = tuple(replace(small.ranges[0], key=f"abcdef_{n:06d}", ordinal=n) for n in range(ranges))
    store_manifest(state, replace(small, ranges=entries), [], [], [])
    best = min((spent(lambda: open_manifest(state, migration)) for _ in range(5)), key=lambda one: one.cpu_s)
    return {**best.to_json(), "bytes": state.manifest.stat().st_size}


@dataclass(frozen=True)
class Key:
    """A range of a manifest, as far as partitions are concerned."""

    key: str


@dataclass(frozen=True)
class Keys:
    """A manifest, as far as partitions are concerned."""

    ranges: tuple[Key, ...]


def run_engine(source: Place, target: Place, folder: Path, range_count: int, records: int) -> dict[str, Any]:
    """Run a migration with the engine, one worker, full validation and proof."""
    from rag_migration_pipeline import engine
    from rag_migration_pipeline.spec import migration_from_spec
    from rag_migration_pipeline.steps import context

    migration = migration_from_spec(values_of(source, target, range_count))
    fill_memory(source, records)
    watch = Stopwatch()
    watch.time_method(context, "make_manifest")
    watch.time_method(engine, "prove_collection")
    run = spent(lambda: check(engine.Engine(migration, folder / "state").run().migrated, records))
    return {
        **run.to_json(),
        "planning_s": round(watch.seconds["make_manifest"], 4),
        "proof_s": round(watch.seconds["prove_collection"], 4),
        "state_bytes": bytes_in(folder / "state"),
    }


def run_dagster(source: Place, target: Place, folder: Path, range_count: int, records: int) -> dict[str, Any]:
    """Run a migration's job in this process on an SQLite instance, full validation and proof."""
    fill_memory(source, records)
    run = prepare_dagster(values_of(source, target, range_count), folder, Stopwatch())
    state = folder / "state"
    before = bytes_in(folder)
    took = spent(lambda: check(run(), records))
    return {
        **took.to_json(),
        "event_rows": event_rows(folder),
        "state_bytes": bytes_in(state),
        "instance_bytes": bytes_in(folder) - before - bytes_in(state),
        "staged_bytes": staged_bytes(),
    }


def detect(source: Place, target: Place, folder: Path, range_count: int, records: int) -> dict[str, Any]:
    """Migrate, then detect in an unchanged source by ids in Dagster; and list the ids alone, once."""
    import dagster as dg

    from rag_migration_pipeline.engine import Engine
    from rag_migration_pipeline.orchestration.config import declare
    from rag_migration_pipeline.orchestration.factory import migration_definitions
    from rag_migration_pipeline.orchestration.resources import StateResource
    from rag_migration_pipeline.orchestration.runs import run_job
    from rag_migration_pipeline.spec import migration_from_spec

    values = {**values_of(source, target, range_count), "validate": "counts", "detect": "ids"}
    fill_memory(source, records)
    migration = migration_from_spec(values)
    check(Engine(migration, folder / "state").run().migrated, records)
    os.environ["DAGSTER_HOME"] = str(folder)
    (folder / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    declaration, resources = declare(values)
    state = StateResource(folder=str(folder / "state"))
    definitions = migration_definitions([declaration], {**resources, declaration.state: state})
    job = definitions.resolve_job_def(f"{declaration.name}__detect")
    with migration.source.open() as store:
        listing = spent(lambda: check(sum(map(len, store.iter_ids(migration.source_collection))), records))
    with dg.DagsterInstance.get() as instance:
        instance.get_runs_count()
        found: list[dg.ExecuteInProcessResult] = []
        whole = spent(lambda: found.append(run_job(job, instance)))
    check(found[0].output_for_node("detect"), 0)
    return {"listing": listing.to_json(), "detect": whole.to_json(), "records": records}


def values_of(source: Place, target: Place, range_count: int) -> dict[str, Any]:
    """Return the options of a migration between two places; memory stores belong to the process."""
    if MEMORY not in (source.kind, target.kind):
        return migration_values(source, target, range_count, "full")
    common = {"name": "benchmark", "range_count": range_count, "validate": "full"}
    return {**common, "source": "memory://source?name=s", "target": "memory://target?name=t"}


def fill_memory(source: Place, records: int) -> None:
    """Fill a source in this process's memory; places on disk are filled already."""
    if source.kind != MEMORY:
        return
    import numpy as np

    from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
    from rag_migration_pipeline.stores.memory import MemorySettings

    with MemorySettings(name="s").open(create=True) as store:
        store.create(CollectionSpec("source", (VectorSpec(4, Metric.L2),), frozenset({IdKind.STRING})))
        ids = [f"r{number:09d}" for number in range(records)]
        vectors = np.ones((records, 4), dtype=np.float32)
        store.upsert(
            "source", RecordBatch(ids, {"": DenseColumn(vectors)}, [{"n": number} for number in range(records)])
        )


def fill_place(place: Place, records: int, dimension: int) -> int:
    """Fill a place on disk with the benchmark's records, through the vendor's client."""
    script = place.open_script()
    script.create(dimension)
    fill(script, pages(records, dimension))
    script.finish()
    count = script.count()
    script.close()
    return count


def check(found: int, expected: int) -> None:
    """Refuse a measurement of something else than was wanted."""
    if found != expected:
        raise RuntimeError(f"{found} records, expected {expected}")


def event_rows(home: Path) -> int:
    """Return how many events an SQLite instance holds of its runs."""
    rows = 0
    for path in (home / "history" / "runs").glob("*.db"):
        with closing(sqlite3.connect(path)) as database:
            (count,) = database.execute("select count(*) from event_logs").fetchone()
            rows += 0 if path.stem == "index" else int(count)
    return rows


def staged_bytes() -> int:
    """Return the bytes of all staged ranges of the instance's migration, one of which is on disk at a time."""
    import dagster as dg

    from rag_migration_pipeline.orchestration.config import declare

    declaration, _ = declare({"name": "benchmark", "source": "memory://a?name=x", "target": "memory://b?name=y"})
    with dg.DagsterInstance.get() as instance:
        records = instance.fetch_materializations(declaration.key("loaded_ranges"), limit=10_000).records
    events = [record.asset_materialization for record in records]
    return sum(int(str(event.metadata["dagster/size_bytes"].value)) for event in events if event is not None)


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
