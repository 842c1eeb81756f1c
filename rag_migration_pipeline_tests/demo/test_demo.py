"""The demo command: what its exit code and its last line claim, and that it goes on where it was killed."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_migration_pipeline_tests.demo.running import COUNT, RANGE_COUNT, Outcome, run_demo
from rag_migration_pipeline_tests.homes import copy_home

LEGS = ("demo_chroma_to_qdrant", "demo_qdrant_to_milvus", "demo_milvus_to_chroma")
RANGES = -(-COUNT // RANGE_COUNT)


def prepare(folder: Path, factory: pytest.TempPathFactory) -> Path:
    """Make a demo folder whose Dagster instance is there already, which saves seconds."""
    folder.mkdir(parents=True)
    copy_home(factory, folder / "dagster_home")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The folder of a demo that ran once, and how it ended; tests work on copies."""
    folder = prepare(tmp_path_factory.mktemp("finished") / "demo", tmp_path_factory)
    return folder, run_demo(folder)


@pytest.fixture
def done(finished: tuple[Path, Outcome], tmp_path: Path) -> Iterator[Path]:
    """The folder of a finished demo, at its old path: identities of migrations hold their addresses."""
    kept = tmp_path / "kept"
    shutil.copytree(finished[0], kept)
    yield finished[0]
    shutil.rmtree(finished[0])
    kept.rename(finished[0])


def open_chroma(folder: Path) -> Any:
    """Open a Chroma folder with the vendor's client."""
    import chromadb
    from chromadb.config import Settings

    return chromadb.PersistentClient(str(folder), Settings(_env_file=None, anonymized_telemetry=False))


def runs_of(folder: Path) -> list[tuple[str, str]]:
    """Return job and status of all runs, oldest first."""
    with dg.DagsterInstance.from_config(str(folder / "dagster_home")) as instance:
        return [(run.job_name, run.status.value) for run in reversed(instance.get_runs())]


def test_every_record_comes_home_and_the_exit_code_says_so(finished: tuple[Path, Outcome]) -> None:
    folder, outcome = finished
    assert outcome.code == 0, outcome.said
    assert outcome.said.rstrip().splitlines()[-1] == f"round trip: {COUNT} of {COUNT} records identical"
    assert outcome.said.count(" identical ") == len(LEGS)
    assert "NOT PROVEN" not in outcome.said
    assert runs_of(folder) == [(f"{leg}__migrate", "SUCCESS") for leg in LEGS]
    manifests = [json.loads(path.read_bytes()) for path in (folder / "state").glob("*/manifest.json")]
    assert [len(manifest["ranges"]) for manifest in manifests] == [RANGES] * len(LEGS)


def test_a_second_run_says_that_all_is_done_and_runs_nothing(done: Path) -> None:
    before = runs_of(done)
    outcome = run_demo(done)
    assert outcome.code == 0
    assert outcome.said.count("all done") == len(LEGS)
    assert outcome.said.rstrip().endswith(f"round trip: {COUNT} of {COUNT} records identical")
    assert runs_of(done) == before


# Chroma 1.5.9 says so of every collection that was made without an embedding function's configuration.
@pytest.mark.filterwarnings("ignore:legacy embedding function config:DeprecationWarning")
def test_one_record_that_is_not_what_it_was_makes_the_exit_code_1(done: Path) -> None:
    with closing(open_chroma(done / "chroma_home")) as client:
        home = client.get_collection("python_docs", embedding_function=None)
        (victim,) = home.get(limit=1, include=[])["ids"]
        home.update(ids=[victim], metadatas=[{"module": "another"}])
    outcome = run_demo(done)
    assert outcome.code == 1
    assert victim in outcome.said
    assert f"round trip: {COUNT - 1} of {COUNT} records identical" in outcome.said


def test_a_home_that_is_gone_is_no_success(done: Path) -> None:
    shutil.rmtree(done / "chroma_home")
    outcome = run_demo(done)
    assert outcome.code == 1
    assert "chroma_home" in outcome.said
    assert "round trip" not in outcome.said


@pytest.mark.slow
def test_reset_forgets_everything_first(done: Path) -> None:
    (done / "left_over").write_text("x")
    outcome = run_demo(done, "--reset")
    assert outcome.code == 0
    assert "all done" not in outcome.said
    assert not (done / "left_over").exists()


def test_killed_in_the_middle_the_next_run_goes_on(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = prepare(tmp_path / "demo", tmp_path_factory)
    assert run_demo(folder, kill_at=(LEGS[1], 2)).code == -signal.SIGKILL
    receipts = {path.stem: path.stat().st_mtime_ns for path in folder.glob("state/*/receipts/**/*.arrow")}
    assert len(receipts) == RANGES + 2
    outcome = run_demo(folder)
    assert outcome.code == 0, outcome.said
    assert "was killed: going on from its finished ranges" in outcome.said
    assert outcome.said.count("all done") == 1
    assert outcome.said.rstrip().endswith(f"round trip: {COUNT} of {COUNT} records identical")
    after = {path.stem: path.stat().st_mtime_ns for path in folder.glob("state/*/receipts/**/*.arrow")}
    assert receipts.items() <= after.items()
    assert [status for _, status in runs_of(folder)] == ["SUCCESS", "FAILURE", "SUCCESS", "SUCCESS"]


def test_a_folder_that_cannot_be_made_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file")
    outcome = run_demo(tmp_path / "demo")
    assert outcome.code == 1
    assert str(tmp_path / "demo") in outcome.said
