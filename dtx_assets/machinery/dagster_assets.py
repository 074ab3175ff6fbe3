"""The asset graph of a system: factories that set key, group, kinds, owners, descriptions and checks in one place.

Dagster code only wires here: extracting is `sources`, mapping `mapping_assets`, preparing `prepare`, loading `load`,
checking `checks`. What asset pages show is rendered by `dagster_metadata`; running the graph is `run`.

Keys are `[system, layer, name]`. One step extracts all tables in one snapshot, one prepares all targets of a flow, one
evaluates all checks of a table. A table that cannot be extracted stops what depends on it and nothing else: its output
is not yielded, its dependants are skipped, and the step of `report/run` fails the run.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from dtx_assets.machinery.archive import CHECK as READS_BACK
from dtx_assets.machinery.archive import archive_table, differences
from dtx_assets.machinery.checks import CheckContext, CheckGroup, CheckOutcome, CheckSpec, Severity
from dtx_assets.machinery.dagster_load_checks import NONE_REJECTED, load_check, load_outcome
from dtx_assets.machinery.dagster_metadata import (
    BLOCKS,
    MAPPING_MEANINGS,
    PREVIEW,
    PREVIEW_ROWS,
    REJECTED_MEANINGS,
    TRUE_NAME,
    accounting_metadata,
    asset_key,
    check_metadata,
    code_references,
    counts_text,
    dataset_column_schema,
    dataset_metadata,
    legacy_column_schema,
    lineage_metadata,
    markdown_table,
    masked_preview,
    target_column_schema,
)
from dtx_assets.machinery.errors import MigrationError
from dtx_assets.machinery.files.sending import FileSender
from dtx_assets.machinery.lake import Manifest
from dtx_assets.machinery.legacy import LegacyTable
from dtx_assets.machinery.load import (
    LoadSummary,
    RunContext,
    SentFilesOfRun,
    book_archive,
    first_rows,
    load_target,
    read_found_by_load,
    untouched,
)
from dtx_assets.machinery.load.runs import connect, refusals_told
from dtx_assets.machinery.mapping.decisions import Decision, Decisions
from dtx_assets.machinery.mapping.lineage import column_descriptions, column_lineage
from dtx_assets.machinery.mapping.load import ARCHIVED
from dtx_assets.machinery.mapping_assets import MappingAsset, MappingContext, build_mapping_asset
from dtx_assets.machinery.masking import mask_emails, masked_detail
from dtx_assets.machinery.names import dagster_name, refuse_likenesses
from dtx_assets.machinery.prepare import DROPPED, REJECTED_SCHEMA, Flow, prepare_flow
from dtx_assets.machinery.progress import StepProgress, duration_text
from dtx_assets.machinery.run_environment import ENVIRONMENT, RunEnvironment
from dtx_assets.machinery.settings import mask_url
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.frames import legacy_frame, source_key
from dtx_assets.machinery.system import System
from dtx_assets.machinery.target import TargetTable

if TYPE_CHECKING:
    pass

OTHER_AREAS, REPORTS = "other_areas", "reports"
RESOURCES = {ENVIRONMENT}
FIRST, CHECKS, LAST = {"dagster/priority": "20"}, {"dagster/priority": "10"}, {"dagster/priority": "-20"}
REJECTED_SHOWN = ("source", "key", "reasons", "of", "what is wrong")
LOADS = -10
"""In one process, steps that are ready run in the order of their priority: what can be checked is, before a load."""
EVALUATED = "checks_are_evaluated"


# --- what steps share -------------------------------------------------------------------------------------------------


@contextmanager
def told(environment: RunEnvironment) -> Iterator[None]:
    """Errors that users are meant to read end the step as a Failure with their text and no traceback of ours."""
    try:
        yield
    except MigrationError as error:
        environment.failures.append(str(error))
        raise failure(error) from None
    except dg.Failure as error:
        environment.failures.append(error.description or "")
        raise
    except GeneratorExit:
        raise
    except BaseException as error:
        # Panics of compiled libraries and interrupts are no Exception, and end the step just the same.
        environment.failures.append(type(error).__name__)
        raise


def failure(error: MigrationError) -> dg.Failure:
    facts = {"where": error.where, "do": error.remedy}
    return dg.Failure(
        description=str(error), metadata={name: fact for name, fact in facts.items() if fact}, allow_retries=False
    )


class Graph:
    """The assets of a system, with the one place that says their keys, groups, owners and descriptions."""

    def __init__(self, system: System, load_order: Sequence[str] = ()) -> None:
        self.system = system
        self.load_order = tuple(load_order)
        self.decisions = system.decisions
        self.owners = [f"team:{system.name}-migration"]
        self.project = system.mappings_dir.parents[1]
        self._true_names: dict[dg.AssetKey, str] = {}
        refuse_likenesses("legacy table", (*system.legacy_tables, *system.crosswalk_tables))
        refuse_likenesses("model", (target.model for target in system.targets))
        refuse_likenesses("mapping", (asset.name for asset in system.mapping_assets))

    def key(self, layer: str, name: str) -> dg.AssetKey:
        """The key of an asset; what another area hands over is read from where it was landed."""
        landed = layer == "legacy" and name in self.system.crosswalk_tables
        return self.key_as_it_is("crosswalk" if landed else layer, name)

    def key_as_it_is(self, layer: str, name: str) -> dg.AssetKey:
        """The key of an asset, of a crosswalk's legacy table too."""
        key = asset_key(self.system.name, layer, name)
        self._true_names[key] = name
        return key

    def spec(self, key: dg.AssetKey, area: str, description: str, **rest: Any) -> dg.AssetSpec:
        name = self._true_names.get(key, key.path[-1])
        if name != key.path[-1]:
            description = f"`{name}`, which Dagster cannot call so. {description}"
            rest["metadata"] = {TRUE_NAME: name, **rest.get("metadata", {})}
        return dg.AssetSpec(key, group_name=area, owners=self.owners, description=description, **rest)

    def made_together(self, layer: str, name: str) -> set[dg.AssetKey]:
        """The assets that one step makes at once with this one, itself included; none of them waits for another."""
        flow = self.system.flow_of(name) if layer in ("prepared", "rejected") else None
        models = flow.targets if flow else ()
        return {
            self.key(layer, name),
            *(self.key(made, model) for made in ("prepared", "rejected") for model in models),
        }

    def models_made_from(self, layer: str, name: str) -> frozenset[str]:
        """The models whose rows are made from a dataset; those of a target are not made from it."""
        if layer == "target":
            return frozenset()
        mappings = {
            asset.name
            for asset in self.system.mapping_assets
            if (layer, name) == ("mapping", asset.name) or ("legacy", name) in asset.upstream
        }
        return frozenset(
            model
            for flow in self.system.flows
            for model in flow.targets
            if name in (*flow.sources, *flow.targets) or mappings & set(flow.mappings)
        )

    def described(self, text: str, decision: str) -> str:
        """A description with the plan's decision: its number, its text, what was chosen."""
        paragraphs = [text, *decision_paragraphs(self.decisions, decision)]
        return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)

    @property
    def choices(self) -> list[Decision]:
        """The decisions that have options, each with the one that was chosen."""
        return [
            entry.model_copy(update={"chosen": self.decisions.chosen[entry.key]})
            for entry in self.decisions.entries
            if entry.options
        ]

    def area_of(self, decision: Decision) -> str:
        """The group of the plan's area that a decision is of."""
        return next(group for group, title in self.system.areas.items() if title.startswith(f"Area {decision.area}:"))

    def flows_by_option(self, decision: str) -> dict[str, tuple[Flow, ...]]:
        """The flows of the graph under each option of a decision, the other choices as they are."""
        return {
            option: self.system.flows_under({**self.decisions.chosen, decision: option})
            for option in self.decisions.entry(decision).options
        }

    def assets(self) -> list[dg.AssetsDefinition | dg.AssetSpec]:
        value_maps = [asset for asset in self.system.mapping_assets if asset.kind == "value_map"]
        return [
            *build_handed_over_specs(self),
            *build_decision_specs(self),
            build_extraction(self),
            build_run_report(self),
            *(build_archive(self, table) for table in self.system.legacy_tables.values()),
            *([build_mapping_step(self, "value_maps", value_maps)] if value_maps else []),
            *(
                build_mapping_step(self, asset.name, [asset])
                for asset in self.system.mapping_assets
                if asset.kind != "value_map"
            ),
            *(build_flow(self, flow) for flow in self.system.flows),
            *(
                build_target(self, target) if self.system.flow_of(target.model) else build_unfilled_target(self, target)
                for target in self.system.targets
            ),
        ]

    def untouched_checks(self) -> list[dg.AssetChecksDefinition]:
        empty = [
            target
            for target in self.system.targets
            if target.writes == "nothing" and target.area != OTHER_AREAS and not self.system.flow_of(target.model)
        ]
        return [build_untouched_checks(self, empty)] if empty else []


