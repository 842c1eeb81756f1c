"""Mapped records and new ids between real stores: they arrive as the mapping says, and its reverse brings them home."""

import unicodedata
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.envelope import layout_of, unpack
from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.ids import derived_uuid
from rag_migration_pipeline.mapping import parse_mapping
from rag_migration_pipeline.mapping.mapper import SCHEMA_VERSION_KEY
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    RecordBatch,
    RecordId,
    VectorSpec,
)
from rag_migration_pipeline.steps.context import open_migration
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import Report, prove_collection
from rag_migration_pipeline_tests.matrix.places import Place, fresh_name, migration_between

Found = dict[RecordId, tuple[str, str | None]]

MAPPING: dict[str, Any] = {
    "version": 2,
    "field_mapping": {"doc_id": "id", "$id": "old_id", "title": "heading", "info_*": "info.*", "$document": "body"},
    "transforms": {"tags": 'join(",")', "note": "json"},
}
LOOKALIKES = ["7", "007", "7.0", "a", "a ", " a", *(unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))]
NAME = "6f1d6f0e-52a4-4ba1-9f0a-4d5d5a2f3d4e"


def start(place: Place, payloads: list[dict[str, Any]]) -> str:
    """Make and fill a Chroma collection round our adapter."""
    name = fresh_name()
    ids = [f"r{row:02}" for row in range(len(payloads))]
    vectors = {"": DenseColumn(np.arange(1, 1 + 4 * len(ids), dtype=np.float32).reshape(-1, 4))}
    place.door.raw_create(CollectionSpec(name, (VectorSpec(4, Metric.L2),), frozenset({IdKind.STRING})))
    place.door.raw_write(name, RecordBatch(ids, vectors, payloads, [f"text {row}" for row in range(len(ids))]))
    return name


def move(source: Place, collection: str, target: Place, state_dir: Path, **options: Any) -> tuple[str, Report]:
    into = fresh_name()
    migration = migration_between(source, collection, target, into)
    chosen = MigrationOptions.model_validate({"range_count": 13, "page_count": 5, **options})
    with open_migration(replace(migration, options=chosen), state_dir, plan=True) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        report = prove_collection(context)
    target.store.forget_spec(into)
    return into, report


def held(place: Place, collection: str) -> Found:
    """Return what a collection holds, unpacked: id -> payload as text, document."""
    layout = layout_of(place.store.spec(collection), place.store.capabilities, place.settings.document_key)
    found: Found = {}
    for batch in (unpack(stored, layout) for stored in place.store.scan(collection)):
        documents = batch.documents or [None] * len(batch)
        found.update(zip(batch.ids, zip(map(encode, batch.payloads), documents, strict=True), strict=True))
    return found


@pytest.mark.parametrize("target", ["milvus", "qdrant"])
def test_mapped_records_arrive_and_the_reverse_brings_them_home(
    target: str, embedded_places: dict[str, Place], tmp_path: Path
) -> None:
    home, there = embedded_places["chroma"], embedded_places[target]
    payloads: list[dict[str, Any]] = [
        {"doc_id": f"d-{n}", "title": f"t{n}", "tags": ["a", "b"], "info_x": n, "info_y": 0.5, "note": "n", "n": n}
        for n in range(20)
    ]
    origin = start(home, payloads)
    before = held(home, origin)
    arrived, report = move(home, origin, there, tmp_path, mapping=MAPPING)
    assert (report.written, report.is_proven) == (20, True)
    assert there.store.describe(arrived).spec.metadata[SCHEMA_VERSION_KEY] == 2
    assert held(there, arrived) == {
        f"d-{n}": (
            encode(
                {
                    "old_id": f"r{n:02}",
                    "heading": f"t{n}",
                    "tags": "a,b",
                    "info": {"x": n, "y": 0.5},
                    "note": '"n"',
                    "n": n,
                    "body": f"text {n}",
                }
            ),
            None,
        )
        for n in range(20)
    }
    back = {**MAPPING, "version": None}
    returned, report = move(there, arrived, home, tmp_path, mapping=parse_mapping(back).reverse())
    assert report.is_proven
    assert held(home, returned) == before


