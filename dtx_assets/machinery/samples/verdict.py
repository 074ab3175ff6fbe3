"""What the mapping files say of single values of a legacy column: they are run on that value alone.

Nothing here knows a rule by itself, so a transform or a value map of any system is understood as it runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

import polars as pl

from dtx_assets.machinery.mapping.conditions import holds, is_active
from dtx_assets.machinery.mapping.execute import apply_columns
from dtx_assets.machinery.mapping.model import (
    ColumnMapping,
    Condition,
    DropRule,
    RejectRule,
    RowMapping,
    SourceMapping,
    TargetMapping,
)
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetTable, polars_type
from dtx_assets.machinery.prepare.schemas import legacy_schema, schema_failures, target_schema
from dtx_assets.machinery.samples.csv_output import Cell, landed
from dtx_assets.machinery.system.system import System
from dtx_assets.machinery.transforms.columns import TransformContext

ONE_TIME = datetime(2026, 1, 1, tzinfo=UTC)
UNDECODABLE = pl.List(pl.Struct({"column": pl.String, "bytes": pl.Binary}))
VIOLATION = "schema_violation"

Entry = TypeVar("Entry", SourceMapping, RowMapping)


@dataclass
class Verdict:
    """Of one value: by model why its row is rejected, and the rule that drops it."""

    reasons: dict[str, set[str]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    is_risky: bool = False
    """Whether a rule may drop or reject the row for it, if other columns say the same."""

    @property
    def is_clean(self) -> bool:
        return not self.reasons and not self.dropped

    def reject(self, model: str, reason: str) -> None:
        self.reasons.setdefault(model, set()).add(reason)


class _Unknown(dict[str, pl.LazyFrame]):
    """Crosswalks that have no id at all: which ids there are is not this one's business."""

    def __missing__(self, _name: str) -> pl.LazyFrame:
        return pl.LazyFrame(schema={"source_id": pl.String, "target_id": pl.Int64})


