"""From the rows of one source to the parts they give: rows of a target that are not judged beside one another yet.

What is done is what the mapping says: `shape`, columns, rules, the fate of the parent, then `rows` or `expand`.
"""

import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from dtx_assets.machinery.base.errors import ConfigurationError, MigrationError, StructureError
from dtx_assets.machinery.mapping.conditions import drop_rules, holds, is_active
from dtx_assets.machinery.mapping.execute import NO_PROBLEMS, RowProblem, add_problems, apply_columns
from dtx_assets.machinery.mapping.model import RejectRule, RowMapping, SourceMapping, TargetMapping
from dtx_assets.machinery.mapping.places import told_where
from dtx_assets.machinery.mapping.validate import FOLLOWED, OF_PARENT
from dtx_assets.machinery.mapping.validate_rules import PLACEHOLDER, read_of_followed, read_of_parent
from dtx_assets.machinery.prepare.assess import assess, is_sound, settle_duplicates
from dtx_assets.machinery.prepare.generic_key import with_generic_key
from dtx_assets.machinery.system.flow import FlowInputs, Outcome
from dtx_assets.machinery.transforms.columns import integer_value, shown

NO_COERCIONS = pl.lit([], dtype=pl.List(pl.String))


@dataclass
class SourceParts:
    """What one source gives to a target.

    `rows` are its rows as `assess` gives them; `parts` have `_unit` (their number), `_row`, `_source_key` and `_bucket`
    of their source row, `_part`, `:<column>`, and what is wrong with the part alone (`_problems`, `_coercions`).
    """

    source: str
    entry: SourceMapping
    rows: pl.DataFrame
    parts: pl.DataFrame


def source_parts(outcome: Outcome, inputs: FlowInputs, model: str, mapping: TargetMapping, source: str) -> SourceParts:
    """The rows of a source and the parts they give; `outcome` knows what became of the rows of a parent."""
    entry, chosen = mapping.sources[source], inputs.context.decisions
    frame = inputs.legacy[source]
    if inputs.system.legacy_tables[source].generic_key:
        frame = with_generic_key(frame, inputs, source, entry)
    if entry.only:
        frame = frame.filter(holds(entry.only))
    if mapping.parent and (names := read_of_parent(entry)):
        frame = _joined(frame, outcome.made[mapping.parent, source], names, OF_PARENT, "left")
    if entry.shape:
        frame = call(inputs, model, source, "shape", frame)
    _refuse_unknown(entry, frame, f"{model}, {source}")
    shaped = "_problems" in frame.columns
    if shaped:
        frame = frame.rename({"_problems": "_shaped"})
    dropped = drop_rules(entry.drop, chosen)
    rows = assess(inputs, source, model, frame, dropped=dropped, not_null=entry.require)
    if shaped:
        rows = rows.with_columns(pl.concat_list("_problems", "_shaped").alias("_problems")).drop("_shaped")
    rows = add_problems(rows, *reject_problems(entry.reject, chosen))
    if mapping.parent:
        rows = _with_fate_of_parent(outcome, inputs, source, mapping.parent, rows)
    if spec := entry.duplicate_rows:
        key = [made_or_legacy(inputs, source, rows, name) for name in spec.key]
        order = [made_or_legacy(inputs, source, rows, name) for name in spec.order]
        rows = settle_duplicates(rows, key, order, spec.column, spec.detail)
    if entry.rows:
        rows, parts = _each_row(outcome, inputs, source, entry, rows)
    elif entry.expand:
        sound = rows.filter(is_sound()).with_columns(NO_COERCIONS.alias("_coercions"))
        parts = call(inputs, model, source, "expand", sound)
        nothing = {"_problems": NO_PROBLEMS, "_coercions": NO_COERCIONS}
        parts = parts.with_columns(value.alias(name) for name, value in nothing.items() if name not in parts.columns)
        rule = pl.lit(entry.no_rows)
        rows = _without_parts(entry, rows, parts, is_sound(), rule, f"{model}, {entry.expand} of {source}")
    else:
        parts = rows.filter(is_sound()).with_columns(NO_COERCIONS.alias("_coercions"))
    return SourceParts(source, entry, rows, _named(parts.select(_kept(entry, parts)), entry).with_row_index("_unit"))


