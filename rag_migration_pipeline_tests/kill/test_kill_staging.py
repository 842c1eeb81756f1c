"""A process killed while its staged records travel to an object store and back."""

import os
import random
import signal
from collections.abc import Callable

import pytest

from rag_migration_pipeline_tests.kill.conftest import Prepare
from rag_migration_pipeline_tests.kill.judgement import KILLED, receipts, take_up
from rag_migration_pipeline_tests.kill.worker import JOB_TIMEOUT_S, POINTS, Leg, end, run, start
from rag_migration_pipeline_tests.servers.s3 import S3Server, environment

pytestmark = pytest.mark.slow

COUNT = 30
KILLS = 1


@pytest.fixture
def leg(s3: S3Server) -> Leg:
    return Leg("chroma", "edge", staging="s3://files/staged", environment=tuple(environment(s3.url).items()))


@pytest.fixture(scope="module")
def requests_of_a_run() -> list[int]:
    """How many requests a run sends that nobody kills, once it is known."""
    return []


@pytest.fixture
def request_count(s3: S3Server, leg: Leg, prepare: Prepare, requests_of_a_run: list[int]) -> int:
    if not requests_of_a_run:
        root = prepare(leg, COUNT)
        s3.requests.clear()
        assert run(leg, root) == 0
        requests_of_a_run.append(len(s3.requests))
        root.rename(root.with_name("measured"))
    return requests_of_a_run[0]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One request to die at, or more by the scale."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(max(1, round(KILLS * metafunc.config.getoption("--scale")))))


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_the_next_run_finishes(prepare: Prepare, s3: S3Server, leg: Leg, point: str) -> None:
    root = prepare(leg, COUNT)
    assert run(leg, root, point) == KILLED
    take_up(leg, root, COUNT)
    assert (s3.keys("files"), s3.uploads("files")) == ([], [])


def killing_at(number: int, pid: int) -> Callable[[str, str], str | None]:
    """Return a fault that kills a process when it has sent so many requests; that one is carried out, for nobody."""
    left = number

    def fault(_method: str, _path: str) -> str | None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(pid, signal.SIGKILL)
        return None

    return fault


def test_killed_while_it_talks_to_the_object_store_the_next_run_finishes(
    prepare: Prepare, s3: S3Server, leg: Leg, request_count: int, seed: int
) -> None:
    number = random.Random(seed).randint(1, request_count)
    root = prepare(leg, COUNT)
    finished: dict[str, tuple[int, int]] = {}
    codes = []
    for again in (number, request_count // 3):
        process = start(leg, root)
        s3.fault = killing_at(again, process.pid or 0)
        process.join(JOB_TIMEOUT_S)
        s3.be_well()
        codes.append(end(process))
        assert finished.items() <= receipts(root).items()
        finished = receipts(root)
    assert codes[0] == KILLED
    assert codes[1] in (0, KILLED)
    take_up(leg, root, COUNT)
    assert s3.keys("files") == []
