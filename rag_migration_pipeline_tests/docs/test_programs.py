"""Every Python block of README and docs runs as it stands, against real embedded stores, and does what it says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline import retries
from rag_migration_pipeline.config_files import read_config
from rag_migration_pipeline.migrator import VectorStoreMigrator
from rag_migration_pipeline.models import MigrationResult
from rag_migration_pipeline.spec import spec_from_values
from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.docs.stand_ins import OF_QDRANT, StandIns

ELSEWHERE = {
    "docs/mapping.md": "unit/test_docs_mapping.py",
    "docs/quarantine.md": "unit/test_docs_quarantine.py",
}
"""Pages with tests of their own, which run their blocks."""

Call = tuple[VectorStoreMigrator, dict[str, Any], MigrationResult]


def pages() -> dict[str, str]:
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def programs() -> dict[str, list[tuple[int, str]]]:
    """Return the Python blocks of each page, each with its line."""
    found = {}
    for page, text in pages().items():
        blocks = re.finditer(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
        found[page] = [(text.count("\n", 0, block.start()) + 1, block[1]) for block in blocks]
    return {page: blocks for page, blocks in found.items() if blocks}


def collections_of(blocks: list[tuple[int, str]]) -> list[str]:
    """Return the collections that the blocks read from Chroma."""
    text = "\n".join(block for _, block in blocks)
    named = set(re.findall(r'(?:migrate|estimate|plan|verify)\(\s*"([a-z_]+)"', text))
    named |= set(re.findall(r'migrate_safely\(source, target, "([a-z_]+)"', text))
    named |= {
        name for names in re.findall(r"migrator\.migrate, \[(.*?)\]", text) for name in re.findall(r'"(\w+)"', names)
    }
    return sorted(named - {"missing", OF_QDRANT})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Call]]:
    """Every migration that is run, with what it was called with and what it returned."""
    made: list[Call] = []
    real = VectorStoreMigrator.migrate

    def note(self: VectorStoreMigrator, source: str, target: str | None = None, *args: Any, **named: Any) -> Any:
        result = real(self, source, target, *args, **named)
        made.append((self, {"source_collection": source, **named}, result))
        return result

    monkeypatch.setattr(VectorStoreMigrator, "migrate", note)
    with retries.test_mode():
        yield made


@pytest.mark.parametrize("page", sorted(programs().keys() - ELSEWHERE.keys()))
def test_the_programs_of_a_page_run_and_what_they_migrate_arrives(
    page: str, calls: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = programs()[page]
    servers = StandIns(tmp_path / "stores", collections_of(blocks))
    servers.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda _question: "y")
    names: dict[str, Any] = {"__name__": "page"}
    try:
        for line, block in blocks:
            before = len(calls)
            exec(compile("\n" * line + block, page, "exec"), names)
            for call in calls[before:]:
                judge(call, f"{page}:{line}")
    finally:
        servers.close()
    assert calls or "defs" in names


def judge(call: Call, where: str) -> None:
    """Whatever a block migrated is in the target, and the same."""
    migrator, given, result = call
    assert result.success, (where, result.errors)
    assert result.vectors_failed == 0, where
    if given.get("dry_run"):
        return
    if not (given.get("incremental") or given.get("resume")):
        assert result.vectors_migrated > 0, f"{where}: a filter that takes nothing shows nothing"
    options = {name: given[name] for name in ("filter", "schema_mapping") if name in given}
    found = migrator.verify(given["source_collection"], result.target_collection, **options)
    assert (found.missing, found.changed) == ([], {}), (where, found.summary())
    assert found.compared > 0, where


def test_no_block_is_forgotten() -> None:
    """A block in another language than these is one that nobody looks at."""
    known = {"", "python", "yaml", "bash", "console", "text", "json", "toml", "sql", "dockerfile", "ini", "mermaid"}
    for page, text in pages().items():
        languages = re.findall(r"^```(\S*)\n.*?^```", text, flags=re.DOTALL | re.MULTILINE)
        assert set(languages) <= known, page
    for page, test in ELSEWHERE.items():
        assert page in (ROOT / "rag_migration_pipeline_tests" / test).read_text(), f"{test} runs the blocks of {page}"


def test_what_shells_are_told_exists() -> None:
    """Targets of the Makefile and modules that the pages name are there; rag-migrate has its own test."""
    makefile = (ROOT / "Makefile").read_text()
    for page, text in pages().items():
        for block in re.findall(r"^```(?:bash|console)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
            for target in re.findall(r"^(?:\$ )?make ([a-z-]+)", block, flags=re.MULTILINE):
                assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"{page}: make {target}"
            for module in re.findall(r"python -m ([\w.]+)", block):
                path = ROOT.joinpath(*module.split("."))
                is_ours = module.partition(".")[0] in {
                    "rag_migration_pipeline",
                    "rag_migration_pipeline_tests",
                    "benchmarks",
                }
                assert not is_ours or path.with_suffix(".py").exists() or (path / "__main__.py").exists(), (
                    f"{page}: {module}"
                )


def described() -> list[tuple[str, str]]:
    """Return the YAML blocks that describe migrations."""
    return [
        (page, block)
        for page, text in pages().items()
        for block in re.findall(r"^```yaml\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
        if re.search(r"^\s*source: \w+(\+\w+)?://", block, flags=re.MULTILINE)
    ]


@pytest.mark.parametrize(("page", "block"), described())
def test_every_description_of_a_migration_is_understood(page: str, block: str, tmp_path: Path) -> None:
    path = tmp_path / "migration.yaml"
    path.write_text(block)
    for item in read_config(path, {}):
        assert spec_from_values(item.values).source, page


def test_there_are_descriptions() -> None:
    assert len(described()) >= 4
