"""All parts of a target as one, for a target whose rows refer to each other: they are written in one transaction."""

from hashlib import sha256
from typing import Any

import polars as pl

from dtx_assets.machinery.prepare.part import Part, PreparedParts

WHOLE = "whole"


class WholeParts:
    """The parts of a prepared dataset, read as one part. All of it is in memory at once."""

    def __init__(self, parts: PreparedParts) -> None:
        self._parts = parts
        self.flows, self.sources = parts.flows, parts.sources
        self.yielded, self.absent = parts.yielded, parts.absent
        buckets = [bucket for part in parts.described for bucket in part["buckets"]]
        self.described: list[dict[str, Any]] = [
            {
                "part": WHOLE,
                "buckets": [min(buckets), max(buckets)],
                "rows": sum(int(part["rows"]) for part in parts.described),
            }
        ]

    def digest(self, number: int) -> str:
        """Changes with anything that one of the parts holds."""
        digests = [self._parts.digest(part) for part in range(len(self._parts.described))]
        return digests[number] if len(digests) == 1 else sha256(" ".join(digests).encode()).hexdigest()

    def read(self, number: int) -> Part:
        parts = [self._parts.read(part) for part in range(len(self._parts.described))]
        start, rows, comparable, links = 0, [], [], []
        for part in parts:
            moved = (pl.col("_row") + start).alias("_row")
            rows.append(part.rows.with_columns(moved))
            comparable.append(part.comparable.with_columns(moved))
            links.append(part.links.with_columns(pl.col("rows").list.eval(pl.element() + start)))
            start += part.rows.height
        low, high = self.described[number]["buckets"]
        return Part(
            WHOLE,
            (low, high),
            self.digest(number),
            parts[0].columns,
            pl.concat(rows),
            pl.concat(comparable),
            pl.concat(links),
            pl.concat([part.rejected for part in parts]),
            pl.concat([part.problems for part in parts]),
        )
