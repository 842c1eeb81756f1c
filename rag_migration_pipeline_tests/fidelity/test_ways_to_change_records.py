"""The ways 5 to 10 of the fourteen in which other tools were seen to lose data: a record arrives, but not as it was.

Belongs here: what arrives of a record. Does not belong here: the other ways (``test_ways_to_lose_data.py``).
"""

import uuid
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, RecordBatch, RecordId, VectorKind, VectorSpec
from rag_migration_pipeline.steps.context import open_migration
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline_tests.contract.vector_samples import records as kinds_of_vectors
from rag_migration_pipeline_tests.contract.vector_samples import vector_of
from rag_migration_pipeline_tests.fidelity.meaning import differences, meaning
from rag_migration_pipeline_tests.fidelity.small import batch_of, every_target, filled
from rag_migration_pipeline_tests.fidelity.test_round_trips import moved
from rag_migration_pipeline_tests.matrix.places import Place, fresh_name, migration_between


def assert_arrives_and_comes_home(home: Place, batch: RecordBatch, there: Place, folder: Path) -> None:
    origin = filled(home, batch)
    expected = meaning(batch)
    with moved(home, origin, there, folder) as (into, found):
        assert differences(expected, found) == []
        with moved(there, into, home, folder) as (_, returned):
            assert differences(expected, returned) == []


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
