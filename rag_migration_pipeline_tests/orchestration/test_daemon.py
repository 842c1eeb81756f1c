"""Dagster's daemon runs migrations by itself: a schedule, a watched source that another process changes, a failure."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chromadb
import dagster as dg
import pytest
from chromadb.config import Settings

from rag_migration_pipeline_tests.orchestration.test_automation import Receiver, receiver, url_of
from rag_migration_pipeline_tests.servers.chroma import ChromaServer
from rag_migration_pipeline_tests.servers.dagster import DagsterProcesses

__all__ = ["Receiver", "receiver"]

pytestmark = [pytest.mark.slow, pytest.mark.server]
DEADLINE_S = 240.0

MIGRATIONS = """
name: watched
source: chroma://127.0.0.1:{port}/docs
target: chroma://127.0.0.1:{port}/watched_copy
range_count: 10
detect: watermark
watermark: updated_at
deletes: mirror
watch: {{every_s: 1, by: watermark}}
---
name: nightly
source: chroma://127.0.0.1:{port}/docs
target: chroma://127.0.0.1:{port}/nightly_copy
range_count: 10
schedule: "* * * * *"
---
name: broken
source: chroma://127.0.0.1:{port}/no_such_collection
target: chroma://127.0.0.1:{port}/broken_copy
watch: {{every_s: 1}}
notify: [{{to: "{hook}"}}]
"""

CHANGE = """
import sys, chromadb
docs = chromadb.HttpClient("127.0.0.1", int(sys.argv[1])).get_collection("docs", embedding_function=None)
docs.upsert(ids=["r003"], embeddings=[[9.0, 1.0, 1.0]], metadatas=[{"updated_at": 2000}], documents=["changed"])
docs.upsert(
    ids=["r100", "r101"], embeddings=[[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]],
    metadatas=[{"updated_at": 2001}, {"updated_at": 2002}], documents=["new", "newer"],
)
docs.delete(ids=["r017"])
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChromaServer]:
    with ChromaServer(tmp_path / "chroma") as started:
        fill(started)
        yield started


def client(server: ChromaServer) -> Any:
    return chromadb.HttpClient("127.0.0.1", server.port, settings=Settings(anonymized_telemetry=False))


def fill(server: ChromaServer) -> None:
    docs = client(server).create_collection("docs", embedding_function=None)
    docs.add(
        ids=[f"r{number:03d}" for number in range(40)],
        embeddings=[[number + 1.0, 1.0, 0.5] for number in range(40)],
        metadatas=[{"updated_at": 1_000 + number} for number in range(40)],
        documents=[f"text {number}" for number in range(40)],
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
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if is_so():
            return
        time.sleep(0.5)
    pytest.fail(f"not within {deadline_s:g} s: {what}")


def runs_of(instance: dg.DagsterInstance, job: str) -> list[dg.DagsterRun]:
    return list(instance.get_runs(dg.RunsFilter(job_name=job)))


def is_proven(instance: dg.DagsterInstance, name: str) -> bool:
    event = instance.get_latest_materialization_event(dg.AssetKey([name, "target_collection"]))
    return event is not None and all(run.is_finished for run in runs_of(instance, f"{name}__sync"))


def extracted(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """Return the ranges that a run read from the source."""
    logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
    keys = [entry.step_key or "" for entry in logs]
    return sorted(key.rpartition("extract_range[")[2].removesuffix("]") for key in keys if "extract_range[" in key)


def ticks(instance: dg.DagsterInstance, sensor: str) -> list[Any]:
    """Return the ticks of a sensor that have ended, newest first."""
    for state in instance.all_instigator_state():
        if state.name == sensor:
            found = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=200)
            return [tick for tick in found if tick.status.value != "STARTED"]
    return []


def test_the_daemon_migrates_on_an_empty_instance_follows_the_source_and_tells_of_failures(
    tmp_path: Path, server: ChromaServer, receiver: Any
) -> None:
    config = tmp_path / "migrations.yaml"
    config.write_text(MIGRATIONS.format(port=server.port, hook=url_of(receiver, 200)))
    with (
        DagsterProcesses(tmp_path / "dagster", RAG_MIGRATE_CONFIG=str(config)) as dagster,
        dagster.instance() as instance,
    ):
        wait_for("the watched migration is proven", lambda: is_proven(instance, "watched"))
        assert held(server, "watched_copy") == held(server, "docs")
        (first,) = runs_of(instance, "watched__sync")
        assert len(extracted(instance, first)) == 4

        before = len(ticks(instance, "watched__changes"))
        wait_for("three ticks over an idle source", lambda: len(ticks(instance, "watched__changes")) >= before + 3)
        assert [run.run_id for run in runs_of(instance, "watched__sync")] == [first.run_id]

        subprocess.run([sys.executable, "-c", CHANGE, str(server.port)], check=True, timeout=120)
        seen = len(ticks(instance, "watched__changes"))
        wait_for("the change is noticed", lambda: len(runs_of(instance, "watched__sync")) == 2)
        assert len(ticks(instance, "watched__changes")) <= seen + 3
        wait_for("the target follows", lambda: is_proven(instance, "watched"))
        assert held(server, "watched_copy") == held(server, "docs")
        second = runs_of(instance, "watched__sync")[0]
        assert second.status is dg.DagsterRunStatus.SUCCESS
        keys = instance.get_dynamic_partitions("watched_ranges")
        # r003 is in the first range; r100 and r101 make a new one; of the second only a deletion is carried.
        assert len(extracted(instance, second)) == 3
        assert extracted(instance, second)[0] == keys[0]
        before = len(ticks(instance, "watched__changes"))
        wait_for("three more ticks", lambda: len(ticks(instance, "watched__changes")) >= before + 3)
        assert len(runs_of(instance, "watched__sync")) == 2

        wait_for("the schedule ticked and is proven", lambda: is_proven(instance, "nightly"))
        wait_for("the failure is told", lambda: bool(receiver.taken))
        message = json.loads(receiver.taken[0][1])
        assert (message["migration"], message["job"]) == ("broken", "broken__sync")
        assert "no_such_collection" in message["errors"][0]
        assert len(runs_of(instance, "broken__sync")) == 1  # the same is not launched twice
    copy = held(server, "nightly_copy")
    assert len(copy) >= 40
