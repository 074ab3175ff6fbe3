"""The step that extracts all tables in one snapshot, and the report of the run.

A table that cannot be extracted stops what depends on it and nothing else: its output is not yielded, its dependants
are skipped, and the step of `report/run` fails the run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import dagster as dg
import polars as pl

from dtx_assets.machinery.base.errors import MigrationError
from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.base.progress import StepProgress
from dtx_assets.machinery.base.settings import mask_url
from dtx_assets.machinery.checks.documents import UNDECLARED_COLLECTIONS
from dtx_assets.machinery.dagster.graph import FIRST, LAST, OTHER_AREAS, REPORTS, RESOURCES, Graph, files_that_map, told
from dtx_assets.machinery.dagster.metadata import (
    PREVIEW_ROWS,
    code_references,
    dataset_metadata,
    legacy_column_schema,
    masked_preview,
)
from dtx_assets.machinery.dagster.metadata import table as metadata_table
from dtx_assets.machinery.mapping.load import GENERIC_KEYS
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.sources import Source, open_source
from dtx_assets.machinery.sources.frames import note_generic_key
from dtx_assets.machinery.sources.generic_keys import columns_of_key, read_named_keys
from dtx_assets.machinery.sources.landing import TableMissing, land_empty
from dtx_assets.machinery.sources.undeclared import (
    COLLECTION,
    Undeclared,
    land_undeclared,
    refuse_when_none_is_there,
)
from dtx_assets.machinery.sources.undeclared import LAYER as UNDECLARED


def build_handed_over_specs(graph: Graph) -> list[dg.AssetSpec]:
    """External assets: the crosswalk tables as other areas hand them over."""
    return [
        graph.spec(
            graph.key_as_it_is("legacy", table.name),
            OTHER_AREAS,
            graph.described(f"{table.description} Handed over by another area; read, never written.", table.decision),
            kinds={"csv"},
            metadata={"dagster/column_schema": legacy_column_schema(table)},
        )
        for table in graph.system.crosswalk_tables.values()
    ]


def build_extraction(graph: Graph) -> dg.AssetsDefinition:
    """One step that lands all legacy tables and crosswalks, from one snapshot where the server can give one."""
    system = graph.system
    tables = {graph.key("legacy", table.name): table for table in system.legacy_tables.values()}
    crosswalks = {graph.key("legacy", table.name): table for table in system.crosswalk_tables.values()}
    report = dg.AssetKey([system.name, "report", "extraction"])
    specs = [
        graph.spec(
            key,
            table.area,
            graph.described(
                f"Legacy table `{table.name}`, as text, exactly as it is. {table.description}", table.decision
            ),
            skippable=True,
            kinds={"csv", "parquet"} if table.name in system.sources else {"mysql", "csv", "parquet"},
            metadata={
                "dagster/column_schema": legacy_column_schema(table),
                "dagster/table_name": table.name,
                "key": ", ".join(table.key) + (" (may repeat)" if table.key_repeats else "") or "none",
                **code_references(graph.project, *files_that_map(system, table)),
            },
        )
        for key, table in tables.items()
    ]
    specs += [
        graph.spec(
            key,
            OTHER_AREAS,
            f"The crosswalk `{table.name}` as it was landed for this migration. {table.description}",
            skippable=True,
            deps=[graph.key_as_it_is("legacy", table.name)],
            kinds={"csv", "parquet"},
            metadata={"dagster/column_schema": legacy_column_schema(table)},
        )
        for key, table in crosswalks.items()
    ]
    undeclared = graph.key(*UNDECLARED_COLLECTIONS)
    if system.reads_documents:
        specs.append(
            graph.spec(
                undeclared,
                REPORTS,
                "Collections that lie in the source and that nobody declared: each with its documents, views by name.",
                skippable=True,
                kinds={"parquet"},
            )
        )
    specs.append(
        graph.spec(
            report,
            REPORTS,
            "What was extracted: rows of each table, and why a table could not be read.",
            kinds={"parquet"},
        )
    )

    @dg.multi_asset(
        name=f"{system.name}_extraction", specs=specs, can_subset=True, required_resource_keys=RESOURCES, op_tags=FIRST
    )
    def extraction(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        environment: RunEnvironment = context.resources.migration
        selected = context.selected_asset_keys
        with told(environment):
            outcomes: list[dict[str, Any]] = []
            sources = (
                (environment.settings.legacy_url, "legacy", tables),
                (environment.settings.crosswalk_url, "crosswalk", crosswalks),
            )
            with ExitStack() as stack:
                opened: dict[str, Any] = {}
                for url, layer, declared in sources:
                    wanted = {key: table for key, table in declared.items() if key in selected}
                    if not all(table.name in system.sources for table in wanted.values()) and url not in opened:
                        opened[url] = stack.enter_context(opened_source(environment, url))
                    if wanted and url in opened:
                        own = [table for table in declared.values() if table.name not in system.sources]
                        if any(table.documents for table in own):
                            refuse_when_none_is_there(own, opened[url].tables(), mask_url(url))
                    for key, table in wanted.items():
                        progress = StepProgress(f"extract {table.name}", context.log.info)
                        elsewhere = system.sources.get(table.name)
                        try:
                            source = stack.enter_context(elsewhere(environment.s3)) if elsewhere else opened[url]
                            manifest = extracted(environment, source, url, table, layer, progress)
                        except MigrationError as error:
                            context.log.error(f"{table.name} cannot be extracted: {error}")
                            outcomes.append(extraction_outcome(table, layer, error=error))
                        else:
                            outcomes.append(extraction_outcome(table, layer, manifest=manifest))
                            yield dg.MaterializeResult(
                                asset_key=key, metadata=landing_metadata(environment, table, manifest)
                            )
                if undeclared in selected:
                    url = environment.settings.legacy_url
                    if url not in opened:
                        opened[url] = stack.enter_context(opened_source(environment, url))
                    listed = land_undeclared(
                        opened[url],
                        (table for table in system.legacy_tables.values() if table.name not in system.sources),
                        environment.lake,
                        system.name,
                        environment.run_id,
                        StepProgress("extract what nobody declared", context.log.info),
                    )
                    for each in listed:
                        if each.error:
                            context.log.error(f"{each.name} cannot be extracted: {each.error}")
                            failed = {"table": each.name, "layer": UNDECLARED, "rows": None, "error": each.error}
                            outcomes.append(failed)
                    write_undeclared(environment, undeclared, listed)
                    yield dg.MaterializeResult(asset_key=undeclared, metadata=undeclared_metadata(listed))
            if report in selected:
                write_extraction_report(environment, report, outcomes)
                yield dg.MaterializeResult(asset_key=report, metadata=extraction_report_metadata(outcomes))
            elif problems := [outcome for outcome in outcomes if outcome["error"]]:
                raise extraction_failure(problems)

    return extraction


def opened_source(environment: RunEnvironment, url: str) -> Source:
    """What a run reads tables from, before it is entered."""
    return open_source(
        url,
        s3_resource=environment.s3,
        dialects=environment.dialects_of(url),
        connections=environment.settings.workers.extract_connections,
    )


def extracted(
    environment: RunEnvironment, source: Source, url: str, table: LegacyTable, layer: str, progress: StepProgress
) -> Manifest:
    """Lands a table, and notes which columns its generic key is, where it has one."""
    lake, key = environment.lake, (environment.system.name, layer, table.name)
    try:
        manifest = source.extract(table, lake, key, environment.run_id, progress)
    except TableMissing:
        if not table.is_optional:
            raise
        return land_empty(table, lake, key, environment.run_id, mask_url(url))
    if table.generic_key:
        named = read_named_keys(environment.system.mappings_dir / GENERIC_KEYS)
        names = columns_of_key(url, table, manifest.metadata["columns"], named)
        note_generic_key(lake, environment.system.name, table, names, environment.run_id)
    return manifest


def extraction_outcome(
    table: LegacyTable, layer: str, *, manifest: Manifest | None = None, error: MigrationError | None = None
) -> dict[str, Any]:
    return {
        "table": table.name,
        "layer": layer,
        "rows": manifest.tables["rows"].rows if manifest else None,
        "error": str(error) if error else None,
    }


OUTCOME_SCHEMA = {"table": pl.String, "layer": pl.String, "rows": pl.Int64, "error": pl.String}


def write_extraction_report(
    environment: RunEnvironment, key: dg.AssetKey, outcomes: Sequence[Mapping[str, Any]]
) -> None:
    with environment.lake.write(tuple(key.path), run_id=environment.run_id) as writer:
        writer.add(pl.DataFrame(list(outcomes), schema=OUTCOME_SCHEMA))


UNDECLARED_SCHEMA = {"name": pl.String, "kind": pl.String, "documents": pl.Int64, "error": pl.String}


def write_undeclared(environment: RunEnvironment, key: dg.AssetKey, listed: Sequence[Undeclared]) -> None:
    with environment.lake.write(tuple(key.path), run_id=environment.run_id) as writer:
        writer.add(pl.DataFrame([asdict(each) for each in listed], schema=UNDECLARED_SCHEMA))
        writer.metadata["documents"] = {each.name: each.documents for each in listed if each.documents is not None}
        writer.metadata["not read"] = {each.name: each.kind for each in listed if each.kind != COLLECTION}


def undeclared_metadata(listed: Sequence[Undeclared]) -> dict[str, Any]:
    return {
        "collections": metadata_table(
            ("name", "type", "documents", "error"),
            [
                (each.name, each.kind, "–" if each.documents is None else f"{each.documents:,}", each.error or "")
                for each in listed
            ],
        ),
        "dagster/row_count": len(listed),
    }


def extraction_report_metadata(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "tables": metadata_table(
            ("table", "rows", "error"),
            [
                (outcome["table"], "–" if outcome["rows"] is None else f"{outcome['rows']:,}", outcome["error"] or "")
                for outcome in outcomes
            ],
        ),
        "tables that could not be extracted": sum(bool(outcome["error"]) for outcome in outcomes),
        "dagster/row_count": sum(outcome["rows"] or 0 for outcome in outcomes),
    }


def extraction_failure(problems: Sequence[Mapping[str, Any]]) -> dg.Failure:
    names = ", ".join(problem["table"] for problem in problems)
    # Each error names its table.
    reasons = "\n".join(f"- {problem['error']}" for problem in problems)
    return dg.Failure(
        description=(
            f"{len(problems)} table(s) could not be extracted, and what depends on them was not done: {names}\n"
            f"{reasons}\n"
            "Mend the source and run again; what was done stays, and is not done twice."
        ),
        metadata={"tables": names},
        allow_retries=False,
    )


def first_rows_of(environment: RunEnvironment, manifest: Manifest) -> pl.DataFrame:
    """The rows that a preview shows."""
    return environment.lake.scan(manifest.key, manifest=manifest).head(PREVIEW_ROWS).collect()


def legacy_preview(table: LegacyTable, rows: pl.DataFrame) -> dict[str, Any]:
    return masked_preview(rows, filter(table.is_personal, rows.columns))


def landing_metadata(environment: RunEnvironment, table: LegacyTable, manifest: Manifest) -> dict[str, Any]:
    facts = manifest.metadata
    rows = first_rows_of(environment, manifest)
    return {
        **dataset_metadata(manifest, environment.lake.location(manifest, ""), environment.run_id),
        "source": str(facts.get("source")),
        "rows in the source": int(facts.get("source_rows", 0)),
        "columns": len(facts.get("columns", [])),
        "values that are not UTF-8": int(facts.get("undecodable_values", 0)),
        "consistent snapshot": bool(facts.get("consistent_snapshot")),
        "extracted at": str(facts.get("extracted_at")),
        **legacy_preview(table, rows),
    }


def build_run_report(graph: Graph) -> dg.AssetsDefinition:
    """The step that fails a run in which a table could not be extracted, after everything else was tried."""
    name = graph.system.name
    extraction = dg.AssetKey([name, "report", "extraction"])
    spec = graph.spec(
        dg.AssetKey([name, "report", "run"]),
        REPORTS,
        "Fails the run when a table could not be extracted, and says which and what to do. The other flows go on.",
        deps=[extraction],
        kinds={"python"},
    )

    @dg.multi_asset(name=f"{name}_run_report", specs=[spec], required_resource_keys=RESOURCES, op_tags=LAST)
    def run_report(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            manifest = environment.lake.require(tuple(extraction.path))
            outcomes = environment.lake.scan(tuple(extraction.path), manifest=manifest).collect().to_dicts()
            if problems := [outcome for outcome in outcomes if outcome["error"]]:
                raise extraction_failure(problems)
            yield dg.MaterializeResult(metadata=extraction_report_metadata(outcomes))

    return run_report
