"""Which source rows a load rejected by itself: what only the target knows, such as rows of others that are in the way.

They stay listed until a load takes them. What was rejected before it is told by the prepared datasets.
"""

from dataclasses import dataclass

from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told

EXAMPLES = 5


@dataclass(frozen=True)
class FoundByLoad:
    """Rows of one source table that are rejected for the same reasons, with the keys of some of them."""

    source_table: str
    reasons: tuple[str, ...]
    partial: bool
    rows: int
    keys: tuple[str, ...]


def found_by_load(connection: Connection, system: str, target: TargetTable) -> list[FoundByLoad]:
    """What loads of a target rejected and no later one took; nothing where there was none."""
    if connection.execute("SELECT to_regclass('migration.rejected_entry')").fetchone() == (None,):
        return []
    rows = connection.execute(
        "SELECT flow.source_table, entry.reasons, entry.partial, count(*),"
        " (array_agg(entry.source_key ORDER BY entry.source_key))[1:%s]"
        " FROM migration.rejected_entry AS entry JOIN migration.flow ON flow.id = entry.flow_id"
        " WHERE (flow.system, flow.target_table, flow.model) = (%s, %s, %s)"
        " AND entry.closed_by IS NULL AND entry.found_by_load"
        " GROUP BY 1, 2, 3 ORDER BY partial, count(*) DESC, source_table, reasons",
        [EXAMPLES, system, target.name, target.model],
    )
    return [
        FoundByLoad(source, tuple(reasons), partial, count, tuple(keys))
        for source, reasons, partial, count, keys in rows
    ]


def read_found_by_load(url: str, system: str, target: TargetTable) -> list[FoundByLoad]:
    """The same, over a connection of its own."""
    with refusals_told(), connect(url) as connection:
        return found_by_load(connection, system, target)
