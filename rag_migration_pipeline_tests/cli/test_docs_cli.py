"""docs/cli.md is what the command is, and its examples are understood."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from rag_migration_pipeline.cli import app as command
from rag_migration_pipeline_tests.cli import pages
from rag_migration_pipeline_tests.cli.running import fill
from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.generated import block_on

PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
MAX_HELP_CPU_S = 0.5


@pytest.mark.parametrize("name", pages.blocks())
def test_the_generated_parts_are_what_the_command_says(name: str) -> None:
    assert block_on(PAGES["cli.md"], name) == pages.blocks()[name], "run make docs"


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


def blocks_of(page: str) -> list[list[str]]:
    """Return the shell blocks of a page that name the command, each with its lines."""
    blocks = re.findall(r"```(?:bash|console|shell)\n(.*?)```", PAGES[page], flags=re.DOTALL)
    lines = [[line.removeprefix("$ ").strip() for line in text.replace("\\\n", " ").splitlines()] for text in blocks]
    return [found for block in lines if (found := [line for line in block if line.startswith("rag-migrate ")])]


@pytest.mark.parametrize("page", sorted({page for page, _ in examples()}))
def test_the_examples_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, with folders in place of the servers: a source of its own, and for each block a new target."""
    fill(f"chroma+file://{tmp_path}/chroma/docs", year=2025)
    fill(f"qdrant+edge://{tmp_path}/qdrant/docs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAG_MIGRATE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DAGSTER_WEBSERVER_URL", "http://127.0.0.1:1")
    sources = {
        "chroma://localhost:8000/docs": f"chroma+file://{tmp_path}/chroma/docs",
        "chroma://${CHROMA_HOST:-localhost}:8000/docs": f"chroma+file://{tmp_path}/chroma/docs",
        "qdrant://localhost:6333/docs": f"qdrant+edge://{tmp_path}/qdrant/docs",
    }
    for number, block in enumerate(blocks_of(page)):
        targets = {
            "qdrant://localhost:6333/docs": f"qdrant+edge://{tmp_path}/target{number}/docs",
            "milvus://localhost:19530/docs": f"milvus+file://{tmp_path}/target{number}/lite.db/docs",
        }
        described = next(iter(re.findall(r"```yaml\n(name: .*?)```", PAGES[page], flags=re.DOTALL)), "")
        values = yaml.safe_load(described) or {}
        if values:
            values |= {"source": sources[values["source"]], "target": targets[values["target"]]}
            Path("migration.yaml").write_text(yaml.safe_dump(values))
        for line in block:
            words = shlex.split(line, comments=True)[1:]
            for at, word in enumerate(words):
                places = sources if words[at - 1] == "--source" else targets if words[at - 1] == "--target" else {}
                words[at] = places.get(word, word)
            if words != ["--install-completion"]:
                done = CliRunner().invoke(command.app, words)
                is_alone = words[0] in ALONE or "--dagster" in words
                assert done.exit_code == int(is_alone), (line, done.output)


ALONE = ("replay", "launch")
"""There is no repaired file to be found, and no Dagster: test_commands.py and test_launch_for_real.py have them."""


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