@pytest.mark.parametrize("target", ["milvus", "qdrant"])
def test_ids_that_look_alike_stay_apart_in_a_real_store(
    target: str, embedded_places: dict[str, Place], tmp_path: Path
) -> None:
    home, there = embedded_places["chroma"], embedded_places[target]
    values = [*LOOKALIKES, NAME, NAME.upper(), f"urn:uuid:{NAME}", f"{{{NAME}}}"]
    origin = start(home, [{"ref": value} for value in values])
    arrived, report = move(home, origin, there, tmp_path, ids={"strategy": "from_field", "field": "ref"})
    assert (report.written, report.target_count, report.is_proven) == (len(values), len(values), True)
    assert {record_id: payload for record_id, (payload, _) in held(there, arrived).items()} == {
        value: encode({"ref": value}) for value in values
    }


@pytest.mark.parametrize("target", ["milvus", "qdrant", "chroma"])
def test_whole_numbers_of_every_size_become_ids(target: str, embedded_places: dict[str, Place], tmp_path: Path) -> None:
    home, there = embedded_places["chroma"], embedded_places[target]
    values = [0, 7, -7, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1]
    origin = start(home, [{"ref": str(value)} for value in values])
    options = {"ids": {"strategy": "from_field", "field": "ref", "kind": "int", "keep_as": "old"}}
    arrived, report = move(home, origin, there, tmp_path, **options)
    assert report.is_proven
    assert sorted(held(there, arrived)) == sorted(values)


def test_a_field_that_only_the_envelope_holds_can_be_the_id(embedded_places: dict[str, Place], tmp_path: Path) -> None:
    """Chroma keeps integers above 2**63 in the envelope only; planning sees them there."""
    chroma, milvus = embedded_places["chroma"], embedded_places["milvus"]
    origin = start(chroma, [{"ref": f"{2**63 + n}"} for n in range(3)])
    packed, _ = move(chroma, origin, chroma, tmp_path, mapping={"transforms": {"ref": "int"}})
    arrived, report = move(chroma, packed, milvus, tmp_path, ids={"strategy": "from_field", "field": "ref"})
    assert report.is_proven
    assert sorted(held(milvus, arrived)) == [2**63, 2**63 + 1, 2**63 + 2]


@pytest.mark.parametrize("target", ["milvus", "qdrant", "chroma"])
def test_derived_ids_are_stored_and_the_originals_come_home(
    target: str, embedded_places: dict[str, Place], tmp_path: Path
) -> None:
    home, there = embedded_places["chroma"], embedded_places[target]
    origin = start(home, [{"n": n} for n in range(5)])
    arrived, report = move(
        home, origin, there, tmp_path, ids={"strategy": "uuid5", "namespace": str(uuid.NAMESPACE_URL)}
    )
    assert report.is_proven
    stored = {record_id for page in there.store.iter_ids(arrived) for record_id in page}
    assert set(map(str, stored)) == {str(derived_uuid(f"r{n:02}", uuid.NAMESPACE_URL)) for n in range(5)}
    returned, _ = move(there, arrived, home, tmp_path)
    assert held(home, returned) == held(home, origin)


def test_ids_that_meet_are_refused_before_a_real_store_is_written(
    embedded_places: dict[str, Place], tmp_path: Path
) -> None:
    home, there = embedded_places["chroma"], embedded_places["milvus"]
    origin = start(home, [{"ref": "7"}, {"ref": "007"}])
    before = there.store.list_collections()
    with pytest.raises(SchemaCompatibilityError, match="'string:r00' and 'string:r01' -> 'int:7'"):
        move(home, origin, there, tmp_path, ids={"strategy": "from_field", "field": "ref", "kind": "int"})
    assert there.store.list_collections() == before
