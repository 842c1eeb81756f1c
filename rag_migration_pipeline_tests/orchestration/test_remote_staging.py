"""Runs whose staged records wait on an object store: the same migration, nothing left there, failures that say why."""

import logging
import re
from collections.abc import Callable
from pathlib import Path, PurePath, PurePosixPath

import dagster as dg
import pytest

from rag_migration_pipeline.orchestration.factory import migration_definitions
from rag_migration_pipeline.orchestration.resources import ChromaResource, QdrantResource, StateResource
from rag_migration_pipeline.orchestration.runs import run_job
from rag_migration_pipeline.state import state_folder
from rag_migration_pipeline.upkeep import purge_state
from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.kill.vendor import differences, fill_chroma, make_records, read_chroma, read_edge
from rag_migration_pipeline_tests.orchestration.scene import (
    COLLECTION,
    QUICK,
    REFUSED,
    Bag,
    Scene,
    be_away_until,
    contents,
    failures,
)
from rag_migration_pipeline_tests.servers.s3 import KEY, SECRET, S3Server, use

MakeScene = Callable[..., Scene]
PLACE = "s3://files/staged"


def kind(path: PurePath) -> str:
    """Return a file's name without the run and the number of a batch."""
    return "written" if path.name.startswith("written-") else path.name


def file_names(s3: S3Server) -> dict[str, set[str]]:
    """Return range key -> names of its files, all of one migration."""
    paths = [PurePosixPath(key) for key in s3.keys("files")]
    assert len({path.parts[:2] for path in paths}) <= 1
    assert all(path.parts[0] == "staged" and len(path.parts) == 4 for path in paths)
    return {key: {kind(path) for path in paths if path.parts[2] == key} for key in {path.parts[2] for path in paths}}


def written(s3: S3Server) -> set[str]:
    """Return the names of all files that were ever sent."""
    return {kind(PurePosixPath(path.partition("?")[0])) for method, path in s3.requests if method == "PUT"} - {"files"}


def retries(result: dg.ExecuteInProcessResult) -> int:
    return sum(event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY for event in result.all_events)


def test_a_whole_migration_between_embedded_stores(tmp_path: Path, make_scene: MakeScene, s3: S3Server) -> None:
    records = make_records(12)
    fill_chroma(tmp_path / "source", records, COLLECTION)
    scene = make_scene()
    s3.requests.clear()
    resources: dict[str, object] = {
        "source": ChromaResource(path=str(tmp_path / "source")),
        "target": QdrantResource(path=str(tmp_path / "target"), engine="edge"),
        "state": StateResource(folder=str(scene.state_dir), staging=PLACE),
    }
    definitions = migration_definitions([scene.declaration], resources)
    result = run_job(definitions.resolve_job_def("docs__migrate"), scene.instance)
    assert result.success, failures(result)
    assert differences(records, read_edge(tmp_path / "target", COLLECTION)) == []
    assert differences(records, read_chroma(tmp_path / "source", COLLECTION)) == []
    assert written(s3) == {"extract.arrow", "sightings.arrow", "written"}
    assert s3.keys("files") == []
    assert not (scene.folder.root / "staging").exists()


def test_a_range_costs_as_many_requests_as_the_docs_say(make_scene: MakeScene, s3: S3Server) -> None:
    (figure,) = re.findall(r"about (\d+) for a range of one batch", (ROOT / "docs" / "deployment.md").read_text())
    scene = make_scene(12, staging=PLACE)
    s3.requests.clear()
    assert scene.migrate().success
    assert len(s3.requests) / len(scene.keys) == pytest.approx(int(figure), abs=2)


