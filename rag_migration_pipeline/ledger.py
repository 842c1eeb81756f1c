"""The ledger of a run without Dagster: which range is how far, for people to read and for a resumed run to say.

Belongs here: what a ledger knows, the protocol behind which it can be kept elsewhere, the JSON file. Does not belong
here: whether a range is proven (its receipt says so), who may run (``state.py`` holds the lock of this host).

    {
      "version": 1, "migration": "docs", "identity": "..", "source": "..", "target": "..",
      "state": "running", "holder": {"pid": 7, "host": "a", "since": ".."}, "updated_at": "..",
      "ranges": {"d1a2b3_000000": {"state": "done", "records": 250, "written": 250, "digest": "..", "attempts": 1}}
    }

The file is replaced as a whole, at most once a second while ranges end, and every twenty seconds in any case, so that
its age tells another host whether its holder lives. What it says of ranges may be a second behind their receipts.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import orjson

from rag_migration_pipeline.errors import ManifestError, MigrationLockedError, StagingError
from rag_migration_pipeline.state_files import staging_errors, write_content

_log = logging.getLogger(__name__)

VERSION = 1
WRITE_EVERY_S = 1.0
HEARTBEAT_S = 20.0
STALE_AFTER_S = 120.0
"""A ledger that was not written for so long has no living holder, whichever host it was on."""

SHOWN_ERRORS = 20


class RunState(StrEnum):
    """How far a run, or a range, is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass
class RangeRecord:
    """What a ledger knows of a range.

    Attributes:
        records: Records of it that were planned.
        written: Records of it that are in the target, as its receipt says.
        digest: Of what the target was expected to hold; see `receipts.Receipt.digest`.
        attempts: How often it was begun.
        duration_s: Seconds of the last attempt.
        carried: Records that were to be carried in that time; fewer than it has where a part was done again.
        errors: Why it failed, the latest last.
    """

    state: RunState = RunState.WAITING
    records: int = 0
    written: int = 0
    filtered: int = 0
    skipped: int = 0
    rejected: int = 0
    digest: str = ""
    attempts: int = 0
    duration_s: float = 0.0
    carried: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LedgerHead:
    """What a ledger is of."""

    migration: str
    identity: str
    source: str
    target: str


@dataclass
class LedgerContents:
    """All that a ledger says.

    Attributes:
        holder: Process, host, and since when; None where nobody runs.
        plan: The first part of the ranges' keys, empty before there is a plan.
        report: Counts of the last proof.
    """

    head: LedgerHead
    state: RunState = RunState.WAITING
    holder: dict[str, Any] | None = None
    started_at: str = ""
    updated_at: str = ""
    completed_at: str = ""
    plan: str = ""
    ranges: dict[str, RangeRecord] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def age_s(self) -> float:
        """Seconds since it was written."""
        return (datetime.now(UTC) - _time(self.updated_at)).total_seconds()

    @property
    def has_living_holder(self) -> bool:
        """Whether its holder lives: on this host its process, elsewhere by the age of what it wrote."""
        if self.holder is None:
            return False
        if self.holder.get("host") != socket.gethostname():
            return self.age_s < STALE_AFTER_S
        import psutil

        try:
            begun = psutil.Process(int(self.holder["pid"])).create_time()
            is_another = begun > _time(self.holder["since"]).timestamp() + 1.0  # that has got its number since
        except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
            return False
        return not is_another or self.age_s < STALE_AFTER_S


class Ledger(Protocol):
    """Where a run notes how far it is; one process at a time writes, with several threads."""

    def read(self) -> LedgerContents | None:
        """Return what was noted last, or None where nothing was."""

    def begin(self, head: LedgerHead) -> None:
        """Begin a run.

        Raises:
            MigrationLockedError: Somebody elsewhere holds the ledger, and lives.
            ManifestError: It is another migration's, or damaged.
        """

    def plan(self, plan: str, ranges: Mapping[str, RangeRecord]) -> None:
        """Note all ranges; what is known of them from before is kept where nothing newer is given."""

    def note(self, key: str, **facts: Any) -> None:
        """Note facts of a range: fields of `RangeRecord`; ``error`` is added to the errors."""

    def progress(self) -> tuple[int, int]:
        """Return how many ranges are done, and how many there are."""

    def attempts(self, key: str) -> int:
        """Return how often a range was begun."""

    def timings(self) -> dict[str, tuple[int, float]]:
        """Return records and seconds of each range's last attempt, where they were noted."""

    def end(self, state: RunState, report: Mapping[str, Any] | None = None) -> None:
        """End the run; nobody holds the ledger then."""


