"""What becomes of the rows of a part: what is there is read, then decided. Nothing is written."""

import polars as pl

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.load.current import CurrentRows
from dtx_assets.machinery.load.findings import Findings
from dtx_assets.machinery.load.inserts import insert_fates
from dtx_assets.machinery.load.kept_ids import KeptIds
from dtx_assets.machinery.load.outcome import Decision
from dtx_assets.machinery.load.ownership import CHANGED, PLACE, YIELDS, identity_of, yields_of
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.load.relink import given_by, relink
from dtx_assets.machinery.load.units import update_fates
from dtx_assets.machinery.prepare.part import Part

NOTHING_SLICED = pl.DataFrame(schema={name: YIELDS[name] for name in PLACE})


class Decisions:
    """What is decided of the parts of one target, over one connection."""

    def __init__(self, place: Place, findings: Findings, *, overwrite: bool) -> None:
        self.place, self.findings, self.overwrite = place, findings, overwrite
        self.current, self.ids = CurrentRows(place), KeptIds(place)
        self.sliced = NOTHING_SLICED
        """What slices updated of the part that is decided on."""

    def of_part(self, part: Part) -> Decision:
        self.findings.stage_keys(part)
        stored = self.findings.links(part, staged=True)
        current = self.current.of_part(part, stored)
        yields = yields_of(part.links)
        self._require_unique(part, yields)
        fates, values = self.fates(part, yields, stored, current)
        sliced = self.sliced_of(yields, fates).get_column("target_id").unique()
        again = (pl.col("fate") == "update") & pl.col("target_id").is_in(sliced.implode())
        if fates.select(again.any()).item():
            # Somebody changed what was overwritten a moment ago.
            fates = fates.with_columns(
                pl.when(again).then(pl.lit("conflict")).otherwise("fate").alias("fate"),
                pl.when(again).then(pl.lit(CHANGED)).otherwise("cause").alias("cause"),
            )
            values = values.filter(~pl.col("_id").is_in(sliced.implode()))
        inserts = fates.filter(pl.col("fate") == "insert").select("_row")
        if self.place.target.key_is_written:
            inserts = inserts.join(part.rows.select("_row", "_id"), on="_row", maintain_order="left")
        else:
            inserts = inserts.hstack(self.ids.reserve(inserts.height))
        fates = (
            fates.join(inserts.select("_row", "_id"), on="_row", how="left", maintain_order="left")
            .with_columns(pl.coalesce("_id", "target_id").alias("target_id"))
            .drop("_id")
        )
        given = given_by(yields, fates, stored, identity_of(self.place.target))
        return Decision(stored, current, yields, fates, values, inserts, given, relink(given, yields, stored))

    def to_be_written(self, part: Part) -> pl.DataFrame:
        """The rows of a part that are to be written as the target is now: what belongs to the others stays as it is."""
        with self.place.connection.transaction():
            stored = self.findings.links(part)
            current = self.current.of_part(part, stored)
        fates = insert_fates(
            self.place.target,
            part.columns,
            part.comparable,
            yields_of(part.links),
            stored,
            current,
            overwrite=self.overwrite,
        )
        written = fates.filter(pl.col("fate").is_in(["insert", "update"])).get_column("_row")
        return part.rows.filter(pl.col("_row").is_in(written.implode()))

    def sliced_of(self, yields: pl.DataFrame, fates: pl.DataFrame) -> pl.DataFrame:
        """The fates of rows that slices updated."""
        return fates.join(yields.join(self.sliced, on=PLACE, how="semi"), on="_row", how="semi")

    def fates(
        self,
        part: Part,
        yields: pl.DataFrame,
        stored: pl.DataFrame,
        current: pl.DataFrame,
        numbers: pl.Series | None = None,
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The fates of the rows of a part, or of some by their numbers; `_id` and columns of those that are updated."""
        names = [column.name for column in part.columns]
        chosen = pl.lit(True) if numbers is None else pl.col("_row").is_in(numbers.implode())
        rows = part.rows.filter(chosen)
        if self.place.target.writes == "update":
            filled = update_fates(part.columns, rows, yields, stored, current, overwrite=self.overwrite)
            return filled.fates, filled.values
        fates = insert_fates(
            self.place.target,
            part.columns,
            part.comparable.filter(chosen),
            yields,
            stored,
            current,
            overwrite=self.overwrite,
        )
        updates = fates.filter(pl.col("fate") == "update").select("_row", pl.col("target_id").alias("_id"))
        return fates, updates.join(rows.select("_row", *names), on="_row").drop("_row")

    def _require_unique(self, part: Part, yields: pl.DataFrame) -> None:
        if self.place.target.writes == "update":
            parts = yields.group_by("_row").agg(pl.col("part").first())
            self._require_each_once(part, part.rows.select("_row", "_id").join(parts, on="_row"), ["_id", "part"])
            return
        target, key = self.place.target, list(self.place.target.natural_key)
        if key:
            self._require_each_once(part, part.rows if target.nulls_equal else part.rows.drop_nulls(key), key)
        if target.key_is_written:
            self._require_each_once(part, part.rows, list(target.key))

    def _require_each_once(self, part: Part, rows: pl.DataFrame, key: list[str]) -> None:
        twice = rows.filter(pl.struct(key).is_duplicated()).select(key).head(1)
        if twice.height:
            raise StructureError(
                f"two prepared rows have the same ({', '.join(key)}): {twice.row(0)}",
                where=f"part {part.name} of {self.place.system}/prepared/{self.place.target.model}",
                remedy="this is a fault of the flow, please report it",
            )
