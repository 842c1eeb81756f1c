"""The commands beside migrating."""

import shutil
from pathlib import Path

import pytest
import yaml

from rag_migration_pipeline import __version__
from rag_migration_pipeline.orchestration.defs_folder import load_defs_folder
from rag_migration_pipeline_tests.cli.running import COUNT, Place, held


@pytest.fixture
def done(migrated_once: Path) -> Place:
    """A folder with a source, a target and state; not to be changed."""
    return Place(migrated_once)


def test_version_and_help_are_quick_to_say(place: Place) -> None:
    assert place.run("--version").out.strip() == __version__
    shown = place.run("--help")
    assert shown.code == 0
    for word in ("plan", "verify", "status", "launch", "replay", "rollback", "stores", "collections", "init", "purge"):
        assert f" {word} " in shown.out
    assert "--install-completion" in shown.out


def test_plan_shows_verdicts_counts_bytes_and_time(place: Place) -> None:
    planned = place.run("plan", *place.pair)
    assert planned.code == 0, planned.err
    for word in ("verdict", "field status", f"{COUNT} in 1 batches", "bytes", "seconds"):
        assert word in planned.out
    assert not (place.root / "edge").exists()
    assert not place.state.exists()


def test_verify_finds_a_change_by_its_id_and_writes_a_report(done: Place, place: Place) -> None:
    shutil.copytree(done.root / "edge", place.root / "edge")
    report = place.root / "report.json"
    found = place.run("verify", *place.pair, "--report", str(report), "--sample", "10")
    assert (found.code, report.exists()) == (0, True)
    assert "records compared: identical" in found.out


def test_status_and_collections_say_what_is_there(done: Place) -> None:
    found = done.run("status", "-o", "json")
    assert [(item["state"], item["ranges"], item["done"], item["written"]) for item in found.facts] == [
        ("done", 4, 4, COUNT)
    ]
    assert "4 of 4" in done.run("status", *done.pair).out
    other = done.run("status", *done.pair, "--filter", "n=1")
    assert (other.code, "was not run with these options" in other.err) == (1, True)
    listed = done.run("collections", done.target, "-o", "yaml")
    assert yaml.safe_load(listed.out) == [
        {"name": "docs", "count": COUNT, "vectors": [{"name": "", "kind": "dense", "dimension": 3, "metric": "l2"}]}
    ]


def test_stores_says_what_answers(done: Place) -> None:
    found = done.run("stores", done.target, "qdrant://127.0.0.1:1/x", "-o", "json")
    assert found.code == 1
    assert [item["is_reachable"] for item in found.facts] == [True, False]
    assert "qdrant-client" in found.facts[0]["packages"]


def test_init_writes_a_file_that_runs(place: Place) -> None:
    assert place.run("init", "m.yaml", *place.pair, "--filter", "status=active").code == 0
    assert place.run("init", "m.yaml").code == 2, "it is there already"
    done = place.run("--config", "m.yaml", "-o", "json")
    assert (done.code, done.facts["vectors_migrated"]) == (0, COUNT // 2)


def test_init_writes_a_component_that_dagster_loads(place: Place) -> None:
    folder = place.root / "defs"
    asked = ("init", "--dagster", *place.pair, "--name", "mine", "--filter", "status=active")
    done = place.run(*asked, RAG_MIGRATION_DEFS=str(folder))
    assert (done.code, done.out.strip()) == (0, f"wrote {folder / 'mine' / 'defs.yaml'}")
    (made,) = load_defs_folder(folder).migrations
    assert (made.declaration.name, made.declaration.options.filter) == ("mine", {"status": "active"})
    assert made.resources["mine_target"].settings().address == place.target.removesuffix("/docs")
    text = (folder / "mine" / "defs.yaml").read_text()
    assert "\n  # range_count: 50000\n" in text
    again = place.run(*asked, "--name", "mine", "--conflict", "skip", RAG_MIGRATION_DEFS=str(folder))
    assert (again.code, "mine/defs.yaml is there already" in again.err) == (2, True)
    assert (folder / "mine" / "defs.yaml").read_text() == text
    assert place.run("init", "elsewhere/other", "--dagster").code == 0
    refused = place.run("init", "secret", "--dagster", "--target", "qdrant://h/docs?api_key=abc")
    assert (refused.code, "the URL of target carries a secret" in refused.err) == (2, True)
    assert not (place.root / "secret").exists()
    assert (place.root / "elsewhere" / "other" / "defs.yaml").exists()


def test_rollback_asks_and_takes_away(done: Place, place: Place) -> None:
    assert place.run(*place.pair, "--quiet").code == 0
    asked = place.run("rollback", *place.pair)
    assert asked.code == 1, "nobody said yes"
    assert len(held(place.target)) == COUNT
    gone = place.run("rollback", *place.pair, "--yes", "-o", "json")
    assert (gone.code, gone.facts["dropped"], gone.facts["deleted"]) == (0, True, COUNT)
    assert place.run("status", "-o", "json").facts == []


def test_purge_removes_state_and_nothing_else(place: Place) -> None:
    assert place.run(*place.pair, "--purge", "--quiet").code == 0
    assert not list(place.state.glob("*/*"))
    assert place.run(*place.pair, "--conflict", "overwrite", "--quiet").code == 0
    assert place.run("purge", "--older-than", "1d", "-o", "json").facts == {"removed": []}
    assert len(place.run("purge", "--older-than", "0s", "-o", "json").facts["removed"]) == 1
    assert not list(place.state.glob("*/*"))
    assert len(held(place.target)) == COUNT
    assert place.run("purge", "--older-than", "soon").code == 2
    refused = place.run("purge", "--older-than", "1d", "--force")
    assert (refused.code, "--force and --older-than exclude each other" in refused.err) == (2, True)


def test_replay_loads_what_was_repaired(place: Place) -> None:
    import pandas as pd

    options = ("--mapping", "{transforms: {status: int}}", "--max-rejected", "1.0")
    wrong = place.run(*place.pair, *options)
    assert wrong.code == 2, "a share of all is no budget"
    options = ("--mapping", "{transforms: {year: int, status: {apply: int}}}", "--max-rejected", str(COUNT))
    assert place.run(*place.pair, *options).code == 4
    (file,) = place.state.glob("*/quarantine/*/*.arrow")
    frame = pd.read_feather(file)
    frame["payload"] = frame["payload"].str.replace('"active"', '"1"').str.replace('"old"', '"0"')
    frame.to_feather(place.root / "repaired.arrow")
    loaded = place.run("replay", "repaired.arrow", *place.pair, *options, "-o", "json")
    assert (loaded.code, loaded.facts["loaded"]) == (0, COUNT), loaded.err
    assert place.run(*place.pair, *options, "--resume", "--quiet").code == 0
    assert {payload["status"] for payload in held(place.target).values()} == {0, 1}
