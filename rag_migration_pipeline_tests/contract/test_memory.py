"""The laws on the reference store."""

from collections.abc import Iterator
from typing import ClassVar

import pytest

from rag_migration_pipeline.records import FieldSpec, IdKind
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline_tests.contract.doors import Door
from rag_migration_pipeline_tests.contract.doors_memory import MemoryDoor
from rag_migration_pipeline_tests.contract.laws import Laws


class TestMemory(Laws):
    """Memory of this process."""

    label = "memory"
    id_kind_sets = (
        frozenset(IdKind),
        frozenset({IdKind.UINT64, IdKind.UUID}),
        *(frozenset({kind}) for kind in IdKind),
    )
    typed_fields = (
        FieldSpec("title", "string", is_nullable=True, max_length_bytes=200),
        FieldSpec("tags", "array", element_type="string"),
    )
    index_settings: ClassVar = {"carried": {"hnsw_config": {"m": 8}}}
    collection_metadata: ClassVar = {"purpose": "tests", "nested": {"list": [1, None]}}

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls) -> Iterator[StoreSettings]:
        settings = MemorySettings(name="contract")
        yield settings
        forget_space(settings.name)

    @classmethod
    def open_door(cls, settings: StoreSettings, store: VectorStore) -> Door:
        assert isinstance(settings, MemorySettings)
        return MemoryDoor(settings)
