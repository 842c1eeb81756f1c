"""The short form of a filter for the command line: ``status=active,year>=2024,tag in (a,b)``.

Belongs here: cutting the text into conditions, with the position of a mistake. Does not belong here: what a condition
means (``meaning.py``), the long form (``filters/``).

    condition  = field ("=" | "!=" | ">" | ">=" | "<" | "<=") value
               | field ["not"] "in" "(" [value {"," value}] ")"
               | field ["not"] ("exists" | "contains" value | "like" value)
    filter     = condition {"," condition}

All conditions must hold. A value is a number as JSON writes it, true, false or null in any case, or a string; what
is quoted ('...' or "...") is a string. Inside quotes a backslash makes a quote or a backslash stand for itself. Text
with a blank, a comma, a quote, a bracket or one of ``= ! < >`` needs quotes; field names may be quoted too.
"""

import json
import math
import re
from typing import Any

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.filters.nodes import (
    DOCUMENT_FIELD,
    EVERYTHING,
    ID_FIELD,
    Comparison,
    Filter,
    Not,
    all_of,
    checked,
)

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<sign><=|>=|!=|[=<>,()])
      | (?P<word>[^\s,()=!<>"']+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_SIGNS = {"=": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None}
_MAX_DIGITS = 400  # Python turns no longer text into an integer than some 4,300 digits


class _Token:
    """One piece of the text: ``kind`` is quoted, sign, word or end."""

    def __init__(self, kind: str, text: str, position: int) -> None:
        self.kind = kind
        self.text = text
        self.position = position

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text == word

    def is_sign(self, sign: str) -> bool:
        return self.kind == "sign" and self.text == sign


def parse_text(text: str) -> Filter:
    """Return the tree of a filter in the short form; text of blanks takes every record.

    Raises:
        SpecError: It is no filter; names the position (the first character is 1).
    """
    if not text.strip():
        return EVERYTHING
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0

    def parse(self) -> Filter:
        parts = [self._condition()]
        while self._peek().is_sign(","):
            self._take()
            parts.append(self._condition())
        if self._peek().kind != "end":
            raise _error(self._peek(), "a comma or the end", "Put quotes round values with blanks or brackets.")
        return all_of(parts)

    def _condition(self) -> Filter:
        field = self._field()
        sign = self._take()
        if sign.kind == "sign" and sign.text in _SIGNS:
            return self._compare(field, _SIGNS[sign.text], self._value(), sign)
        is_negated = sign.is_word("not")
        word = self._take() if is_negated else sign
        if word.is_word("in"):
            return self._compare(field, "$nin" if is_negated else "$in", self._values(), word)
        if word.is_word("exists"):
            return self._compare(field, "$exists", not is_negated, word)
        if word.is_word("contains"):
            return self._compare(field, "$not_contains" if is_negated else "$contains", self._value(), word)
        if word.is_word("like"):
            found = self._compare(field, "$like", self._value(), word)
            return Not(found) if is_negated else found
        raise _error(word, "= != > >= < <= or in (...), exists, contains, like, each with or without not in front")

    def _compare(self, field: str, operator: str, value: Any, token: _Token) -> Comparison:
        return checked(field, operator, value, f"filter on {field!r} (position {token.position + 1})")

    def _field(self) -> str:
        token = self._take()
        if token.kind not in ("word", "quoted"):
            raise _error(token, "the name of a field")
        name = _unquoted(token)
        if name.startswith("$") and (token.kind == "quoted" or name not in (ID_FIELD, DOCUMENT_FIELD)):
            raise _error(token, f"a field; of those that start with a dollar there are {ID_FIELD} and {DOCUMENT_FIELD}")
        return name

    def _value(self) -> Any:
        token = self._take()
        if token.kind == "quoted":
            return _unquoted(token)
        if token.kind != "word":
            raise _error(token, "a value", 'Write "" for an empty text, and quotes round signs.')
        if token.text.lower() in _WORDS:
            return _WORDS[token.text.lower()]
        if _NUMBER.fullmatch(token.text) is None:
            return token.text
        number = json.loads(token.text) if len(token.text) <= _MAX_DIGITS else math.inf
        if math.isinf(number):
            raise _error(token, "a number that fits", "Put quotes round it if it is a text.")
        return number

    def _values(self) -> list[Any]:
        opening = self._take()
        if not opening.is_sign("("):
            raise _error(opening, "an opening bracket")
        values: list[Any] = []
        while not self._peek().is_sign(")"):
            if values:
                comma = self._take()
                if not comma.is_sign(","):
                    raise _error(comma, "a comma or a closing bracket", "Put quotes round values with blanks.")
            values.append(self._value())
        self._take()
        return values

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += 1 if token.kind != "end" else 0
        return token


def _error(token: _Token, expected: str, todo: str = "") -> SpecError:
    got = "the end" if token.kind == "end" else repr(token.text)
    return SpecError(f"filter, position {token.position + 1}: expected {expected}, got {got}.", todo=todo)


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            what = "a quotation that does not end" if text[start] in "\"'" else f"the sign {text[start]!r}"
            raise SpecError(f"filter, position {start + 1}: {what}.", todo="Put quotes round texts with signs in them.")
        kind = match.lastgroup or ""
        tokens.append(_Token(kind, match[kind], match.start(kind)))
        position = match.end()
    return [*tokens, _Token("end", "", len(text))]


def _unquoted(token: _Token) -> str:
    return re.sub(r"\\([\\\"'])", r"\1", token.text[1:-1]) if token.kind == "quoted" else token.text
