"""The fourteen ways in which other tools were seen to lose data; docs/fidelity.md lists them and links each test.

Each test fails on a pipeline that behaves so. Most of the promises have more tests elsewhere; these are the short ones.

Belongs here: which records are read, what is called done, what is shown. Does not belong here: what arrives of a record
(``test_ways_to_change_records.py``).
"""

import re
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from rag_migration_pipeline.errors import (
    CollectionNotFoundError,
    MigrationError,
    SchemaCompatibilityError,
    SourceChangedError,
    SpecError,
    StoreUnavailableError,
    TryAgainError,
    ValidationError,
)
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, RecordBatch, RecordId, VectorSpec
from rag_migration_pipeline.spec import Migration, migration_from_spec
from rag_migration_pipeline.state import state_folder
from rag_migration_pipeline.steps.context import open_migration
from rag_migration_pipeline.steps.extract import extract_batches
from rag_migration_pipeline.steps.load import load_batches
from rag_migration_pipeline.steps.manifest import proven_keys, read_range_ids
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.stores.chroma import ChromaSettings
from rag_migration_pipeline.stores.memory import MemorySettings
from rag_migration_pipeline.stores.milvus import MilvusSettings
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline.stores.wrappers import WrapperStore
from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.fidelity.small import DIMENSION, batch_of, every_store, every_target, filled
from rag_migration_pipeline_tests.matrix.places import Place, fresh_name, migration_between
from rag_migration_pipeline_tests.steps.support import World, end_world, new_world, numbered, records


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two memory spaces and a state folder."""
    made = new_world(tmp_path / "state")
    yield made
    end_world(made)


# -- 1 to 4: which records are read -----------------------------------------------------------------------------------


def test_01_ranges_are_not_drawn_anew_when_a_migration_resumes(world: World) -> None:
    world.fill(records(numbered(20)))
    with world.opened() as context:
        before = context.manifest.ranges
        for entry in before[:2]:
            migrate_range(context, entry.key)
    world.fill(records([f"{record_id}-new" for record_id in numbered(20)], start=100))  # every boundary would move
    with world.opened() as context:
        assert context.manifest.ranges == before
    world.run()
    assert set(numbered(20)) <= {record_id for page in world.b.iter_ids("docs") for record_id in page}


@pytest.mark.parametrize("what", ["source", "source_collection", "target", "target_name", "options"])
def test_02_state_is_not_taken_over_by_another_migration_of_the_same_name(world: World, what: str) -> None:
    world.fill(records(numbered(5)))
    world.run()
    others: dict[str, Any] = {
        "source": world.target,
        "source_collection": "other",
        "target": MemorySettings(name="elsewhere"),
        "target_name": "other",
        "options": MigrationOptions(filter={"n": 1}),
    }
    changed = {what: others[what]} | ({"target": MemorySettings(name="elsewhere")} if what == "source" else {})
    migration = world.migration()
    another = replace(migration, **changed)
    assert another.name == migration.name
    folder = state_folder(world.state_dir, another.identity)
    assert folder.manifest != world.state(migration).manifest
    assert not folder.manifest.exists(), "nothing of it counts as done"
    assert world.state(migration).manifest.exists()


@every_store
def test_03_a_missing_source_is_not_created(store: str, embedded_stores: dict[str, Place], tmp_path: Path) -> None:
    place, target = embedded_stores[store], embedded_stores["memory" if store != "memory" else "qdrant"]
    filled(place, batch_of([1]) if store == "qdrant" else batch_of(["a"]))
    before = sorted(place.door.raw_collections()), sorted(target.door.raw_collections())
    migration = migration_between(place, "typo_in_production", target, "copy")
    with (
        pytest.raises(CollectionNotFoundError, match="typo_in_production"),
        open_migration(migration, tmp_path, plan=True),
    ):
        pass
    assert (sorted(place.door.raw_collections()), sorted(target.door.raw_collections())) == before


@every_store
def test_04_no_record_is_skipped_when_others_are_deleted_while_a_range_is_read(
    store: str, embedded_stores: dict[str, Place], tmp_path: Path
) -> None:
    place, target = embedded_stores[store], embedded_stores["memory" if store != "memory" else "chroma"]
    ids: list[RecordId] = list(range(30)) if store == "qdrant" else [f"r{number:02d}" for number in range(30)]
    origin = filled(place, batch_of(ids))
    migration = migration_between(place, origin, target, fresh_name())
    migration = replace(migration, options=MigrationOptions(range_count=30, page_count=5))
    with open_migration(migration, tmp_path, plan=True) as context:
        whole = read_range_ids(context.state, context.manifest, context.manifest.ranges[0].key)
        pages = extract_batches(context, whole)
        first = next(pages)
        place.store.delete(origin, first.ids)  # offsets would move by five
        rest = [record_id for page in pages for record_id in page.ids]
        assert [*first.ids, *rest] == list(whole.ids)
        with pytest.raises(SourceChangedError, match="5 of 30 records"):
            list(extract_batches(context, whole))


# -- 11 to 14: what is called done, and what is shown -----------------------------------------------------------------


class _BufferingStore(WrapperStore):
    """Says that a write is done while it still waits in memory, as ``wait=false`` does."""

    def upsert(self, collection: str, batch: RecordBatch) -> Any:
        result = super().upsert(collection, batch)
        self.inner.delete(collection, batch.ids[-1:])
        return result


class _BufferingSettings(MemorySettings):
    def open(self, *, create: bool = False) -> Any:
        return _BufferingStore(super().open(create=create))


def test_11_nothing_counts_as_done_before_it_was_read_back(world: World) -> None:
    world.fill(records(numbered(8)))
    migration = replace(world.migration(), target=_BufferingSettings(name=world.b.settings.name))  # type: ignore[attr-defined]
    with world.opened(migration) as context:
        for entry in context.manifest.ranges:
            with pytest.raises(ValidationError, match="missing"):
                migrate_range(context, entry.key)
        assert proven_keys(context.state, context.manifest) == []
        with pytest.raises(MigrationError, match="not loaded yet"):
            prove_collection(context)
    _, report = world.run()
    assert (report.written, report.is_proven) == (8, True)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (VectorSpec(DIMENSION + 1, Metric.COSINE), "dimension"),
        (VectorSpec(DIMENSION, Metric.L2), "metric"),
        (VectorSpec(DIMENSION, Metric.COSINE, "named"), "vector"),
    ],
)
def test_12_a_target_with_another_schema_is_refused_and_what_is_counted_is_compared(
    world: World, other: VectorSpec, said: str
) -> None:
    world.fill(records(numbered(8)))
    world.b.create(CollectionSpec("docs", (other,), frozenset(IdKind)))
    with pytest.raises(SchemaCompatibilityError, match=said):
        world.run()
    assert world.b.count("docs") == 0
    world.b.drop("docs")
    world.run()
    world.b.delete("docs", numbered(1))
    world.b.upsert("docs", records(["stranger"]))  # the count is right again
    with world.opened() as context, pytest.raises(ValidationError, match="1 missing") as caught:
        prove_collection(context)
    assert caught.value.report.findings.extra == ("string:stranger",)


@every_target
def test_13_a_repeated_write_makes_no_duplicates_and_errors_say_by_type_whether_to_try_again(
    target: str, embedded_stores: dict[str, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, there = embedded_stores["memory"], embedded_stores[target]
    batch = batch_of([f"r{row}" for row in range(9)])
    migration = migration_between(home, filled(home, batch), there, fresh_name())
    with open_migration(migration, tmp_path, plan=True) as context:
        key = context.manifest.ranges[0].key
        list(load_batches(context, key, [batch]))  # acknowledged, and the answer is lost on its way
        migrate_range(context, key)
        report = prove_collection(context)
    assert (report.written, report.target_count) == (9, 9)
    assert len(there.door.raw_read(migration.target_collection)) == 9
    assert issubclass(StoreUnavailableError, TryAgainError)
    assert not issubclass(SchemaCompatibilityError, TryAgainError)


SECRET = "s3cr3t-Xyzzy"
SECRET_SETTINGS = (
    ChromaSettings(host="h", token=SecretStr(SECRET), user=SecretStr(SECRET), password=SecretStr(SECRET)),
    QdrantSettings(host="h", api_key=SecretStr(SECRET)),
    MilvusSettings(host="h", token=SecretStr(SECRET), user=SecretStr(SECRET), password=SecretStr(SECRET)),
)


@pytest.mark.parametrize("settings", SECRET_SETTINGS, ids=lambda settings: type(settings).__name__)
def test_14_a_secret_is_in_no_text_that_is_shown_or_stored(settings: Any) -> None:
    migration = Migration("m", settings, "docs", MemorySettings(name="x"), "docs", MigrationOptions())
    shown = [repr(settings), str(settings), settings.address, repr(migration), repr(migration.identity_facts())]
    for url in (f"qdrant://user:{SECRET}@h/docs", f"milvus://h/docs?token={SECRET}&colour=red"):
        try:
            shown.append(repr(migration_from_spec({"name": "docs", "source": url, "target": "memory://b"})))
        except SpecError as error:
            shown += [repr(error), *traceback.format_exception(error)]
    assert SECRET not in "".join(shown)


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_links_every_way_to_its_test() -> None:
    page = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    here = "../rag_migration_pipeline_tests/fidelity/"
    link = rf"\[`(test_\d\d_\w+)`\]\({re.escape(here)}(\w+\.py)\)"
    linked = re.findall(rf"^\| (\d+) \| [^|]+ \| {link} \|$", page, re.MULTILINE)
    assert [(int(number), name[:8]) for number, name, _ in linked] == [(n, f"test_{n:02d}_") for n in range(1, 15)]
    tests = {
        (name, file.name)
        for file in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"^def (test_\d\d_\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {(name, file) for _, name, file in linked} == tests
