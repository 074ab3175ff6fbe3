"""Whether runs wrote the legacy tables that they read. What others did to them meanwhile is theirs.

A file has to be, byte by byte, the one that was read. Of PostgreSQL the transaction that read a table says whether it
wrote anything, and rows carry the transaction that wrote them last: where legacy and target tables share a database, a
trigger may write the ones for the others.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg

from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.untouched import touched_by_runs
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.csv_files import CsvDirectory, CsvPrefix, ListedFile
from dtx_assets.machinery.sources.landing import WROTE
from dtx_assets.machinery.sources.postgresql import PostgresDatabase


def written_by_runs(url: str, system: str, read: Mapping[LegacyTable, Manifest]) -> dict[str, str]:
    """By table, what tells that a run wrote it; `read` is what was landed of each."""
    found = {table.shown: "the transaction that read it wrote" for table, at in read.items() if at.metadata.get(WROTE)}
    with open_source(url) as source:
        if isinstance(source, CsvDirectory | CsvPrefix):
            found |= dict(_other_files(source, read))
        shares_database = isinstance(source, PostgresDatabase)
    if shares_database:
        tables = [TargetTable(table.name, table.name, table.area, (), schema=table.schema) for table in read]
        with psycopg.connect(f"postgresql://{url.partition('://')[2]}", autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = on")
            for name, counts in touched_by_runs(connection, system, tables).items():
                if any(counts.values()):
                    found[name] = ", ".join(f"{count:,} {what} are of loads" for what, count in counts.items() if count)
    return found


def _other_files(source: CsvDirectory | CsvPrefix, read: Mapping[LegacyTable, Manifest]) -> Iterator[tuple[str, str]]:
    listed = source.listing()
    for table, landed in read.items():
        facts, name = landed.metadata, f"{table.name}.csv"
        if not facts.get("source_digest"):
            continue
        if name not in listed:
            yield table.name, "its file is gone"
        elif not _is_the_same(source, name, listed[name], facts):
            yield table.name, "its file is another one than was read"


def _is_the_same(source: CsvDirectory | CsvPrefix, name: str, listed: ListedFile, facts: Mapping[str, object]) -> bool:
    if isinstance(source, CsvPrefix):
        return listed.version == facts.get("source_version")
    if listed.size != facts["source_bytes"]:
        return False
    with Path(source.directory, name).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == facts["source_digest"]
