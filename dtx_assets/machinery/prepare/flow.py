"""Runs mapping files: from the rows of one batch to prepared, rejected and dropped rows, as each file says.

`parts` makes the parts of one source; here they are judged by what the target takes and beside one another, merged,
numbered and linked. The `Flow` that runs this is made by `derived`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import polars as pl

from dtx_assets.machinery.base.errors import ConfigurationError, StructureError
from dtx_assets.machinery.mapping.conditions import is_active
from dtx_assets.machinery.mapping.execute import PROBLEM
from dtx_assets.machinery.mapping.model import SourceMapping
from dtx_assets.machinery.mapping.places import told_where
from dtx_assets.machinery.mapping.provenance import OF
from dtx_assets.machinery.model.target import TargetColumn, TargetTable, polars_type
from dtx_assets.machinery.model.types import ColumnType
from dtx_assets.machinery.postgres.ddl import LiveTarget
from dtx_assets.machinery.prepare.assess import (
    LINKS_SCHEMA,
    add_schema_problems,
    finish_source,
    is_sound,
    link_rows,
    rejected_rows,
    settle_duplicates,
)
from dtx_assets.machinery.prepare.contests import (
    judged_by_existing,
    those_that_count,
    with_rows_to_add_to,
    without_taken,
)
from dtx_assets.machinery.prepare.fitting import fitted
from dtx_assets.machinery.prepare.parts import (
    SourceParts,
    call,
    made_or_legacy,
    parent_was_rejected,
    source_parts,
)
from dtx_assets.machinery.prepare.schemas import schema_failures, target_schema
from dtx_assets.machinery.system.flow import FlowInputs, Outcome, Prepared

FILE_FACTS = ("_path", "_size", "_content_type")
"""What sending a file takes, besides the columns that a target names for it."""


def mapping_run(models: Sequence[str]) -> Callable[[FlowInputs], Outcome]:
    """What the flow of some mapping files runs; a parent stands before its children."""
    return partial(_run, tuple(models))


def _run(models: Sequence[str], inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    for model in models:
        _ModelRun(outcome, inputs, model).run()
    return outcome


def _types(target: TargetTable, live: LiveTarget | None) -> dict[str, ColumnType]:
    """The types of the target's columns as they are live, of those not known as they are declared."""
    declared = {column.name: column.kind for column in target.columns}
    return declared | {name: column.kind for name, column in (live.columns.items() if live else ())}


def _held(target: TargetTable, live: LiveTarget | None) -> dict[str, TargetColumn]:
    """The target's columns as they are live, those not known as they are declared."""
    columns = live.columns if live else {}
    return {
        column.name: columns[column.name].as_declared(column) if column.name in columns else column
        for column in target.columns
    }


