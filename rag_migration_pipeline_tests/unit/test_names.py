"""A translated collection name is legal, one to one and read back; a suggestion is legal."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_migration_pipeline.locators import parse_locator
from rag_migration_pipeline.names import NameRule, original_name, suggest_name, translate_name
from rag_migration_pipeline.stores.abilities import abilities
from rag_migration_pipeline.stores.registry import settings_for

URLS = {
    "Chroma folder": "chroma+file:///dir/docs",
    "Chroma server": "chroma://host:8000/docs",
    "Qdrant folder": "qdrant+file:///dir/docs",
    "Qdrant edge": "qdrant+edge:///dir/docs",
    "Qdrant server": "qdrant://host:6333/docs",
    "Milvus Lite file": "milvus+file:///dir/lite.db/docs",
    "Milvus Lite server": "milvus://host:19530/docs",
    "Milvus server": "milvus://host:19530/docs",
    "memory": "memory://docs",
}
RULES = {label: settings_for(parse_locator(url, "target", {})).name_rule for label, url in URLS.items()}
STORES = ("Chroma folder", "Qdrant folder", "Milvus server", "memory")
BACKUP = f"backup_{datetime(2026, 1, 2, 3, 4, 5, 678, UTC).isoformat()}"

PARTS = (
    "_",
    "_x",
    "_x_",
    "_x2d_",
    "n_x_",
    "_x_n",
    "x",
    "-",
    ".",
    "..",
    "/",
    "é",
    "漢",
    "🜚",
    "a",
    "7",
    "\n",
    "\x00",
    " ",
)
texts = st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map("".join) | st.text(min_size=1, max_size=12)


def test_settings_and_capabilities_agree_on_names() -> None:
    assert {label: rule.pattern for label, rule in RULES.items()} == {
        label: held.collection_name_pattern for label, held in abilities().items()
    }


@pytest.mark.parametrize("store", STORES)
@given(texts)
@example("_")
@example("1.2.3.4")
@example("_x2d_")
@example("n_x_a_x_n")
@example("_xaé")
@example(BACKUP)
@example("\ud800")
def test_a_translation_is_legal_and_reversible(store: str, name: str) -> None:
    translated = translate_name(name, RULES[store])
    assert RULES[store].allows(translated)
    assert original_name(translated) == name
    assert RULES[store].allows(suggest_name(name, RULES[store]))


@pytest.mark.parametrize("store", STORES)
@given(st.lists(texts, unique=True, max_size=30), st.integers(1, 600))
def test_two_names_never_become_one(store: str, names: list[str], repeats: int) -> None:
    """Also where names are too long, and end in a digest."""
    rule = RULES[store]
    found = {translate_name(name, rule) for name in [*names, *(name * repeats for name in names)]}
    assert len(found) == len({*names, *(name * repeats for name in names)})
    assert all(rule.allows(name) for name in found)


@pytest.mark.parametrize("store", ["Chroma folder", "Milvus server", "Qdrant folder"])
def test_a_name_that_is_too_long_ends_in_its_digest(store: str) -> None:
    one, other = "é" * 600, "é" * 601
    rule = RULES[store]
    translated = translate_name(one, rule)
    assert re.search(r"_x_[0-9a-f]{16}$", translated)
    assert rule.allows(translated)
    assert rule.allows(suggest_name(one, rule))
    assert original_name(translated) is None
    assert translated != translate_name(other, rule)


@pytest.mark.parametrize(
    ("store", "name", "translated", "suggested"),
    [
        ("Chroma folder", "docs", "docs", "docs"),
        ("Chroma folder", "my_xray", "my_xray", "my_xray"),
        ("Chroma folder", BACKUP, *("backup_2026-01-02T03_x3a_04_x3a_05.000678_x2b_00_x3a_00",
                                    "backup_2026-01-02T03_04_05.000678_00_00")),
        ("Milvus server", BACKUP, *("backup_2026_x2d_01_x2d_02T03_x3a_04_x3a_05_x2e_000678_x2b_00_x3a_00",
                                    "backup_2026_01_02T03_04_05_000678_00_00")),
        ("Milvus server", "7docs", "n_x_7docs", "c_7docs"),
        ("Chroma folder", "a", "n_x_a", "c_a"),
        ("Chroma folder", "_docs_", "n_x__docs__x_n", "docs"),
        ("Milvus server", "a_x2d_b", "a_x5f__x78_2d_b", "a_x2d_b"),
        ("memory", "any: name/", "any: name/", "any: name/"),
    ],
)  # fmt: skip
def test_names_look_as_documented(store: str, name: str, translated: str, suggested: str) -> None:
    assert translate_name(name, RULES[store]) == translated
    assert suggest_name(name, RULES[store]) == suggested


def test_the_limit_in_bytes_counts_where_the_pattern_counts_characters() -> None:
    rule = NameRule(r".{1,255}", max_bytes=255)
    assert rule.allows("é" * 127)
    assert not rule.allows("é" * 128)
