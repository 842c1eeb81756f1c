"""docs/fidelity.md shows the verdicts that planning makes, and examples that are true."""

import re

import pytest
import yaml

from rag_migration_pipeline.names import original_name, translate_name
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline_tests import verdict_table
from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.generated import block_on
from rag_migration_pipeline_tests.verdict_table import COLUMNS, KINDS, SETTINGS, cell

PAGE = (ROOT / "docs" / "fidelity.md").read_text()


def test_the_verdicts_are_what_the_command_prints() -> None:
    assert block_on(PAGE, "verdicts") == verdict_table.tables(), (
        "run make docs, which writes the tables into docs/fidelity.md"
    )


def test_every_kind_is_in_the_table_of_the_store_that_holds_everything() -> None:
    memory = PAGE.partition("#### From memory\n")[2].partition("####")[0]
    missing = [kind.label for kind in KINDS if f"| {kind.label} |" not in memory]
    assert missing == ["typed field"], "memory has no schema; every other kind it holds"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.label))
def test_a_store_keeps_what_it_has_when_it_goes_to_another_of_its_kind(kind: verdict_table.Kind) -> None:
    """From any store into the same one, nothing is impossible and nothing is lost unless the options ask for it."""
    for store in COLUMNS:
        if kind.name == "docs" and not kind.options:
            assert cell(kind, store, store).partition(":")[0] in ("", "exact", "note"), store


def test_the_translated_names_are_what_the_page_shows() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) == 4
    for asked, *translated in rows:
        for store, name in zip(("Chroma", "Milvus 2.3.5"), translated, strict=True):
            assert translate_name(asked, SETTINGS[store].name_rule) == name
            assert original_name(name) == asked


def test_the_examples_of_options_are_understood() -> None:
    blocks = [
        block
        for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
        if "_lossy" in block or "vectors" in block
    ]
    assert len(blocks) == 2
    for line in "".join(blocks).splitlines():
        MigrationOptions.model_validate(yaml.safe_load(line))
