"""Where a migration keeps its state.

Belongs here: its files and folders, and removing them. Does not belong here: how files are written
(``state_files.py``), what is written (``steps/manifest.py``, ``receipts.py``).

    <state folder>/<identity>/manifest.json            the commit point of the manifest
                              ids-<generation>.parquet      source ids, one row group per range
                              known-<generation>.parquet    target ids that are not the migration's
                              left-<generation>.parquet     target ids of earlier generations, gone from the source
                              receipts/<plan>/<range key>.arrow    one per proven range
                              sightings/<plan>/<range key>.arrow   its records as the source held them, in digests
                              quarantine/<plan>/<range key>.arrow  records that the range set aside (quarantine.py)
                              pending/<plan>/<range key>-<generation>.arrow  what of a range is to be done again
                              gone/<plan>/<range key>.json         records that it was to carry and did not find
                              repairs/<plan>/<range key>.arrow     repaired records that stand for those of the source
                              journal/<plan>/<range key>.jsonl     ids about to be written (steps/journal.py)
                              overwritten/<number>.arrow           pre-images (steps/pre_images.py)
                              overwritten_unkept                   records of others may have been overwritten without
                              staging/<range key>/          Arrow files between steps; removed when proven, and in
                                                            another place where one is set (`default_staging`)
                              report.json                   the last whole-collection proof
                              report.html                   the same, as a page for people
                              ledger.json                   how far a run without Dagster is, for people
                              sync.json                     the watermark of the last sync
                              vanished.json                 others' records that the last proof missed in the target
"""

import logging
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rag_migration_pipeline.errors import MigrationError, StagingError
from rag_migration_pipeline.locks import in_use, lock_file_of
from rag_migration_pipeline.remote_errors import STAGING_VARIABLE
from rag_migration_pipeline.remote_files import AnyPath, RemotePath, location_of
from rag_migration_pipeline.state_files import remove_abandoned, staging_errors

_log = logging.getLogger(__name__)

_RANGE_KEY = re.compile(r"[0-9a-f]{6}_\d+")
EARLIER = "earlier"
"""Folder of what is kept of the plans of earlier generations; plans are named by six hex digits."""


def default_state_dir() -> Path:
    """Return the state folder: ``RAG_MIGRATE_STATE_DIR``, else ``.rag_migrate`` in the working folder."""
    return Path(os.environ.get("RAG_MIGRATE_STATE_DIR") or ".rag_migrate")


def default_staging() -> AnyPath | None:
    """Return where staged files lie by ``RAG_MIGRATE_STAGING``; None for beside the state.

    Raises:
        StagingError: There is no such kind of place.
    """
    text = os.environ.get(STAGING_VARIABLE)
    return location_of(text) if text else None


