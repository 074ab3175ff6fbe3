"""The cutover page as a stakeholder has it: on paper, and on a telephone; of whatever system."""

import re
from pathlib import Path
from typing import Any

SHEETS = range(3, 7)
TELEPHONE = 390
BEYOND = "document.documentElement.scrollWidth"
NARROW = """[...document.querySelectorAll('.todo td')]
    .filter(e => e.textContent && e.getBoundingClientRect().width < 200).map(e => e.textContent)"""
"""Cells of the to-do that leave no room for a word."""


def sheets_of(browser: Any, path: Path) -> int:
    """How many sheets of A4 the page takes."""
    page = browser.new_page()
    page.goto(path.as_uri())
    sheets = re.findall(rb"/Type\s*/Page[^s]", page.pdf(format="A4", prefer_css_page_size=True))
    page.close()
    return len(sheets)


def width_on_a_telephone(browser: Any, path: Path) -> int:
    """How wide the page is where the screen is narrow; pictures and tables are moved in boxes of their own.

    All that somebody has to do can be read there.
    """
    page = browser.new_page(viewport={"width": TELEPHONE, "height": 800})
    page.goto(path.as_uri())
    width = page.evaluate(BEYOND)
    assert page.evaluate(NARROW) == []
    page.close()
    return int(width)
