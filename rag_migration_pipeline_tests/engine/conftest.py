"""A small migration in memory for the tests of the engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_migration_pipeline import retries
from rag_migration_pipeline_tests.steps.support import World, end_world, new_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world of its own; nothing waits between attempts."""
    found = new_world(tmp_path / "state")
    with retries.test_mode():
        yield found
    end_world(found)
