"""The demo's three migrations: Chroma -> Qdrant -> Milvus -> Chroma, all in one folder.

Belongs here: where the demo keeps its stores, and its declarations. Does not belong here: running them
(``demo/__main__.py``).
"""

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rag_migration_pipeline.options import Conflict, MigrationOptions
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration, store_pool
from rag_migration_pipeline.orchestration.resources import ChromaResource, MilvusResource, QdrantResource, StateResource

COLLECTION = "python_docs"
RANGE_COUNT = 250


@dataclass(frozen=True)
class DemoFolder:
    """Where the demo keeps everything; removing the folder forgets the demo."""

    root: Path

    @property
    def source(self) -> Path:
        """The Chroma folder that the demo fills."""
        return self.root / "chroma"

    @property
    def qdrant(self) -> Path:
        """The Qdrant folder."""
        return self.root / "qdrant"

    @property
    def milvus(self) -> Path:
        """The Milvus Lite file."""
        return self.root / "milvus.db"

    @property
    def home(self) -> Path:
        """The Chroma folder that the collection comes home to."""
        return self.root / "chroma_home"

    @property
    def state(self) -> Path:
        """The migrations' state."""
        return self.root / "state"

    @property
    def dagster_home(self) -> Path:
        """The Dagster instance."""
        return self.root / "dagster_home"


def demo_folder() -> DemoFolder:
    """Return the demo's folder: ``RAG_MIGRATE_DEMO_DIR``, else ``.demo`` in the working folder."""
    return DemoFolder(Path(os.environ.get("RAG_MIGRATE_DEMO_DIR") or ".demo").absolute())


def prepare_home(folder: DemoFolder) -> None:
    """Make the folder of the demo's Dagster instance, with the settings that the project ships."""
    folder.dagster_home.mkdir(parents=True, exist_ok=True)
    settings = folder.dagster_home / "dagster.yaml"
    if not settings.exists():
        shipped = resources.files("rag_migration_pipeline.orchestration").joinpath("dagster.yaml")
        settings.write_text(shipped.read_text())


def demo_migrations() -> list[MigrationDeclaration]:
    """Return the three legs, in order."""
    options = MigrationOptions(range_count=RANGE_COUNT, conflict=Conflict.OVERWRITE, retry_delay_s=0.5)
    stops = ["demo_chroma", "demo_qdrant", "demo_milvus", "demo_chroma_home"]
    names = ["demo_chroma_to_qdrant", "demo_qdrant_to_milvus", "demo_milvus_to_chroma"]
    return [
        MigrationDeclaration(
            name,
            source,
            COLLECTION,
            target,
            COLLECTION,
            options,
            state="demo_state",
            source_pool=store_pool(source),
        )
        for name, source, target in zip(names, stops[:-1], stops[1:], strict=True)
    ]


def demo_resources() -> dict[str, object]:
    """Return the four stores of the demo, and where its migrations keep their state."""
    folder = demo_folder()
    return {
        "demo_chroma": ChromaResource(path=str(folder.source)),
        "demo_qdrant": QdrantResource(path=str(folder.qdrant), engine="edge"),
        "demo_milvus": MilvusResource(path=str(folder.milvus)),
        "demo_chroma_home": ChromaResource(path=str(folder.home)),
        "demo_state": StateResource(folder=str(folder.state)),
    }
