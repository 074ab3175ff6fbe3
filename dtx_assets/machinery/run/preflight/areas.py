"""Other areas: whether their crosswalks know the ids of the legacy tables, and rows that lie where ours would go."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from dtx_assets.machinery.base.errors import MigrationError
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.checks.crosswalks import crosswalk_users, unmatched_ids
from dtx_assets.machinery.look_ups.assets import MappingContext, read_target_rows
from dtx_assets.machinery.model.legacy import ColumnKind, LegacyTable
from dtx_assets.machinery.model.target import TargetTable, polars_type
from dtx_assets.machinery.run.environment import RunEnvironment, local_directory
from dtx_assets.machinery.run.preflight.finding import SHOWN_NAMES, Finding, refusal
from dtx_assets.machinery.run.preflight.source import Sources
from dtx_assets.machinery.run.preflight.target import Target
from dtx_assets.machinery.sources.frames import legacy_frame
from dtx_assets.machinery.transforms.columns import kind_of_ids


def areas(environment: RunEnvironment, sources: Sources, target: Target) -> Iterator[Finding]:
    """Whether the crosswalks know the ids that the legacy tables have, and rows already lie where ours would go."""
    if target.connection is None or target.url is None:
        yield Finding(
            "areas", "crosswalks and rows of others", "warn", "not looked at: there is no target database yet"
        )
        return
    found: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="diagnose-") as scratch:
        found += crosswalk_coverage(environment, sources, target.url, Lake(scratch))
    for table in target.environment.system.targets:
        if table.name in target.tables and table.writes == "insert" and table.natural_key:
            with refusal(found, "areas", f"rows in {table.name}"):
                found.append(rows_of_others(environment, target.url, table))
    yield from found


def crosswalk_coverage(environment: RunEnvironment, sources: Sources, url: str, scratch: Lake) -> Iterator[Finding]:
    """For each crosswalk and each column whose ids go through it: how many of its ids have a row in the target."""
    system = environment.system
    landed: set[str] = set()

    def land(layer: str, table: LegacyTable) -> None:
        if table.name not in landed:
            sources.readable[table.name].extract(table, scratch, (system.name, layer, table.name), "diagnose")
            landed.add(table.name)

    context = MappingContext(
        system=system.name,
        lake=scratch,
        run_id="diagnose",
        target_url=url,
        crosswalk_tables=system.crosswalk_tables,
        mappings=system.mappings,
        legacy_tables=system.legacy_tables,
        files=environment.legacy_files(),
        chosen=environment.decisions.chosen,
    )
    for asset in system.mapping_assets:
        users = crosswalk_users(system, asset.name)
        if asset.kind != "crosswalk" or not users:
            continue
        subject = f"crosswalk {asset.name}"
        handed_over = [name for layer, name in asset.upstream if layer == "legacy" and name in system.crosswalk_tables]
        if unread := [name for name in handed_over if name not in sources.readable]:
            yield Finding("areas", subject, "no", f"cannot be read: {', '.join(unread)}", "see its line above")
            continue
        found: list[Finding] = []
        with refusal(found, "areas", subject):
            for name in handed_over:
                land("crosswalk", system.crosswalk_tables[name])
            crosswalk = asset.build(context).collect()
            found.append(crosswalk_content(subject, crosswalk))
            for name, column in users:
                table = system.legacy_tables[name]
                if name in sources.readable:
                    land("legacy", table)
                    rows = legacy_frame(scratch, system.name, replace(table, required=()))
                    found.append(coverage(f"{subject}: {name}.{column}", rows, column, crosswalk.lazy(), asset.ids))
        yield from found


def crosswalk_content(subject: str, crosswalk: pl.DataFrame) -> Finding:
    usable = crosswalk.get_column("target_id").drop_nulls().len()
    says = f"{crosswalk.height:,} ids, {usable:,} of them with a row in the target"
    if not usable:
        return Finding("areas", subject, "no", says, "load the area it belongs to, and ask for its crosswalk")
    return Finding("areas", subject, "yes", says)


def coverage(
    subject: str, rows: pl.LazyFrame, column: str, crosswalk: pl.LazyFrame, ids: ColumnKind = "integer"
) -> Finding:
    """`no` where not one id is known, `warn` where some are not: their rows would be rejected."""
    unmatched = unmatched_ids(rows, column, crosswalk, kind_of_ids(crosswalk.select("source_id"), ids))
    known = unmatched.distinct - unmatched.ids
    says = f"{known:,} of {unmatched.distinct:,} distinct ids"
    if not unmatched.ids:
        return Finding("areas", subject, "yes", says)
    examples = ", ".join(map(str, unmatched.examples[:SHOWN_NAMES]))
    says = f"{says}; {unmatched.rows:,} rows have none of them, such as {examples}"
    remedy = "ask the area that owns the crosswalk for these ids: their rows are rejected, or have no reference"
    return Finding("areas", subject, "warn" if known else "no", says, remedy)


def rows_of_others(environment: RunEnvironment, url: str, table: TargetTable) -> Finding:
    """Rows that this migration did not write, and those of them with the natural key of a prepared row."""
    subject = f"rows in {table.name}"
    types = {name: polars_type(table.column(name).type) for name in table.natural_key}
    system = environment.system
    others = read_target_rows(url, table.names[0], types, inserted_by=system.name, key=table.key)
    lake = existing_lake(environment)
    manifest = lake.manifest((system.name, "prepared", table.model)) if lake else None
    if lake is None or manifest is None:
        if not others.height:
            return Finding("areas", subject, "yes", "none of others")
        says = f"{others.height:,} of others; not yet prepared, so nobody knows which of them are in the way"
        return Finding("areas", subject, "warn", says, f"`{system.name} plan` prepares, and tells")
    keys = lake.scan(manifest.key, manifest=manifest).select(table.natural_key).unique().collect()
    same = others.join(keys, on=list(table.natural_key), how="semi", nulls_equal=table.nulls_equal).height
    says = f"{others.height:,} of others, {same:,} with the natural key of a prepared row"
    if not same:
        return Finding("areas", subject, "yes", says)
    remedy = f"equal ones are adopted, others are conflicts (decision keep_target): `{system.name} plan` lists them"
    return Finding("areas", subject, "warn", says, remedy)


def existing_lake(environment: RunEnvironment) -> Lake | None:
    """The lake, unless it is a directory that a first run would have to make, or no lake at all."""
    directory = local_directory(environment.settings.lake_url)
    if directory and not directory.is_dir():
        return None
    try:
        return environment.lake if not directory else Lake(str(directory))
    except MigrationError:
        return None
