"""Which rows the live target refuses, and by which of its rules: they are tried, and what was tried is rolled back.

The server itself splits the rows: what it takes stays beside what comes later, a refused block is halved until what is
refused is alone. With many refused rows that takes about two small statements each, none of which crosses the network.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.load.key import Key
from dtx_assets.machinery.load.rules import Rule, keys_of
from dtx_assets.machinery.postgres.connection import Connection, server_words
from dtx_assets.machinery.postgres.content import copy_in, copy_out
from dtx_assets.machinery.postgres.ddl import LiveTarget
from dtx_assets.machinery.prepare.part import Part

if TYPE_CHECKING:
    from dtx_assets.machinery.load.decide import Decisions
    from dtx_assets.machinery.load.orphans import Orphans
    from dtx_assets.machinery.load.place import Place
    from dtx_assets.machinery.load.write import Writer

NOT_OF_A_ROW = ("08", "0A", "25", "26", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "72", "F0", "HV", "XX")
"""Classes of SQLSTATE that say nothing of a row: connection, transaction, rights and structure, resources, locks, time.

All others are: values, constraints, limits, and whatever code a trigger raises with."""
REFUSED = pl.Schema({"unit": pl.Int64(), "reason": pl.String(), "detail": pl.String(), "key": pl.String()})
"""`key`: the unique index in which another row has the same key, if it is that."""
ROWS_A_TRIAL = 500
"""Of updates, which keep rows of the application locked: so many are tried in one transaction."""

_FACTS = pl.Schema({"unit": pl.Int64()} | dict.fromkeys(("state", "name", "column", "said", "context"), pl.String()))
_TRY = """
#variable_conflict use_variable
DECLARE
    v_from integer := 0; v_to integer; v_count integer := {count}; v_size integer := {count}; v_refused_before integer;
    v_state text; v_name text; v_column text; v_said text; v_context text;
BEGIN
    WHILE v_from < v_count LOOP
        IF v_refused_before IS NOT NULL THEN
            v_size := greatest(1, (v_refused_before - v_from) / 2);
        END IF;
        v_to := least(v_from + v_size, v_count);
        BEGIN
            {statement};
            v_from := v_to;
            IF v_from = v_refused_before THEN
                v_refused_before := NULL;
            END IF;
            IF v_refused_before IS NULL THEN
                v_size := least(v_size * 2, v_count);
            END IF;
        EXCEPTION WHEN assert_failure OR OTHERS THEN
            GET STACKED DIAGNOSTICS v_state = RETURNED_SQLSTATE, v_name = CONSTRAINT_NAME,
                v_column = COLUMN_NAME, v_said = MESSAGE_TEXT, v_context = PG_EXCEPTION_CONTEXT;
            IF left(v_state, 2) = ANY ({not_of_a_row}) THEN
                RAISE;
            END IF;
            IF v_to - v_from = 1 THEN
                INSERT INTO pg_temp.refused VALUES (v_from, v_state, v_name, v_column, v_said, v_context);
                v_from := v_to;
                v_refused_before := NULL;
                v_size := 1;
            ELSE
                v_refused_before := v_to;
            END IF;
        END;
    END LOOP;
