r"""How a CSV file is written: as RFC 4180 says, or as a file of dialects says it of the files of an export.

Reading by it is the business of `csv_reading` and `csv_escaped`; the dialect of a feed stands in its feed file.
"""

import codecs
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model, suggestion

LineEnd = Literal["\n", "\r\n", "\r"]
LINE_ENDS: dict[bytes, str] = {b"\n": "LF", b"\r\n": "CRLF", b"\r": "CR"}
"""What messages call them."""


@dataclass(frozen=True)
class CsvDialect:
    """How a CSV file is written: `delimiter`, `quote` and `escape` are one ASCII character each.

    `quote` may be none. With an `escape` the file is not RFC 4180 but what MySQL writes: `csv_escaped` says how.
    `line_end` None is the one that the first line has. `names` are the columns of a file without a header line.
    """

    delimiter: str = ","
    quote: str | None = '"'
    encoding: str = "utf-8"
    names: tuple[str, ...] = ()
    escape: str | None = None
    line_end: str | None = None

    @property
    def header_lines(self) -> int:
        return 0 if self.names else 1

    def __str__(self) -> str:
        """What diagnose and manifests say of it."""
        if self == RFC_4180:
            return "RFC 4180"
        facts = {
            "delimiter": self.delimiter,
            "quote": self.quote,
            "escape": self.escape,
            "line_end": self.line_end,
            "encoding": None if codecs.lookup(self.encoding).name == "utf-8" else self.encoding,
            "names": len(self.names) or None,
        }
        told = [f"{name} {value!r}" for name, value in facts.items() if value is not None]
        return ", ".join([*told, *(["no quotes"] if self.quote is None else [])])


RFC_4180 = CsvDialect()


class WrittenAs(BaseModel):
    """How CSV files are written, as a file of dialects or a feed file says it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    delimiter: str = Field(",", description="what separates fields: one ASCII character")
    quote: str | None = Field('"', description="what stands around fields; null where nothing does")
    escape: str | None = Field(
        None,
        description="what stands before special characters, as in MySQL's INTO OUTFILE and mysqldump --tab: "
        r'"\\" there; null where quotes are doubled instead',
    )
    line_end: LineEnd | None = Field(
        None, description=r'what ends a line: "\n", "\r\n" or "\r"; else that of the first line'
    )
    encoding: str = Field("utf-8", description="as Python calls it: utf-8, windows-1252, utf-16, …")

    @field_validator("delimiter", "quote", "escape")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n\0"):
            raise ValueError(f"{value!r} is not one ASCII character; write one, such as ';'")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
            codecs.lookup(value)
        except LookupError:
            raise ValueError(f"there is no encoding {value!r}; write one, such as windows-1252") from None
        return value

    @model_validator(mode="after")
    def _told_apart(self) -> "WrittenAs":
        if self.delimiter == self.quote:
            raise ValueError("delimiter and quote are the same character; let them differ")
        if self.escape is not None:
            if self.escape == self.quote:
                raise ValueError("escape and quote are the same character; remove `escape`: doubled quotes need none")
            if self.escape == self.delimiter:
                raise ValueError("delimiter and escape are the same character; let them differ")
            if any((one or "").isalnum() for one in (self.escape, self.delimiter, self.quote)):
                raise ValueError("a letter or digit cannot be told from what an escape means; write another character")
        elif self.line_end is not None:
            raise ValueError("`line_end` is for files with an `escape`; remove it: each line end is taken as it is")
        return self

    def as_dialect(self, names: tuple[str, ...] = ()) -> CsvDialect:
        return CsvDialect(self.delimiter, self.quote, self.encoding, names, self.escape, self.line_end)


class TableWrittenAs(WrittenAs):
    """How the file of one table is written."""

    names: tuple[str, ...] = Field((), description="the columns of a file without a header line, in their order")


class DialectFile(WrittenAs):
    """How the CSV files of an export are written."""

    tables: dict[str, TableWrittenAs] = Field(
        {}, description="tables whose files are written in another way; what is not said there is RFC 4180"
    )


@dataclass(frozen=True)
class Dialects:
    """The dialect of each table's file, and the file that says it; RFC 4180 where nothing does."""

    every: CsvDialect = RFC_4180
    tables: Mapping[str, CsvDialect] = field(default_factory=dict)
    path: Path | None = None

    def of(self, table: str) -> CsvDialect:
        return self.tables.get(table, self.every)

    def __str__(self) -> str:
        others = (f"{name}: {dialect}" for name, dialect in self.tables.items())
        return "; ".join([str(self.every), *others])


EVERY_RFC_4180 = Dialects()


def read_dialects(path: Path, tables: Collection[str]) -> Dialects:
    """What a file of dialects says of tables; ConfigurationError with file, line and remedy where it makes no sense."""
    findings, file = Findings(), YamlFile(path)
    said = parse_model(file, DialectFile, findings)
    for name in said.tables if said else ():
        if name not in tables:
            findings.add(f"no table {name!r} is read", file.where(["tables", name]), suggestion(name, tables))
    findings.raise_if_any()
    assert said
    of_tables = {name: table.as_dialect(table.names) for name, table in said.tables.items()}
    return Dialects(said.as_dialect(), of_tables, path)
