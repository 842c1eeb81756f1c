"""Dagster's daemon runs migrations by itself: a schedule, a watched source that another process changes, a failure."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_migration_pipeline_tests.orchestration.real import extracted, fill, held, wait_for
from rag_migration_pipeline_tests.orchestration.test_automation import Receiver, receiver, url_of
from rag_migration_pipeline_tests.servers.chroma import ChromaServer
from rag_migration_pipeline_tests.servers.dagster import DagsterProcesses

__all__ = ["Receiver", "receiver"]

pytestmark = [pytest.mark.slow, pytest.mark.server]

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


def runs_of(instance: dg.DagsterInstance, job: str) -> list[dg.DagsterRun]:
    return list(instance.get_runs(dg.RunsFilter(job_name=job)))


def is_proven(instance: dg.DagsterInstance, name: str) -> bool:
    event = instance.get_latest_materialization_event(dg.AssetKey([name, "target_collection"]))
    return event is not None and all(run.is_finished for run in runs_of(instance, f"{name}__sync"))


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