END
"""


class Refusals:
    """The trials of one load. What they find is `_row`, `reason`, `detail`; what is no refusal they raise."""

    def __init__(
        self, place: "Place", rules: list[Rule], decisions: "Decisions", writer: "Writer", orphans: "Orphans"
    ) -> None:
        self.place, self.rules = place, rules
        self.decisions, self.writer, self.orphans = decisions, writer, orphans

    def of_part(self, part: Part, *, all_new: bool) -> pl.DataFrame:
        """What the target refuses of a part of which nothing is there, or that is compared with what is there."""
        if all_new:
            with self._tried():
                return self._of_inserts(part, part.rows.select("_row"))
        with self._tried():
            decision = self.decisions.of_part(part)
            numbers = decision.inserts.select("_row")
            if decision.values.height <= ROWS_A_TRIAL:
                # A row may be in the way of a new one until it is updated.
                if self.orphans.own:
                    found = self._of_inserts(part, numbers)
                    return pl.concat([found, self._of_updates(decision.fates, decision.values)])
                found = self._of_updates(decision.fates, decision.values)
                return pl.concat([found, self._of_inserts(part, numbers)])
            found = self._of_inserts(part, numbers)
        some = decision.values.iter_slices(ROWS_A_TRIAL)
        return pl.concat([found, *(self.of_updates(decision.fates, values) for values in some)])

    def of_updates(self, fates: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
        with self._tried():
            return self._of_updates(fates, values)

    @contextmanager
    def _tried(self) -> Iterator[None]:
        """What is written inside is rolled back."""
        with self.place.connection.transaction(force_rollback=True):
            if self.place.dry:
                self.place.connection.execute("DISCARD TEMP")
            yield

    def _of_updates(self, fates: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
        self.writer.limit_waiting()
        rows = values.sort("_id").with_row_index("unit").with_columns(pl.col("unit").cast(pl.Int64))
        refused = self._refused(rows, new=False).join(rows.select("unit", "_id"), on="unit")
        units = fates.filter(pl.col("fate") == "update").select("_row", "target_id")
        return refused.join(units, left_on="_id", right_on="target_id").select("_row", "reason", "detail")

    def _of_inserts(self, part: Part, numbers: pl.DataFrame) -> pl.DataFrame:
        """A source row is rejected whole, so all that it gives is tried at once."""
        tried = self.orphans.that_can_be_tried(part.rows)
        if tried.height < part.rows.height:
            numbers = numbers.join(tried, on="_row", how="semi", maintain_order="left")
        made = self.place.new_columns
        new = numbers.hstack(self.decisions.ids.reserve(numbers.height).select(made)) if made else numbers
        names = [*made, *(column.name for column in part.columns)]
        places = (
            part.links.with_row_index("_link")
            .filter("owns")
            .select("_link", pl.col("rows").alias("_row"))
            .explode("_row")
            .group_by("_row")
            .agg(pl.col("_link").min(), pl.len().alias("owners"))
        )
        rows = (
            new.join(places, on="_row")
            .join(part.rows.select("_row", *(column.name for column in part.columns)), on="_row")
            .pipe(lambda rows: self.orphans.parents_first(part, rows))
            .with_columns(pl.struct(pl.col("_depth").min().over("_link"), "_link").alias("_place"))
            .sort("_place", "_row")
            .with_columns((pl.col("_place").rank("dense").cast(pl.Int64) - 1).alias("unit"))
        )
        refused = self._refused(rows.select("unit", *names), new=True)
        # Which of them it was is not known; one that only this source row gives takes no other one along.
        named = rows.sort("owners", "_row").unique("unit", keep="first").select("unit", "_row")
        return refused.join(named, on="unit").select("_row", "reason", "detail")

    def _refused(self, rows: pl.DataFrame, *, new: bool) -> pl.DataFrame:
        place = self.place
        found = refused_units(
            place.connection, place.key, place.live, self.rules, rows, new=new, deferred=self.orphans.own_deferrable
        )
        keys = keys_of(self.rules, place.target)
        if place.target.key_is_written:
            # The rules leave out the primary key.
            named = {rule.name for rule in self.rules if rule.kind == "unique index"}
            keys |= {str(name) for name in found.get_column("key").drop_nulls()} - named
        if found.get_column("key").is_in(list(keys)).any():
            raise psycopg.errors.SerializationFailure("somebody made a row of the same key meanwhile")
        return found


def is_refusal(error: psycopg.Error) -> bool:
    """Whether the server refuses values of a row, rather than all that it is asked."""
    return error.sqlstate is not None and error.sqlstate[:2] not in NOT_OF_A_ROW


def refused_units(
    connection: Connection,
    key: Key,
    live: LiveTarget,
    rules: Sequence[Rule],
    rows: pl.DataFrame,
    *,
    new: bool,
    deferred: Sequence[str] = (),
) -> pl.DataFrame:
    """Insert (`new`) or update rows in their order, unit by unit; gives the units that are refused (REFUSED).

    `rows`: `unit` (from 0 without gaps, ascending), `_id` of rows that are updated, and columns. What the target takes
    is written: the caller rolls it back. What is no refusal is raised.
    """
    if rows.is_empty():
        return pl.DataFrame(schema=REFUSED)
    names = [name for name in rows.columns if name != "unit"]
    plain = [f"c{number}" for number in range(len(names))]
    connection.execute("DROP TABLE IF EXISTS pg_temp.tried, pg_temp.refused")
    # As text: what the server cannot read as a value is refused with its row too.
    columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in plain)
    connection.execute(sql.SQL("CREATE TEMPORARY TABLE tried (unit integer, {}) ON COMMIT DROP").format(columns))
    connection.execute(
        "CREATE TEMPORARY TABLE refused (unit integer, state text, name text, place text, said text, context text)"
        " ON COMMIT DROP"
    )
    copy_in(
        connection,
        sql.Identifier("pg_temp", "tried"),
        rows.select("unit", *names).rename(dict(zip(names, plain, strict=True))),
    )
    connection.execute("CREATE INDEX ON pg_temp.tried (unit)")
    connection.execute("ANALYZE pg_temp.tried")
    # Deferred constraints would only speak at the end.
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    if deferred:
        # Rows that refer to each other would have to be tried together.
        names_deferred = sql.SQL(", ").join(map(sql.Identifier, deferred))
        connection.execute(sql.SQL("SET CONSTRAINTS {} DEFERRED").format(names_deferred))
    values = [
        sql.SQL("tried.{}::{}").format(
            sql.Identifier(column), sql.SQL("bigint" if name == "_id" else live.columns[name].plain_type)
        )
        for name, column in zip(names, plain, strict=True)
    ]
    body = sql.SQL(_TRY).format(
        count=sql.Literal(rows.get_column("unit")[-1] + 1),
        statement=_insert(key.table, names, values) if new else _update(key, names, values),
        not_of_a_row=sql.Literal(list(NOT_OF_A_ROW)),
    )
    connection.execute(sql.SQL("DO LANGUAGE plpgsql {}").format(sql.Literal(body.as_string(connection))))
    found = copy_out(connection, sql.SQL("SELECT * FROM pg_temp.refused ORDER BY unit"), _FACTS)
    told = [
        (row["unit"], *_told(row, rules), row["name"] if row["state"] == "23505" else None)
        for row in found.iter_rows(named=True)
    ]
    return pl.DataFrame(told, schema=REFUSED, orient="row")


def _insert(table: sql.Identifier, names: Sequence[str], values: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM pg_temp.tried"
        " WHERE tried.unit >= v_from AND tried.unit < v_to ORDER BY tried.unit"
    ).format(table, sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(values))


def _update(key: Key, names: Sequence[str], values: Sequence[sql.Composable]) -> sql.Composable:
    assigned = dict(zip(names, values, strict=True))
    place = assigned.pop("_id")
    for name in key.columns:
        assigned.pop(name, None)
    return sql.SQL(
        "UPDATE {} AS t SET {} FROM pg_temp.tried{} WHERE {} AND {} = {} AND tried.unit >= v_from AND tried.unit < v_to"
    ).format(
        key.table,
        sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in assigned.items()),
        key.beside,
        key.same,
        key.number,
        place,
    )


# --- in words, without values of the row ------------------------------------------------------------------------------

_WORDS = {
    "23502": "{column}: is NULL, and the target requires a value",
    "23503": "{name}: the row that it refers to is not there",
    "23505": "{name}: another row has the same key",
    "23514": "{name}: the row violates this check",
    "23P01": "{name}: another row is in the way",
    "54000": "{name}: an entry of this index would be too long",
}


def _told(facts: dict[str, str], rules: Sequence[Rule]) -> tuple[str, str]:
    """Reason and detail of a refused row."""
    words = _WORDS.get(facts["state"], "")
    if facts["state"] == "54000" and not facts["name"]:
        # Of the longest ones the server does not say which index it is.
        facts = facts | {"name": " or ".join(rule.name for rule in rules if rule.unlimited)}
    known = words.format(name=facts["name"], column=facts["column"]) if facts["name"] or facts["column"] else ""
    called = re.findall(r"([\w$]+)\"?\(", facts["context"])
    triggers = {rule.function: rule for rule in rules if rule.kind == "trigger"}
    if trigger := next((triggers[function] for function in called if function in triggers), None):
        return "schema_violation", f"{trigger.name}: the trigger refuses the row; the log of the server has its words"
    reason = "orphan_reference" if facts["state"] == "23503" else "schema_violation"
    return reason, known or server_words(facts["state"], facts["said"], facts["context"])
