"""Migrations of one's own in a YAML file: what is read, what is refused by name, and that no secret shows."""

import textwrap
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from rag_migration_pipeline.definitions import CONFIG_VARIABLE, build_definitions
from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.orchestration.config import declare, read_migrations
from rag_migration_pipeline.spec import Conflict

SECRET = "do-not-show-me-7391"

TWO = """
    name: docs_to_qdrant
    source: chroma+file:///data/chroma/docs
    target: qdrant://qdrant.example:6333/docs?prefer_grpc=false
    filter: {status: published}
    conflict: overwrite
    validate: counts
    ---
    name: docs_to_milvus
    source: qdrant+edge:///data/edge/docs
    target: milvus://milvus.example:19531/docs?database=main&tls=true
    range_count: 100
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Any:
    """Write a migrations file."""

    def write(text: str) -> Path:
        path = tmp_path / "migrations.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def test_each_document_is_a_migration_with_two_resources(migrations: Any) -> None:
    declarations, resources = read_migrations(migrations(TWO))
    assert [d.name for d in declarations] == ["docs_to_qdrant", "docs_to_milvus"]
    first, second = declarations
    assert first.options.filter == {"status": "published"}
    assert first.options.conflict is Conflict.OVERWRITE
    assert (second.source_collection, second.target_collection, second.options.range_count) == ("docs", "docs", 100)
    addresses = {key: resource.settings().address for key, resource in resources.items()}
    assert addresses == {
        "docs_to_qdrant_source": "chroma+file:///data/chroma",
        "docs_to_qdrant_target": "qdrant://qdrant.example:6333",
        "docs_to_milvus_source": "qdrant+edge:///data/edge",
        "docs_to_milvus_target": "milvus://milvus.example:19531?database=main",
    }
    target: Any = resources["docs_to_milvus_target"].settings()
    assert target.is_tls


def test_the_variable_names_the_file_whose_migrations_are_loaded(
    migrations: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(migrations(TWO)))
    definitions = build_definitions(with_demo=False)
    dg.Definitions.validate_loadable(definitions)
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {
        f"{name}/{asset}"
        for name in ("docs_to_qdrant", "docs_to_milvus")
        for asset in ("source_manifest", "loaded_ranges", "target_collection")
    }
    names = {job.name for job in definitions.resolve_all_job_defs()}
    assert {"docs_to_qdrant__migrate", "docs_to_milvus__migrate"} <= names


def test_no_secret_is_in_anything_that_dagster_serialises(migrations: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TARGET_QDRANT_API_KEY", SECRET)
    monkeypatch.setenv("MILVUS_TOKEN", SECRET)
    definitions = build_definitions(config=migrations(TWO), with_demo=False)
    snap = serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))
    assert SECRET not in snap
    assert "TARGET_QDRANT_API_KEY" in snap
    assert "MILVUS_TOKEN" in snap


def test_the_secret_reaches_the_client_all_the_same(migrations: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", "somebody-else")
    monkeypatch.setenv("TARGET_QDRANT_API_KEY", SECRET)
    _, resources = read_migrations(migrations(TWO))
    resource = resources["docs_to_qdrant_target"]
    assert SECRET not in repr(resource)
    with resource.process_config_and_initialize_cm() as opened:  # as in a run
        resolved: Any = opened.settings()
    assert resolved.api_key.get_secret_value() == SECRET
    assert SECRET not in repr(resolved)


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        (f"qdrant://qdrant.example:6333/docs?api_key={SECRET}", "QDRANT_API_KEY"),
        (f"milvus://root:{SECRET}@milvus.example:19530/docs", "MILVUS_PASSWORD"),
        (f"chroma://chroma.example:8000/docs?token={SECRET}", "CHROMA_TOKEN"),
    ],
)
def test_a_secret_in_a_url_is_refused_without_being_shown(url: str, variable: str) -> None:
    with pytest.raises(SpecError) as caught:
        declare({"name": "m", "source": "memory://docs", "target": url})
    assert SECRET not in str(caught.value)
    assert variable in caught.value.todo


def test_a_url_with_an_empty_query_carries_no_secret() -> None:
    declaration, _ = declare({"name": "m", "source": "memory://docs", "target": "qdrant://host:6333/docs?"})
    assert declaration.target_collection == "docs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: m\nsource: memory://a\ntarget: memory://b\nrange_sise: 3", "range_sise"),
        ("name: m\nsource: memory://a", "target"),
        ("name: Not A Name\nsource: memory://a\ntarget: memory://b", "name"),
        ("name: m\nsource: chrom://h/a\ntarget: memory://b", "unknown scheme 'chrom'"),
        ("name: m\nsource: memory://a\ntarget: qdrant://h/b?colour=red", "colour"),
        ("name: m\nsource: memory://a\ntarget: memory://b\nconflict: ask", "conflict"),
        ("name: m\nsource: memory://a\ntarget: memory://b\nfilter: {a: {$almost: 1}}", "$almost"),
        ("- just\n- a list", "expected a mapping of options, got list"),
        ("name: first\nsource: memory://a\ntarget: memory://b", "another migration 'first'"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_document(migrations: Any, text: str, said: str) -> None:
    path = migrations("name: first\nsource: memory://a\ntarget: memory://b\n---\n" + text)
    with pytest.raises(SpecError) as caught:
        read_migrations(path)
    assert f"{path}, document 2" in caught.value.what
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"name: [", b"\xff\xfe\xff", None], ids=["broken", "not text", "missing"])
def test_a_file_that_is_not_yaml_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "migrations.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError, match="cannot read the migrations file") as caught:
        read_migrations(path)
    assert str(path) in caught.value.what


def test_an_empty_document_is_passed_over(migrations: Any) -> None:
    assert read_migrations(migrations("---\n---\n"))[0] == []
