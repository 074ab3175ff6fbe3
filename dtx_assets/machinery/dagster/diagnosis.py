"""The preflight as a Dagster job of one op. What it looks at is `diagnose`."""

from collections.abc import Sequence

import dagster as dg

from dtx_assets.machinery.dagster.graph import RESOURCES, Graph, told
from dtx_assets.machinery.dagster.metadata import table
from dtx_assets.machinery.run.diagnose import diagnose
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.preflight.finding import Finding


def build_diagnosis_job(graph: Graph) -> dg.JobDefinition:
    """One op that looks at everything a run needs, and fails where something is not there."""
    name = graph.system.name

    @dg.op(
        name=f"{name}_look_at_everything",
        description="Asks source, target, crosswalks, lake, archive, object store, files and disks; writes nothing.",
        required_resource_keys=RESOURCES,
        out=dg.Out(dg.Nothing),
    )
    def look_at_everything(context: dg.OpExecutionContext) -> None:
        environment: RunEnvironment = context.resources.migration
        with told(environment):
            findings = diagnose(environment)
            metadata = {"findings": findings_table(findings)}
            if wrong := [finding for finding in findings if finding.state == "no"]:
                listed = "\n".join(f"{each.part}, {each.subject}: {each.says}" for each in wrong)
                raise dg.Failure(
                    f"{len(wrong)} things are not ready:\n{listed}", metadata=metadata, allow_retries=False
                )
            context.add_output_metadata(metadata)

    @dg.job(
        name=f"{name}_diagnose",
        description="The preflight: everything a run needs, looked at before anything is written. `dtx diagnose`.",
    )
    def diagnosis() -> None:
        look_at_everything()

    return diagnosis


def findings_table(findings: Sequence[Finding]) -> dg.MetadataValue:
    return table(
        ("part", "what", "is well", "seen", "do"),
        [(each.part, each.subject, each.state, each.says, each.remedy) for each in findings],
    )
