"""The lake: what an asset holds between steps, as immutable Parquet files under one manifest that is replaced whole.

A dataset is `<system>/<layer>/<name>/`: a `manifest.json` and one directory a version. Writing makes a new version and
then replaces the manifest, so a dataset is replaced whole or not at all, and whoever holds a manifest goes on reading
the version it names. Nothing here knows what a dataset means.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from obstore.store import LocalStore, ObjectStore, S3Store

from dtx_assets.machinery.base.errors import ConfigurationError, StructureError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.base.names import dagster_name
from dtx_assets.machinery.base.private import make_private_directory
from dtx_assets.machinery.base.told_stores import told, told_when_full

LEASE_SECONDS = 24 * 3600
"""A lease older than this belongs to a run that died."""

COPY_BYTES = 8 << 20
"""What is fetched at once of an object that is copied."""


@dataclass(frozen=True)
class FileEntry:
    name: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class TableFiles:
    files: tuple[FileEntry, ...]

    @property
    def rows(self) -> int:
        return sum(entry.rows for entry in self.files)


@dataclass(frozen=True)
class Manifest:
    """What one version of a dataset holds: its tables with their files, and what its writer noted (`metadata`)."""

    key: tuple[str, ...]
    version: str
    created_at: datetime
    run_id: str
    tables: dict[str, TableFiles]
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredVersion:
    """A version of a dataset as it lies in the lake, whole or not; `touched` is when the last of it was written."""

    key: tuple[str, ...]
    name: str
    touched: datetime
    bytes: int
    is_current: bool


class Lake:
    """A directory (path or `file://`) or `s3://bucket/prefix`.

    Credentials and endpoint of S3 come from dagster-aws's S3Resource, and from `AWS_*` where it says nothing. `called`
    is what messages say of it: the archive is kept the same way.
    """

    def __init__(self, url: str, s3: Any = None, *, called: str = "the lake") -> None:
        parts = urlsplit(url)
        self.url = url
        self.called = called
        self._directory: Path | None = None
        self.store: ObjectStore
        if parts.scheme in ("", "file"):
            self._directory = Path(unquote(parts.path) if parts.scheme else url).absolute()
            with self._told():
                make_private_directory(self._directory)
                self.store = LocalStore(self._directory)
        elif parts.scheme == "s3":
            self.store = s3_store(url, s3)
            self._s3 = s3
        else:
            raise ConfigurationError(
                f"{called} cannot be kept under {parts.scheme}://",
                remedy="give a directory, file:// or s3://bucket/prefix",
            )

    # --- reading ------------------------------------------------------------------------------------------------------

    def manifest(self, key: Sequence[str]) -> Manifest | None:
        """The manifest of a dataset as it is now; None where it was never written."""
        name = f"{_path(key)}/manifest.json"
        with self._told():
            try:
                # A run asks thousands of times: of a directory at a quarter of the cost.
                content = (
                    (self._directory / name).read_bytes()
                    if self._directory
                    else bytes(obstore.get(self.store, name).bytes())
                )
            except FileNotFoundError:
                return None
        facts = json.loads(content)
        tables = {
            name: TableFiles(tuple(FileEntry(**entry) for entry in files)) for name, files in facts["tables"].items()
        }
        return Manifest(
            tuple(key),
            facts["version"],
            datetime.fromisoformat(facts["created_at"]),
            facts["run_id"],
            tables,
            facts["metadata"],
        )

    def require(self, key: Sequence[str]) -> Manifest:
        """The manifest of a dataset; StructureError where it was never written."""
        manifest = self.manifest(key)
        if manifest is None:
            raise StructureError(
                f"{'/'.join(key)} has not been materialised",
                remedy=f"materialise {'/'.join(key)} first, with what it depends on",
            )
        return manifest

    def scan(self, key: Sequence[str], table: str = "rows", *, manifest: Manifest | None = None) -> pl.LazyFrame:
        """A table of a dataset; one without rows keeps its schema."""
        manifest = manifest or self.require(key)
        return self.scan_files(manifest, table)

    def scan_files(self, manifest: Manifest, table: str, files: Sequence[str] | None = None) -> pl.LazyFrame:
        """The named files of a table (None: all), in the order they were written."""
        names = [entry.name for entry in manifest.tables[table].files if files is None or entry.name in files]
        if not names:
            raise StructureError(f"{'/'.join(manifest.key)} has no files {files} of table {table}")
        paths = [self.location(manifest, name) for name in names]
        return pl.scan_parquet(paths, storage_options=self._storage_options(), glob=False)

    def location(self, manifest: Manifest, file: str) -> str:
        """Where a file of a dataset is: a path or an `s3://` address."""
        inner = f"{_path(manifest.key)}/{manifest.version}/{file}"
        return str(self._directory / inner) if self._directory else f"{self.url.rstrip('/')}/{inner}"

    def is_complete(self, manifest: Manifest) -> bool:
        """Whether all files of a version are there, with as many bytes as were written."""
        for entry in (entry for files in manifest.tables.values() for entry in files.files):
            with self._told():
                try:
                    found = obstore.head(self.store, f"{_path(manifest.key)}/{manifest.version}/{entry.name}")
                except FileNotFoundError:
                    return False
            if found["size"] != entry.bytes:
                return False
        return True

    @contextmanager
    def local_file(self, key: Sequence[str], version: str, file: str) -> Iterator[Path]:
        """A file of a version as one of this machine: itself in a directory, else a copy while the block lasts."""
        inner = f"{_path(key)}/{version}/{file}"
        if self._directory:
            yield self._directory / inner
            return
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / file
            with self._told(), self._told_when_full(), copy.open("wb") as stream:
                for chunk in obstore.get(self.store, inner).stream(min_chunk_size=COPY_BYTES):
                    stream.write(chunk)
            yield copy

    def _storage_options(self) -> dict[str, str] | None:
        return None if self._directory else s3_storage_options(self._s3)

    # --- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def write(self, key: Sequence[str], *, run_id: str, version: str | None = None) -> "Iterator[DatasetWriter]":
        """A writer of a new version of a dataset: in place on a clean exit, else nothing of it is left.

        Of a `version` of which others wrote shares these stay, so that it can be tried again.
        """
        writer = DatasetWriter(self, tuple(key), version)
        try:
            yield writer
            before = self.manifest(key)
            manifest = {
                "version": writer.version,
                "created_at": datetime.now(UTC).isoformat(),
                "run_id": run_id,
                "tables": {name: [asdict(entry) for entry in entries] for name, entries in writer.tables.items()},
                "metadata": writer.metadata,
            }
            content = json.dumps(manifest).encode()
            reach("lake.before_manifest")
            with self._told():
                self._put_manifest(key, writer.version, content)
            reach("lake.after_manifest")
        except BaseException:
            # What cannot be removed now is removed by a later run; it must not hide what went wrong.
            with suppress(ConfigurationError):
                if version is None:
                    self._abandon(key, writer.version)
            raise
        self._remove_old_versions(key, keep={writer.version, *([before.version] if before else [])})

    @contextmanager
    def write_share(self, key: Sequence[str], version: str) -> "Iterator[DatasetWriter]":
        """A writer of some files of a version that is put in place later, each under a name of its own."""
        writer = DatasetWriter(self, tuple(key), version)
        try:
            yield writer
        except BaseException:
            names = [entry.name for entries in writer.tables.values() for entry in entries]
            with suppress(ConfigurationError):
                self._delete([f"{_path(key)}/{version}/{name}" for name in names])
            raise

    def _put_manifest(self, key: Sequence[str], version: str, content: bytes) -> None:
        """Replaces the manifest; in a directory only when all that it names is on the disk, after a power cut too."""
        name = f"{_path(key)}/manifest.json"
        if self._directory is None:
            obstore.put(self.store, name, content)
            return
        dataset = self._directory / _path(key)
        # Beside the files of the version: what a kill leaves goes with them.
        fresh = dataset / version / "manifest.json"
        make_private_directory(fresh.parent)
        with fresh.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        manifest = dataset / "manifest.json"
        above = [] if manifest.exists() else _between(dataset, self._directory)
        for directory in (fresh.parent, dataset, *above):
            _sync_directory(directory)
        fresh.replace(manifest)
        _sync_directory(dataset)

    def _abandon(self, key: Sequence[str], version: str) -> None:
        """Removes a version that was not finished, unless its manifest arrived though putting it there failed."""
        now = self.manifest(key)
        if now is None or now.version != version:
            self._remove_version(key, version)

    @contextmanager
    def lease(self, manifest: Manifest, run_id: str) -> Iterator[None]:
        """While it is held, no run removes the version that `manifest` names."""
        name = self.hold(manifest.key, manifest.version, run_id)
        try:
            yield
        finally:
            self._delete([name])

    def hold(self, key: Sequence[str], version: str, run_id: str) -> str:
        """The same for a version that is not in place yet, until somebody lets it go; gives the name of the lease."""
        name = f"{_path(key)}/leases/{version}.{run_id}.{uuid4().hex}"
        with self._told():
            obstore.put(self.store, name, b"")
        return name

    def let_go(self, key: Sequence[str], version: str) -> None:
        """Gives up all leases of a version."""
        leases = [entry["path"] for entry in self._list(f"{_path(key)}/leases/")]
        self._delete([name for name in leases if Path(name).name.startswith(f"{version}.")])

    def forget(self, key: Sequence[str]) -> None:
        """Removes a dataset with all its versions: it was never written then."""
        self._delete([f"{_path(key)}/manifest.json"])
        self._delete([entry["path"] for entry in self._list(f"{_path(key)}/")])
        if self._directory:
            shutil.rmtree(self._directory / _path(key), ignore_errors=True)

    def versions(self, system: str) -> Iterator[StoredVersion]:
        """What lies in the lake of a system's datasets, but for versions that a run holds a lease on."""
        files: dict[tuple[tuple[str, ...], str], list[Any]] = {}
        for entry in self._list(f"{system}/"):
            *key, version, name = entry["path"].split("/")
            if version == "leases" or name == "manifest.json":
                continue
            files.setdefault((tuple(key), version), []).append(entry)
        for (key, version), entries in sorted(files.items()):
            if version in self._leased(key):
                continue
            manifest = self.manifest(key)
            touched = max(entry["last_modified"] for entry in entries)
            size = sum(entry["size"] for entry in entries)
            yield StoredVersion(key, version, touched, size, manifest is not None and manifest.version == version)

    def remove(self, stored: StoredVersion) -> None:
        """Remove a version; with the one that counts now, its manifest goes first: the dataset was never written then.

        Nothing is removed where the version has come to count, or stopped to, since it was listed.
        """
        manifest = self.manifest(stored.key)
        if (manifest is not None and manifest.version == stored.name) != stored.is_current:
            return
        if stored.is_current:
            self._delete([f"{_path(stored.key)}/manifest.json"])
        self._remove_version(stored.key, stored.name)

    def _leased(self, key: Sequence[str]) -> set[str]:
        now = datetime.now(UTC)
        return {
            Path(entry["path"]).name.split(".")[0]
            for entry in self._list(f"{_path(key)}/leases/")
            if (now - entry["last_modified"]).total_seconds() < LEASE_SECONDS
        }

    def _remove_old_versions(self, key: Sequence[str], keep: set[str]) -> None:
        leased = self._leased(key)
        found: dict[str, float] = {}
        for entry in self._list(f"{_path(key)}/"):
            version = entry["path"].removeprefix(f"{_path(key)}/").split("/")[0]
            if version not in ("manifest.json", "leases"):
                found[version] = max(found.get(version, 0), entry["last_modified"].timestamp())
        for version, touched in found.items():
            # A young version that no manifest names may be one that another run is writing now.
            if version not in keep | leased and time.time() - touched > 3600:
                self._remove_version(key, version)

    def _remove_version(self, key: Sequence[str], version: str) -> None:
        paths = [entry["path"] for entry in self._list(f"{_path(key)}/{version}/")]
        self._delete(paths)
        if self._directory:
            with self._told(), suppress(FileNotFoundError):
                (self._directory / _path(key) / version).rmdir()

    def _delete(self, paths: list[str]) -> None:
        # A directory stumbles over a file that another run has removed meanwhile, and would leave the others.
        for batch in [[path] for path in paths] if self._directory else filter(None, [paths]):
            with self._told(), suppress(FileNotFoundError):
                obstore.delete(self.store, batch)

    def _list(self, prefix: str) -> list[Any]:
        with self._told():
            return [entry for page in obstore.list(self.store, prefix) for entry in page]

    def _told(self) -> AbstractContextManager[None]:
        return told(self.called, self.url, in_directory=self._directory is not None)

    def _told_when_full(self) -> AbstractContextManager[None]:
        return told_when_full(self.called, self.url, in_directory=self._directory is not None)


