"""The pages of the documentation, their blocks, and a page whose programs run.

Belongs here: finding blocks, running those of one page. Does not belong here: what stands for the servers
(``stand_ins.py``), what is expected of a block (``test_programs.py``).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline import retries
from rag_migration_pipeline.migrator import VectorStoreMigrator
from rag_migration_pipeline.models import MigrationResult
from rag_migration_pipeline.services import StoreService
from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.docs.stand_ins import OF_QDRANT, StandIns

FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*$")
"""The beginning or the end of a block, however it is indented or quoted."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        line: That of its first fence, from 1.
        language: What stands behind the fence.
        text: The lines between the fences.
        is_plain: Whether it stands at the margin between fences of three backticks, as all blocks of ours do.
    """

    page: str
    line: int
    language: str
    text: str
    is_plain: bool


def pages() -> dict[str, str]:
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def blocks() -> list[Block]:
    """Return all blocks of all pages."""
    return [block for page, text in pages().items() for block in blocks_of(page, text)]


def blocks_of(page: str, text: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    found: list[Block] = []
    opened: tuple[int, str, str] | None = None
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        fence = FENCE.match(line)
        if fence is None:
            continue
        if opened is None:
            opened = number, fence[1], fence[2]
        elif not fence[2] and fence[1].startswith(opened[1]):
            start, mark, language = opened
            is_plain = mark == "```" and lines[start - 1] == f"```{language}" and line == "```"
            found.append(Block(page, start, language, "\n".join([*lines[start : number - 1], ""]), is_plain))
            opened = None
    assert opened is None, f"{page}:{opened}: a block without an end"
    return found


def programs() -> list[Block]:
    """Return the Python blocks of all pages."""
    return [block for block in blocks() if block.language == "python"]


def _collections_of(text: str) -> list[str]:
    """Return the collections that programs read from Chroma."""
    named = set(re.findall(r'(?:migrate|estimate|plan|verify)\(\s*"([a-z_]+)"', text))
    named |= set(re.findall(r'migrate_safely\(source, target, "([a-z_]+)"', text))
    named |= {
        name for names in re.findall(r"migrator\.migrate, \[(.*?)\]", text) for name in re.findall(r'"(\w+)"', names)
    }
    return sorted(named - {"missing", OF_QDRANT})


@dataclass(frozen=True)
class Call:
    """A migration that a program ran."""

    migrator: VectorStoreMigrator
    source_collection: str
    given: dict[str, Any]
    result: MigrationResult

    @property
    def place(self) -> tuple[StoreService, str]:
        """The collection that it wrote to."""
        return self.migrator.target, self.result.target_collection


class Page:
    """A page whose programs run in order and share their names: each once, those before it first.

    Attributes:
        names: What the programs have defined so far.
        taken_back: Collections whose migration was rolled back.
    """

    def __init__(self, page: str, root: Path) -> None:
        """Take a page; its stores, and the files that it writes, lie under a folder."""
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.taken_back: set[tuple[StoreService, str]] = set()
        self._programs = [block for block in programs() if block.page == page]
        self._calls: dict[int, list[Call]] = {}
        self._root = root
        self._servers = StandIns(root / "stores", _collections_of("".join(block.text for block in self._programs)))

    def run(self, line: int) -> list[Call]:
        """Run what has not run yet, up to the program at a line; return the migrations that this one ran."""
        for block in self._programs:
            if block.line <= line and block.line not in self._calls:
                self._calls[block.line] = []
                with pytest.MonkeyPatch.context() as patch, retries.test_mode():
                    self._servers.install(patch)
                    self._note(patch, self._calls[block.line])
                    patch.chdir(self._root)
                    patch.setattr("builtins.input", lambda _question: "y")
                    exec(compile("\n" * block.line + block.text, block.page, "exec"), self.names)
        return self._calls[line]

    def _note(self, patch: pytest.MonkeyPatch, calls: list[Call]) -> None:
        """Note what is migrated and rolled back; workers are threads here, as an embedded folder has one process."""
        migrate, rollback = VectorStoreMigrator.migrate, VectorStoreMigrator.rollback

        def note(
            migrator: VectorStoreMigrator, source: str, target: str | None = None, *args: Any, **given: Any
        ) -> MigrationResult:
            given |= {"worker_type": "thread"} if "worker_type" in given else {}
            result = migrate(migrator, source, target, *args, **given)
            calls.append(Call(migrator, source, given, result))
            return result

        def note_rollback(migrator: VectorStoreMigrator, source: str, target: str | None = None, **given: Any) -> Any:
            self.taken_back.add((migrator.target, target or source))
            return rollback(migrator, source, target, **given)

        patch.setattr(VectorStoreMigrator, "migrate", note)
        patch.setattr(VectorStoreMigrator, "rollback", note_rollback)

    def close(self) -> None:
        """Close its stores."""
        self._servers.close()
