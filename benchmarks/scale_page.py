"""The numbers in docs/scale.md, written from the quoted results: ``python -m benchmarks.scale_page``.

Belongs here: the tables between the marks of that page, which a test compares with the results, and what was promised.
Does not belong here: the words around them, measuring (``scale``), reckoning (``simulation``).
"""

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.document import ROOT, with_blocks
from benchmarks.simulation import RESULTS, advice, costs_of, default_plans, table

PAGE = ROOT / "docs" / "scale.md"
QUOTED = {name: RESULTS / f"quoted_scale_{name}.json" for name in ("partitions", "overhead", "speed", "detect")}
MOST_S, MOST_CPU_S, LEAST_RATIO = 10.0, 0.6, 0.85
"""Promised: 10,000 partitions within so many seconds, CPU seconds per range, a part of the engine's speed."""

SIMULATION = "python -m benchmarks.simulation"


def main() -> None:
    """Write the tables into the page."""
    PAGE.write_text(documented(PAGE.read_text()))


def documented(page: str) -> str:
    """Return the page with its tables and commands as the quoted results have them."""
    results = {name: json.loads(path.read_text()) for name, path in QUOTED.items()}
    tables = {
        "partitions": partitions_table(results["partitions"]),
        "overhead": overhead_table(results["overhead"]),
        "speed": speed_table(results["speed"]),
        "detect": detect_table(results["detect"]),
    }
    blocks = {name: [f"`{results[name]['command']}`", "", *lines] for name, lines in tables.items()}
    costs, plans = costs_of(results["overhead"], results["speed"], results["partitions"]), default_plans()
    blocks["simulation"] = [f"`{SIMULATION}`", "", *table(plans, costs), "", *advice(plans, costs)]
    return with_blocks(page, blocks)


def is_kept(holds: bool) -> str:
    return "kept" if holds else "**not kept**"


def head(*names: str) -> list[str]:
    """Return the first two lines of a table."""
    return [row(*names), "|" + "---|" * len(names)]


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def partitions_table(result: Mapping[str, Any]) -> list[str]:
    """Return how long registering partitions takes."""
    first, again = result["first"]["seconds"], result["again"]["seconds"]
    count, manifest = f"{result['partitions']:,}", result["manifest"]
    read = f"{1_000 * manifest['seconds']:.0f} ms"
    return [
        *head("what", "measured", "promised", ""),
        row(f"{count} partitions registered", f"{first:.2f} s", f"under {MOST_S:g} s", is_kept(first < MOST_S)),
        row("the same once more, unchanged", f"{again:.2f} s", "", ""),
        row(f"reading a manifest of {count} ranges ({manifest['bytes'] / 1e6:.1f} MB)", read, "", ""),
    ]


def overhead_table(result: Mapping[str, Any]) -> list[str]:
    """Return what a range costs in runs of several sizes."""
    cpu = "CPU s per range"
    lines = head(
        "ranges in a run", f"{cpu}, Dagster", f"{cpu}, engine", "event rows per range", "bytes per range in SQLite"
    )
    runs = result["runs"]
    for ranges, whole, alone in zip(result["sizes"], runs["dagster"], runs["engine"], strict=True):
        rows, size = whole["event_rows"] / ranges, whole["instance_bytes"] / ranges
        cells = f"{whole['cpu_s'] / ranges:.3f}", f"{alone['cpu_s'] / ranges:.3f}", f"{rows:.1f}", f"{size:,.0f}"
        lines.append(row(f"{ranges:,}", *cells))
    return lines


def speed_table(result: Mapping[str, Any]) -> list[str]:
    """Return a whole Dagster run beside the engine."""
    cpu_s, ratio = result["extra_cpu_s_per_range"], result["ratio"]
    size = f"{result['records']:,} records in ranges of {result['range_count']:,}"
    part = "speed, as a part of the engine's"
    what = f"{result['store']} on both sides, {size}, dimension {result['dimension']}"
    return [
        f"{what}; rounds: {result['rounds']}.",
        "",
        *head("Dagster beside the engine", "measured", "promised", ""),
        row(part, f"{ratio:.2f}", f"at least {LEAST_RATIO}", is_kept(ratio >= LEAST_RATIO)),
        row("the same, by CPU seconds", f"{result['cpu_ratio']:.2f}", "", ""),
        row("CPU s more per range", f"{cpu_s:.2f}", f"at most {MOST_CPU_S}", is_kept(cpu_s <= MOST_CPU_S)),
    ]


def detect_table(result: Mapping[str, Any]) -> list[str]:
    """Return how long a detect job takes beside one listing of the ids."""
    job, listing = result["detect"]["cpu_s"], result["listing"]["cpu_s"]
    return [
        *head("store", "records", "time of the job, in listings", "CPU s of the job", "CPU s of a listing"),
        row(result["store"], f"{result['records']:,}", f"{result['ratio']:.1f}", f"{job:.2f}", f"{listing:.2f}"),
    ]


if __name__ == "__main__":
    main()
