"""A public schema of 173 tables with its own rows, from MariaDB to PostgreSQL, with nothing written by hand.

    .venv/bin/python -m benchmarks.public_schema

It is that of Zabbix, as its Debian packages ship it for both servers: composite keys, references of tables to
themselves, row triggers in the target, and 130,000 rows of templates. They are fetched by `apt-get download`; nothing
of them is installed or kept. What is there afterwards is compared with what was, value by value, by a reading that
shares nothing with dtx.
"""

import gzip
import os
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pymysql
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from benchmarks.any_table import DTX, run_quietly
from dtx_assets.machinery.postgres.embedded import embedded_postgres
from dtx_assets_tests import servers

SYSTEM = "zabbix"
"""Of the databases on both sides, too."""
PACKAGES = {"mysql": "zabbix-server-mysql", "pgsql": "zabbix-server-pgsql"}
COLUMNS = (
    "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s"
    " ORDER BY ordinal_position"
)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch:
        directory = Path(scratch)
        try:
            files = {kind: fetched(package, directory / kind) for kind, package in PACKAGES.items()}
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"left out, since {' and '.join(PACKAGES.values())} cannot be fetched: {error}")
            return
        (directory / "mariadb").mkdir()
        with servers.mariadb(directory / "mariadb") as url, embedded_postgres(directory / "state") as server:
            legacy, target = make_url(url).set(database=SYSTEM), server.create_database(SYSTEM)
            fill(legacy, [unpacked(files["mysql"], name) for name in ("schema", "images", "data")])
            schema = unpacked(files["pgsql"], "schema").decode()
            with psycopg.connect(target) as connection:
                connection.execute(schema)  # type: ignore[arg-type]
            (directory / "target.sql").write_text(schema)
            environment = os.environ | {
                "ZABBIX_LEGACY_URL": legacy.render_as_string(hide_password=False),
                "ZABBIX_TARGET_URL": target,
                "ZABBIX_HOME": str(directory / "home"),
            }
            for words in (
                ["init", SYSTEM, "--target", "target.sql"],
                ["run", SYSTEM],
                ["run", SYSTEM],
                ["verify", SYSTEM],
            ):
                timed(words, directory, environment)
            rows, other = compared(legacy, target)
        print(f"{rows:,} rows of all tables over there as they were; tables that differ: {', '.join(other) or 'none'}")


def fetched(package: str, directory: Path) -> Path:
    """Where the SQL of a Debian package lies, unpacked."""
    directory.mkdir()
    subprocess.run(["apt-get", "download", "-qq", package], cwd=directory, check=True, stderr=subprocess.DEVNULL)
    [archive] = directory.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", archive.name, "."], cwd=directory, check=True)
    return directory / "usr" / "share" / package


def unpacked(files: Path, name: str) -> bytes:
    return gzip.decompress((files / f"{name}.sql.gz").read_bytes())


def fill(legacy: URL, scripts: list[bytes]) -> None:
    """Makes the legacy database, by the client, since only that knows what `DELIMITER` means."""
    begin = (
        f"SET GLOBAL log_bin_trust_function_creators = 1; CREATE DATABASE {SYSTEM} COLLATE utf8mb4_bin; USE {SYSTEM};"
    )
    server = ["--host", str(legacy.host), "--port", str(legacy.port), "--user", str(legacy.username)]
    subprocess.run(
        ["mariadb", *server, "--default-character-set=utf8mb4", "--max-allowed-packet=256M"],
        input=b"\n".join([begin.encode(), *scripts]),
        env=os.environ | {"MYSQL_PWD": str(legacy.password)},
        check=True,
    )


def timed(words: list[str], directory: Path, environment: dict[str, str]) -> None:
    began = time.perf_counter()
    run_quietly([str(DTX), *words], directory, environment, allowed=(0, 3))
    print(f"dtx {' '.join(words):32} {time.perf_counter() - began:6.1f} s", flush=True)


def compared(legacy: URL, target: str) -> tuple[int, list[str]]:
    """How many rows there were, and the tables whose rows are not the same on both sides."""
    options = {"host": legacy.host, "port": legacy.port, "user": legacy.username, "password": legacy.password}
    rows, other = 0, []
    with (
        closing(pymysql.connect(**options, database=SYSTEM, charset="utf8mb4")) as there,  # type: ignore[arg-type]
        there.cursor() as cursor,
        psycopg.connect(target) as here,
    ):
        cursor.execute("SHOW TABLES")
        for (table,) in cursor.fetchall():
            cursor.execute(COLUMNS, [table])
            names = [name for (name,) in cursor.fetchall()]
            cursor.execute(f"SELECT {', '.join(f'`{name}`' for name in names)} FROM `{table}`")
            was = in_order(cursor.fetchall())
            wanted = sql.SQL("SELECT {} FROM {}").format(
                sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table)
            )
            rows += len(was)
            if was != in_order(here.execute(wanted).fetchall()):
                other.append(table)
    return rows, other


def in_order(rows: Any) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in rows), key=repr)


if __name__ == "__main__":
    main()
