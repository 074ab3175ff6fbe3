"""The places that a run writes to: whether they can be written, and have room."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError as ObjectStoreError

from dtx_assets.machinery.base.errors import MigrationError
from dtx_assets.machinery.base.lake import s3_store
from dtx_assets.machinery.files.inventory import LegacyFiles
from dtx_assets.machinery.files.stored_root import StoredRoot
from dtx_assets.machinery.run.environment import RunEnvironment, local_directory
from dtx_assets.machinery.run.preflight.finding import SECONDS_TO_CONNECT, Finding
from dtx_assets.machinery.sources.stored_files import S3_ERROR_CODE

PROBE_RETRIES: Any = {"max_retries": 1, "retry_timeout": timedelta(seconds=SECONDS_TO_CONNECT)}
BYTES_IN = {"lake": 1.0, "archive": 0.5, "home": 0.1}
"""Bytes that a run keeps for each byte of the source: about twice of what was measured on 27 MB of CSV."""
BYTES_OF_EMBEDDED_TARGET = 10.0
LEAST_FREE = 200 << 20
"""What the history, the logs and an empty cluster take."""


def place(part: str, url: str, s3: Any) -> Finding:
    """Whether something can be written there: a probe is written, and deleted again."""
    directory = local_directory(url)
    return writable_directory(part, directory) if directory else writable_bucket(part, url, s3)


def writable_directory(part: str, directory: Path) -> Finding:
    nearest = existing_parent(directory)
    try:
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(b"diagnose")
            probe.flush()
    except OSError as error:
        says = f"{nearest} cannot be written: {error.strerror or type(error).__name__}"
        return Finding("places", part, "no", says, "let this account write there, or name another directory")
    made = "" if nearest == directory else ", which the first run makes"
    return Finding("places", part, "yes", f"{directory}{made}")


def writable_bucket(part: str, url: str, s3: Any) -> Finding:
    store = s3_store(url, s3, retry_config=PROBE_RETRIES)
    probe = f".diagnose-{uuid4().hex}"
    try:
        obstore.put(store, probe, b"diagnose")
        try:
            read = bytes(obstore.get(store, probe).bytes())
        finally:
            with suppress(FileNotFoundError):
                obstore.delete(store, probe)
    except (ObjectStoreError, OSError) as error:
        # The message as a whole is long, and names the access key.
        answer = S3_ERROR_CODE.search(str(error))
        says = f"{url}: the S3 server answers {answer[1]}" if answer else f"{url}: the S3 server cannot be reached"
        remedy = (
            "check bucket, prefix, AWS_ENDPOINT_URL, AWS_REGION and that the AWS_* credentials may put, get, delete"
        )
        return Finding("places", part, "no", says, remedy)
    if read != b"diagnose":
        return Finding("places", part, "no", f"{url} gives back something else than was put there", "check the server")
    return Finding("places", part, "yes", f"{url} takes, gives and deletes objects")


def files_root(files: LegacyFiles) -> Finding:
    root = files.root
    try:
        if isinstance(root, StoredRoot):
            is_empty = root.is_empty()
        else:
            with os.scandir(root) as entries:
                is_empty = next(entries, None) is None
    except (OSError, MigrationError) as error:
        why = error.what if isinstance(error, MigrationError) else error.strerror or type(error).__name__
        says = f"{root} cannot be read: {why}"
        return Finding("places", "files", "no", says, "mount the legacy files there, or name their root")
    if is_empty:
        return Finding("places", "files", "warn", f"{root} is empty: every file will be missing", "mount the files")
    return Finding("places", "files", "yes", str(root))


def free_disk(environment: RunEnvironment, source_bytes: int) -> Iterator[Finding]:
    """For each local file system: what is free there, beside what a run of a source of this size may take."""
    settings = environment.settings
    home = BYTES_IN["home"] + (BYTES_OF_EMBEDDED_TARGET if settings.target_url is None else 0)
    shares = (("lake", settings.lake_url, BYTES_IN["lake"]), ("archive", settings.archive_url, BYTES_IN["archive"]))
    used: dict[int, list[tuple[str, Path, float]]] = {}
    for name, url, share in (*shares, ("home", str(settings.home), home)):
        if directory := local_directory(url):
            nearest = existing_parent(directory)
            used.setdefault(nearest.stat().st_dev, []).append((name, nearest, share))
    for places in used.values():
        free = shutil.disk_usage(places[0][1]).free
        needed = int(sum(share for _, _, share in places) * source_bytes) + LEAST_FREE
        says = f"{size_text(free)} free, about {size_text(needed)} needed for {size_text(source_bytes)} of source"
        subject = f"disk of {', '.join(name for name, _, _ in places)}"
        if free < needed:
            yield Finding("places", subject, "no", says, "make room, or put the lake and the archive elsewhere")
        elif free < 2 * needed:
            yield Finding("places", subject, "warn", says, "a second version of changed tables may not fit: make room")
        else:
            yield Finding("places", subject, "yes", says)


def existing_parent(path: Path) -> Path:
    """The path itself, or the nearest of what it lies in that is there."""
    return next(each for each in (path, *path.parents) if each.exists())


def size_text(size: int) -> str:
    return f"{size / (1 << 30):,.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):,.1f} MiB"
