"""Legacy tables in an SQLite file: opened read-only, in one transaction, in the order of their row ids.

SQLite keeps whatever it was given, whatever the type of the column: text lands as its bytes, blobs too, numbers as
their shortest exact text.
"""

import sqlite3
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.landing import (
    Landed,
    Progress,
    batches_of_rows,
    database_facts,
    land_table,
    missing_table,
)
from dtx_assets.machinery.sources.remarks import Remark, of_sqlite


class SqliteFile:
    """The tables of one SQLite file."""

    def __init__(self, path: str | None) -> None:
        if not path or path == ":memory:":
            raise ConfigurationError(
                "the URL names no SQLite file", remedy="write sqlite:///relative/path or sqlite:////absolute/path"
            )
        self.path = Path(path).absolute()

    def __enter__(self) -> Self:
        if not self.path.is_file():
            raise SourceError(
                "there is no such SQLite file", where=str(self.path), remedy="correct the path in the URL"
            )
        with self._told():
            self._connection = sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro", uri=True, isolation_level=None)
            self._connection.text_factory = bytes
            try:
                self._connection.execute("BEGIN")
                # The snapshot begins with the first query.
                self._connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            except BaseException:
                self._connection.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def tables(self) -> list[str]:
        with self._told():
            rows = self._connection.execute(
                "SELECT name FROM sqlite_master"
                " WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY 1"
            ).fetchall()
        return [name.decode() for (name,) in rows]

    def columns(self, table: LegacyTable) -> list[str]:
        with self._told(table.name):
            if table.name not in self.tables() or table.schema not in (None, "main"):
                raise missing_table(table.shown, str(self.path), self.tables())
            described = self._connection.execute(
                "SELECT name FROM pragma_table_xinfo(?) WHERE hidden <> 1", [table.name]
            )
            names = [name.decode() for (name,) in described if name.decode() not in table.never_read]
            self._connection.execute(f"{selecting(', '.join(map(quoted, names)), table.name)} LIMIT 1").fetchall()
        return names

    def remarks(self, tables: Collection[LegacyTable], timezone: str) -> list[Remark]:
        def ask(statement: str, *values: str) -> list[tuple[Any, ...]]:
            return self._connection.execute(statement, values).fetchall()

        with self._told():
            return list(of_sqlite(ask, quoted, tables))

    def stored_bytes(self, tables: Collection[LegacyTable]) -> int:
        return self.path.stat().st_size if tables else 0

    def extract(
        self, table: LegacyTable, lake: Lake, key: Sequence[str], run_id: str, progress: Progress | None = None
    ) -> Manifest:
        with self._told(table.name):
            if table.name not in self.tables() or table.schema not in (None, "main"):
                raise missing_table(table.shown, str(self.path), self.tables())
            described = self._connection.execute(
                "SELECT name FROM pragma_table_xinfo(?) WHERE hidden <> 1", [table.name]
            )
            names = [name.decode() for (name,) in described if name.decode() not in table.never_read]

            def facts(landed: Landed) -> dict[str, Any]:
                [(count,)] = self._connection.execute(selecting("count(*)", table.name)).fetchall()
                return database_facts(str(self.path), landed, count)

            with closing(self._rows(table.name, names)) as rows:
                return land_table(lake, key, run_id, names, batches_of_rows(rows, names), facts, progress)

    def _rows(self, table: str, names: Sequence[str]) -> Generator[Sequence[bytes | None]]:
        # NOT INDEXED: else SQLite may read an index, in its order.
        statement = selecting(", ".join(map(quoted, names)), table)
        if self._is_table(table):
            statement += " NOT INDEXED"
        with self._told(table):
            for row in self._connection.execute(statement):
                yield [value if value is None or isinstance(value, bytes) else str(value).encode() for value in row]

    def _is_table(self, name: str) -> bool:
        [(kind,)] = self._connection.execute("SELECT type FROM sqlite_master WHERE name = ?", [name]).fetchall()
        return bool(kind == b"table")

    @contextmanager
    def _told(self, table: str | None = None) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            what = f"the file does not give {f'the table {table}' if table else 'its tables'}: {error}"
            remedy = "check that it is an SQLite file, whole, and that nothing is writing to it"
            # Another error says that the file is damaged, or locked.
            code = getattr(error, "sqlite_errorcode", None)
            if table and code == sqlite3.SQLITE_ERROR and not self._is_table(table):
                what = f"{table} is a view that is broken: {error}"
                remedy = "mend the view, or what it refers to, in the source"
            raise SourceError(what, where=str(self.path), remedy=remedy) from None


def quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def selecting(projection: str, table: str) -> str:
    return f"SELECT {projection} FROM {quoted(table)}"  # noqa: S608 - all names in it are quoted
