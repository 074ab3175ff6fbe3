"""dagster-aws's S3Resource is how runs reach S3: what it says counts, and the environment need not say anything."""

from typing import Any

import boto3
import dagster as dg
import polars as pl
import psycopg
import pytest
from dagster_aws.s3 import S3Resource

from dtx_assets.dtx.system import SYSTEM, load_other_areas
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.lake import Lake, s3_storage_options, s3_store
from dtx_assets.machinery.code_location.definitions import build_definitions
from dtx_assets.machinery.load import create_target


@pytest.fixture
def resource(s3_bucket: str, s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> S3Resource:
    """The server and its keys in the resource, and nowhere else."""
    keys = s3_server.environment
    for name in keys:
        monkeypatch.delenv(name)
    return S3Resource(
        endpoint_url=s3_server.endpoint,
        region_name=s3_server.region,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )


def test_a_run_reads_its_source_and_keeps_its_lake_with_the_resource_alone(
    resource, s3_bucket, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    resource.get_client().upload_file(str(SYSTEM.sample_dir / "keyword.csv"), s3_bucket, "export/keyword.csv")
    settings = {"LEGACY_URL": f"s3://{s3_bucket}/export", "LAKE_URL": f"s3://{s3_bucket}/lake", "HOME": str(tmp_path)}
    for name, value in settings.items():
        monkeypatch.setenv(f"DTX_{name}", value)

    @dg.asset(ins={"keyword": dg.AssetIn(["dtx", "legacy", "keyword"])})
    def keywords_of_customers(keyword: pl.LazyFrame) -> pl.LazyFrame:
        return keyword.group_by("customer_id").len()

    ours = build_definitions(SYSTEM, [], s3=resource)
    definitions = dg.Definitions.merge(ours, dg.Definitions(assets=[keywords_of_customers]))
    keyword = dg.AssetKey(["dtx", "legacy", "keyword"])
    job = definitions.resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(
        asset_selection=[keyword, keywords_of_customers.key], instance=dg.DagsterInstance.ephemeral()
    )
    assert done.success
    lake = Lake(f"s3://{s3_bucket}/lake", resource)
    landed = lake.scan(tuple(keyword.path)).collect()
    counted = lake.scan(("keywords_of_customers",)).collect()
    assert counted.get_column("len").sum() == landed.height > 50


def test_files_go_to_the_bucket_with_the_resource_alone(resource, s3_bucket, tmp_path, database_url, monkeypatch):
    with psycopg.connect(database_url) as connection:
        create_target(connection, SYSTEM.targets)
        load_other_areas(connection, SYSTEM.sample_dir / "target")
    settings = {
        "OBJECT_STORE_URL": f"s3://{s3_bucket}/files",
        "TARGET_URL": database_url,
        "HOME": str(tmp_path),
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"DTX_{name}", value)
    job = build_definitions(SYSTEM, [], s3=resource).resolve_implicit_global_asset_job_def()
    loaded = dg.AssetKey(["dtx", "target", "Document"])
    selected = dg.AssetSelection.assets(loaded).upstream().resolve(job.asset_layer.asset_graph)
    done = job.execute_in_process(asset_selection=list(selected), instance=dg.DagsterInstance.ephemeral())
    [materialized] = [
        event.step_materialization_data.materialization
        for event in done.get_asset_materialization_events()
        if event.asset_key == loaded
    ]
    files_sent = materialized.metadata["files sent"].value
    listed = resource.get_client().list_objects_v2(Bucket=s3_bucket, Prefix="files/documents/")
    assert listed["KeyCount"] == files_sent > 5
    with psycopg.connect(database_url) as connection:
        keys = connection.execute(
            "SELECT 'files/' || file FROM docutrax_profiles_document JOIN migration.mapping ON target_id = id::text"
            " WHERE target_table = 'docutrax_profiles_document'"
        ).fetchall()
    assert {key for (key,) in keys} == {entry["Key"] for entry in listed["Contents"]}


def test_without_keys_the_store_refuses(resource, s3_bucket):
    anonymous = S3Resource(endpoint_url=resource.endpoint_url, region_name="us-east-1", use_unsigned_session=True)
    with pytest.raises(ConfigurationError, match="lake cannot be used"):
        Lake(f"s3://{s3_bucket}/lake", anonymous).manifest(("dtx", "legacy", "keyword"))


def test_what_the_resource_says_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    said = S3Resource(endpoint_url="https://store.example.com", aws_session_token="token")
    assert s3_storage_options(said) == {
        "aws_endpoint_url": "https://store.example.com",
        "aws_region": "eu-west-1",
        "aws_session_token": "token",
    }
    assert s3_storage_options() == {
        "aws_endpoint_url": "http://127.0.0.1:1",
        "aws_region": "eu-west-1",
        "aws_allow_http": "true",
    }
    assert s3_store("s3://bucket/prefix", said).config["endpoint"] == "https://store.example.com"


def test_a_profile_gives_the_keys(tmp_path, monkeypatch: pytest.MonkeyPatch):
    credentials = tmp_path / "credentials"
    credentials.write_text("[cutover]\naws_access_key_id = the-key\naws_secret_access_key = the-secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    options = s3_storage_options(S3Resource(profile_name="cutover"))
    assert (options["aws_access_key_id"], options["aws_secret_access_key"]) == ("the-key", "the-secret")
    with pytest.raises(ConfigurationError, match="'nobody' cannot be used"):
        s3_storage_options(S3Resource(profile_name="nobody"))
    assert boto3.Session(profile_name="cutover").get_credentials().access_key == "the-key"
