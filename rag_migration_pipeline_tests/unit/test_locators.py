"""Store URLs say where and what, secrets come from the environment, and none is ever shown."""

import pytest

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.locators import Locator, Role, mask_url, parse_locator
from rag_migration_pipeline.stores.memory import MemorySettings
from rag_migration_pipeline.stores.registry import settings_for

SECRET = "s3cr3t-Xyzzy"


def parse(url: str, role: Role = "source", **environment: str) -> Locator:
    return parse_locator(url, role, environment)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("chroma://host:8000/docs", Locator("chroma", "docs", "host", 8000)),
        ("qdrant://host/docs", Locator("qdrant", "docs", "host", None)),
        ("milvus://10.0.0.1:19530/docs", Locator("milvus", "docs", "10.0.0.1", 19530)),
        ("qdrant://[::1]:6333/docs", Locator("qdrant", "docs", "::1", 6333)),
        ("chroma+file:///a/b/docs", Locator("chroma+file", "docs", path="/a/b")),
        ("milvus+file:///a/lite.db/docs", Locator("milvus+file", "docs", path="/a/lite.db")),
        ("qdrant+edge:///a%20b/d%2Fe", Locator("qdrant+edge", "d/e", path="/a b")),
        ("memory://docs", Locator("memory", "docs")),
        ("memory://docs?name=x", Locator("memory", "docs", options={"name": "x"})),
        ("chroma://h/d%C3%BC?tenant=a%20b", Locator("chroma", "dü", "h", options={"tenant": "a b"})),
    ],
)
def test_a_url_says_where_and_what(url: str, expected: Locator) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://host/docs", "unknown scheme"),
        ("docs", "unknown scheme"),
        ("", "unknown scheme"),
        ("qdrant://host:6333", "no collection"),
        ("qdrant://host:6333/", "no collection"),
        ("memory://", "no collection"),
        ("qdrant:///docs", "host"),
        ("qdrant://host/a/docs", "form"),
        ("qdrant://host:port/docs", "port"),
        ("qdrant://host:99999/docs", "port"),
        ("chroma+file://docs", "no "),
        ("chroma+file:///docs", "folder"),
        ("chroma+file://relative/dir/docs", "folder"),
    ],
)
def test_another_url_is_refused_with_its_reason(url: str, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        parse(url)


def test_secrets_come_from_the_environment_and_the_role_wins() -> None:
    both = {"QDRANT_API_KEY": "general", "TARGET_QDRANT_API_KEY": "special"}
    assert parse("qdrant://h/d", "source", **both).secrets["api_key"].get_secret_value() == "general"
    assert parse("qdrant://h/d", "target", **both).secrets["api_key"].get_secret_value() == "special"
    assert parse("chroma://h/d", "target", **both).secrets == {}
    milvus = parse("milvus://h/d", MILVUS_TOKEN="t", SOURCE_MILVUS_USER="u", MILVUS_PASSWORD="p")
    assert {name: value.get_secret_value() for name, value in milvus.secrets.items()} == {
        "token": "t",
        "user": "u",
        "password": "p",
    }


def test_secrets_in_a_url_are_taken_out_of_it() -> None:
    locator = parse(f"milvus://us%65r:{SECRET}@h:1/d?token={SECRET}&database=x")
    assert locator.options == {"database": "x"}
    assert locator.secrets["user"].get_secret_value() == "user"
    assert locator.secrets["password"].get_secret_value() == SECRET
    assert SECRET not in repr(locator)
    assert SECRET not in str(locator)


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://user:{SECRET}@host/docs",
        f"qdrant://user:{SECRET}@host:port/docs",
        f"qdrant://host:6333?api_key={SECRET}",
        f"milvus://host/a/docs?token={SECRET}&password={SECRET}",
        f"chroma+file://x?token={SECRET}",
    ],
)
def test_a_refused_url_shows_no_secret(url: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(url)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.facts)
    assert SECRET not in mask_url(url)


def test_a_url_without_secrets_is_shown_as_it_is() -> None:
    for url in ("qdrant://host:6333/docs?tls=true", "memory://docs", "chroma+file:///a/b"):
        assert mask_url(url) == url


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("TRUE", True), ("false", False), ("0", False)]
)
def test_flags_are_true_or_false(text: str, value: bool) -> None:
    assert parse(f"qdrant://h/d?tls={text}").is_tls is value
    assert parse("qdrant://h/d").is_tls is False


def test_another_flag_is_refused() -> None:
    with pytest.raises(SpecError, match="tls='yes'"):
        assert parse("qdrant://h/d?tls=yes").is_tls


@pytest.mark.parametrize("scheme", ["chroma", "qdrant", "milvus", "memory"])
def test_an_unknown_option_is_refused_and_the_known_ones_named(scheme: str) -> None:
    with pytest.raises(SpecError, match="no option colour"):
        settings_for(parse(f"{scheme}://host/docs?colour=red"))


def test_the_memory_store_is_named_by_its_url() -> None:
    assert settings_for(parse("memory://docs")) == MemorySettings()
    assert settings_for(parse("memory://docs?name=other")) == MemorySettings(name="other")
    assert settings_for(parse("memory://docs")).address != settings_for(parse("memory://docs?name=other")).address
