"""Looking after migrations and stores: how far runs are, what is installed and reachable, removing old state.

Belongs here: what the commands ``status``, ``stores`` and ``purge`` find out. Does not belong here: what they print
(``cli/``), the ledger itself (``ledger.py``).
"""

import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rag_migration_pipeline.errors import ManifestError, MigrationError, MigrationLockedError, SpecError, StagingError
from rag_migration_pipeline.ledger import JsonLedger, LedgerContents, RunState
from rag_migration_pipeline.locators import mask_url
from rag_migration_pipeline.services import store_at
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import StateFolder, state_folder
from rag_migration_pipeline.state_files import staging_errors
from rag_migration_pipeline.steps.manifest import open_manifest
from rag_migration_pipeline.steps.planning import is_finished

PACKAGES = {
    "chroma": ("chromadb",),
    "qdrant": ("qdrant-client", "qdrant-edge-py"),
    "milvus": ("pymilvus", "milvus-lite"),
}
USUAL = ("chroma://localhost:8000", "qdrant://localhost:6333", "milvus://localhost:19530")
PROBE_TIMEOUT_S = 3.0
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class MigrationStatus:
    """How far a migration is, by its ledger.

    Attributes:
        state: waiting, running, done, failed or interrupted.
        missing: Ranges that are neither done nor failed.
        records: Records of all ranges.
        written: Records of proven ranges that are in the target.
        records_per_s: Records written per second of work on ranges, over all workers.
        errors: The last error of each range that failed.
        holder: Who runs it: process, host, since when.
    """

    name: str
    identity: str
    source: str
    target: str
    state: str
    ranges: int
    done: int
    failed: int
    missing: int
    records: int
    written: int
    rejected: int
    records_per_s: float
    updated_at: str
    errors: tuple[str, ...]
    holder: dict[str, Any] | None
    ledger: str

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self) | {"errors": list(self.errors)}


def status_of(migration: Migration, state_dir: Path) -> MigrationStatus:
    """Return how far a migration is.

    Raises:
        ManifestError: It was never run, or its ledger is damaged.
    """
    folder = state_folder(state_dir, migration.identity)
    path = Path(migration.options.checkpoint_file or folder.ledger)
    contents = JsonLedger(path).read()
    if contents is None:
        raise ManifestError(
            f"there is no ledger {path}: migration {migration.name!r} was not run with these options.",
            todo="Name the same source, target, filter and mapping as the run; or leave them out to see all.",
        )
    return _status(contents, path)


def statuses(state_dir: Path) -> list[MigrationStatus]:
    """Return how far all migrations of a state folder are, by name."""
    found = [(path, JsonLedger(path).read()) for path in sorted(state_dir.glob("*/ledger.json"))]
    known = [_status(contents, path) for path, contents in found if contents is not None]
    return sorted(known, key=lambda item: (item.name, item.identity))


def _status(contents: LedgerContents, path: Path) -> MigrationStatus:
    ranges = contents.ranges.values()
    states = [item.state for item in ranges]
    seconds = sum(item.duration_s for item in ranges if item.state is RunState.DONE)
    written = sum(item.written for item in ranges if item.state is RunState.DONE)
    is_lost = contents.state is RunState.RUNNING and not contents.has_living_holder
    done, failed = states.count(RunState.DONE), states.count(RunState.FAILED)
    return MigrationStatus(
        name=contents.head.migration,
        identity=contents.head.identity,
        source=contents.head.source,
        target=contents.head.target,
        state=str(RunState.INTERRUPTED if is_lost else contents.state),
        ranges=len(states),
        done=done,
        failed=failed,
        missing=len(states) - done - failed,
        records=sum(item.records for item in ranges),
        written=written,
        rejected=sum(item.rejected for item in ranges),
        records_per_s=round(written / seconds, 1) if seconds else 0.0,
        updated_at=contents.updated_at,
        errors=tuple(item.errors[-1] for item in ranges if item.state is RunState.FAILED and item.errors),
        holder=None if is_lost else contents.holder,
        ledger=str(path),
    )


