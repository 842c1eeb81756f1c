"""Milvus in each of its forms, for tests that ask all three the same; the Qdrant double, for tests that break it."""

from collections.abc import Iterator
from typing import Any

import pytest

from rag_migration_pipeline.stores.milvus import MilvusSettings, MilvusStore
from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble
from rag_migration_pipeline_tests.stores.qdrant_samples import TRANSPORTS, settings_of

FORMS = ("file", pytest.param("lite", marks=pytest.mark.server), pytest.param("server", marks=pytest.mark.server))


@pytest.fixture(scope="module", params=FORMS)
def milvus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusStore]:
    """An open store; what the tests make there goes away."""
    if request.param == "file":
        settings = MilvusSettings(path=str(tmp_path_factory.mktemp("milvus") / "lite.db"))
    else:
        server: Any = request.getfixturevalue("milvus_server" if request.param == "server" else "milvus_lite_server")
        settings = MilvusSettings(host=server.host, port=server.port)
    with settings.open(create=True) as opened:
        assert isinstance(opened, MilvusStore)
        before = opened.list_collections()
        yield opened
        for name in set(opened.list_collections()) - set(before):
            opened.drop(name)


@pytest.fixture(scope="session")
def started_double() -> Iterator[QdrantDouble]:
    """A Qdrant double that wants a key, for the session."""
    server = QdrantDouble(api_key="right-key")
    server.start()
    yield server
    server.close()


@pytest.fixture
def double(started_double: QdrantDouble) -> QdrantDouble:
    """The double without the faults and the counts of the test before."""
    started_double.clear_faults()
    started_double.reset_counts()
    return started_double


@pytest.fixture(params=TRANSPORTS, ids=["grpc", "rest"])
def remote_store(request: pytest.FixtureRequest, double: QdrantDouble) -> Iterator[Any]:
    """An open store on the double, over either transport; what the tests make there goes away."""
    with settings_of(double, request.param).open() as opened:
        yield opened
        for name in opened.list_collections():
            opened.drop(name)
