"""The lake as Dagster's IO manager: an asset of one's own takes and gives lazy frames, by asset key.

The lake itself, and all that knows versions and leases, is `lake`.
"""

from typing import Any, Self

import dagster as dg
import polars as pl
from pydantic import PrivateAttr

from dtx_assets.machinery.base.lake import Lake


class LakeIOManager(dg.ConfigurableIOManager):
    """Stores a LazyFrame (streamed) or DataFrame as the dataset of its asset key; loads a LazyFrame of any dataset.

    An argument of an asset that is annotated as `pl.DataFrame` gets the rows in memory.
    """

    url: str
    _s3: Any = PrivateAttr(default=None)

    def with_s3(self, s3: Any) -> Self:
        """The same with dagster-aws's S3Resource for a lake on S3."""
        self._s3 = s3
        return self

    def handle_output(self, context: dg.OutputContext, obj: pl.LazyFrame | pl.DataFrame) -> None:
        if obj is None:
            return
        lake, key = Lake(self.url, self._s3), tuple(context.asset_key.path)
        with lake.write(key, run_id=context.run_id) as writer:
            if isinstance(obj, pl.LazyFrame):
                rows = writer.sink(obj)
            else:
                writer.add(obj)
                rows = obj.height
        context.add_output_metadata(
            {"dagster/row_count": rows, "lake path": dg.MetadataValue.path(lake.location(lake.require(key), ""))}
        )

    def load_input(self, context: dg.InputContext) -> pl.LazyFrame | pl.DataFrame:
        frame = Lake(self.url, self._s3).scan(tuple(context.asset_key.path))
        return frame.collect(engine="streaming") if context.dagster_type.typing_type is pl.DataFrame else frame
