"""The world in which the steps are tried."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_migration_pipeline_tests.steps.support import World, end_world, new_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two memory spaces and a state folder."""
    world = new_world(tmp_path / "state")
    yield world
    end_world(world)
