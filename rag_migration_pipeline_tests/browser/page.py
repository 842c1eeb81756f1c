"""What a person does and sees on Dagster's pages, in Debian's Chromium.

Belongs here: clicks, and numbers read off the page, found by text and role; written for the UI of Dagster 1.13.27.
Does not belong here: what is expected of them (``test_*.py``), starting Dagster (``servers/dagster.py``).
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Locator, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
WINDOW = {"width": 1400, "height": 900}
DEADLINE_MS = 180_000.0
"""The daemon looks for backfills every 30 seconds, and a run needs some to start; more on a busy machine."""
QUICK_MS = 60_000.0
_CELLS = "rows => rows.map(row => [...row.querySelectorAll('td, [role=cell]')].map(cell => cell.innerText.trim()))"
"""What rows hold, all at one moment: the page draws them anew whenever it hears of something."""
SHOTS = "RAG_TEST_SCREENSHOTS"
"""Environment variable of the folder where screenshots go; without it none are made."""


@contextmanager
def opened_browser(url: str) -> Iterator["DagsterPage"]:
    """Yield a page of a fresh browser over a webserver, and close it."""
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses to run as root, as which containers run tests.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport=WINDOW, locale="en-US", timezone_id="UTC")
            page.set_default_timeout(QUICK_MS)
            yield DagsterPage(page, url)
        finally:
            browser.close()


class DagsterPage:
    """A tab with Dagster's UI."""

    def __init__(self, page: Page, url: str) -> None:
        """Drive this page over the webserver at ``url``."""
        self.page = page
        self._url = url

    def open(self, asset: str, view: str) -> None:
        """Open a tab of an asset: overview, partitions, events, checks."""
        self.page.goto(f"{self._url}/assets/{asset}?view={view}")
        expect(self._materialize_button()).to_be_enabled(timeout=QUICK_MS)

    def open_group(self, name: str) -> None:
        """Open the graph of a group of assets."""
        self.page.goto(f"{self._url}/locations/rag_migration_pipeline/asset-groups/{name}/lineage")
        expect(self.page.get_by_text("target_collection").locator("visible=true").first).to_be_visible(timeout=QUICK_MS)

    def materialize(self, asset: str) -> None:
        """Materialize an asset without partitions, and wait until the page shows what it says of itself."""
        self.open(asset, "overview")
        expect(self.page.get_by_text("Never materialized")).to_be_visible(timeout=QUICK_MS)
        self._materialize_button().click()
        expect(self.page.get_by_text("Never materialized")).to_have_count(0, timeout=DEADLINE_MS)
        expect(self.page.get_by_text("Materializing", exact=True)).to_have_count(0, timeout=DEADLINE_MS)
        self.page.reload()  # the status follows by itself, the metadata do not
        expect(self.page.get_by_role("table").first).to_be_visible(timeout=QUICK_MS)

    def launch(self, asset: str, choice: str) -> str:
        """Launch partitions of an asset from the dialog; return how many it says that it takes.

        Args:
            asset: ``<migration>/<asset>``.
            choice: All, Failed, Missing, Failed and missing.
        """
        self.open(asset, "partitions")
        self._materialize_button().click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("button", name=choice, exact=True).click()
        start = dialog.get_by_role("button").filter(has_text=re.compile("^Launch"))
        expect(start).to_be_enabled(timeout=QUICK_MS)
        found = re.search(r"\d+ partitions?\b", dialog.inner_text())
        self.screenshot(f"launch-{choice.lower().replace(' ', '-')}")
        start.click()
        expect(self.page.get_by_text(re.compile("^(Created backfill|Launched run)")).first).to_be_visible()
        return found.group() if found else ""

    def wait_for_partitions(self, asset: str, **counts: int) -> None:
        """Wait until the partitions page counts these states: ``Materialized=8``."""
        self.open(asset, "partitions")
        for state, count in counts.items():
            expect(self.page.get_by_text(f"{state} ({count})", exact=True)).to_be_visible(timeout=DEADLINE_MS)

    def partitions(self) -> list[str]:
        """Return the keys on the partitions page, from top to bottom."""
        rows = self._entries(re.compile(r"^[0-9a-f]{6}_\d{6}"))
        found: list[str] = rows.evaluate_all("rows => rows.map(row => row.title)")
        return found

    def select_partition(self, key: str) -> dict[str, str]:
        """Click a partition, and return what the page says of it: name -> text."""
        self._entries(key).first.click()
        self.page.wait_for_url(re.compile(f"partition={key}"))
        self.page.reload()  # so that nothing of the partition before is left
        return self.metadata("records compared")

    def metadata(self, wanted: str) -> dict[str, str]:
        """Return the rows of metadata on the page, as soon as one of this name is among them: name -> value."""
        expect(self._row(wanted)).to_be_visible(timeout=QUICK_MS)
        found = {}
        for cells in self.page.get_by_role("row").evaluate_all(_CELLS):
            if len(cells) >= 2:
                found[cells[0]] = cells[-1] or cells[1]
        return found

    def sees(self, *texts: str) -> None:
        """Wait until each of these texts stands on the page by itself."""
        for text in texts:
            expect(self.page.get_by_text(text, exact=True).locator("visible=true").first).to_be_visible(
                timeout=QUICK_MS
            )

    def plots(self) -> set[str]:
        """Switch an asset's overview to plots, and return the titles that have a drawing below."""
        self.page.get_by_role("button", name="Plots").click()
        expect(self.page.locator("canvas").first).to_be_visible(timeout=QUICK_MS)
        boxes = self.page.locator("canvas").locator("xpath=ancestor::div[.//span][1]")
        return {text.strip().splitlines()[0] for text in boxes.all_inner_texts()}

    def screenshot(self, name: str) -> None:
        """Save what the tab shows, where `SHOTS` names a folder."""
        if folder := os.environ.get(SHOTS):
            self.page.wait_for_timeout(1_500)  # for pictures and lines that are still being drawn
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png")

    def _materialize_button(self) -> Locator:
        return self.page.get_by_role("button").filter(has_text=re.compile("^Materialize"))

    def _row(self, name: str) -> Locator:
        cell = self.page.get_by_role("cell", name=name, exact=True)
        return self.page.get_by_role("row").filter(has=cell).first

    def _entries(self, key: str | re.Pattern[str]) -> Locator:
        return self.page.get_by_title(key)


def number(text: str) -> float:
    """Return a number as the page writes it."""
    return float(text.replace(",", ""))
