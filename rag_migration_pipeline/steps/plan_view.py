"""The plan of a migration, to look at: what will be copied, how, and how every field and feature fares.

Belongs here: the plan as one value, as a Markdown table and as text for a terminal. Does not belong here: making it
(``steps/planning.py``, ``steps/preview.py``), the verdicts (``verdicts/``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rag_migration_pipeline.errors import MigrationError
from rag_migration_pipeline.plan import PlanFacts
from rag_migration_pipeline.records import CollectionSpec, VectorKind, VectorSpec
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.manifest import Manifest
from rag_migration_pipeline.verdicts import Level, Verdict

_SHOWN_CHARACTERS, _SHOWN_ROWS = 300, 500
_ORDER = (Level.IMPOSSIBLE, Level.LOSSY, Level.NOTE, Level.EXACT)
COLUMNS = ("subject", "verdict", "how", "why")


@dataclass(frozen=True)
class MigrationPlan:
    """What a migration will do.

    Attributes:
        source: Address of the source store.
        target: Address of the target store.
        source_spec: The source collection as it was read.
        target_spec: The target collection as it is or will be created, under the name that it has there.
        creates_target: Whether the migration creates it.
        count: Records of the source.
        ranges: In how many ranges they travel.
        known_count: Records in the target that are not the migration's.
        left_count: Records in the target that earlier generations wrote and that the source no longer has.
        generation: 0 for the first manifest of a migration.
        facts: Verdicts, id mapping, what the source filters itself.
        refusals: Why the plan cannot be applied as it is; empty where it can.
    """

    migration: str
    source: str
    target: str
    source_spec: CollectionSpec
    target_spec: CollectionSpec
    creates_target: bool
    count: int
    ranges: int
    known_count: int
    left_count: int
    generation: int
    facts: PlanFacts
    refusals: tuple[MigrationError, ...] = ()

    @property
    def is_applicable(self) -> bool:
        """Whether the migration can be run as it is."""
        return not self.refusals

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All verdicts, in the order in which they are shown."""
        return self.facts.verdicts

    def refuse(self) -> None:
        """Raise the first refusal, as planning would; quiet where there is none.

        Raises:
            MigrationError: See above.
        """
        for refusal in self.refusals:
            raise refusal

    def summary(self) -> list[tuple[str, str]]:
        """Return the facts beside the verdicts, each with its name."""
        facts = self.facts
        asked = f" (asked for as {facts.target_name!r})" if facts.target_name not in ("", self.target_spec.name) else ""
        there = "is created" if self.creates_target else f"is there, with {self.known_count} records of others"
        lines = [
            ("source", f"{self.source}, collection {self.source_spec.name!r}"),
            ("target", f"{self.target}, collection {self.target_spec.name!r}{asked}; {there}"),
            ("records", f"{self.count} in {self.ranges} ranges"),
            ("vectors", "; ".join(map(vector_line, self.target_spec.vectors)) or "none"),
            ("ids", ", ".join(f"{count} {way}" for way, count in facts.id_mapping.items()) or "none"),
            ("settings", ", ".join(f"{k}: {v}" for k, v in self.target_spec.settings.items()) or "the target's own"),
            ("records looked at", str(facts.looked_at)),
        ]
        lines += [("filter", line) for line in facts.push_down]
        if self.generation:
            lines.append(("generation", f"{self.generation}; {self.left_count} records of earlier ones stay"))
        return lines + [("refused", str(refusal)) for refusal in self.refusals]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "migration": self.migration,
            "source": {"address": self.source, "collection": self.source_spec.name},
            "target": {
                "address": self.target,
                "collection": self.target_spec.name,
                "is_created": self.creates_target,
                "records_of_others": self.known_count,
                "records_left_over": self.left_count,
            },
            "records": self.count,
            "ranges": self.ranges,
            "generation": self.generation,
            "vectors": [vector_line(vector) for vector in self.target_spec.vectors],
            "ids": dict(self.facts.id_mapping),
            "records_looked_at": self.facts.looked_at,
            "push_down": list(self.facts.push_down),
            "is_applicable": self.is_applicable,
            "refusals": [str(refusal) for refusal in self.refusals],
            "verdicts": [
                {
                    "subject": verdict.subject,
                    "verdict": str(verdict.level),
                    "how": verdict.how,
                    "why": verdict.reason,
                    "consent": verdict.consent,
                }
                for verdict in self.verdicts
            ],
        }

    def to_pandas(self) -> Any:
        """Return the verdicts as a ``pandas.DataFrame``, one per row."""
        import pandas as pd

        return pd.DataFrame(self.to_dict()["verdicts"], columns=[*COLUMNS, "consent"])

    def to_markdown(self) -> str:
        """Return the whole plan as Markdown."""
        lines = [f"- **{name}**: {_cell(text)}" for name, text in self.summary()]
        return "\n".join([*lines, "", verdict_table(self.verdicts)])

    def to_text(self, width: int = 120) -> str:
        """Return the whole plan for a terminal of that many columns."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*COLUMNS, title=f"plan of {self.migration}", title_justify="left")
        for row in verdict_rows(self.verdicts):
            table.add_row(*map(Text, row))
        console = Console(width=width, no_color=True, highlight=False, force_terminal=False)
        with console.capture() as captured:
            for name, text in self.summary():
                console.print(Text(f"{name}: {plain_line(text)}"))
            console.print(table)
        return captured.get()


def plan_of(migration: Migration, manifest: Manifest, refusals: tuple[MigrationError, ...] = ()) -> MigrationPlan:
    """Return the plan that a manifest records."""
    return MigrationPlan(
        migration=migration.name,
        source=migration.source.address,
        target=migration.target.address,
        source_spec=manifest.source_spec,
        target_spec=manifest.target_spec,
        creates_target=not manifest.target_existed,
        count=manifest.count,
        ranges=len(manifest.ranges),
        known_count=manifest.known_count,
        left_count=manifest.left_count,
        generation=manifest.generation,
        facts=manifest.plan,
        refusals=refusals,
    )


def vector_line(vector: VectorSpec) -> str:
    """Return what a vector is in one phrase."""
    size = "" if vector.kind is VectorKind.SPARSE else f" of {vector.dimension} dimensions"
    return f"{vector.name or '(unnamed)'}: {vector.kind} {vector.dtype}{size}, {vector.metric}"


def verdict_table(verdicts: tuple[Verdict, ...]) -> str:
    """Return verdicts as a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in verdict_rows(verdicts)]
    return "\n".join(lines)


def verdict_rows(verdicts: tuple[Verdict, ...]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the cells of each verdict, the worst first; of very many exact ones only the first."""
    worst_first = sorted(verdicts, key=lambda verdict: _ORDER.index(verdict.level))
    for verdict in worst_first[:_SHOWN_ROWS]:
        consent = ""
        if verdict.level is Level.LOSSY:
            consent = f" (consent: {verdict.consent})" if verdict.consent else " (needs consent)"
        cells = verdict.subject, f"{verdict.level}{consent}", verdict.how, verdict.reason
        yield tuple(map(plain_line, cells))  # type: ignore[misc]
    if len(verdicts) > _SHOWN_ROWS:
        yield f"{len(verdicts) - _SHOWN_ROWS} more", str(worst_first[-1].level), "", "the manifest has all of them"


def plain_line(text: str, most: int = _SHOWN_CHARACTERS) -> str:
    """Return a text that stays in its line, whatever a user's keys are."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return shown if len(shown) <= most else f"{shown[:most]}…"


def _cell(text: str) -> str:
    """Return a text for a cell of a Markdown table."""
    return plain_line(text).replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`").replace("<", "&lt;")
