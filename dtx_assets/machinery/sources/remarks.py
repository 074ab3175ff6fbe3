"""What a database holds that reading its tables does not give, or gives otherwise than it looks: for the preflight.

Each remark is what somebody has to know before a run; nothing here keeps a table from being read.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, runtime_checkable
from zoneinfo import ZoneInfo

from dtx_assets.machinery.base.encodings import is_doubly_encoded
from dtx_assets.machinery.model.legacy import LegacyTable

SAMPLED_ROWS, SAMPLED_VALUES = 100_000, 1_000
"""How many of a table's first rows are looked at for text in another encoding, and of those how many that have any."""

Ask = Callable[..., Sequence[tuple[Any, ...]]]
"""Runs a statement with values, and gives its rows."""


@dataclass(frozen=True)
class Remark:
    """One thing to know: where it holds, what it is, and what to do."""

    subject: str
    says: str
    remedy: str


@runtime_checkable
class Remarking(Protocol):
    """A source that can say what is not read of it."""

    def remarks(self, tables: Collection[LegacyTable], timezone: str) -> list[Remark]:
        """Of these tables, where naive times are taken to be in `timezone`."""
        ...


# --- zones ------------------------------------------------------------------------------------------------------------


def moments() -> list[int]:
    """Seconds since 1970 at which zones tell themselves apart: every fourth week of thirty years."""
    end = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    return [int((end - timedelta(weeks=4 * number)).timestamp()) for number in range(13 * 30)]


def zone_remark(name: str, local: Mapping[int, str], timezone: str, columns: Sequence[str]) -> Iterator[Remark]:
    """What to say where the server's own zone, by its clock at `moments`, is not that of the naive times."""
    zone = ZoneInfo(timezone)
    other = [
        moment
        for moment, text in local.items()
        if text and text[:19] != datetime.fromtimestamp(moment, zone).strftime("%Y-%m-%d %H:%M:%S")
    ]
    if other:
        moment = max(other)
        here = f"{datetime.fromtimestamp(moment, zone):%Y-%m-%d %H:%M}"
        yield Remark(
            "time zone",
            f"the server's is {name}, and naive times are read in {timezone}: {local[moment][:16]} there is {here}"
            f" here; {len(columns)} columns have naive times, such as {', '.join(columns[:3]) or 'none'}",
            "set *_LEGACY_TIMEZONE to the zone in which they were written; what is stored as an instant is read"
            " exactly",
        )


# --- encodings --------------------------------------------------------------------------------------------------------


def encoding_remarks(
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[bytes | str | None]],
    remedy: str = "if applications show them right, mend the values in the source before the export",
) -> Iterator[Remark]:
    """Rows are those of the table that have anything beyond ASCII, as text or as its UTF-8."""
    found = dict.fromkeys(columns, 0)
    looked_at = dict.fromkeys(columns, 0)
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            text = value.decode(errors="replace") if isinstance(value, bytes) else value
            if text and not text.isascii():
                looked_at[column] += 1
                found[column] += is_doubly_encoded(text)
    for column, count in found.items():
        if count:
            yield Remark(
                f"table {table}.{column}",
                f"{count} of {looked_at[column]} values beyond ASCII that were looked at are UTF-8 that was stored as"
                " latin1 (as in CafÃ© for Café), and are read as they look",
                remedy,
            )


NULL_OF_MYSQL = r"\N"


