"""Reading a page of HTML as a browser would: its tags, its text and its tables.

Belongs here: what the tests of pages look at. Does not belong here: promises (``test_*.py``).
"""

from dataclasses import dataclass, field
from html.parser import HTMLParser

_EMPTY = {"meta", "br", "hr", "img", "link", "input"}


@dataclass
class Table:
    """One table.

    Attributes:
        heads: Its column headings.
        rows: The texts of its cells.
    """

    caption: str = ""
    heads: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def column(self, name: str) -> list[str]:
        """Return the cells under a heading."""
        return [row[self.heads.index(name)] for row in self.rows]

    def pairs(self) -> dict[str, str]:
        """Return the second cell of each row by its first."""
        return {row[0]: row[1] for row in self.rows}


class Page(HTMLParser):
    """A page that was read.

    Attributes:
        tags: All tags that it has.
        attributes: Names of all attributes.
        text: All text outside of the style.
        tables: Its tables by caption.
    """

    def __init__(self, content: str) -> None:
        """Read it, and check that every tag is closed where it should be."""
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.tables: dict[str, Table] = {}
        self._open: list[str] = []
        self._table = Table()
        self.feed(content)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `HTMLParser`."""
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in _EMPTY:
            self._open.append(tag)
        if tag == "table":
            self._table = Table()
        elif tag == "tr" and "tbody" in self._open:
            self._table.rows.append([])
        elif tag in ("th", "td"):
            (self._table.rows[-1] if "tbody" in self._open else self._table.heads).append("")

    def handle_endtag(self, tag: str) -> None:
        """See `HTMLParser`."""
        assert self._open.pop() == tag
        if tag == "table":
            assert self._table.caption not in self.tables
            self.tables[self._table.caption] = self._table

    def handle_data(self, data: str) -> None:
        """See `HTMLParser`."""
        tag = self._open[-1] if self._open else ""
        if tag != "style":
            self.text += data
        if tag == "caption":
            self._table.caption += data
        elif tag in ("th", "td"):
            (self._table.rows[-1] if "tbody" in self._open else self._table.heads)[-1] += data
