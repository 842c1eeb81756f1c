"""A transform that kills the worker process which applies it: once, in the middle of a range."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

NUMBER_VARIABLE = "DEADLY_NUMBER"
MARK_VARIABLE = "DEADLY_MARK"


def die_once(value: Any) -> Any:
    """Return the value; a worker that meets the deadly one for the first time is killed."""
    is_worker = multiprocessing.parent_process() is not None
    if is_worker and value == int(os.environ[NUMBER_VARIABLE]):
        mark = Path(os.environ[MARK_VARIABLE])
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return value
