"""State is written completely or not at all, and a full disk says so."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rag_migration_pipeline.errors import SpecError, StagingError, StoreTimeoutError
from rag_migration_pipeline.state import StateFolder, default_state_dir, state_folder
from rag_migration_pipeline.state_files import ABANDONED_S, write_atomically


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "c.json", lambda path: path.write_bytes(b"new") and None)
    assert files_in(tmp_path) == {"a/b/c.json": b"new"}


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("error", [ZeroDivisionError("x"), SpecError("x"), StoreTimeoutError("x"), KeyboardInterrupt()])
def test_a_failing_writer_leaves_old_or_nothing(tmp_path: Path, old: bytes | None, error: BaseException) -> None:
    path = tmp_path / "c.json"
    if old is not None:
        path.write_bytes(old)

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half of it")
        assert temporary.parent == path.parent, "a rename must not cross file systems"
        raise error

    with pytest.raises(type(error)) as caught:
        write_atomically(path, write)
    assert caught.value is error
    assert files_in(tmp_path) == ({} if old is None else {"c.json": old})


def write_to_full_device(temporary: Path) -> None:
    temporary.write_bytes(b"half of it")
    with open("/dev/full", "wb", buffering=0) as full:
        full.write(b"the rest")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told_with_path_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(b"old")
    with pytest.raises(StagingError) as caught:
        write_atomically(path, write_to_full_device)
    assert str(path) in str(caught.value)
    assert "No space left" in str(caught.value)
    assert "RAG_MIGRATE_STATE_DIR" in caught.value.todo
    assert caught.value.facts["path"] == str(path)
    assert files_in(tmp_path) == {"c.json": b"old"}


_LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from rag_migration_pipeline.arrow import write_batches
from rag_migration_pipeline.errors import StagingError
from rag_migration_pipeline.receipts import make_receipt, write_receipt
from rag_migration_pipeline.records import DenseColumn, RecordBatch
from rag_migration_pipeline.state_files import write_atomically
from rag_migration_pipeline.steps.manifest import _write_ids

folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
rows = 5_000
batch = RecordBatch([*range(rows)], {"": DenseColumn(np.random.rand(rows, 4).astype("f4"))}, [{}] * rows)
texts = [str(i) * 9 for i in batch.ids]
receipt = make_receipt(batch, batch.ids)
writers = {
    "extract.arrow": lambda path: write_batches(path, [batch, batch]),
    "receipt.arrow": lambda path: write_receipt(path, receipt),
    "ids.parquet": lambda path: write_atomically(path, lambda inner: _write_ids(inner, [texts, texts])),
    "manifest.json": lambda path: write_atomically(path, lambda inner: inner.write_bytes(b"x" * 10_000) and None),
}
for name, write in writers.items():
    try:
        write(folder / name)
    except StagingError as error:
        assert str(folder / name) in str(error), error
        print(name, "refused")
"""


def test_no_writer_of_state_leaves_half_a_file_when_space_ends(tmp_path: Path) -> None:
    """Every kind of state file meets the end of space while it is written, in a process that may write 4 KiB."""
    for name in ("receipt.arrow", "manifest.json"):
        (tmp_path / name).write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == [
        f"{name} refused" for name in ("extract.arrow", "receipt.arrow", "ids.parquet", "manifest.json")
    ]
    assert files_in(tmp_path) == {"receipt.arrow": b"old", "manifest.json": b"old"}


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StagingError, match="file/c\\.json"):
        write_atomically(tmp_path / "file" / "c.json", lambda path: None)


def test_two_migrations_have_no_path_in_common(tmp_path: Path) -> None:
    first, second = state_folder(tmp_path, "a" * 32), state_folder(tmp_path, "b" * 32)
    assert first.root != second.root
    assert first.root.parent == second.root.parent == tmp_path


def test_paths_of_generations_and_ranges_differ(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    paths = [
        folder.manifest,
        folder.report,
        folder.report_page,
        *(make(n) for make in (folder.ids, folder.known) for n in (0, 1)),
        *(make(k) for make in (folder.receipt, folder.staging) for k in ("aaaaaa_000000", "aaaaaa_000001")),
    ]
    assert len(set(paths)) == len(paths)


def test_clearing_staging_is_quiet_and_leaves_the_others(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    for key in ("a_000000", "a_000001"):
        write_atomically(folder.staging(key) / "x", lambda path: path.write_bytes(b"1") and None)
    folder.clear_staging("a_000000")
    folder.clear_staging("a_000000")
    assert files_in(tmp_path) == {"staging/a_000001/x": b"1"}


def test_the_state_folder_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_MIGRATE_STATE_DIR", "elsewhere")
    assert default_state_dir() == Path("elsewhere")
    monkeypatch.setenv("RAG_MIGRATE_STATE_DIR", "")
    assert default_state_dir() == Path(".rag_migrate")


@pytest.mark.parametrize("place", [".", "below", "below/deeper"])
def test_staged_files_within_the_state_are_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(StagingError, match="which is the state folder"):
        state_folder(tmp_path, "identity", tmp_path / place)
    assert state_folder(tmp_path / "state", "identity", tmp_path / "staged").staging("k").parent.parent.name == "staged"


def test_only_staged_ranges_are_removed_where_they_lie(tmp_path: Path) -> None:
    folder = state_folder(tmp_path / "state", "identity", tmp_path / "staged")
    for name in ("abcdef_000001", "012345_000001", "notes", "abcdef"):
        (tmp_path / "staged" / "identity" / name).mkdir(parents=True)
    folder.remove_other_plans("abcdef", 1)
    left = {path.name for path in (tmp_path / "staged" / "identity").iterdir()}
    assert left == {"abcdef_000001", "notes", "abcdef"}


def test_what_killed_writers_left_goes_with_the_next_proof_and_what_is_being_written_stays(tmp_path: Path) -> None:
    folder = state_folder(tmp_path, "identity")
    write_atomically(folder.receipt("abcdef_000001"), lambda path: path.write_bytes(b"kept") and None)
    receipt = folder.receipt("abcdef_000001")
    left = [folder.root / ".manifest.json.x1.tmp", receipt.with_name(".abcdef_000001.arrow.x.tmp")]
    for path in left:
        path.touch()
        os.utime(path, (1.0, time.time() - ABANDONED_S - 60.0))
    written = folder.root / ".report.json.x2.tmp"
    written.touch()
    folder.remove_other_plans("abcdef", 1)
    assert files_in(folder.root) == {".report.json.x2.tmp": b"", "receipts/abcdef/abcdef_000001.arrow": b"kept"}
