"""The demo: a real collection travels Chroma -> Qdrant -> Milvus -> Chroma and is compared with what left.

    python -m rag_migration_pipeline.demo            fill, migrate (or resume), compare
    python -m rag_migration_pipeline.demo --reset    forget everything and start again

Belongs here: the order of things and what is printed. Does not belong here: the corpus (`corpus`), the migrations
(`migrations`), the comparison (`compare`).
"""

import argparse
import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence

import dagster as dg
from rich.console import Console
from rich.table import Table

from rag_migration_pipeline.definitions import build_definitions
from rag_migration_pipeline.demo.compare import compare_collections
from rag_migration_pipeline.demo.fill import fill_chroma
from rag_migration_pipeline.demo.migrations import COLLECTION, DemoFolder, demo_folder, demo_migrations, prepare_home
from rag_migration_pipeline.errors import MigrationError
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.runs import close_killed_runs, run_job
from rag_migration_pipeline.orchestration.summary import Leg, summarize_leg
from rag_migration_pipeline.progress_bar import show_progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 only if every record came home identical."""
    parser = argparse.ArgumentParser(prog="python -m rag_migration_pipeline.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--reset", action="store_true", help="remove the demo folder first")
    options = parser.parse_args(arguments)
    folder, console = demo_folder(), Console(stderr=False)
    if options.reset:
        shutil.rmtree(folder.root, ignore_errors=True)
    try:
        return _run(folder, console)
    except (MigrationError, LookupError, OSError) as error:
        console.print(f"[bold red]{type(error).__name__}[/]: {error}", highlight=False, soft_wrap=True)
        return 1


def _run(folder: DemoFolder, console: Console) -> int:
    instance = _open_instance(folder)
    console.print(f"demo folder: {os.path.relpath(folder.root)}  (make ui shows it in the Dagster UI)", highlight=False)
    with show_progress(console, "fill Chroma") as progress:
        count = fill_chroma(folder.source, COLLECTION, on_progress=progress.advance_to)
    console.print(f"source: {count} documents of the Python standard library in Chroma", highlight=False)
    definitions = build_definitions(with_demo=True)
    legs = []
    for declaration in demo_migrations():
        legs.append(_run_leg(declaration, definitions, instance, console))
        if not legs[-1].is_proven:
            console.print(f"[bold red]{declaration.name} failed[/]: {legs[-1].error}", soft_wrap=True)
            console.print("Run the same command again to go on from here.")
            return 1
    _print_table(legs, console)
    comparison = compare_collections(folder.source, COLLECTION, folder.home, COLLECTION)
    for difference in comparison.differences:
        console.print(f"  {difference.kind}: {difference.id}: {difference.reason}", highlight=False)
    console.print(comparison.summary, highlight=False)
    return 0 if comparison.is_identical else 1


def _open_instance(folder: DemoFolder) -> dg.DagsterInstance:
    """Return the demo's persistent Dagster instance, made where it is missing."""
    prepare_home(folder)
    os.environ["DAGSTER_HOME"] = str(folder.dagster_home)
    logging.getLogger("dagster").setLevel(logging.ERROR)
    return dg.DagsterInstance.get()


def _run_leg(
    declaration: MigrationDeclaration,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    console: Console,
) -> Leg:
    """Run one migration, unless it is proven already, and return what is known of it."""
    job_name = f"{declaration.name}__migrate"
    for run_id in close_killed_runs(instance, job_name):
        console.print(f"run {run_id[:8]} of {declaration.name} was killed: going on from its finished ranges")
    leg = summarize_leg(declaration, instance)
    if leg.is_proven:
        console.print(f"{declaration.name}: all done, {leg.records} records proven before")
        return leg
    begun = time.perf_counter()
    with show_progress(console, declaration.name):
        result = run_job(definitions.resolve_job_def(job_name), instance)
    leg = summarize_leg(declaration, instance, result)
    console.print(f"{declaration.name}: {leg.records} records in {time.perf_counter() - begun:.1f} s", highlight=False)
    return leg


def _print_table(legs: Sequence[Leg], console: Console) -> None:
    table = Table()
    for heading in ("leg", "records", "seconds", "records/s", "ranges", "check"):
        table.add_column(heading, justify="left" if heading in ("leg", "check") else "right")
    for leg in legs:
        rate = f"{leg.records / leg.duration_s:,.0f}" if leg.duration_s else ""
        check = "identical" if leg.is_proven else "NOT PROVEN"
        table.add_row(leg.name, f"{leg.records}", f"{leg.duration_s:.1f}", rate, f"{leg.ranges}", check)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
