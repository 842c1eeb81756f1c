"""How the pipeline grows with a collection: ``python -m benchmarks.scale WHAT``.

    python -m benchmarks.scale partitions    10,000 ranges registered as dynamic partitions
    python -m benchmarks.scale overhead      CPU seconds, events and bytes per range, in Dagster and in the engine
    python -m benchmarks.scale speed         a whole Dagster run beside the engine, 4 ranges of 50,000 records
    python -m benchmarks.scale detect        a detect job over unchanged ids beside listing them
    python -m benchmarks.scale page          Dagster's pages of 10,000 ranges in a browser
    python -m benchmarks.scale               all of them

With ``--storage postgresql`` Dagster keeps its events in a PostgreSQL that is started for it (``overhead``, ``speed``).

Belongs here: options, the order of the measurements, what is made of them. Does not belong here: the measured work
(``scale_runs``, ``scale_detect``, ``scale_browser``), the page that quotes the results (``scale_page``), what a billion
records need (``simulation``).
"""

import argparse
import functools
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import scale_browser, scale_detect, scale_runs
from benchmarks.places import KINDS, Place, Places
from benchmarks.storage import NAMES, SQLITE, Database, opened_postgres

RESULTS = Path(__file__).parent / "results"
KINDS_HERE = ("memory", "qdrant_edge", "chroma_folder", "milvus")
VARIANTS = ("engine", "dagster")
KNOWN = {**KINDS, scale_runs.MEMORY: "memory of the process"}


@dataclass(frozen=True)
class Options:
    """What is to be measured.

    Attributes:
        kind: Of the stores on both sides.
        sizes: Ranges of the runs of ``overhead``, from few to many.
        storage: Where Dagster keeps its events.
        is_short: Whether the records of ``detect`` have no text and one number of metadata.
        screenshots: Where a picture of the partitions page goes.
    """

    records: int
    range_count: int
    ranges: int
    sizes: Sequence[int]
    dimension: int
    kind: str
    rounds: int = 1
    storage: str = SQLITE
    is_short: bool = False
    screenshots: Path | None = None


@dataclass
class Rooms:
    """Fresh folders, fresh databases and fresh processes; closing them stops the servers."""

    root: Path
    count: int = field(default=0)
    opened: ExitStack = field(default_factory=ExitStack)
    fresh_database: Callable[[], Database] | None = None
    places: Places | None = None

    def folder(self) -> Path:
        """Return a folder that is empty."""
        self.count += 1
        path = self.root / str(self.count)
        path.mkdir()
        return path

    def place(self, kind: str) -> Place:
        """Return a place without a collection."""
        if kind == "milvus":
            if self.places is None:
                self.places = self.opened.enter_context(closing(Places(self.folder())))
            return self.opened.enter_context(self.places.target(kind))
        return Place(kind, path="" if kind == scale_runs.MEMORY else str(self.folder() / "data"))

    def database(self, storage: str) -> Database | None:
        """Return a database that is empty; none for SQLite, which is files in the instance's folder."""
        if storage == SQLITE:
            return None
        if self.fresh_database is None:
            self.fresh_database = self.opened.enter_context(opened_postgres())
        return self.fresh_database()

    def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do some work in a process of its own."""
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(work, *arguments).result()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, and write the results."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options, chosen, output = read_options(given)
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="scale-") as folder, ExitStack() as opened:
            found = MEASUREMENTS[name](options[name], Rooms(Path(folder), opened=opened))
        result = {"command": command_of(name, given), **found}
        storage = options[name].storage
        path = output or RESULTS / f"scale_{name if storage == SQLITE else f'{name}_{storage}'}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result, indent=1))
    return 0


def measure_partitions(options: Options, rooms: Rooms) -> dict[str, Any]:
    """Register ranges as partitions."""
    return dict(rooms.run(scale_runs.register, rooms.folder(), options.ranges))


def measure_overhead(options: Options, rooms: Rooms) -> dict[str, Any]:
    """Run small ranges, few and more of them; what one more range costs is the difference."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for ranges in options.sizes:
        for name in VARIANTS:
            places = rooms.place(options.kind), rooms.place(options.kind)
            runs[name].append(run_variant(name, options, rooms, *places, ranges * options.range_count))
    per_range = {name: slopes(found, options.sizes) for name, found in runs.items()}
    return {
        "storage": options.storage,
        "sizes": list(options.sizes),
        "range_count": options.range_count,
        "runs": runs,
        "per_range": per_range,
    }


def run_variant(
    name: str, options: Options, rooms: Rooms, source: Place, target: Place, records: int
) -> dict[str, Any]:
    """Run a migration with the engine or with Dagster, in a process of its own."""
    arguments = source, target, rooms.folder(), options.range_count, records
    if name == "engine":
        return dict(rooms.run(scale_runs.run_engine, *arguments))
    return dict(rooms.run(scale_runs.run_dagster, *arguments, rooms.database(options.storage)))


def slopes(found: Sequence[Mapping[str, float]], sizes: Sequence[int]) -> dict[str, float]:
    """Return what one more range adds to each figure."""
    first, last = found[0], found[-1]
    return {name: round((last[name] - first[name]) / (sizes[-1] - sizes[0]), 4) for name in first}