def purge_state(migration: Migration, state_dir: Path, *, force: bool = False) -> Path:
    """Remove the state of a migration; its target stays.

    Args:
        migration: The migration.
        state_dir: Folder of all migrations' state.
        force: Also that of one that is not finished, which can then neither be resumed nor rolled back.

    Raises:
        ManifestError: There is none, or the migration is not finished.
        MigrationLockedError: A run works on it.
    """
    folder = state_folder(state_dir, migration.identity)
    if not folder.root.exists():
        raise ManifestError(f"there is no state of migration {migration.name!r} in {state_dir}.")
    if not force:
        _refuse_unfinished(migration, folder)
    _remove(folder)
    checkpoint = migration.options.checkpoint_file
    if checkpoint is not None:
        with staging_errors(Path(checkpoint)):
            Path(checkpoint).unlink(missing_ok=True)
    return folder.root


def purge_completed(state_dir: Path, age: timedelta, now: datetime | None = None) -> list[Path]:
    """Remove the state of all migrations that were completed that long ago; those that somebody runs stay."""
    removed = []
    for path in sorted(state_dir.glob("*/ledger.json")):
        contents = JsonLedger(path).read()
        if contents is None or contents.state is not RunState.DONE or not contents.completed_at:
            continue
        if (now or datetime.now(UTC)) - datetime.fromisoformat(contents.completed_at) < age:
            continue
        try:
            _remove(state_folder(state_dir, path.parent.name))
        except MigrationLockedError:
            continue
        removed.append(path.parent)
    return removed


def _refuse_unfinished(migration: Migration, folder: StateFolder) -> None:
    try:
        if not folder.manifest.exists() or is_finished(folder, open_manifest(folder, migration)):
            return
        what = f"migration {migration.name!r} is not finished"
        todo = "Finish it with --resume, or undo it with rollback; else purge it with --force."
    except (ManifestError, StagingError) as error:
        what = f"whether migration {migration.name!r} is finished cannot be told: {error.what.rstrip('.')}"
        todo = f"{error.todo} Or purge it with --force."
    raise ManifestError(
        f"{what}; without its state in {folder.root} it can neither be resumed nor rolled back.", todo=todo
    )


def _remove(folder: StateFolder) -> None:
    with folder.in_use(alone=True), folder.planning_lock():
        folder.remove()


def age_of(text: str) -> timedelta:
    """Return an age such as ``30d``, ``12h``, ``90m``.

    Raises:
        SpecError: It is none.
    """
    match = re.fullmatch(r"(\d+)([smhdw])", text)
    if match is None:
        raise SpecError(f"--older-than {text!r}: expected a number with s, m, h, d or w, such as 30d.")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


@dataclass(frozen=True)
class StoreStatus:
    """What is known of a store.

    Attributes:
        packages: Client packages with their versions.
        url: Which store was tried, secrets masked.
        is_reachable: Whether it answered.
        answer: Collections that it has, or why it did not answer.
    """

    store: str
    packages: str
    url: str
    is_reachable: bool
    answer: str

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)


def stores_at(urls: list[str]) -> list[StoreStatus]:
    """Return what is installed, and which of some stores answer.

    Args:
        urls: The stores; none for the usual ports of this host.

    Raises:
        SpecError: One of them is no store URL.
    """
    services = [(url, store_at(url)) for url in urls or USUAL]
    found = []
    for url, service in services:
        family = url.partition(":")[0].partition("+")[0]
        quick = replace(service.settings, timeout_s=min(service.settings.timeout_s, PROBE_TIMEOUT_S))
        service.settings = quick
        try:
            with service:
                names = service.list_collections()
            is_reachable, answer = True, f"{len(names)} collections"
        except MigrationError as error:
            is_reachable, answer = False, f"{type(error).__name__}: {error.what}"
        found.append(StoreStatus(family, _installed(family), mask_url(url), is_reachable, answer))
    return found


def _installed(family: str) -> str:
    said = []
    for package in PACKAGES.get(family, ()):
        try:
            said.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            said.append(f"{package} is missing")
    return ", ".join(said)
