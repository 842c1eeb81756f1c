"""A mapping in a Dagster run: the same as in the steps, records staged, what it sets aside in the quarantine file."""

from collections.abc import Callable

from rag_migration_pipeline.errors import StoreRequestError
from rag_migration_pipeline.quarantine import read_quarantine
from rag_migration_pipeline_tests.orchestration.scene import COLLECTION, QUICK, Scene, failures

MakeScene = Callable[..., Scene]


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


def test_a_mapped_range_is_mapped_again_where_its_file_is_gone(make_scene: MakeScene) -> None:
    scene = make_scene(5, options={**QUICK, "mapping": {"defaults": {"at": "now"}}})

    def lose(operation: str, _collection: str | None) -> None:
        if operation == "upsert":
            for path in scene.folder.root.glob("staging/*/mapped.arrow"):
                path.unlink()

    scene.target.fault = lose
    result = scene.migrate()
    assert result.success, failures(result)
