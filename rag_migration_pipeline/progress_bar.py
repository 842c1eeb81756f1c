"""A progress bar fed by the steps' events: records, rate and time left; plain lines where there is no terminal.

Belongs here: showing. Does not belong here: what happened (``events.py``).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from rag_migration_pipeline.events import CollectionProven, Event, ManifestMade, RangeProven, subscribe

LINE_EVERY_S = 5.0
"""Seconds between lines where there is no terminal."""


class _Rate(ProgressColumn):
    """Records per second."""

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing before there is one."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} records/s" if speed else "")


class LegProgress:
    """Progress of one leg of the demo; takes the steps' events, or counts that are told to it."""

    def __init__(self, console: Console, title: str) -> None:
        """Show nothing yet; the bar begins with the first number."""
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate()]
        columns += [TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn()]
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._console = console
        self._title = title
        self._task = self.bar.add_task(title, total=None)
        self._begun = self._said = time.perf_counter()

    def take(self, event: Event) -> None:
        """Take an event of the steps."""
        if isinstance(event, ManifestMade):
            self.bar.update(self._task, total=event.records, description=self._title)
        elif isinstance(event, RangeProven):
            self.bar.advance(self._task, event.records)
            self._say()
        elif isinstance(event, CollectionProven):
            self.bar.update(self._task, completed=event.records)

    def advance_to(self, done: int, total: int) -> None:
        """Take the counts of work that has no events."""
        self.bar.update(self._task, completed=done, total=total)
        self._say()

    def _say(self) -> None:
        """Print a line now and then where there is no terminal to draw a bar on."""
        now = time.perf_counter()
        task = self.bar.tasks[self._task]
        if self._console.is_terminal or now - self._said < LINE_EVERY_S or not task.total:
            return
        self._said = now
        rate = task.completed / (now - self._begun)
        eta = (task.total - task.completed) / rate if rate else 0.0
        count = f"{task.completed:.0f} of {task.total:.0f} records"
        self._console.print(f"  {self._title}: {count}, {rate:,.0f} records/s, eta {eta:.0f} s", highlight=False)


class RangeProgress:
    """Progress of a run elsewhere, which tells of whole ranges."""

    def __init__(self, console: Console, title: str) -> None:
        """Show nothing yet."""
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        columns += [TextColumn("ranges"), TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn()]
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._console = console
        self._title = title
        self._task = self.bar.add_task(title, total=None)
        self._told = ""
        self._said = 0.0

    def update(self, done: int, total: int, status: str) -> None:
        """Take how many ranges are green; without a terminal a change is printed, at most every few seconds."""
        state = status.lower().replace("_", " ")
        self.bar.update(self._task, completed=done, total=total or None, description=f"{self._title} ({state})")
        self.bar.tasks[self._task].finished_time = None  # all may be green before the run has begun
        text = f"  {self._title}: {state}" + (f", {done} of {total} ranges" if total else "")
        now = time.perf_counter()
        if self._console.is_terminal or text == self._told or now - self._said < LINE_EVERY_S:
            return
        self._told, self._said = text, now
        self._console.print(text, highlight=False)


@contextmanager
def show_progress(console: Console, title: str) -> Iterator[LegProgress]:
    """Show a bar while the block runs, and feed it with the events of this process."""
    progress = LegProgress(console, title)
    with progress.bar, subscribe(progress.take):
        yield progress
