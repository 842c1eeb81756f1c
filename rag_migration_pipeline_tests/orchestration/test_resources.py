"""Store resources: one open store per run, closed with it; settings that contradict each other are refused."""

import gc
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_migration_pipeline.errors import ReadOnlyStoreError, SpecError
from rag_migration_pipeline.orchestration.factory import migration_definitions
from rag_migration_pipeline.orchestration.resources import (
    ChromaResource,
    MemoryResource,
    MilvusResource,
    QdrantResource,
    StateResource,
)
from rag_migration_pipeline.orchestration.runs import run_job
from rag_migration_pipeline.stores import chroma
from rag_migration_pipeline_tests.kill.vendor import differences, fill_chroma, make_records, read_chroma, read_edge
from rag_migration_pipeline_tests.orchestration.scene import COLLECTION, QUICK, Scene, spec_of

SECRET = "s3cr3t-Xyzzy"
MakeScene = Callable[..., Scene]


def test_a_store_is_opened_once_per_run_and_closed_with_it(
    tmp_path: Path, make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    closed: list[Any] = []
    store = chroma.ChromaStore
    begin, close = store.__init__, store.close

    def counted_begin(self: Any, *arguments: Any) -> None:
        opened.append(self)
        begin(self, *arguments)

    def counted_close(self: Any) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr(store, "__init__", counted_begin)
    monkeypatch.setattr(store, "close", counted_close)
    records = make_records(12)
    fill_chroma(tmp_path / "source", records, COLLECTION)
    scene = make_scene()
    resources: dict[str, object] = {
        "source": ChromaResource(path=str(tmp_path / "source")),
        "target": QdrantResource(path=str(tmp_path / "target"), engine="edge"),
        "state": StateResource(folder=str(scene.state_dir)),
    }
    definitions = migration_definitions([scene.declaration], resources)
    result = run_job(definitions.resolve_job_def("docs__migrate"), scene.instance)
    assert result.success
    assert len(opened) == 1  # fifteen steps and more
    assert set(map(id, closed)) == set(map(id, opened))
    gc.collect()
    # Closed: the vendors' own clients get the folders' exclusive locks.
    assert differences(records, read_edge(tmp_path / "target", COLLECTION)) == []
    assert differences(records, read_chroma(tmp_path / "source", COLLECTION)) == []


def test_a_source_refuses_writes() -> None:
    resource = MemoryResource(name="resources_read_only")
    with pytest.raises(ReadOnlyStoreError):
        resource.open_source().create(spec_of(COLLECTION))


def test_the_target_is_closed_even_if_closing_the_source_raises(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = make_scene(3).source
    resource = MemoryResource(name=resource.inner.name)  # type: ignore[attr-defined]
    source, target = resource.open_source(), resource.open_target()
    closed: list[str] = []

    def refuse() -> None:
        closed.append("source")
        raise OSError("the source does not close")

    monkeypatch.setattr(source, "close", refuse)
    monkeypatch.setattr(target, "close", lambda: closed.append("target"))
    with pytest.raises(OSError, match="does not close"):
        resource.teardown_after_execution(dg.build_init_resource_context())
    assert closed == ["source", "target"]
    assert resource.open_target() is not target


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (ChromaResource, ["token", "user", "password"]),
        (QdrantResource, ["api_key"]),
        (MilvusResource, ["token", "user", "password"]),
    ],
)
def test_a_resource_shows_no_secret(kind: Any, names: list[str]) -> None:
    for name in names:
        resource = kind(host="store.example", **{name: SECRET})
        assert resource.secrets()[name].get_secret_value() == SECRET
        assert SECRET not in repr(resource) + str(resource) + repr(resource.locator()) + repr(resource.settings())
        with pytest.raises(ValueError, match=name) as caught:
            kind(host="store.example", **{name: [SECRET]})
        assert SECRET not in "".join([repr(caught.value), *traceback.format_exception(caught.value)])


def test_what_the_url_says_of_timeout_and_document_key_wins_over_the_fields() -> None:
    options = {"timeout_s": "5", "document_key": "text"}
    named = QdrantResource(host="store.example", timeout_s=9, options=options).settings()
    assert (named.timeout_s, named.document_key) == (5.0, "text")
    plain = QdrantResource(host="store.example", timeout_s=9, document_key="body").settings()
    assert (plain.timeout_s, plain.document_key) == (9.0, "body")


@pytest.mark.parametrize("kind", [ChromaResource, QdrantResource, MilvusResource])
@pytest.mark.parametrize("places", [{}, {"path": "/data", "host": "store.example"}], ids=["neither", "both"])
def test_a_store_is_a_folder_or_a_server(kind: Any, places: dict[str, str]) -> None:
    with pytest.raises(SpecError, match=r"neither a path nor a host|both a path and a host"):
        kind(**places).settings()


def test_an_engine_that_there_is_not_is_refused() -> None:
    with pytest.raises(SpecError, match="engine 'rocks'"):
        QdrantResource(path="/data", engine="rocks").settings()


def test_gRPC_beside_an_unusual_port_is_not_guessed() -> None:  # noqa: N802 - gRPC is spelled so
    settings: Any = QdrantResource(host="store.example", port=7333).settings()
    assert settings.known_grpc_port is None  # 6334 could be another server's


def test_further_options_of_the_url_are_passed_on_and_checked() -> None:
    settings: Any = ChromaResource(path="/data", options={"tenant": "t", "database": "d"}).settings()
    assert settings.address == "chroma+file:///data?tenant=t&database=d"
    with pytest.raises(SpecError, match="colour"):
        ChromaResource(host="store.example", options={"colour": "red"}).settings()


@pytest.mark.parametrize("folder", ["", "~/somewhere"])
def test_the_state_folder_is_absolute(folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAG_MIGRATE_STATE_DIR", str(tmp_path / "named"))
    path = StateResource(folder=folder).path()
    assert path.is_absolute()
    assert "~" not in str(path)
    assert folder or path == tmp_path / "named"


def test_the_options_of_a_migration_reach_its_ops(make_scene: MakeScene) -> None:
    scene = make_scene(6, options={**QUICK, "keep_staging": True})
    assert scene.migrate().success
    assert {path.name for path in (scene.folder.root / "staging").iterdir()} == set(scene.keys)
    assert isinstance(scene.definitions, dg.Definitions)