def decision_paragraphs(decisions: Decisions, named: str) -> list[str]:
    """`Decision A8 #1: title. Text` of each decision that a declaration names, such as `A8 #1, #7`."""
    paragraphs = []
    for entry in decisions.named(named):
        options = f" Options: {', '.join(entry.options)}." if entry.options else ""
        paragraphs.append(
            f"**Decision A{entry.area} #{entry.number}: {entry.title}.** {entry.text}{options} Status: {entry.status}."
        )
    return paragraphs or ([f"Plan: {named}."] if named else [])


# --- decisions --------------------------------------------------------------------------------------------------------


def build_decision_specs(graph: Graph) -> list[dg.AssetSpec]:
    """External assets: each decision that has options, with what every option makes of the graph."""
    return [
        graph.spec(
            graph.key("decision", decision.key),
            graph.area_of(decision),
            f"**Decision A{decision.area} #{decision.number}: {decision.title}.** {decision.text}\n\n"
            f"Chosen: **{decision.chosen}** ({decision.status}). DTX_DECISIONS names a file that chooses otherwise.",
            kinds={"yaml"},
            metadata={
                "chosen": decision.chosen or "",
                "status": decision.status,
                "to be confirmed by": decision.confirm_by or "nobody",
                "options": markdown_table(
                    ("option", "chosen", "what it adds to the graph"), option_rows(graph, decision)
                ),
                **code_references(graph.project, graph.system.mappings_dir / "decisions.yaml"),
            },
        )
        for decision in graph.choices
    ]


