"""Ugly rows of a sample: each breaks one rule, or seems to, and says which one and what should become of the row."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from dtx_assets.machinery.mapping.conditions import is_active
from dtx_assets.machinery.mapping.model import Condition, DropRule, RejectRule
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.samples.columns import TablePlan, legacy_hints, ruled_values, targets_of
from dtx_assets.machinery.samples.csv_output import Cell
from dtx_assets.machinery.samples.references import behind
from dtx_assets.machinery.samples.values import UGLY, overlong
from dtx_assets.machinery.samples.verdict import Verdict

if TYPE_CHECKING:
    from dtx_assets.machinery.samples.sample import Sample

MIGRATED, REJECTED = "migrated", "rejected"
Row = Mapping[str, Cell]


@dataclass(frozen=True)
class Fate:
    """What should become of a row at a target: `migrated`, `rejected` for reasons, or the rule that drops it."""

    fate: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """An ugly row: the plausible row at a position after all others, with other cells."""

    table: str
    column: str
    """Where it differs: a column or several, or what is wrong with the whole row."""
    what: str
    position: int
    """From 0, after the last plausible row."""
    cells: Row
    fates: Mapping[str, Fate]
    """By model."""
    copied: tuple[str, ...] = ()
    """Columns that are as in the ugly row at the position `copied_from`."""
    copied_from: int = 0


def cases_of(sample: "Sample", table: LegacyTable) -> list[Case]:
    """The ugly rows of a legacy table, each with a position of its own."""
    maker = _Cases(sample, table)
    for make in (maker.cells, maker.orphans, maker.rules, maker.duplicates, maker.same_target_row):
        make()
    return maker.made


@dataclass
class _Cases:
    sample: "Sample"
    table: LegacyTable
    made: list[Case] = field(default_factory=list)

    @property
    def plan(self) -> TablePlan:
        return self.sample.plan_of(self.table.name)

    @property
    def models(self) -> list[str]:
        return [mapping.target for mapping, _ in self.sample.judge.entries(self.table.name)]

    def cells(self) -> None:
        """NULL, what is none of the kind, what is too long, unknown codes, and text that only looks wrong."""
        for column in self.table.columns:
            tried = spoiling_cells(self.sample, self.table, column)
            verdicts = self.sample.judge.judge(self.table, column, tried)
            for cell, verdict in zip(tried, verdicts, strict=True):
                if verdict.is_risky or not self._stands_alone(column, cell, verdict):
                    continue
                self._add(column, shown(cell), {column: cell}, verdict)

    def _stands_alone(self, column: str, cell: Cell, verdict: Verdict) -> bool:
        """Whether a value of a column that tells rows apart is no other row's: where it is one that can be read."""
        tells_apart = column in self.plan.unique or column in self.table.key
        tells_apart |= any(column in each for each in self.plan.together)
        if self.plan.columns[column].refers_to and verdict.is_clean:
            return cell is None and not tells_apart
        return not tells_apart or not verdict.is_clean

    def orphans(self) -> None:
        for column, plan in self.plan.columns.items():
            if plan.refers_to and (missing := self.sample.missing_value(*plan.refers_to)) is not None:
                verdict = self.sample.judge.judge(self.table, column, [missing])[0]
                if verdict.is_clean and plan.refers_to in self.sample.crosswalk_ids:
                    self._add(column, "an id that nothing has, which counts", {column: missing}, verdict)
                    continue
                for model in self._keeping(column) if verdict.is_clean else ():
                    verdict.reject(model, "orphan_reference")
                self._add(column, "an id that nothing has", {column: missing}, verdict)

    def _keeping(self, column: str) -> list[str]:
        """The models that keep the ids of a column, which their target refers by."""
        return [
            mapping.target
            for mapping, entry in self.sample.judge.entries(self.table.name)
            if any(
                made.local == [column] and each.name == name and each.references
                for name, made in entry.filled
                for each in self.sample.system.target(mapping.target).columns
            )
        ]

    def rules(self) -> None:
        """Rows that a rule drops or rejects for what several columns say."""
        for mapping, entry in self.sample.judge.entries(self.table.name):
            rules: list[DropRule | RejectRule] = [*entry.drop, *entry.reject]
            for rule in rules:
                if len(rule.only) < 2 or not is_active(rule.when, self.sample.judge.chosen):
                    continue
                cells = self._fitting(rule.only)
                if cells is None:
                    continue
                fate = Fate(rule.rule) if isinstance(rule, DropRule) else Fate(REJECTED, (rule.reason,))
                self._put(", ".join(cells), "what a rule asks for", cells, {mapping.target: fate})

    def _fitting(self, conditions: Sequence[Condition]) -> dict[str, Cell] | None:
        """Cells of which all conditions hold; None where they ask of values that are made."""
        cells: dict[str, Cell] = {}
        for condition in conditions:
            if condition.column is None or condition.column not in self.table.columns:
                return None
            if condition.other_than or condition.matches is not None or condition.unreadable_as:
                return None
            if condition.is_ in ("missing", "blank"):
                cells[condition.column] = None if condition.is_ == "missing" else " "
            elif condition.equals:
                value = condition.equals[0]
                cells[condition.column] = str(value).lower() if isinstance(value, bool) else value
        return cells

    def duplicates(self) -> None:
        """Two rows of one key: wholly alike, and with another content, where the later one counts."""
        if not self.table.has_unique_key or not self.models:
            return
        dropped, counts = Fate("identical"), Fate(MIGRATED)
        first = self._put("", "the same row twice", {}, dict.fromkeys(self.models, counts))
        self._put("", "the same row twice", {}, dict.fromkeys(self.models, dropped), at=first)
        others = [name for name in self.table.columns if name not in self.table.key]
        others = [name for name in others if name not in self.plan.unique and not self.plan.columns[name].refers_to]
        if set(self.plan.unique) <= set(self.table.key) and others:
            earlier = Fate(REJECTED, ("duplicate_key",))
            key = ", ".join(self.table.key)
            first = self._put(key, "a later row has this key", {}, dict.fromkeys(self.models, earlier))
            fates = dict.fromkeys(self.models, counts)
            self._put(key, "the key of an earlier row", {}, fates, copied=self.table.key, copied_from=first)

    def same_target_row(self) -> None:
        """Two rows of different keys that give one row of the target."""
        for mapping, entry in self.sample.judge.entries(self.table.name):
            if entry.duplicates or len(mapping.sources) > 1 or len(self.models) > 1:
                continue
            target = self.sample.system.target(mapping.target)
            for columns in self.sample.references.tell_apart(self.table):
                is_natural = columns == behind(entry, target.natural_key)
                if is_natural and not set(columns) & set(self.table.key) and len(columns) == len(target.natural_key):
                    named = ", ".join(columns)
                    earlier = Fate(REJECTED, ("duplicate_key",))
                    first = self._put(named, "a later row gives the same target row", {}, {mapping.target: earlier})
                    counts = {mapping.target: Fate(MIGRATED)}
                    self._put(named, "the target row of an earlier one", {}, counts, copied=columns, copied_from=first)
                    break

    def _add(self, column: str, what: str, cells: Row, verdict: Verdict) -> None:
        fates = {}
        for model in self.models:
            if model in verdict.dropped:
                fates[model] = Fate(verdict.dropped[model])
            elif model in verdict.reasons:
                fates[model] = Fate(REJECTED, tuple(sorted(verdict.reasons[model])))
            else:
                fates[model] = Fate(MIGRATED)
        self._put(column, what, cells, fates)

    def _put(
        self, column: str, what: str, cells: Row, fates: Mapping[str, Fate], at: int | None = None, **copied: Any
    ) -> int:
        """The position of the new case: one of its own, or that of another one."""
        position = len(self.made) if at is None else at
        self.made.append(Case(self.table.name, column, what, position, cells, fates, **copied))
        return position


