"""A range is validated by what its load kept; the staged records are asked where that is not enough."""

from collections.abc import Callable
from typing import Any

import pytest

from rag_migration_pipeline.errors import StoreRequestError
from rag_migration_pipeline.orchestration import ops
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline_tests.orchestration.scene import COLLECTION, QUICK, Scene, be_away_until, failures, records

MakeScene = Callable[..., Scene]

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "filtered": {"filter": {"number": {"$gt": 2}}, "push_down": False},
    "skipping": {"conflict": "skip"},
    "mapped": {"mapping": {"field_mapping": {"number": "n"}}},
    "mapped by a function": {"mapping": {"transforms": {"number": str}}},
    "counted": {"validate_target": "counts"},
}


@pytest.fixture
def without_staged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a validation that reads staged records again fail."""

    def refuse(*_: object) -> None:
        raise AssertionError("the staged records were read again")

    monkeypatch.setattr(ops, "_compared", refuse)


@pytest.mark.usefixtures("without_staged")
@pytest.mark.parametrize("name", OPTIONS)
def test_staged_records_are_read_once(make_scene: MakeScene, name: str) -> None:
    scene = make_scene(12, options={**QUICK, "page_count": 2, **OPTIONS[name]})
    if name == "skipping":
        with scene.target.inner.open(create=True) as store:
            store.create(scene.source.inner.open(create=False).spec(COLLECTION))
            store.upsert(COLLECTION, records(3))
    result = scene.migrate()
    assert result.success, failures(result)
    counts = [read_receipt(path).counts for path in sorted(scene.folder.receipts.rglob("*.arrow"))]
    total = {name: sum(item[name] for item in counts) for name in ("written", "filtered", "skipped", "compared")}
    left_out = 3 if name in ("filtered", "skipping") else 0
    assert total["written"] == 12 - left_out
    assert total["compared"] == (0 if name == "counted" else 12 - left_out)
    assert total["filtered"] + total["skipped"] == left_out


@pytest.mark.usefixtures("without_staged")
def test_a_retried_load_keeps_what_it_wrote_before(make_scene: MakeScene) -> None:
    scene = make_scene(9, options={**QUICK, "range_count": 9, "page_count": 3})
    be_away_until(scene, "r00006", writes=3)
    assert scene.migrate().success
    (path,) = scene.folder.receipts.rglob("*.arrow")
    assert read_receipt(path).counts["compared"] == 9


def test_what_was_set_aside_is_accounted_for_with_the_staged_records(make_scene: MakeScene) -> None:
    scene = make_scene(9, options={**QUICK, "page_count": 3, "max_rejected": 1})
    scene.target.poison["r00006"] = StoreRequestError("the server refuses this record.")
    assert scene.migrate().success
    counts = [read_receipt(path).counts for path in sorted(scene.folder.receipts.rglob("*.arrow"))]
    assert [(item["written"], item["rejected"]) for item in counts] == [(5, 0), (3, 1)]
