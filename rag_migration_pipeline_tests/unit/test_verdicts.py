"""Every field and feature of a source gets a verdict; a loss needs consent, and all of them are named at once."""

import datetime as dt
import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.envelope import pack_some, unpack
from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.plan import Plan, make_plan, refuse_plan
from rag_migration_pipeline.records import (
    CollectionInfo,
    CollectionSpec,
    DenseColumn,
    FieldSpec,
    IdKind,
    Metric,
    RecordBatch,
    RecordId,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.stores import memory
from rag_migration_pipeline.stores.abilities import abilities
from rag_migration_pipeline.stores.memory import MemorySettings
from rag_migration_pipeline.verdicts import IDS_AS_TEXT, IDS_AS_UUID, IDS_DERIVED, IDS_KEPT, Level, Verdict
from rag_migration_pipeline.verdicts.profile import Sample

STORES = abilities()
TARGETS = ("memory", "Chroma folder", "Qdrant edge", "Milvus Lite file", "Milvus server")
PLAIN = CollectionSpec("docs", (VectorSpec(3, Metric.COSINE),), frozenset(IdKind))


def batch(payloads: list[Any], ids: list[Any] | None = None, **columns: Any) -> RecordBatch:
    ids = [f"r{row}" for row in range(len(payloads))] if ids is None else ids
    values = np.arange(3 * len(ids), dtype=np.float32).reshape(-1, 3) + 1
    return RecordBatch(ids, columns.pop("vectors", {"": DenseColumn(values)}), payloads, **columns)


def planned(
    sample: RecordBatch,
    to: str,
    source: CollectionSpec = PLAIN,
    target: CollectionSpec | None = None,
    **options: Any,
) -> Plan:
    settings = MemorySettings(name="s"), MemorySettings(name="t")
    chosen = MigrationOptions.model_validate(options)
    migration = Migration("m", settings[0], "docs", settings[1], "docs", chosen)
    existing = None if target is None else CollectionInfo(target, 0)
    info = CollectionInfo(source, len(sample))
    return make_plan(migration, info, memory.CAPABILITIES, list(sample.ids), existing, STORES[to], Sample([sample]))


def verdicts_of(plan: Plan) -> dict[str, Verdict]:
    return {verdict.subject: verdict for verdict in plan.facts.verdicts}


def check(plan: Plan) -> None:
    settings = MemorySettings(name="s"), MemorySettings(name="t")
    refuse_plan(plan, Migration("m", settings[0], "docs", settings[1], "docs", MigrationOptions()))


# -- one by one -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "ids", "counts"),
    [
        ("memory", ["a", 7, uuid.UUID(int=7)], {IDS_KEPT: 3}),
        ("Qdrant edge", ["a", 7, str(uuid.UUID(int=7))], {IDS_DERIVED: 1, IDS_KEPT: 1, IDS_AS_UUID: 1}),
        ("Chroma folder", ["a", 7, uuid.UUID(int=7)], {IDS_KEPT: 1, IDS_AS_TEXT: 2}),
        ("Milvus server", [1, -7], {IDS_KEPT: 2}),
    ],
)
def test_ids_that_are_not_kept_come_home_by_the_envelope_alone(
    to: str, ids: list[RecordId], counts: dict[str, int]
) -> None:
    plan = planned(batch([{}] * len(ids), ids), to)
    assert plan.facts.id_mapping == counts
    assert verdicts_of(plan)["id"].level is Level.EXACT
    is_kept = counts.keys() == {IDS_KEPT}
    assert ("envelope" in verdicts_of(plan)["id"].how) is not is_kept
    without = verdicts_of(planned(batch([{}] * len(ids), ids), to, envelope=False))["id"]
    assert without.level is (Level.EXACT if is_kept else Level.LOSSY)


@pytest.mark.parametrize(
    ("to", "value", "level", "without"),
    [
        ("Chroma folder", 7, Level.EXACT, Level.EXACT),
        ("Chroma folder", 2**63, Level.EXACT, Level.IMPOSSIBLE),
        ("Chroma folder", {"a": 1}, Level.EXACT, Level.IMPOSSIBLE),
        ("Chroma folder", dt.date(2026, 1, 2), Level.EXACT, Level.LOSSY),
        ("Qdrant edge", float("nan"), Level.EXACT, Level.IMPOSSIBLE),
        ("Qdrant edge", None, Level.EXACT, Level.EXACT),
        ("Milvus server", 2**63, Level.EXACT, Level.EXACT),
        ("memory", b"bytes", Level.EXACT, Level.EXACT),
    ],
)
def test_what_a_field_holds_decides(to: str, value: Any, level: Level, without: Level) -> None:
    sample = batch([{"tags": value}] * 2)
    assert verdicts_of(planned(sample, to))["field tags"].level is level
    found = verdicts_of(planned(sample, to, envelope=False))["field tags"]
    assert found.level is without
    assert (found.reason != "") is (without is not Level.EXACT)


