"""The production instance of `deploy/`, with a real PostgreSQL and a real S3 server."""

import shutil
from pathlib import Path

import boto3
import dagster as dg
import psycopg

DEPLOY = Path(__file__).parents[1] / "deploy" / "dagster.yaml"


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
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        run_id = small.execute_in_process(instance=instance).run_id
        assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT run_id, status FROM runs").fetchall() == [(run_id, "SUCCESS")]
    client = boto3.client("s3", endpoint_url=s3_server.endpoint)
    listed = client.list_objects_v2(Bucket=s3_bucket, Prefix="logs/")["Contents"]
    assert any(
        b"said by a step" in client.get_object(Bucket=s3_bucket, Key=each["Key"])["Body"].read() for each in listed
    )
