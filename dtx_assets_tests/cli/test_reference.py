"""The reference is what the code says, and leaves out nothing that a user can type, set, write or see."""

import re

from dtx_assets.cli import reference
from dtx_assets.dtx import system
from dtx_assets.machinery.base.settings import VARIABLES


def test_the_files_are_what_make_docs_writes():
    behind = [str(path) for path, text in reference.rendered().items() if not path.exists() or path.read_text() != text]
    assert behind == [], "the code says something else: `make docs` writes them anew"


def test_every_command_and_option_is_there_with_what_it_does():
    page = "\n".join(reference.commands_page())
    assert re.findall("(?m)^## dtx (.*)$", page) == [
        *(
            "init",
            "run",
            "diagnose",
            "plan",
            "verify",
            "explain",
            "errors",
            "replay",
            "rollback",
            "activate",
            "status",
            "todo",
            "rejected",
            "runs",
            "report",
        ),
        *("purge", "embed", "search", "ui", "daemon", "sample", "psql", "worker"),
        *("target ddl", "archive list", "archive query"),
    ]
    assert "| `--accept CHECK=REASON` | Cut over in spite of it; recorded. May be given many times. |  |" in page
    assert "dtx rollback [OPTIONS] RUN" in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row for row in rows if not row.split(" | ")[1].strip()] == []


def test_every_key_of_the_mapping_files_is_said_in_words():
    page = "\n".join(reference.mapping_page())
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows if not row[-1]] == []
    named = {row[0].strip("`") for row in rows}
    assert {"value_map", "shape", "sources", "archived", "chosen", "mitigation"} <= named
    assert set(system.TRANSFORMS.transforms) | set(system.FUNCTIONS) <= named


def test_every_variable_is_there_and_what_it_may_be():
    page = "\n".join(reference.environment_page())
    assert re.findall(r"(?m)^\| `DTX_(\w+)`", page) == [*VARIABLES, "PG_BIN", "UI_ORIGIN"]


def test_a_check_that_closes_the_gate_says_so():
    page = "\n".join(reference.checks_page())
    assert "| `no_letter_row_is_rejected` | EmailTemplate | ERROR | a cutover | Every row of letter can be" in page
    assert "| `archive_reads_back_identical` | all 21 | ERROR | what depends on it |" in page
    counted = re.search(r"The (\d+) asset checks", page)
    assert counted
    assert int(counted[1]) == sum(map(len, reference.checks_of_graph().values()))