class _ModelRun:
    """Makes the rows of one target model from one batch."""

    def __init__(self, outcome: Outcome, inputs: FlowInputs, model: str) -> None:
        self.outcome, self.model = outcome, model
        self.mapping = inputs.system.mappings.for_target(model)
        self.target = inputs.system.target(model)
        self.columns = self.target.columns_under(inputs.context.decisions)
        live = inputs.live.get(model)
        context = replace(inputs.context, columns=_types(self.target, live), held=_held(self.target, live))
        self.inputs = replace(inputs, context=context)
        chosen = inputs.context.decisions
        self.sources = {
            name: entry
            for name, entry in self.mapping.sources.items()
            if is_active(entry.when, chosen) and not entry.only_read
        }
        self.migrated: dict[str, pl.DataFrame] = {}

    def run(self) -> None:
        merge = next(((name, entry) for name, entry in self.sources.items() if entry.merge), None)
        for source in self.sources:
            with told_where(self.inputs.system.mappings, self.model, "sources", source):
                self._run_source(source, is_merged=merge is not None)
        with told_where(self.inputs.system.mappings, self.model, "sources", *(merge[:1] if merge else ())):
            if any(entry.united for entry in self.sources.values()):
                self.outcome.prepared[self.model] = self._to_be_united()
            else:
                self.outcome.prepared[self.model] = self._merged(*merge) if merge else self._as_they_are()

    def _run_source(self, source: str, *, is_merged: bool) -> None:
        """Makes, judges and books what one source gives."""
        inputs = replace(self.inputs, migrated=dict(self.migrated))
        made = source_parts(self.outcome, inputs, self.model, self.mapping, source)
        if made.entry.added_to:
            made.rows = with_rows_to_add_to(made, self.target, self.migrated)
        if not is_merged:
            # What is merged is judged as one: by the live target, and by the load.
            self._reject_what_does_not_fit(made)
        made.parts = _marked(made)
        if made.entry.duplicates or not is_merged:
            made.parts = self._settled(made)
        if made.entry.taken_by:
            made.parts = without_taken(made, self.target, self.migrated)
        for pairs in (judged_by_existing(made, self.target, self.inputs), those_that_count(made, self.inputs)):
            if pairs is not None:
                self.outcome.stands_for.setdefault(self.model, []).append(pairs)
        self.outcome.made[self.model, source] = made.parts
        self.migrated[source] = self._booked(made)

    # --- what the target takes ----------------------------------------------------------------------------------------

    def _written(self, parts: pl.DataFrame) -> list[pl.Expr]:
        """The target columns of parts; what no source makes stays out where rows are updated, and is NULL else."""
        return [
            (pl.col(f":{column.name}") if f":{column.name}" in parts.columns else pl.lit(None))
            .cast(polars_type(column.type))
            .alias(column.name)
            for column in self.columns
            if f":{column.name}" in parts.columns or self.target.writes == "insert"
        ]

    def _select(self, frame: pl.DataFrame, columns: Sequence[pl.Expr | str]) -> pl.DataFrame:
        """The columns of a frame as the target has them; ConfigurationError where the mapping makes another type."""
        try:
            return frame.select(columns)
        except pl.exceptions.PolarsError as error:
            raise ConfigurationError(
                f"what the mapping makes is not of its column's type: {str(error).partition(chr(10))[0]}",
                where=self.model,
                remedy="name a transform that gives the type of the column, or a function that fills it",
            ) from error

    def _reject_what_does_not_fit(self, made: SourceParts) -> None:
        """A problem for what the declared or the live target does not take: of the part, where `rows` makes it."""
        sound = made.parts.filter(
            pl.col("_problems").list.len() == 0, pl.col("_row").is_in(_rows_where(made, is_sound()).implode())
        )
        # Constants alone would be one row.
        rows = self._select(sound, ["_unit", *self._written(sound)]).drop("_unit")
        failures = schema_failures(target_schema(self.target), rows)
        by = "_unit" if made.entry.rows else "_row"
        numbered = sound.select(by).with_row_index("index")
        failed = numbered.join(failures, on="index").drop("index")
        live = self.inputs.live.get(self.model)
        found = pl.DataFrame(schema={by: sound.schema[by], "_unfit": pl.List(PROBLEM)})
        if live:
            problem = pl.struct("reason", pl.lit("").alias("column"), "detail").alias("_unfit")
            printed, refused = fitted(rows.with_row_index("_row"), self.target, live.columns, live.connected)
            made.parts = _with_printed(made.parts, sound.select("_unit").hstack(printed.drop("_row")))
            found = numbered.join(refused, left_on="index", right_on="_row").group_by(by).agg(problem.unique())
        frame = made.parts if made.entry.rows else made.rows
        frame = _with_more_problems(add_schema_problems(frame, failed, by), found, by)
        frame = _with_more_problems(frame, self._too_long_besides(made, by), by)
        if made.entry.rows:
            made.parts = frame
        else:
            made.rows = frame

    def _too_long_besides(self, made: SourceParts, by: str) -> pl.DataFrame:
        """Which texts are too long of parts that are rejected for something else: `by`, `_unfit`."""
        live = self.inputs.live.get(self.model)
        goes_on = pl.col("_rule").is_null()
        if self.mapping.parent:
            goes_on &= ~parent_was_rejected()
        if made.entry.rows:
            alone = pl.col("_problems").list.len() > 0
            unsound, going_on = (_rows_where(made, goes_on & which).implode() for which in (~is_sound(), pl.lit(True)))
            wrong = made.parts.filter(
                pl.col("_row").is_in(unsound) | (alone & pl.col("_row").is_in(going_on)),
            )
        else:
            wrong = made.rows.filter(goes_on & ~is_sound())
        limits = {
            column.name: live.columns[column.name].max_length
            if live and column.name in live.columns
            else column.longest
            for column in self.columns
            if column.kind.is_text and f":{column.name}" in wrong.columns
        }
        # Bytes that are no text have no number of characters.
        found = [
            wrong.filter(
                pl.col(f":{name}").cast(pl.String).str.len_chars() > limit, self._undecodable(made, name).not_()
            ).select(
                by,
                pl.struct(
                    pl.lit("schema_violation").alias("reason"),
                    pl.lit("").alias("column"),
                    pl.lit(f"{name}: is longer than {limit} characters").alias("detail"),
                ).alias("_unfit"),
            )
            for name, limit in limits.items()
            if limit is not None
        ]
        empty = pl.DataFrame(schema={by: wrong.schema[by], "_unfit": PROBLEM})
        return pl.concat([empty, *found], how="vertical_relaxed").group_by(by).agg(pl.col("_unfit").unique())

    def _undecodable(self, made: SourceParts, name: str) -> pl.Expr:
        """Whether a legacy value that a column is made from is no text in its table's encoding."""
        read = {part for made_as, column in made.entry.made if made_as == name for part in column.from_}
        named = pl.col("_undecodable").list.eval(pl.element().struct.field("column").is_in(read))
        return named.list.any().fill_null(False)

    # --- beside one another -------------------------------------------------------------------------------------------

    def _settled(self, made: SourceParts) -> pl.DataFrame:
        """The parts with a `duplicate_key` for those that do not count."""
        parts, spec = made.parts, made.entry.duplicates
        if spec:
            key = [f":{name}" for name in spec.key]
            order = [made_or_legacy(self.inputs, made.source, parts, name) for name in spec.order]
            return settle_duplicates(parts, key, order, spec.column, spec.detail, "_unit", names_winner=True)
        key = [f":{name}" for name in self.target.natural_key]
        if self.target.writes != "insert" or not key or not set(key) <= set(parts.columns):
            return parts
        if not self.target.nulls_equal:
            # As in the target's unique index: a NULL equals no other.
            alone = pl.when(pl.any_horizontal(pl.col(name).is_null() for name in key)).then("_unit")
            parts, key = parts.with_columns(alone.alias("_alone")), [*key, "_alone"]
        named = ", ".join(self.target.natural_key)
        detail = "a later row gives the same row of the target; it counts"
        return settle_duplicates(parts, key, [], named, detail, "_unit").drop("_alone", strict=False)

    # --- the books ----------------------------------------------------------------------------------------------------

    def _booked(self, made: SourceParts) -> pl.DataFrame:
        """Books the rows of a source; gives the parts that are written. Rejected parts of migrated rows are listed."""
        sound = made.parts.filter(is_sound())
        rows, wrong = made.rows, made.parts.filter(pl.col("_problems").list.len() > 0)
        if not made.entry.counted:
            if wrong.height:
                self._list_parts(made.source, wrong.filter(pl.col("_rule").is_null()))
            # Another model accounts for the rows, and knows nothing of what this target cannot hold.
            gave_parts = pl.col("_row").is_in(made.parts["_row"].unique().implode())
            unfit = rows.filter(gave_parts, pl.col("_rule").is_null(), pl.col("_problems").list.len() > 0)
            if unfit.height:
                self._list_partial(made.source, unfit)
            return sound
        if wrong.height:
            none_left = pl.col("_row").is_in(sound["_row"].unique().implode()).not_()
            if made.entry.rows:
                silent = parent_was_rejected() if self.mapping.parent else pl.lit(False)
                none_left &= ~silent
            else:
                none_left &= is_sound()
            # Where no part is written, what is wrong with each of them is why.
            without = rows.filter(none_left & pl.col("_rule").is_null()).select("_row")
            told = _with_part_told(wrong) if made.entry.rows else wrong
            reasons = told.join(without, on="_row", how="semi", maintain_order="left")
            more = (
                reasons.select("_row", "_problems")
                .explode("_problems")
                .group_by("_row", maintain_order=True)
                .agg(pl.col("_problems").alias("_unfit"))
            )
            rows = _with_more_problems(rows, more, "_row")
        if made.entry.rows or made.entry.expand:
            rows = _with_coercions(rows, sound)
        migrated = finish_source(self.outcome, self.inputs, made.source, self.model, rows).select("_row")
        partial_rows = wrong.join(migrated, on="_row", how="semi", maintain_order="left")
        if partial_rows.height:
            self._list_parts(made.source, partial_rows)
        return sound.filter(pl.col("_row").is_in(migrated.get_column("_row").implode()))

    def _list_parts(self, source: str, parts: pl.DataFrame) -> None:
        """Lists parts of rows that are migrated otherwise."""
        self._list_partial(source, _with_part_told(parts))

    def _list_partial(self, source: str, told: pl.DataFrame) -> None:
        whole = told.select("_row", "_problems").join(self.inputs.legacy[source], on="_row", maintain_order="left")
        self.outcome.reject(self.model, rejected_rows(self.inputs, source, whole, partial=True))

    # --- rows of the target -------------------------------------------------------------------------------------------

    def _identity(self) -> list[str]:
        """The made columns that tell the rows of the target apart."""
        helper = next((entry.id for entry in self.sources.values() if entry.id), None)
        return [f":{helper}"] if helper else [f":{name}" for name in self.target.natural_key]

    def _extra(self, frame: pl.DataFrame) -> list[str]:
        """What is prepared beside the columns of the target: of files, and what is held back until the activation."""
        wanted = FILE_FACTS if self.target.file_columns else ()
        held = f"_{self.target.held_column}"
        return [*wanted, *([held] if self.target.held_column and held in frame.columns else [])]

    def _selected(self, frame: pl.DataFrame, entry: SourceMapping) -> list[pl.Expr]:
        ids = [pl.col(f":{entry.id}").alias("id")] if entry.id else []
        return [*ids, *self._written(frame), *(pl.col(name) for name in self._extra(frame))]

    def _as_they_are(self) -> Prepared:
        """Each part is a row of the target."""
        made = []
        for source, parts in self.migrated.items():
            facts = (pl.lit(source).alias("_source"), "_source_key", pl.col("_row").alias("_source_row"), "_bucket")
            made.append(self._select(parts, [*facts, "_part", *self._selected(parts, self.sources[source])]))
        rows = pl.concat(made, how="diagonal_relaxed")
        if "id" in rows.columns:
            rows = rows.sort("id", "_part", maintain_order=True)
        rows = rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"))
        # Parts that are not merged were looked at one by one, with the live target where it is known.
        prepared = rows.select("_row", pl.exclude("_row", *LINKING))
        return Prepared(prepared, self._links(rows), is_fitted=self.model in self.inputs.live)

    def _merged(self, source: str, entry: SourceMapping) -> Prepared:
        """The parts that go to one row of the target are made one by the function that the mapping names."""
        parts = pl.concat(
            [
                parts.select("_row", "_unit", "_source_key", "_bucket", "_part", "^:.*$").with_columns(
                    pl.lit(name).alias("_source")
                )
                for name, parts in self.migrated.items()
            ],
            how="diagonal_relaxed",
        )
        key = self._identity()
        merged = call(self.inputs, self.model, source, "merge", parts)
        rows = merged.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_target_row"))
        pairs = parts.join(
            rows.select(*key, "_target_row"), on=key, how="left", nulls_equal=True, maintain_order="left"
        )
        if pairs.height != parts.height or pairs["_target_row"].null_count() or rows.height > parts.height:
            raise StructureError(
                f"{entry.merge} does not give one row for each {', '.join(name[1:] for name in key)}",
                where=f"{self.model}, {source}",
                remedy="let it group its rows by that and keep it",
            )
        if self.inputs.is_traced:
            named = pairs.select("_source", "_source_key", "_part", "_target_row")
            self.outcome.merged[self.model] = named.join(rows.select("_target_row", f"^{OF}.*$"), on="_target_row")
        pairs = pairs.rename({"_row": "_source_row", "_target_row": "_row"})
        prepared = self._select(rows, [pl.col("_target_row").alias("_row"), *self._selected(rows, entry)])
        return Prepared(prepared, self._links(pairs))

    def _to_be_united(self) -> Prepared:
        """The parts that go to rows of the target which others of other batches may go to as well."""
        [(source, entry)] = self.sources.items()
        assert entry.united
        parts = self.migrated[source]
        orders = [
            made_or_legacy(self.inputs, source, parts, name).alias(f"{ORDER}{name}") for name in entry.united.order
        ]
        facts = ("_source_key", pl.col("_row").alias("_source_row"), "_bucket", "_part")
        rows = self._select(parts, [*self._selected(parts, entry), *orders, *facts])
        return Prepared(rows, pl.DataFrame(schema=LINKS_SCHEMA), is_fitted=self.model in self.inputs.live)

    def _links(self, pairs: pl.DataFrame) -> pl.DataFrame:
        return pl.concat(link_rows(source, pairs.filter(pl.col("_source") == source)) for source in self.migrated)