def option_rows(graph: Graph, decision: Decision) -> Iterator[tuple[str, str, str]]:
    """Each option, whether it is chosen, and the flows that only this option or another one has."""
    by_option = {
        option: {f"{source} → {model}" for flow in flows for source, model in flow.accounted}
        for option, flows in graph.flows_by_option(decision.key).items()
    }
    everywhere = set.intersection(*by_option.values())
    for option, flows in by_option.items():
        added = ", ".join(sorted(flows - everywhere))
        yield option, "chosen" if option == decision.chosen else "not chosen", added or "no asset of its own"


# --- extraction -------------------------------------------------------------------------------------------------------


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
                        dialects = environment.dialects_of(url)
                        opened[url] = stack.enter_context(
                            open_source(url, s3_resource=environment.s3, dialects=dialects)
                        )
                    for key, table in wanted.items():
                        progress = StepProgress(f"extract {table.name}", context.log.info)
                        elsewhere = system.sources.get(table.name)
                        try:
                            source = stack.enter_context(elsewhere(environment.s3)) if elsewhere else opened[url]
                            manifest = source.extract(
                                table, environment.lake, (system.name, layer, table.name), environment.run_id, progress
                            )
                        except MigrationError as error:
                            context.log.error(f"{table.name} cannot be extracted: {error}")
                            outcomes.append(extraction_outcome(table, layer, error=error))
                        else:
                            outcomes.append(extraction_outcome(table, layer, manifest=manifest))
                            yield dg.MaterializeResult(
                                asset_key=key, metadata=landing_metadata(environment, table, manifest)
                            )
            if report in selected:
                write_extraction_report(environment, report, outcomes)
                yield dg.MaterializeResult(asset_key=report, metadata=extraction_report_metadata(outcomes))
            elif problems := [outcome for outcome in outcomes if outcome["error"]]:
                raise extraction_failure(problems)

    return extraction


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