@dataclass(frozen=True)
class StateFolder:
    """The folder of one migration's state.

    Attributes:
        staged: Where the migration's staged files lie, if not in the folder.
    """

    root: Path
    staged: AnyPath | None = None

    @property
    def manifest(self) -> Path:
        """The manifest file, whose existence says that the migration was planned."""
        return self.root / "manifest.json"

    @property
    def ledger(self) -> Path:
        """The ledger of runs without Dagster."""
        return self.root / "ledger.json"

    @property
    def sync(self) -> Path:
        """What is kept from sync to sync."""
        return self.root / "sync.json"

    @property
    def detected(self) -> Path:
        """What the last look at the source found, for who asked for it."""
        return self.root / "detected.json"

    @property
    def report(self) -> Path:
        """The report of the last whole-collection proof."""
        return self.root / "report.json"

    @property
    def report_page(self) -> Path:
        """The same report as a page for people."""
        return self.root / "report.html"

    def ids(self, generation: int) -> Path:
        """The source ids of a manifest generation."""
        return self.root / f"ids-{generation}.parquet"

    def known(self, generation: int) -> Path:
        """The target ids that others wrote, as of the manifest."""
        return self.root / f"known-{generation}.parquet"

    def left(self, generation: int) -> Path:
        """The target ids that earlier generations wrote and that the source no longer has."""
        return self.root / f"left-{generation}.parquet"

    def receipt(self, range_key: str) -> Path:
        """The receipt of a proven range."""
        return self.root / "receipts" / range_key.partition("_")[0] / f"{range_key}.arrow"

    def sightings(self, range_key: str) -> Path:
        """What the records of a proven range looked like in the source."""
        return self.root / "sightings" / range_key.partition("_")[0] / f"{range_key}.arrow"

    @property
    def all_pending(self) -> Path:
        """The folder of all that is pending."""
        return self.root / "pending"

    def pending(self, range_key: str, generation: int) -> Path:
        """What of a range is to be done again in a generation, although it has a receipt."""
        return self.all_pending / range_key.partition("_")[0] / f"{range_key}-{generation}.arrow"

    @property
    def receipts(self) -> Path:
        """The folder of all plans' receipts."""
        return self.root / "receipts"

    @property
    def journals(self) -> Path:
        """The folder of all plans' journals."""
        return self.root / "journal"

    def journal(self, range_key: str) -> Path:
        """The ids that a range was about to write."""
        return self.journals / range_key.partition("_")[0] / f"{range_key}.jsonl"

    @property
    def all_gone(self) -> Path:
        """The folder of all records that ranges did not find."""
        return self.root / "gone"

    def gone(self, range_key: str) -> Path:
        """The records that a range was to carry and did not find."""
        return self.all_gone / range_key.partition("_")[0] / f"{range_key}.json"

    @property
    def vanished(self) -> Path:
        """Records of others that a proof missed in the target."""
        return self.root / "vanished.json"

    def repairs(self, range_key: str) -> Path:
        """The repaired records that stand for records of the range's source."""
        return self.all_repairs(range_key.partition("_")[0]) / f"{range_key}.arrow"

    def all_repairs(self, plan_digest: str) -> Path:
        """The folder of a plan's repaired records."""
        return self.root / "repairs" / plan_digest

    @property
    def overwritten(self) -> Path:
        """The folder of pre-images."""
        return self.root / "overwritten"

    @property
    def overwritten_unkept(self) -> Path:
        """A mark: records of others may have been overwritten without pre-images."""
        return self.root / "overwritten_unkept"

    def quarantine(self, range_key: str) -> Path:
        """The records that a range set aside; there is no file where it set none aside."""
        return self.quarantines(range_key.partition("_")[0]) / f"{range_key}.arrow"

    def quarantines(self, plan_digest: str) -> Path:
        """The folder of a plan's quarantine files."""
        return self.root / "quarantine" / plan_digest

    def remove_other_plans(self, plan_digest: str, generation: int) -> None:
        """Remove receipts, ids and staged files of other plans of the same migration; quiet where there are none.

        Also temporary files that killed runs left.
        """
        kept = (plan_digest, EARLIER)
        for folder in ("receipts", "sightings", "pending", "gone", "quarantine", "repairs", "journal"):
            for path in (self.root / folder).glob("*"):
                if path.name.partition("_")[0] not in kept:
                    shutil.rmtree(path, ignore_errors=True)
        for item in _found_below(self._stagings):
            if _RANGE_KEY.fullmatch(item.name) and item.name.partition("_")[0] not in kept:
                _remove_leftovers(item)
        for path in self.root.glob("*-*.parquet"):
            if path.stem.rpartition("-")[2] != str(generation):
                path.unlink(missing_ok=True)
        remove_abandoned(self.root)

    @contextmanager
    def planning_lock(self) -> Iterator[None]:
        """Hold the right to make the manifest; a second process of this host waits and then finds the first one's.

        Raises:
            StagingError: The folder cannot be written.
        """
        with staging_errors(self.root):
            lock = FileLock(lock_file_of(self.root), thread_local=False)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def in_use(self, *, alone: bool = False) -> AbstractContextManager[None]:
        """Say that this process works on the migration: beside other runs, or alone (replay, rollback).

        Raises:
            MigrationLockedError: Somebody works on it alone, or ``alone`` is asked for and somebody works on it.
        """
        return in_use(self.root, f"the migration in {self.root}", alone=alone)

    def remove(self) -> None:
        """Remove all of it in one step: what a kill leaves of the renamed folder is nobody's.

        Raises:
            StagingError: The folder, or what is staged elsewhere, cannot be removed.
            StagingUnavailableError: The object store of staged files does not answer now.
        """
        if isinstance(self.staged, RemotePath):
            self.staged.remove_tree()  # first: without the state nobody would come to it again
        elif self.staged is not None and self.staged.exists():
            with staging_errors(self.staged):
                shutil.rmtree(self.staged)
        with staging_errors(self.root):
            self.root.rename(self.root.with_name(f"{self.root.name}.removed-{uuid.uuid4().hex[:8]}"))
            for gone in self.root.parent.glob(f"{self.root.name}.removed-*"):
                shutil.rmtree(gone)

    def staging(self, range_key: str) -> AnyPath:
        """The folder of a range's staged files."""
        return self._stagings / range_key

    @property
    def _stagings(self) -> AnyPath:
        return self.root / "staging" if self.staged is None else self.staged

    def clear_staging(self, range_key: str) -> None:
        """Remove a range's staged files; quiet where there are none."""
        _remove_leftovers(self.staging(range_key))

    def clear_left_staging(self, range_keys: Collection[str]) -> None:
        """Remove the staged files of those ranges that have any; asks once for all."""
        for item in _found_below(self._stagings):
            if item.name in range_keys:
                self.clear_staging(item.name)


def state_folder(state_dir: Path, identity: str, staging: AnyPath | None = None) -> StateFolder:
    """Return the state folder of the migration with this identity.

    Args:
        state_dir: Folder of all migrations' state.
        identity: The migration's digest.
        staging: Where the staged files of all migrations lie; by default what ``RAG_MIGRATE_STAGING`` says, else
            beside the state.

    Raises:
        StagingError: ``RAG_MIGRATE_STAGING`` names no kind of place that there is, or one within the state.
    """
    place = default_staging() if staging is None else staging
    if isinstance(place, Path) and place.resolve().is_relative_to(state_dir.resolve()):
        raise StagingError(
            f"staged files cannot lie in {place}, which is the state folder {state_dir}, or within it.",
            todo=f"Give {STAGING_VARIABLE}, or the field staging of the state resource, another folder. Left out, they "
            "lie beside the state.",
        )
    return StateFolder(state_dir / identity, None if place is None else place / identity)


def _found_below(folder: AnyPath) -> list[AnyPath]:
    """Return what lies in a folder of staged files; nothing, with a warning, where an object store does not say it."""
    if isinstance(folder, Path):
        return [*folder.glob("*")]
    try:
        return [*folder.children()]
    except MigrationError as error:
        _log.warning("left as they are: %s", error)
        return []


def _remove_leftovers(folder: AnyPath) -> None:
    """Remove staged files that nobody needs; what an object store does not remove is warned of, and fails nothing."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        folder.remove_tree()
    except MigrationError as error:
        _log.warning("staged files stay, though nobody needs them: %s", error)
