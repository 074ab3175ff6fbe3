"""Looking at rows for many checks at once, in one pass."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import polars as pl

from dtx_assets.machinery.base.masking import mask, plain
from dtx_assets.machinery.base.scratch import scratch_directory
from dtx_assets.machinery.checks.spec import EXAMPLES, VALUES_SHOWN, CheckOutcome, found
from dtx_assets.machinery.prepare.repeated import HELD, repeated, repeated_of_many
from dtx_assets.machinery.transforms.columns import code

NONE: Mapping[str, pl.Expr] = MappingProxyType({})
Engine = Literal["streaming", "in-memory"]
"""By which a survey is made: the second one is the quicker one of few rows."""


@dataclass(frozen=True)
class Rows:
    """The rows that a question found: how many, and up to five masked examples with their keys."""

    count: int
    examples: list[dict[str, str]]

    def outcome(self, **metadata: Any) -> CheckOutcome:
        """Passes where no row was found."""
        return found(self.count, **metadata, **({"examples": self.examples} if self.examples else {}))


@dataclass(frozen=True)
class Answers:
    """What a survey found, by the name of the question: `rows`, and `values` as frames of `value` and `rows`."""

    total: int
    rows: dict[str, Rows]
    values: dict[str, pl.DataFrame]


class Survey:
    """Questions about the rows of one table, counted in one streamed pass; rows that are found are looked at again.

    `personal` are the columns whose values are masked in examples.
    """

    def __init__(
        self,
        frame: pl.LazyFrame,
        *,
        personal: Collection[str] = (),
        key: str = "_source_key",
        engine: Engine = "streaming",
    ) -> None:
        self.frame = frame
        self.engine = engine
        self.personal = personal
        self.key = key
        self._whens: dict[str, pl.Expr] = {}
        self._shown: dict[str, list[pl.Expr]] = {}
        self._values: dict[str, pl.LazyFrame] = {}
        self._values_of_rows: dict[str, tuple[str, pl.Expr]] = {}

    def count(self, name: str, when: pl.Expr) -> None:
        """Asks how many rows `when` holds for."""
        self._whens[name] = when.fill_null(False)

    def rows(
        self,
        name: str,
        when: pl.Expr,
        *,
        show: Sequence[str | pl.Expr] = (),
        value: pl.Expr | None = None,
        values: Mapping[str, pl.Expr] = NONE,
    ) -> None:
        """Asks which rows `when` holds for; `show` is shown of the examples, beside the key.

        `value` asks how often each distinct value occurs in them, NULL included; of a list, each of its elements.
        `values` asks the same of several, whose answers have the name `<name>/<its own>`.
        """
        self.count(name, when)
        self._shown[name] = [pl.col(column) if isinstance(column, str) else column for column in show]
        if value is not None:
            self._values_of_rows[name] = (name, value)
        self._values_of_rows |= {f"{name}/{label}": (name, each) for label, each in values.items()}

    def values(self, name: str, value: pl.Expr) -> None:
        """Asks how often each distinct value occurs in all rows, NULL included; of a list, each of its elements."""
        self._values[name] = tally(self.frame.select(value.alias("value")))

    def answers(self) -> Answers:
        counting = self.frame.select(
            pl.len().alias("total"), *(number_of(when).alias(f"of {name}") for name, when in self._whens.items())
        )
        counts, *tallies = collected([counting, *self._values.values()], self.engine)
        numbers = counts.row(0, named=True)
        found_rows = [name for name in self._shown if numbers[f"of {name}"]]
        tallied = [name for name, (rows, _) in self._values_of_rows.items() if numbers[f"of {rows}"]]
        looked_at = collected(
            [self._example(name) for name in found_rows]
            + [self._values_of(*self._values_of_rows[name]) for name in tallied],
            self.engine,
        )
        examples = dict(zip(found_rows, looked_at[: len(found_rows)], strict=True))
        return Answers(
            numbers["total"],
            {
                name: Rows(
                    numbers[f"of {name}"] or 0, masked_rows(examples[name], self.personal) if name in examples else []
                )
                for name in self._whens
            },
            {
                **dict(zip(self._values, tallies, strict=True)),
                **dict.fromkeys(self._values_of_rows, NO_VALUES),
                **dict(zip(tallied, looked_at[len(found_rows) :], strict=True)),
            },
        )

    def _values_of(self, rows: str, value: pl.Expr) -> pl.LazyFrame:
        return tally(self.frame.filter(self._whens[rows]).select(value.alias("value")))

    def _example(self, name: str) -> pl.LazyFrame:
        shown = [column for column in self._shown[name] if column.meta.output_name() != "key"]
        return self.frame.filter(self._whens[name]).select(pl.col(self.key).alias("key"), *shown).head(EXAMPLES)


def number_of(when: pl.Expr) -> pl.Expr:
    """In how many rows a condition holds; one that asks of no column holds in all of them, or in none."""
    return when.sum() if when.meta.root_names() else pl.when(when).then(pl.len()).otherwise(0)


NO_VALUES = pl.DataFrame(schema={"value": pl.String, "rows": pl.get_index_type()})


def tally(values: pl.LazyFrame) -> pl.LazyFrame:
    """The distinct values of the column `value`, or the elements of its lists, with their number of `rows`."""
    if isinstance(values.collect_schema()["value"], pl.List):
        values = values.select(pl.col("value").list.unique()).explode("value", empty_as_null=False, keep_nulls=False)
    return values.group_by("value").len("rows").sort("rows", "value", descending=[True, False])


def collected(queries: Sequence[pl.LazyFrame], engine: Engine = "streaming") -> list[pl.DataFrame]:
    """The results of several queries over the same rows.

    Each reads its own few columns: what Polars would share between them it keeps in memory whole.
    """
    if not queries:
        return []
    return pl.collect_all(queries, engine=engine, optimizations=pl.QueryOptFlags(comm_subplan_elim=False))


def masked_rows(frame: pl.DataFrame, personal: Collection[str] = ()) -> list[dict[str, str]]:
    """Rows for people: values of `personal` columns masked, others cut short; the key is shown whole."""
    return [
        {
            name: str(value) if name == "key" else mask(value) if name in personal else plain(value)
            for name, value in row.items()
        }
        for row in frame.iter_rows(named=True)
    ]


def shown_values(values: pl.DataFrame) -> dict[str, int]:
    """The most frequent values of a tally, each with its number of rows; how many were left out where some were."""
    shown: dict[str, int] = {}
    for value, rows in values.head(VALUES_SHOWN).iter_rows():
        text = plain(value)
        shown[text] = shown.get(text, 0) + rows
    rest = values.slice(VALUES_SHOWN)
    if rest.height:
        shown[f"({rest.height} other values)"] = int(rest["rows"].sum())
    return shown


def listed(value: pl.Expr, names: pl.Series) -> pl.Expr:
    """Whether a text is in a list, compared as value maps are: trimmed and without case. NULL is not."""
    known = names.drop_nulls().str.strip_chars().str.to_lowercase().unique().to_list()
    return code(value).is_in(known).fill_null(False)


@dataclass(frozen=True)
class RepeatedKeys:
    """Keys that occur more than once: how many, how many rows are too many, and what those rows are.

    `identical` rows are wholly the same as another row of their key, `differing` ones are not.
    """

    keys: int
    identical: int
    differing: int
    examples: list[str]


def repeated_keys(
    frame: pl.LazyFrame, key: Sequence[pl.Expr], content: Sequence[str] | None = None, home: Path | None = None
) -> RepeatedKeys:
    """Looks for keys that occur more than once; a key with a NULL is none. `content` None: the key is all there is.

    Keys are compared by a 64-bit hash, and the rows of those that repeat are read again. Of more than `HELD` rows the
    hashes are spread over files under `home`; without one eight bytes a row are held.
    """
    names = [f"key {position}" for position in range(len(key))]

    def keyed_of(some: pl.LazyFrame) -> pl.LazyFrame:
        keyed = some.with_columns(part.alias(name) for part, name in zip(key, names, strict=True))
        if content is not None:
            keyed = keyed.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in names))
        return keyed.with_columns(pl.struct(names).hash().reinterpret(signed=True).alias("key hash"))

    def hashes_of(some: pl.LazyFrame) -> pl.Series:
        return keyed_of(some).select("key hash").collect(engine="streaming")["key hash"]

    total = frame.select(pl.len()).collect(engine="streaming").item() if home else 0
    if home and total > HELD:
        chunks = (hashes_of(frame.slice(first, HELD)) for first in range(0, total, HELD))
        with scratch_directory(home) as directory:
            again = repeated_of_many(chunks, -(-total // HELD), directory)
    else:
        again = repeated(hashes_of(frame))
    doubled, surplus = again.numbers, again.rows - len(again.numbers)
    if doubled.is_empty():
        return RepeatedKeys(0, 0, 0, [])
    if content is None:
        return RepeatedKeys(len(doubled), surplus, 0, [])
    keyed = keyed_of(frame)
    rows = (
        keyed.join(doubled.rename("key hash").to_frame().lazy(), on="key hash", how="semi")
        .select("key hash", pl.struct(content).hash().alias("row hash"))
        .unique()
        .group_by("key hash")
        .len("contents")
        .collect(engine="streaming")
    )
    differing = int((rows["contents"] - 1).sum())
    telling = rows.filter(pl.col("contents") > 1) if differing else rows
    place = pl.col("key hash").reinterpret(signed=False)
    shown = telling.sort("contents", place, descending=[True, False])["key hash"].head(EXAMPLES)
    examples = (
        keyed.filter(pl.col("key hash").is_in(shown.implode()))
        .select(pl.concat_str((pl.col(name).cast(pl.String) for name in names), separator=", ").alias("key"))
        .unique()
        .sort("key")
        .collect(engine="streaming")
    )
    return RepeatedKeys(len(doubled), surplus - differing, differing, examples["key"].to_list())
