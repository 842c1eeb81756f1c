"""``launch`` and ``status --dagster`` say clearly what is wrong, and end with the code that the run deserves."""

import json
import signal
import subprocess
import sys
from itertools import chain, repeat
from pathlib import Path
from typing import Any, get_args

import pytest

from rag_migration_pipeline.cli.launching import TEXTS
from rag_migration_pipeline.orchestration.run_options import RunOptions
from rag_migration_pipeline_tests.cli import webserver as fake
from rag_migration_pipeline_tests.cli.running import TIMEOUT_S, Done, Place
from rag_migration_pipeline_tests.cli.webserver import RUN_ID, Webserver, dagster_with

LAUNCH = ("launch", "--name", "docs")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def ask(place: Place, server: Webserver, *arguments: str) -> Done:
    with server.running():
        return place.run(*arguments, DAGSTER_WEBSERVER_URL=server.url)


@pytest.mark.parametrize("command", [LAUNCH, ("status", "--dagster")])
def test_nobody_at_the_url_is_said(place: Place, command: tuple[str, ...]) -> None:
    done = place.run(*command, "--url", "http://127.0.0.1:1", "-o", "json")
    assert (done.code, done.facts["error"]["type"]) == (1, "DagsterUnavailableError")
    assert "nobody answers at http://127.0.0.1:1" in done.err
    assert "--url" in done.err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, "<html>a shop</html>"), "is no webserver of Dagster: it answers '<html>a shop</html>'"),
        ((400, {"errors": [{"message": "Cannot query field 'x'"}]}), "answered with errors: Cannot query field 'x'"),
        ((401, "who are you?"), "answered 401"),
        ((503, "soon"), "answered 503"),
        (
            {"workspaceOrError": {"__typename": "PythonError", "message": "the workspace broke"}},
            "answered workspaceOrError with PythonError: the workspace broke",
        ),
    ],
)
def test_wrong_answers_are_said(place: Place, answer: Any, said: str) -> None:
    done = ask(place, Webserver({"workspaceOrError": answer}), *LAUNCH)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("arguments", "entries", "code", "said"),
    [
        (("--name", "nope"), [fake.location("docs", "more")], 2, "named 'nope'; those that there are: docs, more."),
        ((), [fake.location("docs", "more")], 2, "none is named; those that there are: docs, more."),
        (("--name", "nope"), [fake.location()], 2, "those that there are: none."),
        (
            ("--name", "nope"),
            [fake.location("docs"), fake.BROKEN],
            1,
            "there are: docs. Not loaded is code location other_location: SpecError: migrations.yaml:3: unknown key",
        ),
    ],
)
def test_a_migration_that_is_not_there_is_named_with_those_that_are(
    place: Place, arguments: tuple[str, ...], entries: list[Any], code: int, said: str
) -> None:
    done = ask(place, Webserver({"workspaceOrError": fake.workspace(*entries)}), "launch", *arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "page_count"), "--set: expected name=value, got 'page_count'"),
        (("--set", "page_count=1", "--set", "page_count=2"), "page_count is given twice"),
        (("--set", "page_count={"), "'{' is no value"),
        (("--url", "localhost:3000"), "expected an address such as http://localhost:3000, got 'localhost:3000'"),
        (("--job", "nothing"), "'nothing' is not one of"),
        (("--filter", "n=1"), "No such option"),
    ],
)
def test_wrong_usage_is_2(place: Place, arguments: tuple[str, ...], said: str) -> None:
    done = place.run(*LAUNCH, *arguments)
    assert done.code == 2
    assert said in " ".join(done.err.replace("│", " ").split())


def test_an_address_without_dagster_is_refused(place: Place) -> None:
    done = place.run("status", "--url", "http://localhost:3000")
    assert (done.code, "rag-migrate status --dagster --url" in done.err) == (2, True)
    assert place.run("status", DAGSTER_WEBSERVER_URL="http://localhost:3000").code == 0


def test_dagster_knows_migrations_by_name_alone(place: Place) -> None:
    done = place.run("status", "--dagster", "--source", "memory://a")
    assert (done.code, "--dagster with --source" in done.err) == (2, True)


def test_options_that_dagster_refuses_are_2(place: Place) -> None:
    refused = {
        "__typename": "RunConfigValidationInvalid",
        "errors": [{"message": 'Received unexpected config entry "pages".'}],
    }
    done = ask(place, dagster_with(launchRun={"launchRun": refused}), *LAUNCH, "--set", "pages=1")
    assert (done.code, 'unexpected config entry "pages"' in done.err) == (2, True)


