"""Gaps: laws that a store form does not keep, each with its reason and the error that shows it.

Belongs here: the three marks, and the command that lists them. Does not belong here: what a store cannot hold by its
nature and refuses properly; that is `Capabilities`, and the laws check the refusal.

A mark is a class decorator that names the law. It is strict: once the law holds the mark fails the suite, so that a
fix forces the mark away. ``python -m rag_migration_pipeline_tests.contract.gaps`` prints all marks as a table, and with
``--write docs/stores.md`` puts it, and the table of abilities, where they stand there.

    notimpl   the store could, our adapter does not do it
    notyet    the store cannot in the version we pin; it may one day
    never     it contradicts what the store is
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rag_migration_pipeline.stores.abilities import ability_table
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.generated import write_blocks

FormT = TypeVar("FormT", bound=type[StoreForm])

TEST_MODULES = ("test_memory", "test_chroma", "test_qdrant", "test_milvus")


@dataclass(frozen=True)
class Gap:
    """One law that one form does not keep.

    Attributes:
        law: Name of the law's test; with ``[parameter]`` behind it only for that parameter.
        kind: notimpl, notyet or never.
        raises: What the law's test ends with; anything else is a failure.
    """

    law: str
    kind: str
    reason: str
    raises: type[BaseException] | tuple[type[BaseException], ...]


def _marker(
    kind: str, law: str, reason: str, raises: type[BaseException] | tuple[type[BaseException], ...]
) -> Callable[[FormT], FormT]:
    if not reason.strip():
        raise ValueError(f"a gap needs a reason: {kind}({law!r})")

    def mark(form: FormT) -> FormT:
        if not hasattr(form, law.partition("[")[0]):
            raise ValueError(f"{form.__name__} has no law {law!r}")
        form.gaps = {**form.gaps, law: Gap(law, kind, reason, raises)}
        return form

    return mark


def notimpl(law: str, *, reason: str, raises: type[BaseException]) -> Callable[[FormT], FormT]:
    """Mark a law that the store could keep and our adapter does not keep."""
    return _marker("notimpl", law, reason, raises)


def notyet(law: str, *, reason: str, raises: type[BaseException]) -> Callable[[FormT], FormT]:
    """Mark a law that the store cannot keep in the pinned version."""
    return _marker("notyet", law, reason, raises)


def never(law: str, *, reason: str, raises: type[BaseException]) -> Callable[[FormT], FormT]:
    """Mark a law that contradicts what the store is."""
    return _marker("never", law, reason, raises)


def gap_of(form: type, name: str) -> Gap | None:
    """Return the gap that covers a test, by its full name (with parameter) or by its law's name."""
    gaps: Mapping[str, Gap] = getattr(form, "gaps", {})
    return gaps.get(name) or gaps.get(name.partition("[")[0])


def all_forms() -> list[type[StoreForm]]:
    """Return every test class of a store form, in the order of the docs."""
    forms: list[type[StoreForm]] = []
    for name in TEST_MODULES:
        module = importlib.import_module(f"rag_migration_pipeline_tests.contract.{name}")
        forms += [
            item
            for item in vars(module).values()
            if isinstance(item, type) and issubclass(item, StoreForm) and item.__name__.startswith("Test")
        ]
    return forms


def gap_table() -> str:
    """Return all gaps as a Markdown table."""
    lines = ["| Form | Law | Kind | Reason |", "|---|---|---|---|"]
    for form in all_forms():
        for gap in sorted(form.gaps.values(), key=lambda item: item.law):
            law = gap.law.removeprefix("test_").replace("_", " ")
            lines.append(f"| {form.label} | {law} | {gap.kind} | {gap.reason} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write_blocks(Path(sys.argv[2]), {"abilities": ability_table(), "gaps": gap_table()})
    else:
        print(gap_table())  # noqa: T201  this is the command
