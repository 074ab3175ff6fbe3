"""The checks of junctions: what each side names, and that no member of an array is lost on its way to a pair."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import polars as pl

from dtx_assets.machinery.checks.spec import EXAMPLES, CheckContext, CheckGroup, CheckOutcome, CheckSpec, found
from dtx_assets.machinery.mapping.conditions import is_active
from dtx_assets.machinery.mapping.model import SourceMapping
from dtx_assets.machinery.prepare.members import DUPLICATE
from dtx_assets.machinery.prepare.part import file_of, lying_in, read_files
from dtx_assets.machinery.sources.frames import legacy_frame
from dtx_assets.machinery.sources.landing import ROW
from dtx_assets.machinery.system.flow import Flow
from dtx_assets.machinery.transforms.members import read_members

READ_ROWS = 100_000
"""Documents whose arrays are read at once."""


def junction_checks(flow: Flow, model: str) -> CheckGroup:
    """What holds for the pairs of a junction."""
    asset = ("prepared", model)
    sides = [source for source, target in flow.accounted if target == model]
    one_sided = CheckSpec(
        "one_sided_pairs",
        asset,
        f"Every pair is named by both sides ({' and '.join(sides)}); what one side only names is counted.",
    )
    members = CheckSpec(
        "junction_members",
        asset,
        "Nothing lost: the pairs of a side are the members of its migrated documents without nulls, duplicates and bad"
        " ones.",
        "ERROR",
        blocking=True,
        structure=True,
    )

    def evaluate(context: CheckContext) -> dict[str, CheckOutcome]:
        return {
            one_sided.name: one_sided_outcome(context, model, sides),
            members.name: members_outcome(context, model, sides),
        }

    needs = (asset, ("rejected", model), *(("legacy", source) for source in sides))
    return CheckGroup(asset, (one_sided, members), evaluate, tuple(dict.fromkeys(needs)))


def one_sided_outcome(context: CheckContext, model: str, sides: list[str]) -> CheckOutcome:
    """How many pairs both sides name, and which of them alone; where one side alone counts, nothing is wrong."""
    mapped = context.system.mappings.for_target(model).sources
    counting = [side for side in sides if not _leaves_all_out(context, mapped[side])]
    counted: Counter[tuple[str, ...]] = Counter()
    samples: dict[tuple[str, ...], list[str]] = {}
    for links in _parts(context, model):
        pairs = (
            links.explode("parts", "rows")
            .group_by("rows", maintain_order=True)
            .agg(
                pl.col("source_table").unique(maintain_order=True),
                pl.format("{} names {}", "source_key", "parts").first().alias("shown"),
            )
        )
        by_sides = pairs.group_by("source_table", maintain_order=True).agg(pl.len(), pl.col("shown").head(EXAMPLES))
        for named_by, count, shown in by_sides.iter_rows():
            together = tuple(side for side in sides if side in named_by)
            counted[together] += count
            samples[together] = [*samples.get(together, []), *shown][:EXAMPLES]
    alone = {side: counted[(side,)] for side in counting}
    facts: dict[str, Any] = {"named by both": counted[tuple(sides)] if len(sides) > 1 else 0}
    facts |= {f"only by {side}": count for side, count in alone.items()}
    facts["samples"] = {side: samples[(side,)] for side in counting if (side,) in samples}
    return found(sum(alone.values()) if len(counting) > 1 else 0, **facts)


def _leaves_all_out(context: CheckContext, entry: SourceMapping) -> bool:
    """Whether a rule drops every document of a side under the chosen options."""
    return any(not rule.only and is_active(rule.when, context.decisions.chosen) for rule in entry.drop)


def _parts(context: CheckContext, model: str) -> Iterator[pl.DataFrame]:
    """The links of each part: their rows are counted within it."""
    manifest = context.manifest("prepared", model)
    for part in manifest.metadata["parts"]:
        yield lying_in(part, *read_files(context.lake, manifest, file_of(part)))[1]


def members_outcome(context: CheckContext, model: str, sides: list[str]) -> CheckOutcome:
    """Whether the members of each side, as they lie in the legacy table, are its pairs and what is booked of others."""
    manifest = context.manifest("prepared", model)
    booked = {entry["source_table"]: entry for entry in manifest.metadata["accounting"]}
    partial = context.rejected(model).filter("partial").group_by("source_table").len().collect(engine="streaming")
    bad = dict(partial.iter_rows())
    facts: dict[str, dict[str, int]] = {}
    wrong = []
    for side in sides:
        pairs, migrated = _pairs_of(context, model, side)
        members, nulls = _members_of(context, model, side, migrated)
        duplicates = members - nulls - bad.get(side, 0) - pairs
        told = int(booked[side]["coerced"].get(DUPLICATE, 0))
        facts[side] = {"members": members, "nulls": nulls, "bad": bad.get(side, 0), "pairs": pairs, "duplicates": told}
        if not _agree(context, duplicates, told):
            wrong.append(f"{side}: {pairs} pairs; {duplicates} members are left, {told} were booked as duplicates")
    return found(len(wrong), **{"does not add up": wrong}, **facts)


def _agree(context: CheckContext, duplicates: int, booked: int) -> bool:
    """Whether the members that are left are those that were booked: as values, or as rows that have some."""
    return duplicates == booked if context.system.coerced == "values" else duplicates >= booked >= min(duplicates, 1)


def _pairs_of(context: CheckContext, model: str, source: str) -> tuple[int, pl.Series]:
    """How many pairs the documents of a side name, and by the number of each row whether it names any."""
    names_some = pl.repeat(False, context.manifest("legacy", source).tables["rows"].rows + 1, eager=True)
    pairs = 0
    for links in _parts(context, model):
        mine = links.filter(pl.col("source_table") == source)
        pairs += int(mine.get_column("parts").list.len().sum())
        names_some = names_some.scatter(mine.get_column("source_row"), True)
    return pairs, names_some


def _members_of(context: CheckContext, model: str, source: str, wanted: pl.Series) -> tuple[int, int]:
    """How many members the arrays of rows that are `wanted` by their number have, and how many of them say nothing."""
    spec = context.system.mappings.for_target(model).sources[source].members
    assert spec
    frame = legacy_frame(context.lake, context.system.name, context.system.legacy_tables[source])
    arrays = frame.select(ROW, spec.field)
    members = nulls = 0
    for offset in range(0, context.manifest("legacy", source).tables["rows"].rows, READ_ROWS):
        some = arrays.slice(offset, READ_ROWS).collect(engine="streaming")
        read = read_members(some.filter(wanted.gather(some.get_column(ROW))).get_column(spec.field), "object_id")
        members += read.height
        nulls += int(read.get_column("is_nothing").sum())
    return members, nulls
