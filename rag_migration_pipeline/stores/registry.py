"""Which adapter serves which URL scheme; adapters are imported when first asked for.

Belongs here: the table of schemes and the two ways to open a store (source, target). Does not belong here: parsing
of URLs (``locators.py``).
"""

from dataclasses import replace
from importlib import import_module

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.locators import Locator
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.wrappers import ReadOnlyStore

ADAPTERS = {
    "chroma": "chroma",
    "chroma+file": "chroma",
    "qdrant": "qdrant",
    "qdrant+file": "qdrant",
    "qdrant+edge": "qdrant_edge",
    "milvus": "milvus",
    "milvus+file": "milvus",
    "memory": "memory",
}
"""URL scheme -> module of ``rag_migration_pipeline.stores`` with a ``settings_from_locator`` function."""


def settings_for(locator: Locator) -> StoreSettings:
    """Return the settings that a locator describes.

    Raises:
        SpecError: Unknown scheme or query option, or a value that makes no sense.
    """
    module = ADAPTERS.get(locator.scheme)
    if module is None:
        raise SpecError(
            f"no store has the URL scheme {locator.scheme!r}; known: {', '.join(sorted(ADAPTERS))}.",
            todo="Write the store as one of these, e.g. qdrant://localhost:6333/docs.",
        )
    adapter = import_module(f"rag_migration_pipeline.stores.{module}")
    settings: StoreSettings = adapter.settings_from_locator(locator)
    return replace(settings, **locator.store_options())


def open_source(settings: StoreSettings) -> VectorStore:
    """Open a store as a source: nothing is created, every write is refused."""
    return ReadOnlyStore(settings.open(create=False))


def open_target(settings: StoreSettings) -> VectorStore:
    """Open a store as a target; an embedded folder is created where it does not exist."""
    return settings.open(create=True)
