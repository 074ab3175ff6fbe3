"""What tables a source has: columns with their types, and keys. SQLAlchemy asks databases; files are read.

Reading rows is the readers' business; what becomes of the tables is decided elsewhere.
"""

import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import polars as pl
from sqlalchemy import Engine, Inspector, create_engine, inspect, select, text, types
from sqlalchemy import column as sa_column
from sqlalchemy import table as sa_table
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SAWarning, SQLAlchemyError

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.base.settings import mask_url, without_secrets
from dtx_assets.machinery.model.legacy import ColumnKind, LegacyTable
from dtx_assets.machinery.postgres.catalogue import HIDDEN_SCHEMAS, key_of
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.document_catalogue import document_catalogue
from dtx_assets.machinery.sources.found import SAMPLED_ROWS, FoundColumn, FoundTable
from dtx_assets.machinery.sources.undeclared import DocumentSource
from dtx_assets.machinery.transforms.columns import code, date_value, naive_time
from dtx_assets.machinery.transforms.numbers import FALSE_TEXTS, TRUE_TEXTS
from dtx_assets.machinery.transforms.times import ISO_PARTS, iso_parts

PARTITIONS = text(
    "SELECT nspname::text, relname::text FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace"
    " WHERE relispartition"
)


def legacy_catalogue(url: str, *, s3_resource: Any = None) -> list[FoundTable]:
    """The tables at a legacy URL by name, views left out; SourceError where it cannot be read.

    Of PostgreSQL all schemas are looked at, of others the one of the URL.
    """
    scheme = url.partition("://")[0].lower().partition("+")[0] if "://" in url else ""
    if scheme in ("", "file", "s3", "mongodb"):
        return _sampled(url, s3_resource)
    # What is wrong with the URL, or the account, is told as when rows are read.
    with open_source(url) as source:
        source.tables()
    with refusals_told(url), source_engine(scheme, url) as engine, warnings.catch_warnings():
        # Types that SQLAlchemy does not know, such as geometry, come as NullType.
        warnings.simplefilter("ignore", SAWarning)
        return sorted(_reflected(engine, scheme), key=lambda table: (table.name, table.schema or ""))


def _reflected(engine: Engine, scheme: str) -> Iterator[FoundTable]:
    inspector = inspect(engine)
    default = inspector.default_schema_name
    schemas: list[str | None] = [None]
    parts: set[tuple[str | None, str]] = set()
    if scheme.startswith("postgres"):
        schemas = schemas_of(inspector)
        with engine.connect() as connection:
            parts = {(schema, name) for schema, name in connection.execute(PARTITIONS)}
    for schema in schemas:
        keys = inspector.get_multi_pk_constraint(schema=schema)
        unique = inspector.get_multi_unique_constraints(schema=schema)
        for (_, name), columns in inspector.get_multi_columns(schema=schema).items():
            if (schema or default, name) in parts:
                # Its rows are those of the table that it is a part of.
                continue
            constraint = keys.get((schema, name))
            candidates = [(True, tuple(constraint["constrained_columns"]))] if constraint else []
            candidates += [(False, tuple(other["column_names"])) for other in unique.get((schema, name)) or ()]
            found = tuple(_found_column(column, engine) for column in columns)
            key = key_of({column.name for column in found if column.nullable}, candidates)
            seen = _times_seen(engine, name, found) if scheme == "sqlite" else {}
            found = tuple(replace(column, kind=seen.get(column.name, column.kind)) for column in found)
            yield FoundTable(name, schema, found, key, guessed=bool(seen))


def _times_seen(engine: Engine, table: str, columns: Sequence[FoundColumn]) -> dict[str, ColumnKind]:
    """The columns of a table of SQLite, which has no type for a time, whose texts are days or times."""
    texts = [column.name for column in columns if column.kind == "text" and not column.holds]
    if not texts:
        return {}
    wanted: list[Any] = [sa_column(name) for name in texts]
    query = select(*wanted).select_from(sa_table(table)).limit(SAMPLED_ROWS)
    with engine.connect() as connection:
        rows = pl.DataFrame(
            [[value if isinstance(value, str | None) else "" for value in row] for row in connection.execute(query)],
            dict.fromkeys(texts, pl.String()),
            orient="row",
        )
    kinds = {name: _guessed_kind(rows[name]) for name in texts}
    return {name: kind for name, kind in kinds.items() if kind in ("date", "time", "instant")}


def schemas_of(inspector: Inspector) -> list[str | None]:
    """The schemas whose tables are somebody's; None is the one that the URL shows."""
    hidden = (inspector.default_schema_name, *HIDDEN_SCHEMAS)
    return [
        None,
        *(name for name in inspector.get_schema_names() if name not in hidden and not name.startswith("pg_")),
    ]