def spoiling_cells(sample: "Sample", table: LegacyTable, column: str) -> list[Cell]:
    """Values to try of a column: NULL, an empty text, ugly ones of its kind, and text that is too long."""
    tried: list[Cell] = [None, "", *UGLY[table.kind_of(column)]]
    tried += ruled_values(sample.judge, table, column)
    tried += overlong(targets_of(sample.judge, table, column))
    if any(
        made.local == [column] and made.value_map for _, e in sample.judge.entries(table.name) for _, made in e.made
    ):
        tried += UGLY["code"]
        tried += [f" {key.upper()} " for key in legacy_hints(sample.judge, table, column)[0][:1]]
    if table.kind_of(column) not in ("text", "code") and sample.plan_of(table.name).columns[column].refers_to is None:
        tried += [b"caf\xe9"]
    return list(dict.fromkeys(tried))


def shown(cell: Cell) -> str:
    """A cell in a line of a list, shortened."""
    return "NULL" if cell is None else "an empty text" if cell == "" else repr(cell)[:60]


@dataclass
class UglyRows:
    """Collects the ugly rows that the functions of a system add, by table."""

    sample: "Sample"
    tables: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    notes: dict[str, Any] = field(default_factory=dict)
    """What the functions tell each other."""
    _usual: dict[str, Row] = field(default_factory=dict)

    def listed(self, name: str) -> Iterator[Row]:
        """The cells of ugly rows that `sample.yaml` lists by a name: a row for each value of a list."""
        for cells in self.sample.declared.ugly_rows[name]:
            lists = {column: each for column, each in cells.items() if isinstance(each, list)}
            alone = {column: each for column, each in cells.items() if column not in lists}
            for values in product(*lists.values()):
                yield {**alone, **dict(zip(lists, values, strict=True))}

    def add(self, table: str, **cells: Cell) -> None:
        """A row that is as usual but for `cells`; one whose names are not identifiers goes through `add_row`."""
        self.add_row(table, cells)

    def columns(self, table: str) -> list[str]:
        """The columns of a table of the sample."""
        if table not in self._usual:
            self._usual[table] = self.sample.frame(table, 0, 100).row(0, named=True)
        return list(self._usual[table])

    def add_row(self, table: str, cells: Row) -> None:
        self.columns(table)
        unknown = cells.keys() - self._usual[table].keys()
        if unknown:
            raise KeyError(f"{table} has no column {', '.join(sorted(unknown))}")
        self.tables[table].append({**self._usual[table], **cells})


def spoilt_cells(cases: Sequence[Case], plan: TablePlan) -> Iterator[tuple[str, str | int | None]]:
    """Cells that reject a row and stand for themselves, so that any number of rows may have them."""
    for case in cases:
        rejects = any(fate.fate == REJECTED for fate in case.fates.values())
        if rejects and len(case.cells) == 1 and case.column not in plan.unique:
            [(column, cell)] = case.cells.items()
            if cell is None or isinstance(cell, str | int):
                yield column, cell
