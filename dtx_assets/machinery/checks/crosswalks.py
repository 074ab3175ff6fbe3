"""The checks of any crosswalk: that it does not contradict itself, and that ids are in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from dtx_assets.machinery.base.masking import plain
from dtx_assets.machinery.checks.spec import EXAMPLES, CheckContext, CheckGroup, CheckOutcome, CheckSpec, found
from dtx_assets.machinery.checks.survey import Survey, repeated_keys
from dtx_assets.machinery.look_ups.assets import MappingAsset
from dtx_assets.machinery.model.legacy import ColumnKind, LegacyTable
from dtx_assets.machinery.system.system import System
from dtx_assets.machinery.transforms.columns import canonical_id, canonical_integer, kind_of_ids


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
            owner, owned_through = flow.owner.get(source, ("", ""))
            users += [(source, owner)] if owned_through == crosswalk else []
            # What an array names, its own flow tells member by member.
            made = () if mapped.members else mapped.made
            users += [(source, column.from_[0]) for _, column in made if column.crosswalk == crosswalk]
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
