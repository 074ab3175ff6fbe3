"""An S3 prefix of CSV files, on a real S3 server."""

import dagster_aws.s3
import obstore
import pytest

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.base.lake import Lake, s3_store
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.csv_files import CsvAlone, CsvDialect

PAIR = LegacyTable("pair", "area", ("a", "b"))


@pytest.fixture
def url(s3_bucket: str) -> str:
    return f"s3://{s3_bucket}/ex port/legacy"


def put(url: str, name: str, content: bytes) -> None:
    obstore.put(s3_store(url), name, content)


def test_objects_land_as_files_do(url, place):
    put(url, "pair.csv", b'a,b\n1,"x\ny"\n\\N,caf\xe9\n' + b"3,4\n" * 100_000)
    manifest = place.land(url, PAIR)
    assert place.rows("pair")[:3] == [("1", "x\ny"), ("\\N", "caf\\xe9"), ("3", "4")]
    assert place.undecodable("pair") == [(2, "b", b"caf\xe9")]
    facts = manifest.metadata
    assert (facts["dialect"], facts["source"], facts["source_rows"]) == ("csv", f"{url}/pair.csv", 100_002)


def test_an_object_that_has_not_changed_is_not_fetched_again(url, place, monkeypatch):
    put(url, "pair.csv", b"a,b\n1,2\n")
    first = place.land(url, PAIR, run_id="one")
    with monkeypatch.context() as patch:
        patch.setattr("dtx_assets.machinery.sources.csv_reading.CsvFile.land", None)
        assert place.land(url, PAIR, run_id="two") == first
    put(url, "pair.csv", b"a,b\n1,3\n")
    assert place.land(url, PAIR, run_id="three").run_id == "three"
    assert place.rows("pair") == [("1", "3")]


def test_faults_name_the_object_and_the_line(url, place):
    put(url, "pair.csv", b"a,b\n1,2\n3\n")
    with pytest.raises(SourceError, match="a row of 1 field") as caught:
        place.land(url, PAIR)
    assert caught.value.where == f"{url}/pair.csv, line 3"
    assert place.is_untouched("pair")


def test_missing_objects_prefixes_and_buckets(url, place):
    put(url, "letter.csv", b"a\n")
    put(url, "deeper/pair.csv", b"a,b\n")
    with pytest.raises(SourceError, match="the table pair is missing") as caught:
        place.land(url, PAIR)
    assert caught.value.where == f"{url}/pair.csv"
    assert caught.value.remedy.endswith("are there: letter")
    with pytest.raises(SourceError, match="no CSV files under this prefix") as caught:
        place.land(f"{url}/none", PAIR)
    assert caught.value.where == f"{url}/none"
    with pytest.raises(SourceError, match="answers NoSuchBucket"):
        place.land("s3://no-such-bucket-at-all/legacy", PAIR)


def test_wrong_credentials_are_told_without_them(url, place, monkeypatch):
    put(url, "pair.csv", b"a,b\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "Wr0ngSecret")
    with pytest.raises(SourceError, match="answers SignatureDoesNotMatch") as caught:
        place.land(url, PAIR)
    assert "AWS_*" in caught.value.remedy
    assert "Wr0ngSecret" not in str(caught.value)


def test_a_server_that_is_not_there(place, monkeypatch):
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:1", "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        place.land("s3://bucket/legacy", PAIR)
    assert "AWS_ENDPOINT_URL" in caught.value.remedy


def test_dagsters_own_s3_resource(url, place, s3_server, monkeypatch):
    put(url, "pair.csv", b"a,b\n1,2\n")
    for name in s3_server.environment:
        monkeypatch.delenv(name)
    resource = dagster_aws.s3.S3Resource(
        endpoint_url=s3_server.endpoint,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
    )
    with open_source(url, s3_resource=resource) as source:
        assert source.tables() == ["pair"]
        place.land_from(source, PAIR)
    assert place.rows("pair") == [("1", "2")]


def test_from_s3_into_a_lake_on_s3(url, s3_bucket):
    put(url, "pair.csv", b"a,b\n1,2\n")
    lake = Lake(f"s3://{s3_bucket}/lake")
    with open_source(url) as source:
        manifest = source.extract(PAIR, lake, ("toy", "legacy", "pair"), "r")
    assert lake.scan(manifest.key).collect().select("a", "b", "_row").rows() == [("1", "2", 1)]


def test_an_object_of_its_own_dialect(url, place):
    put(url, "a feed.txt", "1;Café\n".encode("windows-1252"))
    dialect = CsvDialect(";", encoding="windows-1252", names=("a", "b"))
    manifest = place.land_from(CsvAlone(f"{url}/a feed.txt", dialect), PAIR)
    assert place.rows("pair") == [("1", "Café")]
    assert manifest.metadata["source"] == f"{url}/a feed.txt"
    with pytest.raises(SourceError, match="answers NoSuchKey") as caught:
        place.land_from(CsvAlone(f"{url}/none.txt", dialect), PAIR)
    assert caught.value.where == f"{url}/none.txt"