class DatasetWriter:
    """Collects the files of a new version of a dataset; `metadata` (JSON) goes into its manifest."""

    def __init__(self, lake: Lake, key: tuple[str, ...], version: str | None = None) -> None:
        self._lake, self._key = lake, key
        self.version = version or new_version()
        self.tables: dict[str, list[FileEntry]] = {}
        self.metadata: dict[str, Any] = {}

    def add(self, frame: pl.DataFrame, *, table: str = "rows", file: str | None = None) -> None:
        """One Parquet file of a table; its schema is kept when it has no rows."""
        with self._open(table, file) as (stream, note):
            # Statistics of texts would hold a large one several times over.
            frame.write_parquet(stream, statistics=not columns_with_large_text(frame))
            note(frame.height)

    def sink(self, frame: pl.LazyFrame, *, table: str = "rows", file: str | None = None) -> int:
        """One Parquet file of a table, streamed; gives its rows."""
        with self._open(table, file) as (stream, note):
            frame.sink_parquet(stream, engine="streaming")
            stream.flush()
            note(None)
        return self.tables[table][-1].rows

    @contextmanager
    def parquet_writer(
        self, schema: pa.Schema, *, table: str = "rows", file: str | None = None
    ) -> Iterator[pq.ParquetWriter]:
        """A pyarrow writer for one file of a table that is written bit by bit."""
        # Statistics of texts would hold a large one several times over.
        numbers = [field.name for field in schema if not pa.types.is_large_string(field.type)]
        with self._open(table, file) as (stream, note):
            with pq.ParquetWriter(stream, schema, compression="zstd", write_statistics=numbers) as writer:
                yield writer
            note(None)

    @contextmanager
    def stream(self, file: str, *, table: str) -> Iterator[tuple[BinaryIO, Callable[[int], None]]]:
        """A file of any other format, by its whole name, and what has to be called with its rows."""
        with self._open(table, file, suffix="") as opened:
            yield opened

    @contextmanager
    def _open(self, table: str, file: str | None, suffix: str = ".parquet") -> Iterator[tuple[BinaryIO, Any]]:
        entries = self.tables.setdefault(table, [])
        name = f"{file or f'{table}-{len(entries):05d}'}{suffix}"
        inner = f"{_path(self._key)}/{self.version}/{name}"
        rows: list[int | None] = []
        directory = self._lake._directory
        if directory:
            path = directory / inner
            with self._lake._told():
                make_private_directory(path.parent)
                opened = path.open("wb")
            with self._lake._told_when_full(), opened as stream:
                yield cast(BinaryIO, stream), rows.append
                stream.flush()
                os.fsync(stream.fileno())
            size = path.stat().st_size
            counted = rows[0] if rows[0] is not None else pq.read_metadata(path).num_rows
        else:
            # Through a local file: its rows and size are known before the upload, and a failed upload starts again.
            with self._lake._told_when_full(), tempfile.TemporaryFile() as stream:
                yield cast(BinaryIO, stream), rows.append
                size = stream.seek(0, os.SEEK_END)
                stream.seek(0)
                counted = rows[0] if rows[0] is not None else pq.read_metadata(stream).num_rows
                stream.seek(0)
                with self._lake._told():
                    obstore.put(self._lake.store, inner, cast(BinaryIO, stream))
        entries.append(FileEntry(name, counted, size))


