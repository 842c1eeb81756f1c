"""The ledger: replaced as a whole, written while its holder lives, taken over when it is dead, refused when damaged."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from rag_migration_pipeline import ledger as ledgers
from rag_migration_pipeline.errors import ManifestError, MigrationLockedError, StagingError
from rag_migration_pipeline.ledger import (
    SHOWN_ERRORS,
    STALE_AFTER_S,
    JsonLedger,
    LedgerContents,
    LedgerHead,
    RangeRecord,
    RunState,
)

HEAD = LedgerHead("docs", "0123456789abcdef", "chroma://a:1, collection 'docs'", "qdrant://b:2, collection 'docs'")
WAIT_S = 10.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.json"


@pytest.fixture
def begun(path: Path) -> Iterator[JsonLedger]:
    """A ledger of a run with two ranges; ended afterwards, so that its heart stops."""
    ledger = JsonLedger(path)
    ledger.begin(HEAD)
    ledger.plan("abc123", {"abc123_0": RangeRecord(records=10), "abc123_1": RangeRecord(records=5)})
    yield ledger
    path.parent.mkdir(exist_ok=True)
    ledger.end(RunState.FAILED)


def facts_in(path: Path) -> Any:
    return orjson.loads(path.read_bytes())


def put(path: Path, **changes: Any) -> None:
    path.write_bytes(orjson.dumps({**facts_in(path), **changes}))


def ended(path: Path) -> JsonLedger:
    ledger = JsonLedger(path)
    ledger.begin(HEAD)
    ledger.end(RunState.DONE)
    return ledger


def test_it_says_who_holds_it_until_the_end(path: Path) -> None:
    ledger = JsonLedger(path)
    assert ledger.read() is None
    ledger.begin(HEAD)
    found = facts_in(path)
    assert (found["state"], found["holder"]["pid"], found["holder"]["host"]) == (
        "running",
        os.getpid(),
        socket.gethostname(),
    )
    assert [found[name] for name in ("migration", "identity", "source", "target")] == list(vars(HEAD).values())
    ledger.plan("abc123", {"abc123_0": RangeRecord(records=10)})
    ledger.end(RunState.DONE, {"planned": 10})
    found = facts_in(path)
    assert (found["state"], found["holder"], found["report"]) == ("done", None, {"planned": 10})
    assert found["completed_at"] >= found["started_at"]


def test_what_is_noted_is_read_again(begun: JsonLedger, path: Path) -> None:
    begun.note("abc123_0", state=RunState.RUNNING, attempts=begun.attempts("abc123_0") + 1)
    begun.note("abc123_0", state=RunState.DONE, written=9, rejected=1, digest="d")
    begun.note("abc123_1", error="first")
    begun.note("abc123_1", error="second")
    assert begun.progress() == (1, 2)
    assert (begun.attempts("abc123_0"), begun.attempts("abc123_1"), begun.attempts("unknown")) == (1, 0, 0)
    begun.end(RunState.INTERRUPTED)
    found = JsonLedger(path).read()
    assert found is not None
    assert found.head == HEAD
    assert found.ranges["abc123_0"] == RangeRecord(RunState.DONE, 10, written=9, rejected=1, digest="d", attempts=1)
    assert found.ranges["abc123_1"].errors == ["first", "second"]


def test_only_the_latest_errors_are_kept(begun: JsonLedger) -> None:
    for number in range(SHOWN_ERRORS + 5):
        begun.note("abc123_0", error=f"error {number}")
    begun.end(RunState.FAILED)
    found = begun.read()
    assert found is not None
    assert found.ranges["abc123_0"].errors == [f"error {number}" for number in range(5, SHOWN_ERRORS + 5)]


@pytest.mark.parametrize(
    ("end", "expected"), [("interrupted", "interrupted"), ("failed", "failed"), ("done", "failed")]
)
def test_no_range_runs_after_the_end(begun: JsonLedger, path: Path, end: str, expected: str) -> None:
    begun.note("abc123_0", state=RunState.RUNNING)
    begun.end(RunState(end))
    assert [item["state"] for item in facts_in(path)["ranges"].values()] == [expected, "waiting"]


def test_the_next_run_keeps_what_is_known_of_attempts_and_errors(begun: JsonLedger, path: Path) -> None:
    begun.note("abc123_0", attempts=2, error="gone", duration_s=1.5)
    begun.end(RunState.FAILED)
    again = JsonLedger(path)
    again.begin(HEAD)
    again.plan("def456", {"abc123_0": RangeRecord(RunState.DONE, 10), "def456_0": RangeRecord(records=3)})
    again.end(RunState.DONE)
    ranges = facts_in(path)["ranges"]
    assert set(ranges) == {"abc123_0", "def456_0"}, "ranges of another plan are forgotten"
    assert (ranges["abc123_0"]["attempts"], ranges["abc123_0"]["errors"]) == (2, ["gone"])
    assert ranges["def456_0"]["attempts"] == 0


def test_seconds_of_an_earlier_run_are_told_with_the_records_of_that_run(begun: JsonLedger, path: Path) -> None:
    begun.note("abc123_0", duration_s=1.5, carried=7)
    begun.end(RunState.DONE)
    again = JsonLedger(path)
    again.begin(HEAD)
    again.plan("abc123", {"abc123_0": RangeRecord(records=10), "abc123_1": RangeRecord(records=10)})
    assert again.timings() == {"abc123_0": (7, 1.5)}
    again.end(RunState.DONE)


def test_a_ledger_of_before_carried_records_were_noted_is_read(begun: JsonLedger, path: Path) -> None:
    begun.note("abc123_0", duration_s=1.5)
    begun.end(RunState.DONE)
    facts = facts_in(path)
    for item in facts["ranges"].values():
        del item["carried"]
    path.write_bytes(orjson.dumps(facts))
    again = JsonLedger(path)
    again.begin(HEAD)
    again.plan("abc123", {"abc123_0": RangeRecord(records=10)})
    assert again.timings() == {"abc123_0": (0, 1.5)}, "how fast that was nobody knows"
    again.end(RunState.DONE)


def test_readers_never_see_half_a_file_while_several_threads_write(
    begun: JsonLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "WRITE_EVERY_S", 0.0)
    over = threading.Event()
    seen, failures = [0], []

    def read() -> None:
        while not over.is_set():
            try:
                found = JsonLedger(path).read()
                assert found is not None
                seen[0] += len(found.ranges) >= 2
            except BaseException as error:  # noqa: BLE001  looked at below
                failures.append(error)
                return

    def write(number: int) -> None:
        try:
            for step in range(25):
                begun.note(f"abc123_{number}", written=step, attempts=begun.attempts(f"abc123_{number}") + 1)
        except BaseException as error:  # noqa: BLE001  looked at below
            failures.append(error)

    reader = threading.Thread(target=read, daemon=True)
    writers = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join(6 * WAIT_S)
    over.set()
    reader.join(WAIT_S)
    assert failures == []
    assert not any(thread.is_alive() for thread in (reader, *writers))
    assert seen[0] > 0
    ranges = facts_in(path)["ranges"]
    assert {(item["written"], item["attempts"]) for item in ranges.values()} == {(24, 25)}
    assert list(path.parent.iterdir()) == [path], "no temporary file is left"


def test_notes_are_written_at_most_once_in_a_while(begun: JsonLedger, path: Path) -> None:
    before = path.stat().st_ino
    for number in range(100):
        begun.note("abc123_0", written=number)
    assert path.stat().st_ino == before
    assert begun.progress() == (0, 2)


def test_its_heart_beats_while_nothing_is_noted_and_stops_at_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "HEARTBEAT_S", 0.02)
    ledger = JsonLedger(path)
    ledger.begin(HEAD)
    first = facts_in(path)["updated_at"]
    wait_until(lambda: facts_in(path)["updated_at"] > first)
    ledger.end(RunState.DONE)
    assert "ledger" not in [thread.name for thread in threading.enumerate()]
    last = path.stat().st_ino
    time.sleep(0.1)
    assert path.stat().st_ino == last


def test_its_heart_beats_again_when_the_folder_can_be_written_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ledgers, "HEARTBEAT_S", 0.02)
    ledger = JsonLedger(path)
    ledger.begin(HEAD)
    away = path.parent.with_name("away")
    path.parent.rename(away)
    path.parent.write_text("a file where the folder was")
    with pytest.raises(StagingError):
        ledger.plan("abc123", {})
    wait_until(lambda: "heartbeat failed" in caplog.text)
    path.parent.unlink()
    away.rename(path.parent)
    first = facts_in(path)["updated_at"]
    wait_until(lambda: facts_in(path)["updated_at"] > first)
    ledger.end(RunState.DONE)


def wait_until(is_so: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)


def long_ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_a_holder_on_another_host_is_respected_while_it_lives_and_taken_over_when_it_does_not(path: Path) -> None:
    ended(path)
    holder = {"pid": 7, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00"}
    put(path, state="running", holder=holder, updated_at=long_ago(STALE_AFTER_S / 2))
    with pytest.raises(
        MigrationLockedError, match=r"process 7 on elsewhere since 2026-01-01.*written 60 s ago"
    ) as caught:
        JsonLedger(path).begin(HEAD)
    assert caught.value.facts["holders"] == ["elsewhere"]
    assert facts_in(path)["holder"] == holder
    put(path, updated_at=long_ago(STALE_AFTER_S + 1))
    ended(path)


def test_a_holder_on_this_host_was_killed_or_the_lock_would_have_said_so(path: Path) -> None:
    ended(path)
    put(path, state="running", holder={"pid": 7, "host": socket.gethostname(), "since": ""}, updated_at=long_ago(0))
    ended(path)


@pytest.mark.parametrize("pid", [None, "x", -1, 2**40, "ours"])
def test_a_holder_that_is_no_process_or_another_one_by_now_does_not_live(path: Path, pid: Any) -> None:
    ended(path)
    now, since = datetime.now(UTC).isoformat(), "2001-01-01T00:00:00+00:00"
    number = os.getpid() if pid == "ours" else pid
    put(path, state="running", holder={"pid": number, "host": socket.gethostname(), "since": since})
    put(path, updated_at=long_ago(STALE_AFTER_S + 1))
    assert not read(path).has_living_holder
    put(path, updated_at=now)
    assert read(path).has_living_holder == (pid == "ours"), "its heart beats"


def read(path: Path) -> LedgerContents:
    contents = JsonLedger(path).read()
    assert contents is not None
    return contents


def test_a_ledger_of_another_migration_is_refused_with_both_named(path: Path) -> None:
    ended(path)
    other = LedgerHead("other", "fedcba9876543210", "chroma://c:3, collection 'x'", HEAD.target)
    with pytest.raises(ManifestError, match=r"expected chroma://c:3.*got chroma://a:1") as caught:
        JsonLedger(path).begin(other)
    assert "checkpoint_file" in caught.value.todo


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2},
        {"state": "asleep"},
        {"ranges": []},
        {"ranges": {"a": []}},
        {"ranges": {"a": {"state": "done", "unknown": 1}}},
        {"ranges": {"a": {"state": "unknown"}}},
        {"holder": "somebody"},
        {"updated_at": "yesterday"},
        {"updated_at": None},
    ],
    ids=str,
)
def test_a_damaged_file_is_refused_and_told_what_to_do(path: Path, damage: dict[str, Any]) -> None:
    ended(path)
    put(path, **damage)
    assert_damaged(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "{}", '{"version": 1}'])
def test_a_file_that_is_no_ledger_is_refused(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    assert_damaged(path)


def assert_damaged(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ManifestError, match=r"is damaged: ") as caught:
        JsonLedger(path).begin(HEAD)
    assert "Remove it" in caught.value.todo
    assert path.read_bytes() == before


def test_a_time_without_its_zone_is_one_of_utc(path: Path) -> None:
    ended(path)
    put(path, state="running", holder={"pid": 7, "host": "elsewhere", "since": ""}, updated_at="2026-01-01T00:00:00")
    ended(path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StagingError, match="cannot write or read"):
        JsonLedger(tmp_path / "file" / "ledger.json").begin(HEAD)
    assert "ledger" not in [thread.name for thread in threading.enumerate()]


def test_nothing_is_noted_before_the_beginning(path: Path) -> None:
    with pytest.raises(ManifestError, match="is not begun"):
        JsonLedger(path).note("abc123_0", written=1)
