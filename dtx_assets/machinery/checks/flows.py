"""The checks of what a flow prepares and rejects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.base.names import dagster_name
from dtx_assets.machinery.checks.obstacles import Obstacle, rejected_kinds, rejected_name
from dtx_assets.machinery.checks.spec import (
    COERCION_THRESHOLD,
    CheckContext,
    CheckGroup,
    CheckOutcome,
    CheckSpec,
    found,
)
from dtx_assets.machinery.checks.survey import Survey, collected, shown_values
from dtx_assets.machinery.system.flow import Flow


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

    others = [("prepared", other) for source in sources for other in sharing_targets(flow, source, model)]
    needs = (asset, ("rejected", model), *others, *(("legacy", source) for source in sources))
    return CheckGroup(asset, (*balances.values(), coercions), evaluate, tuple(dict.fromkeys(needs)))


def sharing_targets(flow: Flow, source: str, model: str) -> list[str]:
    """The targets of the flow that the rows of a source are spread over, one of them being the model."""
    return [model] if flow.counted_apart else [other for accounted, other in flow.accounted if accounted == source]


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
    # Of a junction, one source row has links in several parts.
    each = pl.col("source_row").n_unique() if context.system.target(model).is_junction else pl.len()
    linked = context.links(model).filter(pl.col("source_table") == source).select(each)
    listed_rows = (
        context.rejected(model).filter((pl.col("source_table") == source) & ~pl.col("partial")).select(pl.len())
    )
    links, entries = (frame.item() for frame in collected([linked, listed_rows]))
    booked = sum(
        accounting_entry(context.manifest("prepared", other), source)["read"]
        for other in sharing_targets(flow, source, model)
    )
    landed = context.manifest("legacy", source).tables["rows"].rows
    same = manifest.metadata["preparation"] == context.manifest("rejected", model).metadata["preparation"]
    wrong = [
        sentence
        for holds, sentence in (
            (read == migrated + rejected + dropped, f"{read} read, {migrated + rejected + dropped} accounted for"),
            # Of what flows share each has its own; that together they have all of it another check says.
            (
                booked == landed or (booked < landed and source in flow.shared),
                f"{landed} rows in the legacy table, {booked} booked over all targets",
            ),
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

        combinations = {source: list(answers.values[source].iter_rows()) for source in sources}
        kinds = {source: rejected_kinds(context.system, model, source, combinations[source]) for source in sources}
        return {
            **{
                spec.name: replace(outcome(source, "reasons"), obstacles=tuple(kinds[source]))
                for source, spec in whole.items()
            },
            partial.name: outcome("partial", "reasons"),
            schema.name: with_same_rows(outcome("schema", "rules"), model, combinations, kinds),
        }

    return CheckGroup(asset, (*whole.values(), partial, schema), evaluate, (asset,))


def with_same_rows(
    by_schema: CheckOutcome,
    model: str,
    combinations: Mapping[str, Sequence[tuple[str, int]]],
    kinds: Mapping[str, Sequence[Obstacle]],
) -> CheckOutcome:
    """What the schema refuses is rejected already: it is no other obstacle, unless it is a part of some rows only."""
    violating = [
        (rejected_name(model, source, combination.partition(", ")[0]), rows)
        for source, found_rows in combinations.items()
        for combination, rows in found_rows
        if "schema_violation" in combination.split(", ")
    ]
    if sum(rows for _, rows in violating) != by_schema.count:
        return by_schema
    names = {name for name, _ in violating}
    return replace(by_schema, obstacles=tuple(kind for each in kinds.values() for kind in each if kind.name in names))


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
