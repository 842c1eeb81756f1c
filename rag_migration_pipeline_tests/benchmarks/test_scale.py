"""What is measured of growth is what it says, and docs/scale.md quotes it. No timing is asserted."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.scale import command_of, main, read_options, slopes
from benchmarks.scale_browser import spread
from benchmarks.scale_page import PAGE, QUOTED, documented, is_kept
from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.servers.postgres import find_postgres

CHROMIUM = shutil.which("chromium")


def measured(tmp_path: Path, *arguments: str) -> dict[str, object]:
    output = tmp_path / "result.json"
    assert main([*arguments, "--output", str(output)]) == 0
    found: dict[str, object] = json.loads(output.read_text())
    assert found["command"] == " ".join(["python", "-m", "benchmarks.scale", *arguments])
    return found


def test_partitions_are_registered_and_counted(tmp_path: Path) -> None:
    assert measured(tmp_path, "partitions", "--ranges", "30")["partitions"] == 30


@pytest.mark.slow
def test_what_a_range_costs_is_the_difference_of_two_runs(tmp_path: Path) -> None:
    found = measured(tmp_path, "overhead", "--sizes", "1,3", "--range-count", "2")
    per_range = found["per_range"]
    assert isinstance(per_range, dict)
    assert per_range["dagster"]["event_rows"] == 48, "as docs/scale.md says"
    assert per_range["dagster"]["staged_bytes"] > 0
    assert per_range["engine"]["state_bytes"] > 0
    assert slopes([{"a": 1.0}, {"a": 7.0}], (2, 4)) == {"a": 3.0}


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(find_postgres() is None, reason="there is no PostgreSQL: apt-get install postgresql")
def test_events_are_counted_in_postgresql_as_in_files(tmp_path: Path) -> None:
    found = measured(tmp_path, "overhead", "--sizes", "1,3", "--range-count", "2", "--storage", "postgresql")
    per_range = found["per_range"]
    assert isinstance(per_range, dict)
    assert per_range["dagster"]["event_rows"] == 48, "as docs/scale.md says"
    assert per_range["dagster"]["server_cpu_s"] > 0
    assert per_range["dagster"]["instance_bytes"] > 0


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
def test_pages_of_many_ranges_count_every_state(tmp_path: Path) -> None:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make venv")
    assert command_of("page", ["page", "--screenshots", "x"]) == "python -m benchmarks.scale page"
    found = measured(tmp_path, "page", "--ranges", "40")
    assert found["states"] == {"Materialized": 24, "Failed": 2, "Missing": 14}
    assert found["first"].keys() == found["second"].keys() == {"partitions", "overview"}  # type: ignore[attr-defined]


def test_states_are_spread_over_all_ranges() -> None:
    states = {"Materialized": 60, "Failed": 5, "Missing": 35}
    found = spread(states)
    assert Counter(found) == states
    assert set(found[:20]) == set(found[-20:]) == states.keys()


@pytest.mark.parametrize("kind", ["memory", "qdrant_edge"])
def test_engine_and_dagster_carry_the_same(tmp_path: Path, kind: str) -> None:
    found = measured(tmp_path, "speed", "--records", "40", "--range-count", "20", "--dimension", "4", "--kind", kind)
    assert found["records"] == 40
    assert isinstance(found["ratio"], float)


def test_a_detect_job_over_unchanged_ids_finds_nothing(tmp_path: Path) -> None:
    found = measured(tmp_path, "detect", "--records", "40", "--range-count", "20", "--kind", "memory", "--short")
    assert found["records"] == 40
    calls = found["calls"]
    assert isinstance(calls, dict)
    assert calls["target"] == {}, "as docs/scale.md says"
    assert calls["source"].keys() == {"iter_ids", "count"}
    assert calls["source"]["iter_ids"] == 2


def test_by_default_what_was_promised_is_measured() -> None:
    options, chosen, _ = read_options([])
    assert chosen == ["partitions", "overhead", "speed", "detect", "page"]
    assert options["partitions"].ranges == options["page"].ranges == 10_000
    assert (options["speed"].records, options["speed"].range_count) == (200_000, 50_000)


def test_a_command_is_told_without_the_file_of_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_of("speed", ["speed", "--output", "x", "--records", "4"]) == (
        "python -m benchmarks.scale speed --records 4"
    )
    for wrong in (
        ["--output", "x"],
        ["overhead", "--sizes", "5,5"],
        ["overhead", "--sizes", "5"],
        ["speed", "--kind", "milvus"],
        ["--storage", "postgresql"],
    ):
        with pytest.raises(SystemExit):
            read_options(wrong)
    assert "--output is for one measurement" in capsys.readouterr().err


def test_the_page_quotes_what_was_measured() -> None:
    page = PAGE.read_text()
    assert documented(page) == page, "run: python -m benchmarks.scale_page"


def test_the_page_says_whether_a_promise_was_kept() -> None:
    assert (is_kept(True), is_kept(False)) == ("kept", "**not kept**")
    assert len(QUOTED) == 7
    assert "docs/scale.md" in (ROOT / "README.md").read_text()