def test_without_following_it_says_the_run_and_has_passed_the_options_on(place: Place) -> None:
    server = dagster_with(status="QUEUED")
    options = ("--set", "page_count=500", "--set", "max_rejected=10", "--set", "dry_run=true")
    options += ("--set", "only=year>=2024,kind=even", "--set", "conflict=skip")
    done = ask(place, server, "launch", *options, "--job", "migrate", "--no-follow", "-o", "json")
    assert (done.code, done.facts["run_id"], done.facts["status"]) == (0, RUN_ID, "QUEUED")
    assert done.facts["url"] == f"{server.url}/runs/{RUN_ID}"
    (asked,) = server.asked["launchRun"]
    assert asked["params"]["selector"]["jobName"] == "docs__migrate"
    given = {"page_count": 500, "max_rejected": "10", "dry_run": True}
    given |= {"only": "year>=2024,kind=even", "conflict": "skip"}
    assert asked["params"]["runConfigData"] == {"resources": {"docs_run": {"config": given}}}
    assert "logsForRun" not in server.asked


def test_the_sample_of_verify_is_its_own_option(place: Place) -> None:
    server = dagster_with()
    assert ask(place, server, *LAUNCH, "--job", "verify", "--set", "sample=7").code == 0
    assert server.asked["launchRun"][0]["params"]["runConfigData"] == {"ops": {"verify": {"config": {"sample": 7}}}}


def test_options_that_dagster_wants_as_texts_are_known() -> None:
    texts = {name for name, item in RunOptions.model_fields.items() if str in get_args(item.annotation)}
    assert texts == set(TEXTS)


def test_a_sync_of_some_ranges_counts_the_others_as_done(place: Place) -> None:
    carried = fake.materialized("loaded_ranges", "validate_range[p_3]", "p_3", records=10)
    found = (*fake.planned("p_3", ranges=4), carried, fake.proven(rejected=0))
    done = ask(place, dagster_with(*found), *LAUNCH, "-o", "json")
    assert done.code == 0, done.err
    facts = [done.facts[name] for name in ("ranges", "ranges_done", "ranges_carried", "proven", "records")]
    assert facts == [4, 4, 1, True, 40]
    assert "4 of 4 ranges" not in ask(place, dagster_with(*found), *LAUNCH, "-q").err


def test_a_run_that_left_records_pending_says_so_and_is_no_failure(place: Place) -> None:
    facts = {"records_carried": 6, "records_pending": 34, "ranges_pending": 3, "proven": False}
    observed = {
        **fake.materialized("target_collection", "prove_collection", **facts),
        "__typename": "ObservationEvent",
        "eventType": "ASSET_OBSERVATION",
    }
    whole = fake.materialized("loaded_ranges", "validate_range[p_0]", "p_0", records=6)
    server = dagster_with(*fake.planned("p_0", "p_1", "p_2", "p_3", ranges=4), whole, observed)
    done = ask(place, server, *LAUNCH, "-o", "json")
    assert done.code == 0, done.err
    said = [done.facts[name] for name in ("ranges", "ranges_done", "ranges_carried", "found")]
    assert said == [4, 1, 1, {name.replace("_", " "): value for name, value in facts.items()}]
    assert "proven" not in done.facts


def test_a_range_that_failed_is_not_done(place: Place) -> None:
    found = (*fake.planned("p_1", "p_2", ranges=4), fake.failed("StoreUnavailableError", "load_range[p_1]"))
    carried = fake.materialized("loaded_ranges", "validate_range[p_2]", "p_2", records=10)
    done = ask(place, dagster_with(*found, carried, status="FAILURE"), *LAUNCH, "-o", "json")
    assert (done.code, done.facts["ranges_done"], done.facts["exit_code"]) == (1, 3, 1)
    told = {"step": "load_range[p_1]", "type": "StoreUnavailableError"}
    assert done.facts["errors"] == [{**told, "message": "it went wrong.", "todo": "Put it right."}]
    assert "load_range[p_1]: StoreUnavailableError: it went wrong. Put it right." in done.err


@pytest.mark.parametrize(
    ("found", "status", "code"),
    [
        ([fake.proven(rejected=3)], "SUCCESS", 4),
        ([fake.failed("SpecError")], "FAILURE", 2),
        ([fake.failed("SchemaCompatibilityError")], "FAILURE", 3),
        ([fake.failed("RecordRejectedError", "load_range[p_1]")], "FAILURE", 4),
        ([fake.failed("ValidationError"), fake.failed("StoreTimeoutError", "load_range[p_1]")], "FAILURE", 5),
        ([fake.failed("ZeroDivisionError")], "FAILURE", 1),
        ([], "FAILURE", 1),
        ([], "CANCELED", 1),
    ],
)
def test_the_exit_code_says_how_the_run_ended(place: Place, found: list[Any], status: str, code: int) -> None:
    done = ask(place, dagster_with(*found, status=status), *LAUNCH, "-o", "json")
    assert (done.code, done.facts["exit_code"], done.facts["status"]) == (code, code, status), done.err
    assert status == "SUCCESS" or len(done.err.splitlines()) > 2, "and says why"


