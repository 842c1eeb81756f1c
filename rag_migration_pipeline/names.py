"""Collection names in another store's terms: allowed, suggested, or translated so that they can be read back.

Belongs here: what a name rule allows, a legal suggestion for people, the reversible translation. Does not belong here:
the rules themselves (each adapter's settings), where a translated name is kept (``steps/manifest.py``).

The translation (``translate_names: true``) keeps what the store allows and writes every other character as ``_x``, its
code point in hex, ``_``; so ``backup_2026-01-02`` becomes ``backup_2026_x2d_01_x2d_02`` in Milvus. An underscore is
escaped too where it would read as the beginning of such an escape. Where the name as a whole is still not allowed
(first character, last one, length), ``n_x_`` is put in front and ``_x_n`` behind. `original_name` reads all of this
back. A name too long for the store ends in ``_x_`` and 16 hex digits of its digest: that one is read from the manifest.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

_PREFIX, _SUFFIX, _MARK = "n_x_", "_x_n", "_x_"
_ESCAPE = re.compile(r"_x([0-9a-f]+)_")
_PORTABLE = re.compile(r"[A-Za-z0-9_]", re.ASCII)
_MAX_TRIED = 1_024
"""Longest name that is tried; no store allows more."""


@dataclass(frozen=True)
class NameRule:
    """Which names a store's collections can have.

    Attributes:
        pattern: Regular expression that a whole name must match.
        max_bytes: Longest name in bytes of UTF-8, where the pattern does not say it.
    """

    pattern: str = r".+"
    max_bytes: int | None = None

    def allows(self, name: str) -> bool:
        """Return whether a collection can have that name."""
        if self.max_bytes is not None:
            try:
                if len(name.encode()) > self.max_bytes:
                    return False
            except UnicodeEncodeError:  # a lone surrogate
                return False
        return re.fullmatch(self.pattern, name, re.DOTALL) is not None

    def keeps(self, character: str) -> bool:
        """Return whether a character can stand inside a name."""
        return _is_portable(character) or (character.isprintable() and self.allows(f"aa{character}aa"))


def _is_portable(character: str) -> bool:
    """Return whether every store takes the character inside a name."""
    return _PORTABLE.match(character) is not None


def suggest_name(name: str, rule: NameRule) -> str:
    """Return a legal name that looks like the given one; for people, since two names may lead to one suggestion."""
    for keeps in (lambda character: rule.allows(f"aa{character}aa"), _is_portable):
        text = re.sub(r"_{2,}", "_", "".join(c if keeps(c) else "_" for c in name)).strip("_.-")
        for candidate in (text, f"c_{text}", f"{text}_c", f"c_{text}_c"):
            for length in (_MAX_TRIED, 512, 255, 128, 63):
                cut = candidate[:length].rstrip("_.-")
                if rule.allows(cut):
                    return cut
    return translate_name(name, rule)


def translate_name(name: str, rule: NameRule) -> str:
    """Return the name under which the store keeps a collection of that name; names that it allows stay themselves.

    Two names never become one, and `original_name` gives the name back unless it had to be cut.
    """
    if rule.allows(name) and original_name(name) == name:
        return name
    for keeps in (rule.keeps, _is_portable):
        body = _escaped(name, keeps)
        for candidate in (body, _PREFIX + body, body + _SUFFIX, _PREFIX + body + _SUFFIX):
            if rule.allows(candidate) and original_name(candidate) == name:
                return candidate
    return _cut(name, rule)


def _escaped(name: str, keeps: Callable[[str], bool]) -> str:
    parts = [""]
    for position, character in enumerate(name):
        is_lead = character == "_" and _reads_as_escape(name[position + 1 :], keeps)
        is_tail = character == "x" and len(parts[-1]) > 1  # the end of an escape and this would read as one more lead
        is_kept = keeps(character) and not is_lead and not is_tail
        parts.append(character if is_kept else f"_x{ord(character):x}_")
    return "".join(parts)


def _reads_as_escape(rest: str, keeps: Callable[[str], bool]) -> bool:
    """Return whether an underscore before this could be taken for the beginning of an escape or a mark."""
    found = re.match(r"x[0-9a-f]*", rest)
    if found is None:
        return False
    following = rest[found.end() : found.end() + 1]
    return following in ("", "_") or not keeps(following)


def _cut(name: str, rule: NameRule) -> str:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    body = _escaped(name, _is_portable)[:_MAX_TRIED]
    for length in range(len(body), -1, -1):
        for candidate in (f"{body[:length]}{_MARK}{digest}", f"{_PREFIX}{body[:length]}{_MARK}{digest}"):
            if rule.allows(candidate):
                return candidate
    raise ValueError(f"no name like {name[:60]!r} matches {rule.pattern}")


def original_name(translated: str) -> str | None:
    """Return the name that was translated, or None where it was cut and only the manifest knows it."""
    body = translated.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    if _MARK in body:
        return None
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), body)
