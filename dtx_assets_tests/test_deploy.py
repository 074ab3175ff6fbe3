"""The production instance of `deploy/`, with a real PostgreSQL and a real S3 server."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError

import boto3
import dagster as dg
import psycopg
import pytest

from dtx_assets.machinery.dagster.history_in_postgresql import KEPT
from dtx_assets_tests.dtx.commands import WORKSPACE_OF_DTX
from dtx_assets_tests.patience import PATIENCE
from dtx_assets_tests.servers import free_ports
from dtx_assets_tests.sessions import OTHERS, other_sessions, wait_until_alone

PROJECT = Path(__file__).parents[1]
DEPLOY = PROJECT / "deploy" / "dagster.yaml"
HEALTH = "{ instance { runQueuingSupported daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"
ORIGIN = "https://migration.example.com"


@dg.op
def says_something() -> None:
    print("said by a step")


@dg.job
def small() -> None:
    says_something()


def test_history_is_in_postgresql_and_logs_of_steps_in_s3(tmp_path, monkeypatch, database_url, s3_server, s3_bucket):
    shutil.copy(DEPLOY, tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", database_url.replace("postgresql:", "postgresql+psycopg2:"))
    monkeypatch.setenv("DAGSTER_LOGS_BUCKET", s3_bucket)
    monkeypatch.setenv("DAGSTER_LOGS_PREFIX", "logs")
    monkeypatch.setenv("DAGSTER_LOGS_DIRECTORY", str(tmp_path / "logs"))
    with psycopg.connect(database_url, autocommit=True) as connection:
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            run_id = small.execute_in_process(instance=instance).run_id
            assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"
            assert 1 <= other_sessions(connection) <= KEPT
            # As after a restart of the server: what is kept is no good any more.
            connection.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}")
            assert [run.run_id for run in instance.get_runs()] == [run_id]
        assert connection.execute("SELECT run_id, status FROM runs").fetchall() == [(run_id, "SUCCESS")]
        wait_until_alone(connection)
    client = boto3.client("s3", endpoint_url=s3_server.endpoint)
    listed = client.list_objects_v2(Bucket=s3_bucket, Prefix="logs/")["Contents"]
    assert any(
        b"said by a step" in client.get_object(Bucket=s3_bucket, Key=each["Key"])["Body"].read() for each in listed
    )


def ask(address: str, query: str, **headers: str) -> dict:
    """What the UI answers to a query that came through the proxy."""
    request = urllib.request.Request(
        f"{address}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json", "Host": "migration.example.com", "Origin": ORIGIN, **headers},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)["data"]


def test_webserver_and_daemon_start_from_it_and_the_queue_is_tended(tmp_path, database_url, s3_bucket, s3_server):
    shutil.copy(DEPLOY, tmp_path / "dagster.yaml")
    [port] = free_ports(1)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DTX_")},
        "DAGSTER_HOME": str(tmp_path),
        "DAGSTER_POSTGRES_URL": database_url.replace("postgresql:", "postgresql+psycopg2:"),
        "DAGSTER_LOGS_BUCKET": s3_bucket,
        "DAGSTER_LOGS_PREFIX": "logs",
        "DAGSTER_LOGS_DIRECTORY": str(tmp_path / "logs"),
        "DTX_HOME": str(tmp_path / "home"),
        "DTX_UI_ORIGIN": ORIGIN,
    }
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(WORKSPACE_OF_DTX)
    commands = (
        [
            "dtx_assets.machinery.dagster.guarded_webserver",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-w",
            str(workspace),
        ],
        ["dagster._daemon", "run", "-w", str(workspace)],
    )
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "log").open("w"))
        for command in commands:
            process = stack.enter_context(
                subprocess.Popen([sys.executable, "-m", *command], cwd=PROJECT, env=environment, stdout=log, stderr=log)
            )
            stack.callback(process.send_signal, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                instance = ask(f"http://127.0.0.1:{port}", HEALTH)["instance"]
            except OSError:
                instance = {}
            daemons = instance.get("daemonHealth", {}).get("allDaemonStatuses", [])
            tended = {each["daemonType"] for each in daemons if each["required"] and each["healthy"]}
            if {"QUEUED_RUN_COORDINATOR", "SCHEDULER", "SENSOR"} <= tended:
                break
            assert time.monotonic() < deadline, (daemons, (tmp_path / "log").read_text()[-4000:])
            time.sleep(1)
        assert instance["runQueuingSupported"]
        with pytest.raises(HTTPError, match="403"):
            ask(f"http://127.0.0.1:{port}", HEALTH, Origin="https://evil.example")


def test_what_is_demanded_of_the_proxy_is_written_down():
    """The guard needs what the browser said, so the proxy's example hands it on."""
    page = (PROJECT / "deploy" / "README.md").read_text()
    assert "dtx_assets.machinery.dagster.guarded_webserver" in page
    assert "\n    .venv/bin/dagster-webserver" not in page
    for demanded in ("Host", "Origin", "Sec-Fetch-Site", "GET `/graphql`", "`application/json` only", "SameSite"):
        assert demanded in page
