"""A process killed while it sets aside, replays or rolls back; doing it again ends as if nothing had happened."""

from pathlib import Path

import pytest

from rag_migration_pipeline_tests.kill import corrections
from rag_migration_pipeline_tests.kill.judgement import KILLED
from rag_migration_pipeline_tests.kill.worker import end, fork

TIMEOUT_S = 120.0

KILLS = [
    ("migrate", "pre-image stored", 1),
    ("migrate", "batch written", 2),
    ("migrate", "quarantine stored", 1),
    ("migrate", "quarantine stored", 2),
    ("replay", "repaired record written", 1),
    ("replay", "repair or quarantine stored", 1),
    ("replay", "receipt stored", 1),
    ("replay", "repair or quarantine stored", 2),
    ("replay", "receipt stored", 2),
    ("roll back", "pre-image restored", 1),
    ("roll back", "state renamed", 1),
]
QUICK = KILLS[1:2] + KILLS[4:7:2] + KILLS[9:10]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = KILLS if metafunc.config.getoption("--scale") > 1 else QUICK
    metafunc.parametrize(("action", "point", "occurrence"), chosen)


def do(action: str, root: Path, *arguments: object) -> int:
    process = fork(corrections.act, action, root, *arguments)
    process.join(TIMEOUT_S)
    return end(process)


def test_a_kill_changes_nothing_of_how_it_ends(tmp_path: Path, action: str, point: str, occurrence: int) -> None:
    corrections.prepare(tmp_path)
    source, target = (corrections.settings(tmp_path, side) for side in ("source", "target"))
    before = corrections.held(target)

    def step(name: str) -> None:
        if name == action:
            assert do(name, tmp_path, point, occurrence) == KILLED
            if point == "state renamed":
                return
        assert do(name, tmp_path) == 0

    step("migrate")
    migrated = corrections.held(target)
    assert migrated.keys() == {*range(corrections.COUNT), 100} - set(corrections.POISON)
    corrections.repair(tmp_path)
    step("replay")
    assert do("migrate", tmp_path) == 0, "the whole is proven"
    expected = corrections.held(source)
    (_, second), (_, seventh) = (expected.pop(number) for number in corrections.POISON)
    expected |= {2: ({"n": 2, "repaired": True}, second), 77: ({"n": 7, "repaired": True}, seventh), 100: before[100]}
    assert corrections.held(target) == expected
    assert not list(tmp_path.rglob("quarantine/*/*.arrow"))
    step("roll back")
    assert corrections.held(target) == before
    assert not (tmp_path / "state" / corrections.migration_of(tmp_path).identity).exists()
