"""Asset checks: what one is, and the evaluators that any system can use. No table of a system, no Dagster.

All checks of one asset are a `CheckGroup`: they are evaluated together, in as few passes over the rows as they need,
and streamed, so that a table of many million rows is checked in little memory. What they show is masked where it is
personal; keys, reasons and counts are not.

Checks of an asset look at what that asset holds: a legacy table at the source, a crosswalk at itself and the target, a
prepared model at what becomes of the rows, a target at the decisions it depends on. So a table that cannot be read
takes no more checks with it than it must.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import polars as pl

from dtx_assets.machinery.errors import StructureError
from dtx_assets.machinery.lake import Lake, Manifest
from dtx_assets.machinery.legacy import ColumnKind, LegacyTable
from dtx_assets.machinery.mapping.decisions import Decision, Decisions
from dtx_assets.machinery.mapping_assets import MappingAsset
from dtx_assets.machinery.masking import mask, plain
from dtx_assets.machinery.names import dagster_name
from dtx_assets.machinery.prepare import Flow
from dtx_assets.machinery.settings import Settings
from dtx_assets.machinery.sources.frames import legacy_frame, source_key
from dtx_assets.machinery.system import System
from dtx_assets.machinery.transforms import canonical_id, canonical_integer, code, kind_of_ids

Severity = Literal["ERROR", "WARN"]
DatasetName = tuple[str, str]
"""Layer and name of an asset; the system goes without saying."""

EXAMPLES = 5
VALUES_SHOWN = 50
COERCION_THRESHOLD = 0.01
"""Share of the migrated rows of a source that may be coerced in one way before a check warns."""


@dataclass(frozen=True)
class CheckSpec:
    """One check of one asset. Its name says what holds when it passes.

    `blocking` closes the gate of a cutover's load while the check fails at ERROR; `structure` also stops what is
    downstream in the same run.
    """

    name: str
    asset: DatasetName
    description: str
    severity: Severity = "WARN"
    blocking: bool = False
    structure: bool = False

    @property
    def closes_gate(self) -> bool:
        return self.blocking or self.structure


@dataclass
class CheckOutcome:
    """What a check found: `count` findings, and facts about them that can be written as JSON.

    `severity` takes the place of the specification's where it depends on what was found.
    """

    passed: bool
    count: int
    metadata: dict[str, Any] = field(default_factory=dict)
    severity: Severity | None = None


@dataclass(frozen=True)
class CheckGroup:
    """The checks of one asset. `evaluate` gives the outcome of each by name; `needs` are all datasets it reads."""

    asset: DatasetName
    specs: tuple[CheckSpec, ...]
    evaluate: "Callable[[CheckContext], dict[str, CheckOutcome]]"
    needs: tuple[DatasetName, ...]


@dataclass
class CheckContext:
    """What checks look at: the lake, the declarations, and what the run was told."""

    lake: Lake
    system: System
    decisions: Decisions
    value_maps: Mapping[str, pl.DataFrame]
    settings: Settings

    def manifest(self, layer: str, name: str) -> Manifest:
        """The manifest of a dataset; StructureError where it was not materialised."""
        return self.lake.require((self.system.name, layer, name))

    def legacy(self, name: str) -> pl.LazyFrame:
        """The rows of a legacy table or crosswalk as flows see them, with `_row` and `_source_key`.

        A key that repeats comes without the ordinal that tells its rows apart: to number them takes the whole table.
        """
        layer, table = declared_table(self.system, name)
        frame = legacy_frame(self.lake, self.system.name, table, layer=layer)
        return source_key(replace(table, key_repeats=False), frame)

    def mapping(self, name: str) -> pl.LazyFrame:
        return self.lake.scan((self.system.name, "mapping", name))

    def prepared(self, model: str) -> pl.LazyFrame:
        return self.lake.scan((self.system.name, "prepared", model))

    def links(self, model: str) -> pl.LazyFrame:
        return self.lake.scan((self.system.name, "prepared", model), "links")

    def rejected(self, model: str) -> pl.LazyFrame:
        return self.lake.scan((self.system.name, "rejected", model))


def declared_table(system: System, name: str) -> tuple[str, LegacyTable]:
    """The layer a table is landed in, and its declaration."""
    if name in system.crosswalk_tables:
        return "crosswalk", system.crosswalk_tables[name]
    return "legacy", system.legacy_tables[name]


def joined_checks(*groups: CheckGroup) -> CheckGroup:
    """One group with the checks of several of the same asset."""
    asset = groups[0].asset
    specs = tuple(spec for group in groups for spec in group.specs)
    names = [spec.name for spec in specs]
    if any(group.asset != asset for group in groups) or len(set(names)) < len(names):
        raise ValueError(f"the checks of {'/'.join(asset)} are not of one asset, or two have the same name")

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        return {name: outcome for group in groups for name, outcome in group.evaluate(context).items()}

    return CheckGroup(asset, specs, evaluate, tuple(dict.fromkeys(need for group in groups for need in group.needs)))


def one_group_an_asset(groups: Iterable[CheckGroup]) -> tuple[CheckGroup, ...]:
    """The groups with those of the same asset joined, in the order in which assets first come."""
    by_asset: dict[DatasetName, list[CheckGroup]] = {}
    for group in groups:
        by_asset.setdefault(group.asset, []).append(group)
    return tuple(joined_checks(*same) for same in by_asset.values())


def standard_check_groups(
    system: System, irrelevant_decisions: Callable[[Decisions], Collection[str]] = lambda _: ()
) -> list[CheckGroup]:
    """The checks that the declarations of any system call for: of what is landed, crosswalks, flows and decisions.

    `irrelevant_decisions` gives those that make no difference under what else was chosen.
    """
    read = system.read_tables
    return [
        *(landed_table_checks(table, migrated=name in read) for name, table in system.legacy_tables.items()),
        *(landed_table_checks(table, "crosswalk") for table in system.crosswalk_tables.values()),
        *(landed_crosswalk_checks(table) for table in system.crosswalk_tables.values()),
        *(
            crosswalk_checks(asset, users)
            for asset in system.mapping_assets
            if asset.kind == "crosswalk" and (users := crosswalk_users(system, asset.name))
        ),
        *(group for flow in system.flows for group in flow_checks(flow)),
        *(
            decision_checks(target.model, irrelevant_decisions, concerned_by=deciding_feeds(system, target.model))
            for target in system.filled_targets
        ),
        *(
            archived_by_decision_checks(decision.key)
            for decision in system.decisions.entries
            if decision.key in system.legacy_tables and decision.key not in read
        ),
    ]


def deciding_feeds(system: System, model: str) -> Collection[str]:
    """The decision that a feed is under: a file adds a model, and the decisions do not list it."""
    return (system.feeds.decision,) if system.feeds and system.feeds.of_model(model) else ()


def found(count: int, **metadata: Any) -> CheckOutcome:
    """The outcome of a check that passes where nothing is found."""
    return CheckOutcome(count == 0, count, metadata)


# --- looking at rows --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """The rows that a question found: how many, and up to five masked examples with their keys."""

    count: int
    examples: list[dict[str, str]]

    def outcome(self, **metadata: Any) -> CheckOutcome:
        """Passes where no row was found."""
        return found(self.count, **metadata, **({"examples": self.examples} if self.examples else {}))


@dataclass(frozen=True)
class Answers:
    """What a survey found, by the name of the question: `rows`, and `values` as frames of `value` and `rows`."""

    total: int
    rows: dict[str, Rows]
    values: dict[str, pl.DataFrame]


class Survey:
    """Questions about the rows of one table, counted in one streamed pass; rows that are found are looked at again.

    `personal` are the columns whose values are masked in examples.
    """

    def __init__(self, frame: pl.LazyFrame, *, personal: Collection[str] = (), key: str = "_source_key") -> None:
        self.frame = frame
        self.personal = personal
        self.key = key
        self._whens: dict[str, pl.Expr] = {}
        self._shown: dict[str, list[pl.Expr]] = {}
        self._values: dict[str, pl.LazyFrame] = {}
        self._values_of_rows: dict[str, pl.Expr] = {}

    def count(self, name: str, when: pl.Expr) -> None:
        """Asks how many rows `when` holds for."""
        self._whens[name] = when.fill_null(False)

    def rows(
        self, name: str, when: pl.Expr, *, show: Sequence[str | pl.Expr] = (), value: pl.Expr | None = None
    ) -> None:
        """Asks which rows `when` holds for; `show` is shown of the examples, beside the key.

        `value` asks how often each distinct value occurs in them, NULL included; of a list, each of its elements.
        """
        self.count(name, when)
        self._shown[name] = [pl.col(column) if isinstance(column, str) else column for column in show]
        if value is not None:
            self._values_of_rows[name] = value

    def values(self, name: str, value: pl.Expr) -> None:
        """Asks how often each distinct value occurs in all rows, NULL included; of a list, each of its elements."""
        self._values[name] = tally(self.frame.select(value.alias("value")))

    def answers(self) -> Answers:
        counting = self.frame.select(
            pl.len().alias("total"), *(when.sum().alias(f"of {name}") for name, when in self._whens.items())
        )
        counts, *tallies = collected([counting, *self._values.values()])
        numbers = counts.row(0, named=True)
        found_rows = [name for name in self._shown if numbers[f"of {name}"]]
        tallied = [name for name in self._values_of_rows if numbers[f"of {name}"]]
        looked_at = collected(
            [self._example(name) for name in found_rows]
            + [
                tally(self.frame.filter(self._whens[name]).select(self._values_of_rows[name].alias("value")))
                for name in tallied
            ]
        )
        examples = dict(zip(found_rows, looked_at[: len(found_rows)], strict=True))
        return Answers(
            numbers["total"],
            {
                name: Rows(
                    numbers[f"of {name}"] or 0, masked_rows(examples[name], self.personal) if name in examples else []
                )
                for name in self._whens
            },
            {
                **dict(zip(self._values, tallies, strict=True)),
                **dict.fromkeys(self._values_of_rows, NO_VALUES),
                **dict(zip(tallied, looked_at[len(found_rows) :], strict=True)),
            },
        )

    def _example(self, name: str) -> pl.LazyFrame:
        shown = [column for column in self._shown[name] if column.meta.output_name() != "key"]
        return self.frame.filter(self._whens[name]).select(pl.col(self.key).alias("key"), *shown).head(EXAMPLES)


NO_VALUES = pl.DataFrame(schema={"value": pl.String, "rows": pl.get_index_type()})


def tally(values: pl.LazyFrame) -> pl.LazyFrame:
    """The distinct values of the column `value`, or the elements of its lists, with their number of `rows`."""
    if isinstance(values.collect_schema()["value"], pl.List):
        values = values.select(pl.col("value").list.unique()).explode("value", empty_as_null=False, keep_nulls=False)
    return values.group_by("value").len("rows").sort("rows", "value", descending=[True, False])


def collected(queries: Sequence[pl.LazyFrame]) -> list[pl.DataFrame]:
    """The results of several queries over the same rows.

    Each reads its own few columns: what Polars would share between them it keeps in memory whole.
    """
    if not queries:
        return []
    return pl.collect_all(queries, engine="streaming", optimizations=pl.QueryOptFlags(comm_subplan_elim=False))


def masked_rows(frame: pl.DataFrame, personal: Collection[str] = ()) -> list[dict[str, str]]:
    """Rows for people: values of `personal` columns masked, others cut short; the key is shown whole."""
    return [
        {
            name: str(value) if name == "key" else mask(value) if name in personal else plain(value)
            for name, value in row.items()
        }
        for row in frame.iter_rows(named=True)
    ]


def shown_values(values: pl.DataFrame) -> dict[str, int]:
    """The most frequent values of a tally, each with its number of rows; how many were left out where some were."""
    shown: dict[str, int] = {}
    for value, rows in values.head(VALUES_SHOWN).iter_rows():
        text = plain(value)
        shown[text] = shown.get(text, 0) + rows
    rest = values.slice(VALUES_SHOWN)
    if rest.height:
        shown[f"({rest.height} other values)"] = int(rest["rows"].sum())
    return shown


def listed(value: pl.Expr, names: pl.Series) -> pl.Expr:
    """Whether a text is in a list, compared as value maps are: trimmed and without case. NULL is not."""
    known = names.drop_nulls().str.strip_chars().str.to_lowercase().unique().to_list()
    return code(value).is_in(known).fill_null(False)


@dataclass(frozen=True)
class RepeatedKeys:
    """Keys that occur more than once: how many, how many rows are too many, and what those rows are.

    `identical` rows are wholly the same as another row of their key, `differing` ones are not.
    """

    keys: int
    identical: int
    differing: int
    examples: list[str]


def repeated_keys(frame: pl.LazyFrame, key: Sequence[pl.Expr], content: Sequence[str] | None = None) -> RepeatedKeys:
    """Looks for keys that occur more than once; a key with a NULL is none. `content` None: the key is all there is.

    Holds eight bytes a row: keys are compared by a 64-bit hash, and the rows of those that repeat are read again.
    """
    names = [f"key {position}" for position in range(len(key))]
    keyed = frame.with_columns(part.alias(name) for part, name in zip(key, names, strict=True))
    if content is not None:
        keyed = keyed.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in names))
    keyed = keyed.with_columns(pl.struct(names).hash().alias("key hash"))
    hashes = keyed.select("key hash").collect(engine="streaming")["key hash"].sort()
    again = hashes.filter(hashes == hashes.shift())
    doubled = again.unique()
    if doubled.is_empty():
        return RepeatedKeys(0, 0, 0, [])
    if content is None:
        return RepeatedKeys(doubled.len(), again.len(), 0, [])
    rows = (
        keyed.join(doubled.to_frame().lazy(), on="key hash", how="semi")
        .select("key hash", pl.struct(content).hash().alias("row hash"))
        .unique()
        .group_by("key hash")
        .len("contents")
        .collect(engine="streaming")
    )
    differing = int((rows["contents"] - 1).sum())
    telling = rows.filter(pl.col("contents") > 1) if differing else rows
    shown = telling.sort("contents", "key hash", descending=[True, False])["key hash"].head(EXAMPLES)
    examples = (
        keyed.filter(pl.col("key hash").is_in(shown.implode()))
        .select(pl.concat_str((pl.col(name).cast(pl.String) for name in names), separator=", ").alias("key"))
        .unique()
        .sort("key")
        .collect(engine="streaming")
    )
    return RepeatedKeys(doubled.len(), again.len() - differing, differing, examples["key"].to_list())


# --- any legacy table -------------------------------------------------------------------------------------------------


def landed_table_checks(table: LegacyTable, layer: str = "legacy", *, migrated: bool = False) -> CheckGroup:
    """What holds for every table that was landed; `migrated` where a flow reads it."""
    asset = (layer, table.name)
    specs = [
        CheckSpec(
            "row_count_equals_source",
            asset,
            "As many rows were landed as the source has.",
            "ERROR",
            blocking=True,
            structure=True,
        ),
        CheckSpec(
            "columns_are_as_planned",
            asset,
            "Schema drift: the columns the plan names are there, in its order, and as many in all as it says.",
        ),
        CheckSpec("values_are_text", asset, "Every value is text in the table's encoding; the lake keeps the bytes."),
        CheckSpec(
            "tables_did_not_change_while_read",
            asset,
            "All tables were read in one consistent snapshot, or none of them changed while they were read.",
            "ERROR",
        ),
        key_spec(asset, table, migrated),
    ]

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        manifest = context.manifest(layer, table.name)
        return {
            "row_count_equals_source": row_count_outcome(manifest),
            "columns_are_as_planned": schema_drift_outcome(table, manifest.metadata["columns"]),
            "values_are_text": undecodable_outcome(manifest, context.legacy(table.name)),
            "tables_did_not_change_while_read": snapshot_outcome(manifest),
            specs[-1].name: key_outcome(table, context.legacy(table.name)),
        }

    return CheckGroup(asset, tuple(specs), evaluate, (asset,))


def key_spec(asset: DatasetName, table: LegacyTable, migrated: bool) -> CheckSpec:
    if not table.key:
        return CheckSpec("rows_are_distinct", asset, "The table has no key; no row is wholly the same as another.")
    key = ", ".join(table.key)
    if table.key_repeats:
        return CheckSpec(
            "natural_key_is_unique", asset, f"Each ({key}) occurs once; rows that share one are told apart."
        )
    return CheckSpec(
        "natural_key_is_unique",
        asset,
        f"Each ({key}) occurs once and is not NULL. Identical rows are dropped; of others the last one counts.",
        "ERROR" if migrated else "WARN",
    )


def row_count_outcome(manifest: Manifest) -> CheckOutcome:
    """Compares the rows that were landed with what the source counted."""
    landed, counted = manifest.tables["rows"].rows, manifest.metadata["source_rows"]
    outcome = found(abs(landed - counted), landed=landed, source=counted)
    outcome.passed = outcome.passed and manifest.metadata.get("row_count_matches", True)
    return outcome


def schema_drift_outcome(table: LegacyTable, columns: Sequence[str]) -> CheckOutcome:
    """Compares the columns of the source with those the plan names and the number it says.

    Columns nobody named are listed; they are drift only where there are more of them than the plan's number leaves
    room for.
    """
    missing = [name for name in table.columns if name not in columns]
    unnamed = [name for name in columns if name not in table.columns]
    room = None if table.column_count is None else table.column_count - len(table.columns)
    surplus = 0 if room is None else max(0, len(unnamed) - room)
    lacking = 0 if room is None else max(0, room - len(unnamed))
    there = [name for name in columns if name in table.columns]
    planned = [name for name in table.columns if name in columns]
    reordered = [name for name, expected in zip(there, planned, strict=True) if name != expected]
    metadata: dict[str, Any] = {
        "columns": len(columns),
        "columns of the plan": table.column_count,
        "missing": missing,
        "not named in the plan": unnamed,
        "in another place": reordered,
    }
    if lacking:
        metadata["unnamed columns missing"] = lacking
    if surplus:
        metadata["more than the plan counts"] = surplus
    return found(len(missing) + len(reordered) + surplus + lacking, **metadata)


def undecodable_outcome(manifest: Manifest, frame: pl.LazyFrame) -> CheckOutcome:
    """Values whose bytes are not text, with the columns they are in."""
    values = manifest.metadata.get("undecodable_values") or 0
    if not values:
        return found(0)
    columns = pl.col("_undecodable").list.eval(pl.element().struct.field("column"))
    survey = Survey(frame)
    survey.rows("rows", columns.is_not_null(), show=(columns.list.join(", ").alias("columns"),), value=columns)
    answers = survey.answers()
    return found(values, columns=shown_values(answers.values["rows"]), examples=answers.rows["rows"].examples)


def snapshot_outcome(manifest: Manifest) -> CheckOutcome:
    changed = list(manifest.metadata.get("changed_while_read") or [])
    return found(
        len(changed),
        **{"one consistent snapshot": bool(manifest.metadata.get("consistent_snapshot")), "changed": changed},
    )


def key_parts(table: LegacyTable) -> list[pl.Expr]:
    """The columns of the key as they are compared: integers by value, codes without case, as MySQL does."""
    kinds = {"integer": canonical_integer, "code": code}
    return [kinds.get(table.kind_of(name), lambda value: value)(pl.col(name)) for name in table.key]


def key_outcome(table: LegacyTable, frame: pl.LazyFrame) -> CheckOutcome:
    """Keys that occur again, with identical and with different content; rows without a key."""
    columns = [name for name in frame.collect_schema().names() if not name.startswith("_")]
    if not table.key:
        repeated = repeated_keys(frame, [pl.col(name) for name in columns]) if columns else RepeatedKeys(0, 0, 0, [])
        return found(repeated.identical, **{"identical rows": repeated.identical})
    repeated = repeated_keys(frame, key_parts(table), columns)
    without = frame.select(pl.any_horizontal(part.is_null() for part in key_parts(table)).sum().alias("rows"))
    keyless = 0 if table.key_repeats else int(without.collect(engine="streaming").item() or 0)
    outcome = found(
        repeated.identical + repeated.differing + keyless,
        **{
            "keys that occur again": repeated.keys,
            "rows with identical content": repeated.identical,
            "rows with other content": repeated.differing,
            "examples": repeated.examples,
        },
    )
    if not table.key_repeats:
        outcome.metadata["rows without a key"] = keyless
        if not repeated.differing and not keyless:
            outcome.severity = "WARN"
    return outcome


# --- crosswalks -------------------------------------------------------------------------------------------------------


def landed_crosswalk_checks(table: LegacyTable) -> CheckGroup:
    """What holds for a crosswalk as another area handed it over."""
    asset = ("crosswalk", table.name)
    key, values = table.key[0], [name for name in table.columns if name not in table.key]
    spec = CheckSpec(
        "crosswalk_does_not_contradict_itself",
        asset,
        f"No {key} has several different ids.",
        "ERROR",
        blocking=True,
        structure=True,
    )

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        frame = context.legacy(table.name)
        kind = kind_of_ids(frame.select(key), table.kind_of(key))
        return {spec.name: contradiction_outcome(frame, key, values, kind)}

    return CheckGroup(asset, (spec,), evaluate, (asset,))


def contradiction_outcome(
    frame: pl.LazyFrame, key: str, values: Sequence[str], kind: ColumnKind = "integer"
) -> CheckOutcome:
    """Keys of a crosswalk that occur with different ids; the same pair twice is no contradiction."""
    repeated = repeated_keys(
        frame.with_columns(pl.coalesce(canonical_integer(pl.col(name)), name).alias(name) for name in values),
        [canonical_id(pl.col(key), kind)],
        values,
    )
    return found(repeated.differing, **({"examples": repeated.examples} if repeated.differing else {}))


def crosswalk_users(system: System, crosswalk: str) -> tuple[tuple[str, str], ...]:
    """The legacy columns that go through a crosswalk under the chosen options."""
    users: list[tuple[str, str]] = []
    for flow in system.flows:
        for source, model in flow.accounted:
            mapped = system.mappings.for_target(model).sources[source]
            owner, owned_through = flow.owner[source]
            users += [(source, owner)] if owned_through == crosswalk else []
            users += [
                (source, column.from_[0])
                for column in (mapped.columns | mapped.helpers).values()
                if column.crosswalk == crosswalk
            ]
    return tuple(dict.fromkeys(users))


def crosswalk_checks(asset: MappingAsset, users: Sequence[tuple[str, str]]) -> CheckGroup:
    """What holds for a crosswalk beside the target and the legacy tables.

    `users` are the (table, column) whose ids go through it.
    """
    name = ("mapping", asset.name)
    specs = (
        CheckSpec(
            "crosswalk_ids_exist_in_target",
            name,
            "The target has every id the crosswalk names; one it lacks is no match. The legacy ids are of their kind.",
        ),
        CheckSpec(
            "legacy_ids_have_a_match",
            name,
            "Every id of the legacy tables is in the crosswalk, with an id that the target has: "
            + ", ".join(f"{table}.{column}" for table, column in users),
        ),
    )

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        crosswalk = context.mapping(asset.name)
        survey = Survey(crosswalk, key="source_id")
        survey.rows("missing", pl.col("missing_id").is_not_null(), show=("missing_id",))
        survey.count("matched", pl.col("target_id").is_not_null())
        answers = survey.answers()
        kind = kind_of_ids(crosswalk.select("source_id"), asset.ids)
        coverage = {
            f"{table}.{column}": unmatched_ids(context.legacy(table), column, crosswalk, kind)
            for table, column in users
        }
        exist = answers.rows["missing"].outcome(ids=answers.total, matched=answers.rows["matched"].count)
        return {
            specs[0].name: with_left_out_ids(exist, context, asset),
            specs[1].name: found(
                sum(unmatched.ids for unmatched in coverage.values()),
                **{column: unmatched.described() for column, unmatched in coverage.items()},
            ),
        }

    return CheckGroup(name, specs, evaluate, (name, *dict.fromkeys(("legacy", table) for table, _ in users)))


def with_left_out_ids(exist: CheckOutcome, context: CheckContext, asset: MappingAsset) -> CheckOutcome:
    """Fails also for the legacy ids that are left out because they are no integers, as they are declared to be."""
    landed = [name for layer, name in asset.upstream if layer == "legacy" and name in context.system.crosswalk_tables]
    if asset.ids != "integer" or len(landed) != 1:
        return exist
    if context.lake.manifest((context.system.name, "crosswalk", landed[0])) is None:
        return exist
    key = context.system.crosswalk_tables[landed[0]].key[0]
    survey = Survey(context.legacy(landed[0]))
    survey.rows("left out", pl.col(key).is_not_null() & canonical_integer(pl.col(key)).is_null(), show=(key,))
    left_out = survey.answers().rows["left out"]
    if not left_out.count:
        return exist
    facts = {f"rows left out: {key} is declared an integer": left_out.count, "left out": left_out.examples}
    return CheckOutcome(False, exist.count + left_out.count, {**exist.metadata, **facts})


@dataclass(frozen=True)
class UnmatchedIds:
    """Distinct ids of a column without a match, out of `distinct`; the rows that have one; examples."""

    ids: int
    distinct: int
    rows: int
    examples: list[str]

    def described(self) -> dict[str, Any]:
        return {
            "distinct ids": self.distinct,
            "without a match": self.ids,
            "rows": self.rows,
            "examples": self.examples,
        }


def unmatched_ids(
    frame: pl.LazyFrame, column: str, crosswalk: pl.LazyFrame, kind: ColumnKind = "integer"
) -> UnmatchedIds:
    """The ids of a column that the crosswalk has no id of the target for; NULL is no id."""
    matched = crosswalk.filter(pl.col("target_id").is_not_null()).select("source_id", pl.lit(True).alias("matched"))
    ids = (
        frame.select(pl.coalesce(canonical_id(pl.col(column), kind), column).alias("source_id"))
        .drop_nulls()
        .group_by("source_id")
        .len("rows")
        .join(matched, on="source_id", how="left")
        .collect(engine="streaming")
    )
    unmatched = ids.filter(pl.col("matched").is_null())
    examples = unmatched.sort("rows", "source_id", descending=[True, False])["source_id"].head(EXAMPLES)
    return UnmatchedIds(
        unmatched.height, ids.height, int(unmatched["rows"].sum()), [plain(value) for value in examples]
    )


# --- prepared and rejected --------------------------------------------------------------------------------------------


def flow_checks(flow: Flow) -> list[CheckGroup]:
    """What holds for the prepared and rejected rows of each target of a flow."""
    return [group for model in flow.targets for group in (prepared_checks(flow, model), rejected_checks(flow, model))]


def sources_of(flow: Flow, model: str) -> list[str]:
    return [source for source, target in flow.accounted if target == model]


def prepared_checks(flow: Flow, model: str) -> CheckGroup:
    """The accounting of each source of the model, and the coercions that were made."""
    asset = ("prepared", model)
    sources = sources_of(flow, model)
    balances = {
        source: CheckSpec(
            f"{dagster_name(source)}_read_is_migrated_rejected_or_dropped",
            asset,
            f"Nothing lost: of {source}, read = migrated + rejected + dropped by rule, and the datasets hold as many.",
            "ERROR",
            blocking=True,
            structure=True,
        )
        for source in sources
    }
    coercions = CheckSpec(
        "coercions_are_few",
        asset,
        f"No kind of lossy change that was accepted hit more than {COERCION_THRESHOLD:.0%} of the migrated rows.",
    )

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        return {
            **{spec.name: accounting_outcome(context, flow, model, source) for source, spec in balances.items()},
            coercions.name: coercions_outcome(context.manifest("prepared", model).metadata["accounting"]),
        }

    others = [("prepared", other) for source in sources for other in sharing_targets(flow, source)]
    needs = (asset, ("rejected", model), *others, *(("legacy", source) for source in sources))
    return CheckGroup(asset, (*balances.values(), coercions), evaluate, tuple(dict.fromkeys(needs)))


def sharing_targets(flow: Flow, source: str) -> list[str]:
    """The targets of the flow that the rows of a source are spread over."""
    return [model for accounted, model in flow.accounted if accounted == source]


def accounting_outcome(context: CheckContext, flow: Flow, model: str, source: str) -> CheckOutcome:
    """Whether the numbers of one source add up, and agree with what lies in the lake."""
    manifest = context.manifest("prepared", model)
    entry = accounting_entry(manifest, source)
    read, migrated, rejected, dropped = (
        entry["read"],
        entry["migrated"],
        entry["rejected"],
        sum(entry["dropped"].values()),
    )
    linked = context.links(model).filter(pl.col("source_table") == source).select(pl.len())
    listed_rows = (
        context.rejected(model).filter((pl.col("source_table") == source) & ~pl.col("partial")).select(pl.len())
    )
    links, entries = (frame.item() for frame in collected([linked, listed_rows]))
    booked = sum(
        accounting_entry(context.manifest("prepared", other), source)["read"] for other in sharing_targets(flow, source)
    )
    landed = context.manifest("legacy", source).tables["rows"].rows
    same = manifest.metadata["preparation"] == context.manifest("rejected", model).metadata["preparation"]
    wrong = [
        sentence
        for holds, sentence in (
            (read == migrated + rejected + dropped, f"{read} read, {migrated + rejected + dropped} accounted for"),
            (booked == landed, f"{landed} rows in the legacy table, {booked} booked over all targets"),
            (links == migrated, f"{migrated} migrated, {links} linked to prepared rows"),
            (entries == rejected, f"{rejected} rejected, {entries} listed"),
            (same, "prepared and rejected rows are of different preparations"),
        )
        if not holds
    ]
    return found(
        len(wrong),
        **{
            "read": read,
            "migrated": migrated,
            "rejected": rejected,
            "dropped": entry["dropped"],
            "does not balance": wrong,
        },
    )


def accounting_entry(manifest: Manifest, source: str) -> dict[str, Any]:
    for entry in manifest.metadata["accounting"]:
        if entry["source_table"] == source:
            return dict(entry)
    raise StructureError(
        f"the prepared rows of {manifest.key[-1]} have no accounting of {source}",
        where="/".join(manifest.key),
        remedy="prepare them again",
    )


def coercions_outcome(accounting: Sequence[Mapping[str, Any]], threshold: float = COERCION_THRESHOLD) -> CheckOutcome:
    """Kinds of coercion that hit too large a share of the migrated rows of their source."""
    shares = {
        f"{entry['source_table']}: {kind}": {"rows": rows, "share": round(rows / max(entry["migrated"], 1), 4)}
        for entry in accounting
        for kind, rows in entry["coerced"].items()
    }
    above = [kind for kind, facts in shares.items() if facts["share"] > threshold]
    return found(len(above), threshold=threshold, above=above, coercions=shares)


def rejected_checks(flow: Flow, model: str) -> CheckGroup:
    """The rows of each source that cannot be migrated, by reason; all of them should be none."""
    asset = ("rejected", model)
    sources = sources_of(flow, model)
    whole = {
        source: CheckSpec(
            f"no_{dagster_name(source)}_row_is_rejected",
            asset,
            f"Every row of {source} can be migrated, and the columns of the live target can hold it.",
            "ERROR",
            blocking=True,
        )
        for source in sources
    }
    partial = CheckSpec(
        "no_row_is_rejected_in_part", asset, "Every part of the rows that are migrated can be migrated."
    )
    schema = CheckSpec(
        "rows_satisfy_schemas",
        asset,
        "No row was rejected because the schema (Pandera) of its legacy table or of the target refuses it.",
        "ERROR",
        blocking=True,
    )

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        survey = Survey(context.rejected(model).with_columns(reason_list().alias("why")), key="source_key")
        for source in sources:
            mine = (pl.col("source_table") == source) & ~pl.col("partial")
            survey.rows(source, mine, show=("why",), value=pl.col("why"))
        survey.rows("partial", pl.col("partial"), show=("source_table", "why"), value=pl.col("why"))
        violation = pl.col("reasons").list.contains("schema_violation")
        survey.rows("schema", violation, show=("source_table",), value=schema_rule())
        answers = survey.answers()

        def outcome(question: str, shown: str) -> CheckOutcome:
            return answers.rows[question].outcome(**{shown: shown_values(answers.values[question])})

        return {
            **{spec.name: outcome(source, "reasons") for source, spec in whole.items()},
            partial.name: outcome("partial", "reasons"),
            schema.name: outcome("schema", "rules"),
        }

    return CheckGroup(asset, (*whole.values(), partial, schema), evaluate, (asset,))


def reason_list() -> pl.Expr:
    return pl.col("reasons").list.join(", ")


def schema_rule() -> pl.Expr:
    """What the schema said, of the details of a rejected row; none of it is a value of the row."""
    return (
        pl.col("source_table")
        + ": "
        + pl.col("detail").str.extract(SCHEMA_DETAIL, 1).fill_null("(see the rejected rows)")
    )


SCHEMA_DETAIL = (
    r"(?:^|; )(\w+: (?:not_nullable|\w+ (?:is an integer|is an allowed value|is not too long|fits an integer)"
    r"|is longer than \d+ characters|is NULL, and the target requires a value|does not fit into \w+"
    r"|has more than the \d digits of the second that the target keeps))"
)


# --- decisions --------------------------------------------------------------------------------------------------------


def decision_checks(
    model: str,
    irrelevant: Callable[[Decisions], Collection[str]] = lambda _: (),
    *,
    concerned_by: Collection[str] = (),
) -> CheckGroup:
    """The open decisions and blocking pre-migration actions that concern a target.

    `irrelevant` gives the decisions that make no difference under what else was chosen; `concerned_by` names some whose
    `affects` cannot know the model.
    """
    return _decision_checks(
        ("target", model),
        lambda decisions: [
            entry
            for entry in decisions.entries
            if (model in entry.affects or entry.key in concerned_by) and entry.key not in irrelevant(decisions)
        ],
    )


def archived_by_decision_checks(table: str) -> CheckGroup:
    """The same of a legacy table that a decision of its name sends to the archive only."""
    return _decision_checks(
        ("legacy", table), lambda decisions: [entry for entry in decisions.entries if entry.key == table]
    )


def _decision_checks(asset: DatasetName, concerned_by: Callable[[Decisions], list[Decision]]) -> CheckGroup:
    specs = (
        CheckSpec(
            "decisions_are_confirmed",
            asset,
            "Every decision that concerns this table is confirmed.",
            "ERROR",
            blocking=True,
        ),
        CheckSpec(
            "blocking_actions_are_done",
            asset,
            "Every blocking pre-migration action that concerns this table is done.",
            "ERROR",
            blocking=True,
        ),
    )

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        concerned = concerned_by(context.decisions)
        waiting = [entry for entry in concerned if entry.status == "open"]
        named = {entry.blocking_action for entry in concerned}
        undone = [
            action
            for action in context.decisions.actions
            if action.id in named and action.blocking and action.status == "open"
        ]
        return {
            specs[0].name: found(
                len(waiting),
                open={
                    f"{entry.key} (A{entry.area} #{entry.number})": (
                        f"{context.decisions.chosen.get(entry.key, 'documented')}, "
                        f"to be confirmed by {entry.confirm_by}"
                    )
                    for entry in waiting
                },
            ),
            specs[1].name: found(len(undone), open={action.id: action.text for action in undone}),
        }

    return CheckGroup(asset, specs, evaluate, ())
