"""Wrong input is told what, where, expected against got, and what to do; nothing is created or half-written."""

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.errors import (
    AuthenticationError,
    CollectionNotFoundError,
    ConflictError,
    ManifestError,
    MigrationError,
    RecordRejectedError,
    SchemaCompatibilityError,
    SpecError,
    StagingError,
    StopError,
    StoreUnavailableError,
)
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.spec import Migration, migration_from_spec
from rag_migration_pipeline.steps.context import open_migration
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.stores.base import StoreSettings
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline_tests.servers.process import free_port

DIMENSION = 4
SCHEMES = ("chroma+file", "qdrant+edge", "milvus+file")


def migration(source: str, target: str, **options: Any) -> Migration:
    return migration_from_spec({"name": "bad", "source": source, "target": target, "range_count": 4, **options})


def attempt(chosen: Migration, state_dir: Path) -> None:
    """Run the whole migration."""
    with open_migration(chosen, state_dir, plan=True) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        prove_collection(context)


def refused(chosen: Migration, state_dir: Path, kind: type[MigrationError], *words: str) -> MigrationError:
    """Return the error of a migration that must fail, after checking its sentence and that nothing is claimed."""
    with pytest.raises(kind) as caught:
        attempt(chosen, state_dir)
    text = str(caught.value)
    assert [word for word in words if word not in text] == [], text
    assert caught.value.todo, text
    assert text.endswith(caught.value.todo)
    assert list(state_dir.rglob("receipts/*")) == []
    assert list(state_dir.rglob("report.json")) == []
    return caught.value


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def some_records(count: int = 6, dimension: int = DIMENSION) -> RecordBatch:
    values = np.random.default_rng(1).normal(size=(count, dimension)).astype(np.float32)
    return RecordBatch([f"r{row}" for row in range(count)], {"": DenseColumn(values)}, [{"n": 1}] * count)


def fill(settings: StoreSettings, name: str, batch: RecordBatch, metric: Metric = Metric.COSINE) -> None:
    """Make a collection with these records."""
    with settings.open(create=True) as store:
        kinds = store.capabilities.id_kinds if IdKind.STRING not in store.capabilities.id_kinds else {IdKind.STRING}
        dimension = batch.dense().values.shape[1]
        if store.capabilities.store == "memory":
            kinds = set(IdKind)
        store.create(CollectionSpec(name, (VectorSpec(dimension, metric),), frozenset(kinds)))
        if IdKind.UUID in kinds and IdKind.STRING not in kinds:
            batch = batch.with_columns(ids=[uuid.uuid5(uuid.NAMESPACE_URL, str(i)) for i in batch.ids])
        assert not store.upsert(name, batch).rejections


@pytest.fixture
def space() -> Iterator[MemorySettings]:
    """A memory space with a collection of six records."""
    settings = MemorySettings(name=f"bad-{uuid.uuid4()}")
    fill(settings, "docs", some_records())
    yield settings
    forget_space(settings.name)


def url(settings: MemorySettings, collection: str = "docs") -> str:
    return f"memory://{collection}?name={settings.name}"


