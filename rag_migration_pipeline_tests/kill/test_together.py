"""Migrations of one collection name, at once in three processes: none touches another's state."""

import json
from pathlib import Path

import dagster as dg
import pytest

from rag_migration_pipeline_tests.homes import copy_home
from rag_migration_pipeline_tests.kill.conftest import Prepare
from rag_migration_pipeline_tests.kill.vendor import READ, differences, make_records
from rag_migration_pipeline_tests.kill.worker import JOB_TIMEOUT_S, declaration_of, end, legs, start

LEGS = legs(("chroma_to_edge", "edge_to_chroma", "chroma_to_milvus"))
COUNTS = dict(zip(LEGS, (30, 27, 14), strict=True))


@pytest.mark.slow
def test_three_migrations_share_state_folder_and_instance_and_nothing_else(
    prepare: Prepare, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy_home(tmp_path_factory, tmp_path / "shared" / "home")
    (tmp_path / "shared" / "state").mkdir()
    roots = {}
    for leg in LEGS:
        roots[leg] = prepare(leg, COUNTS[leg])
        (roots[leg] / "home").rename(tmp_path / f"unused {leg.name}")
        for shared in ("home", "state"):
            (roots[leg] / shared).symlink_to(tmp_path / "shared" / shared)
    processes = [start(leg, root) for leg, root in roots.items()]
    for process in processes:
        process.join(JOB_TIMEOUT_S)
    assert [end(process) for process in processes] == [0, 0, 0]
    manifests = [json.loads(path.read_bytes()) for path in (tmp_path / "shared" / "state").glob("*/manifest.json")]
    assert sorted(manifest["count"] for manifest in manifests) == sorted(COUNTS.values())
    with dg.DagsterInstance.from_config(str(tmp_path / "shared" / "home")) as instance:
        for leg, root in roots.items():
            assert differences(make_records(COUNTS[leg]), READ[leg.target](root / "target")) == []
            (manifest,) = [m for m in manifests if m["facts"]["target"]["address"].endswith(_tail(leg.target, root))]
            keys = {entry["key"] for entry in manifest["ranges"]}
            folder = tmp_path / "shared" / "state" / manifest["identity"]
            assert {path.stem for path in folder.glob("receipts/**/*.arrow")} == keys
            assert set(instance.get_dynamic_partitions(f"{leg.name}_ranges")) == keys
            assert instance.get_materialized_partitions(declaration_of(leg).key("loaded_ranges")) == keys


def _tail(kind: str, root: Path) -> str:
    """Return how the address of a leg's target ends."""
    return str(root / "target" / "lite.db") if kind == "milvus" else str(root / "target")
