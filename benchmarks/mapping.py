"""What a mapping costs, as a share of the load: ``python -m benchmarks.mapping``.

Belongs here: the same migration without a mapping and with several, by turns, in one process. Does not belong here:
speed beside plain scripts (``python -m benchmarks``).

The shares are of the seconds that the load step takes in the same run, by the pipeline's own events.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.data import pages
from benchmarks.pipeline import migration_values
from benchmarks.places import KINDS, Place, Places
from benchmarks.straight_line import fill

MAPPINGS: dict[str, dict[str, Any] | None] = {
    "no mapping": None,
    "rename and default": {"field_mapping": {"section": "heading"}, "defaults": {"owner": "docs"}},
    "the same, nested": {
        "field_mapping": {"section": "meta.heading", "source": "meta.source"},
        "defaults": {"meta.v": 2},
    },
    "conversions": {"transforms": {"tags": "join(',')", "year": "str", "section": ["strip", "lower"]}},
    "per record": {"per_record": "benchmarks.mapping:unchanged"},
}
STAGING = "a file between ops"
"""Under Dagster what a callable makes lies in one more file between the ops, without vectors; the steps need none."""

LARGEST_SHARE = 0.05
"""The most that a rename and a default may take, as a share of the load."""


def unchanged(record: Any) -> Any:
    """Return a record as it is: what is left is the cost of calling."""
    return record


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the shares; the exit code says whether a rename and a default stay within `LARGEST_SHARE`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mapping", description=__doc__.partition("\n")[0])
    parser.add_argument("--target", choices=KINDS, default="milvus")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    shares: dict[str, list[float]] = {label: [] for label in (*MAPPINGS, STAGING)}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, closing(Places(Path(folder))) as places:
        source = places.source(
            "chroma_folder", options.count, lambda place: _fill(place, options.count, options.dimension)
        )
        for number in range(options.rounds):
            for label, mapping in MAPPINGS.items():
                with places.target(options.target) as target:
                    steps = _run(source, target, mapping, Path(folder) / f"{number}-{label}", options.count)
                shares[label].append(steps["transform"] / steps["load"])
            shares[STAGING].append(_staging_s(options.count, options.dimension, Path(folder)) / steps["load"])
    records = f"{options.count:,} records of {options.dimension} dimensions"
    print(f"{records} into a {KINDS[options.target]}, {options.rounds} rounds")
    for label, found in shares.items():
        print(f"  {label:<20} {statistics.median(found):6.2%} of the load")
    print(f"  (load of the machine {os.getloadavg()[0]:.1f})")
    return int(statistics.median(shares["rename and default"]) > LARGEST_SHARE)


def _fill(place: Place, count: int, dimension: int) -> None:
    script = place.open_script()
    script.create(dimension)
    fill(script, pages(count, dimension))
    script.close()


def _staging_s(count: int, dimension: int, folder: Path) -> float:
    """Return the seconds for writing all records, without their vectors, to a staged file and reading them twice."""
    from rag_migration_pipeline.arrow import read_batches, write_batches
    from rag_migration_pipeline.records import RecordBatch

    batches = [RecordBatch(page.ids, {}, page.payloads, page.documents) for page in pages(count, dimension)]
    write_batches(folder / "mapped.arrow", batches[:1])  # the first use of Arrow in a process takes a third of a second
    begun = time.perf_counter()
    write_batches(folder / "mapped.arrow", batches)
    for _ in ("load", "validate"):
        read = sum(map(len, read_batches(folder / "mapped.arrow")))
        if read != count:
            raise RuntimeError(f"{read} of {count} records were read back")
    return time.perf_counter() - begun


def _run(source: Place, target: Place, mapping: dict[str, Any] | None, state: Path, count: int) -> Counter[str]:
    """Migrate, and return the seconds of each step."""
    from rag_migration_pipeline.events import BatchDone, Event
    from rag_migration_pipeline.spec import migration_from_spec
    from rag_migration_pipeline.steps.context import open_migration
    from rag_migration_pipeline.steps.range import migrate_range

    steps: Counter[str] = Counter(transform=0)

    def add(event: Event) -> None:
        if isinstance(event, BatchDone):
            steps[event.step] += event.duration_s  # type: ignore[assignment]  # a counter of seconds

    values = migration_values(source, target, count, "none")
    with open_migration(migration_from_spec(values | {"mapping": mapping}), state, add, plan=True) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        records = context.target.count(context.migration.target_collection)
    if records != count:
        raise RuntimeError(f"{records} of {count} records arrived in {target.url}")
    return steps


if __name__ == "__main__":
    sys.exit(main())
