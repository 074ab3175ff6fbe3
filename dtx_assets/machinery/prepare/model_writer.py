"""What a flow made of a target model, on its way into the lake: parts, each with what tells whether it is as before."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl

from dtx_assets.machinery.base.lake import DatasetWriter
from dtx_assets.machinery.prepare.assess import DROPPED
from dtx_assets.machinery.prepare.digests import content_digest, digests_of_slices
from dtx_assets.machinery.prepare.stretches import taken_apart
from dtx_assets.machinery.system.flow import Prepared

KEYS, STANDS_FOR = "keys", "stands_for"
"""Tables of a prepared dataset beside its rows: the keys of source rows, and which rows stand for others."""


class ModelWriter:
    """Writes the parts of one target model: prepared rows and links, and rejected rows beside them.

    `key` is that of the target where others ask for it; `share` tells the names of files from those of others who write
    the same version.
    """

    def __init__(
        self, prepared: DatasetWriter, rejected: DatasetWriter, key: str | None = None, share: str | None = None
    ) -> None:
        self.prepared, self.rejected, self.key, self.share = prepared, rejected, key, share
        self.linked: Counter[str] = Counter()
        self.parts: list[dict[str, Any]] = []

    def _file(self, name: str) -> str:
        return f"{name}-{self.share}" if self.share else name

    def add_rejected(self, part: str, rejected: pl.DataFrame) -> None:
        self.rejected.add(rejected, table="rows", file=self._file(f"rejected-{part}"))

    def add_dropped(self, part: str, dropped: pl.DataFrame) -> None:
        self.rejected.add(dropped, table=DROPPED, file=self._file(f"{DROPPED}-{part}"))

    def add_keys(self, part: str, prepared: Prepared) -> None:
        """Which source rows have which keys in the target, where others ask."""
        if self.key is not None:
            rows = prepared.rows.select(pl.col("_row").alias("rows"), pl.col(self.key).alias("target_id"))
            links = prepared.links.select("source_table", "source_key", "rows").explode("rows")
            self.prepared.add(links.join(rows, on="rows").drop("rows"), table=KEYS, file=self._file(f"{KEYS}-{part}"))

    def add_stands_for(self, part: str, named: Sequence[pl.DataFrame]) -> None:
        for number, frame in enumerate(named):
            self.prepared.add(frame, table=STANDS_FOR, file=self._file(f"{STANDS_FOR}-{part}-{number}"))

    def add_part(self, part: str, buckets: tuple[int, int], prepared: Prepared, rejected: pl.DataFrame | None) -> None:
        self._count(prepared)
        self.prepared.add(prepared.rows, table="rows", file=self._file(f"rows-{part}"))
        self.prepared.add(prepared.links, table="links", file=self._file(f"links-{part}"))
        digest = hashlib.sha256()
        for frame in (prepared.rows, prepared.links, rejected):
            if frame is not None:
                digest.update(content_digest(frame))
        if rejected is not None:
            self.add_rejected(part, rejected)
        self.parts.append(
            {
                "part": part,
                "buckets": list(buckets),
                "rows": prepared.rows.height,
                "digest": digest.hexdigest(),
                **self._lies_in(part),
            }
        )

    def _count(self, prepared: Prepared) -> None:
        self.linked.update(dict(prepared.links.get_column("source_table").value_counts().iter_rows()))

    def _lies_in(self, file: str) -> dict[str, str]:
        """Where that is not what the part says of itself."""
        return {"file": self._file(file)} if self.share else {}

    def add_parts(
        self, stretch: str, ranges: Sequence[tuple[int, int]], prepared: Prepared, rejected: pl.DataFrame
    ) -> None:
        """The parts of a stretch of rows, in files that they share."""
        if len(ranges) == 1:
            self.add_part(stretch, ranges[0], prepared, rejected)
            return
        self._count(prepared)
        prepared, rejected, slices = taken_apart(prepared, rejected, ranges)
        self.prepared.add(prepared.rows, table="rows", file=self._file(f"rows-{stretch}"))
        self.prepared.add(prepared.links, table="links", file=self._file(f"links-{stretch}"))
        self.add_rejected(stretch, rejected)
        digests = zip(
            digests_of_slices(prepared.rows, [part.rows for part in slices]),
            digests_of_slices(prepared.links, [part.links for part in slices]),
            digests_of_slices(rejected, [part.rejected for part in slices]),
            strict=True,
        )
        for part, each in zip(slices, digests, strict=True):
            self.parts.append(
                {
                    "part": part.part,
                    "buckets": list(part.buckets),
                    "rows": part.rows[1],
                    "digest": hashlib.sha256(b"".join(each)).hexdigest(),
                    "stretch": stretch,
                    "rows_from": part.rows[0],
                    "links_from": part.links[0],
                    "links": part.links[1],
                    **self._lies_in(stretch),
                }
            )

    def finish(self, preparation: str, metadata: dict[str, Any]) -> None:
        self.prepared.metadata.update(metadata, preparation=preparation, parts=self.parts)
        self.rejected.metadata.update(preparation=preparation, fingerprint=metadata["fingerprint"])