def _kept(entry: SourceMapping, parts: pl.DataFrame) -> list[str]:
    """The columns of parts that are read later: what was made, and legacy columns that say which part counts."""
    ordered = (spec.order for spec in (entry.duplicates, entry.united) if spec)
    asked = {name for order in ordered for name in order}
    return [name for name in parts.columns if name.startswith(("_", ":")) or name in asked]


def made_or_legacy(inputs: FlowInputs, source: str, rows: pl.DataFrame, name: str) -> pl.Expr:
    """A column or helper as it was made; else a legacy column by its kind, or one that the shape function adds."""
    if f":{name}" in rows.columns:
        return pl.col(f":{name}")
    kind = inputs.system.legacy_tables[source].kind_of(name)
    return integer_value(pl.col(name)) if kind == "integer" else pl.col(name)


def _refuse_unknown(entry: SourceMapping, frame: pl.DataFrame, where: str) -> None:
    """ConfigurationError where a rule asks of a column that neither the legacy table nor its shape function has."""
    asked = {condition.column for condition in entry.asked if condition.column}
    made = {name for name, _ in entry.made}
    ordered = (spec.order for spec in (entry.duplicates, entry.duplicate_rows, entry.united) if spec)
    asked |= {name for names in ordered for name in names} - made
    unknown = sorted(asked - set(frame.columns))
    if unknown:
        raise ConfigurationError(
            f"a rule asks of {', '.join(unknown)}, which is not there",
            where=where,
            remedy="name a legacy column, or one that the shape function adds",
        )


def detail_of(detail: str) -> pl.Expr | str:
    """A sentence with what a row has in the columns that it names in braces."""
    named = [pl.col(name) if name.startswith(":") else shown(pl.col(name)) for name in PLACEHOLDER.findall(detail)]
    return pl.format(PLACEHOLDER.sub("{}", detail), *named) if named else detail


def reject_problems(rules: Iterable[RejectRule], chosen: Mapping[str, str]) -> list[RowProblem]:
    """What the rules that count under the chosen options reject rows for."""
    return [
        RowProblem(holds(rule.only), rule.reason, rule.column, detail_of(rule.detail))
        for rule in rules
        if is_active(rule.when, chosen)
    ]


def _with_fate_of_parent(
    outcome: Outcome, inputs: FlowInputs, source: str, parent: str, rows: pl.DataFrame
) -> pl.DataFrame:
    """The rows with the rule that dropped their parent's, or with nothing wrong but that it was rejected."""
    fates = pl.concat(
        fates.filter((pl.col("source_table") == source) & (pl.col("model") == parent)).select(
            pl.col("source_row").alias("_row"), pl.col("fate").alias("_parent")
        )
        for fates in outcome.fates
    )
    of_rows = rows.select("_row").join(fates, on="_row", how="left", maintain_order="left")
    rows = rows.with_columns(of_rows.get_column("_parent"))
    is_rejected = (pl.col("_parent") == "rejected").fill_null(False)
    was_dropped = pl.col("_parent").is_in(["migrated", "rejected"]).not_()
    detail = f"its row of {inputs.system.target(parent).name} was rejected"
    rows = rows.with_columns(
        pl.when(is_rejected).then(NO_PROBLEMS).otherwise("_problems").alias("_problems"),
        pl.when(was_dropped).then("_parent").otherwise("_rule").alias("_rule"),
    )
    return add_problems(rows, RowProblem(is_rejected, "parent_rejected", "", detail))


def parent_was_rejected() -> pl.Expr:
    """Of rows as `source_parts` gives them, those with nothing to say but that."""
    return (pl.col("_parent") == "rejected").fill_null(False)


def _joined(frame: pl.DataFrame, made: pl.DataFrame, names: Iterable[str], prefix: str, how: Any) -> pl.DataFrame:
    """The frame with columns that were made of the same legacy rows, under other names."""
    columns = [pl.col(f":{name}").alias(prefix + name) for name in names]
    return _beside(frame, made.select("_row", *columns), how)