def test_single_records_that_would_be_set_aside_are_a_note() -> None:
    sample = batch([{"n": 1}, {"n": {}}])
    found = verdicts_of(planned(sample, "Chroma folder", envelope=False))
    assert found["field n"].level is Level.NOTE
    assert found["records"].level is Level.NOTE
    assert "1 of 2 records looked at" in found["records"].reason
    wrong = batch([{}, {}], vectors={"": DenseColumn(np.array([[1, 2, 3], [0, np.nan, 0]], np.float32))})
    assert "NaN" in verdicts_of(planned(wrong, "Qdrant edge"))["records"].reason
    assert "records" not in verdicts_of(planned(wrong, "memory"))


def test_records_that_the_mapping_cannot_change_are_a_note() -> None:
    settings = MemorySettings(name="s"), MemorySettings(name="t")
    options = MigrationOptions.model_validate({"mapping": {"field_mapping": {"a": "b"}}})
    plan = make_plan(
        Migration("m", settings[0], "docs", settings[1], "docs", options),
        CollectionInfo(PLAIN, 5),
        memory.CAPABILITIES,
        [f"r{row}" for row in range(5)],
        None,
        memory.CAPABILITIES,
        Sample([batch([{}, {}])], unmapped={"the record already has the key 'b'": 3}),
    )
    note = verdicts_of(plan)["records"]
    assert (note.level, note.reason) == (Level.NOTE, "3 of 5 records looked at: the record already has the key 'b'")


def test_partitions_travel_in_the_envelope_or_are_lost_with_consent() -> None:
    sample = batch([{}] * 2, partitions=["a", None])
    assert verdicts_of(planned(sample, "memory"))["partition"].how == "native"
    assert verdicts_of(planned(sample, "Qdrant edge"))["partition"].how == "envelope"
    assert verdicts_of(planned(sample, "Qdrant edge", envelope=False))["partition"].level is Level.LOSSY
    assert "partition" not in verdicts_of(planned(batch([{}]), "Qdrant edge"))


def test_a_document_beside_a_users_key_of_that_name_is_told() -> None:
    sample = batch([{"document": "mine"}], documents=["text"])
    assert verdicts_of(planned(sample, "Chroma folder"))["document"].how == "native"
    assert "envelope" in verdicts_of(planned(sample, "Qdrant edge"))["document"].how
    without = verdicts_of(planned(sample, "Qdrant edge", envelope=False))
    assert (without["document"].level, without["field document"].level) == (Level.NOTE, Level.LOSSY)


def test_without_an_envelope_a_missing_document_becomes_an_empty_one_in_a_required_field() -> None:
    sample = batch([{}] * 2, documents=["text", None])
    assert verdicts_of(planned(sample, "Milvus server"))["document"].level is Level.EXACT
    assert verdicts_of(planned(sample, "Milvus server", envelope=False))["document"].level is Level.LOSSY
    assert verdicts_of(planned(sample, "Qdrant edge", envelope=False))["document"].level is Level.EXACT


def spec(*vectors: VectorSpec, **changes: Any) -> CollectionSpec:
    return replace(PLAIN, vectors=vectors, **changes)


CHOSEN = {"title": "", "body": None}
NAMED = spec(VectorSpec(3, Metric.L2, "title"), VectorSpec(3, Metric.L2, "body"))


