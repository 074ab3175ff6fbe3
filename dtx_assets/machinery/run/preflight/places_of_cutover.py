"""What a cutover needs of its places, whatever its rows are: the source answers, the target can be written."""

from collections.abc import Collection
from contextlib import ExitStack
from datetime import UTC, datetime

from dtx_assets.machinery.checks.obstacles import Obstacle
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.preflight.finding import Finding
from dtx_assets.machinery.run.preflight.source import Sources
from dtx_assets.machinery.run.preflight.target import Target


def places_in_the_way(environment: RunEnvironment, *, source: bool, models: Collection[str]) -> list[Obstacle]:
    """What is wrong with the places that a load of `models` needs; of the source only where it is read.

    An embedded target is made by the run itself, and not asked.
    """
    with ExitStack() as stack:
        findings = Sources(environment, stack, closely=False).findings if source else []
        if models and environment.settings.target_url is not None:
            findings = findings + Target(environment, stack, lambda: datetime.now(UTC)).findings
    filled = environment.system.filled_targets
    others = [target.name for target in filled if target.model not in models]
    return [
        Obstacle(
            "structure",
            f"{finding.part}/{finding.subject}",
            finding.part,
            finding.says,
            environment.system.owner,
            finding.remedy,
        )
        for finding in findings
        if finding.state == "no" and finding.stops and not _is_of(finding, others)
    ]


def _is_of(finding: Finding, tables: Collection[str]) -> bool:
    """Whether it is about one of these tables, its model or a column of it."""
    about = finding.subject.removeprefix("table ")
    return about != finding.subject and any(
        about == name or about.startswith((f"{name} ", f"{name}.")) for name in tables
    )
