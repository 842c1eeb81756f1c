"""Persistent Dagster instances for tests: made once (2 to 3 s), then copied.

Belongs here: the folder of an instance. Does not belong here: what runs on it.
"""

import shutil
from importlib import resources
from pathlib import Path

import dagster as dg
import pytest

_made: list[Path] = []


def copy_home(factory: pytest.TempPathFactory, folder: Path) -> Path:
    """Make a folder the home of an empty instance with the settings that the project ships; returns it."""
    if not _made:
        template = factory.mktemp("home_template")
        shipped = resources.files("rag_migration_pipeline.orchestration").joinpath("dagster.yaml")
        (template / "dagster.yaml").write_text(shipped.read_text())
        with dg.DagsterInstance.from_config(str(template)) as instance:
            instance.get_runs(limit=1)
            instance.get_dynamic_partitions("any")
            instance.all_asset_keys()
        _made.append(template)
    shutil.copytree(_made[0], folder)
    return folder
