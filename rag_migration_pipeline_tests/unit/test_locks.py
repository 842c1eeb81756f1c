"""Several may work on a migration beside each other, or one alone; whoever is refused is told who is there."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_migration_pipeline.errors import MigrationLockedError
from rag_migration_pipeline.locks import in_use, lock_file_of
from rag_migration_pipeline_tests.contract.elsewhere import ROOT

_HOLD = """
import sys
from rag_migration_pipeline.locks import in_use
with in_use(sys.argv[1], "it", alone=sys.argv[2] == "alone"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works on the folder, alone or not."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path), request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "held"
        yield process
        process.kill()


@pytest.mark.parametrize("holder", ["beside"], indirect=True)
def test_several_work_beside_each_other_and_nobody_alone_meanwhile(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with (
        in_use(tmp_path, "it", alone=False),
        in_use(tmp_path, "it", alone=False),
        pytest.raises(MigrationLockedError) as caught,
        in_use(tmp_path, "it", alone=True),
    ):
        pytest.fail("two at once")
    told = str(caught.value)
    assert f"process {holder.pid} on " in told
    assert f"process {os.getpid()} on " in told
    assert caught.value.todo


@pytest.mark.parametrize("holder", ["alone"], indirect=True)
@pytest.mark.parametrize("alone", [True, False])
def test_beside_one_that_works_alone_there_is_nobody(
    tmp_path: Path, holder: subprocess.Popen[str], alone: bool
) -> None:
    with pytest.raises(MigrationLockedError, match=f"process {holder.pid} on "), in_use(tmp_path, "it", alone=alone):
        pytest.fail("two at once")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with in_use(tmp_path, "it", alone=alone):
        pass


def test_a_thread_of_the_same_process_is_another_user(tmp_path: Path) -> None:
    refused: list[MigrationLockedError] = []

    def work() -> None:
        try:
            with in_use(tmp_path, "it", alone=True):
                pass
        except MigrationLockedError as error:
            refused.append(error)

    with in_use(tmp_path, "it", alone=True):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(refused) == 1
    work()
    assert len(refused) == 1


def test_notes_go_with_their_writers_also_with_killed_ones(tmp_path: Path) -> None:
    file = lock_file_of(tmp_path)
    with in_use(tmp_path, "it", alone=False):
        assert len(list(file.parent.glob(f"{file.stem}.*.json"))) == 1
    killed = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path), "beside"], stdin=-1, stdout=-1, cwd=ROOT)
    assert killed.stdout is not None
    killed.stdout.readline()
    killed.kill()
    killed.communicate()
    with in_use(tmp_path, "it", alone=True), pytest.raises(MigrationLockedError), in_use(tmp_path, "it", alone=True):
        pytest.fail("two at once")
    assert list(file.parent.glob(f"{file.stem}.*.json")) == []
    assert list(tmp_path.iterdir()) == []
