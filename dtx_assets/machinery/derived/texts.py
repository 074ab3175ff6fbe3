"""The texts of target rows: pure expressions over their fields, and the queries that read these."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from operator import and_
from uuid import UUID

import polars as pl
import polars_hash as plh
from psycopg import sql

from dtx_assets.machinery.derived.model import Entity, TextField, TextLine
from dtx_assets.machinery.mapping.conditions import is_active
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import copy_out
from dtx_assets.machinery.postgres.ddl import qualified

ROWS_A_PAGE = 20_000
SOURCE_ID, TEXT, HASH, ELIGIBLE = "source_id", "text", "content_hash", "eligible"
LegacyRows = Callable[[str], pl.LazyFrame]
"""The rows of a legacy table, each with `_source_key`."""


# --- pure expressions -------------------------------------------------------------------------------------------------


def text_lines(lines: Sequence[TextLine], chosen: Mapping[str, str]) -> list[tuple[TextLine, pl.Expr]]:
    """Each line that counts, with its value over the columns `field_<line>_<field>`; null where that is blank."""
    return [(line, _line_value(number, line)) for number, line in enumerate(lines) if is_active(line.when, chosen)]


def _line_value(number: int, line: TextLine) -> pl.Expr:
    fields = [_given(pl.col(f"field_{number}_{place}")) for place in range(len(line.fields))]
    return _given(pl.concat_str(fields, separator=" ", ignore_nulls=True))


def _given(text: pl.Expr) -> pl.Expr:
    trimmed = text.str.strip_chars()
    return pl.when(trimmed != "").then(trimmed)


def row_text(lines: Sequence[TextLine], chosen: Mapping[str, str]) -> pl.Expr:
    """The text of a row: its lines but blank ones; null where none makes a text by itself."""
    counted = text_lines(lines, chosen)
    written = [value if line.label is None else pl.lit(f"{line.label}: ") + value for line, value in counted]
    makes = [value.is_not_null() for line, value in counted if line.alone]
    text = pl.concat_str(written, separator="\n", ignore_nulls=True)
    return pl.when(pl.any_horizontal(makes)).then(text) if makes else pl.lit(None, pl.String)


def content_hash(text: pl.Expr) -> pl.Expr:
    """SHA-256 of a text in UTF-8, as 64 hexadecimal digits; null stays."""
    return plh.concat_str([text]).chash.sha2_256()


def derived_id(namespace: UUID, *parts: str | pl.Expr) -> pl.Expr:
    """The version 5 UUID of the parts with colons between, as text."""
    return plh.concat_str(
        [pl.lit(part) if isinstance(part, str) else part for part in parts], separator=":"
    ).uuidhash.uuid5(str(namespace))


# --- reading rows -----------------------------------------------------------------------------------------------------


def entity_texts(
    connection: Connection,
    entity: Entity,
    chosen: Mapping[str, str],
    legacy: LegacyRows,
    ids: Sequence[str] | None = None,
) -> Iterator[pl.DataFrame]:
    """Pages of `source_id`, `text` and `content_hash` of the rows of an entity that have a text, in the order of ids.

    Of all rows, or of those with the given ids.
    """
    given = _legacy_given(entity, legacy)
    after: str | None = None
    while True:
        page = copy_out(connection, _rows_query(entity, ids, after), _schema(entity))
        if page.height:
            after = page.get_column(SOURCE_ID)[-1]
            yield texts_of_rows(page, entity, chosen, given)
        if page.height < ROWS_A_PAGE:
            return


def texts_of_rows(
    rows: pl.DataFrame, entity: Entity, chosen: Mapping[str, str], given: Mapping[str, pl.Series]
) -> pl.DataFrame:
    """`source_id`, `text` and `content_hash` of the rows that are eligible and have a text.

    `rows` has the columns that `_schema` says; `given` are the keys of the legacy rows whose column is not blank.
    """
    conditions = [
        pl.col(f"legacy_{number}").is_null() | pl.col(f"legacy_{number}").is_in(given[condition.legacy].implode())
        for number, condition in enumerate(entity.eligible)
        if condition.legacy
    ]
    held = reduce(and_, conditions, pl.col(ELIGIBLE) == 1)
    return (
        rows.lazy()
        .filter(held)
        .select(SOURCE_ID, row_text(entity.lines, chosen).alias(TEXT))
        .filter(pl.col(TEXT).is_not_null())
        .with_columns(content_hash(pl.col(TEXT)).alias(HASH))
        .collect()
    )


def _legacy_given(entity: Entity, legacy: LegacyRows) -> dict[str, pl.Series]:
    """By legacy table: the keys of its rows whose named column is not blank."""
    return {
        condition.legacy: legacy(condition.legacy)
        .filter(pl.col(condition.given).str.strip_chars() != "")
        .select("_source_key")
        .collect()
        .to_series()
        for condition in entity.eligible
        if condition.legacy and condition.given
    }


def _schema(entity: Entity) -> pl.Schema:
    fields = [f"field_{n}_{place}" for n, line in enumerate(entity.lines) for place in range(len(line.fields))]
    legacy = [f"legacy_{number}" for number, condition in enumerate(entity.eligible) if condition.legacy]
    return pl.Schema({SOURCE_ID: pl.String, ELIGIBLE: pl.Int64, **dict.fromkeys([*legacy, *fields], pl.String)})


def _rows_query(entity: Entity, ids: Sequence[str] | None, after: str | None) -> sql.Composable:
    joins: list[sql.Composable] = []
    values: list[sql.Composable] = []
    for condition in entity.eligible:
        if condition.by:
            values.append(sql.SQL("{}::text").format(sql.Identifier("row", condition.by)))
    for line in entity.lines:
        for field in line.fields:
            of = "row"
            if field.table and field.by:
                of = f"referred_{len(joins)}"
                joins.append(
                    sql.SQL(" LEFT JOIN {} AS {} ON {} = {}").format(
                        qualified(field.table),
                        sql.Identifier(of),
                        sql.Identifier(of, "id"),
                        sql.Identifier("row", field.by),
                    )
                )
            values.append(_field_value(field, of))
    wanted: list[sql.Composable] = [sql.SQL("true")]
    if ids is not None:
        wanted.append(sql.SQL("{} = ANY ({}::uuid[])").format(sql.Identifier("row", "id"), sql.Literal(list(ids))))
    if after is not None:
        wanted.append(sql.SQL("{} > {}::uuid").format(sql.Identifier("row", "id"), sql.Literal(after)))
    return sql.SQL("SELECT {}::text, ({})::int, {} FROM {} AS row{} WHERE {} ORDER BY {} LIMIT {}").format(
        sql.Identifier("row", "id"),
        _eligible(entity),
        sql.SQL(", ").join(values),
        qualified(entity.table),
        sql.SQL("").join(joins),
        sql.SQL(" AND ").join(wanted),
        sql.Identifier("row", "id"),
        sql.Literal(ROWS_A_PAGE),
    )


def _field_value(field: TextField, of: str) -> sql.Composable:
    value: sql.Composable = sql.Identifier(of, field.column)
    if field.as_ == "year":
        return sql.SQL("extract(year FROM {})::int::text").format(value)
    if field.as_ == "list":
        array = sql.SQL("{} -> {}").format(value, sql.Literal(field.key)) if field.key else value
        return sql.SQL(
            "(SELECT string_agg(listed.item, ', ' ORDER BY listed.place) FROM jsonb_array_elements_text("
            "CASE jsonb_typeof({0}) WHEN 'array' THEN {0} END) WITH ORDINALITY AS listed (item, place))"
        ).format(array)
    if field.key:
        return sql.SQL("{} ->> {}").format(value, sql.Literal(field.key))
    return sql.SQL("{}::text").format(value)


def _eligible(entity: Entity) -> sql.Composable:
    conditions: list[sql.Composable] = [sql.SQL("true")]
    for condition in entity.eligible:
        if condition.column:
            value: sql.Composable = sql.Identifier("row", condition.column)
            if condition.key:
                value = sql.SQL("(({} ->> {}) = 'true')").format(value, sql.Literal(condition.key))
            conditions.append(sql.SQL("{} IS {} TRUE").format(value, sql.SQL("" if condition.is_ else "NOT")))
    return sql.SQL(" AND ").join(conditions)