class JsonLedger:
    """A ledger in a JSON file.

    Raises:
        StagingError: From every method: the file cannot be written or read.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is written yet."""
        self.path = path
        self._contents: LedgerContents | None = None
        self._turn = threading.RLock()
        self._written_s = 0.0
        self._over = threading.Event()
        self._heart: threading.Thread | None = None

    def read(self) -> LedgerContents | None:
        """See `Ledger.read`."""
        if not self.path.exists():
            return None
        with staging_errors(self.path):
            text = self.path.read_bytes()
        try:
            return _contents_of(orjson.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestError(
                f"the ledger {self.path} is damaged: {error}.",
                todo="Remove it: the migration's state knows which ranges are done.",
            ) from error

    def begin(self, head: LedgerHead) -> None:
        """See `Ledger.begin`."""
        before = self.read()
        if before is not None:
            self._refuse_foreign(before, head)
        now = _now()
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
        ranges = before.ranges if before is not None else {}
        self._contents = LedgerContents(head, RunState.RUNNING, holder, started_at=now, ranges=ranges)
        self._over.clear()
        self._write()
        self._heart = threading.Thread(target=self._beat, name="ledger", daemon=True)
        self._heart.start()

    def _refuse_foreign(self, before: LedgerContents, head: LedgerHead) -> None:
        if before.head.identity != head.identity:
            raise ManifestError(
                f"the ledger {self.path} is of another migration: expected {_named(head)}, got {_named(before.head)}.",
                todo="Name another checkpoint_file, or remove that one.",
            )
        if before.state is not RunState.RUNNING or before.holder is None:
            return
        # On this host the lock of the state folder has said already that nobody runs.
        age_s = before.age_s
        if before.holder.get("host") != socket.gethostname() and age_s < STALE_AFTER_S:
            raise MigrationLockedError(
                f"the migration is run by process {before.holder.get('pid')} on {before.holder.get('host')} since "
                f"{before.holder.get('since')} (ledger {self.path}, written {age_s:.0f} s ago).",
                todo=f"Wait for it to end; a holder that does not write for {STALE_AFTER_S:.0f} s is taken over.",
                holders=[str(before.holder.get("host"))],
            )

    def plan(self, plan: str, ranges: Mapping[str, RangeRecord]) -> None:
        """See `Ledger.plan`."""
        with self._turn:
            contents = self._held()
            known = contents.ranges
            contents.plan = plan
            contents.ranges = {}
            for key, record in ranges.items():
                earlier = known.get(key)
                if earlier is not None:
                    record.attempts, record.errors = earlier.attempts, earlier.errors
                    record.duration_s, record.carried = earlier.duration_s, earlier.carried
                contents.ranges[key] = record
            self._write()

    def note(self, key: str, **facts: Any) -> None:
        """See `Ledger.note`."""
        with self._turn:
            record = self._held().ranges.setdefault(key, RangeRecord())
            error = facts.pop("error", None)
            for name, value in facts.items():
                setattr(record, name, value)
            if error is not None:
                record.errors = [*record.errors, error][-SHOWN_ERRORS:]
            if time.monotonic() - self._written_s >= WRITE_EVERY_S:
                self._write()

    def progress(self) -> tuple[int, int]:
        """See `Ledger.progress`."""
        with self._turn:
            ranges = self._held().ranges.values()
            return sum(record.state is RunState.DONE for record in ranges), len(ranges)

    def attempts(self, key: str) -> int:
        """See `Ledger.attempts`."""
        with self._turn:
            record = self._held().ranges.get(key)
            return 0 if record is None else record.attempts

    def timings(self) -> dict[str, tuple[int, float]]:
        """See `Ledger.timings`."""
        with self._turn:
            ranges = self._held().ranges.items()
            return {key: (record.carried, record.duration_s) for key, record in ranges if record.duration_s}

    def end(self, state: RunState, report: Mapping[str, Any] | None = None) -> None:
        """See `Ledger.end`."""
        self._over.set()
        if self._heart is not None:
            self._heart.join()
        with self._turn:
            contents = self._held()
            contents.state, contents.holder, contents.completed_at = state, None, _now()
            for record in contents.ranges.values():
                if record.state is RunState.RUNNING:
                    record.state = state if state is not RunState.DONE else RunState.FAILED
            contents.report = dict(report or {})
            self._write()

    def _held(self) -> LedgerContents:
        if self._contents is None:
            raise ManifestError(f"the ledger {self.path} is not begun.")
        return self._contents

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            with self._turn:
                try:
                    self._write()
                except StagingError as error:  # the disk may have room again later; what must be written raises itself
                    _log.warning("the ledger's heartbeat failed: %s", error)

    def _write(self) -> None:
        contents = self._held()
        contents.updated_at = _now()
        head = asdict(contents.head)
        facts = {"version": VERSION, **head, **{k: v for k, v in asdict(contents).items() if k != "head"}}
        text = orjson.dumps(facts, option=orjson.OPT_INDENT_2)
        write_content(self.path, text)
        self._written_s = time.monotonic()


def _contents_of(facts: dict[str, Any]) -> LedgerContents:
    if facts["version"] != VERSION:
        raise ValueError(f"it is of version {facts['version']}, expected {VERSION}")
    head = LedgerHead(facts["migration"], facts["identity"], facts["source"], facts["target"])
    ranges = {key: RangeRecord(**{**item, "state": RunState(item["state"])}) for key, item in facts["ranges"].items()}
    names = ("holder", "started_at", "updated_at", "completed_at", "plan", "report")
    _time(facts["updated_at"])
    if not isinstance(facts["holder"], dict | None):
        raise TypeError(f"its holder is a {type(facts['holder']).__name__}")
    return LedgerContents(head, RunState(facts["state"]), ranges=ranges, **{name: facts[name] for name in names})


def _named(head: LedgerHead) -> str:
    return f"{head.source} to {head.target} ({head.identity[:8]})"


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