def new_version() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"


LARGE_TEXT = 1 << 20
"""Bytes of a text that is held as seldom as can be."""


def columns_with_large_text(frame: pl.DataFrame) -> list[str]:
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    if frame.height <= 1:
        # Polars copies the texts of an only row with nearly everything that it does.
        return [name for name in texts if frame.get_column(name).estimated_size() > LARGE_TEXT]
    longest = frame.select(pl.col(texts).str.len_bytes().max()).row(0) if texts else ()
    return [name for name, length in zip(texts, longest, strict=True) if length is not None and length > LARGE_TEXT]


def _between(dataset: Path, lake: Path) -> list[Path]:
    """The directories above a dataset up to the lake's own parent: any of them may be new."""
    return [above for above in dataset.parents if above == lake.parent or above.is_relative_to(lake)]


def _sync_directory(directory: Path) -> None:
    """Puts the names in a directory on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _path(key: Sequence[str]) -> str:
    """Where a dataset lies: its key as Dagster has it, which is safe in paths and URLs."""
    for part in key:
        if not part or "/" in part or part in (".", ".."):
            raise ConfigurationError(f"{part!r} cannot be part of an asset key in the lake")
    return "/".join(map(dagster_name, key))


def s3_store(url: str, resource: Any = None, **settings: Any) -> S3Store:
    """The store of `s3://bucket/prefix`, with what the usual `AWS_*` variables say.

    `resource` is dagster-aws's S3Resource, or any object with its fields; what it sets wins. `settings` are more of
    obstore's own.
    """
    parts = urlsplit(url)
    given: dict[str, Any] = {**_s3_settings(resource), **settings}
    client: dict[str, Any] = {"allow_http": True} if given.get("endpoint", "").startswith("http://") else {}
    if getattr(resource, "verify", None) is False:
        client["allow_invalid_certificates"] = True
    if getattr(resource, "use_unsigned_session", False):
        given["skip_signature"] = True
    if client:
        given["client_options"] = client
    return S3Store(parts.netloc, prefix=parts.path.strip("/") or None, **given)


def s3_storage_options(resource: Any = None) -> dict[str, str]:
    """The same for Polars."""
    options = {f"aws_{name}": value for name, value in _s3_settings(resource).items()}
    if "aws_endpoint" in options:
        options["aws_endpoint_url"] = options.pop("aws_endpoint")
        if options["aws_endpoint_url"].startswith("http://"):
            options["aws_allow_http"] = "true"
    if getattr(resource, "use_unsigned_session", False):
        options["aws_skip_signature"] = "true"
    if getattr(resource, "verify", None) is False:
        options["allow_invalid_certificates"] = "true"
    return options


def _s3_settings(resource: Any) -> dict[str, str]:
    """Endpoint, region and keys that the resource or the environment names; the stores find other ones themselves."""
    settings = {
        "endpoint": getattr(resource, "endpoint_url", None)
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL"),
        "region": getattr(resource, "region_name", None)
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION"),
        "access_key_id": getattr(resource, "aws_access_key_id", None),
        "secret_access_key": getattr(resource, "aws_secret_access_key", None),
        "session_token": getattr(resource, "aws_session_token", None),
    }
    if profile := getattr(resource, "profile_name", None):
        settings |= _profile_keys(profile)
    return {name: value for name, value in settings.items() if value}


def _profile_keys(profile: str) -> dict[str, str | None]:
    """The keys of a profile of the AWS configuration files, as they are now."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        credentials = boto3.Session(profile_name=profile).get_credentials()
    except BotoCoreError as error:
        raise ConfigurationError(
            f"the AWS profile {profile!r} cannot be used ({type(error).__name__})",
            where="S3Resource.profile_name",
            remedy="name a profile that the AWS configuration files have",
        ) from None
    keys = credentials.get_frozen_credentials() if credentials else None
    return {
        "access_key_id": keys and keys.access_key,
        "secret_access_key": keys and keys.secret_key,
        "session_token": keys and keys.token,
    }


def open_archive(url: str, s3: Any = None) -> Lake:
    """The place of the archives: a directory or `s3://bucket/prefix`; its keys are `(system, table)`."""
    return Lake(url, s3, called="the archive")
