"""Copies vector collections between ChromaDB, Qdrant and Milvus, and proves that nothing was lost."""

__version__ = "0.1.0"
