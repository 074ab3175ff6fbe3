"""What tells the rows of a table apart, as SQL: each has a number, by which the load and its bookkeeping call it.

Where the key is one whole number, that is the number. Any other key, a text, a uuid, several columns, is given one in
`migration.target_row`; the server alone makes texts of such keys and reads them.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.model.types import FLOATS, INTEGERS
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import copy_in, copy_out, kept_key, key_text, whole_key
from dtx_assets.machinery.postgres.ddl import LiveTarget, qualified
from dtx_assets.machinery.postgres.digests import row_digest

PROBED = 20
"""Of keys that are numbered: how many of them tell whether they may have numbers already."""
MANY = 1000
"""Keys of which new ones are written in the order of their index."""
PRINTED_UUID = "^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

TARGET_ROW = sql.Identifier("migration", "target_row")

NEVER_LONG = frozenset({*INTEGERS, *FLOATS, "boolean", "date", "uuid", "oid", "money", "inet", "cidr", "macaddr"})
"""Types whose texts are few bytes, whatever the value; times are among the others."""
PRINTED_IN_ONE_WAY = frozenset({*INTEGERS, "uuid"})


@dataclass(frozen=True)
class Key:
    """The key of a table. SQL about a row calls it `t`.

    A statement over rows and their numbers is `… FROM <table> AS t{beside} … WHERE {same} AND … {number} …`.
    """

    table: sql.Identifier
    name: str
    """By which the bookkeeping calls the table."""
    columns: tuple[str, ...]
    types: tuple[str, ...]

    @classmethod
    def of(cls, target: TargetTable, live: LiveTarget) -> "Key":
        types = tuple(live.columns[name].plain_type for name in target.key)
        return cls(qualified(target), target.name, target.key, types)

    @property
    def is_number(self) -> bool:
        return len(self.types) == 1 and self.types[0] in INTEGERS

    @property
    def may_be_long(self) -> bool:
        """Whether a key may be longer than what an index takes of it as text."""
        return not NEVER_LONG.issuperset(self.types)

    @property
    def number(self) -> sql.Composable:
        return sql.Identifier("t", self.columns[0]) if self.is_number else sql.SQL("numbered.no")

    @property
    def beside(self) -> sql.Composable:
        return sql.SQL("") if self.is_number else sql.SQL(", migration.target_row AS numbered")

    @property
    def same(self) -> sql.Composable:
        return sql.SQL("true") if self.is_number else self._numbered("t", "numbered")

    def joined(self, rows: sql.Composable) -> sql.Composable:
        """Rows, by the name of their table, with their numbers, as one item of a list of joins."""
        if self.is_number:
            return sql.SQL("{} AS t").format(rows)
        return sql.SQL("({} AS t JOIN migration.target_row AS numbered ON {})").format(rows, self.same)

    def number_is_in(self, row: str, ids: sql.Composable) -> sql.Composable:
        """Whether the number of a row, by another name than `t`, is in an array."""
        # Joined, because an array of another type of integer would be gone through for each row.
        wanted = sql.SQL("unnest({}::bigint[]) AS wanted (no)").format(ids)
        if self.is_number:
            same = sql.SQL("wanted.no = {}").format(sql.Identifier(row, self.columns[0]))
            return sql.SQL("EXISTS (SELECT FROM {} WHERE {})").format(wanted, same)
        return sql.SQL(
            "EXISTS (SELECT FROM migration.target_row AS among JOIN {} ON wanted.no = among.no WHERE {})"
        ).format(wanted, self._numbered(row, "among"))

    def _numbered(self, row: str, entry: str) -> sql.Composable:
        """Whether an entry of migration.target_row is that of a row. An index of the table on its key can answer."""
        key: sql.Composable = sql.Identifier(entry, "key")
        if self.may_be_long:
            key = sql.SQL("coalesce({}, {})").format(sql.Identifier(entry, "whole_key"), key)
        texts: list[sql.Composable] = [key]
        if len(self.columns) > 1:
            texts = [sql.SQL("({}::jsonb ->> {})").format(key, sql.Literal(n)) for n in range(len(self.columns))]
        values = [
            # The type is the catalogue's own word for it.
            sql.SQL("{} = {}::" + kind).format(sql.Identifier(row, name), text)
            for name, kind, text in zip(self.columns, self.types, texts, strict=True)
        ]
        of_table = sql.SQL("{} = {}").format(sql.Identifier(entry, "target_table"), sql.Literal(self.name))
        return sql.SQL(" AND ").join([of_table, *values])

    @property
    def digest(self) -> sql.Composable:
        """A hash of the key of a row."""
        return row_digest("t", self.columns)

    @property
    def is_printed_in_one_way(self) -> bool:
        """Whether no two texts stand for keys that the server holds for equal."""
        return PRINTED_IN_ONE_WAY.issuperset(self.types)

    def text(self, row: str) -> sql.Composable:
        """The key of a row as text."""
        return key_text(row, self.columns, self.types)

    def kept(self, row: str) -> sql.Composable:
        """What `key` of migration.target_row is of a row."""
        return kept_key(self.text(row)) if self.may_be_long else self.text(row)

    def number_rows(self, connection: Connection, rows: sql.Composable) -> None:
        """Give numbers to rows that have none. `rows` is what follows FROM, and calls a row `t`."""
        if not self.is_number:
            connection.execute(self._numbering(self._without_number(rows)))

    def _numbering(self, rows: sql.Composable) -> sql.Composed:
        return sql.SQL(
            "INSERT INTO migration.target_row (target_table, key, whole_key) SELECT {}, {}, {} FROM {}"
            " ON CONFLICT (target_table, key) DO NOTHING"
        ).format(
            sql.Literal(self.name),
            self.kept("t"),
            whole_key(self.text("t")) if self.may_be_long else sql.NULL,
            rows,
        )

    def _without_number(self, rows: sql.Composable) -> sql.Composed:
        """For rows that mostly have one: to be refused by an index costs as much as to be written into it."""
        return sql.SQL(
            "{} WHERE NOT EXISTS (SELECT FROM migration.target_row AS had WHERE (had.target_table, had.key) = ({},"
            # A key may have a collation of its own, by which the index of the numbers has no order.
            ' ({}) COLLATE "default"))'
        ).format(rows, sql.Literal(self.name), self.kept("t"))

    def numbers(self, connection: Connection, keys: pl.DataFrame) -> pl.Series:
        """The numbers of rows whose keys are given, in their order; new ones where they have none."""
        if self.is_number:
            return keys.get_column(self.columns[0]).cast(pl.Int64).alias("_id")
        printed = self.printed(keys)
        given = self._all_new(connection, printed) if printed is not None and keys.height >= MANY else None
        if given is not None:
            return given
        # To read texts that are as the server prints them, and to print them again, takes half of the time.
        kinds = self.types if printed is None else ("text",) * len(self.types)
        columns = sql.SQL(", ").join(
            sql.SQL("{} " + kind).format(sql.Identifier(name)) for name, kind in zip(self.columns, kinds, strict=True)
        )
        connection.execute("DROP TABLE IF EXISTS pg_temp.wanted_key")
        connection.execute(
            sql.SQL("CREATE TEMPORARY TABLE wanted_key (_place bigint, {}) ON COMMIT DROP").format(columns)
        )
        placed = keys.select(self.columns).with_row_index("_place")
        copy_in(connection, sql.Identifier("pg_temp", "wanted_key"), placed)
        wanted = sql.SQL("pg_temp.wanted_key AS t")
        first = sql.SQL('(SELECT ({}) COLLATE "default" AS key FROM {} LIMIT {}) AS first').format(
            self.kept("t"), wanted, sql.Literal(PROBED)
        )
        found = self._numbers_of(connection, wanted) if self._has_number(connection, first) else None
        if found is None or found.null_count():
            rows = sql.SQL("{} ORDER BY _place").format(wanted if found is None else self._without_number(wanted))
            new = copy_out(
                connection,
                sql.SQL("{} RETURNING no").format(self._numbering(sql.SQL("(SELECT t.* FROM {}) AS t").format(rows))),
                pl.Schema({"_id": pl.Int64()}),
            ).get_column("_id")
            # Where none had a number: they ascend in the order in which they are given.
            found = new.sort() if len(new) == keys.height else self._numbers_of(connection, wanted)
        connection.execute("DROP TABLE pg_temp.wanted_key")
        return found

    def printed(self, keys: pl.DataFrame) -> pl.Series | None:
        """Keys as the server prints them, `key`; None where not all are UUIDs and whole numbers that are written so."""
        printed: list[pl.Expr] = []
        for name, kind in zip(self.columns, self.types, strict=True):
            values = keys.get_column(name)
            if values.null_count():
                return None
            if kind in INTEGERS and values.dtype.is_integer():
                printed.append(pl.col(name).cast(pl.String))
            elif kind == "uuid" and values.dtype == pl.String and values.str.contains(PRINTED_UUID).all():
                printed.append(pl.format('"{}"', name) if len(self.columns) > 1 else pl.col(name))
            else:
                return None
        if len(printed) > 1:
            printed = [pl.format("[{}]", pl.concat_str(printed, separator=", "))]
        return keys.select(printed[0].alias("key")).to_series()

    def _all_new(self, connection: Connection, texts: pl.Series) -> pl.Series | None:
        """New numbers of printed keys of which none has one, in their order; None where one may have."""
        first = sql.SQL("unnest({}::text[]) AS first (key)").format(sql.Literal(texts.head(PROBED).to_list()))
        if self._has_number(connection, first):
            return None
        # Looked up once, not for each number.
        give = sql.SQL("nextval((SELECT pg_get_serial_sequence('migration.target_row', 'no')::regclass))")
        numbers = new_numbers(connection, give, len(texts), "no", TARGET_ROW)
        # In the order of their index, of which each page is written once then. The numbers keep that of the rows.
        rows = pl.DataFrame([numbers.alias("no"), texts]).sort("key")
        with suppress(psycopg.errors.UniqueViolation), connection.transaction():
            named = rows.with_columns(pl.lit(self.name).alias("target_table"))
            copy_in(connection, TARGET_ROW, named)
            return numbers
        return None

    def _has_number(self, connection: Connection, first: sql.Composable) -> bool:
        """Whether one of the first rows, which have a `key`, has a number; mostly all of them have, or none."""
        # Each is looked up by itself: of an array the server, which has not counted the rows yet, reads all there are.
        found = connection.execute(
            sql.SQL(
                "SELECT bool_or((SELECT true FROM migration.target_row AS had"
                " WHERE (had.target_table, had.key) = ({}, first.key))) FROM {}"
            ).format(sql.Literal(self.name), first)
        ).fetchone()
        return bool(found and found[0])

    def _numbers_of(self, connection: Connection, wanted: sql.Composable) -> pl.Series:
        """The numbers of the wanted keys, in their order; null where they have none."""
        connection.execute("ANALYZE pg_temp.wanted_key")
        found = copy_out(
            connection,
            sql.SQL(
                "SELECT t._place, numbered.no FROM {} LEFT JOIN migration.target_row AS numbered"
                " ON (numbered.target_table, numbered.key) = ({}, {})"
            ).format(wanted, sql.Literal(self.name), self.kept("t")),
            pl.Schema({"_place": pl.Int64(), "_id": pl.Int64()}),
        )
        return found.sort("_place").get_column("_id")

    def number_of(self, connection: Connection, text: str) -> int | None:
        """The number of the row whose key is a text as `text` makes it; None where no row has it or ever had."""
        if self.is_number:
            return int(text) if re.fullmatch(r"-?\d{1,18}", text) else None
        if len(self.columns) > 1:
            # However its blanks lie: people write it too.
            with suppress(ValueError):
                text = json.dumps(json.loads(text), ensure_ascii=False)
        found = connection.execute(
            sql.SQL("SELECT no FROM migration.target_row WHERE (target_table, key) = ({}, {})").format(
                sql.Literal(self.name), kept_key(sql.Literal(text))
            )
        ).fetchone()
        return int(found[0]) if found else None

    def texts(self, connection: Connection, numbers: Sequence[int]) -> dict[int, str]:
        """The keys that numbers stand for, where the numbers are not the keys themselves."""
        if self.is_number or not numbers:
            return {}
        rows = connection.execute(
            "SELECT no, coalesce(whole_key, key) FROM migration.target_row WHERE no = ANY (%s)", [list(numbers)]
        )
        return {int(number): str(key) for number, key in rows}


def new_numbers(connection: Connection, give: sql.Composable, count: int, key: str, table: sql.Composable) -> pl.Series:
    """So many whole numbers as the expression `give` gives them, ascending; those that a row has are passed over."""
    reserved = pl.Series("_id", [], dtype=pl.Int64)
    while len(reserved) < count:
        rows = connection.execute(
            sql.SQL(
                "WITH given AS MATERIALIZED (SELECT {give} AS id FROM generate_series(1, %s)),"
                " range AS MATERIALIZED (SELECT min(id) AS low, max(id) AS high, count(*) AS rows FROM given)"
                " SELECT low, high, CASE WHEN high - low + 1 <> rows THEN (SELECT array_agg(id) FROM given) END,"
                " ARRAY(SELECT {key} FROM {table} WHERE {key} BETWEEN low AND high) FROM range"
            ).format(give=give, key=sql.Identifier(key), table=table),
            [count - len(reserved)],
        ).fetchone()
        low, high, scattered, taken = rows or (0, -1, None, [])
        fresh = (
            pl.Series("_id", scattered, dtype=pl.Int64)
            if scattered
            else pl.int_range(int(low), int(high) + 1, eager=True, dtype=pl.Int64).alias("_id")
        )
        if taken:
            fresh = fresh.filter(~fresh.is_in(taken))
        reserved = pl.concat([reserved, fresh])
    return reserved.sort()
