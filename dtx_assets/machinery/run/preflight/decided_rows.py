"""How many legacy rows hang on a decision: those that an option of it rejects for what they hold, and another does not.

They are counted whatever is chosen, so that whoever has to decide knows of how many rows it is.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.mapping.conditions import holds, is_active
from dtx_assets.machinery.mapping.model import RejectRule
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.preflight.finding import Finding, refusal
from dtx_assets.machinery.run.preflight.source import Sources
from dtx_assets.machinery.sources.frames import legacy_frame

PART = "decisions"


def decided_rows(environment: RunEnvironment, sources: Sources) -> Iterator[Finding]:
    """A finding for each rule under a decision that asks columns of a legacy table alone."""
    system = environment.system
    found: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="diagnose-") as scratch:
        lake = Lake(scratch)
        for mapping in system.mappings.targets.values():
            for name, entry in mapping.sources.items():
                table = system.legacy_tables.get(name)
                rules = [rule for rule in entry.reject if table and asks_columns_alone(rule, table)]
                if not table or not rules or name not in sources.readable:
                    continue
                with refusal(found, PART, f"rows of {table.shown}"):
                    sources.readable[name].extract(table, lake, (system.name, "legacy", name), "diagnose")
                    rows = legacy_frame(lake, system.name, replace(table, required=()))
                    counts = rows.select(
                        pl.len().alias("all"),
                        *(holds(rule.only).sum().alias(f"of {number}") for number, rule in enumerate(rules)),
                    ).collect()
                    for number, rule in enumerate(rules):
                        concerned, of = counts[f"of {number}"].item(), counts["all"].item()
                        found.append(finding_of(rule, table, concerned, of, environment))
    yield from found


def asks_columns_alone(rule: RejectRule, table: LegacyTable) -> bool:
    return rule.when is not None and all(condition.column in table.columns for condition in rule.only)


def finding_of(rule: RejectRule, table: LegacyTable, concerned: int, of: int, environment: RunEnvironment) -> Finding:
    if rule.when is None:
        raise TypeError("a rule that hangs on no decision has nothing to tell of one")
    chosen, decision = environment.decisions.chosen, rule.when.decision
    says = f"{concerned:,} of {of:,}: {rule.column} {rule.detail}"
    if not concerned:
        return Finding(PART, f"rows of {table.shown}", "yes", says)
    fate = f"rejected as {rule.reason}" if is_active(rule.when, chosen) else "not rejected"
    owner = environment.decisions.entry(decision).confirm_by
    whose = f"; {owner} decides" if owner else ""
    remedy = f"decision {decision} is {chosen[decision]}: they are {fate}{whose}"
    return Finding(PART, f"rows of {table.shown}", "warn", says, remedy)
