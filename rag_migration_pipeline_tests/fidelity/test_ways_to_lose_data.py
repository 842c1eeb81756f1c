"""The fourteen ways in which other tools were seen to lose data; docs/fidelity.md lists them and links each test here.

Each test fails on a pipeline that behaves so. Most of the promises have more tests elsewhere; these are the short ones.
"""

import re
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
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
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    RecordBatch,
    RecordId,
    VectorKind,
    VectorSpec,
)
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
from rag_migration_pipeline_tests.contract.vector_samples import records as kinds_of_vectors
from rag_migration_pipeline_tests.contract.vector_samples import vector_of
from rag_migration_pipeline_tests.fidelity.meaning import differences, meaning
from rag_migration_pipeline_tests.fidelity.test_round_trips import moved
from rag_migration_pipeline_tests.matrix.places import Place, fresh_name, migration_between
from rag_migration_pipeline_tests.steps.support import World, end_world, new_world, numbered, records

DIMENSION = 3
STORES = ("memory", "chroma", "qdrant", "milvus")
every_store = pytest.mark.parametrize("store", STORES)
every_target = pytest.mark.parametrize("target", STORES[1:])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two memory spaces and a state folder."""
    made = new_world(tmp_path / "state")
    yield made
    end_world(made)


def batch_of(ids: list[Any], payloads: list[dict[str, Any]] | None = None, documents: Any = None) -> RecordBatch:
    values = np.random.default_rng(len(ids)).normal(size=(len(ids), DIMENSION)).astype(np.float32)
    return RecordBatch(ids, {"": DenseColumn(values)}, payloads or [{"n": row} for row in range(len(ids))], documents)


def filled(place: Place, batch: RecordBatch, metric: Metric = Metric.COSINE) -> str:
    """Make a collection through the back door, with one id kind where the store wants one."""
    kinds = frozenset(IdKind)
    if place.store.capabilities.store != "memory":
        kinds = frozenset({IdKind.UINT64, IdKind.UUID} if isinstance(batch.ids[0], int) else {IdKind.STRING})
    if place.store.capabilities.store == "milvus" and isinstance(batch.ids[0], int):
        kinds = frozenset({IdKind.INT64})
    name = fresh_name()
    place.door.raw_create(CollectionSpec(name, (VectorSpec(DIMENSION, metric),), kinds, max_id_length_bytes=400))
    place.door.raw_write(name, batch)
    return name


def assert_arrives_and_comes_home(home: Place, batch: RecordBatch, there: Place, folder: Path) -> None:
    origin = filled(home, batch)
    expected = meaning(batch)
    with moved(home, origin, there, folder) as (into, found):
        assert differences(expected, found) == []
        with moved(there, into, home, folder) as (_, returned):
            assert differences(expected, returned) == []


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


# -- 5 to 10: what arrives of a record --------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [Metric.L2, Metric.DOT, Metric.COSINE])
@every_target
def test_05_the_metric_is_read_and_never_guessed(
    metric: Metric, target: str, embedded_stores: dict[str, Place], tmp_path: Path
) -> None:
    source, there = embedded_stores["chroma" if target != "chroma" else "qdrant"], embedded_stores[target]
    origin = filled(source, batch_of([1, 2, 3] if target == "chroma" else ["a", "b", "c"]), metric)
    with moved(source, origin, there, tmp_path) as (into, _):
        assert there.store.describe(into).spec.vectors[0].metric is metric
    other = filled(
        there, batch_of(["a"] if target != "qdrant" else [1]), Metric.L2 if metric is not Metric.L2 else Metric.DOT
    )
    migration = migration_between(source, origin, there, other)
    with (
        pytest.raises(SchemaCompatibilityError, match=f"expected metric {metric}, the target has"),
        open_migration(migration, tmp_path, plan=True),
    ):
        pass


NEIGHBOURS: list[RecordId] = [
    *("7", "007", " 7", "7 ", "7.0", "-1", "not-a-uuid", "é", "e\u0301", "A", "a"),
    *("6f1d6f0e-52a4-4ba1-9f0a-4d5d5a2f3d4e", "6F1D6F0E-52A4-4BA1-9F0A-4D5D5A2F3D4E"),
    *("urn:uuid:6f1d6f0e-52a4-4ba1-9f0a-4d5d5a2f3d4e", "{6f1d6f0e-52a4-4ba1-9f0a-4d5d5a2f3d4e}"),
    *("6f1d6f0e52a44ba19f0a4d5d5a2f3d4e", -2, 2**64 - 2, 2**63, -(2**63)),
]


@every_target
def test_06_ids_keep_their_kind_and_never_collapse(
    target: str, embedded_stores: dict[str, Place], tmp_path: Path
) -> None:
    home, there = embedded_stores["memory"], embedded_stores[target]
    assert_arrives_and_comes_home(home, batch_of(NEIGHBOURS), there, tmp_path)
    pairs: dict[str, list[RecordId]] = {
        "chroma": ["7", 7],
        "milvus": ["7", 7],
        "qdrant": [str(uuid.UUID(int=7)), uuid.UUID(int=7)],
    }
    migration = migration_between(home, filled(home, batch_of(pairs[target])), there, fresh_name())
    with (
        pytest.raises(SchemaCompatibilityError, match="would meet in the target"),
        open_migration(migration, tmp_path, plan=True),
    ):
        pass
    assert not there.store.exists(migration.target_collection)


SYNTAX_IDS: list[RecordId] = [
    *(
        "it's",
        'say "hi"',
        "back\\slash",
        "\\",
        "' or 1==1 or '",
        '" || id != "',
        '") || true',
        "id in ['a']",
        "%",
        "_",
        "*",
    ),
    *("line\nbreak", "{}", "${x}", "a,b", "--", "/*", "\x00", "null", "\u2028"),
]


@every_target
def test_07_ids_never_become_syntax(target: str, embedded_stores: dict[str, Place], tmp_path: Path) -> None:
    """Every boundary of ranges and pages is such an id; each selects itself alone."""
    home, there = embedded_stores["memory"], embedded_stores[target]
    origin = filled(home, batch_of(SYNTAX_IDS))
    with moved(home, origin, there, tmp_path) as (into, found):
        assert differences(meaning(batch_of(SYNTAX_IDS)), found) == []
        ids = [record_id for page in there.store.iter_ids(into) for record_id in page]
        for left, record_id in enumerate(ids, start=1):
            assert there.store.fetch(into, [record_id]).ids == [record_id]
            there.store.delete(into, [record_id])
            assert there.store.count(into) == len(ids) - left


@every_target
def test_08_null_missing_empty_and_numbers_stay_what_they_are(
    target: str, embedded_stores: dict[str, Place], tmp_path: Path
) -> None:
    values: list[Any] = [None, 0, "", "null", "12345", "007", "true", True, 1, 1.0, 2**53 + 1, 2**63, 2**64 - 1, -0.0]
    values += [float("nan"), float("inf"), [], {}, [None], [1, 1.0, True, "1"], {"a": None}]
    payloads: list[dict[str, Any]] = [{"value": value} for value in values] + [{}]
    documents = ["" if row % 3 == 0 else None for row in range(len(payloads))]
    batch = batch_of([f"r{row}" for row in range(len(payloads))], payloads, documents)
    assert_arrives_and_comes_home(embedded_stores["memory"], batch, embedded_stores[target], tmp_path)


ODD_VECTORS: dict[str, tuple[VectorSpec, ...]] = {
    "sparse": (vector_of(VectorKind.SPARSE, "float32", Metric.DOT, "words"),),
    "multi": (vector_of(VectorKind.MULTI, "float32", Metric.DOT, "tokens"),),
    "float16": (vector_of(VectorKind.DENSE, "float16", Metric.L2),),
    "int8": (vector_of(VectorKind.DENSE, "int8", Metric.L2),),
    "uint8": (vector_of(VectorKind.DENSE, "uint8", Metric.L2),),
    "binary": (vector_of(VectorKind.DENSE, "binary", Metric.HAMMING),),
    "two": (
        vector_of(VectorKind.DENSE, "float32", Metric.L2, "a"),
        vector_of(VectorKind.DENSE, "float32", Metric.L2, "b"),
    ),
}


@pytest.mark.parametrize("kind", ODD_VECTORS)
@every_target
def test_09_a_kind_of_vector_arrives_or_is_refused_before_the_target_is_made(
    kind: str, target: str, embedded_stores: dict[str, Place], tmp_path: Path
) -> None:
    home, there = embedded_stores["memory"], embedded_stores[target]
    spec = CollectionSpec(fresh_name(), ODD_VECTORS[kind], frozenset(IdKind))
    batch = kinds_of_vectors(spec, 20, is_partial=kind == "two" and there.store.capabilities.has_partial_vectors)
    home.door.raw_create(spec)
    home.door.raw_write(spec.name, batch)
    migration = migration_between(home, spec.name, there, fresh_name())
    refusal = ""
    try:
        with open_migration(migration, tmp_path, plan=True) as context:
            for entry in context.manifest.ranges:
                migrate_range(context, entry.key)
            assert prove_collection(context).written == 20
    except SchemaCompatibilityError as error:
        refusal = str(error)
    if refusal:
        assert any(f'vector "{vector.name}"' in refusal for vector in spec.vectors) or "vector:" in refusal
        assert not there.store.exists(migration.target_collection)
        return
    with moved(there, migration.target_collection, home, tmp_path) as (_, returned):
        assert differences(meaning(batch), returned) == []


OWN_NAMES = (
    "id",
    "_id",
    "__id__",
    "document",
    "documents",
    "vector",
    "embedding",
    "payload",
    "metadata",
    "$meta",
    "pk",
    "_rmp_envelope",
    "uri",
    "chroma:uri",
    "chroma:document",
    "score",
    "distance",
    "version",
    "",
)


@every_target
def test_10_a_key_named_like_a_tools_own_field_is_kept(
    target: str, embedded_stores: dict[str, Place], tmp_path: Path
) -> None:
    payloads: list[dict[str, Any]] = [{name: value} for name in OWN_NAMES for value in ("mine", 5, None)]
    payloads.append(dict.fromkeys(OWN_NAMES, "mine"))
    documents = ["text" if row % 2 else None for row in range(len(payloads))]
    batch = batch_of([f"r{row}" for row in range(len(payloads))], payloads, documents)
    assert_arrives_and_comes_home(embedded_stores["memory"], batch, embedded_stores[target], tmp_path)


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
    here = "../rag_migration_pipeline_tests/fidelity/test_ways_to_lose_data.py"
    linked = re.findall(rf"^\| (\d+) \| [^|]+ \| \[`(test_\d\d_\w+)`\]\({re.escape(here)}\) \|$", page, re.MULTILINE)
    assert [(int(number), name[:8]) for number, name in linked] == [(n, f"test_{n:02d}_") for n in range(1, 15)]
    tests: dict[str, Callable[..., Any]] = {
        name: value for name, value in globals().items() if name.startswith("test_")
    }
    assert {name for _, name in linked} == {name for name in tests if re.match(r"test_\d\d_", name)}
