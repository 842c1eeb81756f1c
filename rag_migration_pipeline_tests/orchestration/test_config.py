"""Migrations of one's own in a YAML file: what is read, what is refused by name, and that no secret shows."""

import textwrap
import traceback
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from rag_migration_pipeline.definitions import CONFIG_VARIABLE, build_definitions
from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.mapping import DefaultOnError, SchemaMapping
from rag_migration_pipeline.options import Conflict
from rag_migration_pipeline.orchestration.config import declare, read_migrations
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.factory import migration_definitions
from rag_migration_pipeline.orchestration.resources import MemoryResource

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


def pools(declaration: MigrationDeclaration) -> set[str]:
    """Return the pools that a run of the migration's job holds."""
    stores = dict.fromkeys(declaration.resource_keys, MemoryResource())
    job = migration_definitions([declaration], stores).resolve_job_def
    return {op.pool for op in job(f"{declaration.name}__migrate").all_node_defs if op.pool is not None}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("chroma+file:///data/c/one", "chroma+file:///data/c/two"),
        ("chroma+file:///data/c/one", "chroma+file:///data/x/../c/one?tenant=t&timeout_s=5"),
        ("qdrant+edge:///data/q/one", "qdrant+file:///data/q/two"),
        ("qdrant://localhost:6333/one", "qdrant://127.0.0.1:6333/two?prefer_grpc=false"),
        ("milvus://Store.example:19530/one", "milvus://store.example.:19530/two?tls=true"),
    ],
)
def test_migrations_into_one_store_share_its_pool(migrations: Any, first: str, second: str) -> None:
    text = f"name: a\nsource: memory://a\ntarget: {first}\n---\nname: b\nsource: memory://a\ntarget: {second}\n"
    a, b = read_migrations(migrations(text))[0]
    assert a.pool == b.pool
    assert a.target != b.target  # each has its own secrets and options all the same


def test_migrations_into_two_stores_do_not_wait_for_each_other() -> None:
    urls = ["chroma+file:///data/c/docs", "chroma+file:///data/C/docs", "chroma+file:///data_c/docs", "qdrant://h/docs"]
    declared = [declare({"name": "m", "source": "memory://a", "target": url})[0] for url in urls]
    assert len({declaration.pool for declaration in declared}) == len(urls)


def test_a_run_that_reads_an_embedded_store_holds_the_pool_of_those_that_write_it() -> None:
    into, _ = declare({"name": "into", "source": "memory://a", "target": "qdrant+edge:///data/q/docs"})
    out_of, _ = declare({"name": "out_of", "source": "qdrant+edge:///data/q/docs", "target": "chroma+file:///c/docs"})
    assert pools(into) == {into.pool}
    assert pools(out_of) == {into.pool, out_of.pool}


def test_a_server_may_be_read_by_several_runs() -> None:
    declaration, _ = declare({"name": "m", "source": "qdrant://h/docs", "target": "chroma+file:///c/docs"})
    assert pools(declaration) == {declaration.pool}


