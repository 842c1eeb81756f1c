"""Retries: how often a request is tried again, after how long, and how tests do without the waiting.

Belongs here: the policy, the wait, the test mode. Does not belong here: which errors may pass (``errors.py``), what is
tried again (``stores/retrying.py``; under Dagster the op).

``max_attempts=5, delay_s=2.0, backoff=2.0`` makes up to five attempts, with waits of 2, 4, 8 and 16 seconds. A store
that says when to come back (``Retry-After``) is asked then, if that is later.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rag_migration_pipeline.errors import MigrationError, MigrationLockedError, RateLimitedError, TryAgainError

TEST_MODE = "RAG_MIGRATE_TEST_MODE"
"""Environment variable: where it is set and not empty, nothing waits between attempts."""

LONGEST_WAIT_S = 300.0


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after how long.

    Attributes:
        max_attempts: Attempts, the first included.
        delay_s: Seconds before the second attempt.
        backoff: By what the wait grows from attempt to attempt.
    """

    max_attempts: int = 3
    delay_s: float = 1.0
    backoff: float = 2.0

    def wait_s(self, attempt: int, error: MigrationError) -> float:
        """Return the seconds to wait after an attempt (1 is the first) that ended with this error."""
        asked = error.retry_after_s if isinstance(error, RateLimitedError) else None
        return min(max(self.delay_s * self.backoff ** (attempt - 1), asked or 0.0), LONGEST_WAIT_S)

    def may_try_again(self, attempt: int, error: MigrationError) -> bool:
        """Return whether another attempt is to be made after this one."""
        is_passing = isinstance(error, TryAgainError) and not isinstance(error, MigrationLockedError)
        return is_passing and attempt < self.max_attempts


ONCE = RetryPolicy(max_attempts=1)

_is_testing = False


@contextmanager
def test_mode() -> Iterator[None]:
    """Wait for nothing between attempts until the block ends: for tests of programs that use this one."""
    global _is_testing  # noqa: PLW0603  one switch of the process
    before, _is_testing = _is_testing, True
    try:
        yield
    finally:
        _is_testing = before


def wait(seconds: float, stop: threading.Event | None = None) -> None:
    """Wait, but not in test mode, and not longer than until the event is set."""
    if _is_testing or os.environ.get(TEST_MODE):
        return
    (stop or threading.Event()).wait(seconds)
