"""Clocks and memory of a measured process.

Belongs here: seconds, CPU seconds, peak memory, and the time spent inside certain methods of the stores. Does not
belong here: what is measured.
"""

import functools
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any


def peak_memory_bytes() -> int:
    """Return the most resident memory that this process ever had.

    Linux keeps it per program (``VmHWM``); ``ru_maxrss`` would also count what this process was before its ``exec``.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    factor = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * factor


class Stopwatch:
    """Seconds from `start` to `stop`, and seconds by name, which are told apart from them.

    Attributes:
        seconds: Seconds by name, added up.
        copy_s: Seconds from start to stop, without those by name.
        cpu_s: CPU seconds of this process from start to stop.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.copy_s = self.cpu_s = 0.0
        self._begun = self._begun_cpu = 0.0

    def start(self) -> None:
        """Start the clock."""
        self._begun, self._begun_cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Stop the clock: the last record is acknowledged."""
        self.copy_s = time.perf_counter() - self._begun - self.seconds.total()
        self.cpu_s = time.process_time() - self._begun_cpu

    def stop_at(self, owner: type, method: str) -> None:
        """Stop the clock when a method is called for the first time, in this process, from now on."""
        inner = getattr(owner, method)

        @functools.wraps(inner)
        def stopping(*arguments: Any, **options: Any) -> Any:
            if not self.copy_s:
                self.stop()
            return inner(*arguments, **options)

        setattr(owner, method, stopping)

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the block's seconds to a name."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - begun

    def time_method(self, owner: type | ModuleType, method: str) -> None:
        """Add the seconds of every call of a method, or of a module's function, to its name from now on."""
        inner = getattr(owner, method)

        @functools.wraps(inner)
        def timed(*arguments: Any, **options: Any) -> Any:
            with self.timing(method):
                return inner(*arguments, **options)

        setattr(owner, method, timed)
