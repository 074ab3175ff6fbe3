"""What a server makes of texts that are to be values of a column: the text that it prints of each, or why it does not.

Nothing is written to the target: the texts go into a temporary table and come back.
"""

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.model.types import TEXTS
from dtx_assets.machinery.postgres.connection import Connection, server_words
from dtx_assets.machinery.postgres.content import ROWS_A_BLOCK, copy_in, copy_out
from dtx_assets.machinery.postgres.ddl import LiveColumn

READ = pl.Schema({"text": pl.String(), "printed": pl.String(), "refused": pl.String()})
"""`printed` is null where the text is `refused`."""

_ANSWERS = pl.Schema(
    {"n": pl.Int64(), "printed": pl.String(), "kept": pl.Int64(), "state": pl.String(), "said": pl.String()}
)
_ROUNDED = frozenset(
    (
        *("numeric", "bit", "bit varying", *TEXTS),
        *(f"{kind} {zone} time zone" for kind in ("time", "timestamp") for zone in ("with", "without")),
    )
)
"""Types of which a cast keeps as much as the column says, and says nothing."""
_OF_A_VALUE = ("22", "23", "54", "P0", "0A", "42601", "XX000")
"""How the SQLSTATEs begin that say something of a value; some extensions call it an error of SQL, or of their own."""


def read_by_server(connection: Connection, column: LiveColumn, texts: pl.Series) -> pl.DataFrame:
    """READ of distinct texts, none of them null, as the live column would hold them."""
    some = (texts.slice(start, ROWS_A_BLOCK) for start in range(0, len(texts), ROWS_A_BLOCK))
    return pl.concat([pl.DataFrame(schema=READ), *(_read(connection, column, block) for block in some)])


def _read(connection: Connection, column: LiveColumn, texts: pl.Series) -> pl.DataFrame:
    given = pl.DataFrame({"n": pl.int_range(len(texts), eager=True), "text": texts})
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE TEMPORARY TABLE given_text (n bigint, given text)")
        copy_in(connection, sql.Identifier("pg_temp", "given_text"), given.rename({"text": "given"}))
        value = _value(column)
        try:
            with connection.transaction():
                query = sql.SQL("SELECT n, {}, NULL, NULL FROM pg_temp.given_text").format(value)
                answers = copy_out(connection, query, _ANSWERS)
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith(_OF_A_VALUE):
                raise
            answers = _one_by_one(connection, value)
    told = [
        # What is quoted may be the value, whatever the state.
        (n, f"is no value of {column.spelled}: {server_words(state if state[:2] == 'P0' else '22000', said, '')}")
        for n, state, said in answers.filter(pl.col("state").is_not_null()).select("n", "state", "said").iter_rows()
    ]
    refused = pl.DataFrame(told, schema={"n": pl.Int64, "refused": pl.String}, orient="row")
    lost = pl.when(pl.col("kept") == 0).then(pl.lit(f"is more than {column.spelled} keeps"))
    return (
        given.join(answers, on="n", how="left", maintain_order="left")
        .join(refused, on="n", how="left", maintain_order="left")
        .with_columns(pl.coalesce("refused", lost).alias("refused"))
        .select("text", pl.when(pl.col("refused").is_null()).then("printed").alias("printed"), "refused")
    )


def _value(column: LiveColumn) -> sql.Composed:
    """What the column prints of `given`, and whether (0, 1) it keeps all of it. Types are the catalogue's own words."""
    kept: sql.Composable = sql.SQL("1")
    if column.kind.arguments and (column.kind.name in _ROUNDED or column.kind.name.startswith("interval")):
        kept = sql.SQL("(given::{0} IS NOT DISTINCT FROM given::{1})::int").format(
            sql.SQL(column.spelled), sql.SQL(column.plain_type)
        )
    return sql.SQL("given::{}::text, {}").format(sql.SQL(column.spelled), kept)


def _one_by_one(connection: Connection, value: sql.Composable) -> pl.DataFrame:
    """The answers for each text by itself, since one of them is refused."""
    body = sql.SQL(
        "BEGIN RETURN QUERY SELECT {}, NULL::text, NULL::text; EXCEPTION WHEN OTHERS THEN"
        " IF NOT ({}) THEN RAISE; END IF; RETURN QUERY SELECT NULL::text, NULL::int, SQLSTATE, SQLERRM; END"
    ).format(
        value, sql.SQL(" OR ").join(sql.SQL("starts_with(SQLSTATE, {})").format(sql.Literal(s)) for s in _OF_A_VALUE)
    )
    connection.execute(
        sql.SQL(
            "CREATE FUNCTION pg_temp.read_text(given text)"
            " RETURNS TABLE (printed text, kept int, state text, said text) LANGUAGE plpgsql AS {}"
        ).format(sql.Literal(body.as_string(connection)))
    )
    query = sql.SQL("SELECT n, answer.* FROM pg_temp.given_text, pg_temp.read_text(given) AS answer")
    return copy_out(connection, query, _ANSWERS)