def measure_speed(options: Options, rooms: Rooms) -> dict[str, Any]:
    """Run one migration with the engine and with Dagster, over the same source; means over the rounds."""
    source = rooms.place(options.kind)
    if options.kind != scale_runs.MEMORY:
        rooms.run(scale_runs.fill_place, source, options.records, options.dimension)
    variants = list(VARIANTS)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name in variants:
            target = rooms.place(options.kind)
            found[name].append(run_variant(name, options, rooms, source, target, options.records))
        variants.reverse()  # a machine that gets slower slows both
    engine, dagster = mean(found["engine"]), mean(found["dagster"])
    ranges = -(-options.records // options.range_count)
    return {
        "store": KNOWN[options.kind],
        "storage": options.storage,
        "records": options.records,
        "range_count": options.range_count,
        "dimension": 4 if options.kind == scale_runs.MEMORY else options.dimension,
        "rounds": options.rounds,
        "runs": {"engine": engine, "dagster": dagster},
        "ratio": round(engine["seconds"] / dagster["seconds"], 3),
        "cpu_ratio": round(engine["cpu_s"] / dagster["cpu_s"], 3),
        "extra_cpu_s_per_range": round((dagster["cpu_s"] - engine["cpu_s"]) / ranges, 3),
    }


def mean(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure."""
    return {name: round(sum(run[name] for run in found) / len(found), 4) for name in found[0]}


def measure_detect(options: Options, rooms: Rooms) -> dict[str, Any]:
    """Detect in an unchanged source, and list its ids."""
    source = rooms.place(options.kind)
    if options.kind != scale_runs.MEMORY:
        work = functools.partial(scale_runs.fill_place, is_short=options.is_short)
        rooms.run(work, source, options.records, options.dimension)
    found = rooms.run(scale_detect.detect, source, rooms.folder(), options.range_count, options.records)
    ratio = round(found["detect"]["seconds"] / found["listing"]["seconds"], 2)
    return {"store": KNOWN[options.kind], "dimension": options.dimension, **found, "ratio": ratio}


def measure_page(options: Options, rooms: Rooms) -> dict[str, Any]:
    """Open Dagster's pages of many ranges in a browser."""
    return dict(rooms.run(scale_browser.open_pages, rooms.folder(), options.ranges, options.screenshots))


MEASUREMENTS: Mapping[str, Callable[[Options, Rooms], dict[str, Any]]] = {
    "partitions": measure_partitions,
    "overhead": measure_overhead,
    "speed": measure_speed,
    "detect": measure_detect,
    "page": measure_page,
}

DEFAULTS = {
    "partitions": Options(0, 0, 10_000, (), 0, scale_runs.MEMORY),
    "overhead": Options(0, 10, 0, (25, 125, 500), 4, scale_runs.MEMORY),
    "speed": Options(200_000, 50_000, 0, (), 16, "qdrant_edge"),
    "detect": Options(100_000, 10_000, 0, (), 16, "qdrant_edge"),
    "page": Options(0, 0, 10_000, (), 0, scale_runs.MEMORY),
}


def read_options(arguments: Sequence[str]) -> tuple[dict[str, Options], list[str], Path | None]:
    """Read the command line: the options of each measurement, which are wanted, and the file of the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="How the pipeline grows.")
    parser.add_argument("what", nargs="?", choices=list(MEASUREMENTS), help="one measurement; default all")
    parser.add_argument("--records", type=int, help="of speed and detect")
    parser.add_argument("--range-count", type=int, help="records per range")
    parser.add_argument("--ranges", type=int, help="of partitions and page")
    parser.add_argument("--sizes", type=_sizes, help="ranges of the runs of overhead, e.g. 25,125,500")
    parser.add_argument("--dimension", type=int)
    parser.add_argument("--rounds", type=int, help="of speed: the variants take turns; default 1")
    parser.add_argument("--kind", choices=KINDS_HERE, help="the stores on both sides; of detect, the source")
    parser.add_argument("--storage", choices=list(NAMES), help="of overhead and speed: where Dagster keeps its events")
    parser.add_argument("--short", action="store_true", help="of detect: records without text, for many of them")
    parser.add_argument("--screenshots", type=Path, help="of page: the folder where a picture goes")
    parser.add_argument("--output", type=Path, help="the JSON file; default benchmarks/results/scale_...json")
    given = parser.parse_args(arguments)
    chosen = [given.what] if given.what else list(MEASUREMENTS)
    if given.output and len(chosen) > 1:
        parser.error("--output is for one measurement")
    if given.kind == "milvus" and given.what != "detect":
        parser.error("--kind milvus is for detect")
    if given.storage and given.what not in ("overhead", "speed"):
        parser.error("--storage is for overhead and speed")
    names = ("records", "range_count", "ranges", "sizes", "dimension", "kind", "rounds", "storage")
    values = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    values |= {"is_short": given.short, "screenshots": given.screenshots}
    return {name: Options(**{**vars(DEFAULTS[name]), **values}) for name in chosen}, chosen, given.output


def _sizes(text: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in text.split(","))
    if len(found) < 2 or list(found) != sorted(set(found)):
        raise argparse.ArgumentTypeError("expected two or more numbers that grow, e.g. 25,125")
    return found


def command_of(name: str, arguments: Sequence[str]) -> str:
    """Return the command that measures the same again."""
    kept = [argument for argument in arguments if argument not in MEASUREMENTS]
    for option in ("--output", "--screenshots"):
        if option in kept:
            position = kept.index(option)
            del kept[position : position + 2]
    return shlex.join(["python", "-m", "benchmarks.scale", name, *kept])


if __name__ == "__main__":
    sys.exit(main())
