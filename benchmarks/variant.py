"""One measured run, in a process of its own: ``python -m benchmarks.variant JSON``; writes what it measured to a file.

Belongs here: what a variant does before, during and after its clock runs. Does not belong here: the order of runs
(``__main__``).

The clock starts when the libraries are imported and everything of the process is ready, and stops at the last
acknowledgement (with validation: at the end of the proof). Making the empty collection and making it searchable are
told apart.
"""

import importlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import pipeline
from benchmarks.data import pages
from benchmarks.measure import Stopwatch, peak_memory_bytes
from benchmarks.places import Place
from benchmarks.straight_line import copy, copy_pipelined, fill

FILL, STRAIGHT_LINE, PIPELINED = "fill", "straight_line", "pipelined"
STEPS, DAGSTER, ENGINE = "steps", "dagster", "engine"
SCRIPTS = (STRAIGHT_LINE, PIPELINED)
_CLIENTS = {"chroma": "chromadb", "milvus": "pymilvus", "qdrant": "qdrant_client"}


@dataclass(frozen=True)
class Order:
    """What one run is to do.

    Attributes:
        variant: `FILL`, one of `SCRIPTS`, `STEPS`, `DAGSTER` or `ENGINE`.
        source: None for `FILL`.
        folder: An empty folder for the run's own state.
        result: The file for what was measured.
        ordered_at: When the process was started, in seconds since the epoch.
    """

    variant: str
    source: Place | None
    target: Place
    count: int
    dimension: int
    range_count: int
    folder: str
    result: str
    ordered_at: float

    def to_json(self) -> str:
        """Return the order as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Order":
        """Return the order that `to_json` wrote."""
        values = json.loads(text)
        source = values.pop("source")
        target = Place(**values.pop("target"))
        return Order(source=None if source is None else Place(**source), target=target, **values)


@dataclass(frozen=True)
class Measured:
    """What a run took.

    Attributes:
        copy_s: Seconds to the last acknowledgement, or to the end of the proof.
        create_s: Seconds for making the empty collection.
        searchable_s: Seconds from the last acknowledgement until everything can be searched.
        start_s: Seconds from the start of the process to the start of the clock.
        cpu_s: CPU seconds of this process (an embedded engine's included) while the clock ran.
        base_bytes: Peak memory when the clock started.
        peak_bytes: Peak memory at the end.
        step_s: Seconds by step, as the pipeline's events tell them.
    """

    records: int
    copy_s: float
    create_s: float
    searchable_s: float
    start_s: float
    cpu_s: float
    base_bytes: int
    peak_bytes: int
    step_s: dict[str, float] = field(default_factory=dict)


def main() -> None:
    """Run the order in the first argument."""
    order = Order.from_json(sys.argv[1])
    watch = Stopwatch()
    steps: Counter[str] = Counter()
    run = _prepare(order, watch)
    start_s, base_bytes = time.time() - order.ordered_at, peak_memory_bytes()
    with nullcontext() if order.variant in (FILL, *SCRIPTS) else _steps_counted(steps):
        watch.start()
        records = run()
    if records != order.count:
        raise RuntimeError(f"{records} of {order.count} records arrived in {order.target.url}")
    measured = Measured(
        records=records,
        copy_s=watch.copy_s,
        create_s=watch.seconds["create"],
        searchable_s=watch.seconds["finish_loading"],
        start_s=start_s,
        cpu_s=watch.cpu_s,
        base_bytes=base_bytes,
        peak_bytes=peak_memory_bytes(),
        step_s=dict(steps),
    )
    Path(order.result).write_text(json.dumps(asdict(measured)))


def _prepare(order: Order, watch: Stopwatch) -> Callable[[], int]:
    for place in (order.source, order.target):
        if place is not None:
            family = place.kind.partition("_")[0]
            importlib.import_module("qdrant_edge" if place.kind == "qdrant_edge" else _CLIENTS[family])
    if order.variant == FILL:
        return lambda: _fill(order, watch)
    assert order.source is not None
    if order.variant in SCRIPTS:
        return lambda: _copy_straight(order, watch)
    is_whole = order.variant == DAGSTER
    values = pipeline.migration_values(order.source, order.target, order.range_count, "full" if is_whole else "none")
    prepare = {DAGSTER: pipeline.prepare_dagster, STEPS: pipeline.prepare_steps, ENGINE: pipeline.prepare_engine}
    return prepare[order.variant](values, Path(order.folder), watch)


def _fill(order: Order, watch: Stopwatch) -> int:
    target = order.target.open_script()
    target.create(order.dimension)
    fill(target, pages(order.count, order.dimension))
    watch.stop()
    records = target.count()
    target.close()
    return records


def _copy_straight(order: Order, watch: Stopwatch) -> int:
    assert order.source is not None
    source, target = order.source.open_script(), order.target.open_script()
    with watch.timing("create"):
        target.create(order.dimension)
    (copy if order.variant == STRAIGHT_LINE else copy_pipelined)(source, target)
    watch.stop()
    with watch.timing("finish_loading"):
        target.finish()
    records = target.count()
    source.close()
    target.close()
    return records


def _steps_counted(steps: Counter[str]) -> AbstractContextManager[None]:
    """Add up the pipeline's own times by step, for whoever looks for what is slow."""
    from rag_migration_pipeline import events

    def count(event: Any) -> None:
        if isinstance(event, events.BatchDone):
            steps[event.step] += event.duration_s

    return events.subscribe(count)


if __name__ == "__main__":
    main()
