"""The plan is made before the first write, from what both stores say, and names every reason why it cannot be."""

import uuid
from dataclasses import replace
from typing import Any

import pytest

from rag_migration_pipeline.envelope import ENVELOPE_KEY
from rag_migration_pipeline.errors import ConflictError, SchemaCompatibilityError
from rag_migration_pipeline.ids import IdRule
from rag_migration_pipeline.names import NameRule
from rag_migration_pipeline.options import Conflict, MigrationOptions
from rag_migration_pipeline.plan import (
    MIN_ID_LENGTH_BYTES,
    Plan,
    make_plan,
    refuse_collisions,
    refuse_conflicts,
    refuse_plan,
)
from rag_migration_pipeline.records import (
    CollectionInfo,
    CollectionSpec,
    FieldSpec,
    IdKind,
    Metric,
    RecordId,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.stores import memory
from rag_migration_pipeline.stores.capabilities import Capabilities, PayloadRules
from rag_migration_pipeline.stores.memory import MemorySettings

MIGRATION = Migration("m", MemorySettings(name="s"), "docs", MemorySettings(name="t"), "copy", MigrationOptions())
SOURCE = CollectionSpec(
    "docs",
    (VectorSpec(3, Metric.COSINE),),
    frozenset(IdKind),
    fields=(FieldSpec("year", "int"),),
    settings={"index": "hnsw"},
    metadata={"description": "x"},
    id_field="pk",
    max_id_length_bytes=9,
)
STRICT = Capabilities(
    store="strict",
    form="server",
    id_kinds=frozenset({IdKind.STRING, IdKind.INT64}),
    metrics=frozenset({Metric.COSINE}),
    payload=PayloadRules(),
    has_typed_text_fields=True,
    max_text_field_bytes=65_535,
    max_id_length_bytes=1_000,
    max_dimension=100,
    collection_name_pattern=r"[a-z0-9_]+",
)
POINTS = replace(STRICT, id_kinds=frozenset({IdKind.UINT64, IdKind.UUID}), has_typed_text_fields=False)


class StrictSettings(MemorySettings):
    """A target that allows few names."""

    name_rule = NameRule(STRICT.collection_name_pattern)


def planned(
    source: CollectionSpec = SOURCE,
    ids: list[RecordId] | None = None,
    target: CollectionSpec | None = None,
    capabilities: Capabilities = STRICT,
    migration: Migration = MIGRATION,
) -> Plan:
    existing = None if target is None else CollectionInfo(target, 0)
    found = ["a"] if ids is None else ids
    plan = make_plan(migration, CollectionInfo(source, 5), memory.CAPABILITIES, found, existing, capabilities)
    refuse_plan(plan, migration)
    return plan


def problems_of(**changes: Any) -> list[str]:
    with pytest.raises(SchemaCompatibilityError) as caught:
        planned(**changes)
    problems: list[str] = caught.value.facts["problems"]
    assert all(problem in str(caught.value) for problem in problems)
    assert "memory://?name=s, collection 'docs'" in str(caught.value)
    assert "memory://?name=t, collection 'copy'" in str(caught.value)
    assert caught.value.todo
    return problems


def test_a_new_target_has_the_sources_vectors_and_metadata_and_nothing_of_its_settings() -> None:
    plan = planned()
    assert plan.creates_target
    assert plan.target_spec.name == "copy"
    assert plan.target_spec.vectors == SOURCE.vectors
    assert (plan.target_spec.settings, plan.target_spec.id_field) == ({}, None)
    assert plan.target_spec.metadata == SOURCE.metadata
    assert [(f.name, f.type, f.max_length_bytes) for f in plan.target_spec.fields] == [
        ("document", "string", 65_535),
        (ENVELOPE_KEY, "string", 65_535),
    ]
    assert planned(capabilities=POINTS).target_spec.fields == ()


@pytest.mark.parametrize(
    ("ids", "kinds"),
    [
        (["a"], {IdKind.STRING}),
        ([1, -1], {IdKind.INT64}),
        ([1, "a"], {IdKind.STRING}),
        ([2**63], {IdKind.STRING}),
        ([uuid.UUID(int=7)], {IdKind.STRING}),
    ],
)
def test_a_new_target_holds_the_kinds_of_ids_that_there_are(ids: list[RecordId], kinds: set[IdKind]) -> None:
    assert planned(ids=ids).target_spec.id_kinds == kinds
    assert planned(ids=ids, capabilities=POINTS).target_spec.id_kinds == {IdKind.UINT64, IdKind.UUID}


def test_without_records_the_sources_own_kinds_decide() -> None:
    integers = replace(SOURCE, id_kinds=frozenset({IdKind.INT64}))
    assert planned(source=integers, ids=[]).target_spec.id_kinds == {IdKind.INT64}
    assert planned(ids=[]).target_spec.id_kinds == {IdKind.STRING}


@pytest.mark.parametrize(
    ("longest", "length"), [(1, MIN_ID_LENGTH_BYTES), (40, 80), (400, 800), (600, 1_000), (2_000, 1_000)]
)
def test_a_new_id_field_has_room_for_what_comes_later(longest: int, length: int) -> None:
    plan = planned(ids=["ü" * (longest // 2) + "x" * (longest % 2), "a"])
    assert plan.target_spec.max_id_length_bytes == length
    assert plan.target_layout.id_rule.native("y" * length) == "y" * length
    assert len(str(plan.target_layout.id_rule.native("y" * (length + 1)))) == 36


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vectors": ()}, ["no vectors"]),
        ({"vectors": (VectorSpec(3, Metric.L2),)}, ["metric l2, strict has cosine"]),
        ({"vectors": (VectorSpec(101, Metric.COSINE),)}, ["dimension 101, at most 100"]),
        (
            {"vectors": (VectorSpec(24, Metric.COSINE, dtype="binary"),)},
            ["element type binary, which strict does not hold"],
        ),
        ({"vectors": (VectorSpec(3, Metric.COSINE, "title"),)}, ["named 'title', strict holds one", '{title: ""}']),
        ({"vectors": (VectorSpec(None, Metric.DOT, kind=VectorKind.SPARSE),)}, ["sparse, strict holds dense"]),
        (
            {"vectors": (VectorSpec(3, Metric.COSINE, "a"), VectorSpec(300, Metric.L2, "b"))},
            ["'a', 'b'", 'vector "b": metric l2', "dimension 300"],
        ),
    ],
)
def test_what_a_new_target_cannot_have_is_named_all_at_once(changes: dict[str, Any], words: list[str]) -> None:
    problems = problems_of(source=replace(SOURCE, **changes))
    assert [word for word in words if not any(word in problem for problem in problems)] == [], problems


def test_vectors_of_every_kind_are_planned_as_they_are_where_the_target_holds_them() -> None:
    vectors = (
        VectorSpec(3, Metric.DOT, "text"),
        VectorSpec(3, Metric.COSINE, "half", dtype="float16"),
        VectorSpec(None, Metric.DOT, "words", VectorKind.SPARSE, modifier="idf"),
        VectorSpec(3, Metric.DOT, "tokens", VectorKind.MULTI, "uint8"),
    )
    source = replace(SOURCE, vectors=vectors)
    assert planned(source=source, capabilities=memory.CAPABILITIES).target_spec.vectors == vectors
    plain = replace(memory.CAPABILITIES, other_types=frozenset(), sparse_modifiers=frozenset(), store="plain")
    with pytest.raises(SchemaCompatibilityError, match="compared without idf") as caught:
        planned(source=source, capabilities=plain)
    assert caught.value.facts["lossy"] == ['vector "words"']


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "uint8"])
def test_an_element_type_that_the_target_lacks_becomes_float32_which_holds_its_values(dtype: str) -> None:
    source = replace(SOURCE, vectors=(VectorSpec(3, Metric.COSINE, dtype=dtype),))
    assert planned(source=source).target_spec.vectors == SOURCE.vectors
    assert planned(source=source, target=EXISTING).target_spec.vectors == SOURCE.vectors


