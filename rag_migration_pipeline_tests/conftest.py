"""Fixtures for all tests: the scale, and servers that are started once per session and only when asked for."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

LAW_MODULES = ("reading", "writing", "values", "vectors", "schema", "errors", "source", "life", "persistence")
# Before their import, so that a failing law shows the values that it compared.
pytest.register_assert_rewrite(*(f"rag_migration_pipeline_tests.contract.laws_{name}" for name in LAW_MODULES))

from rag_migration_pipeline_tests.contract.gaps import gap_of  # noqa: E402

SCALES = {"quick": 1.0, "full": 10.0}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one option that scales all tests, in the number and in the size of examples."""
    parser.addoption(
        "--scale",
        type=float,
        default=float(os.environ.get("RAG_TEST_SCALE", "1")),
        help="size and number of examples: --scale=1 in make test, --scale=10 in make test-full (with the sign)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Load the Hypothesis profile of the scale."""
    scale = config.getoption("--scale")
    hypothesis.settings.register_profile(
        "scaled",
        max_examples=max(1, round(20 * scale)),
        deadline=None,  # a shared machine pauses
        derandomize=scale <= 1,  # the same examples every time in make test; new ones in make test-full
        database=None,
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("scaled")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Turn the gaps of a store form into strict xfail marks; show one skipped law of a form that cannot run here."""
    away: set[type] = set()
    kept, dropped = [], []
    for item in items:
        form = getattr(item, "cls", None)
        gap = gap_of(form, item.name) if form is not None else None
        if gap is not None:
            reason = f"{gap.kind}: {gap.reason}"
            item.add_marker(pytest.mark.xfail(reason=reason, raises=gap.raises, strict=True))
        is_too_slow = item.get_closest_marker("slow") is not None and config.getoption("--scale") <= 1
        (dropped if form in away or is_too_slow else kept).append(item)
        if form is not None and getattr(form, "is_away", False):
            away.add(form)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


@pytest.fixture(scope="session")
def scale(pytestconfig: pytest.Config) -> float:
    """1 in `make test`, 10 in `make test-full`."""
    return float(pytestconfig.getoption("--scale"))


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Chroma server for the session."""
    from rag_migration_pipeline_tests.servers.chroma import ChromaServer

    with ChromaServer(tmp_path_factory.mktemp("chroma_server") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """An S3 server for the session."""
    from rag_migration_pipeline_tests.servers.s3 import S3Server

    with S3Server() as server:
        yield server


@pytest.fixture
def s3(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The S3 server as this process's environment names it, with the bucket ``files``, empty."""
    from rag_migration_pipeline_tests.servers.s3 import use

    use(s3_server.url, monkeypatch)
    s3_server.make_bucket("files")
    yield s3_server
    s3_server.be_well()
    s3_server.empty("files")


@pytest.fixture(scope="session")
def milvus_lite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Milvus Lite server for the session."""
    from rag_migration_pipeline_tests.servers.milvus import MilvusLiteServer

    with MilvusLiteServer(tmp_path_factory.mktemp("milvus_lite_server") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def milvus_unpack_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the Milvus programs (257 MB) are unpacked, once per session."""
    return tmp_path_factory.mktemp("milvus_bin")


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory, milvus_unpack_dir: Path) -> Iterator[Any]:
    """A real Milvus server for the session."""
    from rag_migration_pipeline_tests.servers.milvus import MilvusServer

    server = MilvusServer(tmp_path_factory.mktemp("milvus_server"), unpack_dir=milvus_unpack_dir)
    with pytest.MonkeyPatch.context() as patch:
        # A Strong read waits for the proxy's next tick, 200 ms by default (measured on 2.3.5: 20 ms with this).
        patch.setenv("PROXY_TIMETICKINTERVAL", "20")
        server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def qdrant_double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The Qdrant double for the session."""
    from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

    with QdrantDouble(tmp_path_factory.mktemp("qdrant_double") / "data") as server:
        yield server
