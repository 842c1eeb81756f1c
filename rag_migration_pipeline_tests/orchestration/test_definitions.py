"""What a code location loads: by command, fresh each time, with parts replaced."""

import subprocess
import sysconfig
from pathlib import Path

import dagster as dg
import pytest

import rag_migration_pipeline
from rag_migration_pipeline.definitions import build_definitions
from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.orchestration.resources import MemoryResource, StateResource
from rag_migration_pipeline.spec import MigrationSpec
from rag_migration_pipeline_tests.orchestration.scene import Scene

REPOSITORY = Path(__file__).parents[2]
DEMO = ("demo_chroma_to_qdrant", "demo_qdrant_to_milvus", "demo_milvus_to_chroma")


def test_the_workspace_file_names_a_location_that_dagster_accepts(tmp_path: Path) -> None:
    command = [str(Path(sysconfig.get_path("scripts")) / "dagster"), "definitions", "validate", "-w", "workspace.yaml"]
    home = {"DAGSTER_HOME": str(tmp_path), "PATH": "", "RAG_MIGRATE_DEMO_DIR": str(tmp_path / "demo")}
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    done = subprocess.run(command, cwd=REPOSITORY, env=home, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Validation successful" in done.stdout + done.stderr
    assert not (tmp_path / "demo").exists()  # loading definitions makes no store


def test_definitions_are_made_anew_by_each_call() -> None:
    first, second = build_definitions(), build_definitions()
    assert first is not second
    dg.Definitions.validate_loadable(first)
    assert {job.name for job in first.resolve_all_job_defs()} >= {f"{name}__migrate" for name in DEMO}


def test_a_resource_can_be_replaced() -> None:
    mine = MemoryResource(name="mine")
    definitions = build_definitions(demo_chroma=mine)
    assert definitions.resources is not None
    assert definitions.resources["demo_chroma"] is mine
    assert build_definitions().resources["demo_chroma"] is not mine  # type: ignore[index]


def test_every_migration_has_its_own_group_partitions_pool_and_checks() -> None:
    definitions = build_definitions()
    graph = definitions.resolve_asset_graph()
    for name in DEMO:
        for asset in ("source_manifest", "loaded_ranges", "target_collection"):
            assert graph.get(dg.AssetKey([name, asset])).group_name == name
        partitions = graph.get(dg.AssetKey([name, "loaded_ranges"])).partitions_def
        assert isinstance(partitions, dg.DynamicPartitionsDefinition)
        assert partitions.name == f"{name}_ranges"
    pools = {
        name: {op.pool for op in definitions.resolve_job_def(f"{name}__migrate").all_node_defs if op.pool is not None}
        for name in DEMO
    }
    assert pools == {
        DEMO[0]: {"store_demo_chroma", "store_demo_qdrant"},
        DEMO[1]: {"store_demo_qdrant", "store_demo_milvus"},
        DEMO[2]: {"store_demo_milvus", "store_demo_chroma_home"},
    }


@pytest.mark.parametrize("asset", ["source_manifest", "loaded_ranges", "target_collection"])
def test_every_asset_says_what_it_is(scene: Scene, asset: str) -> None:
    node = scene.definitions.resolve_asset_graph().get(scene.declaration.key(asset))
    assert node.description
    assert node.code_version == "1"
    for place in ("`texts` in `source`", "`texts` in `target`"):  # resources of other kinds are shown by their keys
        assert place in node.description


def test_one_function_makes_definitions_of_specs_mappings_and_several() -> None:
    values = {"name": "m", "source": "memory://a", "target": "memory://b"}
    two = MigrationSpec.model_validate({**values, "name": "two"})
    make = rag_migration_pipeline.migration_definitions
    for given, names in ((values, {"m"}), (two, {"two"}), ([values, two], {"m", "two"})):
        definitions = make(given)
        dg.Definitions.validate_loadable(definitions)
        groups = {node.group_name for node in definitions.resolve_asset_graph().asset_nodes}
        assert groups == names
    mine = StateResource(folder="mine")
    assert (make(two, {"state": mine}).resources or {})["state"] is mine
    with pytest.raises(SpecError, match="another migration 'two'"):
        make([two, {**values, "name": "two"}])
    with pytest.raises(SpecError, match="range_sise"):
        make({**values, "range_sise": 1})
