"""docs/stores.md shows what the commands print, and names only URLs that are understood."""

import re
from collections.abc import Callable

import pytest
import yaml

from rag_migration_pipeline.locators import parse_locator
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.stores.abilities import ROWS, abilities, ability_table
from rag_migration_pipeline.stores.registry import ADAPTERS, settings_for
from rag_migration_pipeline.target_fields import parse_target_fields
from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.contract.gaps import gap_table
from rag_migration_pipeline_tests.generated import block_on

PAGE = (ROOT / "docs" / "stores.md").read_text()


@pytest.mark.parametrize(("block", "table"), [("abilities", ability_table), ("gaps", gap_table)])
def test_the_tables_are_what_the_commands_print(block: str, table: Callable[[], str]) -> None:
    shown = block_on(PAGE, block)
    assert shown == table(), f"paste the output of the command into the block <!-- {block} --> of docs/stores.md"


def test_every_url_of_the_page_is_understood() -> None:
    urls = re.findall(r"`([a-z+]+://[^`]+)`", PAGE)
    assert {url.partition("://")[0] for url in urls} == set(ADAPTERS)
    for url in urls:
        settings = settings_for(parse_locator(url, "source", {}))
        assert settings.address.startswith(url.partition("://")[0])


def test_the_examples_of_options_are_understood() -> None:
    examples = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    given = [parse_target_fields(MigrationOptions.model_validate(values).target_fields) for values in examples]
    assert [len(request.fields) for request in given] == [3]
    options = re.findall(r"`(\w+: [\w]+)`", PAGE.partition("### Typed fields")[2].partition("###")[0])
    assert [MigrationOptions.model_validate(yaml.safe_load(text)) for text in options]
    assert len(options) == 3


def test_the_table_has_a_column_per_form_and_a_row_per_ability() -> None:
    lines = ability_table().splitlines()
    assert len(lines) == len(ROWS) + 2
    assert {line.count("|") for line in lines} == {len(abilities()) + 2}
