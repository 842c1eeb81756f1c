"""Processes that set records aside, replay them or roll a migration back, and kill themselves at a named point.

Belongs here: the small world in folders, the actions, the points. Does not belong here: what is expected afterwards
(``test_kill_corrections.py``). The points are reached by replacing functions; the product knows nothing of them.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import state_folder
from rag_migration_pipeline.steps import load, pre_images, replay, rollback, set_aside
from rag_migration_pipeline.steps.context import Openers, open_migration
from rag_migration_pipeline.steps.manifest import proven_keys
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.stores.base import StoreSettings
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline.stores.registry import open_target
from rag_migration_pipeline_tests.steps.support import PoisonedStore, poisonous

COUNT = 12
POISON = (2, 7)
THEIRS = (1, 5, 100)
"""Ids that others wrote into the target before: two that the migration overwrites, and one of their own."""

POINTS: dict[str, tuple[Any, str]] = {
    "pre-image stored": (pre_images, "write_atomically"),
    "batch written": (load.RangeWriter, "write"),
    "quarantine stored": (set_aside, "write_quarantine"),
    "repaired record written": (load.RangeWriter, "write"),
    "repair or quarantine stored": (replay, "write_quarantine"),
    "receipt stored": (replay, "write_receipt"),
    "pre-image restored": (rollback, "_restore"),
    "state renamed": (Path, "rename"),
}
"""Name of a point -> the function at whose n-th return the process dies."""


def records(ids: range | tuple[int, ...], **payload: Any) -> RecordBatch:
    values = np.array([[n + 1, n % 3, 1] for n in ids], dtype=np.float32)
    return RecordBatch(list(ids), {"": DenseColumn(values)}, [{"n": n, **payload} for n in ids])


def settings(root: Path, side: str) -> QdrantEdgeSettings:
    return QdrantEdgeSettings(path=str(root / side))


def prepare(root: Path) -> None:
    """Fill the source, two records of it poisonous, and the target with records of others."""
    spec = CollectionSpec("docs", (VectorSpec(3, Metric.L2),), frozenset({IdKind.UINT64, IdKind.UUID}))
    with settings(root, "source").open(create=True) as store:
        store.create(spec)
        store.upsert("docs", records(range(COUNT)))
        store.upsert("docs", records(POISON, poison=True))
    with settings(root, "target").open(create=True) as store:
        store.create(spec)
        store.upsert("docs", records(THEIRS, theirs=True))


def migration_of(root: Path) -> Migration:
    options = MigrationOptions.model_validate(
        {"range_count": 5, "page_count": 2, "conflict": "overwrite", "keep_overwritten": True, "max_rejected": 2}
    )
    return Migration("killed", settings(root, "source"), "docs", settings(root, "target"), "docs", options)


OPENERS = Openers(target=lambda target: PoisonedStore(open_target(target), poisonous))


def act(action: str, root: Path, point: str | None = None, occurrence: int = 1) -> None:
    """Do one action in this process, and die at a point when it is reached for the n-th time."""
    if point is not None:
        _kill_after(*POINTS[point], occurrence)
    _ACTIONS[action](root)


def _migrate(root: Path) -> None:
    with open_migration(migration_of(root), root / "state", plan=True, openers=OPENERS) as context:
        done = set(proven_keys(context.state, context.manifest))
        for entry in context.manifest.ranges:
            if entry.key not in done:
                migrate_range(context, entry.key)
        prove_collection(context)


def _replay(root: Path) -> None:
    with open_migration(migration_of(root), root / "state", openers=OPENERS) as context:
        if replay.replay(context, root / "repaired.arrow").rejections:
            sys.exit(3)


def _roll_back(root: Path) -> None:
    migration = migration_of(root)
    with settings(root, "target").open() as target:
        rollback.rollback(migration, state_folder(root / "state", migration.identity), target)


_ACTIONS: dict[str, Callable[[Path], None]] = {"migrate": _migrate, "replay": _replay, "roll back": _roll_back}


def repair(root: Path) -> None:
    """Write the repaired records of all ranges into one file; one of them gets another id."""
    frame = pd.concat([pd.read_feather(path) for path in sorted(root.rglob("quarantine/*/*.arrow"))], ignore_index=True)
    frame["payload"] = frame["payload"].str.replace('"poison":true', '"repaired":true')
    frame["id"] = frame["id"].replace({"int:7": "int:77"})
    frame.to_feather(root / "repaired.arrow")


def held(store: StoreSettings) -> dict[Any, Any]:
    """Return what a folder's collection holds, record by record."""
    with store.open() as opened:
        return {
            record_id: (payload, tuple(vector))
            for batch in opened.scan("docs")
            for record_id, payload, vector in zip(batch.ids, batch.payloads, batch.dense().values.tolist(), strict=True)
        }


def _kill_after(owner: Any, name: str, occurrence: int) -> None:
    real, left = getattr(owner, name), [occurrence]

    def die(*args: Any, **kwargs: Any) -> Any:
        done = real(*args, **kwargs)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(owner, name, die)
