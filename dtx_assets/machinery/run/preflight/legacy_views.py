"""Whether the views that answer for the legacy tables are in the target, or can be made."""

from collections.abc import Iterator

from dtx_assets.machinery.load.legacy_views import SCHEMA, legacy_views, missing, obstacle
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.preflight.finding import Finding, shortened

PART, SUBJECT = "target", f"schema {SCHEMA}"


def legacy_view_findings(environment: RunEnvironment, connection: Connection | None) -> Iterator[Finding]:
    """A finding for a system that declares such views, where there is a target."""
    system = environment.system
    declared = legacy_views(system)
    if connection is None or not declared:
        return
    lacking = missing(connection, system)
    if lacking and (found := obstacle(connection, system)):
        says, remedy = found
        yield Finding(PART, SUBJECT, "no", says, remedy)
    elif lacking == list(declared):
        yield Finding(PART, SUBJECT, "yes", "is made by the first run")
    elif lacking:
        yield Finding(PART, SUBJECT, "warn", f"lacks {shortened(lacking)}", "the next run makes what its tables allow")
    else:
        yield Finding(PART, SUBJECT, "yes", f"{len(declared)} views")