def extraction_report_metadata(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "tables": markdown_table(
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


def legacy_preview(table: LegacyTable, rows: pl.DataFrame) -> dg.MetadataValue:
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
        PREVIEW: legacy_preview(table, rows),
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


# --- archives -------------------------------------------------------------------------------------------------------


def build_archive(graph: Graph, table: LegacyTable) -> dg.AssetsDefinition:
    """One step that archives a table, and the check that reads the archive back.

    A step for each: Dagster skips a step when anything it depends on is missing, and a table that cannot be extracted
    must not keep the others from the archive.
    """
    system = graph.system
    key = graph.key("archive", table.name)
    only_archived = table.name not in system.migrated_tables
    text = f"All rows of `{table.name}` as they came, every column, as a compressed CSV and as Parquet."
    if only_archived:
        text += " That is all that happens to them: each counts as migrated to the archive."
    spec = graph.spec(
        key,
        table.area,
        graph.described(text, table.decision),
        skippable=True,
        deps=[graph.key("legacy", table.name)],
        kinds={"csv", "parquet"},
        metadata={
            "dagster/column_schema": legacy_column_schema(table),
            "migrated to": "the archive only" if only_archived else "the archive, and target tables",
            **code_references(graph.project, archive_table),
        },
    )
    check = CheckSpec(
        READS_BACK,
        ("archive", table.name),
        "The files have the SHA-256 they were written with, and both hold the rows that are landed.",
        severity="ERROR",
        structure=True,
    )

    @dg.multi_asset(
        name=f"{system.name}_archive_{key.path[-1]}",
        specs=[spec],
        check_specs=[check_spec(key, check, [])],
        can_subset=True,
        required_resource_keys=RESOURCES,
        op_tags=LAST,
    )
    def archive(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            if key in context.selected_asset_keys:
                progress = StepProgress(f"archive {table.name}", context.log.info)
                manifest = archive_table(
                    environment.lake, environment.archive, system.name, table.name, environment.run_id, progress
                )
                archived = manifest.metadata["rows"]
                booked = [book_archive(environment.load(), table.name, archived)] if only_archived else []
                landed = graph.key("legacy", table.name)
                rows = first_rows_of(environment, environment.lake.require(landed.path))
                yield dg.MaterializeResult(
                    asset_key=key,
                    metadata={
                        **archive_metadata(environment, manifest, booked),
                        PREVIEW: legacy_preview(table, rows),
                        **lineage_metadata({name: [(landed.path, name)] for name in manifest.metadata["columns"]}),
                    },
                )
            if context.selected_asset_check_keys:
                wrong = differences(environment.lake, environment.archive, system.name, table.name)
                if wrong:
                    environment.failures.append(f"archive/{table.name}: {READS_BACK}")
                yield dg.AssetCheckResult(
                    passed=not wrong,
                    asset_key=key,
                    check_name=READS_BACK,
                    severity=dg.AssetCheckSeverity.ERROR,
                    metadata={"count": len(wrong), **archive_check_metadata(wrong)},
                )

    return archive


def archive_metadata(
    environment: RunEnvironment, manifest: Manifest, booked: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    facts = manifest.metadata
    return {
        "dagster/row_count": facts["rows"],
        "columns": len(facts["columns"]),
        "files": markdown_table(
            ("file", "bytes", "SHA-256"),
            [
                (entry.name, f"{entry.bytes:,}", facts["sha256"][entry.name])
                for files in manifest.tables.values()
                for entry in files.files
            ],
        ),
        "location": dg.MetadataValue.path(mask_url(environment.archive.location(manifest, ""))),
        "extracted at": str(facts["extracted_at"]),
        "verified": f"read back and compared with the landed rows before {manifest.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "written": "reused: nothing it depends on has changed"
        if manifest.run_id != environment.run_id
        else "by this run",
        "values that are not UTF-8": facts["undecodable_values"],
        "how to read it": facts["how_to_read"],
        **(accounting_metadata(booked) if booked else {}),
    }


def archive_check_metadata(wrong: Sequence[str]) -> dict[str, Any]:
    if not wrong:
        return {}
    return {
        "what is wrong": "; ".join(wrong),
        "do": "keep what is there for whoever looks into it, remove its manifest.json, materialise the archive again",
    }


# --- mappings ---------------------------------------------------------------------------------------------------------


def build_mapping_step(graph: Graph, name: str, assets: Sequence[MappingAsset]) -> dg.AssetsDefinition:
    """One step for mapping assets that stop together: a crosswalk alone, or all value maps."""
    system = graph.system
    by_key = {graph.key("mapping", asset.name): asset for asset in assets}
    specs = [
        graph.spec(
            key,
            asset.area,
            asset.description,
            deps=mapping_upstream(graph, asset),
            kinds={"csv" if asset.kind == "value_map" else "polars", "parquet"},
            metadata={
                "kind": asset.kind.replace("_", " "),
                **code_references(graph.project, *mapping_sources(system, asset)),
            },
        )
        for key, asset in by_key.items()
    ]

    @dg.multi_asset(
        name=f"{system.name}_mapping_{dagster_name(name)}",
        specs=specs,
        can_subset=len(specs) > 1,
        required_resource_keys=RESOURCES,
    )
    def mapping_step(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            for key, asset in by_key.items():
                if key in context.selected_asset_keys:
                    manifest = build_mapping_asset(
                        asset, mapping_context(environment, asset, StepProgress(f"read {asset.name}", context.log.info))
                    )
                    yield dg.MaterializeResult(asset_key=key, metadata=mapping_metadata(environment, manifest))

    return mapping_step


def mapping_upstream(graph: Graph, asset: MappingAsset) -> list[dg.AssetKey]:
    """What a mapping is made from. Rows of other areas that this migration updates are read as they are before that."""
    read = [
        graph.key(layer, name)
        for layer, name in asset.upstream
        if not (layer == "target" and graph.system.flow_of(name))
    ]
    return read + [graph.key("target", model) for model in asset.after]


def mapping_sources(system: System, asset: MappingAsset) -> list[Path | Callable[..., Any]]:
    file = system.mappings_dir / f"{asset.name}.csv"
    return [file] if file.exists() else [asset.build]


def mapping_context(
    environment: RunEnvironment, asset: MappingAsset, progress: StepProgress | None = None
) -> MappingContext:
    system = environment.system
    needs_target = bool(asset.after) or any(layer == "target" for layer, _ in asset.upstream)
    return MappingContext(
        system=system.name,
        lake=environment.lake,
        run_id=environment.run_id,
        target_url=environment.target_url if needs_target else "",
        crosswalk_tables=system.crosswalk_tables,
        mappings=system.mappings,
        legacy_tables=system.legacy_tables,
        files=environment.legacy_files(progress),
    )


def mapping_metadata(environment: RunEnvironment, manifest: Manifest) -> dict[str, Any]:
    rows = first_rows_of(environment, manifest)
    return {
        **dataset_metadata(manifest, environment.lake.location(manifest, ""), environment.run_id),
        "dagster/column_schema": dataset_column_schema(rows.schema, MAPPING_MEANINGS),
        PREVIEW: masked_preview(rows, ()),
    }


# --- flows ------------------------------------------------------------------------------------------------------------


def build_flow(graph: Graph, flow: Flow) -> dg.AssetsDefinition:
    """One step that prepares all targets of a flow: `prepared/<Model>` and `rejected/<Model>` of each."""
    system = graph.system
    specs: dict[dg.AssetKey, dg.AssetSpec] = {}
    lineages = {
        model: column_lineage(system.mappings.for_target(model), system.name, flow.sources) for model in flow.targets
    }
    for model in flow.targets:
        target = system.target(model)
        upstream = flow_upstream(graph, flow, lineages[model])
        references = code_references(graph.project, flow.run, mapping_file(system, model))
        descriptions = column_descriptions(system.mappings.for_target(model), flow.sources)
        prepared, rejected = graph.key("prepared", model), graph.key("rejected", model)
        specs[prepared] = graph.spec(
            prepared,
            target.area,
            graph.described(
                f"The rows of `{target.name}` as they would be written. {flow.description}", target.decision
            ),
            skippable=True,
            deps=upstream,
            kinds={"polars", "parquet"},
            metadata={"dagster/column_schema": target_column_schema(target, descriptions), **references},
        )
        specs[rejected] = graph.spec(
            rejected,
            target.area,
            f"Rows of {', '.join(flow.sources)} that cannot become {model} rows yet, whole, with their reasons. Beside"
            f" them in the lake, in `{DROPPED}-*.parquet`: the keys of the rows that rules drop, each with its rule.",
            skippable=True,
            deps=upstream,
            kinds={"polars", "parquet"},
            metadata={
                "dagster/column_schema": dataset_column_schema(REJECTED_SCHEMA, REJECTED_MEANINGS),
                **references,
            },
        )

    @dg.multi_asset(
        name=f"{system.name}_prepare_{dagster_name(flow.name)}",
        specs=list(specs.values()),
        can_subset=True,
        required_resource_keys=RESOURCES,
        op_tags=priority(graph, flow.targets),
    )
    def prepare(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            progress = StepProgress(f"prepare {flow.name}", context.log.info)
            live = environment.live_targets(flow.targets, context.log.warning)
            manifests = prepare_flow(flow, replace(environment.run_settings, live=live), progress)
            for model, manifest in manifests.items():
                results = {
                    graph.key("prepared", model): prepared_metadata(environment, flow, manifest, lineages[model]),
                    graph.key("rejected", model): rejected_metadata(environment, model),
                }
                for key, metadata in results.items():
                    if key in context.selected_asset_keys:
                        yield dg.MaterializeResult(asset_key=key, metadata=metadata)
                    else:
                        # The flow makes all its datasets at once: those that were not selected are new as well.
                        context.log_event(dg.AssetMaterialization(asset_key=key, metadata=metadata))

    return prepare


def files_that_map(system: System, table: LegacyTable) -> list[Path]:
    """The mapping files that say what becomes of a table."""
    files = [
        mapping_file(system, model)
        for model, mapping in system.mappings.targets.items()
        if table.name in mapping.sources
    ]
    return files or [system.mappings_dir / ARCHIVED]


def mapping_file(system: System, model: str) -> Path:
    return system.mappings.files.get(model, system.mappings_dir / f"{model}.yaml")


def flow_upstream(
    graph: Graph, flow: Flow, lineage: Mapping[str, Sequence[tuple[Sequence[str], str]]]
) -> list[dg.AssetKey]:
    """The decisions and tables a flow reads, the mappings it joins with, the value maps its columns go through."""
    keys = [graph.key("decision", decision) for decision in flow.decisions]
    keys += [graph.key("legacy", source) for source in flow.sources]
    keys += [graph.key("mapping", mapping) for mapping in flow.mappings]
    keys += [graph.key(*key[1:]) for sources in lineage.values() for key, _ in sources]
    return list(dict.fromkeys(keys))


def priority(graph: Graph, models: Iterable[str], least: int = 0) -> dict[str, str]:
    """Models of the load order come before the others, the first of it first."""
    ranks = [len(graph.load_order) - graph.load_order.index(model) for model in models if model in graph.load_order]
    return {"dagster/priority": str(least + max(ranks, default=0))}


def prepared_metadata(
    environment: RunEnvironment,
    flow: Flow,
    manifest: Manifest,
    lineage: Mapping[str, Sequence[tuple[Sequence[str], str]]],
) -> dict[str, Any]:
    facts = manifest.metadata
    entries = facts.get("accounting", [])
    used = {key: environment.decisions.chosen.get(key, "") for key in flow.decisions}
    target = environment.system.target(manifest.key[2])
    rows = first_rows_of(environment, manifest)
    return {
        **dataset_metadata(manifest, environment.lake.location(manifest, ""), environment.run_id),
        **accounting_metadata(entries),
        "coercions": markdown_table(
            ("source", "coercions"), [(entry["source_table"], counts_text(entry["coerced"])) for entry in entries]
        ),
        "decisions": markdown_table(("decision", "chosen"), list(used.items())),
        PREVIEW: masked_preview(rows, environment.system.personal_columns(target)),
        **{f"{name} rows": sum(entry[name] for entry in entries) for name in ("read", "migrated", "rejected")},
        **lineage_metadata(lineage),
    }


def rejected_metadata(environment: RunEnvironment, model: str) -> dict[str, Any]:
    key = (environment.system.name, "rejected", model)
    manifest = environment.lake.require(key)
    reasons = (
        environment.lake.scan(key, manifest=manifest)
        .group_by("source_table", pl.col("reasons").list.join(", "), "partial")
        .len("rows")
        .sort("rows", "source_table", "reasons", descending=[True, False, False])
        .collect(engine="streaming")
    )
    first = first_rows_of(environment, manifest)
    return {
        **dataset_metadata(manifest, environment.lake.location(manifest, ""), environment.run_id),
        PREVIEW: markdown_table(
            REJECTED_SHOWN, [rejected_cells(environment.system, row) for row in first.iter_rows(named=True)]
        ),
        "reasons": markdown_table(
            ("source", "reasons", "of", "rows"),
            [
                (source, why, "a part of a row" if partial else "a whole row", f"{rows:,}")
                for source, why, partial, rows in reasons.iter_rows()
            ],
        ),
    }


def rejected_cells(system: System, rejected: Mapping[str, Any]) -> tuple[str, ...]:
    """A rejected row as people may see it: REJECTED_SHOWN."""
    row, table = json.loads(rejected["row"]), system.legacy_tables[rejected["source_table"]]
    return (
        rejected["source_table"],
        mask_emails(rejected["source_key"]),
        ", ".join(rejected["reasons"]),
        "a part of the row" if rejected["partial"] else "the row",
        masked_detail(rejected["detail"], row, frozenset(filter(table.is_personal, row))),
    )


# --- targets ----------------------------------------------------------------------------------------------------------


def build_target(graph: Graph, target: TargetTable) -> dg.AssetsDefinition:
    """One step that loads the prepared rows of a model into its table, and checks that it took them all."""
    system = graph.system
    key = graph.key("target", target.model)
    flow = system.flow_of(target.model)
    prepared = graph.key("prepared", target.model)
    columns = column_descriptions(system.mappings.for_target(target.model), flow.sources if flow else None)
    lineage = {name: [(prepared.path, name)] for name in columns}
    spec = graph.spec(
        key,
        target.area,
        graph.described(target.description, target.decision),
        skippable=True,
        # Of all models of the flow: what closes the gate of one of them closes that of the others.
        deps=list(dict.fromkeys([prepared, *sorted(graph.made_together("prepared", target.model))])),
        kinds={"postgres"},
        metadata={
            "dagster/column_schema": target_column_schema(target, columns),
            "dagster/table_name": target.name,
            "filled": "inserts rows" if target.writes == "insert" else "fills columns of rows that other areas own",
            **code_references(graph.project, mapping_file(system, target.model)),
        },
    )

    @dg.multi_asset(
        name=f"{system.name}_load_{dagster_name(target.model)}",
        specs=[spec],
        check_specs=[check_spec(key, load_check(target.model), [])],
        can_subset=True,
        required_resource_keys=RESOURCES,
        op_tags=priority(graph, [target.model], LOADS),
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            if key in context.selected_asset_keys:
                sender = file_sender(context, environment, target)
                summary = load_model(environment, target, environment.load(), context.log.info, send=sender)
                rows = first_rows(environment.target_url, system.name, target, list(lineage), PREVIEW_ROWS)
                yield dg.MaterializeResult(
                    asset_key=key,
                    metadata={
                        **load_metadata(summary),
                        **sending_metadata(sender),
                        PREVIEW: masked_preview(rows, system.personal_columns(target)),
                        **lineage_metadata(lineage),
                    },
                )
            if context.selected_asset_check_keys:
                outcome = load_outcome(read_found_by_load(environment.target_url, system.name, target))
                yield check_result(key, NONE_REJECTED, outcome, outcome.severity or "ERROR")

    return load


def load_model(
    environment: RunEnvironment,
    target: TargetTable,
    run: RunContext,
    log: Callable[[str], None],
    *,
    send: FileSender | None = None,
) -> LoadSummary:
    """Load a model, or try to where the run is dry."""
    return load_target(
        environment.system.name,
        target,
        environment.lake,
        environment.target_url,
        run,
        on_conflict=environment.decisions.chosen.get("on_target_conflict", "keep_target"),
        progress=StepProgress(f"{'plan' if run.dry else 'load'} {target.model}", log),
        legacy_rows=legacy_rows(environment),
        send=send,
        waiting=log,
    )


def file_sender(
    context: dg.AssetExecutionContext, environment: RunEnvironment, target: TargetTable
) -> FileSender | None:
    """Sends the files of a target's rows, where it has any; what killed runs left half sent is removed first."""
    if target.file_columns is None:
        return None
    store = environment.file_store()
    try:
        if abandoned := store.remove_abandoned():
            context.log.info(f"{abandoned} half-sent files of earlier runs were removed")
    except Exception as error:  # a store may not let them be listed, and a run can do without
        context.log.warning(f"half-sent files of earlier runs cannot be looked for ({type(error).__name__})")
    progress = StepProgress(f"send files of {target.model}", context.log.info)
    noted = SentFilesOfRun(environment.load(), target.name)
    return FileSender(target, store, environment.legacy_files(), progress, noted)


def sending_metadata(sender: FileSender | None) -> dict[str, Any]:
    if sender is None:
        return {}
    return {
        "files sent": sender.counts["sent"],
        "files that were there": sender.counts["present"],
        "files that could not be sent": sender.counts["rejected"],
        "bytes sent": sender.bytes_sent,
    }


def legacy_rows(environment: RunEnvironment) -> Callable[[str], pl.LazyFrame]:
    """The rows of a legacy table as flows read them, with `_source_key`."""
    system = environment.system

    def rows(table: str) -> pl.LazyFrame:
        declared = system.legacy_tables[table]
        return source_key(declared, legacy_frame(environment.lake, system.name, declared))

    return rows


def load_metadata(summary: Any) -> dict[str, Any]:
    facts = asdict(summary)
    touched = sum(facts[name] for name in ("inserted", "updated", "unchanged", "adopted", "conflicts"))
    seconds = facts["seconds"]
    return {
        "dagster/row_count": facts["inserted"] + facts["updated"] + facts["unchanged"] + facts["adopted"],
        **{
            name.replace("_", " "): facts[name]
            for name in ("inserted", "updated", "unchanged", "adopted", "conflicts", "vanished", "rejected")
        },
        "parts left as they are": facts["skipped_parts"],
        "time": duration_text(seconds),
        "rows per second": round(touched / seconds) if seconds else 0,
        **accounting_metadata(facts["accounting"]),
    }


def build_unfilled_target(graph: Graph, target: TargetTable) -> dg.AssetSpec:
    """External assets: tables of other areas, tables that start empty, and models no flow fills yet."""
    return graph.spec(
        graph.key("target", target.model),
        target.area,
        graph.described(target.description, target.decision),
        kinds={"postgres"},
        metadata={
            "dagster/column_schema": target_column_schema(target),
            "dagster/table_name": target.name,
            "filled": why_unfilled(graph, target),
        },
    )


def why_unfilled(graph: Graph, target: TargetTable) -> str:
    if target.writes == "nothing" and target.area != OTHER_AREAS:
        return "no: this migration writes nothing here, and a check shows it"
    would = [
        f"{decision.key} = {option} would; chosen is {decision.chosen}"
        for decision in graph.choices
        for option, flows in graph.flows_by_option(decision.key).items()
        if any(target.model in flow.targets for flow in flows)
    ]
    if would:
        return f"not filled: decision {'; '.join(would)}"
    return "no: another area's table, only read" if target.area == OTHER_AREAS else "not filled yet"


# --- checks -----------------------------------------------------------------------------------------------------------


def build_check_step(graph: Graph, group: CheckGroup) -> dg.AssetChecksDefinition:
    """One step that evaluates all checks of a group together."""
    key = graph.key(*group.asset)
    made_with_it = graph.made_together(*group.asset)
    needs = [need for need in (graph.key(*need) for need in group.needs) if need not in made_with_it]
    declared = {spec.name: spec for spec in (*group.specs, *tie_of(group))}
    specs = [check_spec(key, spec, needs) for spec in declared.values()]

    @dg.multi_asset_check(
        name=f"{graph.system.name}_check_{'_'.join(key.path[1:])}",
        specs=specs,
        can_subset=True,
        required_resource_keys=RESOURCES,
        op_tags=CHECKS,
    )
    def check_step(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            missing = [
                need for need in needs if environment.lake.manifest(need.path) is None and need.path[1] != "target"
            ]
            if missing:
                # Only some assets were selected, and never the others: not evaluated is no failure.
                names = ", ".join("/".join(need.path) for need in missing)
                context.log.warning(f"not evaluated: {names} has not been materialised")
                return
            outcomes = {EVALUATED: CheckOutcome(True, 0), **group.evaluate(check_context(environment))}
            for check in context.selected_asset_check_keys:
                outcome, spec = outcomes[check.name], declared[check.name]
                severity = outcome.severity or spec.severity
                if spec.structure and severity == "ERROR" and not outcome.passed:
                    environment.failures.append(f"{'/'.join(group.asset)}: {check.name}")
                yield check_result(key, check.name, outcome, severity)

    return check_step


def tie_of(group: CheckGroup) -> Iterator[CheckSpec]:
    """A check that ties what is made of the asset to those that close the gate, where none of structure does."""
    if group.needs and any(spec.closes_gate for spec in group.specs) and not any(s.structure for s in group.specs):
        yield CheckSpec(
            EVALUATED,
            group.asset,
            "The checks of this asset were evaluated. Loads of what is made of it wait for that, on every executor.",
            "ERROR",
            structure=True,
        )


def check_result(key: dg.AssetKey, name: str, outcome: CheckOutcome, severity: Severity) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=outcome.passed,
        asset_key=key,
        check_name=name,
        severity=dg.AssetCheckSeverity[severity],
        metadata={"count": outcome.count, **check_metadata(outcome.metadata)},
    )


def check_spec(key: dg.AssetKey, spec: CheckSpec, needs: Sequence[dg.AssetKey]) -> dg.AssetCheckSpec:
    """Dagster's own blocking flag is for structure; `blocking` of ours is the gate in the load."""
    return dg.AssetCheckSpec(
        spec.name,
        asset=key,
        description=spec.description,
        additional_deps=needs,
        blocking=spec.structure,
        metadata={"severity": spec.severity, BLOCKS: spec.blocking},
    )


def check_context(environment: RunEnvironment) -> CheckContext:
    return CheckContext(
        lake=environment.lake,
        system=environment.system,
        decisions=environment.decisions,
        value_maps=environment.system.mappings.value_maps,
        settings=environment.settings,
    )


def build_untouched_checks(graph: Graph, targets: Sequence[TargetTable]) -> dg.AssetChecksDefinition:
    """One step that shows that this migration wrote nothing into the tables that start empty."""
    by_key = {graph.key("target", target.model): target for target in targets}
    name = "untouched"

    @dg.multi_asset_check(
        name=f"{graph.system.name}_check_untouched",
        specs=[
            dg.AssetCheckSpec(name, asset=key, description="This migration wrote nothing here; the table starts empty.")
            for key in by_key
        ],
        can_subset=True,
        required_resource_keys=RESOURCES,
        op_tags=LAST,
    )
    def check_untouched(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment), refusals_told(), connect(environment.target_url) as connection:
            for check in context.selected_asset_check_keys:
                outcome = untouched(connection, by_key[check.asset_key], graph.system.name)
                yield dg.AssetCheckResult(
                    passed=outcome.passed, asset_key=check.asset_key, check_name=name, metadata=asdict(outcome)
                )

    return check_untouched
