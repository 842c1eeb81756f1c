"""Runs beside each other in real processes: migrations into one embedded store, and one that is cancelled."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from rag_migration_pipeline_tests.orchestration.real import (
    LAUNCH,
    LOCATION,
    REPOSITORY,
    RUN,
    extracted,
    fill,
    held,
    wait_for,
)
from rag_migration_pipeline_tests.servers.chroma import ChromaServer
from rag_migration_pipeline_tests.servers.dagster import DagsterProcesses

pytestmark = [pytest.mark.slow, pytest.mark.server]

COUNT = 300
MIGRATIONS = """
name: first
source: chroma://127.0.0.1:{port}/docs
target: qdrant+edge://{folder}/first
range_count: 50
---
name: second
source: chroma://127.0.0.1:{port}/docs
target: qdrant+edge://{folder}/second
range_count: 50
---
name: third
source: chroma://127.0.0.1:{port}/docs
target: qdrant+edge://{folder}/third
range_count: 50
---
name: long
source: chroma://127.0.0.1:{port}/docs
target: chroma://127.0.0.1:{port}/long_copy
range_count: 10
"""
TERMINATE = """
mutation($r: String!) { terminateRun(runId: $r) { __typename ... on TerminateRunFailure { message } } }
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChromaServer]:
    with ChromaServer(tmp_path / "chroma") as started:
        fill(started, COUNT)
        yield started


@pytest.fixture
def dagster(tmp_path: Path, server: ChromaServer) -> Iterator[DagsterProcesses]:
    config = tmp_path / "migrations.yaml"
    config.write_text(MIGRATIONS.format(port=server.port, folder=tmp_path / "edge"))
    with DagsterProcesses(tmp_path / "dagster", has_webserver=True, RAG_MIGRATE_CONFIG=str(config)) as started:
        yield started


def launch(dagster: DagsterProcesses, job: str) -> str:
    selector = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "pipelineName": job}
    found = dagster.query(LAUNCH, p={"selector": selector, "runConfigData": {}, "mode": "default"})["launchRun"]
    assert found["__typename"] == "LaunchRunSuccess", found
    return str(found["run"]["runId"])


def wait_for_end(dagster: DagsterProcesses, run_id: str, status: str) -> None:
    ends = ("SUCCESS", "FAILURE", "CANCELED")
    wait_for(f"run {run_id} ends", lambda: dagster.query(RUN, r=run_id)["runOrError"]["status"] in ends)
    assert dagster.query(RUN, r=run_id)["runOrError"]["status"] == status


def test_two_migrations_into_one_embedded_store_wait_for_each_other(dagster: DagsterProcesses) -> None:
    with dagster.instance() as instance:
        # Dagster 1.13.27 knows a pool from its first use on.
        wait_for_end(dagster, launch(dagster, "first__migrate"), "SUCCESS")
        runs = [launch(dagster, f"{name}__migrate") for name in ("second", "third")]
        for run_id in runs:
            wait_for_end(dagster, run_id, "SUCCESS")
        spans = []
        for run_id in runs:
            (record,) = instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))
            assert record.start_time is not None
            assert record.end_time is not None
            spans.append((record.start_time, record.end_time))
            steps = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
            assert len([entry for entry in steps if "load_range[" in (entry.step_key or "")]) == COUNT // 50
        earlier, later = sorted(spans)
        assert earlier[1] <= later[0], "both held the pool of the one folder at once"


def test_a_cancelled_run_leaves_what_a_retry_goes_on_with(dagster: DagsterProcesses, server: ChromaServer) -> None:
    key = dg.AssetKey(["long", "loaded_ranges"])
    with dagster.instance() as instance:
        first = launch(dagster, "long__migrate")
        wait_for("some ranges are green", lambda: len(instance.get_materialized_partitions(key)) >= 4)
        answer = dagster.query(TERMINATE, r=first)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer
        wait_for_end(dagster, first, "CANCELED")
        green = instance.get_materialized_partitions(key)
        keys = set(instance.get_dynamic_partitions("long_ranges"))
        assert 4 <= len(green) < len(keys)
        again = launch(dagster, "long__retry_failed")
        wait_for_end(dagster, again, "SUCCESS")
        run = instance.get_run_by_id(again)
        assert run is not None
        assert set(extracted(instance, run)) == keys - green
    assert held(server, "long_copy") == held(server, "docs")
