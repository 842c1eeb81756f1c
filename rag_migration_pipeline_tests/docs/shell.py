"""A shell that is told the blocks of a page, as a reader types them.

Belongs here: one bash from the first block to the last, with its background jobs, and ending all that it started. Does
not belong here: which blocks, and what is expected of them (``test_guide.py``).
"""

import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import pytest

MARK = "RAG_GUIDE_TEST"
"""Variable by which all processes that the shell started are found, whoever their parent is by now."""


class Shell:
    """A bash with job control, whose blocks must succeed line by line.

    Attributes:
        shown: The file of everything that it printed.
    """

    def __init__(self, folder: Path, cwd: Path, environment: Mapping[str, str]) -> None:
        """Start it; ``folder`` takes what it prints, and identifies its processes."""
        self.shown = folder / "shown.txt"
        self._folder = folder
        self._count = 0
        with self.shown.open("wb") as output:
            self._bash = subprocess.Popen(
                ["bash", "--norc"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**environment, MARK: str(folder)},
                start_new_session=True,
            )
        self.run("set -m -e -o pipefail")

    def run(self, text: str, deadline_s: float = 240.0) -> str:
        """Run a block, and return what was printed meanwhile; it fails the test where a command fails."""
        self._count += 1
        before, done = self.shown.stat().st_size, self._folder / f"done-{self._count}"
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{text}\ntouch '{done}'\n".encode())
        self._bash.stdin.flush()
        end = time.monotonic() + deadline_s
        while not done.exists():
            if self._bash.poll() is not None or time.monotonic() > end:
                pytest.fail(f"this did not succeed:\n{text}\nprinted:\n{self.shown.read_text('utf-8', 'replace')}")
            time.sleep(0.1)
        return self.shown.read_bytes()[before:].decode("utf-8", "replace")

    def processes(self) -> list[psutil.Process]:
        """Return the living processes that it started, itself included."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == str(self._folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Kill what is left of it."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        assert self._bash.stdin is not None
        with suppress(BrokenPipeError):
            self._bash.stdin.close()
        self._bash.wait()
