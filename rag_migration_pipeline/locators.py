"""Store URLs: parsed into plain parts, with secrets taken from the environment and masked everywhere.

Belongs here: the grammar of URLs and the names of the secrets. Does not belong here: what a store makes of the parts
(each adapter's ``settings_from_locator``).

    chroma://host:8000/docs?tenant=..&database=..      chroma+file:///dir/docs
    qdrant://host:6333/docs                            qdrant+file:///dir/docs      qdrant+edge:///dir/docs
    milvus://host:19530/docs?database=..               milvus+file:///dir/lite.db/docs
    memory://docs

The last path segment is the collection. ``?tls=true`` asks for TLS. Percent-encoding is decoded.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from rag_migration_pipeline.errors import SpecError

Role = Literal["source", "target"]


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
        unknown = sorted(set(self.options) - set(known))
        if unknown:
            raise SpecError(
                f"a {self.scheme} URL has no option {', '.join(unknown)}; known: {', '.join(sorted(known)) or 'none'}.",
                todo="Check the spelling.",
            )


SECRETS: dict[str, dict[str, str]] = {
    "chroma": {"token": "CHROMA_TOKEN"},
    "qdrant": {"api_key": "QDRANT_API_KEY"},
    "milvus": {"token": "MILVUS_TOKEN", "user": "MILVUS_USER", "password": "MILVUS_PASSWORD"},
    "memory": {},
}
"""Per store family: secret -> environment variable; the same with ``SOURCE_`` or ``TARGET_`` in front wins."""

_SECRET_OPTIONS = ("api_key", "token", "user", "password")


def parse_locator(url: str, role: Role, environment: Mapping[str, str] | None = None) -> Locator:
    """Parse a store URL.

    Args:
        url: See the module's table.
        role: Whose secrets to take: ``SOURCE_QDRANT_API_KEY`` before ``QDRANT_API_KEY``.
        environment: Where secrets are looked up; the process environment by default.

    Raises:
        SpecError: The URL is not of a known form.
    """
    parts = urlsplit(url)
    family = parts.scheme.split("+")[0]
    if family not in SECRETS:
        raise SpecError(
            f"{mask_url(url)!r} is not a store URL: unknown scheme {parts.scheme!r}.",
            todo="Use chroma://, chroma+file://, qdrant://, qdrant+file://, qdrant+edge://, milvus://, milvus+file:// "
            "or memory://.",
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    secrets = _secrets(family, role, os.environ if environment is None else environment)
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
            raise SpecError(
                f"{mask_url(url)!r} names no folder.", todo=f"Write {parts.scheme}:///absolute/folder/{collection}."
            )
        return Locator(parts.scheme, collection, path=unquote(folder), options=options, secrets=secrets)
    try:
        port = parts.port
    except ValueError as error:
        raise SpecError(f"{mask_url(url)!r} has a port that is not a number in 0-65535.") from error
    if not parts.hostname or folder.strip("/"):
        raise SpecError(f"{mask_url(url)!r} is not of the form {parts.scheme}://host:port/collection.")
    return Locator(parts.scheme, collection, parts.hostname, port, options=options, secrets=secrets)


def _checked(collection: str, url: str) -> str:
    if not collection:
        raise SpecError(f"{mask_url(url)!r} names no collection.", todo="Append it as the last path segment.")
    return collection


def _secrets(family: str, role: Role, environment: Mapping[str, str]) -> dict[str, SecretStr]:
    found = {}
    for name, variable in SECRETS[family].items():
        value = environment.get(f"{role.upper()}_{variable}") or environment.get(variable)
        if value:
            found[name] = SecretStr(value)
    return found


def mask_url(url: str) -> str:
    """Return the URL with user, password and secret options replaced by ``***``; safe to log."""
    head, _, query = url.partition("?")
    scheme, separator, rest = head.partition("://")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        authority = "***@" + authority.rpartition("@")[2]
    masked = [
        f"{pair.partition('=')[0]}=***" if pair.partition("=")[0] in _SECRET_OPTIONS else pair
        for pair in query.split("&")
        if pair
    ]
    return scheme + separator + authority + slash + path + ("?" + "&".join(masked) if masked else "")