@pytest.mark.parametrize(
    ("source", "to", "options", "subject", "level", "words"),
    [
        (PLAIN, "Qdrant edge", {}, 'vector ""', Level.EXACT, "direction within 7e-07, length in the envelope"),
        (PLAIN, "Qdrant edge", {"envelope": False}, 'vector ""', Level.LOSSY, "the length is lost"),
        (PLAIN, "Chroma folder", {}, 'vector ""', Level.EXACT, "within 5e-07"),
        (PLAIN, "Milvus server", {}, 'vector ""', Level.EXACT, "native"),
        (spec(VectorSpec(3, Metric.MANHATTAN)), "Chroma folder", {}, 'vector ""', Level.IMPOSSIBLE, "{metric: dot}"),
        (
            spec(VectorSpec(3, Metric.MANHATTAN)),
            "Chroma folder",
            {"vectors": {"": {"metric": "dot"}}},
            'vector ""',
            Level.LOSSY,
            "compared by dot instead of manhattan",
        ),
        (NAMED, "Chroma folder", {}, "vectors", Level.IMPOSSIBLE, 'vectors: {title: "", body: null}'),
        (NAMED, "Chroma folder", {"vectors": CHOSEN}, 'vector "body"', Level.LOSSY, "leaves it out"),
        (NAMED, "Chroma folder", {"vectors": CHOSEN}, 'vector "title"', Level.EXACT, 'as vector ""'),
        (NAMED, "memory", {"vectors": {"title": None, "body": None}}, "vectors", Level.IMPOSSIBLE, "every vector"),
        (NAMED, "memory", {"vectors": {"titel": ""}}, "vectors", Level.IMPOSSIBLE, "no vector 'titel'"),
        (
            spec(VectorSpec(None, Metric.DOT, kind=VectorKind.SPARSE)),
            "Chroma folder",
            {},
            'vector ""',
            Level.IMPOSSIBLE,
            'vectors: {"": null}',
        ),
        (
            spec(VectorSpec(3, Metric.L2, dtype="int8")),
            "Chroma folder",
            {},
            'vector ""',
            Level.EXACT,
            "in float32",
        ),
        (spec(VectorSpec(None, Metric.L2)), "Milvus server", {}, 'vector ""', Level.IMPOSSIBLE, "the source is empty"),
    ],
)  # fmt: skip
def test_vectors_are_judged_by_what_the_target_holds(
    source: CollectionSpec, to: str, options: dict[str, Any], subject: str, level: Level, words: str
) -> None:
    plan = planned(batch([], []), to, source, **options)
    found = [verdict for verdict in plan.facts.verdicts if verdict.subject == subject and verdict.level is level]
    assert [verdict for verdict in found if words in f"{verdict.how} {verdict.reason}"], plan.facts.verdicts


def test_an_existing_targets_metric_is_taken_when_the_option_names_it() -> None:
    target = spec(VectorSpec(3, Metric.DOT))
    assert verdicts_of(planned(batch([{}]), "Chroma folder", target=target))['vector ""'].level is Level.IMPOSSIBLE
    options = {"vectors": {"": {"metric": "dot"}}}
    found = verdicts_of(planned(batch([{}]), "Chroma folder", target=target, **options))['vector ""']
    assert (found.level, found.consent) == (Level.LOSSY, "vectors")


def test_an_element_type_that_the_spec_names_is_given_or_refused() -> None:
    kept = planned(batch([{}]), "Milvus server", vectors={"": {"dtype": "float16"}})
    assert kept.target_spec.vectors[0].dtype == "float16"
    with pytest.raises(SchemaCompatibilityError, match="element type float16, which milvus does not hold"):
        check(planned(batch([{}]), "Milvus Lite file", vectors={"": {"dtype": "float16"}}))


def test_zero_vectors_under_cosine_are_noted() -> None:
    sample = batch([{}, {}], vectors={"": DenseColumn(np.array([[1, 2, 3], [0, 0, 0]], np.float32))})
    found = verdicts_of(planned(sample, "Milvus server"))['vector "", where zero']
    assert (found.level, "1 of 2" in found.reason) == (Level.NOTE, True)


# -- consent ----------------------------------------------------------------------------------------------------------

LOSING = {
    "sample": batch([{"on": dt.date(2026, 1, 2), "n": 1}] * 2, [1, 2]),
    "to": "Chroma folder",
    "envelope": False,
}


def test_a_loss_without_consent_names_all_of_them_and_what_to_write() -> None:
    with pytest.raises(SchemaCompatibilityError) as caught:
        check(planned(**LOSING))
    assert caught.value.facts["lossy"] == ["id", "field on"]
    assert "accept_lossy: ['id', 'field on']" in caught.value.todo
    with pytest.raises(SchemaCompatibilityError) as caught:
        check(planned(**LOSING, accept_lossy=["id"]))
    assert caught.value.facts["lossy"] == ["field on"]


@pytest.mark.parametrize("consent", [True, ["id", "field on"], ["field on", "id", "field gone"]])
def test_consent_is_given_to_all_or_by_subject_and_noted(consent: Any) -> None:
    plan = planned(**LOSING, accept_lossy=consent)
    check(plan)
    lossy = [verdict for verdict in plan.facts.verdicts if verdict.level is Level.LOSSY]
    assert {verdict.consent for verdict in lossy} == {"accept_lossy"}


