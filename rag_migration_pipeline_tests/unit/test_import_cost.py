"""Importing the package is cheap and brings in no store client and no Dagster."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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


@pytest.mark.parametrize("module", ["steps.range", "steps.report", "stores.registry", "spec"])
def test_the_steps_bring_no_client_and_no_dagster(module: str) -> None:
    loaded = {name.partition(".")[0] for name in imported(f"rag_migration_pipeline.{module}")["modules"]}
    assert not loaded & {"dagster", *CLIENTS}


@pytest.mark.parametrize("module", sorted(set(ADAPTERS.values())))
def test_an_adapter_brings_its_client_only_when_it_is_used(module: str) -> None:
    loaded = {name.partition(".")[0] for name in imported(f"rag_migration_pipeline.stores.{module}")["modules"]}
    assert not loaded & {"dagster", *CLIENTS}
