"""What tests with Dagster's real processes share: a Chroma server with records, waiting, runs, GraphQL.

Belongs here: what they set up and look at, with the vendor's client and Dagster's own interfaces. Does not belong here:
promises (``test_*.py``), the processes (``servers/dagster.py``).
"""

import time
from collections.abc import Callable
from typing import Any

import chromadb
import dagster as dg
import pytest
from chromadb.config import Settings

from rag_migration_pipeline_tests.servers.chroma import ChromaServer

DEADLINE_S = 240.0
LOCATION, REPOSITORY = "rag_migration_pipeline", "__repository__"
LAUNCH = """
mutation($p: ExecutionParams!) { launchRun(executionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
RUN = "query($r: ID!) { runOrError(runId: $r) { ... on Run { status } } }"


def client(server: ChromaServer) -> Any:
    """Return the vendor's client."""
    return chromadb.HttpClient("127.0.0.1", server.port, settings=Settings(anonymized_telemetry=False))


def fill(server: ChromaServer, count: int = 40) -> None:
    """Make the collection ``docs`` with so many records."""
    docs = client(server).create_collection("docs", embedding_function=None)
    docs.add(
        ids=[f"r{number:03d}" for number in range(count)],
        embeddings=[[number + 1.0, 1.0, 0.5] for number in range(count)],
        metadatas=[{"updated_at": 1_000 + number} for number in range(count)],
        documents=[f"text {number}" for number in range(count)],
    )


def held(server: ChromaServer, name: str) -> dict[str, Any]:
    """Return id -> what the vendor's client reads of a collection, without what is ours."""
    found = (
        client(server)
        .get_collection(name, embedding_function=None)
        .get(include=["embeddings", "metadatas", "documents"])
    )
    rows = zip(found["ids"], found["embeddings"], found["metadatas"], found["documents"], strict=True)
    return {i: ([float(x) for x in vector], dict(metadata), text) for i, vector, metadata, text in rows}


def wait_for(what: str, is_so: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Wait until something is so; fail where it is not in time."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if is_so():
            return
        time.sleep(0.5)
    pytest.fail(f"not within {deadline_s:g} s: {what}")


def extracted(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """Return the ranges that a run read from the source."""
    logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
    keys = [entry.step_key or "" for entry in logs]
    return sorted(key.rpartition("extract_range[")[2].removesuffix("]") for key in keys if "extract_range[" in key)
