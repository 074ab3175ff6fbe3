"""Times that are no single instant, or at the ends of the calendar: from the legacy row to the undo, through `dtx`."""

import json

import psycopg

from dtx_assets_tests.tutorial_system import a_library

BOOKS = """\
book_id,branch_id,title,genre,donor_email,added
1,10,twice,novel,,2021-11-07 01:30:00
2,20,never,novel,,2021-03-14 02:30:00
3,20,once,novel,,2019-03-01 10:00:00
4,10,never ends,novel,,9999-12-31 23:59:59
5,20,first day,novel,,0001-01-01 00:00:00
6,20,far,novel,,2150-07-01 12:00:00
7,20,no year,novel,,0000-01-01 00:00:00
8,20,five digits,novel,,10000-01-01 00:00:00
9,20,before Christ,novel,,-0044-03-15 00:00:00
10,20,seconds,novel,,99999999999999
"""
FAR = ("infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "20000-01-01 00:00:00+00")


def test_from_the_legacy_row_to_the_undo(tmp_path, database_url):
    dtx = a_library(tmp_path, database_url, LEGACY_TIMEZONE="America/New_York")
    (tmp_path / "legacy" / "book.csv").write_text(BOOKS)
    done = dtx("run", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "coercions_are_few" in done.stdout

    with psycopg.connect(database_url, autocommit=True) as connection:
        added = dict(connection.execute("SELECT title, (added_at AT TIME ZONE 'UTC')::text FROM book").fetchall())
        assert added == {
            "twice": "2021-11-07 05:30:00",
            "never": "2021-03-14 07:30:00",
            "once": "2019-03-01 15:00:00",
            "first day": "0001-01-01 04:56:02",
            "far": "2150-07-01 16:00:00",
            **dict.fromkeys(("never ends", "no year", "five digits", "before Christ", "seconds")),
        }
        query = "SELECT coerced FROM migration.accounting WHERE target_table = 'book'"
        coerced = {"ambiguous_time": 1, "skipped_time": 1, "invalid_time": 5}
        assert connection.execute(query).fetchone() == (coerced,)
        page = (tmp_path / ".library" / "report" / "cutover.html").read_text()
        assert all(kind in page for kind in coerced)
        ids = dict(connection.execute("SELECT title, id FROM book").fetchall())
        for title, kind in (("twice", "ambiguous_time"), ("never", "skipped_time"), ("never ends", "invalid_time")):
            assert f"(coerced: {kind})" in dtx("explain", "Book", str(ids[title]), "added_at").stdout

        # What others write there may be beyond what Python holds.
        for title, far in zip(("twice", "never", "once", "far"), FAR, strict=True):
            connection.execute("UPDATE book SET added_at = %s::timestamptz WHERE title = %s", [far, title])
        (tmp_path / "legacy" / "book.csv").write_text(BOOKS.replace("2019-03-01", "2019-03-02"))
        plan = dtx("plan", "--json")
        assert plan.returncode == 0, plan.stdout + plan.stderr
        assert "0044-03-15 00:00:00.000000+00 BC" in plan.stdout
        verified = dtx("verify", "--json")
        assert verified.returncode == 3, verified.stdout + verified.stderr
        [found] = json.loads(verified.stdout)
        assert found["changed"] == len(FAR)
        shown = [sample["columns"]["added_at"][0] for sample in found["found"]]
        assert shown == ["infinity", "-infinity", "0044-03-15 00:00:00.000000+00 BC", "20000-01-01 00:00:00.000000+00"]
        assert "infinity" in dtx("explain", "Book", str(ids["twice"]), "added_at").stdout

        undone = dtx("rollback", "last")
        assert undone.returncode == 0, undone.stdout + undone.stderr
        left = connection.execute("SELECT title FROM book ORDER BY title").fetchall()
        assert left == [("far",), ("never",), ("once",), ("twice",)]
