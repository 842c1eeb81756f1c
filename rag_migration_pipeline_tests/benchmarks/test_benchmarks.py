"""The benchmark runs, measures what it says, and the page about it says what was measured. No timing is asserted."""

import json
import uuid
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main, read_options
from benchmarks.again import IDS, PAYLOAD, PROMISED, RESUME, Again, Run
from benchmarks.data import pages
from benchmarks.document import PAGE, QUOTED, documented, memory_table
from benchmarks.measure import Stopwatch
from benchmarks.report import Case, memory_lines
from benchmarks.variant import DAGSTER, ENGINE, PIPELINED, STEPS, STRAIGHT_LINE, Measured

MIB = 2**20


def measured(copy_s: float, peak_bytes: int = MIB) -> Measured:
    return Measured(
        records=100,
        copy_s=copy_s,
        create_s=0.0,
        searchable_s=0.0,
        start_s=0.0,
        cpu_s=0.0,
        base_bytes=0,
        peak_bytes=peak_bytes,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_small_benchmark_runs_every_variant_and_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "result.json"
    arguments = ["--pairs", "chroma_folder-qdrant_edge", "--sizes", "60", "--dimension", "8", "--range-count", "25"]
    assert main([*arguments, "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert result["command"] == " ".join(["python", "-m", "benchmarks", *arguments])
    (case,) = result["cases"]
    assert list(case["runs"]) == [STRAIGHT_LINE, STEPS, DAGSTER]
    assert case["ratio"][STRAIGHT_LINE] == 1.0
    for runs in case["runs"].values():
        (run,) = runs
        assert run["records"] == 60
        assert run["copy_s"] > 0
        assert run["peak_bytes"] >= run["base_bytes"] > 10 * MIB
    (whole,) = case["runs"][DAGSTER]
    assert set(whole["step_s"]) == {"extract", "load", "validate"}
    assert "Chroma folder → Qdrant edge folder" in capsys.readouterr().out


@pytest.mark.timeout(300)
def test_the_engine_runs_beside_a_pipelined_script(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    arguments = ["--pairs", "qdrant_edge-qdrant_edge", "--sizes", "60", "--dimension", "8", "--range-count", "25"]
    assert main([*arguments, "--variants", f"{PIPELINED},{ENGINE}", "--output", str(output)]) == 0
    (case,) = json.loads(output.read_text())["cases"]
    assert case["ratio_to_pipelined"][PIPELINED] == 1.0
    assert case["ratio_to_pipelined"][ENGINE] > 0
    assert {run["records"] for runs in case["runs"].values() for run in runs} == {60}


@pytest.mark.timeout(300)
def test_runs_are_run_again_and_read_what_they_must(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "again.json"
    arguments = ["--resume", "--incremental", "--pairs", "qdrant_edge-qdrant_edge", "--sizes", "80", "--dimension", "8"]
    assert main([*arguments, "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert result["command"] == " ".join(["python", "-m", "benchmarks", *arguments])
    (case,) = result["cases"]
    found = case["again"]
    assert {way: facts["reads"] for way, facts in found.items()} == {
        RESUME: "40 vectors",
        PAYLOAD: "no vectors",
        IDS: "no vectors",
    }
    assert {way: facts["migrated"] for way, facts in found.items()} == {RESUME: 40, PAYLOAD: 0, IDS: 0}
    for facts in found.values():
        (run,) = facts["runs"]
        assert run["full"]["migrated"] == 80
        assert run["full"]["vectors"] == 2 * 80, "so small a collection is read once to plan and once to copy"
        assert run["second"]["seconds"] > run["second"]["searchable_s"] >= 0
    assert "resumed after SIGKILL at half" in capsys.readouterr().out


def test_a_part_is_the_median_over_rounds_and_told_without_making_searchable_as_well() -> None:
    full = Run(seconds=10.0, searchable_s=6.0, vectors=100, migrated=100)
    seconds = [Run(seconds=part, searchable_s=6.0, vectors=50, migrated=50) for part in (9.0, 8.0, 7.0)]
    facts = Again("chroma", "milvus", 100, {RESUME: [(full, second) for second in seconds]}).to_json()["again"][RESUME]
    assert facts["part"] == 0.8
    assert facts["part_unless_searchable"] == 0.5


def test_only_what_is_wanted_is_run_again() -> None:
    assert read_options(["--resume"]).ways == [RESUME]
    assert read_options(["--incremental"]).ways == [PAYLOAD, IDS]
    options = read_options(["--resume", "--incremental"])
    assert (options.sizes, options.pairs) == ([20_000], [("chroma", "milvus")])


@pytest.mark.parametrize("other", [["--memory"], ["--variants", ENGINE], ["--range-count", "10"]])
def test_running_again_refuses_options_that_it_would_pass_over(
    other: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read_options(["--resume", *other])
    assert "--resume and --incremental take no" in capsys.readouterr().err


def test_memory_is_compared_for_the_engine_as_well() -> None:
    options = read_options(["--memory"])
    assert ENGINE in options.variants
    assert options.sizes == [20_000, 80_000]


def test_records_are_the_same_every_time_and_shaped_as_described() -> None:
    (first, second), (again, _) = pages(1_200, 16), pages(1_200, 16)
    assert len(first.ids) == 1_000
    assert len(second.ids) == 200
    assert first.ids == again.ids
    assert np.array_equal(first.vectors, again.vectors)
    assert first.documents == again.documents
    assert first.payloads == again.payloads
    assert len({*first.ids, *second.ids}) == 1_200
    assert all(str(uuid.UUID(record_id)) == record_id for record_id in first.ids)
    assert first.vectors.dtype == np.float32
    assert not np.allclose(np.linalg.norm(first.vectors, axis=1), 1.0, atol=0.1)
    assert all(300 <= len(text) <= 1_500 for text in first.documents)
    assert {len(payload) for payload in first.payloads} == {8}
    assert {type(value) for value in first.payloads[0].values()} == {str, int, float, bool, list}


def test_a_ratio_is_the_median_over_rounds_of_the_rate_as_a_part_of_the_scripts() -> None:
    runs = {
        STRAIGHT_LINE: [measured(1.0), measured(2.0), measured(3.0)],
        STEPS: [measured(2.0), measured(2.0), measured(30.0)],
    }
    case = Case("chroma", "milvus", 100, runs)
    assert case.ratio(STRAIGHT_LINE) == 1.0
    assert case.ratio(STEPS) == 0.5
    assert case.rate(STEPS) == 50.0


def test_memory_is_told_as_growth_from_the_smallest_to_the_largest_size() -> None:
    cases = [
        Case("chroma", "milvus", 80_000, {DAGSTER: [measured(1.0, 330 * MIB)]}),
        Case("chroma", "milvus", 20_000, {DAGSTER: [measured(1.0, 300 * MIB)]}),
        Case("milvus", "chroma", 20_000, {DAGSTER: [measured(1.0, 300 * MIB)]}),
    ]
    (line,) = memory_lines(cases)
    assert "80,000 records is 1.10 times that of 20,000" in line


def test_the_clock_leaves_out_what_is_told_apart() -> None:
    watch = Stopwatch()
    watch.start()
    with watch.timing("create"):
        sum(range(200_000))
    watch.stop()
    assert 0 <= watch.copy_s < watch.seconds["create"]


def test_by_default_all_nine_pairs_of_the_three_stores_run() -> None:
    options = read_options([])
    assert len(set(options.pairs)) == 9
    assert {kind for pair in options.pairs for kind in pair} == {"chroma", "milvus", "qdrant_edge"}


def test_an_unknown_store_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_options(["--pairs", "chroma-oracle"])
    assert "'chroma-oracle': expected source-target of chroma, chroma_folder, milvus" in capsys.readouterr().err


def test_the_page_quotes_what_was_measured() -> None:
    page = PAGE.read_text()
    assert documented(page) == page, "run: python -m benchmarks.document"


def test_the_quoted_run_reached_the_speed_that_is_promised() -> None:
    """Read from the stored result of the quoted run; nothing is timed here."""
    for name in ("chroma_to_milvus", "milvus_to_chroma"):
        result = json.loads(QUOTED[name].read_text())
        assert result["settings"] == {"dimension": 384, "range_count": 10_000, "rounds": 3}
        (case,) = result["cases"]
        assert f"{case['source']}_to_{case['target']}" == name
        assert case["records"] == 20_000
        assert case["ratio"][STEPS] >= 0.8
        assert case["ratio"][DAGSTER] >= 0.6


@pytest.mark.parametrize("name", ["memory", "engine_memory"])
def test_the_quoted_run_kept_the_memory_that_is_promised(name: str) -> None:
    memory = json.loads(QUOTED[name].read_text())
    assert {case["records"] for case in memory["cases"]} == {20_000, 80_000}
    assert memory["settings"]["range_count"] == 10_000
    growths = [float(line.split("|")[3]) for line in memory_table(memory)[2:]]
    assert len(growths) == len(memory["cases"]) / 2
    assert max(growths) <= 1.2


def test_the_quoted_incremental_runs_kept_what_is_promised() -> None:
    result = json.loads(QUOTED["again"].read_text())
    for case in result["cases"]:
        assert case["records"] == 20_000
        for way in (PAYLOAD, IDS):
            assert case["again"][way]["part"] <= PROMISED[way]
            assert case["again"][way]["reads"] == "no vectors"