ORDER = "_order:"
"""What begins the names of columns that sort rows which are united."""


def united(source: str, key: Sequence[str], candidates: pl.DataFrame) -> Prepared:
    """One row a key of all batches, with the values of the last candidate; each candidate links to it."""
    orders = [name for name in candidates.columns if name.startswith(ORDER)]
    values = [name for name in candidates.columns if not name.startswith("_") and name not in key]
    ordered = candidates.sort(*key, *orders, maintain_order=True)
    rows = (
        ordered.group_by(key, maintain_order=True)
        .agg(pl.col(values).last())
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"))
    )
    pairs = ordered.join(rows.select(*key, "_row"), on=key, nulls_equal=True, maintain_order="left")
    return Prepared(rows.select("_row", *key, *values), link_rows(source, pairs.sort("_source_row", *key)))


LINKING = ("_source", "_source_key", "_source_row", "_bucket", "_part")


def _with_printed(parts: pl.DataFrame, printed: pl.DataFrame) -> pl.DataFrame:
    """The parts with the texts that the live target prints for their values, so that equal ones are equal texts."""
    texts = [name for name, kind in printed.schema.items() if kind == pl.String and f":{name}" in parts.columns]
    if not texts:
        return parts
    joined = parts.join(
        printed.select("_unit", *(pl.col(name).alias(f"_printed:{name}") for name in texts)),
        on="_unit",
        how="left",
        maintain_order="left",
    )
    return joined.with_columns(pl.coalesce(f"_printed:{name}", f":{name}").alias(f":{name}") for name in texts).drop(
        f"_printed:{name}" for name in texts
    )


