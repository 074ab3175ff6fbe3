"""The accounting of tables that are only archived: no target of theirs is loaded, and none of their rows is lost."""

from typing import Any

from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.load.runs import RunContext
from dtx_assets.machinery.postgres.connection import connect, refusals_told

ARCHIVE = "archive"
"""Stands for a target table in the accounting."""


def book_archive(run: RunContext, source_table: str, rows: int) -> dict[str, Any]:
    """Book all rows of a table as migrated to the archive in this run; gives the entry of spec 5."""
    place = [run.system, source_table, ARCHIVE]
    with refusals_told(), connect(run.connection_url) as connection, connection.transaction():
        connection.execute(
            "INSERT INTO migration.flow (system, source_table, target_table) SELECT %s, %s, %s WHERE NOT EXISTS"
            " (SELECT 1 FROM migration.flow WHERE (system, source_table, target_table) = (%s, %s, %s))"
            " ON CONFLICT DO NOTHING",
            [*place, *place],
        )
        connection.execute(
            "INSERT INTO migration.accounting_entry (run_id, flow_id, read, migrated, rejected, dropped, coerced)"
            " SELECT %s, id, %s, %s, 0, '{}', '{}' FROM migration.flow"
            " WHERE (system, source_table, target_table) = (%s, %s, %s)"
            " ON CONFLICT (run_id, flow_id) DO UPDATE SET (read, migrated) = (excluded.read, excluded.migrated)",
            [run.run_id, rows, rows, *place],
        )
        reach("archive.before_commit")
    reach("archive.after_commit")
    return {
        "source_table": source_table,
        "target_table": ARCHIVE,
        "read": rows,
        "migrated": rows,
        "rejected": 0,
        "dropped": {},
        "coerced": {},
    }
