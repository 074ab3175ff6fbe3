"""What a run of Dispatch left in PostgreSQL against what the second reading says: rows, mapping, rejected, accounting.

As a command, for whoever works on the system:

    python -m dtx_assets_tests.dispatch.compare write DIRECTORY --seed 3 --decisions '{"profile_type": "plan"}'
    DISPATCH_LEGACY_URL=… DISPATCH_FILES_URL=… (as it prints them) dtx run dispatch
    python -m dtx_assets_tests.dispatch.compare compare TARGET_URL DIRECTORY

Without `--decisions` the seed draws them. `--form postgres --legacy-url URL` makes Django's tables there.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from dtx_assets_tests.differences import Difference, brief
from dtx_assets_tests.dispatch.second_reading import inputs_of_csv, inputs_of_database, migrate_and_queue
from dtx_assets_tests.dispatch.second_reading_books import (
    STANDARD,
    Account,
    Inputs,
    Mapped,
    Rejected,
    Result,
)
from dtx_assets_tests.dispatch.second_reading_texts import Queued, queue_id
from dtx_assets_tests.dispatch.second_reading_values import Row
from dtx_assets_tests.dispatch.ugly import decisions, ugly
from dtx_assets_tests.dispatch.ugly_forms import write_csv, write_database, write_files
from dtx_assets_tests.dispatch.ugly_thorough import thorough

SYSTEM = "dispatch"
OWNERS = {"profiles": "profile", "orders": "order", "messages": "message", "projects": "project"}
OF_TIMES = {"fraction_cut", "ambiguous_time", "skipped_time"}
"""What any system counts of times; section 4 does not name it."""
Embedded = tuple[str, str, str, str]
"""Entity, id, content type and hash of an embedding; chunks of one text are one."""
Document = tuple[str, str, str, str, str]
"""Entity, id, name, text and hash of a document in Dify."""


@dataclass
class Found:
    """What the database holds; ids as text. `rows` by table and id, with every column."""

    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    mapping: list[Mapped] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    details: dict[tuple[str, str, str], str] = field(default_factory=dict)
    accounting: dict[tuple[str, str], Account] = field(default_factory=dict)
    legacy_ids: list[tuple[str, str, str, str]] | None = None
    queue: dict[str, Row] | None = None
    embedded: set[Embedded] | None = None
    documents: set[Document] | None = None


def found_in(url: str, targets: Iterable[str]) -> Found:
    found = Found()
    with psycopg.connect(url, row_factory=dict_row) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        for name in targets:
            statement = sql.SQL("SELECT * FROM public.{}").format(sql.Identifier(name))
            rows = [_plain(row) for row in connection.execute(statement)]
            found.rows[name] = {row.pop("id"): row for row in rows}
        _read_books(connection, found)
        if _is_there(connection, "compat.legacy_id"):
            view = "SELECT legacy_table, legacy_id::text, target_table, target_id::text FROM compat.legacy_id"
            found.legacy_ids = [tuple(row.values()) for row in connection.execute(view)]
        if _is_there(connection, "public.embedding_queue"):
            rows = [_plain(row) for row in connection.execute("SELECT * FROM public.embedding_queue")]
            found.queue = {row["id"]: row for row in rows} or None
            _read_phase_5(connection, found)
    return found


def _read_phase_5(connection: psycopg.Connection[dict[str, Any]], found: Found) -> None:
    """What has been embedded and sent; None where nothing was."""
    if not _is_there(connection, "public.profile_embeddings"):
        return
    embedded = set()
    for entity, owner in OWNERS.items():
        statement = sql.SQL("SELECT {}::text AS owner, content_type::text, content_hash FROM public.{}").format(
            sql.Identifier(f"{owner}_id"), sql.Identifier(f"{owner}_embeddings")
        )
        embedded |= {(entity, *row.values()) for row in connection.execute(statement)}
    columns = "source_table, source_id::text, document_name, document_content, content_hash"
    documents = connection.execute(f"SELECT {columns} FROM public.dify_documents")
    found.embedded = embedded or None
    found.documents = {tuple(row.values()) for row in documents} or None


def _is_there(connection: psycopg.Connection[dict[str, Any]], name: str) -> bool:
    return connection.execute("SELECT to_regclass(%s) IS NOT NULL AS there", [name]).fetchone() == {"there": True}


def _plain(row: Mapping[str, Any]) -> Row:
    return {name: str(value) if isinstance(value, UUID) else value for name, value in row.items()}


def _read_books(connection: psycopg.Connection[dict[str, Any]], found: Found) -> None:
    system = {"system": SYSTEM}
    mapped = "SELECT * FROM migration.mapping WHERE system = %(system)s"
    for row in connection.execute(mapped, system):
        is_file = str(row["part"]).startswith("file:")
        key = "" if row["source_table"] == STANDARD else row["source_key"]
        part = row["part"] if is_file else ""  # what other parts are called is not the contract's
        found.mapping.append(Mapped(row["source_table"], key, row["target_table"], str(row["target_id"]), part))
    for row in connection.execute("SELECT * FROM migration.rejected WHERE system = %(system)s", system):
        key = (row["source_table"], row["source_key"], row["target_table"])
        found.rejected.append(Rejected(*key, tuple(row["reasons"]), row["partial"]))
        found.details[key] = row["detail"]
    # Only the latest run of each flow says how it stands.
    accounting = (
        "SELECT DISTINCT ON (source_table, target_table) accounting.* FROM migration.accounting"
        " JOIN migration.run USING (run_id) WHERE accounting.system = %(system)s"
        " ORDER BY source_table, target_table, started_at DESC"
    )
    for row in connection.execute(accounting, system):
        # The pairs that section 5 lists, and what section 4 calls counted.
        if row["source_table"] == STANDARD or row["target_table"] == "archive":
            continue
        counts = (row["read"], row["migrated"], row["rejected"])
        coerced = {kind: number for kind, number in row["coerced"].items() if kind not in OF_TIMES}
        books = Account(*counts, Counter(row["dropped"]), Counter(coerced))
        found.accounting[row["source_table"], row["target_table"]] = books


# --- comparing --------------------------------------------------------------------------------------------------------


def differences(found: Found, expected: Result, queued: Mapping[tuple[str, str], Queued]) -> list[Difference]:
    """What the two do not agree about. Of coercions the counts are compared: their names are not the contract's."""
    told = list(_of_rows(found, expected))
    told += _of_lists("mapping", found.mapping, expected.mapping)
    told += _of_lists("rejected", found.rejected, expected.rejected, found.details)
    for flow in sorted({*found.accounting, *expected.accounting}):
        told += _of_accounts(" → ".join(flow), found.accounting.get(flow), expected.accounting.get(flow))
    if found.legacy_ids is not None:
        there = [entry for entry in found.legacy_ids if entry[0] != STANDARD]
        told += _of_lists("compat.legacy_id", set(there), expected.legacy_ids)
    if found.queue is not None:
        told += _of_queue(found.queue, queued)
    if found.embedded is not None:
        embedded = {(*of, each.content_type, each.content_hash) for of, each in queued.items()}
        told += _of_lists("embedding", found.embedded, embedded)
    if found.documents is not None:
        documents = {(*of, "/".join(of), each.text, each.content_hash) for of, each in queued.items()}
        told += _of_lists("document", found.documents, documents)
    return told


