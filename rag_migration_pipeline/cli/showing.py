"""What commands print: results on standard output, everything else on standard error.

Belongs here: tables, JSON and YAML, progress, errors. Does not belong here: what the results are (``models.py``).
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rag_migration_pipeline.models import MigrationResult
from rag_migration_pipeline.progress import MigrationProgress, OnProgress
from rag_migration_pipeline.progress_bar import LegProgress, RangeProgress

Form = Literal["table", "json", "yaml"]
OnRanges = Callable[[int, int, str], object]
"""Takes how many ranges are green, of how many, and the run's status."""

SHOWN = 20
"""So many findings or errors are shown to people."""


@dataclass(frozen=True)
class Screen:
    """Where a command prints, and in which form."""

    form: Form = "table"
    is_quiet: bool = False

    @property
    def is_table(self) -> bool:
        """Whether results are printed for people."""
        return self.form == "table"

    def facts(self, facts: Any) -> None:
        """Print a result as it is."""
        text = json.dumps(facts, indent=2, ensure_ascii=False, default=str) + "\n"
        if self.form != "json":
            text = yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=True, width=120)
        sys.stdout.write(text)
        sys.stdout.flush()

    def parts(self, *parts: str | Table) -> None:
        """Print parts of a result for people: sentences and tables."""
        console = Console(highlight=False)
        console = console if console.is_terminal else Console(highlight=False, width=160)
        for part in parts:
            console.print(Text(part.rstrip("\n")) if isinstance(part, str) else part, soft_wrap=isinstance(part, str))
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Tell something that is no result, unless nothing is to be told."""
        if not self.is_quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Tell something that is told in any case."""
        _errors().print(Text(text), soft_wrap=True)

    def error(self, kind: str, text: str) -> None:
        """Tell an error in words."""
        _errors().print(Text.assemble((kind, "bold red"), f": {text}"), soft_wrap=True)

    @contextmanager
    def progress(self, title: str, *, is_shown: bool = True) -> Iterator[OnProgress | None]:
        """Show how far a run is while the block runs: a bar on a terminal, a line now and then elsewhere."""
        if self.is_quiet or not is_shown:
            yield None
            return
        shown = LegProgress(_errors(), title)

        def on_progress(progress: MigrationProgress) -> None:
            shown.advance_to(progress.vectors_processed, progress.total_vectors)

        with shown.bar:
            yield on_progress

    @contextmanager
    def range_progress(self, title: str, *, is_shown: bool = True) -> Iterator[OnRanges | None]:
        """Show how many ranges of a run elsewhere are green, and what its status is, while the block runs."""
        if self.is_quiet or not is_shown:
            yield None
            return
        shown = RangeProgress(_errors(), title)
        with shown.bar:
            yield shown.update


def _errors() -> Console:
    return Console(stderr=True, highlight=False)


def pairs_table(rows: Sequence[tuple[str, str]], title: str | None = None) -> Table:
    """Return a table of facts, each with its name."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, text in rows:
        table.add_row(Text(name, style="bold"), Text(text))
    return table


def rows_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> Table:
    """Return a table with a heading per column."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return table


def result_table(result: MigrationResult, name: str) -> Table:
    """Return the result of a migration for people."""
    facts: Mapping[str, Any] = result.metadata
    is_dry = bool(facts.get("dry_run"))
    verb = "would be migrated" if is_dry else "migrated"
    rows = [
        ("collection", f"{result.source_collection} to {result.target_collection}"),
        (verb, f"{result.vectors_migrated} records"),
        ("failed or set aside", f"{result.vectors_failed} records"),
        ("proven", "nothing was written" if is_dry else "yes" if facts.get("validated") else "no"),
        ("seconds", f"{result.duration_seconds:.1f}"),
    ]
    named = {
        "already_migrated": "done before",
        "skipped": "skipped",
        "filtered": "filtered out",
        "left_over": "left over",
        "quarantine_file": "quarantine",
        "report_page": "integrity report",
        "checkpoint_file": "ledger",
        "changes": "changes",
    }
    rows += [(word, str(facts[key])) for key, word in named.items() if facts.get(key)]
    rows += [("note", str(note)) for note in facts.get("notes", ())]
    rows += [("error", text) for text in result.errors[:SHOWN]]
    if len(result.errors) > SHOWN:
        rows.append(("errors", f"{len(result.errors) - SHOWN} more, in the ledger"))
    return pairs_table(rows, f"dry run of {name}" if is_dry else name)
