"""Executes a column mapping: each target column with the problems that reject its row and the coercions that count."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.yaml_file import suggestion
from dtx_assets.machinery.mapping.cases import case_value
from dtx_assets.machinery.mapping.conditions import holds
from dtx_assets.machinery.mapping.model import ColumnMapping, RowMapping, SourceMapping
from dtx_assets.machinery.model.target import polars_type
from dtx_assets.machinery.transforms.columns import (
    Coercion,
    Outcome,
    Problem,
    Registry,
    TransformContext,
    code,
    shown,
    with_reads,
)

PROBLEM = pl.Struct({"reason": pl.String, "column": pl.String, "detail": pl.String})
UNREADABLE = "_unreadable"
"""The column that says why a document of the source has no value."""

TIMES = "times:"
OF_VALUE = "\n"
"""Stands between the kind of a coercion and the value that is coerced."""

HIT = "_hit"
"""Begins the names of the masks of rows that have a problem, or a coercion."""

NO_PROBLEMS = pl.lit([], dtype=pl.List(PROBLEM))


@dataclass(frozen=True)
class RowProblem:
    """Why rows are rejected: where (`when`, row by row), the reason code, the legacy columns, and a sentence."""

    when: pl.Expr
    reason: str
    column: str
    detail: pl.Expr | str

    def listed(self) -> pl.Expr:
        detail = pl.lit(self.detail) if isinstance(self.detail, str) else self.detail
        entry = pl.struct(
            pl.lit(self.reason).alias("reason"),
            pl.lit(self.column).alias("column"),
            detail.cast(pl.String).alias("detail"),
        )
        return pl.when(self.when.fill_null(False)).then(pl.concat_list(entry)).otherwise(NO_PROBLEMS)


def add_problems(frame: pl.DataFrame, *problems: RowProblem) -> pl.DataFrame:
    """The frame with what the problems say added to `_problems`, a list of {reason, column, detail}.

    Lists are made for the rows that have a problem only: nearly all have none, and a list costs many times a mask.
    """
    if "_problems" not in frame.columns:
        frame = frame.with_columns(NO_PROBLEMS.alias("_problems"))
    if not problems:
        return frame
    return _with_listed(frame, frame.select(_any_of(problems)).to_series(), problems)


def _any_of(entries: Iterable[RowProblem | Coercion]) -> pl.Expr:
    """Whether one of them hits a row."""
    return pl.any_horizontal(pl.lit(False), *(entry.when.fill_null(False) for entry in entries))


def _with_listed(frame: pl.DataFrame, hit: pl.Series, problems: Sequence[RowProblem]) -> pl.DataFrame:
    """The frame with the problems of the rows that are `hit` added to `_problems`."""
    if not hit.any():
        return frame
    entries = [entry.listed() for entry in problems]
    read = {"_problems", *(name for entry in entries for name in entry.meta.root_names())}
    listed = (
        # Nothing else is copied: another column may hold a large text.
        frame.select(name for name in frame.columns if name in read)
        .with_row_index("_position")
        .filter(hit)
        # Polars 2.1.0 was seen to panic in str.format where columns lie in several chunks.
        .rechunk()
        .select("_position", pl.concat_list("_problems", *entries).alias("_more"))
    )
    return _updated(frame, listed, "_problems")


def _updated(frame: pl.DataFrame, changes: pl.DataFrame, column: str) -> pl.DataFrame:
    """`column` with the values of `changes` (`_position`, `_more`) in place of its own."""
    values = (
        frame.select(column)
        .with_row_index("_position")
        .join(changes, on="_position", how="left", maintain_order="left")
        .select(pl.coalesce("_more", column).alias(column))
    )
    return frame.with_columns(values.to_series())


def apply_columns(
    frame: pl.DataFrame, source: SourceMapping | RowMapping, context: TransformContext, transforms: Registry
) -> pl.DataFrame:
    """Adds `:<column>` for each column and helper of the mapping that no function fills, `_problems` and `_coercions`.

    `_problems` is a list of {reason, column, detail}, `_coercions` a list of kinds; all other columns stay.
    """
    rows = frame.lazy()
    reads: dict[str, pl.Expr] = {}
    problems: list[RowProblem] = []
    if UNREADABLE in frame.columns:
        why = pl.col(UNREADABLE)
        problems.append(RowProblem(why.is_not_null(), "unparseable", "document", why))
    coercions: list[tuple[str, Coercion]] = []
    joined: list[str] = []
    values: dict[str, pl.Expr] = {}
    for name, column in (source.columns | source.helpers).items():
        if column.by:
            continue
        active = column.when is None or context.decisions.get(column.when.decision) in column.when.option
        local = column.local
        inputs = [pl.col(part) for part in column.input or local]
        label = ", ".join(local) or name
        if active:
            _require_shaped(frame, name, column)
        if (column.crosswalk and not column.transform) or column.value_map:
            rows, outcome, made = _look_up(rows, name, column, inputs[0], context)
            joined += made
        elif column.cases:
            outcome = case_value(column.cases, context.value_maps[column.cases], context.decisions)
        elif column.is_constant:
            outcome = Outcome(_constant(column))
        else:
            settings = column.settings(context.decisions)
            its_reads: dict[str, pl.Expr] = {}
            made_for = replace(context, column=name, reads=its_reads)
            try:
                outcome = transforms[column.transform or "text"](inputs, made_for, **settings)
            except pl.exceptions.ColumnNotFoundError as error:
                # What a look-up has is not known before it is made.
                raise ConfigurationError(
                    f"transform {column.transform} reads a column of a look-up that is not there: "
                    + str(error).partition("\n")[0],
                    where=name,
                    remedy="name one that it has in `with` or `uses`",
                ) from None
            if name in source.columns or column.written:
                outcome = _refusing_what_is_no_text(with_reads(rows, its_reads), outcome, local, inputs)
            reads |= its_reads if active else {}
        if column.only:
            outcome = _where(outcome, holds(column.only))
        values[f":{name}"] = outcome.value if active else pl.lit(None)
        if active:
            # A document that cannot be read says nothing of its fields.
            said = pl.col(UNREADABLE).is_null() if UNREADABLE in frame.columns else pl.lit(True)
            problems += [RowProblem(entry.when & said, entry.reason, label, entry.detail) for entry in outcome.problems]
            coercions += [(label, entry) for entry in outcome.coercions]
    hits = {HIT: _any_of(problems)} | {
        f"{HIT}{number}": entry.when.fill_null(False) for number, (_, entry) in enumerate(coercions)
    }
    counted = {
        f"{TIMES}{number}": entry.values.fill_null(0)
        for number, (_, entry) in enumerate(coercions)
        if entry.values is not None
    }
    # Together, so that what a value and its problems have in common is read once; and in memory, where texts are
    # shared: the streaming engine would copy large ones.
    rows = with_reads(rows, reads).with_columns(made.alias(name) for name, made in (values | hits | counted).items())
    mapped = rows.collect(engine="in-memory")
    hit, *coerced = (mapped.get_column(name) for name in hits)
    times = {int(name.removeprefix(TIMES)): mapped.get_column(name) for name in counted}
    mapped = mapped.drop(*hits, *counted)
    if "_problems" not in mapped.columns:
        mapped = mapped.with_columns(NO_PROBLEMS.alias("_problems"))
    mapped = _with_listed(mapped, hit, problems)
    kinds = [(label, entry.kind) for label, entry in coercions]
    return _with_coercions(mapped.drop(reads), coerced, kinds, times).drop(joined)


def _require_shaped(frame: pl.DataFrame, name: str, column: ColumnMapping) -> None:
    """ConfigurationError where a column reads what no shape function makes: only its rows show what it makes."""
    for part in column.input:
        if part not in frame.columns:
            made = [each for each in frame.columns if not each.startswith("_")]
            raise ConfigurationError(
                f"the mapping of {name!r} reads {part!r}, which is no legacy column and nothing that a function made",
                remedy=suggestion(part, made),
            )


def _where(outcome: Outcome, when: pl.Expr) -> Outcome:
    """The outcome of the rows for which that holds; of others it is NULL, with nothing wrong and nothing to count."""
    return Outcome(
        pl.when(when).then(outcome.value),
        tuple(replace(problem, when=problem.when & when) for problem in outcome.problems),
        tuple(replace(coercion, when=coercion.when & when) for coercion in outcome.coercions),
    )


def _with_coercions(
    frame: pl.DataFrame,
    hits: Sequence[pl.Series],
    kinds: Sequence[tuple[str, str]],
    times: Mapping[int, pl.Series],
) -> pl.DataFrame:
    """The frame with `_coercions`: a kind for each legacy value that is coerced so, however many columns read it.

    `kinds` has the label of the value and the kind for each of the `hits`; `times`, by their number, how many values of
    an array are coerced so where it is an array's.
    """
    frame = frame.with_columns(pl.lit([], dtype=pl.List(pl.String)).alias("_coercions"))
    named = [
        (hit, f"{kind}{OF_VALUE}{label}", times.get(number))
        for number, (hit, (label, kind)) in enumerate(zip(hits, kinds, strict=True))
        if hit.any()
    ]
    if not named:
        return frame
    told = pl.concat_list(pl.when(pl.col(str(n))).then(pl.lit(name)) for n, (_, name, _) in enumerate(named))
    told = told.list.drop_nulls().list.unique(maintain_order=True)
    marks = [hit.alias(str(number)) for number, (hit, _, _) in enumerate(named)]
    several = [(number, name, times) for number, (_, name, times) in enumerate(named) if times is not None]
    if several:
        again = [
            pl.lit(name).repeat_by(pl.when(pl.col(str(n))).then(pl.col(f"{TIMES}{n}") - 1).otherwise(0))
            for n, name, _ in several
        ]
        told = pl.concat_list(told, *again)
    kind = pl.element().str.split_exact(OF_VALUE, 1).struct.field("field_0")
    listed = (
        pl.DataFrame([*marks, *(times.alias(f"{TIMES}{number}") for number, _, times in several)])
        .with_row_index("_position")
        .filter(pl.any_horizontal(str(number) for number in range(len(named))))
        .select("_position", told.list.eval(kind).alias("_more"))
    )
    return _updated(frame, listed, "_coercions")


def _constant(column: ColumnMapping) -> pl.Expr:
    if column.type == "timestamptz" and isinstance(column.constant, str):
        return pl.lit(datetime.fromisoformat(column.constant).astimezone(UTC)).cast(polars_type("timestamptz"))
    return pl.lit(column.constant, polars_type(column.type) if column.type else None)


def _look_up(
    frame: pl.LazyFrame, name: str, column: ColumnMapping, source: pl.Expr, context: TransformContext
) -> tuple[pl.LazyFrame, Outcome, list[str]]:
    """Joins what a crosswalk or a value map gives for a column; its temporary columns are named to be dropped."""
    key, found, listed = f"_key:{name}", f"_found:{name}", f"_listed:{name}"
    if column.crosswalk:
        reason, coercion = "orphan_reference", f"{column.crosswalk}_not_found"
        entries = context.crosswalks[column.crosswalk].select(
            pl.col("source_id").alias(key), pl.col("target_id").alias(found)
        )
        detail = pl.format("{} has no match in the crosswalk " + column.crosswalk, shown(source))
        keyed = context.canonical_id(column.crosswalk, source)
    else:
        assert column.value_map is not None
        assert column.output is not None
        reason, coercion = "unmapped_value", f"{column.value_map}_not_listed"
        table = context.value_maps[column.value_map]
        keys = pl.col(table.columns[0])
        listed_key, keyed = (keys, source) if column.exact else (code(keys), code(source))
        entries = table.lazy().select(listed_key.alias(key), pl.col(column.output).alias(found))
        detail = pl.format("{} is not listed in " + column.value_map + ".csv", shown(source))
    entries = entries.with_columns((pl.col(found).is_not_null() if column.crosswalk else pl.lit(True)).alias(listed))
    frame = frame.with_columns(keyed.alias(key)).join(entries, on=key, how="left", maintain_order="left")
    is_missing = pl.col(listed).fill_null(False).not_()
    value = pl.col(found)
    if column.allow_null or column.missing != "reject":
        is_missing &= source.is_not_null()
    problems: tuple[Problem, ...] = ()
    coercions: tuple[Coercion, ...] = ()
    if column.missing == "reject":
        problems = (Problem(reason, is_missing, detail),)
    elif column.missing == "null":
        coercions = (Coercion(coercion, is_missing),)
    else:
        value = pl.coalesce(value, source)
    return frame, Outcome(value, problems, coercions), [key, found, listed]


def listed_value(text: pl.Expr, value_map: pl.DataFrame, output: str) -> pl.Expr:
    """What a value map lists for a text, for functions that cannot wait until the columns are made; else null."""
    keys, values = value_map.select(code(pl.nth(0))).to_series(), value_map[output]
    return code(text).replace_strict(keys, values, default=None, return_dtype=values.dtype)


def _refusing_what_is_no_text(
    frame: pl.LazyFrame, outcome: Outcome, legacy: list[str], inputs: list[pl.Expr]
) -> Outcome:
    """A value that would be written as text must be text: without a NUL, and readable in the table's encoding."""
    if outcome.takes_any_bytes:
        return outcome
    if frame.clear().select(outcome.value.alias("value")).collect_schema()["value"] != pl.String:
        return outcome
    return Outcome(
        outcome.value,
        (*outcome.problems, *no_text(legacy, inputs)),
        outcome.coercions,
    )


def no_text(legacy: Sequence[str], inputs: Iterable[pl.Expr]) -> tuple[Problem, Problem]:
    """What keeps values of legacy columns from being written as text; `inputs` are what is read of them."""
    has_nul = pl.any_horizontal(source.str.contains("\x00", literal=True).fill_null(False) for source in inputs)
    undecodable = pl.col("_undecodable").list.eval(pl.element().struct.field("column").is_in(legacy)).list.any()
    return (
        Problem("unparseable", has_nul, "holds a NUL, which PostgreSQL cannot hold"),
        Problem("unparseable", undecodable, "holds bytes that are no text in the table's encoding"),
    )
