"""A person migrates a collection in a browser: launches, sees green and red, heals, runs again, reads the numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromadb
import dagster as dg
import pytest
from chromadb.config import Settings

from rag_migration_pipeline_tests.servers.chroma import ChromaServer
from rag_migration_pipeline_tests.servers.dagster import DagsterProcesses

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make venv")

from rag_migration_pipeline_tests.browser.page import CHROMIUM, DagsterPage, number, opened_browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium"),
]
COUNT, RANGE_COUNT, RANGES = 77, 10, 8
LOST = 35
MOVED_PLOTS = {"records per second", "dagster/size_bytes", "records", "rejected"}

MIGRATIONS = """
name: whole
source: chroma://127.0.0.1:{port}/docs
target: chroma://127.0.0.1:{port}/docs_copy
range_count: 10
owners: [team:data, someone@example.com]
---
name: healed
source: chroma://127.0.0.1:{port}/notes
target: chroma://127.0.0.1:{port}/notes_copy
range_count: 10
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    with ChromaServer(tmp_path_factory.mktemp("chroma") / "data") as started:
        for name in ("docs", "notes"):
            client(started).create_collection(name, embedding_function=None).add(**rows(*range(COUNT)))
        yield started


@pytest.fixture(scope="module")
def dagster(tmp_path_factory: pytest.TempPathFactory, server: ChromaServer) -> Iterator[DagsterProcesses]:
    folder = tmp_path_factory.mktemp("dagster")
    config = folder / "migrations.yaml"
    config.write_text(MIGRATIONS.format(port=server.port))
    with DagsterProcesses(folder / "instance", has_webserver=True, RAG_MIGRATE_CONFIG=str(config)) as started:
        yield started


@pytest.fixture
def ui(dagster: DagsterProcesses) -> Iterator[DagsterPage]:
    with opened_browser(dagster.url) as page:
        yield page


def client(server: ChromaServer) -> Any:
    return chromadb.HttpClient("127.0.0.1", server.port, settings=Settings(anonymized_telemetry=False))


def rows(*numbers: int) -> dict[str, Any]:
    return {
        "ids": [f"r{n:03d}" for n in numbers],
        "embeddings": [[n + 1.0, 1.0, 0.5] for n in numbers],
        "metadatas": [{"number": n, "title": f"Nº {n}", "is_even": n % 2 == 0} for n in numbers],
        "documents": [f"text {n} " * (1 + n % 5) for n in numbers],
    }


def held(server: ChromaServer, name: str) -> dict[str, Any]:
    """Return id -> what the vendor's client reads of a collection."""
    found = client(server).get_collection(name, embedding_function=None)
    got = found.get(include=["embeddings", "metadatas", "documents"])
    parts = zip(got["ids"], got["embeddings"], got["metadatas"], got["documents"], strict=True)
    return {i: ([float(x) for x in vector], dict(metadata), text) for i, vector, metadata, text in parts}


def written(dagster: DagsterProcesses, migration: str) -> dict[str, dict[str, Any]]:
    """Return range -> metadata of its only materialization, past the page."""
    with dagster.instance() as instance:
        records = instance.fetch_materializations(dg.AssetKey([migration, "loaded_ranges"]), limit=100).records
    found = {str(record.partition_key): record.asset_materialization.metadata for record in records}
    assert len(found) == len(records), "a range was carried twice"
    return {key: {name: value.value for name, value in metadata.items()} for key, metadata in found.items()}


def assert_numbers_are_true(shown: dict[str, str], moved: dict[str, Any], count: int) -> None:
    assert number(shown["records"]) == number(shown["records compared"]) == count
    assert number(shown["dagster/size_bytes"]) == moved["dagster/size_bytes"] > count * 3 * 4
    spent_s = sum(number(text) for name, text in shown.items() if name.endswith(" seconds"))
    assert number(shown["records per second"]) == pytest.approx(moved["records per second"], rel=1e-3)
    assert number(shown["records per second"]) == pytest.approx(count / spent_s, rel=0.02)
    assert number(shown["rejected"]) == 0


def test_a_backfill_from_the_page_turns_every_range_green_and_its_numbers_are_what_was_moved(
    server: ChromaServer, dagster: DagsterProcesses, ui: DagsterPage
) -> None:
    ui.materialize("whole/source_manifest")
    assert number(ui.metadata("ranges")["ranges"]) == RANGES
    assert ui.launch("whole/loaded_ranges", "All") == f"{RANGES} partitions"
    ui.wait_for_partitions("whole/loaded_ranges", Materialized=RANGES, Failed=0, Missing=0)
    assert held(server, "docs_copy") == held(server, "docs")
    assert len(held(server, "docs_copy")) == COUNT

    moved, keys = written(dagster, "whole"), ui.partitions()
    assert sorted(moved) == sorted(keys)
    for position, key in enumerate(sorted(keys)):
        count = min(RANGE_COUNT, COUNT - position * RANGE_COUNT)
        assert_numbers_are_true(ui.select_partition(key), moved[key], count)
    ui.screenshot("partitions")

    ui.open("whole/loaded_ranges", "overview")
    assert ui.plots() >= MOVED_PLOTS
    ui.screenshot("plots")
    ui.materialize("whole/target_collection")
    shown = ui.metadata("integrity report")
    assert (shown["proven"], number(shown["records written"])) == ("true", COUNT)
    assert number(shown["lag in records"]) == 0
    assert Path(shown["integrity report"].splitlines()[0]).name == "report.html"
    ui.sees("Columns", "(unnamed vector)", "float32[3]", "vector: dense, l2")
    ui.screenshot("proof")


def test_assets_show_the_way_the_stores_and_their_owners(server: ChromaServer, ui: DagsterPage) -> None:
    address = f"chroma://127.0.0.1:{server.port}"
    for asset, made in (("source_manifest", "Parquet"), ("loaded_ranges", "Arrow"), ("target_collection", "Report")):
        ui.open(f"whole/{asset}", "overview")
        ui.sees("docs", "docs_copy", address)  # cells of the description's table, drawn as Markdown
        ui.sees("Owners", "data", "someone@example.com", "Kinds", "chroma", made)
    ui.open_group("whole")
    ui.sees("source_manifest", "loaded_ranges", "target_collection")
    ui.screenshot("asset-graph")


def test_a_failed_range_is_red_and_it_alone_is_run_again_from_the_page(
    server: ChromaServer, dagster: DagsterProcesses, ui: DagsterPage
) -> None:
    notes = client(server).get_collection("notes", embedding_function=None)
    ui.materialize("healed/source_manifest")
    notes.delete(ids=[f"r{LOST:03d}"])  # a record of the plan is gone: its range cannot be carried
    assert ui.launch("healed/loaded_ranges", "All") == f"{RANGES} partitions"
    ui.wait_for_partitions("healed/loaded_ranges", Failed=1, Materialized=RANGES - 1)
    ui.screenshot("partitions-failed")
    keys = sorted(ui.partitions())
    failed = keys[LOST // RANGE_COUNT]
    assert sorted(written(dagster, "healed")) == [key for key in keys if key != failed]

    notes.add(**rows(LOST))
    assert ui.launch("healed/loaded_ranges", "Failed and missing") == "1 partition"
    ui.wait_for_partitions("healed/loaded_ranges", Failed=0, Materialized=RANGES)
    moved = written(dagster, "healed")  # each range once: the others were not run again
    assert_numbers_are_true(ui.select_partition(failed), moved[failed], RANGE_COUNT)
    assert held(server, "notes_copy") == held(server, "notes")
    assert len(held(server, "notes_copy")) == COUNT
