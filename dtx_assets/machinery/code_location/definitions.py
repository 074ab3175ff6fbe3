"""Everything that a code location of a system serves, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from dtx_assets.machinery.checks.spec import CheckGroup
from dtx_assets.machinery.checks.standard import check_groups
from dtx_assets.machinery.dagster.assets import build_assets, build_checks_of_unfilled_targets
from dtx_assets.machinery.dagster.automation import build_export_sensor, build_rehearsal_schedule
from dtx_assets.machinery.dagster.checks import build_check_step
from dtx_assets.machinery.dagster.cutover_order import checked_assets, gate_spec
from dtx_assets.machinery.dagster.diagnosis import build_diagnosis_job
from dtx_assets.machinery.dagster.executors import executor_of
from dtx_assets.machinery.dagster.gate import known_without_a_run
from dtx_assets.machinery.dagster.graph import Graph
from dtx_assets.machinery.dagster.jobs import build_jobs, build_plan
from dtx_assets.machinery.dagster.resources import S3, environment_resource, io_manager, s3_of_environment
from dtx_assets.machinery.dagster.run_log import LOGGER, run_log
from dtx_assets.machinery.dagster.verification import build_verifications
from dtx_assets.machinery.report.asset import build_report
from dtx_assets.machinery.run.environment import ENVIRONMENT
from dtx_assets.machinery.system.system import System

# dagster-aws is imported where S3 is named: it takes half a second, and most runs meet no S3.
if TYPE_CHECKING:
    from dagster_aws.s3 import S3Resource


def build_definitions(
    system: System,
    groups: Sequence[CheckGroup] | None = None,
    *,
    s3: S3Resource | None = None,
) -> dg.Definitions:
    """Everything a code location of this system serves, with all its checks, or with those of `groups`.

    `s3` is how S3 is reached, by default as `AWS_*` says.
    """
    groups = check_groups(system) if groups is None else groups
    graph = Graph(system, groups)

    def whole_graph() -> AssetGraph:
        return definitions.resolve_asset_graph()

    definitions = dg.Definitions(
        assets=[
            *build_assets(graph),
            build_plan(graph),
            gate_spec(graph, checked_assets(groups, graph)),
            build_report(graph, groups, whole_graph),
        ],
        asset_checks=[
            *(build_check_step(graph, group) for group in groups),
            *build_checks_of_unfilled_targets(graph),
            *build_verifications(graph),
        ],
        jobs=[
            *build_jobs(
                graph,
                build_report(graph, groups, whole_graph, of_run=True),
                known_without_a_run(system, groups),
            ),
            build_diagnosis_job(graph),
        ],
        sensors=[build_export_sensor(system)],
        schedules=[build_rehearsal_schedule(system)],
        resources={
            ENVIRONMENT: environment_resource(graph, groups, whole_graph),
            "io_manager": io_manager(),
            S3: s3 or s3_of_environment(),
        },
        loggers={"console": dg.colored_console_logger, LOGGER: run_log},
        executor=executor_of(system),
    )
    return definitions
