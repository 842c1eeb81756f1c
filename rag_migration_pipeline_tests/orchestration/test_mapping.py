"""A mapping in a Dagster run: the same as in the steps, records staged, what it sets aside in the quarantine file."""

from collections.abc import Callable

from rag_migration_pipeline.arrow import read_batches
from rag_migration_pipeline.errors import StoreRequestError
from rag_migration_pipeline.mapping.hooks import Record
from rag_migration_pipeline.quarantine import read_quarantine
from rag_migration_pipeline_tests.orchestration.scene import COLLECTION, QUICK, Scene, WatchedResource, failures

MakeScene = Callable[..., Scene]


def same(record: Record) -> Record:
    return record


def refuse_seven(value: int) -> str:
    if value == 7:
        raise ValueError("seven")
    return f"n{value}"


MAPPING = {
    "field_mapping": {"number": "id", "$id": "old", "kind": "sort"},
    "transforms": {"number": refuse_seven},
}


def test_a_run_maps_every_record_and_keeps_the_others_as_they_were_read(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "mapping": MAPPING, "max_rejected": 2, "filter": {"kind": "odd"}})
    scene.target.poison["n9"] = StoreRequestError("the server refuses this record.")
    result = scene.migrate()
    assert result.success, failures(result)
    with scene.target.inner.open(create=False) as store:
        found = {i: p for batch in store.scan(COLLECTION) for i, p in zip(batch.ids, batch.payloads, strict=True)}
    assert found == {f"n{n}": {"old": f"r{n:05d}", "sort": "odd"} for n in (1, 3, 5, 11)}
    (path,) = (scene.folder.quarantine(key) for key in scene.keys if scene.folder.quarantine(key).exists())
    stored = read_quarantine(path)
    assert [(item.record_id, item.stage) for item in stored.rejections] == [("r00007", "transform"), ("r00009", "load")]
    assert list(stored.records.payloads) == [{"number": 7, "kind": "odd"}, {"number": 9, "kind": "odd"}]
    assert stored.target_ids == [None, "n9"]


def vectors_by(place: WatchedResource, field: str) -> dict[object, list[float]]:
    with place.inner.open(create=False) as store:
        batches = list(store.scan(COLLECTION))
    pairs = (zip(batch.payloads, batch.dense().values.tolist(), strict=True) for batch in batches)
    return {payload[field]: vector for part in pairs for payload, vector in part}


def test_between_the_ops_waits_only_what_a_users_code_made_and_no_vector_twice(make_scene: MakeScene) -> None:
    declared = {"defaults": {"at": "now"}, "field_mapping": {"number": "n"}, "transforms": {"kind": "lower"}}
    for transforms in ({}, {"number": refuse_seven}):
        mapping = {**declared, "transforms": {**declared["transforms"], **transforms}}
        scene = make_scene(8, options={**QUICK, "mapping": mapping, "max_rejected": 1, "keep_staging": True})
        result = scene.migrate()
        assert result.success, failures(result)
        mapped = sorted(scene.folder.root.glob("staging/*/mapped.arrow"))
        assert len(mapped) == (len(scene.keys) if transforms else 0)
        for path in mapped:
            assert [dict(batch.vectors) for batch in read_batches(path)] == [{}]
        found, given = vectors_by(scene.target, "n"), vectors_by(scene.source, "number")
        assert len(found) == (7 if transforms else 8)
        assert found == {(f"n{n}" if transforms else n): v for n, v in given.items() if not transforms or n != 7}


def test_a_record_that_a_declared_mapping_refuses_is_set_aside_once(make_scene: MakeScene) -> None:
    mapping = {"transforms": {"kind": "int"}, "on_error": "quarantine"}
    scene = make_scene(4, options={**QUICK, "mapping": mapping, "max_rejected": 4})
    result = scene.migrate()
    assert result.success, failures(result)
    stored = [read_quarantine(scene.folder.quarantine(key)) for key in scene.keys]
    assert sorted(str(i.record_id) for part in stored for i in part.rejections) == [f"r{n:05d}" for n in range(4)]
    assert {i.stage for part in stored for i in part.rejections} == {"transform"}


def test_a_mapped_range_is_mapped_again_where_its_file_is_gone(make_scene: MakeScene) -> None:
    scene = make_scene(5, options={**QUICK, "mapping": {"defaults": {"at": "now"}, "per_record": same}})

    def lose(operation: str, _collection: str | None) -> None:
        if operation == "upsert":
            for path in scene.folder.root.glob("staging/*/mapped.arrow"):
                path.unlink()

    scene.target.fault = lose
    result = scene.migrate()
    assert result.success, failures(result)
