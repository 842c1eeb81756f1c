"""A second run beside the full one: resumed after a kill at half, and incremental over an unchanged source.

    python -m benchmarks --resume --incremental

Belongs here: what is run again, how long it takes as a part of the full run, and the table of that. Does not belong
here: the options (``__main__``), the records and places (``data``, ``places``).

Every run is a process of its own, with full validation; its clock runs from the start of the migration to its end.
Making everything searchable is inside, and is also taken off on both sides: a second run does it as a first one does,
whatever is left to carry.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.measure import Stopwatch
from benchmarks.pipeline import time_stores
from benchmarks.places import KINDS, Place, Places

RESUME, PAYLOAD, IDS = "resume", "payload", "ids"
WAYS = {
    RESUME: "resumed after SIGKILL at half",
    PAYLOAD: "incremental, `payload`, nothing changed",
    IDS: "incremental, `ids`, nothing changed",
}
PROMISED = {RESUME: 0.6, PAYLOAD: 0.3, IDS: 0.15}
"""The most that a second run may take, as a part of the full run's time."""

RANGES = 8


@dataclass(frozen=True)
class Run:
    """What one run took.

    Attributes:
        seconds: From the start of the migration to its end.
        searchable_s: Those of them that the target took to make everything searchable.
        vectors: Vectors that were read from the source.
        migrated: Records that it wrote.
    """

    seconds: float
    searchable_s: float
    vectors: int
    migrated: int


@dataclass(frozen=True)
class Again:
    """All rounds of one pair of stores at one size.

    Attributes:
        runs: The full and the second run, by way, a pair per round.
    """

    source: str
    target: str
    count: int
    runs: Mapping[str, Sequence[tuple[Run, Run]]]

    def middle(self, way: str) -> tuple[Run, Run]:
        """Return the round whose part is the median."""
        by_part = sorted(self.runs[way], key=lambda run: run[1].seconds / run[0].seconds)
        return by_part[len(by_part) // 2]

    def to_json(self) -> dict[str, Any]:
        """Return what was measured as JSON values."""
        again = {}
        for way, rounds in self.runs.items():
            full, second = self.middle(way)
            again[way] = {
                "part": second.seconds / full.seconds,
                "part_unless_searchable": (second.seconds - second.searchable_s) / (full.seconds - full.searchable_s),
                "reads": f"{second.vectors:,} vectors" if second.vectors else "no vectors",
                "migrated": second.migrated,
                "runs": [{"full": asdict(full), "second": asdict(second)} for full, second in rounds],
            }
        return {"source": self.source, "target": self.target, "records": self.count, "again": again}


def table_of(cases: Sequence[Again]) -> Table:
    """Return the table that the command prints."""
    table = Table()
    for heading in ("pair, records", "second run", "reads"):
        table.add_column(heading)
    for heading in ("part of the full run", "not counting search", "promised"):
        table.add_column(heading, justify="right")
    for case in cases:
        name = f"{KINDS[case.source]} → {KINDS[case.target]}, {case.count:,}"
        for way, facts in case.to_json()["again"].items():
            parts = f"{facts['part']:.2f}", f"{facts['part_unless_searchable']:.2f}", f"{PROMISED[way]:.2f}"
            table.add_row(name, WAYS[way], facts["reads"], *parts)
    return table


def run_again(
    ways: Sequence[str],
    pair: tuple[str, str],
    count: int,
    rounds: int,
    places: Places,
    folder: Path,
    fill: Callable[[Place], None],
) -> Again:
    """Run a migration in full and again, in every wanted way, and return what it took.

    Args:
        ways: Of `WAYS`.
        pair: Kinds of the source and the target.
        count: Records.
        rounds: Runs of each.
        places: Where the collections lie.
        folder: For the runs' state.
        fill: Fills a source.
    """
    source = places.source(pair[0], count, fill)
    runs: dict[str, list[tuple[Run, Run]]] = {way: [] for way in ways}
    for number in range(rounds):
        with places.target(pair[1]) as target:
            state = folder / "-".join(("full", *pair, str(count), str(number)))
            full = _run(source, target, state, count)
            for way in ways:
                if way != RESUME:
                    runs[way].append((full, _run(source, target, state, count, incremental=True, detect=way)))
        if RESUME in ways:
            with places.target(pair[1]) as target:
                state = folder / "-".join(("killed", *pair, str(count), str(number)))
                _run_killed(source, target, state, count)
                runs[RESUME].append((full, _run(source, target, state, count, resume=True)))
    return Again(*pair, count, runs)


def _run(source: Place, target: Place, state: Path, count: int, **options: Any) -> Run:
    """Run a migration in a process of its own."""
    if code := _start(source, target, state, count, None, options):
        raise RuntimeError(f"the run ended with {code}")
    return Run(**json.loads(_result(state).read_text()))


def _run_killed(source: Place, target: Place, state: Path, count: int) -> None:
    """Run a migration that is killed when half of its ranges are proven."""
    code = _start(source, target, state, count, RANGES // 2, {})
    if code != -signal.SIGKILL:
        raise RuntimeError(f"the run that was to be killed ended with {code}")


def _start(
    source: Place, target: Place, state: Path, count: int, kill_at: int | None, options: Mapping[str, Any]
) -> int:
    values = {"name": "again", "source": source.url, "target": target.url, "range_count": -(-count // RANGES)}
    order = {"values": values | options, "state": str(state), "result": str(_result(state)), "kill_at": kill_at}
    command = [sys.executable, "-m", "benchmarks.again", json.dumps(order)]
    return subprocess.run(command, check=False, cwd=Path(__file__).parents[1]).returncode


def _result(state: Path) -> Path:
    return state.with_suffix(".json")


def main() -> None:
    """Run the order in the first argument, and write what it took; or be killed on the way, where that is ordered."""
    from rag_migration_pipeline.engine import Engine
    from rag_migration_pipeline.events import Event, RangeProven
    from rag_migration_pipeline.spec import migration_from_spec

    order = json.loads(sys.argv[1])
    migration = migration_from_spec(order["values"])
    proven: list[str] = []

    def take(event: Event) -> None:
        if isinstance(event, RangeProven):
            proven.append(event.range_key)
            if len(proven) == order["kill_at"]:
                os.kill(os.getpid(), signal.SIGKILL)

    watch, read = Stopwatch(), Counter[str]()
    time_stores(watch)
    _count_vectors(migration.source, read)
    begun = time.perf_counter()
    outcome = Engine(migration, Path(order["state"]), sink=take).run()
    seconds = time.perf_counter() - begun
    if not outcome.is_done:
        raise RuntimeError(f"the migration was not proven: {outcome.errors}")
    run = Run(seconds, watch.seconds["finish_loading"], read["vectors"], outcome.migrated)
    Path(order["result"]).write_text(json.dumps(asdict(run)))


def _count_vectors(settings: Any, read: Counter[str]) -> None:
    """Count the vectors that are read from the source, whichever way its store reads them."""
    opened = type(settings).open

    def open_counted(self: Any, *, create: bool = False) -> Any:
        store = opened(self, create=create)
        if self.address == settings.address:
            for name in ("read_range", "fetch_pages", "scan"):
                setattr(store, name, _counted(getattr(store, name), read))
        return store

    type(settings).open = open_counted


def _counted(method: Any, read: Counter[str]) -> Any:
    def counted(*arguments: Any, **options: Any) -> Any:
        for batch in method(*arguments, **options):
            read["vectors"] += sum(len(batch) for _ in batch.vectors)
            yield batch

    return counted


if __name__ == "__main__":
    main()