class Judge:
    """Asks the mapping files of a system of values of its legacy columns, under the options that are chosen."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.chosen = system.decisions.chosen
        self._context = TransformContext(
            _Unknown(),
            system.mappings.value_maps,
            self.chosen,
            "UTC",
            ONE_TIME,
            {asset.name: asset.ids for asset in system.mapping_assets if asset.kind == "crosswalk"},
        )

    def entries(self, table: str) -> Iterator[tuple[TargetMapping, SourceMapping]]:
        """What the table gives to targets under the options that are chosen."""
        for mapping in self.system.mappings.targets.values():
            entry = mapping.sources.get(table)
            if entry and is_active(mapping.when, self.chosen) and is_active(entry.when, self.chosen):
                yield mapping, entry

    def judge(self, table: LegacyTable, column: str, cells: Sequence[Cell]) -> list[Verdict]:
        """A verdict of each value, as if nothing else were in its row."""
        verdicts = [Verdict() for _ in cells]
        frame = _frame(table, column, cells)
        for mapping, entry in self.entries(table.name):
            target = self.system.target(mapping.target)
            try:
                self._judge_entry(table, column, frame, target, entry, verdicts)
            except (pl.exceptions.PolarsError, KeyError):
                # A transform that reads other columns too: whole rows tell, single values do not.
                continue
        return verdicts

    def _judge_entry(
        self,
        table: LegacyTable,
        column: str,
        frame: pl.DataFrame,
        target: TargetTable,
        entry: SourceMapping,
        verdicts: list[Verdict],
    ) -> None:
        model = target.model
        own = _reading(entry, column)
        made = apply_columns(frame, own, self._context, self.system.mappings.transforms)
        self._problems(made, model, verdicts)
        self._misfits(made, own, target, verdicts)
        self._legacy_schema(table, column, frame, entry, model, verdicts)
        evaluable = {f":{name}" for name in (*own.columns, *own.helpers)} | {column}
        self._rules(made, model, entry.drop, evaluable, verdicts)
        self._rules(made, model, entry.reject, evaluable, verdicts)
        gives = pl.Series([False] * frame.height)
        active = [row for row in entry.rows if is_active(row.when, self.chosen)]
        for row in active:
            part = _reading(row, column)
            known = {f":{name}" for name in (*part.columns, *part.helpers)} | evaluable
            asked = holds([each for each in row.only if _name(each) in known])
            applies = made.select(asked.alias("_")).to_series()
            gives |= applies
            rows = made.drop("_problems", "_coercions")
            parts = apply_columns(rows, part, self._context, self.system.mappings.transforms)
            concerned = [verdict if it else Verdict() for verdict, it in zip(verdicts, applies, strict=True)]
            self._problems(parts, model, concerned)
            self._misfits(parts, part, target, concerned)
            for verdict, missing in zip(concerned, parts.get_column(column).is_null(), strict=True):
                if missing and column in row.require:
                    verdict.reject(model, VIOLATION)
            self._rules(parts, model, (*row.drop, *row.reject), known, concerned)
        if active and entry.no_rows:
            for verdict, some in zip(verdicts, gives, strict=True):
                if not some:
                    verdict.dropped.setdefault(model, entry.no_rows)

    def _problems(self, made: pl.DataFrame, model: str, verdicts: list[Verdict]) -> None:
        for verdict, problems in zip(verdicts, made["_problems"].to_list(), strict=True):
            for problem in problems:
                verdict.reject(model, problem["reason"])

    def _misfits(
        self, made: pl.DataFrame, entry: SourceMapping | RowMapping, target: TargetTable, verdicts: list[Verdict]
    ) -> None:
        """What the declared types of the target do not take."""
        names = {each.name: each for each in target.columns_under(self.chosen) if f":{each.name}" in made.columns}
        columns = tuple(each for name, each in names.items() if name in entry.columns)
        if not columns:
            return
        rows = made.select(
            pl.col(f":{each.name}").cast(polars_type(each.type)).alias(each.name) for each in columns
        ).with_row_index("_")
        sound = rows.filter(made["_problems"].list.len() == 0)
        failures = schema_failures(target_schema(replace(target, columns=columns)), sound.drop("_"))
        for index in failures["index"].unique():
            verdicts[sound["_"][index]].reject(target.model, VIOLATION)
        # A text that is wrong in another way is too long all the same; bytes that are none have no length.
        is_text = made["_undecodable"].list.len() == 0
        for each in (each for each in columns if each.kind.is_text and each.longest is not None):
            too_long = (rows[each.name].str.len_chars() > each.longest).fill_null(False) & is_text
            for verdict, it in zip(verdicts, too_long, strict=True):
                if it:
                    verdict.reject(target.model, VIOLATION)

    def _legacy_schema(
        self,
        table: LegacyTable,
        column: str,
        frame: pl.DataFrame,
        entry: SourceMapping,
        model: str,
        verdicts: list[Verdict],
    ) -> None:
        key = (column,) if column in table.key else ()
        required = [column] if column in entry.require else []
        must_match = any(
            each.crosswalk and each.missing == "reject" and not each.allow_null and column in each.from_
            for _, each in entry.made
        )
        if not must_match and (key or required):
            schema = legacy_schema(replace(table, key=key, required=()), required)
            for index in schema_failures(schema, frame)["index"].unique():
                verdicts[index].reject(model, VIOLATION)

    def _rules(
        self,
        made: pl.DataFrame,
        model: str,
        rules: Sequence[DropRule | RejectRule],
        evaluable: set[str],
        verdicts: list[Verdict],
    ) -> None:
        for rule in rules:
            if not is_active(rule.when, self.chosen) or _name(rule.only[0]) not in evaluable:
                continue
            is_whole = all(_name(each) in evaluable for each in rule.only)
            hits = made.select(holds(rule.only if is_whole else rule.only[:1]).alias("_")).to_series()
            for verdict, hit in zip(verdicts, hits, strict=True):
                if hit and not is_whole:
                    verdict.is_risky = True
                elif hit and isinstance(rule, DropRule):
                    verdict.dropped.setdefault(model, rule.rule)
                elif hit and isinstance(rule, RejectRule):
                    verdict.reject(model, rule.reason)


def _name(condition: Condition) -> str:
    return condition.column or f":{condition.value}"


def _reading(entry: Entry, column: str) -> Entry:
    """The entry with what is made of this column alone."""

    def alone(made: dict[str, ColumnMapping]) -> dict[str, ColumnMapping]:
        return {
            name: each
            for name, each in made.items()
            if not each.by and set(each.from_) == {column} and (not each.input or tuple(each.input) == (column,))
        }

    return entry.model_copy(update={"columns": alone(entry.columns), "helpers": alone(entry.helpers)})


def _frame(table: LegacyTable, column: str, cells: Sequence[Cell]) -> pl.DataFrame:
    """Rows of the table as they are landed, with nothing but the values in the column."""
    texts = [landed(table, column, cell) for cell in cells]
    undecodable = [
        [{"column": column, "bytes": cell}] if isinstance(cell, bytes) and text != cell.decode(errors="ignore") else []
        for cell, text in zip(cells, texts, strict=True)
    ]
    others: dict[str, pl.Expr] = {name: pl.lit(None, pl.String) for name in table.columns if name != column}
    frame = pl.DataFrame({column: texts, "_undecodable": undecodable}, {column: pl.String, "_undecodable": UNDECODABLE})
    return frame.with_columns(**others)
