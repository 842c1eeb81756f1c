import os
import pytest
from pathlib import Path
from urllib.parse import urlsplit
from dataclasses import replace
from pydantic import SecretStr
from rag_migration_pipeline.records import FieldSpec, IdKind
from rag_migration_pipeline.stores.milvus import MilvusSettings
from rag_migration_pipeline_tests.contract.doors_milvus import MilvusDoor
from rag_migration_pipeline_tests.contract.laws import EmbeddedStoreLaws, ServerStoreLaws
URIS=[u[7:] for u in Path('/tmp/milvus_dev/uris').read_text().split()]
class Common:
    id_kind_sets=(frozenset({IdKind.STRING}),frozenset({IdKind.INT64}))
    collection_metadata={"purpose": "tests", "nested": {"list": [1, None]}}
    bulk_count=12000
    typed_fields = (FieldSpec("title", "string", max_length_bytes=200), FieldSpec("year", "int"), FieldSpec("score", "float"), FieldSpec("is_public", "bool"))
    @classmethod
    def spec_of(cls, capabilities, **changes): return super().spec_of(capabilities, **{"fields": (), **changes})
    @classmethod
    def open_door(cls, settings, store): return MilvusDoor(settings, store)
    @classmethod
    def settings_at(cls, settings, host, port): return replace(settings, host=host, port=port, timeout_s=5)
    @classmethod
    def port_of(cls, settings): return settings.port
    @classmethod
    def settings_with_secret(cls, settings, secret): return replace(settings, token=SecretStr(secret), user=SecretStr(secret), password=SecretStr(secret))
class TestFile(Common, EmbeddedStoreLaws):
    label="file"
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory): return MilvusSettings(path=str(tmp_path_factory.mktemp("lite")/"lite.db"))
    @classmethod
    def settings_in(cls, folder): return MilvusSettings(path=str(folder))
class TestLiteServer(Common, ServerStoreLaws):
    label="lite server"; is_server=True
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls): h,p=URIS[1].split(":"); return MilvusSettings(host=h,port=int(p))
class TestReal(Common, ServerStoreLaws):
    label="server"; is_server=True
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls): h,p=URIS[0].split(":"); return MilvusSettings(host=h,port=int(p))