def _beside(frame: pl.DataFrame, other: pl.DataFrame, how: Any) -> pl.DataFrame:
    """The frame joined by `_row`, in its order. What is wide is copied only where its rows are others afterwards."""
    numbered = frame.select("_row").with_row_index("_place")
    found = numbered.join(other, on="_row", how=how, maintain_order="left")
    same = found.height == frame.height and found.get_column("_place").equals(numbered.get_column("_place"))
    return (frame if same else frame[found.get_column("_place")]).hstack(found.drop("_row", "_place"))


def _each_row(
    outcome: Outcome, inputs: FlowInputs, source: str, entry: SourceMapping, rows: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows, and the parts that `rows` of the mapping makes of those that no rule drops."""
    chosen = inputs.context.decisions
    candidates = rows.filter(pl.col("_rule").is_null()).drop("_problems", "_coercions", "_rule")
    active = [row for row in entry.rows if is_active(row.when, chosen)]
    made = []
    for row in active:
        of_row = candidates.filter(holds(row.only))
        if row.follows:
            of_row = _following(outcome.made[row.follows.model, source], row, of_row)
        parts = _parts_of(inputs, row, of_row)
        made.append(parts.select(_kept(entry, parts)))
    if not made:
        # All parts are made under options that were not chosen.
        nothing = candidates.clear().with_columns(
            NO_PROBLEMS.alias("_problems"), NO_COERCIONS.alias("_coercions"), pl.lit("").alias("_part")
        )
        made = [nothing.with_columns(pl.lit(None, pl.String).alias("_dropped"))]
    parts = pl.concat(made, how="diagonal_relaxed").sort("_row", maintain_order=True)
    gone = parts.filter(pl.col("_dropped").is_not_null()).group_by("_row").agg(pl.col("_dropped").first())
    rows = rows.join(gone, on="_row", how="left", maintain_order="left")
    parts = parts.filter(pl.col("_dropped").is_null()).drop("_dropped")
    rule = pl.coalesce("_dropped", pl.lit(entry.no_rows, pl.String))
    return _without_parts(entry, rows, parts, pl.col("_rule").is_null(), rule, "rows").drop("_dropped"), parts


def _following(made: pl.DataFrame, row: RowMapping, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that gave the part which a row follows, with its columns, and what is wrong with it as `_followed`."""
    assert row.follows
    part = made.filter(pl.col("_part") == row.follows.part)
    problems = part.select("_row", pl.col("_problems").alias("_followed"))
    return _beside(_joined(frame, part, sorted(read_of_followed(row)), FOLLOWED, "inner"), problems, "inner")


def _parts_of(inputs: FlowInputs, row: RowMapping, frame: pl.DataFrame) -> pl.DataFrame:
    chosen = inputs.context.decisions
    made = apply_columns(frame, row, inputs.context, inputs.system.mappings.transforms)
    missing = [RowProblem(pl.col(name).is_null(), "schema_violation", name, "has no value") for name in row.require]
    made = add_problems(made, *missing, *reject_problems(row.reject, chosen))
    if row.follows:
        made = made.with_columns(pl.concat_list("_problems", "_followed").alias("_problems")).drop("_followed")
    rules: list[pl.Expr] = [pl.when(when).then(pl.lit(rule)) for rule, when in drop_rules(row.drop, chosen).items()]
    return made.with_columns(
        pl.coalesce(*rules, pl.lit(None, pl.String)).alias("_dropped"), pl.lit(row.part).alias("_part")
    )


def _without_parts(
    entry: SourceMapping, rows: pl.DataFrame, parts: pl.DataFrame, expected: pl.Expr, rule: pl.Expr, what: str
) -> pl.DataFrame:
    """The rows with `rule` on those that should give parts and give none; StructureError where it has no name.

    Of rows that another target counts none needs one.
    """
    without = expected & pl.col("_row").is_in(parts["_row"].unique().implode()).not_()
    rows = rows.with_columns(pl.when(without).then(rule.cast(pl.String)).otherwise("_rule").alias("_without"))
    lost = rows.filter(without & pl.col("_without").is_null()).height
    if lost and entry.counted:
        raise StructureError(
            f"{what} makes nothing of {lost} rows, and no rule drops them",
            where="the mapping",
            remedy="name the rule that drops them: `no_rows: …`",
        )
    return rows.drop("_rule").rename({"_without": "_rule"})


def _named(parts: pl.DataFrame, entry: SourceMapping) -> pl.DataFrame:
    """The parts with `_part`."""
    if entry.part is None:
        return parts if entry.rows else parts.with_columns(pl.lit("").alias("_part"))
    if entry.part.constant is not None:
        return parts.with_columns(pl.lit(entry.part.constant).alias("_part"))
    values = [pl.col(f":{name}").cast(pl.String) for name in entry.part.value]
    return parts.with_columns(pl.concat_str(values, separator="/").alias("_part"))


# --- functions that a mapping names -----------------------------------------------------------------------------------


def call(inputs: FlowInputs, model: str, source: str, role: str, frame: pl.DataFrame) -> pl.DataFrame:
    """What a function of a source makes of a frame. It sees no more than the mapping says that it reads."""
    mappings = inputs.system.mappings
    entry = mappings.for_target(model).sources[source]
    name = getattr(entry, role)
    with told_where(mappings, model, "sources", source, role):
        try:
            made = mappings.functions[name](frame, _declared(inputs, source, entry, name))
        except (MigrationError, OSError, MemoryError):
            raise
        except Exception as error:
            raise ConfigurationError(
                f"function {name} cannot read what the mapping gives it: {_said(error)}",
                where=source,
                remedy="let the mapping make the columns and helpers that the function reads, of values that it takes",
            ) from error
        if not isinstance(made, pl.DataFrame):
            raise StructureError(
                f"function {name} gives {type(made).__name__}, not a frame",
                where=source,
                remedy="let it give a DataFrame",
            )
    return made


def _said(error: Exception) -> str:
    """What an error says without values of rows: its first line, of Polars; of others their kind and where in code."""
    if isinstance(error, pl.exceptions.PolarsError):
        return str(error).partition("\n")[0]
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} ({Path(last.filename).name}, line {last.lineno})"


