"""The checks of any landed table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.checks.spec import CheckContext, CheckGroup, CheckOutcome, CheckSpec, DatasetName, found
from dtx_assets.machinery.checks.survey import RepeatedKeys, Survey, repeated_keys, shown_values
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.landing import DOCUMENTS, ROW, UNDECODABLE
from dtx_assets.machinery.transforms.columns import canonical_id, canonical_integer, code


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
            "columns_are_as_planned": schema_drift_outcome(table, columns_of_source(manifest)),
            "values_are_text": undecodable_outcome(manifest, context.legacy(table.name)),
            "tables_did_not_change_while_read": snapshot_outcome(manifest),
            specs[-1].name: key_outcome(table, context.legacy(table.name), context.settings.home),
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


def columns_of_source(manifest: Manifest) -> Sequence[str]:
    """The columns that the source has; of documents the fields, those that got no column of their own too."""
    facts = manifest.metadata
    if facts.get("dialect") == DOCUMENTS:
        return [*facts["fields"], *facts["undeclared"]]
    return list(facts["columns"])


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
    """The columns of the key as they are compared: integers and UUIDs by value, codes without case, as MySQL does."""
    kinds = {
        "integer": canonical_integer,
        "code": code,
        "uuid": lambda text: canonical_id(text, "uuid"),
        "object_id": lambda text: canonical_id(text, "object_id"),
    }
    return [kinds.get(table.kind_of(name), lambda value: value)(pl.col(name)) for name in table.key]


def key_outcome(table: LegacyTable, frame: pl.LazyFrame, home: Path | None = None) -> CheckOutcome:
    """Keys that occur again, with identical and with different content; rows without a key.

    Under `home` lies what of many keys is too much to be held.
    """
    columns = [name for name in frame.collect_schema().names() if name not in (ROW, UNDECODABLE, "_source_key")]
    if not table.key:
        every = [pl.col(name) for name in columns]
        repeated = repeated_keys(frame, every, home=home) if columns else RepeatedKeys(0, 0, 0, [])
        return found(repeated.identical, **{"identical rows": repeated.identical})
    repeated = repeated_keys(frame, key_parts(table), columns, home)
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
