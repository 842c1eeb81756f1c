"""``launch`` and ``status --dagster`` against Dagster's own webserver and daemon, and a real Chroma server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline_tests.cli.running import Done, Place
from rag_migration_pipeline_tests.orchestration.real import client, fill, held
from rag_migration_pipeline_tests.servers.chroma import ChromaServer
from rag_migration_pipeline_tests.servers.dagster import DagsterProcesses

pytestmark = [pytest.mark.slow, pytest.mark.server]

MIGRATIONS = """
name: docs
source: chroma://127.0.0.1:{port}/docs
target: chroma://127.0.0.1:{port}/docs_copy
range_count: 10
---
name: aside
source: chroma://127.0.0.1:{port}/docs
target: chroma://127.0.0.1:{port}/aside_copy
mapping: {{transforms: {{updated_at: bool}}}}
max_rejected: 40
---
name: lost
source: chroma://127.0.0.1:{port}/no_such_collection
target: chroma://127.0.0.1:{port}/lost_copy
---
name: unfit
source: chroma://127.0.0.1:{port}/docs
target: chroma://127.0.0.1:{port}/other_dimension
conflict: overwrite
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChromaServer]:
    with ChromaServer(tmp_path / "chroma") as started:
        fill(started)
        other = client(started).create_collection("other_dimension", embedding_function=None)
        other.add(ids=["a"], embeddings=[[1.0, 2.0]])
        yield started


def numbers(status: Done) -> list[int]:
    (found,) = status.facts
    return [found[name] for name in ("ranges", "done", "failed", "missing", "in_progress", "records")]


def test_a_migration_is_launched_followed_broken_and_mended(tmp_path: Path, server: ChromaServer) -> None:
    config = tmp_path / "migrations.yaml"
    config.write_text(MIGRATIONS.format(port=server.port))
    processes = DagsterProcesses(tmp_path / "dagster", has_webserver=True, RAG_MIGRATE_CONFIG=str(config))
    with processes as dagster:
        place = Place(tmp_path)

        def call(*arguments: str) -> Done:
            return place.run(*arguments, "-o", "json", DAGSTER_WEBSERVER_URL=dagster.url)

        def launch(name: str, job: str, *options: str) -> Done:
            return call("launch", "--name", name, "--job", job, *options)

        before = call("status", "--dagster", "--name", "docs")
        assert (numbers(before), before.facts[0]["proof"]) == ([0, 0, 0, 0, 0, 0], None)
        narrowed(launch, call)
        carried(launch, call, server)
        contradicted(launch, call, server)
        ends_as_it_deserves(launch)
        told = call("status", "--dagster")
        assert [item["name"] for item in told.facts] == ["aside", "docs", "lost", "unfit"]


def narrowed(launch: Any, call: Any) -> None:
    done = launch("docs", "migrate", "--set", "only=updated_at<1015")
    assert done.code == 0, done.err
    assert [done.facts[name] for name in ("status", "ranges", "ranges_done", "ranges_carried")] == ["SUCCESS", 4, 1, 1]
    said = {"records carried": 15, "records pending": 25, "ranges pending": 3, "proven": False}
    assert done.facts["found"] == said
    assert "proven" not in done.facts
    status = call("status", "--dagster", "--name", "docs")
    assert (numbers(status)[:3], status.facts[0]["proof"]) == ([4, 1, 0], None)


def carried(launch: Any, call: Any, server: ChromaServer) -> None:
    done = launch("docs", "migrate", "--set", "page_count=5")
    assert done.code == 0, done.err
    facts = [done.facts[name] for name in ("status", "ranges", "ranges_done", "ranges_carried", "records", "proven")]
    assert facts == ["SUCCESS", 4, 4, 3, 40, True]
    assert Path(done.facts["report_page"]).exists()
    assert held(server, "docs_copy") == held(server, "docs")
    status = call("status", "--dagster", "--name", "docs")
    assert numbers(status) == [4, 4, 0, 0, 0, 40]
    (found,) = status.facts
    assert (found["proof"]["proven"], found["proof"]["records"]) == (True, 40)
    assert found["proof"]["run_id"] == done.facts["run_id"] == found["runs"][0]["run_id"]
    assert [(item["job"], item["status"]) for item in found["runs"]] == [("migrate", "SUCCESS")] * 2


def contradicted(launch: Any, call: Any, server: ChromaServer) -> None:
    client(server).get_collection("docs_copy", embedding_function=None).delete(ids=["r013"])
    verified = launch("docs", "verify")
    assert (verified.code, verified.facts["found"]["missing"]) == (5, 1), verified.err
    assert "r013" in verified.err
    migrated = launch("docs", "migrate")
    assert (migrated.code, migrated.facts["ranges_done"]) == (5, 3), migrated.err
    status = call("status", "--dagster", "--name", "docs")
    assert numbers(status) == [4, 3, 1, 0, 0, 40]
    assert (status.facts[0]["proof"]["proven"], "r013" in status.facts[0]["proof"]["what"]) == (False, True)
    mended = launch("docs", "retry_failed")
    assert (mended.code, mended.facts["ranges_done"], mended.facts["ranges_carried"]) == (0, 4, 1), mended.err
    status = call("status", "--dagster", "--name", "docs")
    assert (numbers(status), status.facts[0]["proof"]["proven"]) == ([4, 4, 0, 0, 0, 40], True)
    assert launch("docs", "verify", "--set", "sample=5").code == 0


def ends_as_it_deserves(launch: Any) -> None:
    aside = launch("aside", "sync")
    assert (aside.code, aside.facts["rejected"]) == (4, 40), aside.err
    lost = launch("lost", "sync")
    assert (lost.code, lost.facts["errors"][0]["type"]) == (1, "CollectionNotFoundError"), lost.err
    for job in ("plan", "migrate"):
        unfit = launch("unfit", job)
        assert (unfit.code, "dimension" in unfit.err) == (3, True), unfit.err
    refused = launch("docs", "sync", "--set", "no_such_option=1")
    assert (refused.code, "no_such_option" in refused.err) == (2, True)
    wrong = launch("docs", "sync", "--set", "page_count=-1")
    assert (wrong.code, wrong.facts["errors"][0]["type"]) == (2, "SpecError")
    rehearsed = launch("docs", "sync", "--set", "dry_run=true")
    assert (rehearsed.code, rehearsed.facts["found"]["records that would be written"]) == (0, 40)
    queued = launch("docs", "detect", "--no-follow")
    assert (queued.code, queued.facts["status"]) == (0, "QUEUED")
    assert launch("nothing", "sync").code == 2