class _Declared(dict[str, Any]):
    """What a function may read by name; anything else is told with what to add to the mapping."""

    def __init__(self, content: Mapping[str, Any], names: Iterable[str], where: str, key: str) -> None:
        self._names = frozenset(names)
        super().__init__({name: content[name] for name in self._names if name in content})
        self._where, self._key = where, key

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, default) if name in self._names else self[name]

    def __missing__(self, name: str) -> Any:
        if name in self._names:
            raise KeyError(name)
        raise ConfigurationError(
            f"it reads {name}, which the mapping does not say", where=self._where, remedy=f"add it: {self._key}"
        )


def _declared(inputs: FlowInputs, source: str, entry: SourceMapping, function: str) -> FlowInputs:
    where = f"function {function} of {source}"
    used, tables = read_names(entry), {source, *read_tables(entry)}
    mappings = _Declared(inputs.mappings, used, where, "`uses: …`")
    context = replace(
        inputs.context,
        crosswalks=mappings,
        value_maps=_Declared(inputs.context.value_maps, used, where, "`uses: …`"),
        decisions=_Declared(inputs.context.decisions, entry.decisions, where, "`decisions: …`"),
    )
    legacy = _Declared(inputs.legacy, tables, where, "`from: <table>.<column>`")
    return replace(inputs, legacy=legacy, mappings=mappings, context=context)


def read_names(entry: SourceMapping) -> list[str]:
    """The crosswalks, value maps and references that a source reads, by its columns and its functions."""
    names = [name for _, column in entry.made for name in (column.crosswalk, column.value_map, column.cases) if name]
    names += [use.partition(".")[0] for _, column in entry.made for use in column.uses]
    names += [entry.existing.rows] if entry.existing else []
    return list(dict.fromkeys([*names, *(use.partition(".")[0] for use in entry.uses)]))


def read_tables(entry: SourceMapping) -> list[str]:
    """The other tables of which a source names columns."""
    owners = (column.located(part)[0] for _, column in entry.made for part in column.from_)
    return list(dict.fromkeys(owner for owner in owners if owner))
