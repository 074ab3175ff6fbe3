"""A place in which trading requests are migrated: the legacy table somewhere, the target in a database of its own."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from dtx_assets.machinery.postgres.ddl import create_target
from dtx_assets.machinery.postgres.seeding import seed_tables
from dtx_assets.pad.decided_system import SYSTEM
from dtx_assets_tests.dtx.commands import Command

TABLE = "personal_account_dealing"
COLUMNS = SYSTEM.legacy_tables[TABLE].columns
TARGETS = ("pad_request", "pad_approval", "pad_execution", "audit_log")
EMPLOYEES = "id,mako_id,manager_id,end_date\n" + "".join(f"{n},user{n},1,\\N\n" for n in range(1, 10))
SECURITIES = """id,bloomberg,inst_symbol,isin,sedol,ticker,is_deleted_yn
1,VOD LN,VOD,GB00BH4HKS39,BH4HKS3,VOD,N
2,BP LN,BP,GB0007980591,0798059,BP,\\N
"""
CURRENCIES = "currency\nGBP\nUSD\n"
Row = dict[str, str | None]


def request(number: object, **changed: str | None) -> Row:
    """A request that the manager and compliance have approved, and that was executed."""
    row: Row = dict.fromkeys(COLUMNS)
    row |= {
        "id": str(number),
        "employee": "3",
        "requested_date": "2024-03-01 09:00:00",
        "security_description": "Vodafone",
        "inst_symbol": "VOD",
        "trade_size": "30",
        "value": "100.00",
        "currency": "GBP",
        "buysell": "B",
        "related_yn": "2",
        "inside_info_yn": "2",
        "status": "approved",
        "auth_manager": "1",
        "status_manager": "approved",
        "auth_manager_date": "2024-03-01 10:00:00",
        "auth_compliance": "2",
        "status_compliance": "approved",
        "comments_compliance": "fine",
        "auth_compliance_date": "2024-03-02 10:00:00",
        "two_business_days_execution_yn": "1",
        "contract_notes_received_yn": "2",
        "last_modified_date": "2024-03-03 10:00:00",
        "is_deleted_yn": "N",
    }
    return row | changed


def write_csv(directory: Path, rows: Iterable[Row]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{TABLE}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(["\\N" if row[name] is None else row[name] for name in COLUMNS] for row in rows)
    return directory


def put_into_postgres(url: str, schema: str, rows: Iterable[Row], types: Mapping[str, str] | None = None) -> None:
    """The legacy table in a schema, its columns as text but for those of other `types`."""
    kinds = types or {}
    table = sql.Identifier(schema, TABLE)
    columns = sql.SQL(", ").join(
        sql.SQL("{} " + kinds.get(name, "text")).format(sql.Identifier(name)) for name in COLUMNS
    )
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, columns))
        with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy:
            for row in rows:
                copy.write_row([row[name] for name in COLUMNS])


def make_target(url: str, directory: Path, system: Any = SYSTEM) -> None:
    """The tables of the new application with the rows of the reference tables."""
    rows = {"oracle_employee": EMPLOYEES, "oracle_bloomberg": SECURITIES, "currency": CURRENCIES}
    for name, content in rows.items():
        (directory / f"{name}.csv").write_text(content)
    with psycopg.connect(url) as connection:
        create_target(connection, system.targets)
        seed_tables(connection, system.tables_of_others, directory)


def pad(directory: Path, url: str, legacy: object, **settings: str) -> Command:
    given = {"LEGACY_URL": str(legacy), "TARGET_URL": url, **settings}
    return Command(directory, {f"PAD_{name}": value for name, value in given.items()})


def contents(url: str, schema: str = "padealing") -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the four targets, without the ids that the target gave."""
    found = {}
    with psycopg.connect(url) as connection:
        for model in TARGETS:
            target = SYSTEM.target(model)
            columns = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(c.name)) for c in target.columns)
            query = sql.SQL("SELECT {} FROM {} ORDER BY 1, 2, 3, 4, 5, 6, 7").format(
                columns, sql.Identifier(schema, model)
            )
            found[model] = connection.execute(query).fetchall()
    return found


def query(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode(), values).fetchall()
