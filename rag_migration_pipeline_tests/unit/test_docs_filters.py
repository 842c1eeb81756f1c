"""docs/filters.md shows filters that are read, and the operators that there are."""

import re
from pathlib import Path

import yaml

from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.filters.nodes import OPERATORS

PAGE = (Path(__file__).parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")


def test_the_examples_of_the_page_are_filters() -> None:
    blocks = re.findall(r"```(yaml|text)\n(.*?)```", PAGE, re.DOTALL)
    assert {kind for kind, _ in blocks} == {"yaml", "text"}
    for kind, text in blocks:
        parse_filter(yaml.safe_load(text)["filter"] if kind == "yaml" else text)


def test_the_page_names_every_operator() -> None:
    table = PAGE.partition("## Operators")[2].partition("## Values")[0]
    assert {name for name in re.findall(r"\$[a-z_]+", table) if name in OPERATORS} == set(OPERATORS)
