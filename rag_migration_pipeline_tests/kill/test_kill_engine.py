"""A run without Dagster, in threads or processes, killed at points and moments; resuming loses and doubles nothing."""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from rag_migration_pipeline_tests.engine.journeys import (
    Station,
    chroma_station,
    fresh_name,
    milvus_station,
    qdrant_station,
)
from rag_migration_pipeline_tests.kill.engine_worker import POINTS, RANGE_COUNT, Journey, migrate, resume, start
from rag_migration_pipeline_tests.kill.judgement import KILLED, receipts
from rag_migration_pipeline_tests.kill.vendor import Plains, differences, make_records
from rag_migration_pipeline_tests.servers.process import is_alive

pytestmark = pytest.mark.server

COUNT = 10_000
RUN_TIMEOUT_S = 120.0
POLL_S = 0.1  # looking at all processes costs time that the workers need
ORPHANS_END_S = 10.0
"""How soon worker processes end after the process that started them was killed."""

LEGS = (("chroma", "qdrant"), ("qdrant", "milvus"), ("chroma", "milvus"), ("chroma", "qdrant"), ("qdrant", "chroma"))
FIRST_LEG = ("qdrant", "milvus")  # the one that takes the least time
SOURCE = "texts_to_kill"


@cache
def expected() -> Plains:
    """Return the records of every source."""
    return make_records(COUNT)


MAKERS: dict[str, tuple[str, Callable[[Any], Station]]] = {
    "chroma": ("chroma_server", chroma_station),
    "qdrant": ("qdrant_double", qdrant_station),
    "milvus": ("milvus_lite_server", milvus_station),
}


@pytest.fixture(scope="module")
def station(request: pytest.FixtureRequest) -> Callable[[str], Station]:
    """Return a server of a kind; it is started when it is first asked for."""

    def give(kind: str) -> Station:
        fixture, make = MAKERS[kind]
        return make(request.getfixturevalue(fixture))

    return give


@pytest.fixture(scope="module")
def source_station(station: Callable[[str], Station]) -> Iterator[Callable[[str], Station]]:
    """Return a server of a kind with a filled source, which nothing may change."""
    filled: dict[str, Station] = {}

    def give(kind: str) -> Station:
        if kind not in filled:
            filled[kind] = station(kind)
            filled[kind].fill(SOURCE, expected())
        return filled[kind]

    yield give
    for source in filled.values():
        assert differences(expected(), source.read(SOURCE)) == []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Four rounds, or twenty: threads and processes, points and moments in turn."""
    if "round_number" in metafunc.fixturenames:
        rounds = 4 if metafunc.config.getoption("--scale") <= 1 else 20
        metafunc.parametrize("round_number", range(rounds), ids=list(map(round_name, range(rounds))))


def point_of(round_number: int) -> str | None:
    """Return the point at which a round is killed, or None for a moment."""
    is_named = round_number % 4 < 2
    # The first that is tried has ranges that are proven and ranges that are not.
    points = ["receipt stored, event not logged", *(point for point in POINTS if not point.startswith("receipt"))]
    return points[round_number // 4 % len(points)] if is_named else None


def worker_type_of(round_number: int) -> str:
    return ("thread", "process")[round_number % 2]


def leg_of(round_number: int) -> tuple[str, str]:
    return FIRST_LEG if round_number < 4 else LEGS[round_number % len(LEGS)]


def round_name(number: int) -> str:
    where = point_of(number) or "any moment"
    return f"{number}-{worker_type_of(number)}-{'-'.join(leg_of(number))}-{where}"


def test_a_killed_run_is_resumed_and_nothing_is_lost_doubled_or_repeated(
    station: Callable[[str], Station], source_station: Callable[[str], Station], tmp_path: Path, round_number: int
) -> None:
    first, second = leg_of(round_number)
    source, target = source_station(first), station(second)
    name = fresh_name("killed")
    journey = Journey(source.settings, SOURCE, target.settings, name, tmp_path, worker_type_of(round_number))
    dice = random.Random(round_number)
    point = point_of(round_number)
    moment = None if point else moment_by_records(target, name, dice)
    code, orphans = watched_run(start(migrate, journey, point), moment)
    assert code == KILLED or (code == 0 and point is None), "it dies at its point; a moment may come too late"
    assert_all_end(orphans)
    finished = receipts(tmp_path)
    if point == "receipt stored, event not logged":
        assert len(finished) >= 2

    # How ranges are worked on may change from run to run; and threads begin sooner.
    resumed = replace(journey, worker_type="thread") if round_number < 4 else journey
    assert watched_run(start(resume, resumed), None)[0] == 0

    assert differences(expected(), target.read(name)) == []
    after = receipts(tmp_path)
    assert {key: after.get(key) for key in finished} == finished
    assert len(after) == COUNT // RANGE_COUNT
    assert_the_rest_was_done_once(tmp_path, finished)


def moment_by_records(target: Station, name: str, dice: random.Random) -> Callable[[], bool]:
    """Return whether a part of the records that nobody chose has arrived, and some milliseconds more have passed."""
    part, later_s = dice.uniform(0.0, 0.6) * COUNT, dice.uniform(0.0, 0.2)  # it is looked at now and then only
    reached_s: list[float] = []

    def is_reached() -> bool:
        if not reached_s and target.count(name) > part:
            reached_s.append(time.monotonic())
        return bool(reached_s) and time.monotonic() - reached_s[0] > later_s

    return is_reached


def watched_run(process: BaseProcess, is_moment: Callable[[], bool] | None) -> tuple[int, list[psutil.Process]]:
    """Run a process until it ends or the moment comes, and kill it then; return its exit code and its descendants."""
    descendants: set[psutil.Process] = set()
    deadline = time.monotonic() + RUN_TIMEOUT_S
    try:
        while process.is_alive():
            assert time.monotonic() < deadline, f"it takes longer than {RUN_TIMEOUT_S} s"
            descendants.update(children_of(process.pid))
            if is_moment is not None and is_moment():
                process.kill()
            process.join(POLL_S)
    finally:
        process.kill()
        process.join(RUN_TIMEOUT_S)
    assert process.exitcode is not None
    return process.exitcode, list(descendants)


def children_of(pid: int | None) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def assert_all_end(orphans: list[psutil.Process]) -> None:
    deadline = time.monotonic() + ORPHANS_END_S
    while left := [orphan for orphan in orphans if is_alive(orphan)]:
        if time.monotonic() > deadline:
            for orphan in left:
                orphan.kill()
            pytest.fail(f"processes outlived the one that started them by {ORPHANS_END_S} s: {left}")
        time.sleep(0.05)


def assert_the_rest_was_done_once(root: Path, finished: dict[str, Any]) -> None:
    """Check what the resumed run and the ledger say of the ranges."""
    result = json.loads((root / "result.json").read_text())
    assert result["success"] is True
    assert result["metadata"]["validated"] is True
    assert result["metadata"]["already_migrated"] == RANGE_COUNT * len(finished)
    assert result["vectors_migrated"] == COUNT - RANGE_COUNT * len(finished)
    (path,) = root.glob("state/*/ledger.json")
    ledger = json.loads(path.read_text())
    assert (ledger["state"], ledger["holder"]) == ("done", None)
    assert {facts["state"] for facts in ledger["ranges"].values()} == {"done"}
    # The ledger may be a second behind the receipts: a range that was finished before may not be noted as begun.
    attempts = {key: facts["attempts"] for key, facts in ledger["ranges"].items()}
    assert all(attempts[key] <= 1 for key in finished)
    assert all(1 <= attempts[key] <= 2 for key in attempts.keys() - finished.keys())
