"""Looking into an archive with SQL: DuckDB over its Parquet copy, shut off from everything else.

What is asked is the user's own SQL. It can read the one table, and neither other files nor the network; nothing but a
SELECT is run, so that nothing is written either. How archives are made is `archive`.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import duckdb

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.lake import Lake, Manifest

FETCHED_ROWS = 10_000
SHUT_OFF = {
    "enable_external_access": "false",
    "lock_configuration": "true",
}
"""Set last, in this order: nothing can be opened any more, and nothing of this can be undone."""


@dataclass(frozen=True)
class Answer:
    """The columns of a result, no two of the same name, and its rows, which can be taken once."""

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


@contextmanager
def ask(archive: Lake, stored: Manifest, sql: str) -> Iterator[Answer]:
    """The answer to a SELECT over one archive, in which the table has its own name; values that are not UTF-8, where
    there are any, stand in `<table>_undecodable`.

    Raises ConfigurationError for anything but one SELECT, and for one that cannot be run.
    """
    table = stored.metadata["table"]
    views = {table: "rows", f"{table}_undecodable": "undecodable"}
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        connection = stack.enter_context(_connect(scratch))
        columns = names_told_apart(stored.metadata["columns"])
        paths = []
        for view, name in views.items():
            for entry in stored.tables[name].files if name in stored.tables else ():
                path = stack.enter_context(archive.local_file(stored.key, stored.version, entry.name))
                with _told("the archive cannot be read", "`dtx run --select 'archive/*'` makes and checks archives"):
                    # By position: of names that are one to DuckDB it reads the first, whatever name is asked for.
                    given = f" ({', '.join(map(_name, columns))})" if name == "rows" else ""
                    connection.execute(f"CREATE VIEW {_name(view)}{given} AS FROM read_parquet({_text(str(path))})")
                paths.append(_text(str(path)))
        connection.execute(f"SET allowed_paths = [{', '.join(paths)}]")
        for setting, value in SHUT_OFF.items():
            connection.execute(f"SET {setting} = {value}")
        with _told("this cannot be run", _remedy(table, stored.metadata["columns"], columns)):
            statements = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise ConfigurationError(
                    "an archive is read with one SELECT, and nothing else",
                    where="SQL",
                    remedy="ask one question at a time; what is archived cannot be changed",
                )
            connection.execute(statements[0])
            answered = [str(column[0]) for column in connection.description or ()]
        yield Answer(_distinct(answered), _rows(connection))


def names_told_apart(columns: Sequence[str]) -> list[str]:
    """What the columns are called in SQL: `Id (column 1)` and `ID (column 3)` where names differ in case only.

    DuckDB takes such names for one. None of them can then be asked for by what another one may be called as well.
    """
    folded = Counter(map(str.casefold, columns))
    taken, names = set(folded), []
    for number, column in enumerate(columns, start=1):
        name = column
        if not column or folded[column.casefold()] > 1:
            candidates = (f"{column} (column {number}{'.' * more})".strip() for more in count())
            name = next(candidate for candidate in candidates if candidate.casefold() not in taken)
            taken.add(name.casefold())
        names.append(name)
    return names


def _remedy(table: str, columns: Sequence[str], names: Sequence[str]) -> str:
    remedy = f'the table is called {_name(table)}; names with special characters need "…"'
    renamed = [_name(name) for column, name in zip(columns, names, strict=True) if name != column]
    if renamed:
        remedy += f"; columns that differ in case only, or have no name, are called {', '.join(renamed)}"
    return remedy


def _connect(scratch: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": scratch,
        },
    )


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while True:
        with _told("the answer ends here", "correct the SQL"):
            fetched = connection.fetchmany(FETCHED_ROWS)
        if not fetched:
            return
        yield from fetched


@contextmanager
def _told(what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise ConfigurationError(f"{what}: {error}", where="SQL", remedy=remedy) from None


def _distinct(columns: list[str]) -> list[str]:
    """The same names, with a number after those that were there before."""
    names: list[str] = []
    for column in columns:
        candidates = (column if number == 1 else f"{column}_{number}" for number in range(1, len(columns) + 1))
        names.append(next(name for name in candidates if name not in names))
    return names


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
