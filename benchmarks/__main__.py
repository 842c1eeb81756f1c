"""The benchmark's command.

    python -m benchmarks                                         all nine pairs, small
    python -m benchmarks --pairs chroma-milvus,milvus-chroma --sizes 20000 --range-count 10000 --rounds 3
    python -m benchmarks --sizes 20000 --variants pipelined,engine   the engine beside a pipelined script
    python -m benchmarks --memory                                peak memory of 20,000 and 80,000 records
    python -m benchmarks --resume --incremental                  second runs beside the full one, 20,000 records

Belongs here: options and the order of the runs. Does not belong here: what a run does (``variant``, ``again``).

Variants take turns (a b c a b c), each in a process of its own, so that a machine that slows down slows all of them.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks import again
from benchmarks.places import KINDS, Place, Places
from benchmarks.report import LABELS, Case, Measurement, memory_lines, table_of, write_json
from benchmarks.variant import DAGSTER, ENGINE, FILL, STEPS, STRAIGHT_LINE, Measured, Order

_MAIN_KINDS = ("chroma", "qdrant_edge", "milvus")
_ALL_PAIRS = ",".join(f"{source}-{target}" for source in _MAIN_KINDS for target in _MAIN_KINDS)
_SERVER_PAIRS = "chroma-milvus,milvus-chroma"
_AGAIN_PAIRS = "chroma-milvus"
_DEFAULT = [STRAIGHT_LINE, STEPS, DAGSTER]
_RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Options:
    """What the command was asked for.

    Attributes:
        ways: Second runs that are wanted beside the full one, instead of variants.
    """

    pairs: Sequence[tuple[str, str]]
    sizes: Sequence[int]
    dimension: int
    range_count: int
    rounds: int
    variants: Sequence[str]
    output: Path
    ways: Sequence[str] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the table and write the JSON."""
    options = read_options(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, closing(Places(Path(folder))) as places:
        if options.ways:
            measured: Sequence[Measurement] = _run_again(options, places, Path(folder), console)
        else:
            measured = _run_variants(options, places, Path(folder), console)
    command = _command(sys.argv[1:] if arguments is None else arguments)
    settings = {"dimension": options.dimension, "range_count": options.range_count, "rounds": options.rounds}
    write_json(options.output, command, settings, measured)
    console.print(f"written: {os.path.relpath(options.output)}", highlight=False)
    return 0


def read_options(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory beside plain scripts.")
    kinds = ", ".join(f"{kind} ({label})" for kind, label in KINDS.items())
    parser.add_argument("--pairs", type=_pairs, help=f"source-target,...; kinds: {kinds}; default: nine pairs")
    parser.add_argument(
        "--sizes", type=_sizes, help="numbers of records; default 2000, with --memory 20000,80000, run again 20000"
    )
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--range-count", type=int, help="records per range; default: half the smallest size")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each variant; medians are shown")
    known = f"which of {', '.join(LABELS)}; default {', '.join(_DEFAULT)}; with --memory the last two and {ENGINE}"
    parser.add_argument("--variants", type=_variants, help=known)
    parser.add_argument("--memory", action="store_true", help="compare the peak memory of two sizes, servers apart")
    parser.add_argument("--resume", action="store_true", help="a run killed at half and resumed, beside a full one")
    unchanged = "runs over an unchanged source that compare payloads and ids, beside a full one"
    parser.add_argument("--incremental", action="store_true", help=unchanged)
    parser.add_argument("--output", type=Path, help="the JSON file; default benchmarks/results/...json")
    given = parser.parse_args(arguments)
    ways = [*([again.RESUME] if given.resume else []), *([again.PAYLOAD, again.IDS] if given.incremental else [])]
    if ways and (given.memory or given.variants or given.range_count):
        parser.error("--resume and --incremental take no --memory, --variants and --range-count")
    sizes = given.sizes or ([20_000, 80_000] if given.memory else [20_000] if ways else [2_000])
    pairs = _AGAIN_PAIRS if ways else _SERVER_PAIRS if given.memory else _ALL_PAIRS
    name = "again.json" if ways else "memory.json" if given.memory else "speed.json"
    return Options(
        pairs=given.pairs or _pairs(pairs),
        sizes=sizes,
        dimension=given.dimension,
        range_count=given.range_count or max(1, min(sizes) // (again.RANGES if ways else 2)),
        rounds=given.rounds,
        variants=given.variants or ([STEPS, DAGSTER, ENGINE] if given.memory else _DEFAULT),
        output=given.output or _RESULTS / name,
        ways=ways,
    )


def _command(arguments: Sequence[str]) -> str:
    """Return the command that measures the same again; where its result lies is nobody else's business."""
    kept = list(arguments)
    if "--output" in kept:
        position = kept.index("--output")
        del kept[position : position + 2]
    return shlex.join(["python", "-m", "benchmarks", *kept])


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = []
    for pair in text.split(","):
        source, _, target = pair.strip().partition("-")
        if source not in KINDS or target not in KINDS:
            raise argparse.ArgumentTypeError(f"{pair!r}: expected source-target of {', '.join(KINDS)}")
        pairs.append((source, target))
    return pairs


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


def _variants(text: str) -> list[str]:
    variants = text.split(",")
    if unknown := [variant for variant in variants if variant not in LABELS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: expected {', '.join(LABELS)}")
    return variants


def _run_variants(options: Options, places: Places, folder: Path, console: Console) -> list[Case]:
    cases = list(_run_cases(options, places, folder, console))
    console.print(table_of(cases))
    for line in memory_lines(cases):
        console.print(line, highlight=False)
    return cases


def _run_again(options: Options, places: Places, folder: Path, console: Console) -> list[again.Again]:
    cases = []
    for count in options.sizes:
        fill = partial(_fill, options, count, folder)
        cases += [
            again.run_again(options.ways, pair, count, options.rounds, places, folder, fill) for pair in options.pairs
        ]
    console.print(again.table_of(cases))
    return cases


def _run_cases(options: Options, places: Places, folder: Path, console: Console) -> Iterator[Case]:
    for count in options.sizes:
        for source_kind, target_kind in options.pairs:
            source = places.source(source_kind, count, partial(_fill, options, count, folder))
            runs: dict[str, list[Measured]] = {variant: [] for variant in options.variants}
            for _ in range(options.rounds):
                for variant in options.variants:
                    with places.target(target_kind) as target:
                        measured = _measure(options, variant, source, target, count, folder)
                    runs[variant].append(measured)
                    console.print(
                        f"{source_kind} → {target_kind}, {count:,}, {LABELS[variant]}: "
                        f"{count / measured.copy_s:,.0f} records/s  (load {os.getloadavg()[0]:.1f})",
                        highlight=False,
                    )
            yield Case(source_kind, target_kind, count, runs)


def _fill(options: Options, count: int, folder: Path, place: Place) -> None:
    _measure(options, FILL, None, place, count, folder)


def _measure(options: Options, variant: str, source: Place | None, target: Place, count: int, folder: Path) -> Measured:
    """Run one variant in a process of its own and return what it measured."""
    with tempfile.TemporaryDirectory(prefix="run-", dir=folder) as run_folder:
        result = Path(run_folder) / "result.json"
        order = Order(
            variant=variant,
            source=source,
            target=target,
            count=count,
            dimension=options.dimension,
            range_count=options.range_count,
            folder=run_folder,
            result=str(result),
            ordered_at=time.time(),
        )
        command = [sys.executable, "-m", "benchmarks.variant", order.to_json()]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[1])
        return Measured(**json.loads(result.read_text()))


if __name__ == "__main__":
    sys.exit(main())
