"""docs/mapping.md shows mappings that work, and every conversion that there is."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_migration_pipeline.mapping import SchemaMapping
from rag_migration_pipeline.mapping.conversions import conversion_names
from rag_migration_pipeline.spec import spec_from_values

PAGE = (Path(__file__).parents[2] / "docs" / "mapping.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(yaml|python)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "yaml"])
def test_the_declarations_of_the_page_are_read(text: str) -> None:
    spec_from_values(yaml.safe_load(text))


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "python"])
def test_the_programs_of_the_page_run(text: str) -> None:
    names: dict[str, Any] = {"__name__": "docs_mapping"}
    exec(compile(text, "docs/mapping.md", "exec"), names)
    assert any(isinstance(value, SchemaMapping) for value in names.values())


def test_the_page_names_every_conversion_and_every_key() -> None:
    table = PAGE.partition("### Conversions")[2].partition("### Records")[0]
    assert (
        set(re.findall(r"`([a-z_0-9]+)", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
        == {*conversion_names()} | set()
    )
    assert {name for name in SchemaMapping.model_fields if f"`{name}`" not in PAGE} == {"id_kind"}
