"""docs/cli.md is what the command is, and its examples are understood."""

import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer

from rag_migration_pipeline.cli import app as command
from rag_migration_pipeline_tests.cli import pages
from rag_migration_pipeline_tests.contract.elsewhere import ROOT

PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
MAX_HELP_CPU_S = 0.5


@pytest.mark.parametrize("name", pages.blocks())
def test_the_generated_parts_are_what_the_command_says(name: str) -> None:
    shown = PAGES["cli.md"].partition(f"<!-- {name} -->\n")[2].partition("\n<!-- end -->")[0]
    assert shown == pages.blocks()[name], "run make docs"


def examples() -> list[tuple[str, str]]:
    found = []
    for page, text in PAGES.items():
        for block in re.findall(r"```(?:bash|console|shell)\n(.*?)```", text, flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = line.removeprefix("$ ").strip()
                if re.match(r"(\.venv/bin/)?rag-migrate\b", words):
                    found.append((page, words))
    return found


@pytest.mark.parametrize(("page", "line"), examples())
def test_every_example_is_understood(page: str, line: str) -> None:
    """The real parser takes it apart; it runs nothing, and installs nothing."""
    group: Any = typer.main.get_command(command.app)
    words = shlex.split(line, comments=True)[1:]
    name = next((word for word in words if word in group.commands), None)
    if words == ["--install-completion"]:
        assert group.make_context("rag-migrate", words, resilient_parsing=True) is not None
    elif name is None:
        assert group.make_context("rag-migrate", words).params, page
    else:
        assert words[0] == name, f"{page}: options stand behind the command"
        assert group.commands[name].make_context(name, words[1:]).params, page


def test_there_are_examples() -> None:
    assert len(examples()) >= 10


def test_help_is_quick() -> None:
    program = (
        "import sys, time, io, contextlib\n"
        "from rag_migration_pipeline.cli.app import main\n"
        "sys.argv = ['rag-migrate', '--help']\n"
        "try:\n"
        "    with contextlib.redirect_stdout(io.StringIO()): main()\n"
        "except SystemExit: pass\n"
        "print(time.process_time())\n"
    )
    spent = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
        for _ in range(4)
    ]
    assert min(spent) < MAX_HELP_CPU_S
