"""Generated parts of the documentation: blocks between marks on a page, written by ``make docs``.

Belongs here: putting blocks into their places. Does not belong here: what they say.
"""

from collections.abc import Mapping
from pathlib import Path


def write_blocks(page: Path, blocks: Mapping[str, str]) -> None:
    """Put blocks between ``<!-- name -->`` and ``<!-- end -->``.

    Raises:
        ValueError: The page has no place for one of them.
    """
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"{page} has no block <!-- {name} --> that ends in <!-- end -->")
        text = f"{before}{mark}{block}\n{end}{after}"
    page.write_text(text, encoding="utf-8")


def block_on(text: str, name: str) -> str:
    """Return what stands in a block of a page's text."""
    return text.partition(f"<!-- {name} -->\n")[2].partition("\n<!-- end -->")[0]
