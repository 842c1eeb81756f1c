"""The open store of each form."""

from collections.abc import Iterator

import pytest

from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline_tests.filters.places import FORMS, SERVERS


@pytest.fixture(
    scope="module", params=[pytest.param(f, marks=pytest.mark.server if f in SERVERS else ()) for f in FORMS]
)
def form(request: pytest.FixtureRequest) -> str:
    """The name of a store's form."""
    return str(request.param)


@pytest.fixture(scope="module")
def store(form: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorStore]:
    """The store, emptied at the end."""
    opened = FORMS[form](request, tmp_path_factory.mktemp("filters")).open(create=True)
    try:
        yield opened
        for name in opened.list_collections():
            if name.startswith("filters_"):
                opened.drop(name)
    finally:
        opened.close()
