"""Dagster's pages of a migration with many ranges, opened in a real browser, on the clock.

Belongs here: an instance with that many partitions in every state, the webserver over it, the seconds until a page can
be used. Does not belong here: the options and results (``scale``), what else the pages show
(``rag_migration_pipeline_tests/browser``).
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

MIGRATION = "large"
TARGET = "large_copy"
_CONFIG = f"name: {MIGRATION}\nsource: memory://documents?name=source\ntarget: memory://{TARGET}?name=target\n"
_PLAN = "3f9a2c"


def open_pages(folder: Path, ranges: int, screenshots: Path | None) -> dict[str, Any]:
    """Open the pages of `loaded_ranges` with that many partitions; seconds until each can be used.

    The first time is with a webserver that has answered nothing but that it is there, and a browser that knows nothing
    of it; the second time both know the page.

    Args:
        folder: An empty folder for the instance.
        ranges: How many partitions there are: six tenths done, a twentieth failed, the others missing.
        screenshots: Where a picture of the partitions page goes; None makes none.
    """
    from rag_migration_pipeline_tests.browser.page import CHROMIUM, SHOTS, opened_browser
    from rag_migration_pipeline_tests.servers.dagster import DagsterProcesses

    if CHROMIUM is None:
        raise RuntimeError("there is no browser here: apt-get install chromium")
    config = folder / "migrations.yaml"
    config.write_text(_CONFIG)
    states = {"Materialized": ranges * 6 // 10, "Failed": ranges // 20}
    states["Missing"] = ranges - sum(states.values())
    processes = DagsterProcesses(folder / "instance", has_webserver=True, RAG_MIGRATE_CONFIG=str(config))
    with processes.instance() as instance:
        fill(instance, [f"{_PLAN}_{number:06d}" for number in range(ranges)], states)
    os.environ.pop(SHOTS, None)
    if screenshots is not None:
        os.environ[SHOTS] = str(screenshots)
    with processes, opened_browser(processes.url) as ui:
        asset = f"{MIGRATION}/loaded_ranges"
        first = _seconds(ui, asset, states)
        second = _seconds(ui, asset, states)
        ui.wait_for_partitions(asset, **states)
        ui.screenshot(f"partitions-{ranges}")
    return {"ranges": ranges, "states": states, "first": first, "second": second}


def _seconds(ui: Any, asset: str, states: Mapping[str, int]) -> dict[str, float]:
    """Return after how many seconds the counts, the list and the button are there, and on the overview the metadata."""

    def partitions() -> None:
        ui.wait_for_partitions(asset, **states)
        if not ui.partitions():
            raise RuntimeError("the page counts partitions, and lists none")

    def overview() -> None:
        ui.open(asset, "overview")
        ui.metadata("records per second")

    return {"partitions": seconds_of(partitions), "overview": seconds_of(overview)}


def seconds_of(work: Callable[[], object]) -> float:
    """Do some work, and return how long it took."""
    begun = time.perf_counter()
    work()
    return round(time.perf_counter() - begun, 3)


def spread(states: Mapping[str, int]) -> list[str]:
    """Return a state per partition, in its share of every stretch of them."""
    marks = [(number / count, state) for state, count in states.items() for number in range(count)]
    return [state for _, state in sorted(marks)]


def fill(instance: Any, keys: Sequence[str], states: Mapping[str, int]) -> None:
    """Register partitions of `loaded_ranges`, some of them done, some failed in one run.

    Args:
        instance: A Dagster instance.
        keys: The partitions.
        states: State -> how many partitions are to be in it.
    """
    import dagster as dg
    from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
    from dagster._core.storage.dagster_run import DagsterRun

    from rag_migration_pipeline.orchestration.config import declare

    declaration, _ = declare({"name": MIGRATION, "source": "memory://a?name=a", "target": "memory://b?name=b"})
    asset, job = declaration.key("loaded_ranges"), f"{MIGRATION}__migrate"
    instance.add_dynamic_partitions(f"{MIGRATION}_ranges", list(keys))
    of_state = dict(zip(keys, spread(states), strict=True))
    for number, key in enumerate(key for key in keys if of_state[key] == "Materialized"):
        metadata = {"records": 50_000, "records per second": 2_000.0 + number % 300}
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key, metadata=metadata))
    run = DagsterRun(job_name=job, status=dg.DagsterRunStatus.FAILURE)
    instance.add_run(run)
    for key in (key for key in keys if of_state[key] == "Failed"):
        planned = AssetMaterializationPlannedData(asset, partition=key)
        event = DagsterEvent.build_asset_materialization_planned_event(job, "loaded_ranges", planned)
        instance.report_dagster_event(event, run.run_id)
