"""Where legacy tables are read from: files of CSV or documents, MySQL or MariaDB, PostgreSQL, SQLite, MongoDB, by URL.

Every reader lands a table in the lake in the one form of `landing`; `frames` reads it back.
"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.base.settings import mask_url, require_escaped
from dtx_assets.machinery.sources.csv_dialect import EVERY_RFC_4180, Dialects
from dtx_assets.machinery.sources.csv_files import CsvDirectory, CsvPrefix
from dtx_assets.machinery.sources.document_files import collections_of, databases_of, holds_documents
from dtx_assets.machinery.sources.landing import Source
from dtx_assets.machinery.sources.stored_files import Files, LocalFiles, StoredFiles

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

__all__ = ["Source", "open_source"]


def open_source(
    url: str, *, s3_resource: Any = None, dialects: Dialects = EVERY_RFC_4180, connections: int = 1
) -> Source:
    """The source that a URL names, to be used in a `with` block; a path or prefix is a directory of CSV files, or of
    documents where such ones lie there and no CSV, or one archive of mongodump.

    `s3_resource`: dagster-aws's S3Resource, for `s3://`; without one the `AWS_*` variables count. `dialects` say how
    CSV files are written; over as many as `connections` a large table of PostgreSQL is read at once. Raises
    ConfigurationError for a URL of another kind; what cannot be reached is a SourceError on entering.
    """
    # A reader brings a driver, which takes its time to import: only the one that is used.
    scheme = url.partition("://")[0].lower().partition("+")[0] if "://" in url else ""
    if scheme not in ("", "file", "sqlite"):
        require_escaped(url)
    if dialects.path and scheme not in ("", "file", "s3"):
        raise ConfigurationError(
            f"{scheme}:// has no CSV files, and a file says how they are written",
            where=str(dialects.path),
            remedy="unset <SYSTEM>_LEGACY_DIALECT, or give a directory, file:// or s3://bucket/prefix",
        )
    match scheme:
        case "":
            return _directory(Path(url).absolute(), dialects)
        case "file":
            return _directory(Path(unquote(urlsplit(url).path)).absolute(), dialects)
        case "s3":
            return _prefix(url, s3_resource, dialects)
        case "mysql" | "mariadb":
            from dtx_assets.machinery.sources.mysql import MySqlDatabase

            return MySqlDatabase(_parsed(url))
        case "postgresql" | "postgres":
            from dtx_assets.machinery.sources.postgresql import PostgresDatabase

            return PostgresDatabase(url, connections)
        case "sqlite":
            from dtx_assets.machinery.sources.sqlite import SqliteFile

            return SqliteFile(_parsed(url).database)
        case "mongodb":
            from dtx_assets.machinery.sources.mongo_server import MongoDatabase

            return MongoDatabase(url)
    raise ConfigurationError(
        f"legacy tables cannot be read from {scheme}://",
        where=mask_url(url),
        remedy="give a directory, file://, s3://bucket/prefix, mysql://, mariadb://, postgresql://, sqlite:/// or"
        " mongodb://",
    )


def _directory(path: Path, dialects: Dialects) -> Source:
    if holds_documents(path):
        return _documents(LocalFiles(path))
    if path.is_file() and _may_be_archive(LocalFiles(path.parent), path.name):
        return _archive(LocalFiles(path.parent), path.name)
    return CsvDirectory(path, dialects)


def _prefix(url: str, s3_resource: Any, dialects: Dialects) -> Source:
    csv, files = CsvPrefix(url, s3_resource, dialects), StoredFiles(url, s3_resource)
    # What cannot be reached is told on entering.
    with suppress(SourceError):
        names, directories = files.names(), files.directories()
        if any(name.endswith(".csv") for name in names):
            return csv
        if collections_of(names) or databases_of({name: files.inside(name).names() for name in directories}):
            return _documents(files)
        above, _, name = url.rstrip("/").rpartition("/")
        if not names and above.count("/") > 2 and name in (beside := StoredFiles(above, s3_resource)).names():
            return _archive(beside, name)
    return csv


def _may_be_archive(files: Files, name: str) -> bool:
    from dtx_assets.machinery.sources.mongo_archive import may_be_archive

    return may_be_archive(files.first_bytes(name, 4))


def _documents(files: Files) -> Source:
    from dtx_assets.machinery.sources.document_places import DocumentFiles

    return DocumentFiles(files)


def _archive(files: Files, name: str) -> Source:
    from dtx_assets.machinery.sources.document_places import DocumentArchive

    return DocumentArchive(files, name)


def _parsed(url: str) -> "URL":
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # Their messages may quote the password.
        raise ConfigurationError(
            "the URL cannot be read",
            where=mask_url(url),
            remedy="write <kind>://user:password@host:port/database, with special characters of the password as %XX",
        ) from None
