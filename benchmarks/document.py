"""The numbers in docs/benchmarks.md, written from the quoted results: ``python -m benchmarks.document``.

Belongs here: the tables between the marks of that page, which a test compares with the results. Does not belong here:
the words around them.

Only ratios go into the page: absolute times are of one machine on one day.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.again import PROMISED, WAYS
from benchmarks.places import KINDS
from benchmarks.report import LABELS
from benchmarks.variant import DAGSTER, ENGINE, STEPS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = Path(__file__).parent / "results"
_TABLES = ("chroma_to_milvus", "milvus_to_chroma", "pairs", "engine", "again", "memory", "engine_memory")
QUOTED = {name: RESULTS / f"quoted_{name}.json" for name in _TABLES}
"""Name of the table in the page -> the result it is written from."""


def main() -> None:
    """Write the tables into the page."""
    PAGE.write_text(documented(PAGE.read_text()))


def documented(page: str) -> str:
    """Return the page with its tables and commands as the quoted results have them."""
    results = {name: json.loads(path.read_text()) for name, path in QUOTED.items()}
    return with_blocks(
        page, {name: [f"`{found['command']}`", "", *_table(name, found)] for name, found in results.items()}
    )


def with_blocks(page: str, blocks: Mapping[str, Sequence[str]]) -> str:
    """Return a page with other lines between its marks ``<!-- name -->`` and ``<!-- end -->``.

    Raises:
        ValueError: A mark is missing, or there twice.
    """
    for name, lines in blocks.items():
        text = "\n".join(lines)
        marks = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        page, count = re.subn(
            marks, lambda found, text=text: f"{found[1]}\n{text}\n\n{found[2]}", page, flags=re.DOTALL
        )
        if count != 1:
            raise ValueError(f"the page has {count} places marked <!-- {name} -->, expected one")
    return page


def _table(name: str, result: Mapping[str, Any]) -> list[str]:
    return TABLES.get(name, speed_table)(result)


def speed_table(result: Mapping[str, Any]) -> list[str]:
    """Return the ratios to the straight-line script as a Markdown table."""
    lines = [
        "| source → target | records | steps, no validation | whole Dagster run, full validation |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {_pair(case)} | {case['records']:,} | {case['ratio'][STEPS]:.2f} | {case['ratio'][DAGSTER]:.2f} |"
        for case in result["cases"]
    ]
    return lines


def engine_table(result: Mapping[str, Any]) -> list[str]:
    """Return the ratios to the pipelined script as a Markdown table."""
    lines = ["| source → target | records | engine, one worker, no validation |", "|---|---|---|"]
    lines += [
        f"| {_pair(case)} | {case['records']:,} | {case['ratio_to_pipelined'][ENGINE]:.2f} |"
        for case in result["cases"]
    ]
    return lines


def again_table(result: Mapping[str, Any]) -> list[str]:
    """Return what a second run takes of the time of a full one as a Markdown table."""
    lines = [
        "| source → target | records | second run | part of the full time | not counting search | promised | reads |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {_pair(case)} | {case['records']:,} | {WAYS[way]} | {facts['part']:.2f} "
        f"| {facts['part_unless_searchable']:.2f} | {PROMISED[way]} | {facts['reads']} |"
        for case in result["cases"]
        for way, facts in case["again"].items()
    ]
    return lines


def memory_table(result: Mapping[str, Any]) -> list[str]:
    """Return how peak memory grows from the smallest to the largest size as a Markdown table."""
    sizes = sorted({case["records"] for case in result["cases"]})
    small, large = sizes[0], sizes[-1]
    lines = [
        f"| source → target | variant | peak memory of {large:,} records as a multiple of {small:,} |",
        "|---|---|---|",
    ]
    for case in result["cases"]:
        if case["records"] != large:
            continue
        before = next(c for c in result["cases"] if c["records"] == small and _pair(c) == _pair(case))
        for variant in case["runs"]:
            factor = peak_bytes(case["runs"][variant]) / peak_bytes(before["runs"][variant])
            lines.append(f"| {_pair(case)} | {LABELS[variant]} | {factor:.2f} |")
    return lines


def peak_bytes(runs: Sequence[Mapping[str, Any]]) -> float:
    """Return the largest peak of the rounds: memory is a limit, not an average."""
    return max(float(run["peak_bytes"]) for run in runs)


TABLES = {"memory": memory_table, "engine_memory": memory_table, "engine": engine_table, "again": again_table}


def _pair(case: Mapping[str, Any]) -> str:
    return f"{KINDS[case['source']]} → {KINDS[case['target']]}"


if __name__ == "__main__":
    main()
