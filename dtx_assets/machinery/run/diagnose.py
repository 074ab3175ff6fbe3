"""The preflight: whether everything a run needs is there, asked of all places before any of them is written.

It reads, and leaves nothing behind: the target is asked in read-only transactions, what is landed for it is landed in a
scratch directory, and the probes of the lake, the archive and the object store are deleted again. An embedded target
that is not there yet is not made. Each place has its module in `preflight`.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.preflight.areas import areas
from dtx_assets.machinery.run.preflight.decided_rows import decided_rows
from dtx_assets.machinery.run.preflight.derived import derived_parts
from dtx_assets.machinery.run.preflight.finding import Finding, Now
from dtx_assets.machinery.run.preflight.legacy_views import legacy_view_findings
from dtx_assets.machinery.run.preflight.places import files_root, free_disk, place
from dtx_assets.machinery.run.preflight.program import configuration, program
from dtx_assets.machinery.run.preflight.source import Sources
from dtx_assets.machinery.run.preflight.target import Target


def diagnose(environment: RunEnvironment, *, now: Now = lambda: datetime.now(UTC)) -> list[Finding]:
    """All findings, in the order of the run. Raises ConfigurationError only where the settings make no sense."""
    return [finding for part in parts(environment, now) for finding in part]


def parts(environment: RunEnvironment, now: Now) -> Iterator[list[Finding]]:
    settings = environment.settings
    yield [*program(), configuration(environment)]
    with ExitStack() as stack:
        sources = Sources(environment, stack)
        yield sources.findings
        yield list(decided_rows(environment, sources))
        target = Target(environment, stack, now)
        yield target.findings
        yield list(legacy_view_findings(environment, target.connection))
        yield list(areas(environment, sources, target))
        yield [
            place("lake", settings.lake_url, environment.s3),
            place("archive", settings.archive_url, environment.s3),
        ]
        yield list(derived_parts(environment, target.connection))
        if any(table.file_columns for table in environment.system.targets):
            store = place("object store", settings.object_store_url, environment.s3)
            yield [store, files_root(environment.legacy_files())]
        yield list(free_disk(environment, sources.stored_bytes))
