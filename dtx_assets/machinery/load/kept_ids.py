"""Keys that a table gives itself, taken once for a part however often it is tried to write it.

So a part takes no more of them when it is tried again, and one that goes at once with others has the same as alone.
"""

import polars as pl
from psycopg import sql

from dtx_assets.machinery.load.identity import Ids
from dtx_assets.machinery.load.place import Place


class KeptIds(Ids):
    """Identities of one part after the other, over one connection. What is tried is taken back before the next try."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._kept: pl.DataFrame | None = None
        self._tried = False

    def begin(self, count: int) -> None:
        """A part begins; so many keys are taken for it already."""
        self._kept = None
        if count and self.place.key.is_number:
            self.reserve(count)
        self._tried = False

    def reserve(self, count: int) -> pl.DataFrame:
        if self.place.dry or not self.place.key.is_number:
            return super().reserve(count)
        if self._kept is None or self._kept.height < count or (self._tried and self._taken(self._kept.head(count))):
            self._kept = super().reserve(count)
        self._tried = True
        return self._kept.head(count)

    def _taken(self, keys: pl.DataFrame) -> bool:
        """Whether a row has one of the keys by now."""
        if keys.is_empty():
            return False
        ids = keys.get_column("_id")
        query = sql.SQL("SELECT {key} FROM {table} WHERE {key} BETWEEN {low} AND {high}").format(
            key=sql.Identifier(self.place.key.columns[0]),
            table=self.place.table,
            low=sql.Literal(ids.min()),
            high=sql.Literal(ids.max()),
        )
        taken = [row[0] for row in self.place.connection.execute(query)]
        return bool(ids.is_in(pl.Series(taken, dtype=pl.Int64).implode()).any())
