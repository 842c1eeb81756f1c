"""Milvus in each of its forms, for tests that ask all three the same."""

from collections.abc import Iterator
from typing import Any

import pytest

from rag_migration_pipeline.stores.milvus import MilvusSettings, MilvusStore

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
