from dataclasses import replace
import pytest
from pydantic import SecretStr
from rag_migration_pipeline.records import IdKind
from rag_migration_pipeline.stores.chroma import ChromaSettings
from rag_migration_pipeline_tests.contract.doors_chroma import ChromaDoor
from rag_migration_pipeline_tests.contract.laws import EmbeddedStoreLaws, ServerStoreLaws
class Common:
    id_kind_sets=(frozenset({IdKind.STRING}),)
    collection_metadata={"purpose": "tests", "nested": {"list": [1, None]}}
    @classmethod
    def open_door(cls, settings, store): return ChromaDoor(settings, store)
    @classmethod
    def settings_at(cls, settings, host, port): return replace(settings, host=host, port=port, timeout_s=5)
    @classmethod
    def port_of(cls, settings): return settings.port
    @classmethod
    def settings_with_secret(cls, settings, secret): return replace(settings, token=SecretStr(secret), user=SecretStr(secret), password=SecretStr(secret))
class TestFolder(Common, EmbeddedStoreLaws):
    label="folder"
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, tmp_path_factory): return ChromaSettings(path=str(tmp_path_factory.mktemp("chroma")/"db"))
    @classmethod
    def settings_in(cls, folder): return ChromaSettings(path=str(folder))
class TestServer(Common, ServerStoreLaws):
    label="server"; is_server=True
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls): return ChromaSettings(host="127.0.0.1",port=18733)
