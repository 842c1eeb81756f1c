"""The demo in a process of its own, with fewer documents, and killed in the middle where a test wants it.

Belongs here: calling the command. Does not belong here: what it must say (``test_demo.py``).
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rag_migration_pipeline import events
from rag_migration_pipeline.demo import __main__ as command
from rag_migration_pipeline.demo import migrations
from rag_migration_pipeline_tests.kill.worker import end, fork

COUNT = 90
RANGE_COUNT = 40
TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Outcome:
    """How the command ended: its exit code (negative: the signal), and what it printed."""

    code: int
    said: str


def run_demo(folder: Path, *arguments: str, kill_at: tuple[str, int] | None = None) -> Outcome:
    """Run the demo over so few documents that it takes seconds.

    Args:
        folder: The demo's folder.
        arguments: Of the command.
        kill_at: Name of a migration, and after which of its ranges the process dies.
    """
    output = folder.parent / f"{folder.name}.log"
    process = fork(_run, folder, output, arguments, kill_at)
    process.join(TIMEOUT_S)
    return Outcome(end(process), output.read_text())


def _run(folder: Path, output: Path, arguments: Sequence[str], kill_at: tuple[str, int] | None) -> None:
    os.environ |= {"RAG_MIGRATE_DEMO_DIR": str(folder), "COLUMNS": "200"}
    command.fill_chroma = partial(command.fill_chroma, limit=COUNT)  # type: ignore[attr-defined]
    migrations.RANGE_COUNT = RANGE_COUNT
    left = kill_at[1] if kill_at else 0

    def kill(event: events.Event) -> None:
        nonlocal left
        if kill_at and isinstance(event, events.RangeProven) and event.migration == kill_at[0]:
            left -= 1
            if not left:
                sys.stdout.flush()
                os.kill(os.getpid(), signal.SIGKILL)

    with output.open("w") as sys.stdout, events.subscribe(kill):
        code = command.main(arguments)
    sys.exit(code)
