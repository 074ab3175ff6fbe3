"""What of a run is one machine's, so that workers on others would have a world of their own: told before it starts."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.settings import Settings, mask_url, parameters_of
from dtx_assets.machinery.base.workers import EVERYTHING

DATABASE_IN_FILE = "sqlite"


def require_for_all(settings: Settings, history: str | None, endpoint: str | None = None) -> None:
    """ConfigurationError, with all reasons, where not all processes that do steps have what the run is made of.

    `history` is the directory of a Dagster instance that is one, `endpoint` another address of S3 than Amazon's.
    """
    if not settings.workers.are_several:
        return
    reasons = list(what_is_of_one_machine(settings, history, endpoint))
    if reasons:
        prefix = settings.system.upper()
        raise ConfigurationError(
            f"the executor is {settings.workers.executor}, and its processes would not have the same world:\n"
            + "\n".join(f"    - {reason}" for reason in reasons),
            where=f"environment variable {prefix}_EXECUTOR",
            remedy="name what all of them reach (s3://…, a host's name); what all have although it looks like one"
            f" machine's name in {prefix}_SHARED: directories that are mounted everywhere, or {EVERYTHING}",
        )


def what_is_of_one_machine(settings: Settings, history: str | None, endpoint: str | None) -> Iterator[str]:
    workers, prefix = settings.workers, settings.system.upper()
    if settings.target_url is None:
        yield f"the target is the embedded PostgreSQL, which each would make for itself: name {prefix}_TARGET_URL"
    elif is_loopback(parameters_of(settings.target_url).get("host") or "localhost") and not workers.are_on_one_machine:
        yield f"the target is on a machine's own address: {mask_url(settings.target_url)} ({prefix}_TARGET_URL)"
    places = {
        "LAKE_URL": ("the lake", settings.lake_url),
        "ARCHIVE_URL": ("the archive", settings.archive_url),
        "OBJECT_STORE_URL": ("the object store", settings.object_store_url),
        "LEGACY_URL": ("the legacy tables", settings.legacy_url),
        "CROSSWALK_URL": ("the crosswalks", settings.crosswalk_url),
        "FILES_URL": ("the legacy files", settings.files_url),
    }
    for name, (what, url) in places.items():
        if (directory := in_directory(url)) is not None:
            if not workers.have(directory):
                yield f"{what}{_is(what)}in a directory: {directory} ({prefix}_{name})"
        elif is_loopback(urlsplit(url).hostname or "") and not workers.are_on_one_machine:
            yield f"{what}{_is(what)}on a machine's own address: {mask_url(url)} ({prefix}_{name})"
    if endpoint and is_loopback(urlsplit(endpoint).hostname or "") and not workers.are_on_one_machine:
        yield f"S3 is on a machine's own address: {mask_url(endpoint)} (AWS_ENDPOINT_URL)"
    if history and not workers.have(history):
        yield f"the history of runs is in a directory: {history} (DAGSTER_HOME; see deploy/dagster.yaml)"


def _is(what: str) -> str:
    return " are " if what.endswith("s") else " is "


def in_directory(url: str) -> str | None:
    """The directory or file of a machine that a location names; None for what is reached over the network."""
    if "://" not in url:
        return url
    scheme, _, rest = url.partition("://")
    if scheme.partition("+")[0] == DATABASE_IN_FILE:
        return str(Path("/") / rest.removeprefix("/").partition("?")[0])
    return None


def is_loopback(host: str) -> bool:
    """Whether an address is the machine's own, whichever machine asks; a socket of a database is too."""
    return any(
        each in ("localhost", "::1", "[::1]") or each.startswith(("127.", "/")) for each in host.lower().split(",")
    )
