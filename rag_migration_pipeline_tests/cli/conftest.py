"""A folder with a source collection of its own, copied from one that is made once."""

import shutil
from pathlib import Path

import pytest

from rag_migration_pipeline_tests.cli.running import Place, fill


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source collection."""
    root = tmp_path_factory.mktemp("cli")
    fill(Place(root).source)
    return root


@pytest.fixture
def place(filled: Path, tmp_path: Path) -> Place:
    """A folder that the test may change."""
    shutil.copytree(filled, tmp_path / "place")
    return Place(tmp_path / "place")


@pytest.fixture(scope="session")
def migrated_once(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source, a target and state."""
    root = tmp_path_factory.mktemp("cli_done") / "place"
    shutil.copytree(filled, root)
    assert Place(root).run(*Place(root).pair, "--range-count", "10", "--quiet").code == 0
    return root
