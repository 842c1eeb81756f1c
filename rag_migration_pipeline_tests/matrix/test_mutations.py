"""Whatever is changed in a target after a migration was proven, the next check of the range and of the whole is red."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline.errors import ValidationError
from rag_migration_pipeline.records import IdKind, Metric, RecordId, id_text
from rag_migration_pipeline.sightings import Watch
from rag_migration_pipeline.steps.context import MigrationContext, open_migration
from rag_migration_pipeline.steps.extract import extract_batches
from rag_migration_pipeline.steps.load import pack_batch
from rag_migration_pipeline.steps.manifest import proven_keys, read_range_ids
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.steps.task import open_task
from rag_migration_pipeline.steps.validate import prove_range, validate_batches
from rag_migration_pipeline_tests.matrix import mutations
from rag_migration_pipeline_tests.matrix.places import TARGETS, Place, Start, fresh_name, migration_between

COUNT = 25
START = Start("ordinary", "chroma", mutations.ordinary_records(COUNT), IdKind.STRING)
NEW_IDS: dict[str, RecordId] = {"chroma": "r999", "milvus": "r999", "qdrant": 999}


@dataclass
class Proven:
    """A migration that was proven, still open."""

    context: MigrationContext
    place: Place
    collection: str

    def ids(self, key: str) -> list[RecordId]:
        """Ids of a range as the target names them."""
        batches = extract_batches(self.context, read_range_ids(self.context.state, self.context.manifest, key))
        return [record_id for batch in batches for record_id in pack_batch(self.context, batch).records.ids]

    def validate(self, key: str) -> None:
        """Check one range again, as a retried validation does."""
        task, watch = open_task(self.context.state, self.context.manifest, key), Watch()
        batches = extract_batches(self.context, task.record_range, watch)
        packed = ((pack_batch(self.context, batch), ()) for batch in batches)
        prove_range(self.context, task, validate_batches(self.context, key, packed, watch), watch)


@pytest.fixture(params=TARGETS)
def proven(request: pytest.FixtureRequest, places: dict[str, Place], tmp_path: Path) -> Iterator[Proven]:
    """25 records in two ranges, proven in a collection of the target's own."""
    source, target = places["chroma"], places[request.param]
    origin = START.fill(source, Metric.COSINE)
    into = fresh_name()
    with open_migration(migration_between(source, origin, target, into), tmp_path, plan=True) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        assert prove_collection(context).is_proven
        yield Proven(context, target, into)
    target.store.drop(into)


def change_in_place(change: mutations.Change) -> Callable[[Proven, list[RecordId]], tuple[list[RecordId], str]]:
    def mutate(proven: Proven, ids: list[RecordId]) -> tuple[list[RecordId], str]:
        mutations.in_place(proven.place, proven.collection, ids[3], change)
        return [ids[3]], "changed"

    return mutate


def give_another_id(proven: Proven, ids: list[RecordId]) -> tuple[list[RecordId], str]:
    mutations.other_id(proven.place, proven.collection, ids[3], NEW_IDS[proven.place.store.capabilities.store])
    return [ids[3]], "missing"


def swap_two(proven: Proven, ids: list[RecordId]) -> tuple[list[RecordId], str]:
    mutations.swapped(proven.place, proven.collection, ids[3], ids[4])
    return [ids[3], ids[4]], "changed"


def remove_one(proven: Proven, ids: list[RecordId]) -> tuple[list[RecordId], str]:
    mutations.raw_delete(proven.place, proven.collection, [ids[3]])
    return [ids[3]], "missing"


MUTATIONS: dict[str, Any] = {
    "component": change_in_place(mutations.one_component),
    "value": change_in_place(mutations.one_value),
    "type": change_in_place(mutations.one_type),
    "document": change_in_place(mutations.one_character),
    "id": give_another_id,
    "swap": swap_two,
    "deleted": remove_one,
}

ON_SERVERS = ("component", "id", "value")


def test_every_change_behind_our_back_turns_range_and_whole_red(proven: Proven, scale: float) -> None:
    """One after the other, each put right again by loading the range once more; on servers some of them."""
    context = proven.context
    is_embedded = proven.place.store.capabilities.is_embedded
    names = tuple(MUTATIONS) if is_embedded else ON_SERVERS[: 3 if scale > 1 else 2]
    chosen = {name: MUTATIONS[name] for name in names}
    first, second = (entry.key for entry in context.manifest.ranges)
    for name, mutate in chosen.items():
        ids, finding = mutate(proven, proven.ids(first))
        texts = {id_text(record_id) for record_id in ids}

        with pytest.raises(ValidationError) as caught:
            proven.validate(first)
        assert set(getattr(caught.value.report, finding)) == texts, name
        assert all(text in str(caught.value) for text in texts), name
        proven.validate(second)  # the other range is as it was

        with pytest.raises(ValidationError) as caught:
            prove_collection(context)
        report = caught.value.report
        assert not report.is_proven
        assert set(getattr(report.findings, finding)) == texts, name
        new_id = id_text(NEW_IDS[proven.place.store.capabilities.store])
        assert report.findings.extra == ((new_id,) if name == "id" else ()), name
        assert proven_keys(context.state, context.manifest) == [second], "the contradicted receipt is withdrawn"

        mutations.raw_delete(proven.place, proven.collection, [NEW_IDS[proven.place.store.capabilities.store]])
        migrate_range(context, first)
        assert prove_collection(context).is_proven, name


def test_a_record_that_nobody_planned_turns_the_whole_red(proven: Proven) -> None:
    ids = proven.ids(proven.context.manifest.ranges[0].key)
    extra = NEW_IDS[proven.place.store.capabilities.store]
    record = mutations._taken(proven.place, proven.collection, [ids[0]]).with_columns(ids=[extra])
    proven.place.door.raw_write(proven.collection, record)
    with pytest.raises(ValidationError, match="1 extra") as caught:
        prove_collection(proven.context)
    assert caught.value.report.findings.extra == (id_text(extra),)
    assert len(proven_keys(proven.context.state, proven.context.manifest)) == 2, "no range is to blame"