def test_the_environment_names_the_place_as_well(
    make_scene: MakeScene, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_MIGRATE_STAGING", PLACE)
    scene = make_scene(12, options={**QUICK, "keep_staging": True})
    assert scene.migrate().success
    names = {"extract.arrow", "sightings.arrow", "written"}
    assert file_names(s3) == dict.fromkeys(scene.keys, names)
    assert not (scene.folder.root / "staging").exists()
    purge_state(scene.declaration.migration(Bag(scene.resources)), scene.state_dir)
    assert s3.keys("files") == []


@pytest.mark.parametrize("place", ["", "folder"])
def test_without_an_object_store_files_of_this_machine_are_written(
    make_scene: MakeScene, tmp_path: Path, place: str
) -> None:
    staging = str(tmp_path / place) if place else ""
    scene = make_scene(12, options={**QUICK, "keep_staging": True}, staging=staging)
    assert scene.migrate().success
    root = tmp_path / place / scene.folder.root.name if place else scene.folder.root / "staging"
    assert {path.name for path in root.iterdir()} == set(scene.keys)
    assert (scene.folder.root / "staging").exists() is (place == "")


def code(value: int) -> str:
    return f"n{value}"


def test_a_filter_and_a_mapping_wait_there_too(make_scene: MakeScene, s3: S3Server) -> None:
    mapping = {"field_mapping": {"number": "id", "$id": "old"}, "transforms": {"number": code}}
    options = {**QUICK, "mapping": mapping, "filter": {"kind": "odd"}, "push_down": False, "keep_staging": True}
    local, remote = make_scene(12, options=options), make_scene(12, options=options, staging=PLACE)
    for scene in (local, remote):
        result = scene.migrate()
        assert result.success, failures(result)
    assert contents(remote.target) == contents(local.target)
    assert len(contents(remote.target)) == 6
    names = {"extract.arrow", "sightings.arrow", "selection.npy", "mapped.arrow", "written"}
    assert file_names(s3) == dict.fromkeys(remote.keys, names)
    assert {kind(path) for path in (local.folder.root / "staging").glob("*/*")} == names


@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
def test_a_retried_load_goes_on_after_the_acknowledged_batches(make_scene: MakeScene, s3: S3Server, gone: bool) -> None:
    scene = make_scene(9, options={**QUICK, "range_count": 9, "page_count": 3}, staging=PLACE)
    be_away_until(scene, "r00006", writes=3)

    def lose_files(operation: str, _collection: str | None) -> None:
        if (
            operation == "begin_reading" and scene.target.calls["upsert"] == 3 and gone and s3.keys("files")
        ):  # the second attempt begins
            assert any("/written-" in key for key in s3.keys("files"))
            s3.empty("files")

    scene.source.fault = lose_files
    result = scene.migrate()
    assert result.success, failures(result)
    # Two acknowledged, one refused, the same one again; where all was lost, all is read and written again.
    assert scene.target.calls["upsert"] == (6 if gone else 4)
    assert contents(scene.target) == contents(scene.source)
    assert s3.keys("files") == []


def test_migrations_share_a_place(make_scene: MakeScene, s3: S3Server) -> None:
    first, second = (make_scene(12, staging=PLACE) for _ in range(2))
    first.target.poison["r00007"] = REFUSED
    assert not first.migrate().success
    waiting = s3.keys("files")
    assert waiting
    assert second.migrate().success
    assert s3.keys("files") == waiting
    first.target.poison.clear()
    assert first.migrate().success
    assert s3.keys("files") == []


def test_a_store_that_asks_for_fewer_requests_is_tried_again_by_the_run(make_scene: MakeScene, s3: S3Server) -> None:
    scene = make_scene(12, staging=PLACE)
    s3.be_faulty("SlowDown", "PUT", times=5)  # as often as s3fs tries by itself
    result = scene.migrate()
    assert result.success, failures(result)
    assert retries(result) == 1
    assert contents(scene.target) == contents(scene.source)


def events_of(scene: Scene, result: dg.ExecuteInProcessResult) -> str:
    """Return all that Dagster keeps of a run, as text."""
    return "\n".join(entry.to_json() for entry in scene.instance.all_logs(result.run_id))


def test_a_bucket_that_is_not_there_fails_the_run_at_once(make_scene: MakeScene, s3: S3Server) -> None:
    scene = make_scene(12, staging="s3://nobodys/staged")
    result = scene.migrate()
    assert not result.success
    assert retries(result) == 0
    for said in failures(result).values():
        assert said["error"] == "StagingError"
        assert "there is no bucket nobodys" in said["what"]
        assert "RAG_MIGRATE_STAGING" in said["what to do"]
        assert said["path"].startswith("s3://nobodys/staged/")
    assert contents(scene.source)
    assert scene.target_ids() == []


@pytest.mark.parametrize("wrong", ["endpoint", "kind of place", "keys"])
def test_a_wrong_setting_is_told_without_a_secret(
    make_scene: MakeScene,
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    wrong: str,
) -> None:
    place = f"ftp://{KEY}:{SECRET}@files/staged" if wrong == "kind of place" else PLACE
    scene = make_scene(3, staging=place)
    if wrong == "endpoint":
        with S3Server() as gone:
            url = gone.url
        use(url, monkeypatch)
    elif wrong == "keys":
        s3.be_faulty("AccessDenied", "PUT")
    with caplog.at_level(logging.INFO):
        result = scene.migrate()
    assert not result.success
    assert retries(result) == 0
    (said, *_) = failures(result).values()
    assert said["error"] == "StagingError"
    why = {"endpoint": "nobody answers", "kind of place": "no place", "keys": "access is refused"}
    assert why[wrong] in said["what"]
    assert said["what to do"]
    shown = events_of(scene, result) + caplog.text + "".join(capfd.readouterr())
    assert "StagingError" in shown
    for secret in (KEY, SECRET):
        assert secret not in shown


def test_two_identities_never_meet(tmp_path: Path) -> None:
    places = {str(state_folder(tmp_path, name).staging("k")) for name in ("a" * 32, "b" * 32)}
    assert len(places) == 2