def test_a_name_that_the_target_does_not_allow_is_named() -> None:
    with pytest.raises(SchemaCompatibilityError, match="'Copy-1'") as caught:
        planned(migration=replace(MIGRATION, target=StrictSettings(name="t"), target_name="Copy-1"))
    assert "[a-z0-9_]+" in str(caught.value)
    assert "'opy_1'" in str(caught.value)


EXISTING = CollectionSpec("copy", (VectorSpec(3, Metric.COSINE),), frozenset({IdKind.STRING}), max_id_length_bytes=50)


def test_an_existing_target_is_taken_as_it_is() -> None:
    plan = planned(target=EXISTING, migration=replace(MIGRATION, target_name="Not-Checked"))
    assert not plan.creates_target
    assert plan.target_spec == EXISTING
    assert plan.target_layout.id_rule == IdRule(frozenset({IdKind.STRING}), 50)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vectors": (VectorSpec(4, Metric.COSINE),)}, ["expected dimension 3, the target has 4"]),
        ({"vectors": (VectorSpec(3, Metric.DOT),)}, ["expected metric cosine, the target has dot"]),
        ({"vectors": (VectorSpec(3, Metric.COSINE, dtype="int8"),)}, ["expected dtype float32"]),
        ({"vectors": (VectorSpec(4, Metric.DOT),)}, ["dimension", "metric"]),
        ({"vectors": (VectorSpec(3, Metric.COSINE, "title"),)}, ["no vector ''", "also has a vector 'title'"]),
        ({"settings": {"auto_id": True}}, ["makes its own ids"]),
    ],
)
def test_where_an_existing_target_differs_is_named_all_at_once(changes: dict[str, Any], words: list[str]) -> None:
    problems = problems_of(target=replace(EXISTING, **changes))
    assert [word for word in words if not any(word in problem for problem in problems)] == [], problems


def test_collisions_are_named_in_pairs() -> None:
    rule = IdRule(frozenset({IdKind.STRING}))
    refuse_collisions(["7", "007", 8], rule)
    with pytest.raises(SchemaCompatibilityError, match="1 pairs") as caught:
        refuse_collisions(["7", 7, 8], rule)
    assert "'string:7' and 'int:7' -> 7" in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "native", "known", "words"),
    [
        (None, {"a"}, set(), None),
        (None, {"a"}, {"b"}, "not empty: it holds 1 records"),
        (Conflict.OVERWRITE, {"a"}, {"a"}, None),
        (Conflict.SKIP, {"a"}, {"a"}, None),
        (Conflict.FAIL, {"a"}, {"b"}, None),
        (Conflict.FAIL, {"a", 1}, {"a", 1, 2}, "2 ids are already in .*: int:1, string:a; the conflict policy is fail"),
    ],
)
def test_conflicts_are_refused_as_the_policy_says(
    policy: Conflict | None, native: set[RecordId], known: set[RecordId], words: str | None
) -> None:
    if words is None:
        refuse_conflicts(native, known, policy, MIGRATION)
        return
    with pytest.raises(ConflictError, match=words) as caught:
        refuse_conflicts(native, known, policy, MIGRATION)
    assert caught.value.todo
