"""What each column of a sample holds: chosen by what is declared of it, and by what the mapping files take."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from dtx_assets.machinery.mapping.model import Condition
from dtx_assets.machinery.model.legacy import ColumnKind, LegacyTable
from dtx_assets.machinery.model.target import TargetColumn, TargetTable, polars_type
from dtx_assets.machinery.prepare.schemas import schema_failures, target_schema
from dtx_assets.machinery.samples.declared import ColumnSample, TableSample
from dtx_assets.machinery.samples.references import Place
from dtx_assets.machinery.samples.rows import Rows, evaluated, text
from dtx_assets.machinery.samples.values import FORMS, MOST_ROWS, UNIQUE_FORMS, Form, of_target
from dtx_assets.machinery.samples.verdict import Judge, Verdict

NULL_SHARE = 0.1
TRIED = range(64)
"""The positions at which a form is tried."""
SIZES = (10, 100, 1_000, 10_000, 30_000, 100_000, 1_000_000, 10_000_000, MOST_ROWS)

Judged = Callable[[str, Sequence[str | None]], list[Verdict]]


@dataclass(frozen=True)
class ColumnPlan:
    """How a column is made. `index` counts the rows of the table that it refers to, where it refers to one."""

    name: str
    form: Form
    capacity: int | None = None
    """So many rows have a value of their own; None where values come again."""
    refers_to: Place | None = None
    null_share: float = 0.0

    def make(self, rows: Rows) -> pl.Expr:
        return rows.some(self.name, self.form(rows, self.name).cast(pl.String), self.null_share)


@dataclass(frozen=True)
class TablePlan:
    """How the rows of a table are made; `together`: sets of columns that tell rows apart only as a whole."""

    columns: Mapping[str, ColumnPlan]
    unique: frozenset[str] = frozenset()
    together: tuple[tuple[str, ...], ...] = ()

    def all_of(self, rows: Rows) -> dict[str, pl.Expr]:
        return {name: column.make(rows) for name, column in self.columns.items()}


class Planner:
    """Plans the columns of one table."""

    def __init__(
        self,
        name: str,
        columns: Mapping[str, ColumnKind],
        judged: Judged,
        declared: TableSample,
        references: Mapping[str, Place],
        functions: Mapping[str, Callable[..., pl.Expr]],
        *,
        hints: Callable[[str], tuple[list[str], list[str]]],
        first_id: int,
    ) -> None:
        """`hints`: of a column, values that rules and value maps name, and such as the types of its targets read."""
        self._name, self._columns, self._judged = name, columns, judged
        self._declared = declared
        self._references = {name: place for name, place in references.items() if not self._is_said(name)}
        for column, sample in declared.columns.items():
            if sample.of is not None:
                table, _, other = sample.of.rpartition(".")
                self._references[column] = (table, other)
        self._functions, self._hints, self._first_id = functions, hints, first_id

    def plan(self, sets: Sequence[tuple[str, ...]]) -> TablePlan:
        unique: dict[str, ColumnPlan] = {}
        together: list[tuple[str, ...]] = []
        wanted = [(name,) for name, sample in self._declared.columns.items() if sample.unique]
        for columns in (*wanted, *sets):
            if not columns or set(columns) & unique.keys() or any(set(each) <= set(columns) for each in together):
                continue
            own = [name for name in columns if name not in self._references and not self._is_said(name)]
            plans = [plan for name in own if (plan := self._unique(name))]
            taken = {name for each in together for name in each}
            referring = [name for name in columns if name in self._references and name not in taken]
            if plans:
                best = max(plans, key=lambda plan: plan.capacity or 0)
                unique[best.name] = best
            elif len(referring) > 1:
                together.append(tuple(referring))
            elif referring:
                unique[referring[0]] = self._referring(referring[0], lambda rows, _: rows.position)
        planned: dict[str, ColumnPlan] = {}
        for name in self._columns:
            planned[name] = unique.get(name) or self._column(name, together, within_key=name in (sets or [()])[0])
        return TablePlan(planned, frozenset(unique), tuple(together))

    # --- one column ---------------------------------------------------------------------------------------------------

    def _is_said(self, name: str) -> bool:
        sample = self._declared.columns.get(name)
        if sample is None:
            return False
        numbers = sample.below is not None or sample.count_from is not None
        return numbers or bool(sample.values or sample.by or sample.since)

    def _column(self, name: str, together: Sequence[tuple[str, ...]], *, within_key: bool) -> ColumnPlan:
        sample = self._declared.columns.get(name, ColumnSample())
        null = self._judged(name, [None])[0]
        share = sample.null
        if share is None:
            share = 0.0 if within_key or self._is_said(name) or not null.is_clean or null.is_risky else NULL_SHARE
        if name in self._references:
            columns = next((each for each in together if name in each), None)
            if columns:
                return self._referring(name, self._digit(columns, name))
            return replace(self._referring(name, self._some_parent(name)), null_share=share)
        if self._is_said(name):
            return ColumnPlan(name, self._said(sample, self._columns[name]), null_share=share)
        return ColumnPlan(name, self._form(name, null), null_share=share)

    def _said(self, sample: ColumnSample, kind: ColumnKind) -> Form:
        values = ["true" if each is True else "false" if each is False else each for each in sample.values]
        texts = pl.Series([None if each is None else str(each) for each in values], dtype=pl.String)
        if sample.by:
            function = self._functions[sample.by]
            return lambda rows, _: function(rows)
        if sample.since is not None:
            first, days = sample.since, sample.days
            if kind in ("time", "instant"):
                return lambda rows, name: rows.time(name, first, days)
            return lambda rows, name: rows.date(name, first, days)
        if sample.count_from is not None:
            number = sample.count_from
            return lambda rows, _: rows.position + number
        if sample.below is not None:
            most = sample.below
            return lambda rows, name: rows.below(name, most)
        if sample.in_turn:
            return lambda rows, _: pl.lit(texts).gather(rows.position % len(texts))
        return lambda rows, name: pl.lit(texts).gather(rows.noise(name) % len(texts))

    def _form(self, name: str, null: Verdict) -> Form:
        """What is made of a column of which nothing is said: the first thing that its mappings take."""
        listed, typed = self._hints(name)
        forms = FORMS[self._columns[name]]
        rows = self._rows()
        tried = [evaluated({name: form(rows, name)}, TRIED)[name].to_list() for form in forms]
        for risky in (False, True):
            if clean := self._clean(name, listed, risky):
                return _picked(clean)
            for form, values in zip(forms, tried, strict=True):
                if len(self._clean(name, values, risky)) == len(set(values)):
                    return form
            for some in (typed, *tried):
                if clean := self._clean(name, some, risky):
                    return _picked(clean)
        return (lambda _rows, _name: text(None)) if null.is_clean else forms[0]

    def _clean(self, name: str, values: Sequence[str | None], risky: bool) -> list[str]:
        given = list(dict.fromkeys(value for value in values if value is not None))
        verdicts = self._judged(name, given) if given else []
        return [
            value
            for value, verdict in zip(given, verdicts, strict=True)
            if verdict.is_clean and (risky or not verdict.is_risky)
        ]

    def _rows(self) -> Rows:
        return Rows(0, self._name, lambda _: 10)

    # --- what tells rows apart ----------------------------------------------------------------------------------------

    def _unique(self, name: str) -> ColumnPlan | None:
        """The way of making a column unique that serves the most rows."""
        kind = self._columns[name]
        forms = UNIQUE_FORMS[kind]
        if kind == "integer":
            first = self._first_id
            forms = ((lambda rows, _: rows.position + first, MOST_ROWS), *forms)
        best = None
        for form, most in forms:
            positions = [0, 1, 7, *(size - 1 for size in SIZES)]
            values = evaluated({name: form(self._rows(), name)}, positions)[name].to_list()
            wrong = [
                position
                for position, verdict in zip(positions, self._judged(name, values), strict=True)
                if not verdict.is_clean or verdict.is_risky
            ]
            capacity = max((size for size in SIZES if size <= min([*wrong, most])), default=0)
            if capacity and (best is None or capacity > (best.capacity or 0)):
                best = ColumnPlan(name, form, capacity)
        return best

    # --- references ---------------------------------------------------------------------------------------------------

    def _referring(self, name: str, index: Form) -> ColumnPlan:
        table, column = place = self._references[name]
        return ColumnPlan(name, lambda rows, _: rows.value_of(table, column, index(rows, name)), refers_to=place)

    def _some_parent(self, name: str) -> Form:
        table, _ = self._references[name]
        if table == self._name:
            # Those that are referred to come first; the first one refers to itself.
            return lambda rows, _: rows.position // 2 % rows.size_of(table)
        return lambda rows, _: rows.below(name, rows.size_of(table))

    def _digit(self, columns: tuple[str, ...], name: str) -> Form:
        """No two rows have the same digits: each is what is left of the position, moved on by those before it."""
        before = columns[: columns.index(name)]

        def index(rows: Rows, _name: str) -> pl.Expr:
            left, moved = rows.position, pl.lit(0, pl.Int64)
            for column in before:
                size = rows.size_of(self._references[column][0])
                moved = (left + moved) % size
                left = left // size
            return (left + moved) % rows.size_of(self._references[name][0])

        return index


def _picked(values: Sequence[str]) -> Form:
    return lambda rows, name: rows.pick(name, values)


# --- what is known of a column ----------------------------------------------------------------------------------------


def legacy_hints(judge: Judge, table: LegacyTable, column: str) -> tuple[list[str], list[str]]:
    """Values that value maps, targets and rules name of a legacy column, and such as the types of its targets read."""
    listed: list[str] = []
    typed: list[str] = []
    for mapping, entry in judge.entries(table.name):
        target = judge.system.target(mapping.target)
        names = {each.name for each in target.columns}
        for name, made in entry.made:
            if made.local != [column]:
                continue
            if made.value_map:
                keys = judge.system.mappings.value_maps[made.value_map]
                listed += keys[keys.columns[0]].to_list()
            elif name in names and (values := of_target(target.column(name))):
                (listed if target.column(name).allowed else typed).extend(values)
    return listed, [*typed, *ruled_values(judge, table, column)]


def ruled_values(judge: Judge, table: LegacyTable, column: str) -> list[str]:
    """Values of a legacy column that rules ask for."""
    return [
        str(value).lower() if isinstance(value, bool) else str(value)
        for _, entry in judge.entries(table.name)
        for condition in _conditions(entry)
        if condition.column == column
        for value in (*condition.equals, *condition.other_than)
        if value is not None
    ]


def _conditions(entry: object) -> Iterator[Condition]:
    for rule in getattr(entry, "rules", ()):
        yield from rule.only
    for row in getattr(entry, "rows", ()):
        yield from row.only


def targets_of(judge: Judge, table: LegacyTable, column: str) -> list[TargetColumn]:
    """The target columns that are made of a legacy column alone."""
    return [
        each
        for mapping, entry in judge.entries(table.name)
        for name, made in entry.filled
        if made.local == [column]
        for each in judge.system.target(mapping.target).columns
        if each.name == name
    ]


_KIND_OF_TYPES: dict[str, ColumnKind] = {
    "smallint": "integer",
    "integer": "integer",
    "bigint": "integer",
    "numeric": "decimal",
    "real": "decimal",
    "double precision": "decimal",
    "money": "decimal",
    "boolean": "boolean",
    "date": "date",
    "timestamp without time zone": "time",
    "timestamp with time zone": "instant",
    "uuid": "uuid",
    "json": "json",
    "jsonb": "json",
}


def kind_of_target(column: TargetColumn | None) -> ColumnKind:
    """Of which kind the values of a target column are; of a key that the target gives, numbers."""
    if column is None:
        return "integer"
    return "text" if column.kind.is_array else _KIND_OF_TYPES.get(column.kind.name, "text")


def judged_by_target(target: TargetTable) -> Judged:
    """A verdict of values of a target's own columns."""

    def judged(name: str, values: Sequence[str | None]) -> list[Verdict]:
        verdicts = [Verdict() for _ in values]
        column = next((each for each in target.columns if each.name == name), None)
        if column is None:
            return verdicts
        frame = pl.DataFrame({name: values}, {name: pl.String})
        kind = polars_type(column.type)
        typed = pl.col(name) == "true" if kind == pl.Boolean else pl.col(name).cast(kind, strict=False)
        if isinstance(kind, pl.Datetime):
            typed = pl.col(name).str.to_datetime("%Y-%m-%d %H:%M:%S%:z", time_unit="us", strict=False)
        own = replace(target, columns=(column,))
        for index in schema_failures(target_schema(own), frame.select(typed.alias(name)))["index"].unique():
            verdicts[index].reject(target.model, "schema_violation")
        return verdicts

    return judged
