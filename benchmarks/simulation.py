"""What a collection of any size needs, reckoned from measured costs: ``python -m benchmarks.simulation``.

    python -m benchmarks.simulation                                    100 million and 1 billion records
    python -m benchmarks.simulation --records 5000000 --range-counts 20000 --rate 1500

Belongs here: the laws by which ranges, runs, events, bytes and hours grow, and which option changes them. Does not
belong here: measuring (``scale``), any store.

The laws are plain: everything grows with the records or with the ranges; Dagster's bookkeeping also with the square of
the ranges, because every op reads the whole manifest; planning and the proof are done once, by one worker; ranges are
shared by workers without loss, which flatters many workers, unless the most that a store takes is given.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SIZES = (100_000_000, 1_000_000_000)
RANGE_COUNTS = (50_000, 500_000)
WORKERS = (1, 4, 16)
READS = 3
"""How often a range's ops read the manifest: extract, load and validate; with filter and mapping more often."""

_LARGE_SHARE = 0.1
_MANY_ROWS = 1_000_000
_MUCH_STAGED = 10 * 10**9


@dataclass(frozen=True)
class Costs:
    """What was measured.

    Attributes:
        carry_s: Seconds of one worker per record of a range: read, write, read back, compare.
        serial_s: Seconds per record of what is done once, by one worker: planning, and the proof of the whole.
        range_s: Seconds that Dagster adds per range.
        growth_s: Seconds that Dagster adds per range for each range of the manifest, which its ops read.
        rows: Event rows per range.
        run_rows: Event rows per run beside them.
        range_bytes: Bytes of Dagster's instance (SQLite) per range.
        state_bytes: Bytes of the state folder per record.
        staged_bytes: Bytes of a staged range per record.
        most_per_s: The most records per second that the stores take, however many workers ask; None: not known.
        staged_s: Seconds that Dagster adds per record, beside those per range.
    """

    carry_s: float
    serial_s: float
    range_s: float
    growth_s: float
    rows: float
    run_rows: float
    range_bytes: float
    state_bytes: float
    staged_bytes: float
    most_per_s: float | None = None
    staged_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What is to be carried, and how.

    Attributes:
        ranges_per_run: How many ranges one Dagster run carries at most; None: all in one.
    """

    records: int
    range_count: int = 50_000
    workers: int = 1
    ranges_per_run: int | None = None


@dataclass(frozen=True)
class Needs:
    """What that takes.

    Attributes:
        hours: With the engine and that many workers.
        dagster_hours: With Dagster, whose run carries one range at a time.
        dagster_share: The part of them that Dagster's own bookkeeping takes.
        serial_share: The part of ``hours`` that no more workers make shorter.
    """

    ranges: int
    runs: int
    event_rows: int
    instance_bytes: int
    state_bytes: int
    staging_bytes: int
    hours: float
    dagster_hours: float
    dagster_share: float
    serial_share: float


def needs(plan: Plan, costs: Costs) -> Needs:
    """Return what a plan needs."""
    if min(plan.records, plan.range_count, plan.workers, plan.ranges_per_run or 1) < 1:
        raise ValueError("records, records per range, workers and ranges per run are at least 1")
    ranges = math.ceil(plan.records / plan.range_count)
    per_run = min(plan.ranges_per_run or ranges, ranges)
    runs = math.ceil(ranges / per_run)
    serial_s, carry_s = plan.records * costs.serial_s, plan.records * costs.carry_s
    turns = math.ceil(ranges / plan.workers)
    least_s = 0.0 if costs.most_per_s is None else plan.records / costs.most_per_s
    carry_s = max(carry_s, least_s)
    shared_s = max(least_s, min(carry_s, turns * plan.range_count * costs.carry_s))
    own_s = ranges * (costs.range_s + ranges * costs.growth_s)
    dagster_s = serial_s + carry_s + plan.records * costs.staged_s + own_s
    return Needs(
        ranges=ranges,
        runs=runs,
        event_rows=round(ranges * costs.rows + runs * costs.run_rows),
        instance_bytes=round(ranges * costs.range_bytes),
        state_bytes=round(plan.records * costs.state_bytes),
        staging_bytes=round(min(plan.range_count, plan.records) * costs.staged_bytes),
        hours=(serial_s + shared_s) / 3_600,
        dagster_hours=dagster_s / 3_600,
        dagster_share=own_s / dagster_s,
        serial_share=serial_s / (serial_s + shared_s),
    )


def knobs(plan: Plan, costs: Costs) -> list[str]:
    """Return which option changes what weighs most, in a sentence each."""
    found, said = needs(plan, costs), []
    if found.dagster_share > _LARGE_SHARE:
        less = replace(plan, range_count=10 * plan.range_count)
        text = f"{found.dagster_share:.0%} of the hours in Dagster are its own bookkeeping"
        said.append(f"{text}: `range_count: {less.range_count}` makes it {needs(less, costs).dagster_share:.0%}.")
    if found.event_rows > _MANY_ROWS:
        text = f"{found.event_rows:,} event rows"
        said.append(f"{text}: keep Dagster's events in PostgreSQL (docs/deployment.md), or raise `range_count`.")
    if found.staging_bytes > _MUCH_STAGED:
        said.append(f"A staged range takes {_bytes(found.staging_bytes)}: lower `range_count`, or give it the disk.")
    most = WORKERS[-1]
    one, many = (needs(replace(plan, workers=count), costs) for count in (1, most))
    if one.hours > 24 and one.dagster_hours > 1.5 * one.hours:
        text = f"Dagster takes {one.dagster_hours / one.hours:.1f} times the engine's hours"
        said.append(f"{text}: carry the first copy with `rag-migrate` on the same state folder, and sync with Dagster.")
    if one.hours > 24 and many.serial_share > 0.5:
        text = f"Of the hours of {most} workers {many.serial_share:.0%} are planning and the proof of the whole"
        said.append(f"{text}: more workers gain little; split the collection with `filter` into several migrations.")
    elif one.hours > 24:
        text = f"One worker needs {_hours(one.hours)} hours, {most} need {_hours(many.hours)}"
        said.append(f"{text}: run it with the engine and `max_workers`, as far as the stores keep up.")
    return said


def costs_of(overhead: Mapping[str, Any], speed: Mapping[str, Any], partitions: Mapping[str, Any]) -> Costs:
    """Return the costs that three results of ``benchmarks.scale`` tell."""
    engine, dagster = speed["runs"]["engine"], speed["runs"]["dagster"]
    per_range, first = overhead["per_range"], overhead["runs"]["dagster"][0]
    rows = per_range["dagster"]["event_rows"]
    serial_s = engine["planning_s"] + engine["proof_s"]
    range_s = max(per_range["dagster"]["seconds"] - per_range["engine"]["seconds"], 0.0)
    more_s = (dagster["seconds"] - engine["seconds"]) / speed["records"] - range_s / speed["range_count"]
    return Costs(
        carry_s=(engine["seconds"] - serial_s) / speed["records"],
        serial_s=serial_s / speed["records"],
        range_s=range_s,
        growth_s=READS * partitions["manifest"]["seconds"] / partitions["partitions"],
        rows=rows,
        run_rows=first["event_rows"] - overhead["sizes"][0] * rows,
        range_bytes=per_range["dagster"]["instance_bytes"],
        state_bytes=engine["state_bytes"] / speed["records"],
        staged_bytes=dagster["staged_bytes"] / speed["records"],
        staged_s=max(more_s, 0.0),
    )


def quoted_costs() -> Costs:
    """Return the costs that the quoted results tell."""
    paths = [RESULTS / f"quoted_scale_{name}.json" for name in ("overhead", "speed", "partitions")]
    return costs_of(*(json.loads(path.read_text()) for path in paths))


def table(plans: Sequence[Plan], costs: Costs, workers: Sequence[int] = WORKERS) -> list[str]:
    """Return what plans need as a Markdown table, hours by number of workers."""
    heads = ["records", "per range", "ranges", "runs", "event rows", "Dagster's instance", "state", "a staged range"]
    heads += [f"hours, {count} worker{'s' if count > 1 else ''}" for count in workers] + ["hours in Dagster"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for plan in plans:
        found = needs(plan, costs)
        taken = " | ".join(_hours(needs(replace(plan, workers=count), costs).hours) for count in workers)
        lines.append(
            f"| {plan.records:,} | {plan.range_count:,} | {found.ranges:,} | {found.runs:,} | {found.event_rows:,} "
            f"| {_bytes(found.instance_bytes)} | {_bytes(found.state_bytes)} | {_bytes(found.staging_bytes)} "
            f"| {taken} | {_hours(found.dagster_hours)} |"
        )
    return lines


def advice(plans: Sequence[Plan], costs: Costs) -> list[str]:
    """Return the knobs of plans as a Markdown list."""
    return [
        f"- {plan.records:,} records, {plan.range_count:,} per range: {' '.join(said)}"
        for plan in plans
        if (said := knobs(plan, costs))
    ]


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1_000:
            return f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:,.1f} GB"


def default_plans() -> list[Plan]:
    """Return the plans that are printed where none are asked for."""
    return [Plan(records, range_count) for records in SIZES for range_count in RANGE_COUNTS]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is needed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description="What a collection needs.")
    parser.add_argument("--records", type=_numbers, default=SIZES, help="e.g. 100000000,1000000000")
    parser.add_argument("--range-counts", type=_numbers, default=RANGE_COUNTS, help="records per range")
    parser.add_argument("--workers", type=_numbers, default=WORKERS)
    parser.add_argument("--ranges-per-run", type=int, help="ranges of one Dagster run; default all")
    parser.add_argument("--rate", type=float, help="records per second of one worker, as measured by yourself")
    parser.add_argument("--most", type=float, help="records per second that the stores take from all workers")
    given = parser.parse_args(arguments)
    costs = replace(quoted_costs(), most_per_s=given.most)
    if given.rate:
        factor = 1 / given.rate / (costs.carry_s + costs.serial_s)
        scaled = {name: getattr(costs, name) * factor for name in ("carry_s", "serial_s", "staged_s")}
        costs = replace(costs, **scaled)
    plans = [Plan(records, count, 1, given.ranges_per_run) for records in given.records for count in given.range_counts]
    print("\n".join([*table(plans, costs, given.workers), "", *advice(plans, costs)]))
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in text.replace("_", "").split(","))
    if min(found) < 1:
        raise argparse.ArgumentTypeError("expected numbers above 0, with commas between them")
    return found


if __name__ == "__main__":
    sys.exit(main())
