"""The collector passes over what was there before a block, and a process that does the same is left alone."""

import gc
import threading

from rag_migration_pipeline.collector import heap_set_aside


def test_blocks_may_overlap() -> None:
    assert gc.get_freeze_count() == 0
    with heap_set_aside():
        assert gc.get_freeze_count() > 0
        with heap_set_aside():
            pass
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_what_is_made_inside_is_collected() -> None:
    class Node:
        me: "Node"

    gone = threading.Event()
    with heap_set_aside():
        node = Node()
        node.me = node
        node.__dict__["finalizer"] = _Finalizer(gone)
        del node
        gc.collect()
        assert gone.is_set()


class _Finalizer:
    def __init__(self, gone: threading.Event) -> None:
        self._gone = gone

    def __del__(self) -> None:
        self._gone.set()


def test_a_process_that_has_set_objects_aside_keeps_them() -> None:
    gc.freeze()
    try:
        count = gc.get_freeze_count()
        with heap_set_aside():
            pass
        assert abs(gc.get_freeze_count() - count) < count / 2
    finally:
        gc.unfreeze()
