"""Importing the package is cheap and brings in no store client and no Dagster."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.engine import Engine
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    Metric,
    MultiColumn,
    RecordBatch,
    RecordId,
    SparseColumn,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.spec import migration_from_spec
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline.stores.qdrant_schema import ID_KINDS
from rag_migration_pipeline.stores.registry import ADAPTERS

MAX_IMPORT_CPU_S = 0.3
CLIENTS = ("chromadb", "qdrant_client", "qdrant_edge", "pymilvus", "milvus_lite", "grpc", "httpx", "pandas")
_PROGRAM = """
import json, sys, time
begun = time.process_time()
import {module}
spent = time.process_time() - begun
print(json.dumps({{"cpu_s": spent, "modules": sorted(sys.modules)}}))
"""


def imported(module: str) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(module=module)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_importing_the_package_costs_little_cpu() -> None:
    imported("rag_migration_pipeline")  # the first run compiles
    best_s = min(imported("rag_migration_pipeline")["cpu_s"] for _ in range(3))  # the machine may be busy
    assert best_s < MAX_IMPORT_CPU_S


def test_importing_the_package_brings_no_client_and_no_dagster() -> None:
    loaded = {name.partition(".")[0] for name in imported("rag_migration_pipeline")["modules"]}
    assert not loaded & {"dagster", *CLIENTS}


def test_a_migration_without_dagster_does_without_pandas(tmp_path: Path) -> None:
    """Importing pandas takes longer than planning 20,000 records; Arrow imports it unasked for some of its calls."""
    program = (
        "import sys, uuid, pathlib\n"
        "from rag_migration_pipeline_tests.unit.test_import_cost import carry\n"
        "carry(pathlib.Path(sys.argv[1]))\n"
        "print(int('pandas' in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "0"


def carry(folder: Path) -> None:
    """Carry records with dense, sparse and multi-vectors between two folders of an engine that needs no pandas."""
    spec = CollectionSpec(
        "docs",
        (
            VectorSpec(4, Metric.COSINE, "text"),
            VectorSpec(None, Metric.DOT, "terms", VectorKind.SPARSE),
            VectorSpec(2, Metric.COSINE, "tokens", VectorKind.MULTI),
        ),
        ID_KINDS,
    )
    ids: list[RecordId] = [uuid.UUID(int=row + 1) for row in range(20)]
    columns = {
        "text": DenseColumn(np.ones((20, 4), np.float32)),
        "terms": SparseColumn(tuple(np.arange(3, dtype=np.uint32) for _ in ids), (np.ones(3, np.float32),) * 20),
        "tokens": MultiColumn((np.ones((2, 2), np.float32),) * 20),
    }
    with QdrantEdgeSettings(path=str(folder / "source")).open(create=True) as store:
        store.create(spec)
        store.upsert("docs", RecordBatch(ids, columns, [{"number": row} for row in range(20)]))
    migration = migration_from_spec(
        {"name": "m", "source": f"qdrant+edge://{folder}/source/docs", "target": f"qdrant+edge://{folder}/target/docs"}
    )
    assert Engine(migration, folder / "state").run().migrated == 20


@pytest.mark.parametrize("module", ["steps.range", "steps.report", "stores.registry", "spec"])
def test_the_steps_bring_no_client_and_no_dagster(module: str) -> None:
    loaded = {name.partition(".")[0] for name in imported(f"rag_migration_pipeline.{module}")["modules"]}
    assert not loaded & {"dagster", *CLIENTS}


@pytest.mark.parametrize("module", sorted(set(ADAPTERS.values())))
def test_an_adapter_brings_its_client_only_when_it_is_used(module: str) -> None:
    loaded = {name.partition(".")[0] for name in imported(f"rag_migration_pipeline.stores.{module}")["modules"]}
    assert not loaded & {"dagster", *CLIENTS}
