"""Webserver, daemon and code server as they run in production, through GraphQL only: from nothing to all green."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

COUNT, RANGE_COUNT = 300, 10
COMPONENT = """
type: rag_migration_pipeline.Migration
attributes:
  name: docs
  source: chroma://127.0.0.1:{port}/docs
  target: chroma://127.0.0.1:{port}/copy
  range_count: {range_count}
"""

RELOAD = "mutation($l: String!) { reloadRepositoryLocation(repositoryLocationName: $l) { __typename } }"
JOBS = """
query { workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
  ... on RepositoryLocation { repositories { jobs { name } } } ... on PythonError { message } } } } } }
"""
BACKFILL = """
mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
BACKFILL_STATE = """
query($b: String!) { partitionBackfillOrError(backfillId: $b) { ... on PartitionBackfill {
  status runs(limit: 10) { runId status } } } }
"""
PARTITIONS = """
query($k: [AssetKeyInput!]!) { assetNodes(assetKeys: $k) {
  assetPartitionStatuses { ... on DefaultPartitionStatuses {
    materializedPartitions failedPartitions unmaterializedPartitions materializingPartitions } } } }
"""


def path(asset: str) -> dict[str, list[str]]:
    return {"path": ["docs", asset]}


class Page:
    """What somebody at the page of the migration can do."""

    def __init__(self, dagster: DagsterProcesses) -> None:
        self._dagster = dagster

    def is_loaded(self) -> bool:
        self._dagster.query(RELOAD, l=LOCATION)
        return "docs__migrate" in str(self._dagster.query(JOBS))

    def materialize(self, asset: str) -> None:
        """Materialize an asset, and wait for the end of its run."""
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": REPOSITORY,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [path(asset)],
        }
        found = self._dagster.query(LAUNCH, p={"selector": selector, "runConfigData": {}, "mode": "default"})
        run_id = found["launchRun"]["run"]["runId"]
        wait_for(f"{asset} is materialized", lambda: self.status(run_id) in ("SUCCESS", "FAILURE"))
        assert self.status(run_id) == "SUCCESS"

    def status(self, run_id: str) -> str:
        return str(self._dagster.query(RUN, r=run_id)["runOrError"]["status"])

    def partitions(self) -> dict[str, list[str]]:
        (node,) = self._dagster.query(PARTITIONS, k=[path("loaded_ranges")])["assetNodes"]
        return dict(node["assetPartitionStatuses"])

    def backfill(self, keys: list[str]) -> str:
        parameters = {"assetSelection": [path("loaded_ranges")], "partitionNames": keys}
        found = self._dagster.query(BACKFILL, p=parameters)["launchPartitionBackfill"]
        assert found["__typename"] == "LaunchBackfillSuccess", found
        return str(found["backfillId"])

    def runs(self, backfill: str) -> list[dict[str, str]]:
        return list(self._state(backfill)["runs"])

    def backfill_taken(self, keys: list[str]) -> str:
        """Launch a backfill until the daemon knows the migration: it takes up new code within a minute."""
        for _ in range(4):
            backfill = self.backfill(keys)
            wait_for(
                "the daemon looks at the backfill",
                lambda backfill=backfill: self.runs(backfill) or self._state(backfill)["status"] == "FAILED",  # type: ignore[misc]
            )
            if self.runs(backfill):
                return backfill
            time.sleep(20)
        pytest.fail("the daemon does not know the migration after four attempts")

    def _state(self, backfill: str) -> Any:
        return self._dagster.query(BACKFILL_STATE, b=backfill)["partitionBackfillOrError"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChromaServer]:
    with ChromaServer(tmp_path / "chroma") as started:
        fill(started, COUNT)
        yield started


def kill_half_way(dagster: DagsterProcesses, instance: dg.DagsterInstance, page: Page, backfill: str) -> str:
    """Kill the process of a backfill's run when some of its ranges are green; return the run's id."""
    run_id = page.runs(backfill)[0]["runId"]
    wait_for("some ranges are green", lambda: len(page.partitions()["materializedPartitions"]) >= 4)
    worker = dagster.worker_of(instance, run_id)
    assert worker is not None, "the run ended before it could be killed"
    worker.kill()
    return run_id


def test_from_an_empty_instance_over_a_killed_run_to_all_green(tmp_path: Path, server: ChromaServer) -> None:
    folder = tmp_path / "defs"
    folder.mkdir()
    dagster = DagsterProcesses(tmp_path / "dagster", has_webserver=True, RAG_MIGRATION_DEFS=str(folder))
    with dagster, dagster.instance() as instance:
        page = Page(dagster)
        (folder / "docs").mkdir()
        (folder / "docs" / "defs.yaml").write_text(COMPONENT.format(port=server.port, range_count=RANGE_COUNT))
        wait_for("the new migration is loaded", page.is_loaded)

        page.materialize("source_manifest")
        keys = page.partitions()["unmaterializedPartitions"]
        assert len(keys) == COUNT // RANGE_COUNT

        first = kill_half_way(dagster, instance, page, page.backfill_taken(keys))
        wait_for("the killed run is noticed", lambda: page.status(first) == "FAILURE")
        time.sleep(2)  # what a dead process might still write would be written by now
        states = page.partitions()
        green = states["materializedPartitions"]
        left = sorted({*states["failedPartitions"], *states["unmaterializedPartitions"]})
        assert 4 <= len(green) < len(keys)
        assert states["failedPartitions"]
        assert sorted([*green, *left]) == sorted(keys)

        again = page.backfill(left)
        wait_for("all are green", lambda: len(page.partitions()["materializedPartitions"]) == len(keys))
        wait_for("its runs have ended", lambda: all(run["status"] == "SUCCESS" for run in page.runs(again)))
        runs = [instance.get_run_by_id(run["runId"]) for run in page.runs(again)]
        assert sorted(key for run in runs if run is not None for key in extracted(instance, run)) == sorted(left)
        page.materialize("target_collection")
        event = instance.get_latest_materialization_event(dg.AssetKey(["docs", "target_collection"]))
        assert event is not None
        assert event.asset_materialization is not None
        shown: dict[str, Any] = {name: item.value for name, item in event.asset_materialization.metadata.items()}
        assert (shown["proven"], shown["records compared"]) == (True, COUNT)
    assert held(server, "copy") == held(server, "docs")
