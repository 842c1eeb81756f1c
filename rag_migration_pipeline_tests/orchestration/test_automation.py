"""Schedules, freshness, and who is told when a run failed."""

import datetime as dt
import hashlib
import hmac
import http.server
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest

from rag_migration_pipeline.automation_options import Notifier
from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.notifying import Message, post, tell_all, teller_of
from rag_migration_pipeline.orchestration.automation import migration_of
from rag_migration_pipeline.orchestration.config import declare
from rag_migration_pipeline_tests.orchestration.scene import QUICK, REFUSED, Scene, run

MakeScene = Callable[..., Scene]
TOLD: list[Message] = []


def take(message: Message) -> None:
    """Stand for a function of the user's own."""
    TOLD.append(message)


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes what is posted; answers with the status in the path."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((dict(self.headers), body))  # type: ignore[attr-defined]
        self.send_response(int(self.path.strip("/").partition("?")[0]))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Any]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.taken = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url_of(server: Any, status: int) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{status}"


def test_a_schedule_syncs_and_runs_from_the_start(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "schedule": "30 2 * * *", "timezone": "Europe/Berlin"})
    schedule = scene.definitions.resolve_schedule_def("docs__schedule")
    assert schedule.job_name == "docs__sync"
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 2 * * *", "Europe/Berlin")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    with dg.build_schedule_context(instance=scene.instance) as context:
        assert len(schedule.evaluate_tick(context).run_requests or ()) == 1


def test_without_a_schedule_or_a_watch_nothing_runs_by_itself(scene: Scene) -> None:
    definitions = scene.definitions
    assert list(definitions.schedules or ()) == []
    assert list(definitions.sensors or ()) == []


def test_a_time_that_cron_does_not_have_is_named_with_its_line() -> None:
    values = {"name": "m", "source": "memory://a/x", "target": "memory://b/x", "schedule": "61 2 * * *"}
    with pytest.raises(SpecError, match=r"line 4, schedule: cron has no such time: '61 2 \* \* \*'"):
        declare(values, lambda place: 4 if place == ("schedule",) else None)


def test_a_proof_that_is_too_old_is_stale(make_scene: MakeScene) -> None:
    scene = make_scene(12, options={**QUICK, "max_lag_s": 3600})
    (spec,) = [item for item in scene.definitions.resolve_all_asset_specs() if item.key.path[-1] == "target_collection"]
    policy = spec.freshness_policy
    assert policy is not None
    assert policy.fail_window.to_timedelta().total_seconds() == 3600  # type: ignore[attr-defined]


def test_a_declarative_schedule_makes_the_manifest_loads_what_is_missing_and_proves_the_whole(
    make_scene: MakeScene,
) -> None:
    scene = make_scene(12, options={**QUICK, "schedule": "0 2 * * *", "declarative": True})
    definitions = scene.definitions
    assert list(definitions.schedules or ()) == []
    sensor = definitions.resolve_sensor_def("docs__automation")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    before, after = (dt.datetime(2026, 1, 1, hour, tzinfo=dt.UTC) for hour in (1, 3))

    def due(cursor: Any, time: dt.datetime) -> tuple[Any, dict[str, set[str | None]]]:
        found = dg.evaluate_automation_conditions(
            defs=scene.definitions,
            instance=scene.instance,
            asset_selection=dg.AssetSelection.groups("docs"),
            cursor=cursor,
            evaluation_time=time,
        )
        names = ("source_manifest", "loaded_ranges", "target_collection")
        wanted = {name: found.get_requested_partitions(scene.declaration.key(name)) for name in names}
        return found.cursor, {name: keys for name, keys in wanted.items() if keys}

    cursor, asked = due(None, before)
    assert asked == {}
    cursor, asked = due(cursor, after)
    assert asked == {"source_manifest": {None}}
    assert scene.materialize("source_manifest").success
    cursor, asked = due(cursor, after)
    assert asked == {"loaded_ranges": set(scene.keys)}
    assert scene.materialize("loaded_ranges", start=scene.keys[0], stop=scene.keys[-1]).success
    cursor, asked = due(cursor, after)
    assert asked == {"target_collection": {None}}
    assert scene.materialize("target_collection").success
    assert due(cursor, after)[1] == {}


