"""Fixtures of the kill tests: a folder with a filled source and the home of an empty instance."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rag_migration_pipeline_tests.homes import copy_home
from rag_migration_pipeline_tests.kill.vendor import FILL, make_records
from rag_migration_pipeline_tests.kill.worker import Leg

Prepare = Callable[[Leg, int], Path]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Make a filled source folder of a kind and size, once."""
    made: dict[tuple[str, int], Path] = {}

    def source(kind: str, count: int) -> Path:
        if (kind, count) not in made:
            made[kind, count] = tmp_path_factory.mktemp(f"source_{kind}")
            FILL[kind](made[kind, count], make_records(count))
        return made[kind, count]

    return source


@pytest.fixture
def prepare(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, sources: Callable[[str, int], Path]) -> Prepare:
    """Make a folder in which a worker can run a leg over so many records."""

    def make(leg: Leg, count: int) -> Path:
        root = tmp_path / leg.name
        copy_home(tmp_path_factory, root / "home")
        shutil.copytree(sources(leg.source, count), root / "source")
        return root

    return make