def _of_rows(found: Found, expected: Result) -> Iterable[Difference]:
    names = {entry.target_id: f"{entry.source_table} {entry.source_key}" for entry in sorted(expected.mapping)}
    names |= {entry.target_id: f"{entry.source_table} {entry.source_key}" for entry in sorted(found.mapping)}
    for table, wanted in expected.rows.items():
        there = found.rows[table]
        for identity in sorted(there.keys() - wanted.keys()):
            yield Difference(f"{table} row too much", f"{names.get(identity)}: {there[identity]}")
        for identity, row in wanted.items():
            if identity not in there:
                yield Difference(f"{table} row missing", f"{names.get(identity)}: {row}")
                continue
            for column, should_be in row.items():
                value = there[identity].get(column, "no such column")
                if not _is_same(value, should_be):
                    what = f"{names.get(identity)}: {value!r} instead of {should_be!r}"
                    yield Difference(f"{table}.{column}", what)


def _is_same(value: Any, should_be: Any) -> bool:
    if isinstance(should_be, datetime):
        return isinstance(value, datetime) and value.astimezone(UTC) == should_be
    if isinstance(should_be, dict):
        return (
            isinstance(value, dict)
            and value.keys() == should_be.keys()
            and all(_is_same(value[name], member) for name, member in should_be.items())
        )
    if isinstance(should_be, list):
        is_long = isinstance(value, list) and len(value) == len(should_be)
        return is_long and all(map(_is_same, value, should_be))
    if isinstance(should_be, bool) or isinstance(value, bool) or should_be is None:
        return value is should_be
    return value == should_be


def _of_lists(
    where: str, found: Iterable[Any], expected: Iterable[Any], details: Mapping[tuple[str, str, str], str] | None = None
) -> Iterable[Difference]:
    these, those = Counter(found), Counter(expected)
    for each in sorted((these - those).elements()):
        said = f" ({details.get((each.source_table, each.source_key, each.target_table))})" if details else ""
        yield Difference(f"{where} too much", f"{each}{said}")
    for each in sorted((those - these).elements()):
        yield Difference(f"{where} missing", str(each))


