"""Looks for personal values of the legacy in what people see: whatever the system, each value that was landed."""

import json
from collections.abc import Callable, Iterator, Mapping
from subprocess import CompletedProcess

import polars as pl

from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.explain import (
    explain_legacy_row,
    explain_target_row,
    legacy_row_lines,
    loaded_target,
    target_row_lines,
)
from dtx_assets.machinery.sources.frames import legacy_frame

TOLD = """
SELECT DISTINCT ON (target_table, source_table, part) target_table, target_id, source_table, source_key
FROM migration.mapping ORDER BY target_table, source_table, part, source_key
"""
REFUSED = """
SELECT DISTINCT ON (target_table, source_table, reasons) source_table, source_key FROM migration.rejected
ORDER BY target_table, source_table, reasons, source_key
"""
LOOKS = (("status", "--all"), ("todo",), ("runs",), ("rejected",), ("errors",), ("diagnose",))
"""Commands that look at what is there."""
DRY = (("plan", "--json"), ("verify", "--prepared", "--json"))
"""Those that work it out anew, with samples of rows."""
SHORTEST = 11
"""A shorter text, as a date is, may stand somewhere for another reason."""


def personal_values(environment: RunEnvironment) -> set[str]:
    """The texts of personal columns that stand in no key or other column, nor in what one holds or is called, nor in
    what a mapping file says."""
    personal, others = set[str](), {path.read_text() for path in environment.system.mappings_dir.rglob("*.yaml")}
    for table in environment.system.legacy_tables.values():
        if environment.lake.manifest(environment.run_settings.key("legacy", table.name)) is None:
            continue
        # As they are called where they come from.
        others.update(environment.lake.scan((environment.system.name, "legacy", table.name)).collect_schema().names())
        frame = legacy_frame(environment.lake, environment.system.name, table).collect()
        for name in (name for name in frame.columns if frame.schema[name] == pl.String):
            texts = {text.strip() for text in frame.get_column(name).drop_nulls().unique()}
            (personal if table.is_personal(name) and name not in table.key else others).update(texts)
    whole = "\n".join(others)
    return {text for text in personal if len(text) >= SHORTEST and text not in whole}


def explained(environment: RunEnvironment, each: int) -> Iterator[tuple[str, str]]:
    """What `dtx explain` tells of some rows of each target and of what is rejected, in words and as JSON."""
    system, seen = environment.system, dict[str, int]()
    with loaded_target(environment) as connection:
        told = connection.execute(TOLD.encode()).fetchall()
        refused = connection.execute(REFUSED.encode()).fetchall()
    legacy = dict.fromkeys(refused[:each])
    for table, target_id, source, key in told:
        seen[table] = seen.get(table, 0) + 1
        if seen[table] <= each and source in system.legacy_tables:
            target = next(target for target in system.targets if target.name == table)
            facts = explain_target_row(environment, target, target_id)
            yield f"explain {table} {target_id}", "\n".join([*target_row_lines(facts), _json(facts)])
            legacy[source, key] = None
    for source, key in legacy:
        facts = explain_legacy_row(environment, system.legacy_tables[source], key)
        yield f"explain --from {source} {key}", "\n".join([*legacy_row_lines(facts), _json(facts)])


def said(
    command: Callable[..., CompletedProcess[str]], system: str, *commands: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """What commands say of a system, where people read it and where programs do."""
    for name, *options in commands:
        done = command(name, system, *options)
        # What is to be mended before a run ends `diagnose` with 1; a command that broke off says so in `stderr`.
        ends = (0, 1) if name == "diagnose" and not done.stderr else (0, 3)
        assert done.returncode in ends, (name, options, done.stdout, done.stderr)
        yield " ".join([name, *options]), done.stdout + done.stderr


def _json(facts: object) -> str:
    return json.dumps(facts, default=str, ensure_ascii=False)


def values_told(values: set[str], texts: Mapping[str, str]) -> dict[str, list[str]]:
    """The values that stand in texts, by the name of the text."""
    found = {name: [value for value in values if value in text] for name, text in texts.items()}
    return {name: told for name, told in found.items() if told}
