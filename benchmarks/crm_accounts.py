"""Accounts from `.bson` into NextCRM's own tables and a junction, beside decoding alone and a plain COPY of the rows.

    .venv/bin/python -m benchmarks.crm_accounts [--rows 1000000]

A document has 12 fields, two of them references and one an array of three members. Each `dtx run crm` is a process of
its own, checks and cutover page included, into one embedded PostgreSQL; the plain COPY goes into the same tables with
the same indexes and foreign keys, of a second database of the same server. Figures are ratios of one run.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import psycopg
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from psycopg import sql

from benchmarks.notification_flow import CHUNK, timed

USERS, INDUSTRIES = 1_000, 20
TABLES = ("Users", "crm_Industry_Type", "crm_Accounts", "AccountWatchers")
"""Parents first."""


def identifier(kind: int, number: int) -> ObjectId:
    return ObjectId(f"{kind:04x}{number:020x}")


def users() -> Iterator[dict[str, Any]]:
    for number in range(USERS):
        yield {
            "_id": identifier(1, number),
            "__v": 0,
            "email": f"user.{number}@example.com",
            "name": f"User {number}",
            "created_on": DatetimeMS(1_600_000_000_000 + number),
            "is_account_admin": False,
            "is_admin": False,
            "userStatus": "ACTIVE",
            "userLanguage": "en",
        }


def industries() -> Iterator[dict[str, Any]]:
    for number in range(INDUSTRIES):
        yield {"_id": identifier(2, number), "__v": 0, "name": f"Industry {number}"}


def accounts(rows: int) -> Iterator[dict[str, Any]]:
    for number in range(rows):
        yield {
            "_id": identifier(3, number),
            "__v": 0,
            "name": f"Account {number}",
            "email": f"account.{number}@example.com",
            "employees": str(number % 5000),
            "createdAt": DatetimeMS(1_600_000_000_000 + number * 1000),
            "updatedAt": DatetimeMS(1_700_000_000_000 + number * 1000),
            "status": "Active" if number % 3 else "Inactive",
            "billing_city": f"City {number % 977}",
            "assigned_to": identifier(1, number % USERS),
            "industry": identifier(2, number % INDUSTRIES),
            "watchers": [identifier(1, (number * 7 + each) % USERS) for each in range(3)],
        }


def write_dump(directory: Path, rows: int) -> Path:
    directory.mkdir()
    for name, documents in (("Users", users()), ("crm_Industry_Type", industries()), ("crm_Accounts", accounts(rows))):
        with (directory / f"{name}.bson").open("wb") as file:
            for document in documents:
                file.write(bson.encode(document))
    return directory


def decoding_alone(dump: Path) -> float:
    started = time.perf_counter()
    with (dump / "crm_Accounts.bson").open("rb") as file:
        for _ in bson.decode_file_iter(file):
            pass
    return time.perf_counter() - started


def run(url: str, dump: Path, home: Path) -> tuple[float, float]:
    """Seconds and peak memory in MiB of `dtx run crm`."""
    environment = os.environ | {"CRM_TARGET_URL": url, "CRM_LEGACY_URL": str(dump), "CRM_HOME": str(home)}
    started = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, "-m", "dtx_assets.cli.main", "run", "crm"],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - started
    # 3: a check found something, such as decisions that nobody has confirmed.
    if finished.returncode not in (0, 3):
        sys.exit(finished.stdout[-3000:] + finished.stderr[-3000:])
    if slowest := re.search(r"^Slowest: .*$", finished.stdout, re.MULTILINE):
        print(f"    {slowest.group()}")
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def plain_copy(source_url: str, target_url: str, directory: Path) -> float:
    """Seconds of a COPY of the finished tables, from files into empty tables."""
    seconds: dict[str, float] = {}
    for name in TABLES:
        file = directory / f"{name}.copy"
        with psycopg.connect(source_url) as connection, file.open("wb") as stream:
            query = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(name))
            with connection.cursor().copy(query) as copy:
                for block in copy:
                    stream.write(block)
        with psycopg.connect(target_url) as connection, timed(seconds, name):
            statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(name))
            with connection.cursor().copy(statement) as copy, file.open("rb") as stream:
                while block := stream.read(CHUNK):
                    copy.write(block)
            connection.commit()
        file.unlink()
    return sum(seconds.values())


def written(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT coalesce(sum(rows_inserted + rows_updated), 0) FROM migration.batch JOIN migration.load"
            " ON load.id = load_id WHERE run_id = (SELECT run_id FROM migration.run ORDER BY started_at DESC LIMIT 1)"
        ).fetchone()
    return int(found[0]) if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="accounts")
    rows = parser.parse_args().rows

    from dtx_assets.crm.decided_system import SYSTEM
    from dtx_assets.machinery.postgres.embedded import embedded_postgres

    ddl = next(SYSTEM.mappings_dir.glob("*.sql")).read_text("utf-8")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch:
        directory = Path(scratch)
        dump = write_dump(directory / "dump", rows)
        decoded = decoding_alone(dump)
        with embedded_postgres(directory / "state") as server:
            target, copy = server.create_database("run"), server.create_database("copy")
            for url in (target, copy):
                with psycopg.connect(url) as connection:
                    connection.execute(ddl.encode())
            first, peak = run(target, dump, directory / "home")
            copied = plain_copy(target, copy, directory)
            again, _ = run(target, dump, directory / "home")
            rewritten = written(target)
    print(f"{rows:,} documents of 12 fields      {first:7.1f} s, {rows / first:,.0f} documents a second")
    print(f"bson.decode_file_iter alone    {decoded:7.1f} s")
    print(f"plain COPY of the same rows    {copied:7.1f} s")
    print(f"ratio to both together         {first / (decoded + copied):7.2f}   (at most 1.60)")
    print(
        f"second run, nothing changed    {again:7.1f} s, {rewritten} rows written (0), {again / first:.2f} of the first"
    )
    print(f"peak memory                    {peak:7,.0f} MiB (under 1,500)")


if __name__ == "__main__":
    main()
