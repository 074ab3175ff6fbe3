"""Targets whose rows are loaded inactive, and whether they were switched on since."""

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.load.runs import RunContext
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told


def activate_target(run: RunContext, target: TargetTable, by: str) -> None:
    """Record that a target is activated by this run; the next load of it, this run's own, switches its rows on.

    LoadError where nothing was loaded yet. Undoing the run takes it back.
    """
    with refusals_told(), connect(run.connection_url) as connection, connection.transaction():
        loaded = connection.execute(
            "SELECT 1 FROM migration.load WHERE (system, target_table, model, status) = (%s, %s, %s, 'succeeded')",
            [run.system, target.name, target.model],
        ).fetchone()
        if not loaded:
            raise LoadError(
                f"{target.model} is not loaded, so there is nothing to activate",
                where=target.name,
                remedy="run the migration first",
            )
        connection.execute(
            "INSERT INTO migration.activation (system, target_table, model, run_id, activated_by)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [run.system, target.name, target.model, run.run_id, by],
        )


def is_activated(connection: Connection, system: str, target: TargetTable) -> bool:
    found = connection.execute(
        "SELECT 1 FROM migration.activation WHERE (system, target_table, model) = (%s, %s, %s)",
        [system, target.name, target.model],
    )
    return found.fetchone() is not None
