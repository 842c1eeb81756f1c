"""The numbers in docs/scale.md, written from the quoted results: ``python -m benchmarks.scale_page``.

Belongs here: the tables between the marks of that page, which a test compares with the results, and what was promised.
Does not belong here: the words around them, measuring (``scale``), reckoning (``simulation``).
"""

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.document import ROOT, with_blocks
from benchmarks.simulation import RESULTS, advice, costs_of, default_plans, table
from benchmarks.storage import NAMES, SQLITE

PAGE = ROOT / "docs" / "scale.md"
_TABLES = ("partitions", "page", "overhead", "overhead_postgresql", "speed", "detect", "detect_milvus")
QUOTED = {name: RESULTS / f"quoted_scale_{name}.json" for name in _TABLES}
MOST_S, MOST_PAGE_S, MOST_CPU_S, LEAST_RATIO = 10.0, 5.0, 0.6, 0.85
"""Promised: seconds to register 10,000 partitions, seconds until their page can be used, CPU seconds per range, a part
of the engine's speed."""

SIMULATION = "python -m benchmarks.simulation"


def main() -> None:
    """Write the tables into the page."""
    PAGE.write_text(documented(PAGE.read_text()))


def documented(page: str) -> str:
    """Return the page with its tables and commands as the quoted results have them."""
    results = {name: json.loads(path.read_text()) for name, path in QUOTED.items()}
    tables = {
        "partitions": partitions_table(results["partitions"]),
        "page": page_table(results["page"]),
        "overhead": overhead_table(results["overhead"]),
        "overhead_postgresql": overhead_table(results["overhead_postgresql"]),
        "speed": speed_table(results["speed"]),
        "detect": detect_table(results["detect"]),
        "detect_milvus": detect_table(results["detect_milvus"]),
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


def page_table(result: Mapping[str, Any]) -> list[str]:
    """Return after how many seconds Dagster's pages of many ranges can be used."""
    pages = {"partitions": "the partitions page", "overview": "the overview of the asset"}
    lines = head("seconds until it can be used", "first time", "again", "promised", "")
    for name, text in pages.items():
        first, again = result["first"][name], result["second"][name]
        is_promised = name == "partitions"
        promise = f"under {MOST_PAGE_S:g}" if is_promised else ""
        kept = is_kept(max(first, again) < MOST_PAGE_S) if is_promised else ""
        lines.append(row(text, f"{first:.1f}", f"{again:.1f}", promise, kept))
    return lines


def overhead_table(result: Mapping[str, Any]) -> list[str]:
    """Return what a range costs in runs of several sizes."""
    cpu, storage = "CPU s per range", result.get("storage", SQLITE)
    names = ["ranges in a run", f"{cpu}, Dagster", f"{cpu}, engine", "event rows per range"]
    names.append(f"bytes per range in {NAMES[storage]}")
    if storage != SQLITE:
        names[2:2] = [f"{cpu}, {NAMES[storage]}'s own processes", "connections per range"]
    lines, runs = head(*names), result["runs"]
    for ranges, whole, alone in zip(result["sizes"], runs["dagster"], runs["engine"], strict=True):
        rows, size = whole["event_rows"] / ranges, whole["instance_bytes"] / ranges
        cells = [f"{whole['cpu_s'] / ranges:.3f}", f"{alone['cpu_s'] / ranges:.3f}", f"{rows:.1f}", f"{size:,.0f}"]
        if storage != SQLITE:
            cells[1:1] = [f"{whole['server_cpu_s'] / ranges:.3f}", f"{whole['connections'] / ranges:.1f}"]
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
    """Return how long a detect job takes beside one listing of the ids, and what of it is what."""
    job, listing, parts = result["detect"], result["listing"], result["parts"]
    names = ["the job, s", "its two listings", "comparing", "Dagster, opening", "one listing alone, s"]
    seconds = (job["seconds"], parts["listings"], parts["comparing"], parts["dagster"], listing["seconds"])
    names += ["CPU s of the job", "CPU s of a listing"]
    cells = [f"{value:.2f}" for value in (*seconds, job["cpu_s"], listing["cpu_s"])]
    return [*head("store", "records", *names), row(result["store"], f"{result['records']:,}", *cells)]


if __name__ == "__main__":
    main()