def _of_accounts(flow: str, found: Account | None, expected: Account | None) -> Iterable[Difference]:
    if found is None or expected is None:
        # Of a table that is not there, no entry says as much as one of no rows.
        if (found or expected) != Account():
            yield Difference("accounting", f"{flow}: {found} instead of {expected}")
        return
    for name in ("read", "migrated", "rejected", "dropped"):
        value, should_be = getattr(found, name), getattr(expected, name)
        if value != should_be:
            yield Difference("accounting", f"{flow}: {name} {value} instead of {should_be}")
    if sorted(found.coerced.values()) != sorted(expected.coerced.values()):
        yield Difference("coerced", f"{flow}: {dict(found.coerced)} instead of {dict(expected.coerced)}")


def _of_queue(found: Mapping[str, Row], queued: Mapping[tuple[str, str], Queued]) -> Iterable[Difference]:
    wanted = {queue_id(*of, entry.content_type): (of, entry) for of, entry in queued.items()}
    for identity in sorted(found.keys() - wanted.keys()):
        row = found[identity]
        yield Difference("queue too much", f"{row['source_table']} {row['source_id']} {row['content_type']}")
    for identity, (of, entry) in wanted.items():
        if identity not in found:
            yield Difference("queue missing", f"{of}: {entry}")
            continue
        row = found[identity]
        should_be = {
            "source_table": of[0],
            "source_id": of[1],
            "content_type": entry.content_type,
            "operation": "create",
            "priority": entry.priority,
            "content_hash": entry.content_hash,
        }
        for column, value in should_be.items():
            if row[column] != value:
                yield Difference(f"queue.{column}", f"{of}: {row[column]!r} instead of {value!r}, {entry.text!r}")


# --- the command ------------------------------------------------------------------------------------------------------


def write(
    directory: Path, seed: int | None, chosen: Mapping[str, str], *, legacy_url: str | None = None, times: int = 1
) -> dict[str, str]:
    """The settings of a run on what was written: tables, files, decisions. Without `legacy_url`: CSV files.

    Without a seed: every bad value in every column.
    """
    directory.mkdir(parents=True, exist_ok=True)
    made = thorough() if seed is None else ugly(seed, times)
    seed = seed or 0
    zone = ("UTC", "Europe/London", "America/New_York")[seed % 3]
    if legacy_url is None:
        ends = ("\n", "\r\n")[seed // 2 % 2]
        legacy = str(write_csv(directory / "legacy", made.tables, mark=seed % 2 == 1, line_end=ends))
    else:
        write_database(legacy_url, made.tables, text_ids=seed % 2 == 1)
        legacy = legacy_url
    (directory / "decisions.yaml").write_text(json.dumps(dict(chosen)))
    settings = {
        "DISPATCH_LEGACY_URL": legacy,
        "DISPATCH_FILES_URL": str(write_files(directory / "files", made.files)),
        "DISPATCH_DECISIONS": str(directory / "decisions.yaml"),
        "DISPATCH_LEGACY_TIMEZONE": zone,
    }
    (directory / "settings.json").write_text(json.dumps(settings))
    return settings


def inputs_of(directory: Path) -> Inputs:
    """What was written there, read again."""
    settings = json.loads((directory / "settings.json").read_text())
    legacy, files = settings["DISPATCH_LEGACY_URL"], Path(settings["DISPATCH_FILES_URL"])
    chosen = json.loads(Path(settings["DISPATCH_DECISIONS"]).read_text())
    more = {"decisions": chosen, "timezone": settings["DISPATCH_LEGACY_TIMEZONE"]}
    if legacy.startswith("postgresql"):
        return inputs_of_database(legacy, files=files, **more)
    return inputs_of_csv(Path(legacy), files, **more)


def told(url: str, directory: Path) -> list[Difference]:
    expected, queued = migrate_and_queue(inputs_of(directory))
    return differences(found_in(url, expected.rows), expected, queued)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("directory", type=Path)
    writing.add_argument("--seed", type=int, help="without one: every bad value in every column")
    writing.add_argument("--times", type=int, default=1, help="as many rows")
    writing.add_argument("--decisions", type=json.loads, help="JSON of decision → option; {} is the defaults")
    writing.add_argument("--form", choices=("csv", "postgres"), default="csv")
    writing.add_argument("--legacy-url", help="an empty PostgreSQL database, for --form postgres")
    comparing = commands.add_parser("compare")
    comparing.add_argument("url", help="the target database")
    comparing.add_argument("directory", type=Path)
    comparing.add_argument("--examples", type=int, default=3)
    given = parser.parse_args(arguments)
    if given.what == "write":
        if (given.form == "postgres") != (given.legacy_url is not None):
            parser.error("--form postgres and --legacy-url belong together")
        chosen = decisions(given.seed or 0) if given.decisions is None else given.decisions
        for name, value in write(
            given.directory, given.seed, chosen, legacy_url=given.legacy_url, times=given.times
        ).items():
            sys.stdout.write(f"{name}={value}\n")
        return 0
    found = told(given.url, given.directory)
    sys.stdout.write(brief(found, examples=given.examples) + f"\n{len(found)} differences\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
