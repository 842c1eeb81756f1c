"""What the command tells its caller, by its exit code and on its two streams."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from rag_migration_pipeline_tests.cli.running import COUNT, TIMEOUT_S, Place, fill, held
from rag_migration_pipeline_tests.servers.chroma import ChromaServer

MEMORY = ("--source", "memory://a", "--target", "memory://b")


def test_done_is_0_and_the_result_is_on_standard_output(place: Place) -> None:
    done = place.run(*place.pair, "--filter", "status=active,year=2025", "--batch-size", "10", "-o", "json")
    assert done.code == 0, done.err
    assert (done.facts["success"], done.facts["vectors_migrated"]) == (True, COUNT // 2)
    assert done.facts["metadata"]["validated"] is True
    assert set(held(place.target)) == {str(n) for n in range(1, COUNT, 2)}


def test_a_dry_run_is_0_and_touches_nothing(place: Place) -> None:
    done = place.run(*place.pair, "--dry-run", "-o", "yaml")
    assert done.code == 0, done.err
    facts = yaml.safe_load(done.out)
    assert (facts["vectors_migrated"], facts["metadata"]["dry_run"]) == (COUNT, True)
    assert not (place.root / "edge").exists()
    assert not place.state.exists()


def test_failed_is_1_and_said_in_the_form_that_was_asked_for(place: Place) -> None:
    missing = place.source.removesuffix("docs") + "nothing"
    done = place.run("--source", missing, "--target", place.target, "-o", "json")
    assert done.code == 1
    assert done.facts["exit_code"] == 1
    assert done.facts["error"]["type"] == "CollectionNotFoundError"
    assert "nothing" in done.facts["error"]["message"]
    assert done.err.startswith("CollectionNotFoundError: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--source", "memory://a"), "no target is named"),
        (("--sorce", "memory://a"), "No such option"),
        (("--source", "memory://a", "--target", "chrom://h/b"), "unknown scheme 'chrom'"),
        (("--source", "memory://a", "--target", "memory://b", "--ids", "{a: ["), "--ids: not YAML at line 1"),
        (("--source", "memory://a", "--target", "memory://b", "--mapping", "@/nothing"), "cannot read /nothing"),
        (
            ("--source", "memory://a", "--target", "memory://b", "--max-rejected", "-1"),
            "max_rejected: expected a count",
        ),
        (("--source", "memory://a", "verify"), "--source must stand behind the command: rag-migrate verify"),
        (("--config", "nothing.yaml"), "nothing.yaml: No such file"),
    ],
)
def test_wrong_usage_is_2_and_named(place: Place, arguments: tuple[str, ...], said: str) -> None:
    done = place.run(*arguments)
    assert done.code == 2
    assert said in " ".join(done.err.replace("│", " ").split())
    assert not place.state.exists()


def test_incompatible_is_3_for_the_plan_and_for_the_run(place: Place) -> None:
    fill(place.target, 1, dimension=5)
    planned = place.run("plan", *place.pair, "--conflict", "overwrite", "-o", "json")
    assert planned.code == 3, planned.err
    assert planned.facts["compatible"] is False
    assert any("dimension" in refusal for refusal in planned.facts["plan"]["refusals"])
    done = place.run(*place.pair, "--conflict", "overwrite")
    assert done.code == 3
    assert "dimension" in done.err


def test_set_aside_is_4_and_says_where(place: Place) -> None:
    mapping = "{transforms: {status: int}}"
    done = place.run(*place.pair, "--mapping", mapping, "--max-rejected", str(COUNT), "-o", "json")
    assert done.code == 4, done.err
    assert done.facts["metadata"]["rejected"] == COUNT
    assert Path(done.facts["metadata"]["quarantine_file"]).exists()


def test_a_contradiction_is_5(migrated_once: Path, tmp_path: Path) -> None:
    place = Place(tmp_path / "place")
    shutil.copytree(migrated_once, place.root)
    pair = ("--source", Place(migrated_once).source, "--target", place.target)
    assert place.run("verify", *pair).code == 0
    fill(place.source.replace("/docs", "/fewer"), COUNT - 1)
    done = place.run(
        "verify", "--source", place.source.replace("/docs", "/fewer"), "--target", place.target, "-o", "json"
    )
    assert done.code == 5, done.err
    assert len(done.facts["extra"]) == 1
    assert done.facts["is_identical"] is False


def test_interrupted_is_130_and_resume_goes_on(place: Place) -> None:
    process = started_slowly(place)
    try:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "resume" in err
    status = place.run("status", "-o", "json")
    assert status.facts[0]["state"] == "interrupted"
    assert 0 < status.facts[0]["done"] < 8
    done = place.run(*place.pair, "--range-count", "5", "--resume", "-o", "json")
    assert done.code == 0
    assert done.facts["metadata"]["already_migrated"] == 5 * status.facts[0]["done"]
    assert len(held(place.target)) == COUNT


def started_slowly(place: Place) -> "subprocess.Popen[str]":
    """Return a run of which a range is proven and that has others before it."""
    slow = json.dumps({"source": {"records_per_s": 20}})
    process = place.start(
        *place.pair, "--range-count", "5", "--batch-size", "5", "--log-format", "json", "--limits", slow
    )
    assert process.stderr is not None
    deadline = time.monotonic() + TIMEOUT_S
    for line in process.stderr:
        assert time.monotonic() < deadline
        if " proven" in line:
            break
    return process


def test_a_killed_run_is_told_as_interrupted_and_its_state_is_not_purged_unasked(place: Place) -> None:
    process = started_slowly(place)
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    (status,) = place.run("status", "-o", "json").facts
    assert (status["state"], status["holder"]) == ("interrupted", None)
    refused = place.run("purge", *place.pair)
    assert refused.code == 1
    assert "is not finished" in refused.err
    assert "--resume" in refused.err
    assert place.run(*place.pair, "--range-count", "5", "--resume", "--quiet").code == 0
    assert place.run("purge", *place.pair).code == 0


@pytest.mark.slow
def test_what_is_not_finished_is_purged_by_force(place: Place) -> None:
    process = started_slowly(place)
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    assert place.run("purge", *place.pair, "--force").code == 0
    assert place.run("status", "-o", "json").facts == []


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param((), id="one worker"),
        pytest.param(("--parallel", "--max-workers", "2"), id="two", marks=pytest.mark.slow),
    ],
)
def test_a_second_interrupt_ends_a_run_at_once_that_waits_for_a_store(place: Place, workers: tuple[str, ...]) -> None:
    with ChromaServer(place.root / "server") as server:
        slow = json.dumps({"target": {"records_per_s": 40}})
        target = f"chroma://127.0.0.1:{server.port}/docs"
        options = ("--range-count", "5", "--batch-size", "5", "--log-format", "json", "--limits", slow, *workers)
        process = place.start("--source", place.source, "--target", target, *options)
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if " proven" in line:
                    break
            os.kill(server.pid, signal.SIGSTOP)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.5)
            process.send_signal(signal.SIGINT)
            assert process.wait(5.0) == -signal.SIGINT
        finally:
            process.kill()
            process.communicate(timeout=TIMEOUT_S)
            os.kill(server.pid, signal.SIGCONT)
        done = place.run("--source", place.source, "--target", target, *options, "--resume", "-o", "json")
        assert done.code == 0
        assert done.facts["metadata"]["already_migrated"] > 0