def test_a_webserver_that_is_away_for_a_while_is_waited_for(place: Place) -> None:
    answers = chain([fake.run("STARTED"), (503, "soon")], repeat(fake.run("SUCCESS")))
    done = ask(place, dagster_with(fake.proven(rejected=0), runOrError=lambda _: next(answers)), *LAUNCH, "-o", "json")
    assert (done.code, done.facts["status"]) == (0, "SUCCESS")


def test_ctrl_c_leaves_the_run_going_and_says_so(place: Place) -> None:
    with dagster_with(status="STARTED").running() as server:
        process = place.start(*LAUNCH, "-o", "json", DAGSTER_WEBSERVER_URL=server.url)
        try:
            assert process.stderr is not None
            assert any("started" in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
    assert process.returncode == 130
    assert f"The run goes on; stop it there with Terminate: {server.url}/runs/{RUN_ID}" in err
    assert json.loads(out)["run_id"] == RUN_ID
    assert len(server.asked["launchRun"]) == 1


def test_status_tells_ranges_that_only_a_run_knows_of(place: Place) -> None:
    """Runs of jobs leave partitions neither failed nor in progress: their steps and checks say it."""
    keys = [f"p_{number}" for number in range(6)]
    partitions = {"materializedPartitions": keys[:4], "unmaterializedPartitions": keys[4:]}
    carried = [{"partition": key, "timestamp": "1796037600000"} for key in ("p_1", "p_2")]
    made = {
        "runId": RUN_ID,
        "timestamp": "1796037600000",
        "metadataEntries": [{"label": "dagster/row_count", "intRepr": "60"}],
    }
    steps = {
        "plan_changes": "SUCCESS",
        "load_range[p_4]": "FAILURE",
        "load_range[p_1]": "FAILURE",  # after an earlier run had carried it
        "validate_range[p_0]": "SUCCESS",
        "extract_range[p_3]": "IN_PROGRESS",
    }
    last = fake.run("STARTED")["runOrError"] | {"endTime": None}
    checks = [
        ("p_0", "SUCCEEDED", "ERROR"),
        ("p_0", "FAILED", "ERROR"),  # an earlier one
        ("p_2", "FAILED", "ERROR"),
        ("p_3", "FAILED", "WARN"),
    ]

    def asset(query: str) -> Any:
        if "assetPartitionStatuses" in query:
            found: Any = {"assetPartitionStatuses": partitions}
        elif "latestMaterializationByPartition" in query:
            found = {"latestMaterializationByPartition": carried}
        else:
            found = {"assetMaterializations": [made], "assetChecksOrError": {}}
        return {"assetNodeOrError": {"__typename": "AssetNode", **found}}

    told = [
        {"partition": key, "status": status, "timestamp": 1796037610.0, "evaluation": {"severity": severity}}
        for key, status, severity in checks
    ]
    server = dagster_with(
        assetNodeOrError=asset,
        assetCheckExecutions={"assetCheckExecutions": told},
        runsOrError={"runsOrError": {"__typename": "Runs", "results": [last]}},
        runOrError={
            "runOrError": {"__typename": "Run", "stepStats": [{"stepKey": k, "status": v} for k, v in steps.items()]}
        },
    )
    done = ask(place, server, "status", "--dagster", "-o", "json")
    (found,) = done.facts
    numbers = [found[name] for name in ("ranges", "done", "failed", "missing", "in_progress", "records")]
    assert (numbers, found["failed_ranges"]) == ([6, 1, 3, 1, 1, 60], ["p_1", "p_2", "p_4"])
    assert found["runs"][0]["duration_seconds"] is None


def test_dagster_is_not_imported(place: Place) -> None:
    program = (
        "import sys\n"
        "from rag_migration_pipeline.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end:\n"
        "    print(end.code, 'dagster' in sys.modules, 'pandas' in sys.modules, file=sys.stderr)\n"
    )
    with dagster_with(fake.proven(rejected=0)).running() as server:
        command = [sys.executable, "-c", program, *LAUNCH, "--url", server.url]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S, env=place.environment()
        )
    assert done.stderr.splitlines()[-1] == "0 False False"