def failed_run(scene: Scene) -> dg.ExecuteInProcessResult:
    scene.target.poison["r00003"] = REFUSED
    result = run(scene, "sync")
    assert not result.success
    return result


def told(scene: Scene, result: dg.ExecuteInProcessResult) -> Any:
    definition = scene.definitions.resolve_sensor_def("docs__failures")
    context = dg.build_run_status_sensor_context(
        sensor_name="docs__failures",
        dagster_event=result.get_job_failure_event() if hasattr(result, "get_job_failure_event") else failure(result),
        dagster_instance=scene.instance,
        dagster_run=scene.instance.get_run_by_id(result.run_id),
    ).for_run_failure()
    return definition(context)


def failure(result: dg.ExecuteInProcessResult) -> Any:
    return next(event for event in result.all_events if event.event_type is dg.DagsterEventType.RUN_FAILURE)


def test_a_failed_run_is_told_with_what_went_wrong_and_what_to_do(
    make_scene: MakeScene, receiver: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOOK_KEY", "s3cret")
    monkeypatch.setenv("DAGSTER_WEBSERVER_URL", "https://dagster.example.com/")
    TOLD.clear()
    notify = [
        {"to": url_of(receiver, 500)},  # nobody is kept from being told by one who cannot be
        {"to": url_of(receiver, 200), "secret_env": "HOOK_KEY"},
        {"to": f"{__name__}:take"},
        {"to": "log"},
    ]
    scene = make_scene(12, options={**QUICK, "notify": notify})
    result = failed_run(scene)
    with caplog.at_level(logging.WARNING, logger="rag_migration_pipeline.notifying"):
        told(scene, result)
    (_, _), (headers, body) = receiver.taken
    message = json.loads(body)
    assert (message["migration"], message["job"], message["run_id"]) == ("docs", "docs__sync", result.run_id)
    (error,) = message["errors"]
    assert error == f"load_range[{scene.keys[0]}]: the store refuses this. Allow it."
    assert message["url"] == f"https://dagster.example.com/runs/{result.run_id}"
    wanted = hmac.new(b"s3cret", headers["X-Rag-Migrate-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Rag-Migrate-Signature"] == f"sha256={wanted}"
    assert [item.run_id for item in TOLD] == [result.run_id]
    assert "Migration 'docs' failed (docs__sync" in caplog.text
    assert "answered 500" in caplog.text
    assert "s3cret" not in caplog.text


def test_the_run_of_an_asset_is_of_its_migration(scene: Scene) -> None:
    result = scene.materialize("source_manifest")
    run_of = scene.instance.get_run_by_id(result.run_id)
    assert run_of is not None
    assert migration_of(run_of) == "docs"


@pytest.mark.parametrize(
    ("notifier", "said"),
    [
        ({"to": "log", "secret_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set"),
        ({"to": "no.such.module:function"}, "there is no function no.such.module:function"),
        ({"to": "json:missing"}, "there is no function json:missing"),
        ({"to": "json:__name__"}, "json:__name__ is no function"),
    ],
)
def test_a_way_of_telling_that_cannot_work_is_refused_at_load(notifier: dict[str, str], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        teller_of(Notifier(**notifier))


def test_slack_without_its_library_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "slack_sdk", None)
    with pytest.raises(SpecError, match="pip install"):
        teller_of(Notifier(to="slack", channel="#data", secret_env="TOKEN"), {"TOKEN": "x"})


def test_an_answer_that_is_no_success_and_no_answer_at_all_are_errors_without_the_query(receiver: Any) -> None:
    with pytest.raises(OSError, match="answered 404") as refused:
        post(url_of(receiver, 404) + "?key=hidden", b"{}")
    assert "hidden" not in str(refused.value)
    with pytest.raises(OSError, match="could not be reached"):
        post("http://127.0.0.1:9/", b"{}")


def test_what_one_way_raises_is_returned_and_the_others_go_on() -> None:
    TOLD.clear()
    failed = tell_all([lambda _: 1 / 0, take], Message("m", "m__sync", "1234", ("x: y",)))  # type: ignore[arg-type, return-value]
    assert [type(error) for error in failed] == [ZeroDivisionError]
    assert len(TOLD) == 1
