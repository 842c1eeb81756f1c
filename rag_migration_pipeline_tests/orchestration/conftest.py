"""Fixtures of the Dagster tests: instances, and a small migration on each."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_migration_pipeline_tests.orchestration.scene import Scene


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory, empty."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def make_scene(tmp_path: Path, instance: dg.DagsterInstance) -> Iterator[Callable[..., Scene]]:
    """Make a migration over memory stores."""
    made: list[Scene] = []

    def make(count: int | None = None, **kwargs: Any) -> Scene:
        kwargs.setdefault("instance", instance)
        scene = Scene(tmp_path / f"state_{len(made)}", **kwargs)
        made.append(scene)
        if count is not None:
            scene.fill(count)
        return scene

    yield make
    for scene in made:
        scene.forget()


@pytest.fixture
def scene(make_scene: Callable[..., Scene]) -> Scene:
    """Twelve records in three ranges."""
    return make_scene(12)