def _rows_where(made: SourceParts, which: pl.Expr) -> pl.Series:
    """The numbers of those rows. Nothing else of them is copied."""
    return made.rows.select(pl.col("_row").filter(which)).to_series()


def _marked(made: SourceParts) -> pl.DataFrame:
    """The parts with a `_rule` on those whose row is rejected or dropped: they are no longer sound."""
    sound = _rows_where(made, is_sound()).implode()
    gone = pl.when(pl.col("_row").is_in(sound).not_()).then(pl.lit("its row is not migrated"))
    return made.parts.with_columns(gone.alias("_rule"))


def _with_more_problems(frame: pl.DataFrame, more: pl.DataFrame, by: str) -> pl.DataFrame:
    """`_problems` with those of `more` (`by`, `_unfit`) behind them."""
    if more.is_empty():
        return frame
    joined = frame.join(more, on=by, how="left", maintain_order="left")
    both = pl.concat_list("_problems", "_unfit")
    return joined.with_columns(pl.when(pl.col("_unfit").is_null()).then("_problems").otherwise(both)).drop("_unfit")


def _with_part_told(parts: pl.DataFrame) -> pl.DataFrame:
    """The parts with their name in front of what is wrong with them, where they have one."""
    problem = pl.col("_problems").struct
    named = (pl.col("_part") != "").fill_null(False)
    where = (
        pl.when(problem.field("column") != "").then(pl.format("{}: ", problem.field("column"))).otherwise(pl.lit(""))
    )
    detail = pl.when(named).then(pl.format("{}{}", where, problem.field("detail"))).otherwise(problem.field("detail"))
    column = pl.when(named).then(pl.col("_part")).otherwise(problem.field("column"))
    told = parts.select("_unit", "_part", "_problems").explode("_problems")
    told = told.select(
        "_unit", pl.struct(problem.field("reason"), column.alias("column"), detail.alias("detail")).alias("_problems")
    )
    return parts.drop("_problems").join(told.group_by("_unit").agg("_problems"), on="_unit", maintain_order="left")


def _with_coercions(rows: pl.DataFrame, parts: pl.DataFrame) -> pl.DataFrame:
    """`_coercions` with those of the parts that are written behind the row's own."""
    more = (
        parts.select("_row", "_coercions")
        .explode("_coercions", empty_as_null=False, keep_nulls=False)
        .group_by("_row")
        .agg(pl.col("_coercions").alias("_more"))
    )
    if more.is_empty():
        return rows
    joined = rows.join(more, on="_row", how="left", maintain_order="left")
    both = pl.concat_list("_coercions", "_more")
    return joined.with_columns(pl.when(pl.col("_more").is_null()).then("_coercions").otherwise(both)).drop("_more")