# -- the source ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_missing_source_folder_is_told_and_nothing_is_created_anywhere(scheme: str, tmp_path: Path) -> None:
    folder = tmp_path / "stores"
    folder.mkdir()
    for target in SCHEMES:
        chosen = migration(f"{scheme}://{folder}/missing/docs", f"{target}://{folder}/target/docs")
        refused(chosen, tmp_path / "state", CollectionNotFoundError, f"{folder}/missing")
    assert files(tmp_path) == {"stores": "folder"}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_missing_source_collection_is_told_and_nothing_is_created(scheme: str, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    base = migration(f"{scheme}://{folder}/present", "memory://docs?name=unused")
    fill(base.source, "present", some_records())
    with base.source.open() as store:
        before = store.list_collections(), store.count("present")
    for wrong in ("missing", "Present"):
        chosen = migration(f"{scheme}://{folder}/{wrong}", f"chroma+file://{tmp_path}/target/docs")
        error = refused(chosen, tmp_path / "state", CollectionNotFoundError, repr(wrong), "present", str(folder))
        assert "case matters" in error.todo
    with base.source.open() as store:
        assert (store.list_collections(), store.count("present")) == before == (["present"], 6)
    assert not (tmp_path / "target").exists()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("scheme", ["chroma", "qdrant", "milvus"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_an_unreachable_host_is_told(scheme: str, side: str, space: MemorySettings, tmp_path: Path) -> None:
    there = f"{scheme}://127.0.0.1:{free_port()}/docs"
    chosen = migration(there, url(space, "b")) if side == "source" else migration(url(space), there)
    chosen = replace(chosen, **{side: replace(getattr(chosen, side), timeout_s=3.0)})
    refused(chosen, tmp_path, StoreUnavailableError, there.rpartition("/")[0].rpartition("//")[2])
    assert files(tmp_path) == {}
    with space.open() as store:
        assert store.list_collections() == ["docs"]


@pytest.mark.server
@pytest.mark.parametrize("side", ["source", "target"])
def test_wrong_credentials_are_told_and_never_shown(
    side: str, space: MemorySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

    with QdrantDouble(tmp_path / "data", api_key="right-key-7391") as server:
        there = f"qdrant://{server.host}:{server.port}/docs"
        for key in ("wrong-key-2846", None):
            if key is None:
                monkeypatch.delenv("QDRANT_API_KEY", raising=False)
            else:
                monkeypatch.setenv("QDRANT_API_KEY", key)
            chosen = migration(there, url(space, "b")) if side == "source" else migration(url(space), there)
            error = refused(chosen, tmp_path / "state", AuthenticationError, f"{server.host}:{server.port}")
            assert "-key-" not in repr(error)
            assert "-key-" not in repr(chosen)


def test_an_id_that_no_store_holds_never_gets_into_a_plan(space: MemorySettings) -> None:
    with space.open() as store:
        odd = some_records(3).with_columns(ids=["\ud800", 2**64, True])
        assert len(store.upsert("docs", odd).rejections) == 3


# -- the target ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("dimension", "metric", "words"),
    [
        (DIMENSION + 1, Metric.COSINE, ["expected dimension 4, the target has 5"]),
        (DIMENSION, Metric.L2, ["expected metric cosine, the target has l2"]),
        (DIMENSION + 1, Metric.L2, ["expected dimension 4", "expected metric cosine"]),
    ],
)
def test_another_dimension_or_metric_in_the_target_is_told_all_at_once(
    scheme: str, dimension: int, metric: Metric, words: list[str], space: MemorySettings, tmp_path: Path
) -> None:
    chosen = migration(url(space), f"{scheme}://{tmp_path}/target/docs", conflict="overwrite")
    fill(chosen.target, "docs", some_records(2, dimension), metric)
    refused(chosen, tmp_path / "state", SchemaCompatibilityError, *words, "'docs'", f"{tmp_path}/target")
    with chosen.target.open() as store:
        assert store.count("docs") == 2
    assert not (tmp_path / "state").exists()


def test_a_metric_that_the_target_lacks_is_told(tmp_path: Path) -> None:
    settings = MemorySettings(name=f"bad-{uuid.uuid4()}")
    fill(settings, "docs", some_records(), Metric.MANHATTAN)
    for scheme in ("chroma+file", "milvus+file"):
        chosen = migration(url(settings), f"{scheme}://{tmp_path}/target_{scheme[:4]}/docs")
        refused(chosen, tmp_path / "state", SchemaCompatibilityError, "manhattan", "cosine, dot, l2")
        with chosen.target.open(create=True) as store:
            assert store.list_collections() == []
    forget_space(settings.name)


def test_several_vectors_and_a_bad_name_are_told_together(tmp_path: Path) -> None:
    settings = MemorySettings(name=f"bad-{uuid.uuid4()}")
    with settings.open() as store:
        vectors = (
            VectorSpec(3, Metric.COSINE, "title"),
            VectorSpec(3, Metric.HAMMING, "text", dtype="uint8"),
            VectorSpec(8, Metric.HAMMING, "code", dtype="binary"),
        )
        store.create(CollectionSpec("docs", vectors, frozenset(IdKind)))
    chosen = migration(url(settings), f"chroma+file://{tmp_path}/target/a..b")
    error = refused(
        chosen, tmp_path / "state", SchemaCompatibilityError, "'title', 'text'", "hamming", "binary", "'a..b'"
    )
    assert len(error.facts["problems"]) == 5
    forget_space(settings.name)


def test_ids_that_would_meet_are_told_before_the_first_write(space: MemorySettings, tmp_path: Path) -> None:
    with space.open() as store:
        store.upsert("docs", some_records(3).with_columns(ids=[7, "7", uuid.UUID(int=7)]))
        store.upsert("docs", some_records(1).with_columns(ids=[str(uuid.UUID(int=7))]))
    for scheme, pairs in (("chroma+file", 2), ("qdrant+edge", 1)):
        chosen = migration(url(space), f"{scheme}://{tmp_path}/target_{scheme[:4]}/docs")
        error = refused(chosen, tmp_path / "state", SchemaCompatibilityError, f"{pairs} pairs", f"{uuid.UUID(int=7)}")
        assert "Filter one of each pair out" in error.todo
        with chosen.target.open(create=True) as store:
            assert store.list_collections() == []


def test_integer_only_targets_refuse_other_ids_by_name(space: MemorySettings, tmp_path: Path) -> None:
    chosen = migration(url(space), f"milvus+file://{tmp_path}/target.db/docs")
    with chosen.target.open(create=True) as store:
        store.create(CollectionSpec("docs", (VectorSpec(DIMENSION, Metric.COSINE),), frozenset({IdKind.INT64})))
    refused(chosen, tmp_path / "state", SchemaCompatibilityError, "string:r0", "int64")
    with chosen.target.open() as store:
        assert store.count("docs") == 0


def test_a_target_that_is_not_empty_is_told(space: MemorySettings, tmp_path: Path) -> None:
    chosen = migration(url(space), f"qdrant+edge://{tmp_path}/target/docs")
    fill(chosen.target, "docs", some_records(2))
    refused(chosen, tmp_path / "state", ConflictError, "holds 2 records", f"{tmp_path}/target")
    with chosen.target.open() as store:
        assert store.count("docs") == 2


def test_a_document_that_is_too_long_for_the_target_is_rejected_by_name(space: MemorySettings, tmp_path: Path) -> None:
    with space.open() as store:
        store.upsert("docs", some_records(2).with_columns(documents=["ü" * 40_000, "short"]))
    chosen = migration(url(space), f"milvus+file://{tmp_path}/target.db/docs")
    refused(chosen, tmp_path / "state", RecordRejectedError, "string:r0", "80000 bytes", "65535")
    with chosen.target.open() as store:
        assert store.fetch("docs", ["r0", "r1"]).ids == ["r1"]


# -- the migration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_target_that_is_the_source_is_told_by_whatever_name(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    source = f"{scheme}://{tmp_path}/real/store/docs"
    for same in (source, f"{scheme}://{tmp_path}/link/store/docs", f"{scheme}://{tmp_path}/real/../real/store/docs"):
        with pytest.raises(SpecError, match="the target is the source") as caught:
            migration(source, same)
        assert str(tmp_path) in str(caught.value)
        assert caught.value.todo
    assert migration(source, f"{scheme}://{tmp_path}/real/store/docs2")


@pytest.mark.parametrize(
    "pair",
    [
        ("qdrant://LOCALHOST:6333/docs", "qdrant://localhost/docs"),
        ("chroma://localhost/docs", "chroma://localhost:8000/docs"),
        ("chroma://localhost/docs", "chroma://127.0.0.1:8000/docs"),
        ("chroma://[::1]:8000/docs", "chroma://localhost/docs"),
        ("milvus://Localhost/docs?database=default", "milvus://localhost:19530/docs"),
        ("qdrant://localhost:6333/docs", "qdrant://localhost:6333/docs?api_key=secret-481"),
    ],
)
def test_the_same_server_is_the_same_by_any_spelling(pair: tuple[str, str]) -> None:
    with pytest.raises(SpecError, match="the target is the source") as caught:
        migration(*pair)
    assert "secret-481" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": "mysql://x/y"}, ["mysql", "chroma://"]),
        ({"target": "qdrant://host:6333/"}, ["names no collection"]),
        ({"target": "qdrant://user:secret-481@host:99999/docs"}, ["port"]),
        ({"target": "qdrant://host/docs?colour=red&api_key=secret-481"}, ["colour"]),
        ({"name": "Bad Name"}, ["name"]),
        ({"range_count": 0}, ["range_count"]),
        ({"conflict": "maybe"}, ["conflict", "overwrite"]),
        ({"filter": {"n": {"$near": "x"}}}, ["filter", "$near", "$gte"]),
        ({"rang_count": 5}, ["rang_count"]),
        ({"range_count": 0, "page_count": "x", "validate": "half"}, ["range_count", "page_count", "validate"]),
    ],
)
def test_wrong_options_are_told_by_name(values: dict[str, Any], words: list[str]) -> None:
    good = {"name": "bad", "source": "memory://a", "target": "memory://b"}
    with pytest.raises(SpecError) as caught:
        migration_from_spec({**good, **values})
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert "secret-481" not in str(caught.value)


def test_a_missing_source_or_target_is_told() -> None:
    with pytest.raises(SpecError, match=r"source.*target"):
        migration_from_spec({"name": "bad"})


def test_a_full_disk_in_the_state_folder_is_told_and_nothing_is_written(space: MemorySettings, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    chosen = migration(url(space), f"qdrant+edge://{tmp_path}/target/docs")
    with pytest.raises(StagingError) as caught:
        attempt(chosen, tmp_path / "state")
    assert str(tmp_path / "state") in str(caught.value)
    assert "RAG_MIGRATE_STATE_DIR" in caught.value.todo
    with chosen.target.open(create=True) as store:
        assert store.list_collections() == []


def test_the_state_of_another_migration_is_told(space: MemorySettings, tmp_path: Path) -> None:
    first = migration(url(space), f"qdrant+edge://{tmp_path}/first/docs")
    second = migration(url(space), f"qdrant+edge://{tmp_path}/second/docs")
    attempt(first, tmp_path / "state")
    (tmp_path / "state" / first.identity).rename(tmp_path / "state" / second.identity)
    with pytest.raises(ManifestError, match="another migration") as caught:
        attempt(second, tmp_path / "state")
    assert f"{tmp_path}/first" in str(caught.value)
    assert f"{tmp_path}/second" in str(caught.value)
    with second.target.open(create=True) as store:
        assert store.list_collections() == []


def test_what_trying_again_cannot_help_is_never_said_to_be_worth_it(space: MemorySettings, tmp_path: Path) -> None:
    options = MigrationOptions(range_count=4)
    chosen = Migration("bad", space, "missing", MemorySettings(name="unused"), "docs", options)
    assert isinstance(refused(chosen, tmp_path, CollectionNotFoundError, "missing"), StopError)


def test_the_sources_collection_is_the_same_before_and_after_a_failed_run(tmp_path: Path) -> None:
    base = migration(f"chroma+file://{tmp_path}/source/docs", f"milvus+file://{tmp_path}/target.db/docs")
    batch = some_records().with_columns(documents=["x" * 70_000, *["y"] * 5])
    fill(base.source, "docs", batch)

    def dump() -> Any:
        with base.source.open() as store:
            (found,) = store.scan("docs")
            return store.describe("docs"), found.ids, found.payloads, found.documents, found.dense().values.tolist()

    before = dump()
    refused(base, tmp_path / "state", RecordRejectedError, "string:r0")
    assert dump() == before
