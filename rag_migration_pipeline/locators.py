"""Store URLs: parsed into plain parts, with secrets taken from the environment and masked everywhere.

Belongs here: the grammar of URLs and the names of the secrets. Does not belong here: what a store makes of the parts
(each adapter's ``settings_from_locator``).

    chroma://host:8000/docs?tenant=..&database=..      chroma+file:///dir/docs
    qdrant://host:6333/docs                            qdrant+file:///dir/docs      qdrant+edge:///dir/docs
    milvus://host:19530/docs?database=..               milvus+file:///dir/lite.db/docs
    memory://docs

The last path segment is the collection. ``?tls=true`` asks for TLS. Every store takes ``document_key`` and
``timeout_s``. Percent-encoding is decoded. A secret may stand in a file: ``?api_key_file=/run/secrets/key``, or the
path in the variable ``QDRANT_API_KEY_FILE``.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, unquote_plus, urlsplit

from pydantic import SecretStr

from rag_migration_pipeline.errors import SpecError

Role = Literal["source", "target"]

STORE_OPTIONS = ("document_key", "timeout_s")
"""Query options of every store; see `StoreSettings`."""


@dataclass(frozen=True)
class Locator:
    """A parsed store URL.

    Attributes:
        path: Folder or file of an embedded store (absolute), empty for servers.
        options: Query options without secrets.
        secrets: Secrets by name: api_key, token, user, password.
    """

    scheme: str
    collection: str
    host: str = ""
    port: int | None = None
    path: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretStr] = field(default_factory=dict)

    @property
    def is_tls(self) -> bool:
        """Whether ``tls=true`` was asked for."""
        return self.flag("tls")

    def flag(self, name: str) -> bool:
        """Return a true/false option.

        Raises:
            SpecError: The option has another value.
        """
        value = self.options.get(name, "false").lower()
        if value not in ("true", "false", "1", "0"):
            raise SpecError(f"option {name}={value!r} of a {self.scheme} URL: expected true or false.")
        return value in ("true", "1")

    def refuse_unknown(self, *known: str) -> None:
        """Refuse query options that the store does not know.

        Raises:
            SpecError: Names the unknown options and the known ones.
        """
        taken = {*known, *STORE_OPTIONS}
        unknown = sorted(set(self.options) - taken)
        if unknown:
            # Part of a password that has a "?" in it would be taken for an option's name.
            names = ", ".join(name if re.fullmatch(r"[\w.-]+", name) else "***" for name in unknown)
            raise SpecError(
                f"a {self.scheme} URL has no option {names}; known: {', '.join(sorted(taken))}.",
                todo="Check the spelling.",
            )

    def store_options(self) -> dict[str, Any]:
        """Return those of `STORE_OPTIONS` that the URL names, as settings.

        Raises:
            SpecError: A value makes no sense.
        """
        named: dict[str, Any] = {name: self.options[name] for name in STORE_OPTIONS if name in self.options}
        if not named.get("document_key", "document"):
            raise SpecError(f"option document_key of a {self.scheme} URL is empty: expected a payload key.")
        if "timeout_s" in named:
            named["timeout_s"] = _seconds(named["timeout_s"], self.scheme)
        return named


SECRETS: dict[str, dict[str, str]] = {
    "chroma": {"token": "CHROMA_TOKEN"},
    "qdrant": {"api_key": "QDRANT_API_KEY"},
    "milvus": {"token": "MILVUS_TOKEN", "user": "MILVUS_USER", "password": "MILVUS_PASSWORD"},
    "memory": {},
}
"""Per store family: secret -> environment variable; the same with ``SOURCE_`` or ``TARGET_`` in front wins."""

_SECRET_OPTIONS = ("api_key", "token", "user", "password")
_SECRET_WORDS = re.compile("key|token|user|pass|secret|auth", re.IGNORECASE)
"""What a name of an option has in it whose value is not shown, so that a misspelled one is not either."""


def parse_locator(url: str, role: Role, environment: Mapping[str, str] | None = None) -> Locator:
    """Parse a store URL.

    Args:
        url: See the module's table.
        role: Whose secrets to take: ``SOURCE_QDRANT_API_KEY`` before ``QDRANT_API_KEY``.
        environment: Where secrets are looked up; the process environment by default.

    Raises:
        SpecError: The URL is not of a known form.
    """
    parts = _split(url)
    family = parts.scheme.split("+")[0]
    if family not in SECRETS:
        raise SpecError(
            f"{mask_url(url)!r} is not a store URL: unknown scheme {_shown_scheme(url)!r}.",
            todo="Use chroma://, chroma+file://, qdrant://, qdrant+file://, qdrant+edge://, milvus://, milvus+file:// "
            "or memory://.",
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    secrets = _secrets(family, role, os.environ if environment is None else environment)
    for name in _SECRET_OPTIONS:
        if f"{name}_file" in options:
            secrets[name] = _secret_in(options.pop(f"{name}_file"), f"option {name}_file of a {parts.scheme} URL")
    secrets.update({name: SecretStr(options.pop(name)) for name in _SECRET_OPTIONS if name in options})
    if parts.username:
        secrets["user"] = SecretStr(unquote(parts.username))
    if parts.password:
        secrets["password"] = SecretStr(unquote(parts.password))
    if family == "memory":
        collection = unquote(parts.netloc or parts.path.strip("/"))
        return Locator(parts.scheme, _checked(collection, url), options=options)
    folder, _, last = parts.path.rpartition("/")
    collection = _checked(unquote(last), url)
    if parts.scheme.endswith(("+file", "+edge")):
        if not folder or parts.netloc:
            todo = f"Write {parts.scheme}:///absolute/folder/{collection}."
            raise SpecError(f"{mask_url(url)!r} names no folder.", todo=todo)
        return Locator(parts.scheme, collection, path=unquote(folder), options=options, secrets=secrets)
    try:
        port = parts.port
    except ValueError:  # its text shows the port, which is part of a password that has a "/" in it
        raise SpecError(
            f"{mask_url(url)!r} has a port that is not a number in 0-65535.",
            todo="Write / ? # @ and : inside a user or password as %2F %3F %23 %40 and %3A.",
        ) from None
    if not parts.hostname or folder.strip("/"):
        todo = f"For a folder of this machine write {parts.scheme}+file:///absolute/folder/collection."
        raise SpecError(f"{mask_url(url)!r} is not of the form {parts.scheme}://host:port/collection.", todo=todo)
    return Locator(parts.scheme, collection, parts.hostname, port, options=options, secrets=secrets)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:  # its text shows the part with the password
        raise SpecError(f"{mask_url(url)!r} is not a URL: its host is malformed.") from None
    if parts.fragment:
        raise SpecError(f"{mask_url(url)!r} has a '#', which would cut the URL off.", todo="Write it as %23.")
    return parts


def _seconds(text: str, scheme: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise SpecError(f"option timeout_s={text!r} of a {scheme} URL: expected a positive number of seconds.")
    return value


def _checked(collection: str, url: str) -> str:
    if not collection:
        raise SpecError(f"{mask_url(url)!r} names no collection.", todo="Append it as the last path segment.")
    return collection


def _secrets(family: str, role: Role, environment: Mapping[str, str]) -> dict[str, SecretStr]:
    found = {}
    for name, variable in SECRETS[family].items():
        for candidate in (f"{role.upper()}_{variable}", variable):
            if environment.get(candidate):
                found[name] = SecretStr(environment[candidate])
                break
            if environment.get(f"{candidate}_FILE"):
                found[name] = _secret_in(environment[f"{candidate}_FILE"], f"environment variable {candidate}_FILE")
                break
    return found


def _secret_in(path: str, where: str) -> SecretStr:
    """Return the secret in a file, without the end of its line."""
    try:
        secret = Path(path).expanduser().read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecError(f"{where}: cannot read {path}: {reason}.", todo="Name a file with the secret alone.") from None
    if not secret:
        raise SpecError(f"{where}: {path} is empty.", todo="Name a file with the secret alone.")
    return SecretStr(secret)


def has_secret(url: str) -> bool:
    """Return whether a URL carries a secret itself, which logs of shells and lists of processes show."""
    try:
        parts = _split(url)
    except SpecError:
        return False
    named = {name for name, value in parse_qsl(parts.query, keep_blank_values=True) if value}
    return bool(parts.password or named & set(_SECRET_OPTIONS))


def mask_url(url: str) -> str:
    """Return the URL with user, password and secret options replaced by ``***``; safe to log.

    Where somebody forgot to encode a password, it may have any character of a URL's grammar in it: everything between
    the scheme and the last ``@`` is masked before the rest is taken apart.
    """
    scheme = _shown_scheme(url)
    rest = url[len(scheme) + 3 :] if scheme else url
    _, at, rest = rest.rpartition("@")
    rest, fragment, _ = rest.partition("#")
    head, mark, query = rest.partition("?")
    shown = "&".join(map(_masked_option, query.split("&")))
    return f"{scheme}{'://' if scheme else ''}{'***@' if at else ''}{head}{mark}{shown}{'#***' if fragment else ''}"


def _shown_scheme(url: str) -> str:
    """Return what stands before ``://``, if it is a scheme and no part of a password."""
    scheme, separator, _ = url.partition("://")
    return scheme if separator and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) else ""


def _masked_option(pair: str) -> str:
    name, _, value = pair.partition("=")
    plain = unquote_plus(name)
    is_shown = not value or plain.endswith("_file") or not _SECRET_WORDS.search(plain)
    return pair if is_shown else f"{name}=***"
