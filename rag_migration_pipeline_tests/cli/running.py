"""Running the installed command, and the small collection that it works on.

Belongs here: processes, folders, records. Does not belong here: what is expected of the command.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rag_migration_pipeline.locators import parse_locator
from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.stores.registry import open_target, settings_for

COMMAND = Path(sys.executable).with_name("rag-migrate")
TIMEOUT_S = 120
COUNT = 40


@dataclass(frozen=True)
class Done:
    """How a call of the command ended."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> Any:
        """What it printed for machines."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Place:
    """A folder with a source collection and room for a target."""

    root: Path

    @property
    def source(self) -> str:
        return f"qdrant+edge://{self.root / 'source'}/docs"

    @property
    def target(self) -> str:
        return f"qdrant+edge://{self.root / 'edge'}/docs"

    @property
    def pair(self) -> tuple[str, ...]:
        return "--source", self.source, "--target", self.target

    @property
    def state(self) -> Path:
        return self.root / "state"

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAG_MIGRATE_", "QDRANT", "SOURCE_", "TARGET_"))
        }
        return {**kept, "RAG_MIGRATE_STATE_DIR": str(self.state), "COLUMNS": "200", "TERM": "dumb", **variables}

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.root,
            env=self.environment(**variables),
        )

    def run(self, *arguments: str, **variables: str) -> Done:
        process = self.start(*arguments, **variables)
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
        assert "Traceback" not in err, err
        return Done(process.returncode, out, err)

    def file(self, name: str, text: str) -> str:
        path = self.root / name
        path.write_text(text)
        return str(path)


def fill(url: str, count: int = COUNT, dimension: int = 3, **payload: Any) -> None:
    """Put records into a collection, which is created."""
    locator = parse_locator(url, "source", {})
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(count, dimension)).astype(np.float32)
    payloads = [{"n": n, "status": "active" if n % 2 else "old", "year": 2025, **payload} for n in range(count)]
    with open_target(settings_for(locator)) as store:
        has_numbers = not locator.scheme.startswith("chroma")
        kinds = {IdKind.UINT64, IdKind.UUID} if has_numbers else {IdKind.STRING}
        ids: list[Any] = [number if has_numbers else f"r{number:05}" for number in range(count)]
        store.create(CollectionSpec(locator.collection, (VectorSpec(dimension, Metric.L2),), frozenset(kinds)))
        store.upsert(locator.collection, RecordBatch(ids, {"": DenseColumn(vectors)}, payloads))


def held(url: str) -> Mapping[str, dict[str, Any]]:
    """Return the payloads of a collection by the value of n."""
    locator = parse_locator(url, "source", {})
    with settings_for(locator).open() as store:
        return {str(payload["n"]): payload for batch in store.scan(locator.collection) for payload in batch.payloads}
