"""A process killed at every point that matters; each time the next run finishes and nothing is lost or doubled."""

import pytest

from rag_migration_pipeline_tests.kill.conftest import Prepare
from rag_migration_pipeline_tests.kill.judgement import KILLED, receipts, take_up
from rag_migration_pipeline_tests.kill.worker import POINTS, Leg, legs, run

COUNT = 30
LEGS = legs(("chroma_to_edge", "edge_to_chroma", "chroma_to_milvus"))

# Ranges that have a receipt when the process dies at the point for the given time.
OCCURRENCES = {
    "half a batch written": (5, 1),
    "batch written, not noted": (5, 1),
    "receipt stored, event not logged": (2, 2),
    "event logged, staging not removed": (2, 2),
}
FINISHED = {"finished loading, not proven": 3, "report stored, event not logged": 3}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try every point on one leg, on the way home all that concern the target; at a larger scale every point on all."""
    if "point" not in metafunc.fixturenames:
        return
    is_full = metafunc.config.getoption("--scale") > 1
    pairs = [
        (leg, point) for number, point in enumerate(POINTS) for leg in (LEGS if is_full else LEGS[number % 3 :][:1])
    ]
    metafunc.parametrize(("leg", "point"), pairs, ids=[f"{leg.name}-{point}" for leg, point in pairs])


def test_a_migration_killed_there_is_finished_by_the_next_run(prepare: Prepare, leg: Leg, point: str) -> None:
    root = prepare(leg, COUNT)
    occurrence, finished = OCCURRENCES.get(point, (1, FINISHED.get(point, 0)))
    assert run(leg, root, point, occurrence) == KILLED
    assert len(receipts(root)) == finished
    take_up(leg, root, COUNT)
