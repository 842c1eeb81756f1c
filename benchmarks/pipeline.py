"""What is measured of the pipeline: its steps without validation, and the whole Dagster run with full validation.

Belongs here: running a migration as a program would, and the clock around it. Does not belong here: the migration.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Stopwatch
from benchmarks.places import Place
from benchmarks.storage import Database, write_settings


def migration_values(source: Place, target: Place, range_count: int, validate: str) -> dict[str, Any]:
    """Return the options of the measured migration."""
    return {
        "name": "benchmark",
        "source": source.url,
        "target": target.url,
        "range_count": range_count,
        "validate": validate,
    }


def prepare_steps(values: dict[str, Any], folder: Path, watch: Stopwatch) -> Callable[[], int]:
    """Return what runs the steps of a migration; the clock stops at the last acknowledgement."""
    from rag_migration_pipeline.events import publish
    from rag_migration_pipeline.spec import migration_from_spec
    from rag_migration_pipeline.steps.context import open_migration
    from rag_migration_pipeline.steps.range import migrate_range

    migration = migration_from_spec(values)
    time_stores(watch)

    def run() -> int:
        with open_migration(migration, folder / "state", publish, plan=True) as context:
            for entry in context.manifest.ranges:
                migrate_range(context, entry.key)
            watch.stop()
            context.target.finish_loading(migration.target_collection)
            return context.target.count(migration.target_collection)

    return run


def prepare_engine(values: dict[str, Any], folder: Path, watch: Stopwatch) -> Callable[[], int]:
    """Return what runs a migration with the engine, on one worker; the clock stops at the last acknowledgement."""
    from rag_migration_pipeline.engine import Engine
    from rag_migration_pipeline.events import publish
    from rag_migration_pipeline.spec import migration_from_spec
    from rag_migration_pipeline.stores.retrying import RetryingStore

    migration = migration_from_spec(values)
    time_stores(watch)
    watch.stop_at(RetryingStore, "finish_loading")

    def run() -> int:
        return Engine(migration, folder / "state", sink=publish).run().migrated

    return run


def prepare_dagster(
    values: dict[str, Any], folder: Path, watch: Stopwatch, database: Database | None = None
) -> Callable[[], int]:
    """Make a persistent Dagster instance, and return what runs the migration's job on it, proof included.

    Args:
        values: The migration's options.
        folder: Where instance and state go.
        watch: Its clock stops with the run.
        database: Where the instance keeps its events; in SQLite files in the folder without one.
    """
    import dagster as dg

    from rag_migration_pipeline.orchestration.config import declare
    from rag_migration_pipeline.orchestration.factory import migration_definitions
    from rag_migration_pipeline.orchestration.resources import StateResource
    from rag_migration_pipeline.orchestration.runs import run_job
    from rag_migration_pipeline.orchestration.summary import summarize_leg
    from rag_migration_pipeline.spec import migration_from_spec

    write_settings(folder, database)
    logging.getLogger("dagster").setLevel(logging.ERROR)
    migration_from_spec(values)  # imports the adapters, which Dagster would do inside the run
    declaration, resources = declare(values)
    resources_and_state = {**resources, declaration.state: StateResource(folder=str(folder / "state"))}
    definitions = migration_definitions([declaration], resources_and_state)
    job = definitions.resolve_job_def(f"{declaration.name}__migrate")
    instance = dg.DagsterInstance.get()
    # The first question makes the tables, which belongs to the start of the process.
    instance.get_runs_count()
    time_stores(watch)

    def run() -> int:
        result = run_job(job, instance)
        watch.stop()
        leg = summarize_leg(declaration, instance, result)
        instance.dispose()
        if not leg.is_proven:
            raise RuntimeError(f"the migration was not proven: {leg.error}")
        return leg.records

    return run


def time_stores(watch: Stopwatch) -> None:
    """Time what is told apart from the copying: making the empty collection, and making it searchable."""
    for store in adapters():
        for method in ("create", "finish_loading"):
            if method in vars(store):
                watch.time_method(store, method)


def adapters() -> Iterator[type]:
    """Yield the classes of the stores that this process has imported, without those that wrap others."""
    from rag_migration_pipeline.stores.base import VectorStore
    from rag_migration_pipeline.stores.wrappers import WrapperStore

    yield from (store for store in _subclasses(VectorStore) if not issubclass(store, WrapperStore))


def _subclasses(owner: type) -> Iterator[type]:
    for subclass in owner.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