def test_timeout_and_document_key_of_a_url_reach_the_store() -> None:
    url = "qdrant://h/docs?timeout_s=5&document_key=text&prefer_grpc=false"
    declaration, resources = declare({"name": "m", "source": url, "target": "memory://docs?timeout_s=7"})
    source: Any = resources[declaration.source]
    assert (source.timeout_s, source.document_key, source.options) == (5.0, "text", {"prefer_grpc": "false"})
    assert (source.settings().timeout_s, source.settings().document_key) == (5.0, "text")
    assert resources[declaration.target].settings().timeout_s == 7.0
    with pytest.raises(SpecError, match="timeout_s"):
        declare({"name": "m", "source": "memory://a", "target": "qdrant://h/docs?timeout_s=soon"})


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"name: m\napi_key: {SECRET}: {SECRET}", "line 2, column"),
        (f'name: m\napi_key: "{SECRET}', "line 2, column"),
        (f"name: m\napi_key: *{SECRET}", "line 2, column 10: found undefined alias ***"),
        (f"name: m\napi_key: !{SECRET} x", "line 2, column 10: could not determine a constructor for the tag ***"),
        (f"a: &{SECRET} 1\nb: &{SECRET} 2", "line 2, column 4: second occurrence"),
        (f"name: m\n  api_key: {SECRET}", "line 2, column"),
        (f"[{SECRET}, b: @{SECRET}]", "found character '@' that cannot start any token"),
        (f"[{SECRET}", "but got '<stream end>'"),
        (f"api_key: {SECRET}\nday: 2024-13-45", "ValueError"),
        (f"api_key: {SECRET}\x07", "ReaderError"),
        (f"name: m\n{SECRET}: 1\n{SECRET}: 2", "line 3 has a key that line 2 has too"),
    ],
)
def test_a_file_that_is_not_yaml_is_not_quoted(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "migrations.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_migrations(path)
    assert said in caught.value.what
    assert SECRET not in "".join([repr(caught.value), *traceback.format_exception(caught.value)])


def test_a_date_in_a_filter_is_refused_with_what_to_write(migrations: Any) -> None:
    text = "name: m\nsource: memory://a\ntarget: memory://b\nfilter: {day: {$gte: 2024-01-01}}"
    with pytest.raises(SpecError, match="quotes"):
        read_migrations(migrations(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("filter: {a: 1}\nconflict: skip\nfilter: {b: 2}", "line 6 has a key that line 4 has too"),
        ("mapping:\n  field_mapping:\n    a: x\n    a: y", "line 7 has a key that line 6 has too"),
        ("filter: {$or: [{a: 1, a: 2}]}", "line 4 has a key that line 4 has too"),
    ],
)
def test_a_key_that_comes_twice_is_refused(migrations: Any, text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        read_migrations(migrations(f"name: m\nsource: memory://a\ntarget: memory://b\n{text}"))


def test_an_anchor_may_be_used_twice(migrations: Any) -> None:
    text = "name: m\nsource: memory://a\ntarget: memory://b\nfilter: {$or: [&a {n: 1}, *a]}"
    assert read_migrations(migrations(text))[0][0].options.filter == {"$or": [{"n": 1}, {"n": 1}]}


def test_an_empty_document_is_passed_over(migrations: Any) -> None:
    assert read_migrations(migrations("---\n---\n"))[0] == []


HEAD = """\
---
name: first
source: memory://a
target: memory://b
---
name: second
source: memory://a
target: memory://c
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rang_count: 3", ["line 9, rang_count: "]),
        ("validate: half\nrange_count: 0", ["line 9, validate: ", "line 10, range_count: "]),
        ("filter:\n  a: 1\n  $almost: 2", ["line 9, filter: "]),
        ("mapping:\n  transforms:\n    year: int\n    day: integer", ["line 12, mapping.transforms.day: unknown"]),
        ("mapping:\n  transforms:\n    day:\n    - strip\n    - no.such:f", ["line 13, mapping.transforms.day.1: "]),
        (
            "mapping:\n  field_mapping:\n    a: x\n    b: x\n  exclude_fields: [a]",
            ["line 12, mapping.field_mapping.b: ", "line 11, mapping.field_mapping.a: "],
        ),
        ("mapping: {versions: [{version: 2},\n  {version: 2}]}", ["line 9, mapping: each mapping needs a version"]),
        (
            "mapping:\n  versions:\n  - version: 2\n  - version: 3\n    defaults: {id: 1}",
            ["line 13, mapping.versions.1.defaults.id: "],
        ),
        ("ids:\n  strategy: uuid5\n  namespace: x", ["line 11, ids.namespace: "]),
        ("target_fields: guess", ["by field name, got str."]),
        ("\nkeep_overwritten: true", ["line 10, keep_overwritten: it has no effect without"]),
        ("vectors:\n  a: x\n  b: x", ["line 11, vectors.b: 'a' and 'b' would both become 'x'"]),
        (
            "mapping:\n  field_mapping: {a: id}\nids:\n  strategy: from_field\n  field: b",
            ["line 11, ids: the mapping sets the id too"],
        ),
        (
            "vectors:\n  a: {metrc: dot}",
            ["wrong: line 10, vectors.a.metrc: there is no such option; check the spelling."],
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(migrations: Any, text: str, said: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        read_migrations(migrations(HEAD + text))
    assert "document 2" in caught.value.what
    assert [words for words in said if words not in caught.value.what] == [], caught.value.what


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source: chroma://localhost/docs\ntarget: chroma://127.0.0.1:8000/docs", "line 3, target: the target is the"),
        ("source: choma://localhost/docs\ntarget: chroma://127.0.0.1:8000", "line 2, source: 'choma://localhost/docs'"),
        ("source: chroma://a:b@localhost/docs\ntarget: qdrant://h/docs?tlss=1", "line 3, target: a qdrant URL has no"),
    ],
)
def test_what_is_wrong_with_the_places_is_named_with_its_line(migrations: Any, text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_migrations(migrations(f"name: m\n{text}"))
    assert said in caught.value.what
    assert "a:b" not in str(caught.value)


def test_a_mapping_and_ids_are_read_from_the_file(migrations: Any) -> None:
    text = """
        mapping:
          field_mapping: {doc_text: text, meta.source: origin}
          transforms:
            tags: split(",")
            price: {apply: [strip, float], on_error: {default: 0.0}}
          defaults: {migrated_at: now, day: 2024-01-02, version: "2.0"}
          per_record: copy:copy
        ids: {strategy: from_field, field: doc_id, kind: int, keep_as: old_id}
    """
    declarations, _ = read_migrations(migrations(HEAD + textwrap.dedent(text)))
    mapping = declarations[1].options.mapping
    assert isinstance(mapping, SchemaMapping)
    assert mapping.defaults == {"migrated_at": "now", "day": date(2024, 1, 2), "version": "2.0"}
    assert mapping.transforms["price"].on_error == DefaultOnError(default=0.0)
    assert declarations[1].options.ids.keep_as == "old_id"
