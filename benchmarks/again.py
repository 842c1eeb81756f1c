"""A second run beside the full one: resumed after a kill at half, and incremental over an unchanged source.

    python -m benchmarks.again                            Chroma server to Milvus server, 20,000 records
    python -m benchmarks.again --pair chroma-qdrant_edge --size 2000

Belongs here: what is run again, and how long it takes as a part of the full run. Does not belong here: the records and
places (``data``, ``places``).

Every run is a process of its own, with full validation; its clock runs from the start of the migration to its end.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.places import KINDS, Place, Places
from benchmarks.straight_line import fill

WAYS = {
    "resume": "resumed after SIGKILL at half",
    "payload": "incremental, `payload`, nothing changed",
    "ids": "incremental, `ids`, nothing changed",
}
RANGES = 8
_RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of it, print the parts and write the JSON."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["--child"]:
        _child(json.loads(given[1]))
        return 0
    options = _options(given)
    source_kind, _, target_kind = options.pair.partition("-")
    again: dict[str, Any] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="again-") as folder, closing(Places(Path(folder))) as places:
        source = places.source(source_kind, options.size, partial(_fill, options.size, options.dimension))
        for number in range(options.rounds):
            with places.target(target_kind) as target:
                state = Path(folder) / f"state-{number}"
                full = _run(source, target, state, options.size)
                for way in ("payload", "ids"):
                    again[way].append(_run(source, target, state, options.size, incremental=True, detect=way) | full)
            with places.target(target_kind) as target:
                state = Path(folder) / f"killed-{number}"
                _run(source, target, state, options.size, kill_at=RANGES // 2)
                again["resume"].append(_run(source, target, state, options.size, resume=True) | full)
    found = {way: _median(runs) for way, runs in again.items()}
    for way, facts in found.items():
        print(f"{WAYS[way]}: {facts['part']:.2f} of the full run, reads {facts['reads']}")
    content = {
        "command": "python -m benchmarks.again" + "".join(f" {item}" for item in given),
        "machine": {"cpus": os.cpu_count(), "load_average": os.getloadavg()},
        "source": source_kind,
        "target": target_kind,
        "records": options.size,
        "rounds": options.rounds,
        "again": found,
    }
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def _options(given: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.again", description=__doc__.splitlines()[0])
    parser.add_argument("--pair", default="chroma-milvus", help=f"source-target; kinds: {', '.join(KINDS)}")
    parser.add_argument("--size", type=int, default=20_000, help="records")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; the medians of the parts are shown")
    parser.add_argument("--output", type=Path, default=_RESULTS / "again.json")
    return parser.parse_args(given)


def _fill(count: int, dimension: int, place: Place) -> None:
    from benchmarks.data import pages

    target = place.open_script()
    target.create(dimension)
    fill(target, pages(count, dimension))
    target.close()


def _median(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    by_part = sorted(runs, key=lambda run: run["seconds"] / run["full_seconds"])
    run = by_part[len(by_part) // 2]
    reads = [f"{run['vectors']:,} vectors" if run["vectors"] else "no vectors"]
    return {"part": run["seconds"] / run["full_seconds"], "reads": "; ".join(reads), "migrated": run["migrated"]}


def _run(source: Place, target: Place, state: Path, count: int, **options: Any) -> dict[str, Any]:
    """Run a migration in a process of its own; return its seconds, and how many vectors of the source it read."""
    result = state.with_suffix(".json")
    order = {
        "values": {
            "name": "again",
            "source": source.url,
            "target": target.url,
            "range_count": -(-count // RANGES),
            **{name: value for name, value in options.items() if name != "kill_at"},
        },
        "state": str(state),
        "result": str(result),
        "kill_at": options.get("kill_at"),
    }
    command = [sys.executable, "-m", "benchmarks.again", "--child", json.dumps(order)]
    done = subprocess.run(command, check=False, cwd=Path(__file__).parents[1])
    if options.get("kill_at"):
        if done.returncode != -signal.SIGKILL:
            raise RuntimeError(f"the run that was to be killed ended with {done.returncode}")
        return {}
    if done.returncode != 0:
        raise RuntimeError(f"the run ended with {done.returncode}")
    facts: dict[str, Any] = json.loads(result.read_text())
    return facts if options else {"full_seconds": facts["seconds"]}


def _child(order: dict[str, Any]) -> None:
    from rag_migration_pipeline.engine import Engine
    from rag_migration_pipeline.events import Event, RangeProven
    from rag_migration_pipeline.spec import migration_from_spec

    migration = migration_from_spec(order["values"])
    proven: list[str] = []

    def take(event: Event) -> None:
        if isinstance(event, RangeProven):
            proven.append(event.range_key)
            if len(proven) == order["kill_at"]:
                os.kill(os.getpid(), signal.SIGKILL)

    read: Counter[str] = Counter()
    _count_vectors(migration.source, read)
    begun = time.perf_counter()
    outcome = Engine(migration, Path(order["state"]), sink=take).run()
    seconds = time.perf_counter() - begun
    if not outcome.is_done:
        raise RuntimeError(f"the migration was not proven: {outcome.errors}")
    facts = {"seconds": seconds, "migrated": outcome.migrated, "vectors": read["vectors"]}
    Path(order["result"]).write_text(json.dumps(facts))


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
    sys.exit(main())
