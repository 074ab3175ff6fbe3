"""The test servers behave as the real parts do: a fake that accepts anything would make the other tests worthless."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import obstore
import polars as pl
import psycopg
import pytest
import sqlalchemy as sa
from botocore.exceptions import ClientError
from obstore.store import S3Store

from dtx_assets_tests.servers import S3Server


def test_each_database_url_is_an_empty_database(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchone()
        connection.execute("CREATE TABLE t ()")
    assert found == (0,)


def test_mariadb_takes_zero_dates_as_legacy_servers_did(mariadb_url: str) -> None:
    engine = sa.create_engine(mariadb_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE zero_dates (d datetime)"))
        connection.execute(sa.text("INSERT INTO zero_dates VALUES ('0000-00-00 00:00:00')"))
        rows = connection.execute(sa.text("SELECT CAST(d AS CHAR) FROM zero_dates")).all()
        connection.execute(sa.text("DROP TABLE zero_dates"))
    engine.dispose()
    assert rows == [("0000-00-00 00:00:00",)]


def test_s3_serves_boto3_obstore_and_polars(s3_bucket: str) -> None:
    store = S3Store(s3_bucket)
    obstore.put(store, "dir/a.parquet", b"")
    pl.DataFrame({"x": [1, 2]}).write_parquet(f"s3://{s3_bucket}/dir/a.parquet")
    assert pl.scan_parquet(f"s3://{s3_bucket}/dir/*.parquet").collect()["x"].to_list() == [1, 2]
    listed = boto3.client("s3").list_objects_v2(Bucket=s3_bucket)
    assert [entry["Key"] for entry in listed["Contents"]] == ["dir/a.parquet"]


def test_s3_refuses_a_wrong_key(s3_server: S3Server, s3_bucket: str) -> None:
    client = boto3.client("s3", aws_secret_access_key="wrong", aws_access_key_id=s3_server.access_key)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client.list_objects_v2(Bucket=s3_bucket)


def test_servers_do_not_outlive_a_killed_test_process(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys; from dtx_assets_tests.servers import seaweedfs\n"
        "with seaweedfs(pathlib.Path(sys.argv[1])) as server: print(server.endpoint, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = urlsplit(process.stdout.readline().strip())
        where = (str(address.hostname), int(address.port or 0))
        socket.create_connection(where).close()
        process.kill()
    time.sleep(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where)


def test_browser_renders(browser: Any) -> None:
    page = browser.new_page()
    page.set_content("<p>hello</p>")
    assert page.inner_text("p") == "hello"
    page.close()
