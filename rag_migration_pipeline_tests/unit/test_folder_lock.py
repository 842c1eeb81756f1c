"""An embedded folder has one process at a time, and the second is told who has it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rag_migration_pipeline.errors import StoreLockedError
from rag_migration_pipeline.stores.folder_lock import FolderLock
from rag_migration_pipeline_tests.contract.elsewhere import ROOT

_HOLD = """
import sys
from rag_migration_pipeline.stores.folder_lock import FolderLock
lock = FolderLock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""

_TRY = """
import sys
from rag_migration_pipeline.errors import StoreLockedError
from rag_migration_pipeline.stores.folder_lock import FolderLock
try:
    FolderLock(sys.argv[1]).release()
except StoreLockedError as error:
    print(error)
else:
    print("free")
"""


def other_process_says(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _TRY, str(folder)], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "held"
        yield process
        process.kill()


def test_another_process_is_told_who_has_the_folder(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    try:
        told = other_process_says(tmp_path)
        assert str(tmp_path) in told
        assert f"process {os.getpid()}" in told
    finally:
        lock.release()
    assert other_process_says(tmp_path) == "free"


def test_one_process_may_lock_a_folder_more_than_once(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.release()
    first.release()
    assert "in use" in other_process_says(tmp_path)
    second.release()
    assert other_process_says(tmp_path) == "free"


def test_a_folder_is_the_same_by_any_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    lock = FolderLock(tmp_path / "link" / ".." / "link")
    try:
        assert "in use" in other_process_says(tmp_path / "real")
        assert other_process_says(tmp_path) == "free"
    finally:
        lock.release()


def test_nothing_is_created_in_or_beside_the_folder(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_held_elsewhere_is_refused(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(StoreLockedError, match=f"process {holder.pid} on ") as caught:
        FolderLock(tmp_path)
    assert caught.value.todo
    assert caught.value.facts["folder"] == str(tmp_path)


def test_a_killed_holder_frees_the_folder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not psutil.pid_exists(holder.pid)
    FolderLock(tmp_path).release()


def test_a_refusal_leaves_no_trace(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    for _ in range(2):
        with pytest.raises(StoreLockedError):
            FolderLock(tmp_path)
    holder.kill()
    holder.wait()
    lock = FolderLock(tmp_path)
    lock.release()
    assert other_process_says(tmp_path) == "free"


def test_a_damaged_note_of_the_holder_is_no_obstacle(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    probe = FolderLock.__new__(FolderLock)
    probe.folder = os.path.realpath(tmp_path)
    assert json.loads(probe._holder_file().read_text())["pid"] == holder.pid
    probe._holder_file().write_text("{")
    with pytest.raises(StoreLockedError, match="another process"):
        FolderLock(tmp_path)


def test_threads_share_the_lock_of_their_process(tmp_path: Path) -> None:
    locks: list[FolderLock] = []
    threads = [threading.Thread(target=lambda: locks.append(FolderLock(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(locks) == 8
    for lock in locks[1:]:
        lock.release()
    assert "in use" in other_process_says(tmp_path)
    locks[0].release()
    assert other_process_says(tmp_path) == "free"
