"""A sample of a system: the rows of its tables, any slice of them, and the ugly rows after them. Writing is `write`."""

from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.samples.columns import (
    Judged,
    Planner,
    TablePlan,
    judged_by_target,
    kind_of_target,
    legacy_hints,
)
from dtx_assets.machinery.samples.declared import SampleFile, TableSample, sample_declarations
from dtx_assets.machinery.samples.references import Place, References
from dtx_assets.machinery.samples.rows import Columns, Rows, evaluated
from dtx_assets.machinery.samples.ugly import Case, Row, cases_of, spoilt_cells
from dtx_assets.machinery.samples.values import of_target
from dtx_assets.machinery.samples.verdict import Judge
from dtx_assets.machinery.system.system import System

DEFAULT_ROWS = 100
DEFAULT_SEED = 20260
FULL = 100
"""Up to so many rows, every table has as many as are asked for."""
FAR = 10_000
"""So far behind the last row nothing is."""


@dataclass
class Sample:
    """The rows of a sample; those of a table depend on the seed and their position only."""

    system: System
    rows: int = DEFAULT_ROWS
    seed: int = DEFAULT_SEED
    ugly_share: float = 0.0
    """Part of the rows of legacy tables that cannot be migrated, besides those that are ugly in a way of their own."""
    _plans: dict[str, TablePlan] = field(default_factory=dict)
    _sizes: dict[str, int] = field(default_factory=dict)
    _cases: dict[str, list[Case]] = field(default_factory=dict)

    @cached_property
    def judge(self) -> Judge:
        return Judge(self.system)

    @cached_property
    def references(self) -> References:
        return References(self.system, self.judge)

    @cached_property
    def declared(self) -> SampleFile:
        return sample_declarations(self.system, self.system.sample_functions)

    @cached_property
    def tables(self) -> dict[str, LegacyTable]:
        """The legacy tables and the crosswalks."""
        return {**self.system.legacy_tables, **self.system.crosswalk_tables}

    @cached_property
    def crosswalk_ids(self) -> set[Place]:
        return {(name, table.key[0]) for name, table in self.system.crosswalk_tables.items() if table.key}

    @cached_property
    def others(self) -> list[str]:
        """The models of others that have rows: what is declared of them, and what anything refers to."""
        found = dict.fromkeys(self.declared.targets)
        todo = [*self.tables]
        while todo:
            for column in self.plan_of(todo.pop()).columns.values():
                name = column.refers_to[0] if column.refers_to else None
                if name and name not in self.tables and name not in found:
                    found[name] = None
                    todo.append(name)
        for name in self.declared.targets:
            self.plan_of(name)
        return [target.model for target in self.system.targets if target.model in found]

    # --- tables -------------------------------------------------------------------------------------------------------

    def plan_of(self, name: str) -> TablePlan:
        if name not in self._plans:
            self._plans[name] = self._planned(name)
        return self._plans[name]

    def _planned(self, name: str) -> TablePlan:
        said = self._said(name)
        places = [*self.tables, *self.references.others]
        first_id = 1_000 * (1 + places.index(name) if name in places else 0) + 1
        if name in self.tables:
            table = self.tables[name]
            named = said.columns if said.by else dict.fromkeys((*table.columns, *said.columns))
            references = self.references.of_legacy(table) if name in self.system.legacy_tables else {}
            references = references or self.references.of_crosswalk(name)
            sets = list(self.references.tell_apart(table))
            sets += [(column,) for column in self.references.of_crosswalk(name)]
            planner = Planner(
                name,
                {column: table.kind_of(column) for column in named},
                lambda column, values: self.judge.judge(table, column, values),
                said,
                references,
                self.system.sample_functions,
                hints=lambda column: legacy_hints(self.judge, table, column),
                first_id=first_id,
            )
            return planner.plan([] if said.by else sets)
        target = self.system.target(name)
        columns = {column.name: column for column in target.columns}
        judged: Judged = judged_by_target(target)
        planner = Planner(
            name,
            {
                column: kind_of_target(columns.get(column))
                for column in (said.columns if said.by else dict.fromkeys((*target.key, *columns, *said.columns)))
            },
            judged,
            said,
            self.references.of_other(target),
            self.system.sample_functions,
            hints=lambda column: ([], of_target(columns[column]) if column in columns else []),
            first_id=first_id,
        )
        sets = [target.key, *([target.natural_key] if target.natural_key else [])]
        return planner.plan([] if said.by else sets)

    def _said(self, name: str) -> TableSample:
        return self.declared.tables.get(name) or self.declared.targets.get(name) or TableSample()

    def size(self, name: str) -> int:
        """Plausible rows of a table."""
        if name not in self._sizes:
            said = self._said(name)
            asked = self._asked(said)
            # What refers back to it while it is counted takes it to be as large as it should be.
            self._sizes[name] = asked
            self._sizes[name] = self._fitting_size(name, asked)
        return self._sizes[name]

    def _asked(self, said: TableSample) -> int:
        if said.rows is not None:
            return said.rows
        if said.as_many_as:
            return said.times * self.size(said.as_many_as)
        if said.at_least is not None:
            return max(said.at_least, int(self.rows * said.share))
        return self.rows if self.rows <= FULL else max(FULL, int(self.rows * said.share))

    def _fitting_size(self, name: str, asked: int) -> int:
        """No more than there are values that tell rows apart, with some left for ugly ones."""
        if self._said(name).by or not asked:
            return asked
        room = self._room(name)
        if name in self.system.crosswalk_tables or name in self.references.others:
            return max(1, min(asked, room))
        ugly = len(self.cases(name))
        return asked if asked + ugly <= room else max(1, min(asked, room - min(ugly, room // 2)))

    def _room(self, name: str) -> int:
        plan = self.plan_of(name)
        rooms = []
        for column in plan.unique:
            planned = plan.columns[column]
            rooms.append(self.size(planned.refers_to[0]) if planned.refers_to else planned.capacity or 0)
        for columns in plan.together:
            room = 1
            for column in columns:
                place = plan.columns[column].refers_to
                room *= self.size(place[0]) if place else 1
            rooms.append(room)
        return min(rooms, default=self.rows + (1 << 40))

    def columns(self, name: str) -> Columns:
        """All columns of a table as expressions over `_position`."""
        return self._columns(self._rows(name))

    def _columns(self, rows: Rows) -> Columns:
        said = self._said(rows.table)
        made: Columns = self.system.sample_functions[said.by](rows) if said.by else {}
        made = {**made, **self.plan_of(rows.table).all_of(rows)}
        declared = self.tables[rows.table].columns if rows.table in self.tables else ()
        return {name: made[name] for name in dict.fromkeys((*declared, *made)) if name in made}

    def _rows(self, name: str) -> Rows:
        return Rows(self.seed, name, self.size, self._value, self.declared.lists, self.ugly_share)

    def _value(self, table: str, column: str, position: pl.Expr) -> pl.Expr:
        rows = self._rows(table).at(position)
        planned = self.plan_of(table).columns.get(column)
        return planned.make(rows) if planned else self._columns(rows)[column]

    def frame(self, name: str, first: int, count: int) -> pl.DataFrame:
        """Rows `first` to `first + count` of a table, all columns as text; one whose first column is NULL is none."""
        columns = dict(self.columns(name))
        if self.ugly_share and name in self.system.legacy_tables and not self._said(name).by:
            columns = self._spoilt(name, columns)
        frame = evaluated(columns, range(first, first + count))
        return frame.filter(pl.first().is_not_null()) if self._said(name).by else frame

    def _spoilt(self, name: str, columns: dict[str, pl.Expr]) -> dict[str, pl.Expr]:
        rows = self._rows(name)
        cells = list(spoilt_cells(self.cases(name), self.plan_of(name)))
        if not cells:
            return columns
        kind = pl.when(rows.chance("spoilt", self.ugly_share)).then(rows.below("spoilt how", len(cells)))
        for number, (column, cell) in enumerate(cells):
            spoilt = pl.lit(None if cell is None else str(cell), pl.String)
            columns[column] = pl.when(kind == number).then(spoilt).otherwise(columns[column].cast(pl.String))
        return columns

    # --- ugly rows ----------------------------------------------------------------------------------------------------

    def cases(self, name: str) -> list[Case]:
        """The ugly rows that break what is declared of a legacy table."""
        if name not in self._cases:
            if self.declared.own_ugly_only or name not in self.system.legacy_tables or self._said(name).by:
                self._cases[name] = []
            else:
                self._cases[name] = cases_of(self, self.tables[name])
        return self._cases[name]

    def fitting_cases(self, name: str) -> list[Case]:
        """Those for which there are values left that tell them apart."""
        left = self._room(name) - self.size(name) if self.cases(name) else 0
        return [case for case in self.cases(name) if case.position < left]

    def missing_value(self, table: str, column: str) -> str | None:
        """A value that a column might have, and that none of its rows has; None where there is none."""
        plan = self.plan_of(table).columns[column]
        position = min((plan.capacity or 0) - 1, FAR + 10 * self.rows)
        if position <= 2 * self.rows:
            return None
        return evaluated({column: plan.make(self._rows(table))}, [position])[column][0]

    def ugly_rows(self, name: str) -> list[Row]:
        """The ugly rows of a table by what is declared, whole."""
        cases = self.fitting_cases(name)
        if not cases:
            return []
        first = self.size(name)
        columns = self.columns(name)
        usual = evaluated(columns, [first + case.position for case in cases])
        others = evaluated(columns, [first + case.copied_from for case in cases])
        return [
            {**row, **{column: other[column] for column in case.copied}, **case.cells}
            for row, other, case in zip(usual.iter_rows(named=True), others.iter_rows(named=True), cases, strict=True)
        ]
