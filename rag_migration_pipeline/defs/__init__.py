"""Declared migrations: every ``defs.yaml`` in this folder and below is loaded by ``definitions.py``.

Belongs here: folders with a ``defs.yaml`` of ``type: rag_migration_pipeline.Migration`` (docs/migrations.md), and other
Dagster components. Does not belong here: code; a folder of one's own is named by ``RAG_MIGRATION_DEFS``.
"""