def test_consent_to_what_the_plan_does_not_have_is_noted_with_what_it_has() -> None:
    plan = planned(**LOSING, accept_lossy=["id", "feild on", "price", "document"])
    notes = [verdict for verdict in plan.facts.verdicts if verdict.subject == "accept_lossy"]
    assert [(note.level, note.reason.partition(" is no subject of this plan")[::2]) for note in notes] == [
        (Level.NOTE, ("'feild on'", "; did you mean 'field on'?")),
        (Level.NOTE, ("'price'", notes[1].reason.partition("plan")[2])),
    ]
    assert "'id', 'document'" in notes[1].reason
    with pytest.raises(SchemaCompatibilityError, match=r"In accept_lossy, 'feild on' .* did you mean 'field on'\?"):
        check(plan)


def test_consent_never_makes_the_impossible_possible() -> None:
    plan = planned(batch([{"n": {}}]), "Chroma folder", envelope=False, accept_lossy=True)
    with pytest.raises(SchemaCompatibilityError, match="field n"):
        check(plan)


def test_what_is_impossible_and_what_is_lossy_are_told_together() -> None:
    sample = batch([{"n": {}, "on": dt.date(2026, 1, 2)}], [7])
    with pytest.raises(SchemaCompatibilityError) as caught:
        check(planned(sample, "Chroma folder", spec(VectorSpec(3, Metric.HAMMING)), envelope=False))
    assert [problem.partition(":")[0] for problem in caught.value.facts["problems"]] == ['vector ""', "field n"]
    assert caught.value.facts["lossy"] == ["id", "field on"]


# -- laws -------------------------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=5,
)
KEYS = st.sampled_from(["a", "b", "", "id", "document", "vector", "$meta", "a.b", "_rmp_envelope", "🜚", "chroma:x"])
IDS = st.lists(
    st.text(max_size=4) | st.integers(-(2**63), 2**64 - 1) | st.uuids(), min_size=1, max_size=5, unique_by=repr
)


@st.composite
def samples(draw: st.DrawFn) -> RecordBatch:
    ids = draw(IDS)
    payloads = [draw(st.dictionaries(KEYS, VALUES, max_size=4)) for _ in ids]
    documents = [draw(st.none() | st.text(max_size=4)) for _ in ids]
    partitions = [draw(st.sampled_from([None, "p"])) for _ in ids]
    return batch(payloads, list(ids), documents=documents, partitions=partitions)


@pytest.mark.parametrize("to", TARGETS)
@given(samples(), st.booleans())
def test_what_is_called_exact_comes_home(to: str, sample: RecordBatch, envelope: bool) -> None:
    """Every field, id, document and partition whose verdict is exact is the same after the way there and back."""
    plan = planned(sample, to, envelope=envelope)
    found = verdicts_of(plan)
    packed, rows, _ = pack_some(sample, plan.target_layout)
    home = unpack(packed, plan.target_layout)
    for place, row in enumerate(rows):
        if found["id"].level is Level.EXACT:
            assert (type(home.ids[place]), home.ids[place]) == (type(sample.ids[row]), sample.ids[row])
        for key, value in sample.payloads[row].items():
            if found[f"field {key}"].level is Level.EXACT:
                assert encode(home.payloads[place].get(key, "missing")) == encode(value), key
        if sample.documents and found["document"].level is Level.EXACT:
            assert (home.documents or {})[place] == sample.documents[row]
        if sample.partitions and "partition" in found and found["partition"].level is Level.EXACT:
            assert (home.partitions or {})[place] == sample.partitions[row]


@pytest.mark.parametrize("to", TARGETS)
@given(samples())
def test_nothing_of_a_source_is_without_a_verdict(to: str, sample: RecordBatch) -> None:
    vectors = (VectorSpec(3, Metric.L2, "title"), VectorSpec(3, Metric.HAMMING, "body"))
    source = spec(
        *vectors,
        metadata={"owner": "me"},
        settings={"hnsw": {"m": 16}, "quantization": None},
        fields=(FieldSpec("year", "int", is_indexed=True),),
    )
    columns = {vector.name: sample.dense() for vector in vectors}
    found = verdicts_of(planned(sample.with_columns(vectors=columns), to, source))
    wanted = {"id", "document", "collection name", "collection metadata", 'vector "title"', 'vector "body"'}
    wanted |= {f"field {key}" for payload in sample.payloads for key in payload}
    assert wanted <= found.keys()
    for word in ("hnsw", "quantization", "year"):
        assert any(word in subject for subject in found), word
