"""The table and the JSON of a benchmark.

Belongs here: medians, ratios, how they are shown and stored. Does not belong here: measuring.
"""

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from rich.table import Table

from benchmarks.places import KINDS
from benchmarks.variant import DAGSTER, ENGINE, PIPELINED, STEPS, STRAIGHT_LINE, Measured

LABELS = {
    STRAIGHT_LINE: "straight-line script",
    PIPELINED: "pipelined script",
    STEPS: "steps, no validation",
    DAGSTER: "whole Dagster run, full validation",
    ENGINE: "engine, one worker, no validation",
}
_PACKAGES = ("chromadb", "dagster", "milvus", "pymilvus", "milvus-lite", "qdrant-client", "qdrant-edge-py")


class Measurement(Protocol):
    """What a pair of stores was measured for."""

    def to_json(self) -> dict[str, Any]:
        """Return what was measured as JSON values."""


@dataclass(frozen=True)
class Case:
    """All rounds of one pair of stores at one size.

    Attributes:
        runs: What was measured, by variant, one per round.
    """

    source: str
    target: str
    count: int
    runs: Mapping[str, Sequence[Measured]]

    @property
    def name(self) -> str:
        """How a person calls the pair."""
        return f"{KINDS[self.source]} → {KINDS[self.target]}"

    def middle(self, variant: str, what: str) -> float:
        """Return the median over the rounds of one measured value."""
        return median(getattr(run, what) for run in self.runs[variant])

    def rate(self, variant: str) -> float:
        """Return records per second to the last acknowledgement."""
        return self.count / self.middle(variant, "copy_s")

    def ratio(self, variant: str, script: str = STRAIGHT_LINE) -> float | None:
        """Return the rate as a part of a script's of the same round, median of the rounds."""
        if script not in self.runs:
            return None
        pairs = zip(self.runs[script], self.runs[variant], strict=False)
        return median(plain.copy_s / ours.copy_s for plain, ours in pairs)

    def to_json(self) -> dict[str, Any]:
        """Return what was measured as JSON values."""
        return {
            "source": self.source,
            "target": self.target,
            "records": self.count,
            "ratio": {variant: self.ratio(variant) for variant in self.runs},
            "ratio_to_pipelined": {variant: self.ratio(variant, PIPELINED) for variant in self.runs},
            "records_per_s": {variant: self.rate(variant) for variant in self.runs},
            "runs": {variant: [asdict(run) for run in runs] for variant, runs in self.runs.items()},
        }


def table_of(cases: Sequence[Case]) -> Table:
    """Return the table that the command prints."""
    is_piped = any(PIPELINED in case.runs for case in cases)
    table = Table()
    table.add_column("pair, records")
    table.add_column("variant")
    told = ("CPU s", "searchable s", "create s", "start s", "peak MB", "base MB")
    for heading in ("records/s", "ratio", *(["to pipelined"] if is_piped else []), *told):
        table.add_column(heading, justify="right")
    for case in cases:
        for position, variant in enumerate(case.runs):
            ratios = [case.ratio(variant), *([case.ratio(variant, PIPELINED)] if is_piped else [])]
            table.add_row(
                f"{case.name}, {case.count:,}" if position == 0 else "",
                LABELS[variant],
                f"{case.rate(variant):,.0f}",
                *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
                f"{case.middle(variant, 'cpu_s'):.1f}",
                f"{case.middle(variant, 'searchable_s'):.1f}",
                f"{case.middle(variant, 'create_s'):.1f}",
                f"{case.middle(variant, 'start_s'):.1f}",
                f"{case.middle(variant, 'peak_bytes') / 2**20:,.0f}",
                f"{case.middle(variant, 'base_bytes') / 2**20:,.0f}",
                end_section=position == len(case.runs) - 1,
            )
    return table


def memory_lines(cases: Sequence[Case]) -> list[str]:
    """Return per pair and variant how peak memory grows from the smallest to the largest size."""
    lines = []
    for pair in dict.fromkeys((case.source, case.target) for case in cases):
        sizes = sorted((c for c in cases if (c.source, c.target) == pair), key=lambda case: case.count)
        small, large = sizes[0], sizes[-1]
        if small.count == large.count:
            continue
        for variant in large.runs:
            factor = large.middle(variant, "peak_bytes") / small.middle(variant, "peak_bytes")
            lines.append(
                f"{large.name}, {LABELS[variant]}: peak memory of {large.count:,} records is {factor:.2f} times that "
                f"of {small.count:,}"
            )
    return lines


def write_json(path: Path, command: str, settings: Mapping[str, Any], cases: Iterable[Measurement]) -> None:
    """Store everything that was measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "command": command,
        "machine": {"cpus": os.cpu_count(), "load_average": os.getloadavg(), "python": platform.python_version()},
        "packages": {name: version(name) for name in _PACKAGES},
        "settings": dict(settings),
        "cases": [case.to_json() for case in cases],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
