"""The laws on Chroma: a folder that this process opens, and `chroma run`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from rag_migration_pipeline.records import IdKind
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.chroma import ChromaSettings, ChromaStore
from rag_migration_pipeline_tests.contract.doors import Door
from rag_migration_pipeline_tests.contract.doors_chroma import ChromaDoor
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.gaps import never
from rag_migration_pipeline_tests.contract.laws import EmbeddedStoreLaws, ServerStoreLaws
from rag_migration_pipeline_tests.contract.laws_persistence import FolderTouchedError


class ChromaForm(StoreForm):
    """What both forms of Chroma share."""

    id_kind_sets = (frozenset({IdKind.STRING}),)
    bulk_count = 6_000  # above the 5,461 records of one request
    bulk_bytes = 20 * 2**20  # no limit in bytes was met (1.5.9); indexing texts takes seconds
    collection_metadata: ClassVar[dict[str, Any]] = {"purpose": "tests", "number": 1, "share": 0.5, "is_old": False}
    index_settings: ClassVar[dict[str, Any]] = {
        "hnsw": {
            "max_neighbors": 8,
            "ef_construction": 60,
            "ef_search": 70,
            "sync_threshold": 500,
            "resize_factor": 1.5,
        }
    }

    @classmethod
    def open_door(cls, settings: StoreSettings, store: VectorStore) -> Door:
        assert isinstance(settings, ChromaSettings)
        assert isinstance(store, ChromaStore)
        return ChromaDoor(settings, store)

    @classmethod
    def settings_at(cls, settings: StoreSettings, host: str, ports: Sequence[int]) -> StoreSettings:
        assert isinstance(settings, ChromaSettings)
        return replace(settings, host=host, port=ports[0], timeout_s=3.0)

    @classmethod
    def ports_of(cls, settings: StoreSettings) -> Sequence[int]:
        assert isinstance(settings, ChromaSettings)
        return [settings.port]

    @classmethod
    def settings_with_secret(cls, settings: StoreSettings, secret: str) -> StoreSettings | None:
        assert isinstance(settings, ChromaSettings)
        return replace(settings, token=SecretStr(secret))


@never(
    "test_a_source_folder_is_the_same_before_and_after_reading",
    reason="Chroma's engine (1.5.9) has no read-only mode and writes its own bookkeeping when it opens a folder; "
    "the records stay as they were",
    raises=FolderTouchedError,
)
class TestChromaFolder(ChromaForm, EmbeddedStoreLaws):
    """`chroma+file://`: a folder that this process opens."""

    label = "Chroma folder"

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory: pytest.TempPathFactory) -> StoreSettings:
        return ChromaSettings(path=str(tmp_path_factory.mktemp("chroma") / "db"))

    @classmethod
    def settings_in(cls, folder: Path) -> StoreSettings:
        return ChromaSettings(path=str(folder))


@pytest.mark.server
class TestChromaServer(ChromaForm, ServerStoreLaws):
    """`chroma://` to `chroma run`."""

    label = "Chroma server"
    is_server = True

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, chroma_server: Any) -> StoreSettings:
        return ChromaSettings(host=chroma_server.host, port=chroma_server.port)
