"""Python's collector of reference cycles, kept from looking through what is there already.

Belongs here: setting the existing objects aside. Does not belong here: when that pays (who runs ranges).
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_turn = threading.RLock()  # the collector may end a block in the thread that holds it
_users = 0
_is_ours = False


@contextmanager
def heap_set_aside() -> Iterator[None]:
    """Let the collector pass over all objects that exist now, until the block ends; it costs nothing by itself.

    A full collection looks through every object of the process, and there are more of them with every thousand records
    on their way. With Dagster loaded (some million objects), collections took a sixth of a run's CPU time. What is made
    inside is collected as ever. Blocks may overlap: the first one sets aside, the last one takes back. Where the
    process has set objects aside itself (`gc.freeze`), that is left alone.
    """
    global _users, _is_ours  # noqa: PLW0603  the collector is the process's too
    with _turn:
        if not _users and not gc.get_freeze_count():
            gc.freeze()
            _is_ours = True
        _users += 1
    try:
        yield
    finally:
        with _turn:
            _users -= 1
            if not _users and _is_ours:
                gc.unfreeze()
                _is_ours = False
