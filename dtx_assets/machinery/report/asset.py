"""The asset `report/cutover`: the cutover page, made at the end of a run, and by `dtx report` at any time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.checks.obstacles import Obstacle, count_of_kinds
from dtx_assets.machinery.checks.spec import CheckGroup
from dtx_assets.machinery.dagster.changed_graph import made_from
from dtx_assets.machinery.dagster.gate import GateOfInstance
from dtx_assets.machinery.dagster.graph import REPORTS, RESOURCES, Graph, told
from dtx_assets.machinery.dagster.metadata import POINTS, obstacles_table, table
from dtx_assets.machinery.dagster.served_pages import page_address
from dtx_assets.machinery.report import gather, write_page
from dtx_assets.machinery.report.figures import RUNS_SHOWN, Figures, read_figures, read_runs
from dtx_assets.machinery.report.gather import Report, after_its_run
from dtx_assets.machinery.run.environment import RunEnvironment

CUTOVER = "cutover"
STEP = "_cutover_report"
SERVED = "page in the browser"
AT_THE_END = {"dagster/priority": "-30"}


@dataclass(frozen=True)
class Page:
    """The page as it was written, and what it was made of; `found` is what is in the way, accepted or not."""

    report: Report
    figures: Figures
    found: tuple[Obstacle, ...]
    path: Path


_written: dict[str, Page] = {}
"""The page of the run that a step of this process wrote last, by the run's id: for who runs it in this process."""


def page_path(settings: Settings) -> Path:
    """Where the page is."""
    return settings.home / "report" / f"{CUTOVER}.html"


def build_report(
    graph: Graph, check_groups: Sequence[CheckGroup], whole_graph: Callable[[], AssetGraph], *, of_run: bool = False
) -> dg.AssetsDefinition:
    """The step that writes the page. `whole_graph` is asked when it runs: a run knows the assets of its own only.

    The graph shows what it tells of. `of_run`: as the jobs make it, which waits for the extraction only: Dagster skips
    what depends on a step that failed, and a run that failed, or a cutover that was refused, is when the page is needed
    most. In one process it is last.
    """
    system = graph.system
    spec = graph.spec(
        graph.key("report", CUTOVER),
        REPORTS,
        "The cutover page: go or no-go with the reasons, where the rows went, decisions, the mapping book, rejected"
        " rows and coercions, as one HTML file that needs no network.",
        deps=[graph.key("report", "extraction"), *([] if of_run else reported_on(graph))],
        kinds={"html"},
        # Of the UI that shows it, whichever run has written the page.
        metadata={SERVED: dg.MetadataValue.url(served)} if (served := page_address(system.name)) else {},
    )

    # Steps of one name have to be the same in all jobs.
    name = f"{system.name}{STEP}" + ("" if of_run else "_after_all")

    @dg.multi_asset(name=name, specs=[spec], required_resource_keys=RESOURCES, op_tags=AT_THE_END)
    def cutover_report(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            gate = GateOfInstance(graph, check_groups, context.instance)
            shown = whole_graph()
            page = write_cutover_page(environment, gate, shown)
            report, path = page.report, page.path
            _written.clear()
            _written[environment.run_id] = page
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
                tags=made_from(context.instance, shown, spec.key),
                metadata={
                    **({SERVED: dg.MetadataValue.url(served)} if served else {}),
                    "page": dg.MetadataValue.path(str(path.absolute())),
                    "verdict": "go" if report.readiness.go else "no-go",
                    POINTS: len(report.readiness.todo),
                    "who has to do what": table(
                        ("owner", "points", "of them"),
                        [
                            (owner, f"{len(found):,}", count_of_kinds(found))
                            for owner, found in report.readiness.by_owner.items()
                        ],
                    ),
                    "to do": obstacles_table(report.readiness.todo),
                    "bytes": path.stat().st_size,
                },
            )

    return cutover_report


def reported_on(graph: Graph) -> list[dg.AssetKey]:
    """What the page tells of, as far as nothing else is made from it: decisions, archives, what was rejected, loaded
    and found between phases."""
    system = graph.system
    return [
        *(graph.key("decision", decision.key) for decision in graph.choices),
        *(graph.key("archive", table) for table in system.legacy_tables),
        *(graph.key("rejected", model) for flow in system.flows for model in flow.targets),
        *(graph.key("target", target.model) for target in system.filled_targets),
        *(graph.key("report", phase.report) for phase in system.phases),
    ]


def page_of_last_step(run_id: str, steps: Sequence[str]) -> Page | None:
    """The page that the last step of a run wrote, if that was in this process; `steps` are those of the run in order,
    all of which succeeded.

    After it nothing was loaded or checked, so that a run's end changes no more than what is said of runs.
    """
    page = _written.get(run_id)
    if page is None or not steps or not steps[-1].endswith(STEP):
        return None
    is_open = any("running" in area.tally for area in page.report.readiness.areas)
    return None if is_open else page


def write_after_its_run(environment: RunEnvironment, instance: dg.DagsterInstance, page: Page) -> Page:
    """Write the page of a run's last step anew, now that the run has ended."""
    system = environment.system
    runs, loaded = read_runs(environment.target_url, system.name, RUNS_SHOWN)
    figures = replace(page.figures, runs=runs, loaded=loaded)
    report = after_its_run(page.report, system, instance, figures, now=datetime.now(UTC))
    return replace(page, report=report, figures=figures, path=write_page(report, page.path))


def write_cutover_page(environment: RunEnvironment, gate: GateOfInstance, whole_graph: AssetGraph) -> Page:
    """Write the page as things are now."""
    system, settings, masked = environment.system, environment.settings, environment.settings.masked()
    if gate.instance is None:
        raise TypeError("there is no page without a history")
    models = [target.model for target in system.filled_targets]
    found = gate.in_the_way(environment, models, cutover=True)
    figures = read_figures(environment.target_url, system.name)
    report = gather(
        system,
        whole_graph,
        gate.instance,
        figures,
        found,
        now=datetime.now(UTC),
        source="the shipped sample"
        if settings.legacy_url == str(system.sample_dir.absolute())
        else masked["legacy_url"],
        target=masked["target_url"] if settings.target_url else "the embedded database",
    )
    return Page(report, figures, tuple(found), write_page(report, page_path(settings)))
