"""Which rows the live target refuses, and by which of its rules: they are tried, and what was tried is rolled back.

The server itself splits the rows: what it takes stays beside what comes later, a refused block is halved until what is
refused is alone. With many refused rows that takes about two small statements each, none of which crosses the network.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.load.key import Key
from dtx_assets.machinery.load.left_out import WORDS as LEFT_OUT
from dtx_assets.machinery.load.left_out import refuse_missing, refuse_unchanged
from dtx_assets.machinery.load.orphans import by_name, that_can_be_tried
from dtx_assets.machinery.load.place import in_one_statement
from dtx_assets.machinery.load.row_order import groups_in_order
from dtx_assets.machinery.load.rules import Rule, keys_of
from dtx_assets.machinery.postgres.connection import Connection, is_raised, server_words
from dtx_assets.machinery.postgres.content import copy_in, copy_out
from dtx_assets.machinery.postgres.ddl import LiveTarget
from dtx_assets.machinery.prepare.part import Part

if TYPE_CHECKING:
    from dtx_assets.machinery.load.member import Member
    from dtx_assets.machinery.load.outcome import Decision

NOT_OF_A_ROW = ("08", "0A", "25", "26", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "72", "F0", "HV", "XX")
"""Classes of SQLSTATE that say nothing of a row: connection, transaction, rights and structure, resources, locks, time.

All others are: values, constraints, limits. Whatever a trigger raises is said of a row, with any code."""
REFUSED = pl.Schema(
    {"unit": pl.Int64(), "table": pl.String()} | dict.fromkeys(("reason", "detail", "key"), pl.String())
)
"""`table`: whose row it is, where the server says so; `key`: the unique index in which another row has the same key, if
it is that."""
ORPHAN = "orphan_reference"
ROWS_A_TRIAL = 500
"""Of updates, which keep rows of the application locked: so many are tried in one transaction."""

_FACTS = pl.Schema(
    {"unit": pl.Int64()} | dict.fromkeys(("state", "table", "name", "column", "said", "context"), pl.String())
)
_RACE, _RAISED = "40", r"\mRAISE$"
"""Class of SQLSTATE by which also a trigger asks to be tried again; how the context of what a trigger raises ends."""
_TRY = """
#variable_conflict use_variable
DECLARE
    v_from integer := 0; v_to integer; v_count integer := {count}; v_size integer := {count}; v_refused_before integer;
    v_done bigint; v_state text; v_table text; v_name text; v_column text; v_said text; v_context text;
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
            GET STACKED DIAGNOSTICS v_state = RETURNED_SQLSTATE, v_table = TABLE_NAME, v_name = CONSTRAINT_NAME,
                v_column = COLUMN_NAME, v_said = MESSAGE_TEXT, v_context = PG_EXCEPTION_CONTEXT;
            IF left(v_state, 2) = ANY ({not_of_a_row})
                AND (left(v_state, 2) = {race} OR split_part(v_context, E'\n', 1) !~ {raised}) THEN
                RAISE;
            END IF;
            IF v_to - v_from = 1 THEN
                INSERT INTO pg_temp.refused VALUES (v_from, v_state, v_table, v_name, v_column, v_said, v_context);
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


@dataclass(frozen=True)
class Tried:
    """Rows of a table that are tried: `unit` (from 0, ascending), `_id` of rows that are updated, and columns."""

    key: Key
    live: LiveTarget
    rows: pl.DataFrame
    suspects: Sequence[str]
    """Triggers and rules that may keep a row out without a word."""


