"""Store URLs say where and what, secrets come from the environment, and none is ever shown."""

import traceback
from pathlib import Path

import pytest

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.locators import Locator, Role, has_secret, mask_url, parse_locator
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
        ("qdrant:///a/docs", r"write qdrant\+file:///absolute/folder/collection"),
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


def complaint(url: str) -> str:
    """Return all that is told about a URL that is refused, or its settings."""
    try:
        return repr(settings_for(parse(url)))
    except SpecError as error:
        return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "password", [f"a/{SECRET}", f"a?{SECRET}", f"a#{SECRET}", f"a@{SECRET}", f"1://{SECRET}", SECRET]
)
@pytest.mark.parametrize(
    "url", ["qdrant://user:{}@host:6333/docs", "qdrant://user:{}@host/a/docs", "user:{}@host/docs"]
)
def test_a_password_that_was_not_encoded_is_shown_nowhere(url: str, password: str) -> None:
    url = url.format(password)
    assert SECRET not in mask_url(url)
    assert SECRET not in complaint(url)


@pytest.mark.parametrize(
    "option", ["api%5Fkey", "api_key", "API_KEY", "apikey", "api-key", "%74oken", "pass%77ord", "passwd", "auth"]
)
def test_a_secret_option_is_masked_however_it_is_spelled(option: str) -> None:
    url = f"qdrant://host:6333/docs?tls=true&{option}={SECRET}"
    assert mask_url(url) == f"qdrant://host:6333/docs?tls=true&{option}=***"
    with pytest.raises(SpecError) as caught:
        settings_for(parse(url + "&colour=red"))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url", [f"qdrant://u:{SECRET}@[host/docs", f"qdrant://u:{SECRET}\u2100@host/docs", f"milvus://u:{SECRET}@[h]/docs"]
)
def test_a_malformed_host_is_told_without_the_password(url: str) -> None:
    with pytest.raises(SpecError, match="malformed") as caught:
        parse(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_collection_with_a_number_sign_is_refused_instead_of_cut() -> None:
    with pytest.raises(SpecError, match="%23"):
        parse("qdrant://host:6333/docs#2")
    assert parse("qdrant://host:6333/docs%232").collection == "docs#2"


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


@pytest.mark.parametrize(
    "url", ["chroma://h/d", "chroma+file:///a/d", "qdrant://h/d", "qdrant+file:///a/d", "qdrant+edge:///a/d",
            "milvus://h/d", "milvus+file:///a/d", "memory://d"],
)  # fmt: skip
def test_every_store_takes_a_timeout_and_a_document_key(url: str) -> None:
    settings = settings_for(parse(f"{url}?timeout_s=2.5&document_key=page%20text"))
    assert (settings.timeout_s, settings.document_key) == (2.5, "page text")
    plain = settings_for(parse(url))
    assert (plain.timeout_s, plain.document_key) == (60.0, "document")
    assert plain.address == settings.address


@pytest.mark.parametrize("option", ["timeout_s=", "timeout_s=soon", "timeout_s=0", "timeout_s=-1", "timeout_s=nan",
                                    "timeout_s=inf", "document_key="])  # fmt: skip
def test_a_timeout_or_document_key_that_makes_no_sense_is_refused(option: str) -> None:
    with pytest.raises(SpecError, match=option.partition("=")[0]):
        settings_for(parse(f"qdrant://h/d?{option}"))


def test_a_secret_may_stand_in_a_file_that_the_url_or_a_variable_names(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("s3cr3t\n")
    url = f"qdrant://h/docs?api_key_file={path}"
    named = parse_locator(url, "source", {})
    assert named.secrets["api_key"].get_secret_value() == "s3cr3t"
    assert mask_url(url) == url
    found = parse_locator("qdrant://h/docs", "target", {"TARGET_QDRANT_API_KEY_FILE": str(path), "QDRANT_API_KEY": "b"})
    assert found.secrets["api_key"].get_secret_value() == "s3cr3t"


def test_a_file_without_a_secret_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"option token_file of a chroma URL: cannot read .*nothing: No such file"):
        parse_locator(f"chroma://h/docs?token_file={tmp_path / 'nothing'}", "source", {})
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SpecError, match=r"variable MILVUS_TOKEN_FILE: .*empty is empty"):
        parse_locator("milvus://h/docs", "source", {"MILVUS_TOKEN_FILE": str(tmp_path / "empty")})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("qdrant://h/docs?api_key=x", True),
        ("milvus://u:p@h/docs", True),
        ("qdrant://h/docs?api_key_file=/x", False),
        ("qdrant://h/docs?api_key=", False),
        ("chroma://h/docs", False),
    ],
)
def test_a_url_that_carries_a_secret_itself_is_known(url: str, expected: bool) -> None:
    assert has_secret(url) is expected
