"""`dtx run` on the sample as CSV files, on S3 (the lake there too) and in MariaDB: the target holds the same rows.

Why: where the legacy tables come from must not be seen in what is loaded, rejected or counted.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pymysql
import pytest
from sqlalchemy import make_url

from dtx_assets.dtx.system import SYSTEM, load_other_areas
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.frames import legacy_frame
from dtx_assets.machinery.sources.landing import ROW, UNDECODABLE
from dtx_assets_tests.dtx.commands import Command

BOOKKEEPING = {
    "migration.rejected": "source_table, source_key, target_table, reasons, partial, detail, row",
    "migration.accounting": "source_table, target_table, read, migrated, rejected, dropped, coerced",
    "migration.mapping": "source_table, source_key, target_table, part",
}
TABLES = {**SYSTEM.legacy_tables, **SYSTEM.crosswalk_tables}


@pytest.fixture
def run(tmp_path: Path, postgres_server: EmbeddedPostgres) -> Iterable[Callable[..., dict[str, list[Any]]]]:
    """Runs everything into a database of its own and gives what it holds, by table."""
    made = []

    def migrate(name: str, **environment: str) -> dict[str, list[Any]]:
        made.append(f"same_rows_{name}")
        url = postgres_server.create_database(made[-1])
        with psycopg.connect(url) as connection:
            create_target(connection, SYSTEM.targets)
            load_other_areas(connection, SYSTEM.sample_dir / "target")
        directory = tmp_path / name
        directory.mkdir()
        fixed = {"DTX_TARGET_URL": url, "DTX_CUTOVER_AT": "2026-11-21T00:00:00Z"}
        done = Command(directory, fixed)("run", **environment)
        assert done.returncode == 3, done.stdout + done.stderr
        return contents(url)

    yield migrate
    for name in made:
        postgres_server.drop_database(name)


def contents(url: str) -> dict[str, list[Any]]:
    """The rows of every target table and of the bookkeeping, without ids that a sequence gave; sorted."""
    written = {target.name: target for target in SYSTEM.targets}
    queries = {name: ", ".join(f'"{column.name}"' for column in target.columns) for name, target in written.items()}
    with psycopg.connect(url) as connection:
        return {
            name: sorted(map(repr, connection.execute(f"SELECT {columns} FROM {name}").fetchall()))
            for name, columns in {**{n: c for n, c in queries.items() if c}, **BOOKKEEPING}.items()
        }


def put_into_bucket(directory: Path, bucket: str, endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    for path in directory.glob("*.csv"):
        client.upload_file(str(path), bucket, f"export/{path.name}")


def put_into_mariadb(url: str, lake: Lake) -> None:
    """Every table of the sample as the CSV means it, in the order of its rows, without a key."""
    at = make_url(url)
    with (
        pymysql.connect(
            host=at.host, port=at.port or 0, user=at.username, password=at.password or "", database=at.database
        ) as connection,
        connection.cursor() as cursor,
        open_source(str(SYSTEM.sample_dir)) as source,
    ):
        cursor.execute("SET SESSION innodb_strict_mode = 0")
        for table in TABLES.values():
            source.extract(table, lake, ("dtx", "legacy", table.name), "put")
            names, blobs, rows = as_the_csv_means_it(lake, table)
            quoted = ["`" + name.replace("`", "``") + "`" for name in names]
            types = ["LONGBLOB" if name in blobs else "LONGTEXT" for name in names]
            listed = ", ".join(f"{name} {kind}" for name, kind in zip(quoted, types, strict=True))
            cursor.execute(f"CREATE TABLE `{table.name}` ({listed}) CHARACTER SET utf8mb4")
            places = ", ".join(["%s"] * len(names))
            cursor.executemany(
                f"INSERT INTO `{table.name}` ({', '.join(quoted)}) VALUES ({places})".replace("%", "%%").replace(
                    "%%s", "%s"
                ),
                rows,
            )
        connection.commit()


def as_the_csv_means_it(lake: Lake, table: LegacyTable) -> tuple[list[str], set[str], list[Sequence[Any]]]:
    """Columns, those with bytes that are no text, and the rows."""
    frame = legacy_frame(lake, "dtx", table).sort(ROW).collect()
    present = lake.scan(("dtx", "legacy", table.name)).collect_schema().names()
    names = [name for name in present if name not in (ROW, UNDECODABLE)]
    undecodable = [
        {entry["column"]: entry["bytes"] for entry in entries or ()}
        for entries in frame.get_column(UNDECODABLE).to_list()
    ]
    blobs = {name for entries in undecodable for name in entries}
    rows = [
        [
            raw.get(name, value if name not in blobs or value is None else value.encode())
            for name, value in zip(names, row, strict=True)
        ]
        for raw, row in zip(undecodable, frame.select(names).iter_rows(), strict=True)
    ]
    return names, blobs, rows


def test_csv_s3_and_mariadb_give_the_same_rows(run, tmp_path, s3_bucket, s3_server, empty_mariadb_url):
    from_csv = run("csv", DTX_LEGACY_URL=str(SYSTEM.sample_dir))
    assert len(from_csv["docutrax_utils_notificationschedule"]) > 500
    assert len(from_csv["migration.rejected"]) > 100

    put_into_bucket(SYSTEM.sample_dir, s3_bucket, s3_server.endpoint)
    from_s3 = run(
        "s3",
        DTX_LEGACY_URL=f"s3://{s3_bucket}/export",
        DTX_LAKE_URL=f"s3://{s3_bucket}/lake",
        **s3_server.environment,
    )
    for name, rows in from_csv.items():
        assert from_s3[name] == rows, name

    put_into_mariadb(empty_mariadb_url, Lake(str(tmp_path / "put")))
    from_mariadb = run("mariadb", DTX_LEGACY_URL=empty_mariadb_url)
    for name, rows in from_csv.items():
        assert from_mariadb[name] == rows, name
