"""A process killed at moments that nobody chose, so that the points which nobody thought of are met, too."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rag_migration_pipeline_tests.kill.conftest import Prepare
from rag_migration_pipeline_tests.kill.judgement import KILLED, assert_state_is_whole, receipts, take_up
from rag_migration_pipeline_tests.kill.vendor import READ, differences, make_records
from rag_migration_pipeline_tests.kill.worker import JOB_TIMEOUT_S, Leg, end, event, run, start

# Home to Chroma with more records than it holds between two writes of its index by default.
LEGS = (Leg("edge", "chroma", 400, 200), Leg("chroma", "edge"), Leg("chroma", "milvus"))
COUNTS = {LEGS[0]: 1_200, LEGS[1]: 30, LEGS[2]: 30}
KILLS = 4


def timed_run(leg: Leg, root: Path, kill_after_s: float = JOB_TIMEOUT_S) -> tuple[int, float]:
    """Run a leg and kill it so long after its job began; returns its exit code and the job's seconds."""
    ready = event()
    process = start(leg, root, None, 1, ready)
    assert ready.wait(JOB_TIMEOUT_S)
    begun = time.monotonic()
    process.join(kill_after_s)
    if process.is_alive() and kill_after_s < JOB_TIMEOUT_S:
        process.kill()
        process.join()
    return end(process), time.monotonic() - begun


@pytest.fixture(scope="session")
def durations() -> dict[Leg, float]:
    """Seconds that the job of each leg takes when nobody kills it."""
    return {}


@pytest.fixture
def duration_s(prepare: Prepare, durations: dict[Leg, float], tmp_path: Path) -> Callable[[Leg], float]:
    """Tell how long a leg takes; it is run for that once."""

    def measure(leg: Leg) -> float:
        if leg not in durations:
            root = prepare(leg, COUNTS[leg]).rename(tmp_path / "measured")
            code, durations[leg] = timed_run(leg, root)
            assert code == 0
        return durations[leg]

    return measure


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Four seeds, or more by the scale."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(max(1, round(KILLS * metafunc.config.getoption("--scale")))))


def test_a_migration_killed_at_any_moment_is_finished_by_the_next_run(
    prepare: Prepare, duration_s: Callable[[Leg], float], seed: int
) -> None:
    leg = LEGS[seed % len(LEGS)]
    longest_s = duration_s(leg)
    root = prepare(leg, COUNTS[leg])
    code, _ = timed_run(leg, root, random.Random(seed).uniform(0.02, 0.95) * longest_s)
    assert code in (0, KILLED)
    take_up(leg, root, COUNTS[leg])


@pytest.mark.slow
def test_a_migration_killed_again_and_again_still_ends(prepare: Prepare, duration_s: Callable[[Leg], float]) -> None:
    leg = LEGS[1]
    longest_s = duration_s(leg)
    root = prepare(leg, COUNTS[leg])
    dice = random.Random(11)
    finished: dict[str, tuple[int, int]] = {}
    for _ in range(3):
        timed_run(leg, root, dice.uniform(0.2, 0.6) * longest_s)
        assert finished.items() <= receipts(root).items()
        finished = receipts(root)
    take_up(leg, root, COUNTS[leg])


def test_a_second_run_of_a_proven_migration_loads_nothing(prepare: Prepare) -> None:
    leg = LEGS[1]
    root = prepare(leg, COUNTS[leg])
    assert run(leg, root) == 0
    before = receipts(root)
    assert run(leg, root) == 0
    assert receipts(root) == before
    assert_state_is_whole(leg, root, before)
    assert differences(make_records(COUNTS[leg]), READ[leg.target](root / "target")) == []
