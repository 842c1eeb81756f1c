"""Embedded stores with a small collection; nothing waits between attempts."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_migration_pipeline import StoreService, get_chromadb_service, get_qdrant_service, retries
from rag_migration_pipeline_tests.docs.stand_ins import fill


@pytest.fixture(autouse=True)
def no_waits() -> Iterator[None]:
    with retries.test_mode():
        yield


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Chroma folder with three collections of 48 records, to be copied."""
    root = tmp_path_factory.mktemp("api")
    with get_chromadb_service(path=root / "chroma") as service:
        for name in ("docs", "images", "audio"):
            fill(service, name)
    return root / "chroma"


@pytest.fixture
def source(filled: Path, tmp_path: Path) -> Iterator[StoreService]:
    """A Chroma folder of the test's own."""
    shutil.copytree(filled, tmp_path / "chroma")
    with get_chromadb_service(path=tmp_path / "chroma") as service:
        yield service


@pytest.fixture
def target(tmp_path: Path) -> Iterator[StoreService]:
    """A Qdrant folder that does not exist yet."""
    with get_qdrant_service(path=tmp_path / "edge", engine="edge") as service:
        yield service
