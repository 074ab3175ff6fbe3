"""A whole run of `dtx run dispatch` leaves in the database what the second reading says, row by row.

A run takes a minute or two, so there is one: every bad value in every column of CSV files, under the defaults. Drawn
tables, other options and PostgreSQL: `compare.py`, by hand.
"""

import psycopg

from dtx_assets_tests.dispatch.compare import brief, told, write
from dtx_assets_tests.dtx.commands import Command


def test_every_bad_value_in_every_column(tmp_path, vector_server):
    database_url = vector_server.create_database("dispatch_second_reading")
    settings = write(tmp_path, None, {})
    dtx = Command(tmp_path, {**settings, "DISPATCH_TARGET_URL": database_url}, seconds=900)
    with psycopg.connect(database_url) as connection:
        connection.execute(dtx("target", "ddl", "dispatch").stdout.encode())
    done = dtx("run", "dispatch", "--through-phase", "4")
    found = told(database_url, tmp_path)
    assert found == [], f"{brief(found)}\n{(done.stdout + done.stderr)[-2_000:]}"
    vector_server.drop_database("dispatch_second_reading")
