"""The services of docker/compose.yaml run, without containers: commands, wiring and health checks are the file's.

Belongs here: what the services do together. Does not belong here: how they are started (``stack.py``); what the files
say (``unit/test_docker.py``).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rag_migration_pipeline.demo.compare import compare_collections
from rag_migration_pipeline.demo.fill import fill_chroma
from rag_migration_pipeline_tests.docker.stack import OURS, Stack
from rag_migration_pipeline_tests.servers.postgres import find_postgres

RECORDS = 60
RUN_TIMEOUT_S = 120.0

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } }
}
"""
RUNS = "{ runsOrError { ... on Runs { results { runId status rootRunId jobName } } } }"
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { ... on RepositoryLocation { repositories { name jobs { name } } }
  ... on PythonError { message } } } } } }"""
DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } runQueuingSupported } }"

pytestmark = [pytest.mark.slow, pytest.mark.server]


def migration(folder: Path, name: str, range_count: int) -> str:
    return json.dumps(
        {
            "name": name,
            "source": f"chroma+file://{folder}/source/docs",
            "target": f"chroma+file://{folder}/{name}/docs",
            "range_count": range_count,
        }
    )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    programs = find_postgres()
    if programs is None:
        pytest.skip(
            "PostgreSQL is not installed (Debian: apt-get install postgresql), and docker/dagster.yaml needs it"
        )
    folder = tmp_path_factory.mktemp("stack")
    fill_chroma(folder / "source", "docs", limit=RECORDS)
    described = "\n---\n".join([migration(folder, "whole", 30), migration(folder, "interrupted", 2)])
    with Stack(folder, described, programs) as running:
        yield running
        started = [psutil.Process(process.pid) for process in running.processes.values()]
    assert not any(process.is_running() for process in started), "a service outlived its stop"


def launch(stack: Stack, job: str) -> str:
    selector = {
        "repositoryLocationName": "rag_migration_pipeline",
        "repositoryName": "__repository__",
        "jobName": job,
    }
    answer = stack.ask(LAUNCH, params={"selector": selector, "runConfigData": {}, "mode": "default"})["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run_id: str = answer["run"]["runId"]
    return run_id


def runs_of(stack: Stack, root: str) -> dict[str, str]:
    """Return the states of a run and of what was launched again for it."""
    results: list[dict[str, Any]] = stack.ask(RUNS)["runsOrError"]["results"]
    return {run["runId"]: run["status"] for run in results if root in (run["runId"], run["rootRunId"])}


def test_the_webserver_has_the_migrations_of_the_code_server(stack: Stack) -> None:
    (entry,) = stack.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
    assert (entry["name"], entry["loadStatus"]) == ("rag_migration_pipeline", "LOADED")
    assert "message" not in entry["locationOrLoadError"], entry["locationOrLoadError"]["message"]
    (repository,) = entry["locationOrLoadError"]["repositories"]
    assert {"whole__migrate", "interrupted__migrate"} <= {job["name"] for job in repository["jobs"]}


def test_the_daemons_are_well_and_the_settings_of_the_file_hold(stack: Stack) -> None:
    instance = stack.ask(DAEMONS)["instance"]
    assert instance["runQueuingSupported"] is True
    required = {one["daemonType"]: one["healthy"] for one in instance["daemonHealth"]["allDaemonStatuses"]}
    for daemon in ("QUEUED_RUN_COORDINATOR", "MONITORING", "EVENT_LOG_CONSUMER", "SCHEDULER", "SENSOR", "BACKFILL"):
        stack.wait_for(lambda daemon=daemon: health(stack)[daemon])
        assert daemon in required
    assert all(stack.is_healthy(name) for name in OURS)


def health(stack: Stack) -> dict[str, bool]:
    statuses = stack.ask(DAEMONS)["instance"]["daemonHealth"]["allDaemonStatuses"]
    return {one["daemonType"]: bool(one["healthy"]) for one in statuses}


def test_a_run_goes_through_queue_and_code_server_and_its_records_arrive(stack: Stack) -> None:
    run_id = launch(stack, "whole__migrate")
    stack.wait_for(lambda: runs_of(stack, run_id)[run_id] in ("SUCCESS", "FAILURE", "CANCELED"), RUN_TIMEOUT_S)
    assert runs_of(stack, run_id) == {run_id: "SUCCESS"}
    assert compare_collections(stack.folder / "source", "docs", stack.folder / "whole", "docs").is_identical
    assert any((stack.folder / "storage").rglob("*.err")), "the output of the run is where the webserver looks"


def test_a_run_that_dies_with_the_code_server_is_launched_again_and_goes_on(stack: Stack) -> None:
    run_id = launch(stack, "interrupted__migrate")
    receipts = lambda: list((stack.folder / "state").glob("*/receipts/*/*.arrow"))  # noqa: E731
    before = len(receipts())
    stack.wait_for(lambda: len(receipts()) > before + 2, RUN_TIMEOUT_S)
    stack.processes["code"].kill()
    assert runs_of(stack, run_id) == {run_id: "STARTED"}
    kept = {path: path.stat().st_mtime_ns for path in receipts()}
    stack.start("code")
    stack.wait_for(lambda: len(runs_of(stack, run_id)) > 1, RUN_TIMEOUT_S)
    stack.wait_for(lambda: set(runs_of(stack, run_id).values()) <= {"SUCCESS", "FAILURE"}, RUN_TIMEOUT_S)
    assert f"run {run_id} was lost with its container" in stack.processes["code"].log_path.read_text()
    states = runs_of(stack, run_id)
    assert (states.pop(run_id), list(states.values())) == ("FAILURE", ["SUCCESS"])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "a finished range was done again"
    assert compare_collections(stack.folder / "source", "docs", stack.folder / "interrupted", "docs").is_identical
