"""The how-tos: their changes apply to the project as it is now, and what they run does what they say."""

import json
import re
import shutil
from pathlib import Path

from dtx_assets_tests.pages import DOCS, PROJECT, run_page


def run_in_a_copy(page: str, directory: Path) -> str:
    """Does what a page says in a copy of the project."""
    copy = directory / "project"
    for part in ("dtx_assets", "mappings"):
        shutil.copytree(PROJECT / part, copy / part)
    (copy / "dtx_assets_tests" / "dtx").mkdir(parents=True)
    shutil.copy(PROJECT / "pyproject.toml", copy)
    return run_page((DOCS / page).read_text(), copy, {"PYTHONPATH": str(copy)})


def test_a_table_is_added(tmp_path):
    said = run_in_a_copy("add-a-table.md", tmp_path)
    assert re.search(r"│ holiday +│ docutrax_utils_holiday +│ +2 │ +1 │ +1 │ +0 │", said), said[-6000:]


def test_a_transform_is_added(tmp_path):
    assert "1 passed" in run_in_a_copy("add-a-transform.md", tmp_path)


def test_an_option_is_added(tmp_path):
    said = run_in_a_copy("add-a-decision-option.md", tmp_path)
    [english, more_english] = re.findall(r"(?m)^en\|(\d+)$", said)
    [spanish, less_spanish] = re.findall(r"(?m)^es\|(\d+)$", said)
    assert int(more_english) > int(english)
    assert int(less_spanish) < int(spanish)


def test_a_feed_is_added(tmp_path):
    said = run_in_a_copy("feeds.md", tmp_path)
    assert re.search(r"│ feed_harbor +│ docutrax_hierarchy_record +│ +18 │ +6 │ +9 │ +3 │", said), said[-6000:]
    [shown] = re.findall(r"(?s)```json\n(.*?)```", (DOCS / "feeds.md").read_text())
    [held] = re.findall(r'(?m)^\[\{"area".*\]$', said)
    assert json.loads(held) == json.loads(shown)["harbor"]
