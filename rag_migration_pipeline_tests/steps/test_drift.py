"""A migration goes on only where source and target are still what was planned; state of before verdicts is taken up."""

import json
from dataclasses import replace
from typing import Any

import pytest

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.records import CollectionSpec, FieldSpec, IdKind, Metric, VectorSpec
from rag_migration_pipeline.steps.drift import refuse_source_drift, refuse_target_drift
from rag_migration_pipeline.steps.manifest import open_manifest
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.verdicts import Level
from rag_migration_pipeline_tests.steps.support import World, dump, numbered, records, spec_of

TYPED = (FieldSpec("year", "int"), FieldSpec("title", "string", max_length_bytes=64))
PLANNED = replace(spec_of("docs"), fields=TYPED, id_field="pk", max_id_length_bytes=64)


class Described:
    """A store of which only the schema is asked."""

    address = "strict://here"

    def __init__(self, spec: CollectionSpec, world: World, *, has_schema: bool = True) -> None:
        self.found = spec
        self.capabilities = replace(world.a.capabilities, has_typed_text_fields=has_schema)

    def spec(self, _: str) -> CollectionSpec:
        return self.found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vectors": (VectorSpec(4, Metric.COSINE),)}, "vector '': expected dimension 3, got 4"),
        ({"vectors": (VectorSpec(3, Metric.DOT),)}, "vector '': expected metric cosine, got dot"),
        ({"vectors": (VectorSpec(3, Metric.COSINE, dtype="float16"),)}, "expected dtype float32, got float16"),
        ({"vectors": (VectorSpec(3, Metric.COSINE, "a"),)}, "expected vectors [''], got ['a']"),
        ({"vectors": ()}, "expected vectors [''], got []"),
        ({"id_kinds": frozenset({IdKind.STRING})}, "expected ids of kind int64, string, uint64, uuid, got string"),
        ({"id_field": "id"}, "expected the id field 'pk', got 'id'"),
        ({"max_id_length_bytes": 32}, "expected ids of up to 64 bytes, got 32"),
        ({"settings": {"auto_id": True}}, "expected auto_id False, got True"),
        ({"fields": TYPED[:1]}, "expected fields ['title', 'year'], got ['year']"),
        ({"fields": (FieldSpec("year", "string"), TYPED[1])}, "field 'year': expected type int, got string"),
        ({"fields": (TYPED[0], replace(TYPED[1], max_length_bytes=32))}, "expected max_length_bytes 64, got 32"),
    ],
)
def test_each_property_that_differs_is_named(world: World, changes: dict[str, Any], words: str) -> None:
    world.fill(records(numbered(3)))
    with world.opened() as context:
        manifest = replace(context.manifest, source_spec=PLANNED, target_spec=PLANNED)
    for refuse, side in ((refuse_source_drift, "the source"), (refuse_target_drift, "the target")):
        same: Any = Described(PLANNED, world)
        refuse(manifest, world.migration(), same)
        other: Any = Described(replace(PLANNED, **changes), world)
        with pytest.raises(SchemaCompatibilityError) as caught:
            refuse(manifest, world.migration(), other)
        assert words in str(caught.value)
        assert f"strict://here, {side}, is not what was planned" in str(caught.value)
        assert "plan again" in caught.value.todo


def test_what_changes_no_record_is_no_drift(world: World) -> None:
    world.fill(records(numbered(3)))
    with world.opened() as context:
        manifest = replace(context.manifest, source_spec=PLANNED)
    tuned: Any = Described(replace(PLANNED, settings={"hnsw": {"m": 32}}, metadata={"note": 1}), world)
    refuse_source_drift(manifest, world.migration(), tuned)
    indexed: Any = Described(
        replace(PLANNED, fields=(FieldSpec("n", "int", is_indexed=True),)), world, has_schema=False
    )
    refuse_source_drift(manifest, world.migration(), indexed)
    grown: Any = Described(replace(PLANNED, vectors=(VectorSpec(None, Metric.COSINE),)), world)
    refuse_source_drift(manifest, world.migration(), grown)


def recreate(store: VectorStore, **changes: Any) -> None:
    spec = store.describe("docs").spec
    store.drop("docs")
    store.create(replace(spec, **changes))


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_migration_does_not_go_on_over_a_changed_schema(world: World, side: str) -> None:
    world.fill(records(numbered(9)))
    with world.opened():
        pass
    recreate(world.a if side == "source" else world.b, vectors=(VectorSpec(3, Metric.L2),))
    before = dump(world.b)
    for plan in (True, False):
        with pytest.raises(SchemaCompatibilityError, match="expected metric cosine, got l2"), world.opened(plan=plan):
            pass
    assert dump(world.b) == before


def test_a_source_that_drifted_stops_the_migration_before_a_target_is_made(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened():
        pass
    world.b.drop("docs")
    recreate(world.a, vectors=(VectorSpec(3, Metric.L2),))
    with pytest.raises(SchemaCompatibilityError, match="the source"), world.opened(plan=False):
        pass
    assert world.b.list_collections() == []


def test_the_plan_is_stored_with_the_manifest(world: World) -> None:
    world.fill(records(numbered(9), tag=None))
    with world.opened() as context:
        planned = context.manifest.plan
    assert open_manifest(world.state(), world.migration()).plan == planned
    assert {"id", "document", "field n", "field tag", 'vector ""', "collection name"} <= {
        verdict.subject for verdict in planned.verdicts
    }
    assert {verdict.level for verdict in planned.verdicts} == {Level.EXACT}
    assert (planned.looked_at, planned.id_mapping, planned.target_name) == (9, {"kept": 9}, "docs")


def test_a_plan_over_keys_without_a_utf8_form_is_stored_too(world: World) -> None:
    world.fill(records(numbered(3)).with_columns(payloads=[{"\ud800 ü": 1}] * 3))
    with world.opened() as context:
        assert "field \\ud800 ü" in {verdict.subject for verdict in context.manifest.plan.verdicts}
        assert open_manifest(world.state(), world.migration()).plan == context.manifest.plan


def test_state_of_before_there_were_verdicts_is_taken_up(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened() as context:
        key = context.manifest.plan_digest
    path = world.state().manifest
    facts = json.loads(path.read_bytes())
    del facts["plan"]
    path.write_text(json.dumps(facts))
    with world.opened() as context:
        assert context.manifest.plan_digest == key
        assert context.manifest.plan.verdicts == ()
    assert world.run()[1].is_proven
