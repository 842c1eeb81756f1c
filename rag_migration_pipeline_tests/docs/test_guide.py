"""docs/guide.md is followed literally: python and yaml blocks are saved, bash blocks run, text blocks are printed."""

import os
import re
import subprocess
from pathlib import Path

import psutil
import pytest

from rag_migration_pipeline.orchestration.defs_folder import load_defs_folder
from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.docs.page import Block, blocks_of
from rag_migration_pipeline_tests.docs.shell import Shell
from rag_migration_pipeline_tests.servers.process import free_port

PAGE = "docs/guide.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
PORTS = ("CHROMA_PORT", "DAGSTER_PORT", "HOOK_PORT")
HANDLED = {"bash", "python", "yaml", "text"}
OURS = re.compile(r"DAGSTER_|RAG_|HOOK_|CHROMA_|PYTHONDONTWRITEBYTECODE|VIRTUAL_ENV")
"""Variables that a reader's shell does not have yet."""


def guide() -> list[Block]:
    return blocks_of(PAGE, TEXT)


def file_of(block: Block) -> str:
    """Return the file that a block is to be saved as: what the words before it name."""
    before = "\n".join(TEXT.splitlines()[: block.line - 1]).rstrip().rpartition("\n\n")[2]
    (name,) = re.findall(r"[Ss]ave (?:this|it) as\s`([\w./]+)`", before)
    return str(name)


def saved() -> dict[str, Block]:
    return {file_of(block): block for block in guide() if block.language in ("python", "yaml")}


def test_every_block_of_the_guide_has_its_part() -> None:
    assert {block.language for block in guide()} == HANDLED
    assert len(saved()) == sum(block.language in ("python", "yaml") for block in guide()), "two of one name"
    run = "".join(block.text for block in guide() if block.language == "bash")
    for name in saved():
        assert name in run or name == "defs/docs_copy/defs.yaml", f"nothing uses {name}"
    for port in PORTS:
        assert f'{port}="${{{port}:-' in run
    assert "Other ports can be chosen by setting these three variables" in run


@pytest.mark.parametrize("block", [pytest.param(block, id=f"{block.language}:{block.line}") for block in guide()])
def test_every_block_can_be_understood(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without running it, so that a mistake is seen in `make test` as well."""
    if block.language == "bash":
        subprocess.run(["bash", "-n", "-c", block.text], check=True)
    elif block.language == "python":
        compile(block.text, file_of(block), "exec")
    elif file_of_yaml(block) == "defs/docs_copy/defs.yaml":
        monkeypatch.setenv("HOOK_KEY", "k")
        (tmp_path / "defs.yaml").write_text(block.text)
        (migration,) = load_defs_folder(tmp_path).migrations
        options = migration.declaration.options
        assert options.schedule
        assert options.watch is not None
        assert len(options.notify) == 2


def file_of_yaml(block: Block) -> str:
    return file_of(block) if block.language == "yaml" else ""


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(900)
def test_a_reader_who_follows_the_guide_gets_where_it_leads(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    ports = {name: str(free_port()) for name in PORTS}
    shown = ""
    with Shell(tmp_path, ROOT, {**kept, **ports, "HOME": str(home)}) as shell:
        for block in guide():
            if block.language == "bash":
                shown = shell.run(block.text)
            elif block.language == "text":
                assert block.text.strip() in shown, f"{PAGE}:{block.line} promises other words than:\n{shown}"
            else:
                (home / "rag_guide" / file_of(block)).write_text(block.text)
        left = [process for process in shell.processes() if process.name() != "bash"]
        assert psutil.wait_procs(left, timeout=30)[1] == [], "the last section stops everything"
    (alert,) = (home / "rag_guide" / "alerts.txt").read_text().splitlines()
    assert f"http://127.0.0.1:{ports['DAGSTER_PORT']}/runs/" in alert
    assert "max_deletes" in alert