class Refusals:
    """The trials of a load. What they find is `_row`, `reason`, `detail`; what is no refusal they raise."""

    def __init__(self, members: Sequence["Member"]) -> None:
        self.members = members
        self.connection, self.dry = members[0].place.connection, members[0].place.dry
        self.orphans = [member.orphans for member in members]

    def of_parts(self, parts: Sequence[Part], *, all_new: Sequence[bool]) -> list[pl.DataFrame]:
        """What the targets refuse of a part each, of which nothing is there or that is compared with what is there."""
        found: list[list[pl.DataFrame]] = [[] for _ in parts]
        with self._tried():
            decided = [
                None if new else member.decisions.of_part(part)
                for member, part, new in zip(self.members, parts, all_new, strict=True)
            ]
            at_once, waiting = self._values(parts, decided)
            few = sum(values.height for values in at_once) <= ROWS_A_TRIAL
            if few:
                # A row may be in the way of a new one until it is updated.
                self._add_updates(found, decided, at_once)
            for place, refused in enumerate(self._of_inserts(parts, decided)):
                found[place].append(refused)
            self._add_updates(found, decided, waiting)
        for place, (member, decision) in enumerate(zip(self.members, decided, strict=True)):
            if decision is not None and not few:
                some = at_once[place].iter_slices(ROWS_A_TRIAL)
                found[place] += [self.of_updates(member, decision.fates, values) for values in some]
        return [pl.concat(each) for each in found]

    def of_updates(self, member: "Member", fates: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
        with self._tried():
            return self._of_updates(member, fates, values)

    @contextmanager
    def _tried(self) -> Iterator[None]:
        """What is written inside is rolled back."""
        with self.connection.transaction(force_rollback=True):
            if self.dry:
                self.connection.execute("DISCARD TEMP")
            yield

    def _values(
        self, parts: Sequence[Part], decided: Sequence["Decision | None"]
    ) -> tuple[list[pl.DataFrame], list[pl.DataFrame]]:
        """What is updated whatever is new, and what refers to that."""
        new = by_name(
            self.orphans,
            [
                part.rows if decision is None else part.rows.join(decision.inserts, on="_row", how="semi")
                for part, decision in zip(parts, decided, strict=True)
            ],
        )
        at_once, waiting = [], []
        for of_target, decision in zip(self.orphans, decided, strict=True):
            values = pl.DataFrame(schema={"_id": pl.Int64}) if decision is None else decision.values
            refers = of_target.refers_to(values, new)
            at_once.append(values.filter(~refers))
            waiting.append(values.filter(refers))
        return at_once, waiting

    def _add_updates(
        self, found: list[list[pl.DataFrame]], decided: Sequence["Decision | None"], values: Sequence[pl.DataFrame]
    ) -> None:
        for place, (member, decision) in enumerate(zip(self.members, decided, strict=True)):
            if decision is not None and values[place].height:
                found[place].append(self._of_updates(member, decision.fates, values[place]))

    def _of_updates(self, member: "Member", fates: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
        member.writer.limit_waiting()
        rows = values.sort("_id").with_row_index("unit").with_columns(pl.col("unit").cast(pl.Int64))
        refused = self._refused([(member, rows)], new=False).join(rows.select("unit", "_id"), on="unit")
        units = fates.filter(pl.col("fate") == "update").select("_row", "target_id")
        return refused.join(units, left_on="_id", right_on="target_id").select("_row", "reason", "detail")

    def _of_inserts(self, parts: Sequence[Part], decided: Sequence["Decision | None"]) -> list[pl.DataFrame]:
        """A source row is rejected whole: all that it gives is tried at once, as are rows that need each other.

        Pairs of a junction are tried one by one.
        """
        rows = self._new_rows(parts, decided)
        units = self._units(rows)
        rows = [some.join(units, on="_node").sort("unit", "_row") for some in rows]
        refused = self._refused_inserts(rows)
        crowded = units.group_by("unit").len().filter(pl.col("len") > 1)
        found = self._named(refused, rows)
        if (several := refused.join(crowded, on="unit", how="semi")).height:
            # A value is looked at before what it refers to: tried alone, a row shows whether it was the one.
            again = [some.join(several, on="unit", how="semi") for some in rows]
            nodes = pl.concat([some.select("_node", pl.col("unit").alias("_among")) for some in again]).unique()
            alone = nodes.sort("_node").with_row_index("unit").with_columns(pl.col("unit").cast(pl.Int64))
            again = [some.drop("unit").join(alone, on="_node").sort("unit", "_row") for some in again]
            by_itself = self._refused_inserts(again).filter(pl.col("reason") != ORPHAN)
            guilty = alone.join(by_itself, on="unit").select(pl.col("_among").alias("unit"))
            found = pl.concat([found.join(guilty, on="unit", how="anti"), self._named(by_itself, again)])
        return [
            found.filter(pl.col("_member") == place).select("_row", "reason", "detail") for place in range(len(rows))
        ]

    def _new_rows(self, parts: Sequence[Part], decided: Sequence["Decision | None"]) -> list[pl.DataFrame]:
        """Columns of the rows that are not there, `_row`, `_node` (the source row, or the pair) and how many `_owners`
        they have.
        """
        before, rows = 0, []
        tried = that_can_be_tried(self.orphans, [part.rows for part in parts])
        for member, part, decision, some in zip(self.members, parts, decided, tried, strict=True):
            numbers = (part.rows if decision is None else decision.inserts).select("_row")
            numbers = numbers.join(some, on="_row", how="semi", maintain_order="left")
            made = member.place.new_columns
            new = numbers.hstack(member.decisions.ids.reserve(numbers.height).select(made)) if made else numbers
            node = "rows" if part.is_of_pairs else "_link"
            places = (
                part.links.with_row_index("_link")
                .filter("owns")
                .explode("rows")
                .select((pl.col(node).cast(pl.Int64) + before).alias("_node"), pl.col("rows").alias("_row"))
                .group_by("_row")
                .agg(pl.col("_node").min(), pl.len().alias("_owners"))
            )
            values = part.rows.select("_row", *(column.name for column in part.columns))
            rows.append(new.join(places, on="_row").join(values, on="_row"))
            before += max(part.links.height, part.rows.height)
        return rows

    def _units(self, rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """In which `unit` each `_node` is tried: after what its rows refer to, with those that refer to it too."""
        nodes = pl.concat([some.select("_node") for some in rows]).unique().with_columns(pl.lit(-1).alias("group"))
        of_tables = by_name(self.orphans, rows)
        edges = [
            some.select(pl.col("_node").alias("node"), pl.col(name).cast(others.schema[column]).alias("_value"))
            .join(others.select(pl.col(column).alias("_value"), pl.col("_node").alias("refers_to")), on="_value")
            .select("node", "refers_to")
            for of_target, some in zip(self.orphans, rows, strict=True)
            for name, others, column in of_target.links(of_tables)
        ]
        if edges:
            groups = groups_in_order(pl.concat(edges))
            nodes = nodes.select("_node").join(groups, left_on="_node", right_on="node", how="left")
        alone = pl.col("group").is_null() | (pl.col("group") < 0)
        order = pl.struct(
            pl.when(alone).then(-1).otherwise("group").alias("group"), pl.when(alone).then("_node").alias("_node")
        )
        return nodes.select("_node", (order.rank("dense").cast(pl.Int64) - 1).alias("unit"))

    def _named(self, refused: pl.DataFrame, rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """A row of each refused unit: `unit`, `_member`, `_row`, `reason`, `detail`."""
        candidates = pl.concat(
            [
                some.select(
                    "unit",
                    pl.lit(place).alias("_member"),
                    "_row",
                    "_owners",
                    pl.lit(member.place.target.name).alias("_table"),
                )
                for place, (member, some) in enumerate(zip(self.members, rows, strict=True))
            ]
        )
        return (
            refused.join(candidates, on="unit")
            # Which of them it was is not known; one that only this source row gives takes no other one along.
            .sort((pl.col("table") != pl.col("_table")).fill_null(True), "_owners", "_member", "_row")
            .unique("unit", keep="first")
            .select("unit", "_member", "_row", "reason", "detail")
        )

    def _refused_inserts(self, rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
        return self._refused(
            [
                (member, some.select("unit", *(name for name in some.columns if name[0] != "_" and name != "unit")))
                for member, some in zip(self.members, rows, strict=True)
            ],
            new=True,
        )

    def _refused(self, rows: Sequence[tuple["Member", pl.DataFrame]], *, new: bool) -> pl.DataFrame:
        tried = [Tried(member.place.key, member.place.live, some, member.place.suspects) for member, some in rows]
        rules = list(dict.fromkeys(rule for member, _ in rows for rule in member.told.rules))
        found = refused_units(self.connection, tried, rules, new=new)
        keys: set[str] = set()
        for member, _ in rows:
            keys |= keys_of(member.told.rules, member.place.target)
        if any(member.place.target.key_is_written for member, _ in rows):
            # The rules leave out the primary key.
            named = {rule.name for rule in rules if rule.kind == "unique index"}
            keys |= {str(name) for name in found.get_column("key").drop_nulls()} - named
        if found.get_column("key").is_in(list(keys)).any():
            raise psycopg.errors.SerializationFailure("somebody made a row of the same key meanwhile")
        return found


def is_refusal(error: psycopg.Error) -> bool:
    """Whether the server refuses values of a row, rather than all that it is asked."""
    state = (error.sqlstate or "")[:2]
    return bool(state) and (state not in NOT_OF_A_ROW or (state != _RACE and is_raised(error.diag.context or "")))


def refused_units(connection: Connection, tried: Sequence[Tried], rules: Sequence[Rule], *, new: bool) -> pl.DataFrame:
    """Insert (`new`) or update rows of one or more tables, unit by unit; gives the units that are refused (REFUSED).

    What the targets take is written: the caller rolls it back. What is no refusal is raised.
    """
    tried = [each for each in tried if each.rows.height]
    if not tried:
        return pl.DataFrame(schema=REFUSED)
    connection.execute("DROP TABLE IF EXISTS pg_temp.refused")
    connection.execute(
        "CREATE TEMPORARY TABLE refused (unit integer, state text, in_table text, name text, place text, said text,"
        " context text) ON COMMIT DROP"
    )
    statements, proofs = [], []
    for number, each in enumerate(tried):
        table, values = _stage(connection, f"tried_{number}", each)
        change = _insert(each.key.table, table, values) if new else _update(each.key, table, values)
        statements.append(change)
        if each.suspects:
            rows = sql.SQL("{} AS tried WHERE tried.unit >= v_from AND tried.unit < v_to").format(table)
            proofs.append(
                refuse_missing(each.key, each.suspects, rows, values)
                if new
                else refuse_unchanged(each.key, each.suspects, rows)
            )
    # Deferred constraints would only speak at the end.
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    body = sql.SQL(_TRY).format(
        count=sql.Literal(max(each.rows.get_column("unit")[-1] for each in tried) + 1),
        statement=sql.SQL("; ").join([in_one_statement(statements), *proofs]),
        race=sql.Literal(_RACE),
        raised=sql.Literal(_RAISED),
        not_of_a_row=sql.Literal(list(NOT_OF_A_ROW)),
    )
    connection.execute(sql.SQL("DO LANGUAGE plpgsql {}").format(sql.Literal(body.as_string(connection))))
    found = copy_out(connection, sql.SQL("SELECT * FROM pg_temp.refused ORDER BY unit"), _FACTS)
    told = [
        (row["unit"], row["table"], *_told(row, rules), row["name"] if row["state"] == "23505" else None)
        for row in found.iter_rows(named=True)
    ]
    return pl.DataFrame(told, schema=REFUSED, orient="row")


def _stage(connection: Connection, name: str, tried: Tried) -> tuple[sql.Identifier, dict[str, sql.Composable]]:
    """The table in which rows are that are tried, and the value of each column in it."""
    names = [column for column in tried.rows.columns if column != "unit"]
    plain = [f"c{number}" for number in range(len(names))]
    table = sql.Identifier("pg_temp", name)
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
    # As text: what the server cannot read as a value is refused with its row too.
    columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(column)) for column in plain)
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} (unit integer, {}) ON COMMIT DROP").format(sql.Identifier(name), columns)
    )
    copy_in(connection, table, tried.rows.select("unit", *names).rename(dict(zip(names, plain, strict=True))))
    connection.execute(sql.SQL("CREATE INDEX ON {} (unit)").format(table))
    connection.execute(sql.SQL("ANALYZE {}").format(table))
    return table, {
        name: sql.SQL("tried.{}::{}").format(
            sql.Identifier(column), sql.SQL("bigint" if name == "_id" else tried.live.columns[name].plain_type)
        )
        for name, column in zip(names, plain, strict=True)
    }


def _insert(table: sql.Identifier, tried: sql.Identifier, values: dict[str, sql.Composable]) -> sql.Composed:
    return sql.SQL(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} AS tried"
        " WHERE tried.unit >= v_from AND tried.unit < v_to ORDER BY tried.unit"
    ).format(table, sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(values.values()), tried)


def _update(key: Key, tried: sql.Identifier, values: dict[str, sql.Composable]) -> sql.Composed:
    assigned = dict(values)
    place = assigned.pop("_id")
    for name in key.columns:
        assigned.pop(name, None)
    return sql.SQL(
        "UPDATE {} AS t SET {} FROM {} AS tried{} WHERE {} AND {} = {} AND tried.unit >= v_from AND tried.unit < v_to"
    ).format(
        key.table,
        sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in assigned.items()),
        tried,
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
    **LEFT_OUT,
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
    reason = ORPHAN if facts["state"] == "23503" else "schema_violation"
    return reason, known or server_words(facts["state"], facts["said"], facts["context"])
