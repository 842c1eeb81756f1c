"""Every block of README and docs is looked at; every Python block runs as it stands, and does what it says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_migration_pipeline.config_files import read_config
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.orchestration.corrections import ReplayConfig
from rag_migration_pipeline.orchestration.defs_folder import load_defs_folder
from rag_migration_pipeline.orchestration.run_options import RunOptions
from rag_migration_pipeline.spec import spec_from_values
from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.docs.page import Block, Call, Page, blocks, blocks_of, programs

ELSEWHERE = {
    ("docs/mapping.md", "python"): "unit/test_docs_mapping.py",
    ("docs/quarantine.md", "python"): "unit/test_docs_quarantine.py",
    ("docs/fidelity.md", "yaml"): "unit/test_docs_fidelity.py",
    ("docs/filters.md", "yaml"): "unit/test_docs_filters.py",
    ("docs/filters.md", "text"): "unit/test_docs_filters.py",
    ("docs/stores.md", "yaml"): "unit/test_docs_stores.py",
    **{("docs/guide.md", language): "docs/test_guide.py" for language in ("bash", "python", "yaml", "text")},
}
"""Pages with tests of their own, which look at their blocks of a language."""

SHELLS = {"bash", "console", ""}
LANGUAGES = {"python", "yaml", "text", "json", *SHELLS}


def names(found: list[Block]) -> Any:
    return [pytest.param(block, id=f"{block.page}:{block.line}") for block in found]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Page]]:
    """Every page with programs, in a folder of its own."""
    found = {page: Page(page, tmp_path_factory.mktemp("page")) for page in {block.page for block in here()}}
    yield found
    for page in found.values():
        page.close()


def here() -> list[Block]:
    """Return the programs that run here."""
    return [block for block in programs() if (block.page, "python") not in ELSEWHERE]


@pytest.mark.parametrize("block", names(here()))
def test_a_program_runs_and_what_it_migrates_arrives(block: Block, opened: dict[str, Page]) -> None:
    page = opened[block.page]
    calls = page.run(block.line)
    assert calls or ".migrate(" not in block.text or "def " in block.text, "it migrated nothing"
    for call in calls:
        assert call.result.vectors_failed == call.result.metadata["rejected"], call.result.errors
    for place, call in {call.place: call for call in calls}.items():
        if place in page.taken_back:
            assert place[1] not in place[0].list_collections(), "it was rolled back"
        else:
            judge(call)
    if "migration_definitions(" in block.text:
        assert len(list(page.names["defs"].assets)) == 3


def judge(call: Call) -> None:
    """What the last migration into a collection carried is there, the same, and all of it."""
    result, given = call.result, call.given
    assert (result.success, result.vectors_failed) == (True, 0), result.errors
    if given.get("dry_run"):
        return
    if not (given.get("incremental") or given.get("resume")):
        assert result.vectors_migrated > 0, "a filter that takes nothing shows nothing"
    options = {name: given[name] for name in ("filter", "schema_mapping") if name in given}
    found = call.migrator.verify(call.source_collection, result.target_collection, **options)
    assert (found.missing, found.changed) == ([], {}), found.summary()
    assert found.compared == found.expected > 0
    assert call.migrator.target.count(result.target_collection) >= found.expected


def test_every_block_is_looked_at() -> None:
    """A block that is indented, quoted, without an end, or in another language than these is one that nobody reads."""
    for block in blocks():
        assert block.is_plain, f"{block.page}:{block.line}: fences are three backticks at the margin"
        assert block.language in LANGUAGES, f"{block.page}:{block.line}: {block.language or 'no language'}"
    for (page, language), test in ELSEWHERE.items():
        text = (ROOT / "rag_migration_pipeline_tests" / test).read_text()
        assert Path(page).name in text, f"{test} looks at {page}"
        assert language in text, f"{test} looks at {language} of {page}"
    seen = {(block.page, block.language) for block in blocks()}
    assert set(ELSEWHERE) <= seen, "a page that is gone, or has no such block any more"


def test_a_block_is_found_wherever_it_hides() -> None:
    listed, other, plain = "- a list\n\n    ```py\n    x = 1\n    ```\n", "~~~python\n```\n~~~", "```python\ny = 2\n```"
    found = blocks_of("page", f"{listed}\n{other}\n\n{plain}\n> ```python\n> z\n> ```\n")
    assert [(block.line, block.language, block.is_plain) for block in found] == [
        (3, "py", False),
        (7, "python", False),
        (11, "python", True),
        (14, "python", False),
    ]
    assert found[2].text == "y = 2\n"
    with pytest.raises(AssertionError, match="without an end"):
        blocks_of("page", "```python\n")


def shell_lines(block: Block) -> list[str]:
    """Return the commands of a shell block that are not of rag-migrate, which cli/test_docs_cli.py looks at."""
    lines = [line.removeprefix("$ ").strip() for line in block.text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if not line.startswith("rag-migrate")]


SHELL = [block for block in blocks() if block.language in SHELLS and (block.page, block.language) not in ELSEWHERE]


@pytest.mark.parametrize("block", names(SHELL))
def test_what_shells_are_told_exists(block: Block) -> None:
    """Targets of the Makefile, modules of ours and files that are copied."""
    makefile, folder = (ROOT / "Makefile").read_text(), ROOT
    for line in shell_lines(block):
        folder /= next(iter(re.findall(r"^cd (\S+)", line)), "")
        for target in re.findall(r"^make ([a-z-]+)", line):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), line
        for module in re.findall(
            r"-m ((?:rag_migration_pipeline|rag_migration_pipeline_tests|benchmarks)[\w.]*)", line
        ):
            path = ROOT.joinpath(*module.split("."))
            is_run = "python -m" in line
            assert path.with_suffix(".py").exists() or (is_run and (path / "__main__.py").exists()), line
        for name in re.findall(r"^cp (\S+)", line):
            assert (folder / name).exists(), line


YAML = [block for block in blocks() if block.language == "yaml" and (block.page, "yaml") not in ELSEWHERE]


@pytest.mark.parametrize("block", names(YAML))
def test_every_description_is_understood(block: Block, tmp_path: Path) -> None:
    """Migrations by the code that reads them, and what else there is by what it is for."""
    values = yaml.safe_load(block.text)
    if "ops" in values:
        (config,) = [op["config"] for op in values["ops"].values()]
        assert ReplayConfig(**config).path
    elif "resources" in values:
        (launch,) = [resource["config"] for resource in values["resources"].values()]
        assert RunOptions(**launch).applied_to(MigrationOptions()) != MigrationOptions()
    elif "services" in values:
        compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
        assert values["services"].keys() <= compose["services"].keys()
    elif "type" in values:
        (tmp_path / "defs.yaml").write_text(block.text)
        assert load_defs_folder(tmp_path).migrations
    else:
        path = tmp_path / "migration.yaml"
        path.write_text(block.text)
        for item in read_config(path, {}):
            assert spec_from_values(item.values).source