def _found_column(column: Any, engine: Engine) -> FoundColumn:
    kind, holds = _kind(column["type"])
    is_postgresql = engine.dialect.name == "postgresql"
    if holds == "bytes" and is_postgresql and isinstance(column["type"], types.NullType):
        # PostgreSQL gives every type as text, also one that an extension adds.
        holds = ""
    spelt = "unknown" if isinstance(column["type"], types.NullType) else column["type"].compile(engine.dialect)
    nullable = bool(column["nullable"])
    return FoundColumn(column["name"], str(spelt), kind, nullable, holds, is_postgresql=is_postgresql)


def _kind(kind: types.TypeEngine[Any]) -> tuple[ColumnKind, str]:
    """How the text of a column of a type is read, and what else is known of it."""
    match kind:
        case postgresql.DOMAIN():
            return _kind(kind.data_type)
        case types.NullType() | types.LargeBinary() | types.BINARY() | types.VARBINARY() | postgresql.BYTEA():
            return "text", "bytes"
        case mysql.TINYBLOB() | mysql.MEDIUMBLOB() | mysql.LONGBLOB():
            return "text", "bytes"
        case mysql.SET():
            return "text", "set"
        case types.ARRAY():
            return "text", "list"
        case types.Boolean():
            return "boolean", ""
        case types.Integer() | mysql.YEAR() | mysql.BIT():
            return "integer", ""
        case types.Uuid():
            return "uuid", ""
        case types.JSON():
            return "json", ""
        case types.Numeric() | types.Float() | postgresql.MONEY():
            return "decimal", ""
        case mysql.TIMESTAMP():
            return "instant", ""
        case types.DateTime():
            return ("instant" if kind.timezone else "time"), ""
        case types.Date():
            return "date", ""
    return "text", ""


@contextmanager
def source_engine(scheme: str, url: str) -> Iterator[Engine]:
    match scheme:
        case "postgresql" | "postgres":
            import psycopg

            # libpq reads the URL, as it does for rows.
            engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
        case "sqlite":
            path = Path(make_url(url).database or "").absolute()
            engine = create_engine(
                "sqlite://", creator=lambda: sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
            )
        case _:
            engine = create_engine(make_url(url).set(drivername="mysql+pymysql"))
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def refusals_told(url: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        said = without_secrets(str(error.__cause__ or error), url)
        raise SourceError(
            f"the source does not say which tables it has: {said.splitlines()[0]}",
            where=mask_url(url),
            remedy="let this account read the catalogue, or give another URL",
        ) from None


# --- files ------------------------------------------------------------------------------------------------------------


def _sampled(url: str, s3_resource: Any) -> list[FoundTable]:
    directory = None
    if not url.startswith("s3://"):
        directory = Path(unquote(urlsplit(url).path) if url.startswith("file://") else url)
    found = []
    with open_source(url, s3_resource=s3_resource) as source:
        if isinstance(source, DocumentSource):
            return document_catalogue(source)
        for name in source.tables():
            columns = source.columns(LegacyTable(name, "", ()))
            rows = _first_rows(directory / f"{name}.csv", columns) if directory else None
            found.append(_guessed_table(name, columns, rows))
    return found


def _first_rows(path: Path, columns: list[str]) -> pl.DataFrame | None:
    """Rows of a plain CSV as text; None where it is of another kind, and only its header is known."""
    try:
        rows = pl.read_csv(path, infer_schema=False, n_rows=SAMPLED_ROWS, null_values=["", r"\N", "NULL"])
    except (OSError, pl.exceptions.PolarsError):
        return None
    return rows if rows.columns == columns else None


def _guessed_table(name: str, columns: list[str], rows: pl.DataFrame | None) -> FoundTable:
    kinds = {column: _guessed_kind(rows[column]) if rows is not None else "text" for column in columns}
    key: tuple[str, ...] = ()
    if rows is not None and rows.height and columns and (first := rows[columns[0]]).null_count() == 0:
        key = (columns[0],) if first.n_unique() == rows.height else ()
    found = tuple(FoundColumn(column, "csv", kind, True) for column, kind in kinds.items())
    return FoundTable(name, None, found, key, guessed=True)


def _guessed_kind(values: pl.Series) -> ColumnKind:
    given = values.drop_nulls().to_frame("value")
    if given.is_empty():
        return "text"
    value = pl.col("value")
    iso = value.map_batches(iso_parts, ISO_PARTS, is_elementwise=True).struct
    # A leading zero is no number's: a postal code's, say.
    readings: dict[ColumnKind, pl.Expr] = {
        "integer": value.str.contains(r"^(0|-?[1-9][0-9]{0,17})$"),
        "decimal": value.str.contains(r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"),
        "boolean": code(value).is_in([text for text in (*TRUE_TEXTS, *FALSE_TEXTS) if text.isalpha()]),
        "date": value.str.contains(r"^\d{4}-\d{2}-\d{2}$") & date_value(value).is_not_null(),
        "time": naive_time(value).is_not_null(),
        "instant": iso.field("clock").is_not_null() & iso.field("has_offset"),
    }
    read = given.select(reading.all().alias(kind) for kind, reading in readings.items()).row(0, named=True)
    return next((kind for kind in readings if read[kind]), "text")