def null_remarks(table: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[Remark]:
    r"""`\N`, MySQL's NULL, in rows of a file that is read as RFC 4180, where it is a text of two characters."""
    nulls = Counter(
        name
        for row in rows
        if NULL_OF_MYSQL in row
        for name, field in zip(columns, row, strict=False)
        if field == NULL_OF_MYSQL
    )
    for name, count in nulls.items():
        yield Remark(
            f"table {table}.{name}",
            f"{NULL_OF_MYSQL}, as MySQL writes NULL, stands in {count} of the first rows, and is read as that text",
            r"""if they are NULL, say `escape: "\\"` in its dialect: the file is no RFC 4180 then""",
        )


MEND_COLUMN = (
    "if applications show them right, mend the column in the source (to BLOB, then to utf8mb4) before the export"
)

# --- MySQL and MariaDB ------------------------------------------------------------------------------------------------


def of_mysql(
    ask: Ask, quoted: Callable[[str], str], database: str, tables: Collection[LegacyTable], timezone: str
) -> Iterator[Remark]:
    """Of tables that can be read; those that name no database are in `database`; `quoted` is a name in SQL."""
    wanted = {(table.schema or database, table.name): table.shown for table in tables}
    places = {shown: f"{quoted(schema)}.{quoted(name)}" for (schema, name), shown in wanted.items()}
    databases = sorted({database, *(schema for schema, _ in wanted)})
    among = f"table_schema IN ({', '.join(['%s'] * len(databases))})"
    listed = _texts(
        ask(f"SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE {among}", *databases)  # noqa: S608
    )
    kinds = {wanted[schema, name]: kind for schema, name, kind in listed if (schema, name) in wanted}
    described = _texts(
        ask(
            "SELECT table_schema, table_name, column_name, data_type, COALESCE(character_set_name, '')"  # noqa: S608
            f" FROM information_schema.columns WHERE {among} ORDER BY table_name, ordinal_position",
            *databases,
        )
    )
    columns = [
        (wanted[schema, table], column, kind, charset)
        for schema, table, column, kind, charset in described
        if (schema, table) in wanted
    ]
    naive = [f"{table}.{column}" for table, column, kind, _ in columns if table in kinds and kind == "datetime"]
    name, local = _clock_of_mysql(ask)
    yield from zone_remark(name, local, timezone, naive)
    for table, kind in sorted(kinds.items()):
        if kind == "SYSTEM VERSIONED":
            yield Remark(
                f"table {table}",
                "is system-versioned: its rows of today are read, its history is not",
                f"export it FOR SYSTEM_TIME ALL, if the history of {table} has to be kept",
            )
        times = [column for owner, column, of, _ in columns if owner == table and of in ("datetime", "date", "time")]
        if kind == "VIEW" and times and any(True for _ in zone_remark(name, local, "UTC", ())):
            yield Remark(
                f"table {table}",
                f"is a view: what it makes of a TIMESTAMP is made in UTC, not in {name} (perhaps {', '.join(times)})",
                "let the view give the TIMESTAMP column as it is",
            )
        if texts := [column for owner, column, _, charset in columns if owner == table and charset]:
            names = list(map(quoted, texts))
            beyond = " OR ".join(f"LENGTH(CONVERT({each} USING utf8mb4)) > CHAR_LENGTH({each})" for each in names)
            sampled = f"(SELECT {', '.join(names)} FROM {places[table]} LIMIT {SAMPLED_ROWS}) AS sampled"  # noqa: S608
            rows = ask(f"SELECT {', '.join(names)} FROM {sampled} WHERE {beyond} LIMIT {SAMPLED_VALUES}")  # noqa: S608
            yield from encoding_remarks(table, texts, rows, MEND_COLUMN)


def _clock_of_mysql(ask: Ask) -> tuple[str, dict[int, str]]:
    """The name of the server's zone, and what its clock said at `moments`."""
    [(name, system)] = _texts(ask("SELECT @@global.time_zone, @@system_time_zone"))
    asked = moments()
    times = (datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S") for moment in asked)
    clocks = ", ".join(f"CONVERT_TZ('{at}', '+00:00', @@global.time_zone)" for at in times)
    [said] = _texts(ask(f"SELECT {clocks}"))
    return (f"SYSTEM ({system})" if name == "SYSTEM" else name), dict(zip(asked, said, strict=True))


def _texts(rows: Sequence[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    return [tuple((value or b"").decode() for value in row) for row in rows]


# --- PostgreSQL -------------------------------------------------------------------------------------------------------

COLUMNS_OF_POSTGRESQL = """
SELECT CASE WHEN pg_table_is_visible(pg_class.oid) THEN '' ELSE relnamespace::regnamespace || '.' END || relname,
  relkind::text, attname, format_type(coalesce(nullif(typbasetype, 0), atttypid), NULL), pg_class.oid::regclass::text
FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid JOIN pg_type ON pg_type.oid = atttypid
WHERE pg_class.oid = ANY (%s::oid[]) AND attnum > 0 AND NOT attisdropped ORDER BY relname, attnum
"""
CHILDREN = """
WITH RECURSIVE below AS (
  SELECT pg_class.oid AS top, inhrelid AS child FROM pg_class JOIN pg_inherits ON inhparent = pg_class.oid
  WHERE pg_class.oid = ANY (%s::oid[]) AND relkind IN ('r', 'p', 'f')
  UNION SELECT top, inhrelid FROM below JOIN pg_inherits ON inhparent = child
)
SELECT parent.relname, parent.relkind::text, child.relname, child.oid
FROM below JOIN pg_class AS parent ON parent.oid = top JOIN pg_class AS child ON child.oid = below.child ORDER BY 1, 3
"""
CLOCK_OF_POSTGRESQL = """
SELECT moment, to_char(to_timestamp(moment) AT TIME ZONE current_setting('TimeZone'), 'YYYY-MM-DD HH24:MI:SS')
FROM unnest(%s::bigint[]) AS moment
"""


def of_postgresql(ask: Ask, quoted: Callable[[str], str], tables: Collection[int], timezone: str) -> Iterator[Remark]:
    """Of tables that can be read, by their oids; `quoted` gives a name as SQL has it."""
    described = ask(COLUMNS_OF_POSTGRESQL, list(tables))
    columns = [tuple(row[:4]) for row in described]
    # As SQL has them.
    places = {shown: place for shown, *_, place in described}
    naive = [f"{table}.{column}" for table, _, column, kind in columns if kind == "timestamp without time zone"]
    [(name,)] = ask("SELECT current_setting('TimeZone')")
    yield from zone_remark(name, dict(ask(CLOCK_OF_POSTGRESQL, moments())), timezone, naive)
    yield from _inherited(ask, tables)
    for table, kind in sorted({(table, kind) for table, kind, _, _ in columns}):
        yield from _of_kind(table, kind)
        numbers = [column for owner, _, column, of in columns if owner == table and of == "oid"]
        if numbers:
            [(count,)] = ask("SELECT count(*) FROM pg_largeobject_metadata")
            yield Remark(
                f"table {table}",
                f"{', '.join(numbers)} may name large objects, of which the database has {count:,}: the numbers are"
                " read, what they name is not",
                "export them (lo_export), or put their bytes into a bytea column of a view: lo_get(…)",
            )
        texts = [
            column
            for owner, _, column, of in columns
            if owner == table and of in ("text", "character varying", "character")
        ]
        if texts:
            names = list(map(quoted, texts))
            beyond = " OR ".join(f"octet_length({each}) > length({each})" for each in names)
            sampled = f"(SELECT {', '.join(names)} FROM {places[table]} LIMIT {SAMPLED_ROWS}) AS sampled"  # noqa: S608
            rows = ask(f"SELECT {', '.join(names)} FROM {sampled} WHERE {beyond} LIMIT {SAMPLED_VALUES}")  # noqa: S608
            yield from encoding_remarks(table, texts, rows)


def _inherited(ask: Ask, tables: Collection[int]) -> Iterator[Remark]:
    children: dict[tuple[str, str], list[str]] = {}
    read: set[str] = set()
    for parent, kind, child, oid in ask(CHILDREN, list(tables)):
        children.setdefault((parent, kind), []).append(child)
        if oid in tables:
            read.add(child)
    for (parent, kind), names in children.items():
        if twice := [name for name in names if name in read]:
            yield Remark(
                f"table {parent}",
                f"the rows of {', '.join(twice)} are read twice: with their own table and with this one, which has them"
                " too",
                "take it, or the tables below it, out of the declaration, or read it through a view of ONLY its rows",
            )
        elif kind != "p":
            yield Remark(
                f"table {parent}",
                f"is read with the rows of the tables that inherit from it: {', '.join(names)}; columns that only those"
                " have are not read",
                f"read it through a view of FROM ONLY {parent} if it is to be its own rows",
            )


def _of_kind(table: str, kind: str) -> Iterator[Remark]:
    if kind == "f":
        yield Remark(
            f"table {table}",
            "is a foreign table: whether policies of its own server hide rows from this account is not seen from here",
            "ALTER SERVER … OPTIONS (ADD options '-c row_security=off'), so that it refuses instead",
        )
    if kind == "m":
        yield Remark(
            f"table {table}",
            "is a materialized view: its rows are those of its last refresh",
            f"REFRESH MATERIALIZED VIEW {table} before the run",
        )


# --- SQLite -----------------------------------------------------------------------------------------------------------

COUNTED_AT_ONCE = 1_500
"""Results of one statement; SQLite takes 2,000."""


def of_sqlite(ask: Ask, quoted: Callable[[str], str], tables: Collection[LegacyTable]) -> Iterator[Remark]:
    """Of tables that can be read; `quoted` is a name in SQL. SQLite has no zone."""
    for table in tables:
        described = ask("SELECT name, upper(type), hidden FROM pragma_table_xinfo(?)", table.name)
        columns = {name.decode(): kind.decode() for name, kind, hidden in described if hidden != 1}
        if hidden := [name.decode() for name, _, hidden in described if hidden == 1]:
            yield Remark(
                f"table {table.name}",
                f"is virtual: its hidden columns {', '.join(hidden)} are not read, as SELECT * does not give them",
                "read it through a view that names them, if they have to be migrated",
            )
        classes = [(name, stored) for name, kind in columns.items() for stored in _foreign_to(kind)]
        counts = _counts_of_sqlite(ask, quoted, table.name, classes)
        for name, kind in columns.items():
            other = {stored: count for (of, stored), count in counts.items() if of == name and count}
            if other:
                yield Remark(
                    f"table {table.name}.{name}",
                    f"is declared {kind}, and holds {', '.join(f'{n:,} of {of}' for of, n in sorted(other.items()))}:"
                    " SQLite keeps whatever it is given, and it is read as it is stored",
                    "see that the transform of the column takes such values, or mend them in the source",
                )
        names = list(map(quoted, columns))
        # No chain of ORs: SQLite takes no more than 1,000 in one another.
        beyond = ", ".join(f"length(CAST({name} AS BLOB)) > length({name})" for name in names)
        texts = ", ".join(f"CASE typeof({name}) WHEN 'text' THEN {name} END AS {name}" for name in names)
        sampled = f"(SELECT {texts} FROM {quoted(table.name)} LIMIT {SAMPLED_ROWS})"  # noqa: S608
        rows = ask(f"SELECT * FROM {sampled} WHERE 1 IN ({beyond}) LIMIT {SAMPLED_VALUES}")  # noqa: S608
        yield from encoding_remarks(table.name, list(columns), rows)


def _counts_of_sqlite(
    ask: Ask, quoted: Callable[[str], str], table: str, classes: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """How many values of a column are of a storage class, for each (column, class), in one scan of the table."""
    counts: list[int | None] = []
    for start in range(0, len(classes), COUNTED_AT_ONCE):
        together = classes[start : start + COUNTED_AT_ONCE]
        sums = ", ".join(f"sum(typeof({quoted(name)}) = '{stored}')" for name, stored in together)
        counts += ask(f"SELECT {sums} FROM {quoted(table)}")[0]  # noqa: S608
    return {each: count or 0 for each, count in zip(classes, counts, strict=True)}


def _foreign_to(declared: str) -> tuple[str, ...]:
    """The storage classes that are not what the declared type says, by SQLite's own rules of affinity."""
    if "INT" in declared:
        return ("text", "blob", "real")
    if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        return ("blob",)
    if any(word in declared for word in ("REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL", "BOOL")):
        return ("text", "blob")
    return ("text", "integer", "real") if "BLOB" in declared else ()


# --- CSV --------------------------------------------------------------------------------------------------------------

PART_OF_A_NAME = re.compile(r"[-_. (]*(?:part|of|copy)?[-_. (]*[0-9]+\)?$", re.IGNORECASE)


def of_csv_files(tables: Collection[LegacyTable], names: Collection[str]) -> Iterator[Remark]:
    """Of a place with files of these names: those that may hold rows of a table, and are not its `<table>.csv`."""
    read = {f"{table.name}.csv" for table in tables}
    others: dict[str, list[str]] = {}
    for name in sorted(set(names) - read):
        whole = name.partition(".")[0].casefold()
        others.setdefault(whole, []).append(name)
        if (cut := PART_OF_A_NAME.sub("", whole)) not in ("", whole):
            others.setdefault(cut, []).append(name)
    for table in tables:
        if found := others.get(table.name.casefold()):
            yield Remark(
                f"table {table.name}",
                f"is read from {table.name}.csv alone, and not from {', '.join(found[:5])}"
                f"{f' and {len(found) - 5} more' if len(found) > 5 else ''} beside it",
                "if they are parts of the same export, join them into one file with one header line; else take them"
                " away",
            )
