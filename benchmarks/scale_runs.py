"""What ``benchmarks.scale`` measures, each in a process of its own.

Belongs here: preparing one measured piece of work, and its clocks. Does not belong here: the order of the measurements,
their options and results (``scale``).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.data import pages, short_pages
from benchmarks.measure import Stopwatch
from benchmarks.pipeline import migration_values, prepare_dagster
from benchmarks.places import Place
from benchmarks.storage import Database, bytes_in, held, write_settings
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

    write_settings(folder)
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


def run_dagster(
    source: Place, target: Place, folder: Path, range_count: int, records: int, database: Database | None = None
) -> dict[str, Any]:
    """Run a migration's job in this process on a Dagster instance, full validation and proof."""
    fill_memory(source, records)
    run = prepare_dagster(values_of(source, target, range_count), folder, Stopwatch(), database)
    before = held(folder, database)
    took = spent(lambda: check(run(), records))
    after, state_bytes = held(folder, database), bytes_in(folder / "state")
    figures = {
        **took.to_json(),
        "event_rows": after.event_rows,
        "state_bytes": state_bytes,
        "instance_bytes": after.instance_bytes - before.instance_bytes - state_bytes,
        "staged_bytes": staged_bytes(),
    }
    if database is not None:
        figures["server_cpu_s"] = round(after.server_cpu_s - before.server_cpu_s, 2)
        figures["connections"] = after.connections - before.connections
    return figures


def values_of(source: Place, target: Place, range_count: int) -> dict[str, Any]:
    """Return the options of a migration between two places; memory stores belong to the process."""
    values = migration_values(source, target, range_count, "full")
    if source.kind == MEMORY:
        values["source"] = "memory://source?name=s"
    if target.kind == MEMORY:
        values["target"] = "memory://target?name=t"
    return values


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


def fill_place(place: Place, records: int, dimension: int, *, is_short: bool = False) -> int:
    """Fill a place on disk or on a server with the benchmark's records, through the vendor's client.

    Args:
        place: Where there is no collection yet.
        records: How many.
        dimension: Of their vectors.
        is_short: Whether they have no text, and one number instead of metadata.
    """
    script = place.open_script()
    script.create(dimension)
    fill(script, short_pages(records, dimension) if is_short else pages(records, dimension))
    script.finish()
    count = script.count()
    script.close()
    return count


def check(found: int, expected: int) -> None:
    """Refuse a measurement of something else than was wanted."""
    if found != expected:
        raise RuntimeError(f"{found} records, expected {expected}")


def staged_bytes() -> int:
    """Return the bytes of all staged ranges of the instance's migration, one of which is on disk at a time."""
    import dagster as dg

    from rag_migration_pipeline.orchestration.config import declare

    declaration, _ = declare({"name": "benchmark", "source": "memory://a?name=x", "target": "memory://b?name=y"})
    with dg.DagsterInstance.get() as instance:
        records = instance.fetch_materializations(declaration.key("loaded_ranges"), limit=10_000).records
    events = [record.asset_materialization for record in records]
    return sum(int(str(event.metadata["dagster/size_bytes"].value)) for event in events if event is not None)
