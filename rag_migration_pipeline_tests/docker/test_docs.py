"""docs/deployment.md says what the files say, and quotes no figure that nobody measured.

Belongs here: that page. Does not belong here: its shell and YAML blocks (``docs/test_programs.py``).
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_migration_pipeline import state
from rag_migration_pipeline.remote_errors import EXTRAS
from rag_migration_pipeline.remote_files import BLOCK_BYTES, RemotePath, location_of
from rag_migration_pipeline_tests.contract.elsewhere import ROOT

PAGE = (ROOT / "docs" / "deployment.md").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())


def section(heading: str) -> str:
    """Return the text below a heading, to the next one of its level."""
    level = heading.partition(" ")[0]
    return re.split(rf"^{level} ", PAGE.partition(f"\n{heading}\n")[2], flags=re.MULTILINE)[0]


def test_every_figure_of_the_sizing_table_stands_in_the_benchmarks() -> None:
    measured = (ROOT / "docs" / "benchmarks.md").read_text()
    rows = [line for line in section("## Sizing").splitlines() if line.startswith("| ")][1:]
    elsewhere = [row for row in rows if "does nothing" in row]
    assert len(elsewhere) == 1, "measured apart from the benchmarks, with a machine beside it"
    figures = {figure for row in rows if row not in elsewhere for figure in re.findall(r"\d[\d,.]*\d", row)}
    assert len(figures) > 8
    assert {figure for figure in figures if figure not in measured} == set()


def test_every_service_and_profile_is_described() -> None:
    table = section("## One machine").partition("```")[0]
    assert set(re.findall(r"^\| (`.*?`) \|", table, flags=re.MULTILINE)) == {
        *(f"`{name}`" for name in COMPOSE["services"] if name not in ("chroma", "qdrant", "milvus")),
        "`chroma`, `qdrant`, `milvus`",
    }
    for profile in ("stores", "demo"):
        assert f"`--profile {profile}`" in table


def test_versions_on_the_page_are_those_of_the_files() -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    (chart,) = re.findall(r"--version (\S+)", PAGE)
    assert chart == pinned["dagster"]
    assert f"{pinned['dagster']} belongs to\n  {pinned['dagster-postgres']}" in PAGE
    for name in re.findall(r"`(docker/[\w./]+)`", PAGE):
        assert (ROOT / name).exists(), name


def test_a_url_for_the_state_is_a_folder_as_the_page_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day this fails, the table in "Where state lies" has to change."""
    monkeypatch.setenv("RAG_MIGRATE_STATE_DIR", "s3://bucket/state")
    assert str(state.default_state_dir()) == "s3:/bucket/state"
    assert "**no**: state is opened with `pathlib`" in section("### Where state lies")


def test_every_kind_of_place_for_staged_records_has_its_extra_on_the_page() -> None:
    page = section("### Staged records on an object store")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in set(EXTRAS.values()):
        assert extra in extras
        assert re.search(rf"\b{extra}\b", page.partition("export")[0]), extra
    for text in re.findall(r"`(\w+://)`", page):
        assert isinstance(location_of(f"{text}bucket/prefix"), RemotePath)
    assert location_of("file:///path") == Path("/path")
    assert f"parts of {BLOCK_BYTES // 2**20} MiB" in page
