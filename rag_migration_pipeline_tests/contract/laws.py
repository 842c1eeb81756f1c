"""All laws together: what the test class of a store form inherits.

Reading order: ``laws_reading`` and ``laws_writing`` (the data's way), ``laws_values`` (awkward records),
``laws_vectors`` (every kind of vector), ``laws_schema`` (collections), ``laws_errors``, ``laws_source`` (read-only),
``laws_life`` (open, close, pickle), ``laws_persistence`` (folders, servers).
"""

from rag_migration_pipeline_tests.contract.laws_errors import ErrorLaws
from rag_migration_pipeline_tests.contract.laws_life import LifeLaws
from rag_migration_pipeline_tests.contract.laws_persistence import EmbeddedLaws, ServerLaws
from rag_migration_pipeline_tests.contract.laws_reading import ReadingLaws
from rag_migration_pipeline_tests.contract.laws_schema import SchemaLaws
from rag_migration_pipeline_tests.contract.laws_source import SourceLaws
from rag_migration_pipeline_tests.contract.laws_values import ValueLaws
from rag_migration_pipeline_tests.contract.laws_vectors import VectorLaws
from rag_migration_pipeline_tests.contract.laws_writing import WritingLaws


class Laws(ReadingLaws, WritingLaws, ValueLaws, VectorLaws, SchemaLaws, ErrorLaws, SourceLaws, LifeLaws):
    """The laws of every store."""


class EmbeddedStoreLaws(Laws, EmbeddedLaws):
    """The laws of a store in a folder that this process has to itself."""


class ServerStoreLaws(Laws, ServerLaws):
    """The laws of a store behind a network."""
