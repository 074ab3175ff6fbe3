"""The assets of the layer `archive`: each legacy table, kept as it was extracted."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from dtx_assets.machinery.archive.store import CHECK as READS_BACK
from dtx_assets.machinery.archive.store import archive_table, differences
from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.base.names import dataset_name
from dtx_assets.machinery.base.progress import StepProgress
from dtx_assets.machinery.base.settings import mask_url
from dtx_assets.machinery.checks.documents import UNDECLARED_COLLECTIONS
from dtx_assets.machinery.checks.spec import CheckSpec
from dtx_assets.machinery.dagster.checks import check_spec
from dtx_assets.machinery.dagster.extraction import first_rows_of, legacy_preview
from dtx_assets.machinery.dagster.graph import LAST, REPORTS, RESOURCES, Graph, told
from dtx_assets.machinery.dagster.metadata import (
    accounting_metadata,
    code_references,
    legacy_column_schema,
    lineage_metadata,
)
from dtx_assets.machinery.dagster.metadata import table as metadata_table
from dtx_assets.machinery.load import (
    book_archive,
)
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.sources.undeclared import LAYER as UNDECLARED


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

    @dg.multi_asset(
        name=f"{system.name}_archive_{key.path[-1]}",
        specs=[spec],
        check_specs=[reads_back(key, table.name, "both hold the rows that are landed")],
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
                        **legacy_preview(table, rows),
                        **lineage_metadata({name: [(landed.path, name)] for name in manifest.metadata["columns"]}),
                    },
                )
            if context.selected_asset_check_keys:
                wrong = found_wrong(environment, table.name)
                yield reading_back(environment, key, table.name, wrong)

    return archive


def build_undeclared_archive(graph: Graph) -> dg.AssetsDefinition:
    """One step that archives each collection that nobody declared, and books its documents as migrated to the archive.

    Which there are is known only when the source was read: they are no assets of their own.
    """
    key, listed = graph.key("archive", UNDECLARED_COLLECTIONS[1]), graph.key(*UNDECLARED_COLLECTIONS)
    spec = graph.spec(
        key,
        REPORTS,
        "All documents of the collections that nobody declared, to the byte. That is all that happens to them: each"
        " counts as migrated to the archive.",
        skippable=True,
        deps=[listed],
        kinds={"csv", "parquet"},
        metadata={"migrated to": "the archive only", **code_references(graph.project, archive_table)},
    )

    @dg.multi_asset(
        name=f"{graph.system.name}_archive_{key.path[-1]}",
        specs=[spec],
        check_specs=[reads_back(key, UNDECLARED_COLLECTIONS[1], "all hold the documents that are landed")],
        can_subset=True,
        required_resource_keys=RESOURCES,
        op_tags=LAST,
    )
    def archive(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        environment: RunEnvironment = context.resources.migration
        lake, system = environment.lake, graph.system.name
        with told(environment):
            names = list(lake.require(tuple(listed.path)).metadata["documents"])
            if key in context.selected_asset_keys:
                made = [
                    archive_table(
                        lake,
                        environment.archive,
                        system,
                        name,
                        environment.run_id,
                        StepProgress(f"archive {name}", context.log.info),
                        layer=UNDECLARED,
                    )
                    for name in names
                ]
                booked = [
                    book_archive(environment.load(), name, manifest.metadata["rows"])
                    for name, manifest in zip(names, made, strict=True)
                ]
                yield dg.MaterializeResult(
                    asset_key=key,
                    metadata={
                        "dagster/row_count": sum(entry["read"] for entry in booked),
                        "collections": metadata_table(
                            ("collection", "documents", "location"),
                            [
                                (
                                    entry["source_table"],
                                    f"{entry['read']:,}",
                                    mask_url(environment.archive.location(manifest, "")),
                                )
                                for entry, manifest in zip(booked, made, strict=True)
                            ],
                        ),
                        **(accounting_metadata(booked) if booked else {}),
                    },
                )
            if context.selected_asset_check_keys:
                wrong = [
                    f"{name}: {difference}"
                    for name in names
                    for difference in found_wrong(environment, name, layer=UNDECLARED)
                ]
                yield reading_back(environment, key, UNDECLARED_COLLECTIONS[1], wrong)

    return archive


def reads_back(key: dg.AssetKey, name: str, held: str) -> dg.AssetCheckSpec:
    """The check that an archive can be read; `held` says what of it."""
    said = (
        f"The files have the SHA-256 they were written with, and {held}: they were read back and compared when"
        " they were written. A cutover reads and compares all rows again, a rehearsal the SHA-256."
    )
    return check_spec(key, CheckSpec(READS_BACK, ("archive", name), said, severity="ERROR", structure=True), [])


def found_wrong(environment: RunEnvironment, table: str, *, layer: str = "legacy") -> list[str]:
    """What is wrong with an archive. A cutover compares rows that it did not read back itself when it wrote them."""
    name, archive = environment.system.name, environment.archive

    def is_own() -> bool:
        stored = archive.manifest((name, dataset_name(table)))
        return stored is not None and stored.run_id == environment.run_id

    by_rows = environment.mode == "cutover" and not is_own()
    return differences(environment.lake, archive, name, table, layer=layer, by_rows=by_rows)


def reading_back(environment: RunEnvironment, key: dg.AssetKey, name: str, wrong: Sequence[str]) -> dg.AssetCheckResult:
    """What that check found wrong, which fails the run at its end."""
    if wrong:
        environment.failures.append(f"archive/{name}: {READS_BACK}")
    return dg.AssetCheckResult(
        passed=not wrong,
        asset_key=key,
        check_name=READS_BACK,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"count": len(wrong), **archive_check_metadata(wrong)},
    )


def archive_metadata(
    environment: RunEnvironment, manifest: Manifest, booked: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    facts = manifest.metadata
    return {
        "dagster/row_count": facts["rows"],
        "columns": len(facts["columns"]),
        "files": metadata_table(
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
