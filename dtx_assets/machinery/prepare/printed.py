"""Prepared texts of values as the live target prints them, and the rows that hold what it cannot read or keep.

So what is prepared is what is read back, and both are compared as texts. The server is asked for what is spelled in an
uncommon way, each distinct text once, and for the types that only it knows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import polars as pl

from dtx_assets.machinery.model.target import TargetColumn
from dtx_assets.machinery.model.types import PADDED
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import is_document
from dtx_assets.machinery.postgres.ddl import LiveColumn
from dtx_assets.machinery.postgres.reading import READ, read_by_server
from dtx_assets.machinery.postgres.values import is_printed, refusals, tidied

VIOLATION = "schema_violation"
Connected = Callable[[], AbstractContextManager[Connection]]


def as_printed(
    rows: pl.DataFrame, columns: Sequence[TargetColumn], live: Mapping[str, LiveColumn], connected: Connected | None
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """The rows (`_row` and columns) with texts as the live columns print them; what they refuse by `_row`.

    `connected` opens the target. Without it, texts that only the server can read stay as they are.
    """
    found = []
    for column in columns:
        if column.name in live and _is_padded(column, live[column.name]):
            # Blanks at the end are none of the value, and are not read back.
            rows = rows.with_columns(pl.col(column.name).str.strip_chars_end(" "))
        elif column.name in live and _is_read(column):
            values = rows.select("_row", pl.col(column.name).alias("text"))
            printed, refused = _as_printed(values, live[column.name], connected)
            if printed is not None:
                rows = rows.with_columns(printed.alias(column.name))
            found += _problems(refused, column.name)
    return rows, found


def not_as_printed(column: TargetColumn, live: LiveColumn) -> Iterator[pl.Expr]:
    """Where a text is not as the live column prints it, as far as that is known without the server."""
    value = pl.col(column.name)
    if _is_padded(column, live):
        yield value.str.ends_with(" ")
    elif _is_read(column):
        yield _is_odd(live, value)


def _is_padded(column: TargetColumn, live: LiveColumn) -> bool:
    return column.kind.is_text and live.kind.name in PADDED


def _is_odd(live: LiveColumn, text: pl.Expr) -> pl.Expr:
    known = text.is_in(live.labels) if live.labels and not live.kind.is_array else is_printed(live.kind, text)
    return text.is_not_null() & ~known


def _is_read(column: TargetColumn) -> bool:
    """Whether texts of the column are another type's values, which are printed in one way."""
    return column.is_held_as_text and not column.kind.is_text and not column.kind.is_json


def _as_printed(
    values: pl.DataFrame, live: LiveColumn, connected: Connected | None
) -> tuple[pl.Series | None, pl.DataFrame]:
    """Of `values` (`_row`, `text`): the texts where some change, and what is `refused` of them, with `_row`."""
    text, kind = pl.col("text"), live.kind
    odd = values.filter(_is_odd(live, text))
    if live.labels and not kind.is_array:
        return None, odd.with_columns(pl.lit(f"is no label of {live.type}").alias("refused"))
    if odd.is_empty():
        return None, odd.with_columns(pl.lit("").alias("refused"))
    texts = odd.select(text.unique(maintain_order=True)).with_columns(tidied(kind, text).alias("printed"))
    texts = texts.with_columns(_first(refusals(kind, pl.col("printed"))).alias("refused"))
    unread = texts.filter(pl.col("refused").is_null() & ~is_printed(kind, pl.col("printed"))).get_column("printed")
    if len(unread) and connected:
        with connected() as connection:
            read = read_by_server(connection, live, unread.unique(maintain_order=True))
        texts = (
            texts.join(read, left_on="printed", right_on="text", how="left", suffix="_read", maintain_order="left")
            .with_columns(pl.coalesce("printed_read", "printed").alias("printed"))
            .with_columns(pl.coalesce("refused", "refused_read"))
            .select(READ.names())
        )
    looked_up = odd.join(texts, on="text", how="left", maintain_order="left")
    changed = looked_up.filter(pl.col("refused").is_null() & (text != pl.col("printed"))).select("_row", "printed")
    refused = looked_up.filter(pl.col("refused").is_not_null())
    if changed.is_empty():
        return None, refused
    replaced = values.join(changed, on="_row", how="left", maintain_order="left")
    return replaced.select(pl.coalesce("printed", "text")).to_series(), refused


def unreadable_documents(
    rows: pl.DataFrame, columns: Sequence[TargetColumn], live: Mapping[str, LiveColumn], connected: Connected
) -> list[pl.DataFrame]:
    """The rows that hold what the server takes for no JSON, by `_row`."""
    found = []
    for column in columns:
        if column.name not in live or not column.kind.is_json:
            continue
        texts = rows.select("_row", pl.col(column.name).alias("text"))
        distinct = texts.select(pl.col("text").drop_nulls().unique())
        doubtful = distinct.filter(~is_document(pl.col("text"))).get_column("text")
        if len(doubtful):
            with connected() as connection:
                read = read_by_server(connection, live[column.name], doubtful)
            found += _problems(texts.join(read.filter(pl.col("refused").is_not_null()), on="text"), column.name)
    return found


def _first(tests: Iterator[tuple[pl.Expr, str]]) -> pl.Expr:
    """The words of the first test that holds."""
    words = [pl.when(test.fill_null(False)).then(pl.lit(said)) for test, said in tests]
    return pl.coalesce(words) if words else pl.lit(None, pl.String)


def _problems(refused: pl.DataFrame, name: str) -> list[pl.DataFrame]:
    """Why rows are rejected, by what is `refused` of a column."""
    if refused.is_empty():
        return []
    detail = pl.concat_str(pl.lit(f"{name}: "), "refused")
    return [refused.select("_row", pl.lit(VIOLATION).alias("reason"), detail.alias("detail"))]
