"""Staging ahead: while a range is loaded and validated, the next one is read from the source into its staged file.

Belongs here: which range comes next, and one thread that stages it. Does not belong here: staging itself (`staging`).

One range at most is staged ahead, so the disk holds two. An error of the thread is raised where the range would have
been staged, as the first attempt, so that the op's retries count as they would without the thread.
"""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import dagster as dg

from rag_migration_pipeline.events import Event
from rag_migration_pipeline.orchestration.staging import stage_extract
from rag_migration_pipeline.steps.context import MigrationContext, with_sink

_ONE_PROCESS = frozenset({"in_process", "execute_in_process_executor"})
"""Executors whose ops share a process; with others nobody would take what was staged ahead."""

Staged = tuple[int, int, float]
"""Records, bytes, and the seconds that reading took."""


class _StoppedError(RuntimeError):
    """The run ended while a range was staged ahead."""


class StagingAhead:
    """Stages one range at a time in a thread of its own."""

    def __init__(self) -> None:
        """Wait with the thread until it is needed."""
        self._pool: ThreadPoolExecutor | None = None
        self._stopped = threading.Event()
        self._begun: tuple[str, Future[Staged]] | None = None

    def stage(self, context: MigrationContext, key: str) -> Staged:
        """Return what was staged ahead for a range, or stage it now."""
        begun, self._begun = self._begun, None
        if begun is not None and begun[0] == key:
            return begun[1].result()
        if begun is not None:
            begun[1].cancel()
        return _stage(context, key)

    def begin(self, context: MigrationContext, key: str) -> None:
        """Begin to stage a range that will be asked for next."""
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="staging-ahead")
        # The sink is called for every page: the one place where a thread that nobody waits for any more can end.
        guarded = with_sink(context, lambda event: self._emit(context, event))
        self._begun = key, self._pool.submit(_stage, guarded, key)

    def close(self) -> None:
        """End the thread; what it has begun is given up."""
        self._stopped.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _emit(self, context: MigrationContext, event: Event) -> None:
        if self._stopped.is_set():
            raise _StoppedError
        context.emit(event)


def next_key(context: dg.OpExecutionContext, migration: MigrationContext, key: str) -> str | None:
    """Return the range that this run will ask for after this one, or None where staging ahead does not help.

    An embedded source has one user at a time, and its engine takes the time of this process anyway.
    """
    capabilities = migration.source.capabilities
    if capabilities.is_embedded or capabilities.concurrent_readers == 1:
        return None
    if context.job_def.executor_def.name not in _ONE_PROCESS:
        return None
    following = migration.manifest.entry(key).ordinal + 1
    if following == len(migration.manifest.ranges):
        return None
    candidate = migration.manifest.ranges[following].key
    is_partitioned = context.has_partition_key or context.has_partition_key_range
    is_wanted = not is_partitioned or candidate in context.partition_keys
    return candidate if is_wanted and not migration.state.receipt(candidate).exists() else None


def _stage(context: MigrationContext, key: str) -> Staged:
    begun = time.perf_counter()
    records, size_bytes = stage_extract(context, key)
    return records, size_bytes, time.perf_counter() - begun
