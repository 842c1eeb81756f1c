"""Migrations as Dagster components: what a defs.yaml gives, what is refused with file and line, and that it runs."""

import os
import subprocess
import sysconfig
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster_shared.seven import load_module_object

import rag_migration_pipeline
from rag_migration_pipeline.config_files import DEFS_VARIABLE, defs_folder
from rag_migration_pipeline.definitions import CONFIG_VARIABLE, build_definitions
from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.orchestration.component import Migration
from rag_migration_pipeline.orchestration.config import read_migrations
from rag_migration_pipeline.orchestration.defs_folder import COMPONENT, load_defs_folder
from rag_migration_pipeline.orchestration.resources import StateResource
from rag_migration_pipeline.orchestration.runs import run_job
from rag_migration_pipeline.spec import MigrationSpec
from rag_migration_pipeline_tests.cli.running import fill, held

# Dagster 1.13.27 calls its own beta where it takes up checks whose metadata it changed.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `execution_type`:dagster.BetaWarning")

REPOSITORY = Path(__file__).parents[2]
SECRET = "do-not-show-me-7391"
HEAD = f"type: {COMPONENT}\nattributes:\n"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of a folder of components; its text is that of one migration, or of several."""

    def make(text: str, place: str = "one/defs.yaml") -> Path:
        path = tmp_path / "defs" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return make


def component(options: str) -> str:
    """Return the document of a migration with these options."""
    return HEAD + textwrap.indent(textwrap.dedent(options), "  ")


def load(file: Path) -> tuple[Migration, ...]:
    return load_defs_folder(next(up for up in file.parents if up.name == "defs")).migrations


def refusal(file: Path) -> SpecError:
    """Return why the folder of a file is refused; no part of it may show the secret."""
    with pytest.raises(SpecError) as caught:
        load(file)
    assert SECRET not in "".join([repr(caught.value), *traceback.format_exception(caught.value)])
    return caught.value


def test_the_attributes_say_the_same_as_a_migration_file(write: Write, tmp_path: Path) -> None:
    options = """\
        name: docs
        source: chroma+file:///data/chroma/docs
        target: qdrant://qdrant.example:6333/docs?prefer_grpc=false
        filter: {code: "007", "n": {$gt: 3}}
        conflict: overwrite
        validate: counts
        batch_size: 10
        retry: {max_retries: 2, delay_s: 0.5}
        mapping: {defaults: {day: 2024-01-02, version: "2.0"}}
    """
    (tmp_path / "m.yaml").write_text(textwrap.dedent(options))
    declarations, resources = read_migrations(tmp_path / "m.yaml")
    (made,) = load(write(component(options)))
    assert [made.declaration] == declarations
    assert {key: item.settings() for key, item in made.resources.items()} == {
        key: item.settings() for key, item in resources.items()
    }


def test_adding_a_migration_is_one_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (component(f"name: {name}\nsource: memory://a\ntarget: memory://b\n") for name in ("one", "two"))
    file = write(f"{one}---\n{two}")
    monkeypatch.setenv(DEFS_VARIABLE, str(file.parents[1]))
    write(component("name: three\nsource: memory://a\ntarget: memory://c"), "deep/down/defs.yaml")
    definitions = build_definitions()
    dg.Definitions.validate_loadable(definitions)
    assert {job.name for job in definitions.resolve_all_job_defs() if job.name.endswith("__migrate")} == {
        "one__migrate",
        "two__migrate",
        "three__migrate",
    }
    nodes = definitions.resolve_asset_graph()
    origin: Any = nodes.get(dg.AssetKey(["two", "target_collection"])).metadata["dagster/code_references"]
    assert (str(file), 7) in {(item.file_path, item.line_number) for item in origin.code_references}


@pytest.mark.parametrize(
    ("target", "collection"),
    [
        ("memory://{{ env.WHERE }}", "docs-12"),
        ("memory://x-{{ env.WHERE }}-{{env.WHERE}}", "x-docs-12-docs-12"),
        ("memory://${WHERE}-{{ env('WHERE') }}", "docs-12-docs-12"),
        ("memory://{{ env('NOBODY', 'else') }}", "else"),
        ("memory://{{ env.EMPTY | default('d') }}", "d"),
        ("memory://{{ env.WHERE | upper }}", "DOCS-12"),
        ("memory://{{ env.BRACES }}", "{{ env.WHERE }}${WHERE}"),
        ("memory://$${WHERE}", "${WHERE}"),
    ],
)
def test_variables_of_the_environment_are_filled_in(
    write: Write, monkeypatch: pytest.MonkeyPatch, target: str, collection: str
) -> None:
    monkeypatch.setenv("WHERE", "docs-12")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("BRACES", "{{ env.WHERE }}${WHERE}")
    (made,) = load(write(component(f'name: m\nsource: memory://a\ntarget: "{target}"')))
    assert made.declaration.target_collection == collection


def test_a_text_stays_a_text_and_a_number_may_come_from_the_environment(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNT", "12")
    text = """\
        name: m
        source: memory://a
        target: memory://b
        range_count: "{{ env.COUNT }}"
        filter: {code: "12", from_env: "{{ env.COUNT }}", truth: "True", odd: "{ not a template }"}
    """
    (made,) = load(write(component(text)))
    assert made.declaration.options.range_count == 12
    assert made.declaration.options.filter == {
        "code": "12",
        "from_env": "12",
        "truth": "True",
        "odd": "{ not a template }",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("range_sise: 3", "line 6, range_sise: there is no such option; check the spelling"),
        ("validate: half\nrange_count: 0", "line 7, range_count: "),
        ("range_count: many", "line 6, range_count: "),
        ("filter:\n  a: 1\n  $almost: 2", "line 6, filter: "),
        (
            "filter:\n  a:\n    $in: ['{{ env.NOBODY }}']",
            "line 8, filter.a.$in.0: the environment variable NOBODY is not",
        ),
        ("checkpoint_file: '{{ env.NOBODY }}'", "line 6, checkpoint_file: the environment variable NOBODY"),
        ("checkpoint_file: '{{ env(\"NOBODY\") }}'", "line 6, checkpoint_file: the environment variable NOBODY"),
        ("checkpoint_file: '{{ env.NOBODY ~ 1 }}'", "line 6, checkpoint_file: the environment variable NOBODY"),
        (
            "watermark: '{{ env.NOBODY }}'\ncheckpoint_file: ${NOONE}",
            "NOBODY is not set; line 7, checkpoint_file: ",
        ),
        ("checkpoint_file: ${NOBODY}", "line 6, checkpoint_file: the environment variable NOBODY"),
        ("checkpoint_file: '{{ nobody }}'", "line 6, checkpoint_file: the expression in double braces"),
        (
            f"checkpoint_file: '{{{{ {SECRET} ! }}}}'",
            "line 6, checkpoint_file: the expression in double braces",
        ),
        (f'checkpoint_file: "{SECRET}', "line 6, column 40: found unexpected end of stream"),
        ("conflict: skip\nconflict: fail", "line 7 has a key that line 6 has too"),
        ("mapping:\n  transforms:\n    day: integer", "line 8, mapping.transforms.day: unknown"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(
    write: Write, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.delenv("NOBODY", raising=False)
    file = write(component(f"name: m\nsource: memory://a\ntarget: memory://b\n{text}"))
    error = refusal(file)
    assert said in error.what
    assert str(file) in error.what
    assert error.todo


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("chrom://h/b", "line 5, target: 'chrom://h/b'"),
        ("qdrant://h/b?colour=red", "line 5, target: "),
        (f"qdrant://h/b?api_key={SECRET}", "line 5, target: qdrant://h/b?api_key=*** carries a secret"),
        ("qdrant://h/b?api_key={{ env.OPEN }}", "line 5, target: qdrant://h/b?api_key=*** carries a secret"),
        ("milvus://root:${OPEN}@h/b", "carries a secret"),
    ],
)
def test_a_wrong_store_or_a_secret_in_a_url_is_refused_with_its_line(
    write: Write, monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    monkeypatch.setenv("OPEN", SECRET)
    error = refusal(write(component(f"name: m\nsource: memory://a\ntarget: {target}")))
    assert said in error.what


def test_the_second_document_is_named_as_such(write: Write) -> None:
    good = component("name: one\nsource: memory://a\ntarget: memory://b")
    wrong = component("name: two\nsource: memory://a\nrange_sise: 1")
    file = write(f"{good}\n---\n{wrong}")
    error = refusal(file)
    assert f"{file}, document 2: " in error.what
    assert "line 11, range_sise: " in error.what
    assert "target: Field required" in error.what


def test_a_migration_without_attributes_is_refused(write: Write) -> None:
    file = write(f"type: {COMPONENT}\n")
    assert f"{file}, document 1: expected a mapping of options, got NoneType" in refusal(file).what


def test_a_type_that_is_not_there_is_named_by_dagster(write: Write) -> None:
    file = write("type: rag_migration_pipeline.Migrations\nattributes: {}\n")
    with pytest.raises(Exception, match="has no attribute `Migrations`"):
        load(file)


def test_names_are_refused_that_are_used_twice(write: Write, tmp_path: Path) -> None:
    text = "name: m\nsource: memory://a\ntarget: memory://b"
    first, second = write(component(text)), write(f"\n{component(text)}", "two/defs.yaml")
    assert f"'m' ({first}, line 3; {second}, line 4)" in refusal(first).what
    second.unlink()
    config = tmp_path / "m.yaml"
    config.write_text(text)
    with pytest.raises(SpecError) as caught:
        build_definitions(config=config, folder=first.parents[1])
    assert f"'m' ({config}; {first}, line 3)" in caught.value.what


def test_file_and_folder_are_both_loaded_and_the_demo_only_without_them(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def jobs() -> set[str]:
        found = build_definitions().resolve_all_job_defs()
        return {job.name.removesuffix("__migrate") for job in found if job.name.endswith("__migrate")}

    (tmp_path / "defs").mkdir()
    monkeypatch.setenv(DEFS_VARIABLE, str(tmp_path / "defs"))
    assert len(jobs()) == 3, "the demo's"
    write(component("name: declared\nsource: memory://a\ntarget: memory://b"))
    assert jobs() == {"declared"}
    (tmp_path / "m.yaml").write_text("name: listed\nsource: memory://a\ntarget: memory://b")
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "m.yaml"))
    assert jobs() == {"declared", "listed"}


def test_the_folder_is_that_of_the_package_where_none_is_named(tmp_path: Path) -> None:
    assert defs_folder({}) == REPOSITORY / "rag_migration_pipeline" / "defs"
    assert load_defs_folder(defs_folder({})).migrations == ()
    with pytest.raises(SpecError, match=f"missing is not a folder; {DEFS_VARIABLE} names"):
        load_defs_folder(tmp_path / "missing")


@pytest.mark.parametrize("place", ["one/below/defs.yaml", "one/defs.yml", "other.yaml", "two/migration.yaml"])
def test_a_migration_that_dagster_would_pass_over_is_refused(write: Write, place: str) -> None:
    file = write(component("name: one\nsource: memory://a\ntarget: memory://b"))
    assert len(load(file)) == 1
    unread = write(component("name: two\nsource: memory://a\ntarget: memory://b"), place)
    assert f"{unread}: not read, though migrations stand in it" in refusal(file).what


def test_other_definitions_may_stand_beside_migrations(write: Write) -> None:
    file = write(component("name: m\nsource: memory://a\ntarget: memory://b"))
    write(
        "import dagster as dg\n\nnightly = dg.ScheduleDefinition(\n"
        "    name='nightly', cron_schedule='0 3 * * *', target=dg.AssetSelection.groups('m')\n)\n",
        "schedules.py",
    )
    definitions = build_definitions(folder=file.parents[1])
    dg.Definitions.validate_loadable(definitions)
    assert definitions.resolve_schedule_def("nightly").cron_schedule == "0 3 * * *"
    assert definitions.resolve_job_def("m__migrate")


def test_migrations_of_file_and_folder_share_state_and_the_pools_of_their_stores(write: Write, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("name: listed\nsource: memory://a\ntarget: qdrant://localhost:6333/a\n")
    file = write(component("name: declared\nsource: memory://a\ntarget: qdrant://127.0.0.1:6333/b"))
    mine = StateResource(folder=str(tmp_path / "state"))
    definitions = build_definitions(config=tmp_path / "m.yaml", folder=file.parents[1], state=mine)
    assert definitions.resources is not None
    assert definitions.resources["state"] is mine
    pools = [
        {op.pool for op in definitions.resolve_job_def(f"{name}__migrate").all_node_defs if op.pool is not None}
        for name in ("listed", "declared")
    ]
    assert pools[0] == pools[1] != set()


def test_a_declared_migration_runs_and_is_proven(
    write: Write, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", str(tmp_path))
    fill(f"qdrant+edge://{tmp_path}/source/docs", 20)
    target = f"qdrant+edge://{tmp_path}/target/docs"
    text = """\
        name: m
        source: qdrant+edge://{{ env.PLACE }}/source/docs
        target: qdrant+edge://${PLACE}/target/docs
        range_count: 10
    """
    file = write(component(text))
    state = StateResource(folder=str(tmp_path / "state"))
    definitions = build_definitions(folder=file.parents[1], state=state)
    result = run_job(definitions.resolve_job_def("m__migrate"), instance)
    assert result.success
    assert len(held(target)) == 20
    checks = {item.check_name: item.passed for item in result.get_asset_check_evaluations()}
    assert checks
    assert all(checks.values())


def test_the_component_works_in_a_project_of_somebody_else() -> None:
    values = {"name": "m", "source": "memory://a", "target": "memory://b", "batch_size": 7}
    made = Migration.from_attributes_dict(attributes=values)
    assert made.declaration.options.page_count == 7
    definitions = dg.build_defs_for_component(made)
    dg.Definitions.validate_loadable(definitions)
    two = dg.build_defs_for_component(Migration({**values, "name": "two"}))
    merged = dg.Definitions.merge(definitions, two)
    assert {"m_source", "two_target", "state"} <= set(merged.resources or {})
    with pytest.raises(SpecError, match="range_sise"):
        Migration.from_attributes_dict(attributes={**values, "range_sise": 1})


@pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated")  # Dagster 1.13.27 calls it
def test_dagsters_own_loader_reads_it_in_a_project_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dg.toml").write_text('directory_type = "project"\n[project]\nroot_module = "somebodys_project"\n')
    folder = tmp_path / "somebodys_project" / "defs" / "one"
    folder.mkdir(parents=True)
    for package in (folder.parent, folder.parents[1]):
        (package / "__init__.py").touch()
    (folder / "defs.yaml").write_text(component("name: m\nsource: memory://a\ntarget: memory://{{ env.WHERE }}"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WHERE", "b")
    definitions = dg.load_from_defs_folder(path_within_project=tmp_path)
    dg.Definitions.validate_loadable(definitions)
    assert definitions.resolve_job_def("m__migrate")
    monkeypatch.delenv("WHERE")
    with pytest.raises(Exception, match="Error while loading") as caught:
        dg.load_from_defs_folder(path_within_project=tmp_path)
    assert "line 5, target: the environment variable WHERE is not set" in str(caught.value.__cause__)


def test_the_type_is_found_by_its_name_and_tools_see_every_option() -> None:
    namespace, _, name = COMPONENT.rpartition(".")
    assert load_module_object(namespace, name) is Migration is rag_migration_pipeline.Migration
    schema = Migration.get_model_cls().model_json_schema()
    aliases = {field.alias or name for name, field in MigrationSpec.model_fields.items()}
    assert aliases | {"batch_size", "max_retries", "retry_delay", "retry"} == set(schema["properties"])
    assert schema["required"] == ["name", "source", "target"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ("range_count: 5", 0, "Validation successful"),
        ("range_sise: 5", 1, "line 6, range_sise: there is no such option"),
        (
            "checkpoint_file: '{{ env.NOBODY }}'",
            1,
            "line 6, checkpoint_file: the environment variable NOBODY",
        ),
    ],
)
def test_the_command_of_dagster_accepts_what_is_right_and_refuses_what_is_wrong(
    write: Write, tmp_path: Path, options: str, code: int, said: str
) -> None:
    file = write(component(f"name: m\nsource: memory://a\ntarget: memory://b\n{options}"))
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"telemetry": {"enabled": False}}))
    done = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        cwd=REPOSITORY,
        env={"DAGSTER_HOME": str(tmp_path), "PATH": os.defpath, DEFS_VARIABLE: str(file.parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == code, told
    assert said in told
    assert code == 0 or str(file) in told
