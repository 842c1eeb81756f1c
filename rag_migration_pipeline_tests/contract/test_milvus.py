"""The laws on Milvus: Milvus Lite in a folder, Milvus Lite's server, and the real server 2.3.5."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from rag_migration_pipeline.records import FieldSpec, IdKind
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.milvus import MilvusSettings, MilvusStore
from rag_migration_pipeline_tests.contract.doors import Door
from rag_migration_pipeline_tests.contract.doors_milvus import MilvusDoor
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.gaps import notyet
from rag_migration_pipeline_tests.contract.laws import EmbeddedStoreLaws, ServerStoreLaws


class MilvusForm(StoreForm):
    """What all forms of Milvus share."""

    id_kind_sets = (frozenset({IdKind.STRING}), frozenset({IdKind.INT64}))
    vector_names = ("text", "image_2", "words", "tokens")
    typed_fields = (
        FieldSpec("title", "string", max_length_bytes=200),
        FieldSpec("year", "int"),
        FieldSpec("score", "float"),
        FieldSpec("is_public", "bool"),
    )
    collection_metadata: ClassVar[dict[str, Any]] = {"purpose": "tests", "nested": {"list": [1, None]}}
    index_settings: ClassVar[dict[str, Any]] = {
        "indexes": {"vector": {"index_type": "HNSW", "params": {"M": 8, "efConstruction": 60}}},
    }

    @classmethod
    def open_door(cls, settings: StoreSettings, store: VectorStore) -> Door:
        assert isinstance(settings, MilvusSettings)
        assert isinstance(store, MilvusStore)
        return MilvusDoor(settings, store)

    @classmethod
    def settings_at(cls, settings: StoreSettings, host: str, ports: Sequence[int]) -> StoreSettings:
        assert isinstance(settings, MilvusSettings)
        return replace(settings, host=host, port=ports[0], timeout_s=3.0)

    @classmethod
    def ports_of(cls, settings: StoreSettings) -> Sequence[int]:
        assert isinstance(settings, MilvusSettings)
        return [settings.port]

    @classmethod
    def settings_with_secret(cls, settings: StoreSettings, secret: str) -> StoreSettings | None:
        assert isinstance(settings, MilvusSettings)
        return replace(settings, token=SecretStr(secret), user=SecretStr(secret), password=SecretStr(secret))


class TestMilvusLiteFile(MilvusForm, EmbeddedStoreLaws):
    """`milvus+file://`: a folder that this process opens through Milvus Lite."""

    label = "Milvus Lite file"

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory: pytest.TempPathFactory) -> StoreSettings:
        return MilvusSettings(path=str(tmp_path_factory.mktemp("milvus_lite") / "lite.db"))

    @classmethod
    def settings_in(cls, folder: Path) -> StoreSettings:
        return MilvusSettings(path=str(folder))


@pytest.mark.server
class TestMilvusLiteServer(MilvusForm, ServerStoreLaws):
    """`milvus://` to the server that Milvus Lite brings."""

    label = "Milvus Lite server"
    is_server = True

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, milvus_lite_server: Any) -> StoreSettings:
        return MilvusSettings(host=milvus_lite_server.host, port=milvus_lite_server.port)


@pytest.mark.server
@notyet(
    "test_integer_ids_at_the_edges_stay_themselves[largest_int64]",
    reason="2.3.5 accepts the key 2**63 - 1 and never answers it, so that key is rejected",
    raises=AssertionError,
)
class TestMilvusServer(MilvusForm, ServerStoreLaws):
    """`milvus://` to the real server, 2.3.5."""

    label = "Milvus server"
    index_settings: ClassVar[dict[str, Any]] = {
        **MilvusForm.index_settings,
        "consistency_level": "Session",
        "shards_num": 2,
    }
    is_server = True
    bulk_text_bytes = 60_000  # the dynamic field holds 64 KiB

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, milvus_server: Any) -> StoreSettings:
        return MilvusSettings(host=milvus_server.host, port=milvus_server.port)
