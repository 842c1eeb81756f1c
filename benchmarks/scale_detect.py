"""What a detect job over unchanged ids takes, asks for and leaves alone.

Belongs here: the state before, the job on the clock, and the calls that reach either store. Does not belong here: the
options and results (``scale``), filling stores (``scale_runs``).
"""

import functools
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.measure import Stopwatch
from benchmarks.pipeline import adapters
from benchmarks.places import Place
from benchmarks.scale_runs import MEMORY, check, fill_memory, spent, values_of
from benchmarks.storage import write_settings

CALLS = (
    *("iter_ids", "iter_field", "count", "scan", "read_range", "read_contents", "fetch", "fetch_contents"),
    *("fetch_pages", "upsert", "write", "delete", "create", "drop"),
)
"""Calls that read records, their ids or their number, and those that write."""


def detect(source: Place, folder: Path, range_count: int, records: int) -> dict[str, Any]:
    """Migrate into this process's memory, then detect in an unchanged source by ids in Dagster; and list the ids once.

    The target does not matter: the state of the migration is what is compared with, and no call reaches the target,
    which is checked.
    """
    import dagster as dg

    from rag_migration_pipeline.engine import Engine
    from rag_migration_pipeline.orchestration import looking
    from rag_migration_pipeline.orchestration.config import declare
    from rag_migration_pipeline.orchestration.factory import migration_definitions
    from rag_migration_pipeline.orchestration.resources import StateResource
    from rag_migration_pipeline.orchestration.runs import run_job
    from rag_migration_pipeline.spec import migration_from_spec
    from rag_migration_pipeline.steps import listing

    values = {**values_of(source, Place(MEMORY), range_count), "validate": "counts", "detect": "ids"}
    fill_memory(source, records)
    migration = migration_from_spec(values)
    before = spent(lambda: check(Engine(migration, folder / "state").run().migrated, records))
    write_settings(folder)
    declaration, resources = declare(values)
    state = StateResource(folder=str(folder / "state"))
    definitions = migration_definitions([declaration], {**resources, declaration.state: state})
    job = definitions.resolve_job_def(f"{declaration.name}__detect")
    with migration.source.open() as store:
        alone = spent(lambda: check(sum(map(len, store.iter_ids(migration.source_collection))), records))
    watch, calls = Stopwatch(), count_calls()
    watch.time_method(listing, "list_ids")
    watch.time_method(looking, "find_changes")
    with dg.DagsterInstance.get() as instance:
        instance.get_runs_count()
        found: list[dg.ExecuteInProcessResult] = []
        whole = spent(lambda: found.append(run_job(job, instance)))
    check(found[0].output_for_node("detect"), 0)
    changes_s, listings_s = watch.seconds["find_changes"], watch.seconds["list_ids"]
    return {
        "records": records,
        "range_count": range_count,
        "before_s": round(before.seconds, 1),
        "listing": alone.to_json(),
        "detect": whole.to_json(),
        "parts": {
            "listings": round(listings_s, 4),
            "comparing": round(changes_s - listings_s, 4),
            "dagster": round(whole.seconds - changes_s, 4),
        },
        "calls": {
            "source": {name: count for (url, name), count in sorted(calls.items()) if url == migration.source.address},
            "target": {name: count for (url, name), count in sorted(calls.items()) if url == migration.target.address},
        },
    }


def count_calls() -> Counter[tuple[str, str]]:
    """Count the calls that reach the adapters of this process from now on: address and name -> how many."""
    calls: Counter[tuple[str, str]] = Counter()
    for store in adapters():
        for name in CALLS:
            if name in vars(store):
                setattr(store, name, _counting(vars(store)[name], name, calls))
    return calls


def _counting(inner: Any, name: str, calls: Counter[tuple[str, str]]) -> Any:
    @functools.wraps(inner)
    def counting(store: Any, *arguments: Any, **options: Any) -> Any:
        calls[store.address, name] += 1
        return inner(store, *arguments, **options)

    return counting
