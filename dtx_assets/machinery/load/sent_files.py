"""Which files a run sent, kept in `migration.sent_file` so that they can be verified, and an undo take them back."""

from collections.abc import Mapping, Sequence

import polars as pl

from dtx_assets.machinery.load.runs import RunContext
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told


class SentFilesOfRun:
    """The files that a run sends for a target. Noted before they are sent: a run that is killed leaves none unknown."""

    def __init__(self, run: RunContext, target_table: str) -> None:
        self.run, self.target_table = run, target_table

    def about_to_send(self, keys: pl.Series, digests: pl.Series) -> set[str]:
        """Notes files and gives the keys of those that the run has not tried before.

        What it finds of the others may be what it sent itself: a load that is killed or refused is done again.
        """
        with refusals_told(), connect(self.run.connection_url) as connection:
            noted = connection.execute(
                "INSERT INTO migration.sent_file (run_id, target_table, object_key, sha256)"
                " SELECT %s, %s, * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING RETURNING object_key",
                [self.run.run_id, self.target_table, keys.to_list(), digests.to_list()],
            )
            return {str(key) for (key,) in noted}

    def not_sent(self, keys: Sequence[str]) -> None:
        """They were there already, or could not be sent."""
        if not keys:
            return
        with refusals_told(), connect(self.run.connection_url) as connection:
            connection.execute(
                "DELETE FROM migration.sent_file WHERE (run_id, target_table) = (%s, %s) AND object_key = ANY(%s)",
                [self.run.run_id, self.target_table, list(keys)],
            )

    def told(self, e_tags: Mapping[str, str]) -> None:
        """What the store calls those that were sent, by their keys: whoever looks again need not read them."""
        if not e_tags:
            return
        with refusals_told(), connect(self.run.connection_url) as connection:
            connection.execute(
                "UPDATE migration.sent_file SET e_tag = given.e_tag FROM unnest(%s::text[], %s::text[])"
                " AS given (object_key, e_tag) WHERE (run_id, target_table) = (%s, %s)"
                " AND sent_file.object_key = given.object_key",
                [list(e_tags), list(e_tags.values()), self.run.run_id, self.target_table],
            )


def sent_before(connection: Connection, target_table: str, keys: pl.Series) -> pl.DataFrame:
    """SENT of those of the keys that some run sent: by each SHA-256, all that the store called it."""
    found = connection.execute(
        "SELECT object_key, sha256, coalesce(array_agg(DISTINCT e_tag) FILTER (WHERE e_tag IS NOT NULL), '{}')"
        " FROM migration.sent_file WHERE target_table = %s AND object_key = ANY(%s) GROUP BY 1, 2",
        [target_table, keys.to_list()],
    ).fetchall()
    return pl.DataFrame(found, schema=SENT, orient="row")


SENT = pl.Schema({"key": pl.String(), "sha256": pl.String(), "e_tags": pl.List(pl.String)})
