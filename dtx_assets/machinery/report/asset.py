"""The asset `report/cutover`: the cutover page, made at the end of a run, and by `dtx report` at any time."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.checks.obstacles import Obstacle
from dtx_assets.machinery.checks.spec import CheckGroup
from dtx_assets.machinery.dagster.gate import GateOfInstance
from dtx_assets.machinery.dagster.graph import REPORTS, RESOURCES, Graph, told
from dtx_assets.machinery.dagster.metadata import obstacles_table
from dtx_assets.machinery.report import gather, write_page
from dtx_assets.machinery.report.figures import read_figures
from dtx_assets.machinery.report.gather import Report
from dtx_assets.machinery.run.environment import RunEnvironment

CUTOVER = "cutover"
AT_THE_END = {"dagster/priority": "-30"}


def page_path(settings: Settings) -> Path:
    """Where the page is."""
    return settings.home / "report" / f"{CUTOVER}.html"


def build_report(
    graph: Graph, check_groups: Sequence[CheckGroup], whole_graph: Callable[[], AssetGraph]
) -> dg.AssetsDefinition:
    """The step that writes the page. `whole_graph` is asked when it runs: a run knows the assets of its own only.

    It depends on the extraction only, though it tells of everything: Dagster skips what depends on a step that failed,
    and a run that failed, or a cutover that was refused, is when the page is needed most. In one process it is last.
    """
    system = graph.system
    spec = graph.spec(
        graph.key("report", CUTOVER),
        REPORTS,
        "The cutover page: go or no-go with the reasons, where the rows went, decisions, the mapping book, rejected"
        " rows and coercions, as one HTML file that needs no network.",
        deps=[graph.key("report", "extraction")],
        kinds={"html"},
    )

    @dg.multi_asset(
        name=f"{system.name}_cutover_report", specs=[spec], required_resource_keys=RESOURCES, op_tags=AT_THE_END
    )
    def cutover_report(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            gate = GateOfInstance(graph, check_groups, context.instance)
            report, _, path = write_cutover_page(environment, gate, whole_graph())
            rejected = sum(group.figures.rows for group in report.rejected if not group.figures.partial)
            context.instance.add_run_tags(
                environment.run_id,
                {
                    "mode": environment.mode,
                    "verdict": "go" if report.readiness.go else "no-go",
                    "rejected": str(rejected),
                },
            )
            yield dg.MaterializeResult(
                metadata={
                    "page": dg.MetadataValue.path(str(path.absolute())),
                    "verdict": "go" if report.readiness.go else "no-go",
                    "points in the way": len(report.readiness.todo),
                    "to do": obstacles_table(report.readiness.todo),
                    "bytes": path.stat().st_size,
                }
            )

    return cutover_report


def write_cutover_page(
    environment: RunEnvironment, gate: GateOfInstance, whole_graph: AssetGraph
) -> tuple[Report, list[Obstacle], Path]:
    """Write the page as things are now; gives what it says, what is in the way, accepted or not, and where it is."""
    system, settings, masked = environment.system, environment.settings, environment.settings.masked()
    if gate.instance is None:
        raise TypeError("there is no page without a history")
    models = [target.model for target in system.filled_targets]
    found = gate.in_the_way(environment, models, cutover=True)
    report = gather(
        system,
        whole_graph,
        gate.instance,
        read_figures(environment.target_url, system.name),
        found,
        now=datetime.now(UTC),
        source="the shipped sample"
        if settings.legacy_url == str(system.sample_dir.absolute())
        else masked["legacy_url"],
        target=masked["target_url"] if settings.target_url else "the embedded database",
    )
    return report, found, write_page(report, page_path(settings))
