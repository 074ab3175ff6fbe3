"""Which files a run sent, kept in `migration.sent_file` so that an undo can take them back."""

from collections.abc import Sequence

import polars as pl

from dtx_assets.machinery.load.runs import RunContext, connect, refusals_told


class SentFilesOfRun:
    """The files that a run sends for a target. Noted before they are sent: a run that is killed leaves none unknown."""

    def __init__(self, run: RunContext, target_table: str) -> None:
        self.run, self.target_table = run, target_table

    def about_to_send(self, keys: pl.Series, digests: pl.Series) -> None:
        with refusals_told(), connect(self.run.connection_url) as connection:
            connection.execute(
                "INSERT INTO migration.sent_file (run_id, target_table, object_key, sha256)"
                " SELECT %s, %s, * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING",
                [self.run.run_id, self.target_table, keys.to_list(), digests.to_list()],
            )

    def not_sent(self, keys: Sequence[str]) -> None:
        """They were there already, or could not be sent."""
        if not keys:
            return
        with refusals_told(), connect(self.run.connection_url) as connection:
            connection.execute(
                "DELETE FROM migration.sent_file WHERE (run_id, target_table) = (%s, %s) AND object_key = ANY(%s)",
                [self.run.run_id, self.target_table, list(keys)],
            )
