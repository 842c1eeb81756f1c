"""Embedded stores with a small collection; nothing waits between attempts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_migration_pipeline import StoreService, get_chromadb_service, get_qdrant_service, retries
from rag_migration_pipeline_tests.docs.stand_ins import fill


@pytest.fixture(autouse=True)
def no_waits() -> Iterator[None]:
    with retries.test_mode():
        yield


@pytest.fixture
def source(tmp_path: Path) -> Iterator[StoreService]:
    """A Chroma folder with three collections of 48 records."""
    with get_chromadb_service(path=tmp_path / "chroma") as service:
        for name in ("docs", "images", "audio"):
            fill(service, name)
        yield service


@pytest.fixture
def target(tmp_path: Path) -> Iterator[StoreService]:
    """A Qdrant folder that does not exist yet."""
    with get_qdrant_service(path=tmp_path / "edge", engine="edge") as service:
        yield service
