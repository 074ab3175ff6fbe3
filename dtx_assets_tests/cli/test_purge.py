"""`dtx purge` after a real run: the dry run lists what is then removed, and the next run finds its way."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from dtx_assets_tests.bad_inputs.place import Grounds, Shown, dtx

RUN = ("run", "--select", "+target/AccountMeta")


@pytest.fixture
def grounds(tmp_path, postgres_server, monkeypatch):
    made = Grounds(tmp_path, postgres_server, monkeypatch)
    (made.export / "keyword.csv").write_text("customer_id,keyword,replacement\n77,GROUP,anna@example.com\n")
    assert "FAILED" not in dtx(*RUN).text
    yield made
    postgres_server.drop_database(made.template)


def age(grounds: Grounds) -> None:
    at = datetime.now(UTC) - timedelta(days=40)
    for path in [*(grounds.home / "lake").rglob("*"), *(grounds.home / "logs").rglob("*")]:
        os.utime(path, (at.timestamp(), at.timestamp()))
    with psycopg.connect(grounds.server.database_url(grounds.template)) as connection:
        connection.execute("UPDATE migration.load SET started_at = %(at)s, finished_at = %(at)s", {"at": at})


def rows(shown: Shown) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.text.splitlines() if "│" in line]


def files(directory: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in directory.rglob("*") if path.is_file()}


def test_what_a_dry_run_lists_is_removed_and_what_counts_stays(grounds):
    age(grounds)
    before = files(grounds.home / "lake")
    listed = dtx("purge", "--older-than", "30d", "--dry-run")
    assert (listed.code, "nothing was removed" in listed.text) == (0, True)
    assert files(grounds.home / "lake") == before
    removed = dtx("purge", "--older-than", "30d")
    assert rows(removed) == rows(listed)
    assert {row[0] for row in rows(removed)} == {"earlier version of a dataset", "log"}
    assert not list((grounds.home / "logs").glob("*.log"))
    assert "Nothing is that old." in dtx("purge", "--older-than", "30d").text
    assert "FAILED" not in dtx(*RUN).text


def test_after_a_purge_of_what_counts_nothing_personal_is_left_and_a_run_makes_it_again(grounds):
    age(grounds)
    purged = dtx("purge", "--older-than", "30d", "--current", "--runs")
    kinds = {row[0] for row in rows(purged)}
    assert kinds >= {"dataset that counts now", "content of rejected rows that are open"}
    assert files(grounds.home / "lake") == {}
    url = grounds.server.database_url(grounds.template)
    with psycopg.connect(url) as connection:
        held = connection.execute('SELECT source_key, reasons, detail, "row" FROM migration.rejected').fetchall()
    assert held == [('["77","GROUP"]', ["orphan_reference"], "purged", {})]
    again = dtx(*RUN)
    assert again.code in (0, 3), again.text
    assert "FAILED" not in again.text
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM migration.rejected").fetchone() == (1,)
