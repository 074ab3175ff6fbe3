"""Where legacy tables are read from: files of CSV or documents, MySQL or MariaDB, PostgreSQL, SQLite, chosen by URL.

Every reader lands a table in the lake in the one form of `landing`; `frames` reads it back.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.settings import mask_url, require_escaped
from dtx_assets.machinery.sources.csv_dialect import EVERY_RFC_4180, Dialects
from dtx_assets.machinery.sources.csv_files import CsvDirectory, CsvPrefix
from dtx_assets.machinery.sources.document_files import holds_documents
from dtx_assets.machinery.sources.landing import Source

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

__all__ = ["Source", "open_source"]


def open_source(url: str, *, s3_resource: Any = None, dialects: Dialects = EVERY_RFC_4180) -> Source:
    """The source that a URL names, to be used in a `with` block; a path is a directory of CSV files, or
    of documents where such ones lie there and no CSV.

    `s3_resource`: dagster-aws's S3Resource, for `s3://`; without one the `AWS_*` variables count. `dialects` say how
    CSV files are written. Raises ConfigurationError for a URL of another kind; what cannot be reached is a SourceError
    on entering.
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
            return CsvPrefix(url, s3_resource, dialects)
        case "mysql" | "mariadb":
            from dtx_assets.machinery.sources.mysql import MySqlDatabase

            return MySqlDatabase(_parsed(url))
        case "postgresql" | "postgres":
            from dtx_assets.machinery.sources.postgresql import PostgresDatabase

            return PostgresDatabase(url)
        case "sqlite":
            from dtx_assets.machinery.sources.sqlite import SqliteFile

            return SqliteFile(_parsed(url).database)
    raise ConfigurationError(
        f"legacy tables cannot be read from {scheme}://",
        where=mask_url(url),
        remedy="give a directory, file://, s3://bucket/prefix, mysql://, mariadb://, postgresql:// or sqlite:///",
    )


def _directory(path: Path, dialects: Dialects) -> Source:
    if holds_documents(path):
        from dtx_assets.machinery.sources.documents import DocumentDirectory

        return DocumentDirectory(path)
    return CsvDirectory(path, dialects)


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
