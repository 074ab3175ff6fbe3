"""A few examples of what a dry run would write, and what is in its way, with values as they are: mask them to show."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from dtx_assets.machinery.load.key import Key
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import python_rows
from dtx_assets.machinery.prepare.part import Part

SAMPLES = 5
"""How many rows of each kind are shown of a target."""
SHOWN = ("insert", "update", "conflict")


@dataclass(frozen=True)
class Sample:
    """One target row: where it comes from, and each column's value `before` (as it is) and `after` (as prepared)."""

    fate: str
    source_key: str
    part: str
    target_id: int | str | None
    """Its key, or the number that stands for it while a load or comparison goes on."""
    cause: str | None
    columns: tuple[tuple[str, Any, Any], ...]


def samples_of_copied(part: Part) -> list[Sample]:
    """Of a part of which no row is there yet."""
    return _inserted(part, part.rows.head(SAMPLES).get_column("_row"), _places(part.links))


def samples_of(part: Part, yields: pl.DataFrame, fates: pl.DataFrame, current: pl.DataFrame) -> list[Sample]:
    """Of a part that was compared with what is there."""
    places = {
        row: (key, name)
        for row, key, name in yields.unique("_row", maintain_order=True)
        .select("_row", "source_key", "part")
        .filter(pl.col("_row").is_in(_first(fates, SHOWN).get_column("_row").implode()))
        .iter_rows()
    }
    found = _inserted(part, _first(fates, ("insert",)).get_column("_row"), places)
    others = _first(fates, ("update", "conflict"))
    wanted = {row["_row"]: row for row in _rows(part.rows, "_row", others.get_column("_row"))}
    there = {row["_id"]: row for row in _rows(current, "_id", others.get_column("target_id").drop_nulls())}
    for fate in others.iter_rows(named=True):
        after, before = wanted[fate["_row"]], there.get(fate["target_id"], {})
        names = fate["columns"] or []
        found.append(
            Sample(
                fate["fate"],
                *places.get(fate["_row"], ("", "")),
                fate["target_id"],
                fate["cause"],
                tuple((name, before.get(name), after[name]) for name in names),
            )
        )
    return found


def with_keys(connection: Connection, key: Key, samples: Sequence[Sample]) -> list[Sample]:
    """The samples with the keys of their rows in place of the numbers that stand for them."""
    numbers = [sample.target_id for sample in samples if isinstance(sample.target_id, int)]
    texts = {str(number): text for number, text in key.texts(connection, numbers).items()}
    return [replace(sample, target_id=texts.get(str(sample.target_id), sample.target_id)) for sample in samples]


def merged_samples(samples: Sequence[Sample], more: Sequence[Sample]) -> list[Sample]:
    """The first SAMPLES of each fate."""
    counts: Counter[str] = Counter()
    kept = []
    for sample in (*samples, *more):
        counts[sample.fate] += 1
        if counts[sample.fate] <= SAMPLES:
            kept.append(sample)
    return kept


def _first(fates: pl.DataFrame, kinds: Sequence[str]) -> pl.DataFrame:
    return pl.concat([fates.filter(pl.col("fate") == kind).head(SAMPLES) for kind in kinds])


def _rows(frame: pl.DataFrame, column: str, values: pl.Series) -> list[dict[str, Any]]:
    return python_rows(frame.filter(pl.col(column).is_in(values.implode())))


def _places(links: pl.DataFrame) -> dict[int, tuple[str, str]]:
    head = links.head(SAMPLES).select("source_key", "parts", "rows").explode("parts", "rows")
    return {row: (key, part) for key, part, row in reversed(head.rows())}


def _inserted(part: Part, numbers: pl.Series, places: dict[int, tuple[str, str]]) -> list[Sample]:
    names = [column.name for column in part.columns]
    return [
        Sample(
            "insert",
            *places.get(row["_row"], ("", "")),
            None,
            None,
            tuple((name, None, row[name]) for name in names),
        )
        for row in _rows(part.rows, "_row", numbers)
    ]
