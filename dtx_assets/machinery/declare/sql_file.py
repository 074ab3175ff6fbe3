"""A file of SQL as a schema: its statements apart, without data, for a scratch database.

What pg_dump writes is known: rows (COPY, INSERT), owners and rights are left out, psql's commands of a dump too.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.embedded import embedded_postgres

TOKEN = re.compile(
    r"^[ \t]*\\(?P<meta>\S+)[^\n]*"
    r"|--[^\n]*"
    r"|/\*.*?\*/"
    r"|(?<!\w)[eE]'(?:[^'\\]|\\.|'')*'"
    r"|'(?:[^']|'')*'"
    r'|"(?:[^"]|"")*"'
    r"|\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$"
    r"|(?P<end>;)",
    re.DOTALL | re.MULTILINE,
)
OF_DUMPS = ("restrict", "unrestrict", "connect", "c", "encoding", "set", "unset", "echo", "pset", "timing")
"""Commands of psql that change nothing about a schema."""
LEFT_OUT = re.compile(
    r"(?:INSERT\s+INTO|COPY|GRANT|REVOKE|COMMENT\s+ON\s+EXTENSION|ALTER\s+DEFAULT\s+PRIVILEGES|SELECT\s+(?:pg_catalog\.)?setval"
    r"|(?:CREATE|ALTER|DROP)\s+(?:DATABASE|ROLE|USER)|BEGIN|COMMIT|START\s+TRANSACTION"
    r"|ALTER\b.*\bOWNER\s+TO)\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Statement:
    text: str
    line: int


def schema_statements(path: Path) -> list[Statement]:
    """The statements of a file that make its schema; ConfigurationError names a command of psql that is not known."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the file of SQL cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}",
            where=str(path),
            remedy="name a file of SQL in UTF-8, as `pg_dump --schema-only` writes it, or a postgresql:// URL",
        ) from None
    return [statement for statement in _statements(text, path) if not LEFT_OUT.match(statement.text)]


def _statements(text: str, path: Path) -> Iterator[Statement]:
    position = start = 0
    while token := TOKEN.search(text, position):
        position = token.end()
        if token["meta"] and not _code(text[start : token.start()]):
            if token["meta"] not in OF_DUMPS:
                raise ConfigurationError(
                    f"the file has psql's command \\{token['meta']}, which is not run here",
                    where=f"{path}:{text.count(chr(10), 0, token.start()) + 1}",
                    remedy="leave the line out, or load the file with psql and give the database's URL",
                )
            start = position
        if token["end"]:
            statement = _code(text[start : position - 1])
            if statement:
                yield Statement(statement, text.count("\n", 0, start + _leading(text[start:position])) + 1)
            if re.match(r"COPY\b.*\bFROM\s+stdin\b", statement, re.IGNORECASE | re.DOTALL):
                data = re.compile(r"^\\\.[ \t]*\r?$", re.MULTILINE).search(text, position)
                position = data.end() if data else len(text)
            start = position
    if rest := _code(text[start:]):
        yield Statement(rest, text.count("\n", 0, start + _leading(text[start:])) + 1)


COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)


def _leading(text: str) -> int:
    """How many characters of white space and comments come first."""
    found = COMMENTS.match(text)
    return found.end() if found else 0


def _code(text: str) -> str:
    return text[_leading(text) :].strip()


@contextmanager
def scratch_database(path: Path, state_dir: Path) -> Iterator[tuple[Connection, str]]:
    """A database of the embedded server that has what a file of SQL makes, while the block lasts; and that SQL.

    ConfigurationError names the line of a statement that the server refuses.
    """
    statements = schema_statements(path)
    name = f"init_{uuid4().hex}"
    with embedded_postgres(state_dir) as server:
        url = server.create_database(name)
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                for statement in statements:
                    _execute(connection, statement, path)
            with psycopg.connect(url, autocommit=True) as connection:
                yield connection, "".join(f"{statement.text};\n\n" for statement in statements)
        finally:
            server.drop_database(name)


def _execute(connection: Connection, statement: Statement, path: Path) -> None:
    try:
        connection.execute(statement.text.encode())
    except psycopg.Error as error:
        raise ConfigurationError(
            f"PostgreSQL refuses a statement: {error.diag.message_primary or error}",
            where=f"{path}:{statement.line}",
            remedy="mend it, or load the file with psql and give the database's URL",
        ) from None
