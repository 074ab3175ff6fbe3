"""Settings come from the right place, bad ones are refused by name, and no secret is shown."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.settings import (
    DERIVED_VARIABLES,
    VARIABLES,
    Settings,
    apply_environment_files,
    mask_url,
    read_environment,
)

SECRET = "s3cr3t"
SettingsOf = Callable[..., Settings]


@pytest.fixture
def settings_of(tmp_path: Path) -> SettingsOf:
    def build(system: str = "dtx", **variables: str) -> Settings:
        return Settings.from_environment(
            system, environ=variables, project_dir=tmp_path, sample_dir=tmp_path / "sample"
        )

    return build


def test_defaults_are_the_sample_and_the_state_directory(settings_of: SettingsOf, tmp_path: Path) -> None:
    assert settings_of() == Settings(
        system="dtx",
        legacy_url=str(tmp_path / "sample"),
        crosswalk_url=str(tmp_path / "sample"),
        target_url=None,
        files_url=str(tmp_path / "sample" / "files"),
        files_prefix="",
        object_store_url=str(tmp_path / ".dtx" / "object_store"),
        object_store_encryption=None,
        object_store_storage_class=None,
        verify_files=False,
        archive_url=str(tmp_path / ".dtx" / "archive"),
        lake_url=str(tmp_path / ".dtx" / "lake"),
        decisions_path=None,
        cutover_at=None,
        legacy_timezone="UTC",
        home=tmp_path / ".dtx",
        batch_rows=100_000,
        mode="rehearsal",
    )


def test_each_system_has_its_own_variables(settings_of: SettingsOf, tmp_path: Path) -> None:
    pad = settings_of("pad", PAD_BATCH_ROWS="7", DTX_BATCH_ROWS="8", PAD_LOAD_CONNECTIONS="4")
    assert (pad.batch_rows, pad.load_connections, pad.home) == (7, 4, tmp_path / ".pad")


def test_every_variable_has_its_effect(settings_of: SettingsOf, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").touch()
    settings = settings_of(
        DTX_LEGACY_URL="mysql+pymysql://u:p@h:3306/legacy?charset=utf8mb4",
        DTX_CROSSWALK_URL="s3://bucket/cross/",
        DTX_TARGET_URL="postgresql+psycopg://u:p@h/db?sslmode=require",
        DTX_OBJECT_STORE_SSE="aws:kms",
        DTX_OBJECT_STORE_STORAGE_CLASS="STANDARD_IA",
        DTX_VERIFY_FILES="1",
        DTX_FILES_URL="file:///mnt/e%20f/s",
        DTX_FILES_PREFIX="/var/efs",
        DTX_OBJECT_STORE_URL="s3://store",
        DTX_ARCHIVE_URL="~/archive",
        DTX_LAKE_URL="s3://lake/dir",
        DTX_DECISIONS="own.yaml",
        DTX_CUTOVER_AT="2026-12-01T02:00:00-05:00",
        DTX_LEGACY_TIMEZONE="America/New_York",
        DTX_HOME="state",
        DTX_BATCH_ROWS="5000",
        DTX_MODE="Cutover",
    )
    assert settings == Settings(
        system="dtx",
        legacy_url="mysql+pymysql://u:p@h:3306/legacy?charset=utf8mb4",
        crosswalk_url="s3://bucket/cross",
        target_url="postgresql://u:p@h/db?sslmode=require",
        files_url="/mnt/e f/s",
        files_prefix="/var/efs",
        object_store_url="s3://store",
        object_store_encryption="aws:kms",
        object_store_storage_class="STANDARD_IA",
        verify_files=True,
        archive_url=str(Path.home() / "archive"),
        lake_url="s3://lake/dir",
        decisions_path=tmp_path / "own.yaml",
        cutover_at=datetime(2026, 12, 1, 7, tzinfo=UTC),
        legacy_timezone="America/New_York",
        home=tmp_path / "state",
        batch_rows=5000,
        mode="cutover",
    )


def test_places_beside_the_lake(settings_of: SettingsOf, tmp_path: Path) -> None:
    moved = settings_of(DTX_LAKE_URL="/big/disk/lake")
    assert (moved.object_store_url, moved.archive_url) == ("/big/disk/object_store", "/big/disk/archive")
    remote = settings_of(DTX_LAKE_URL="s3://bucket/lake")
    assert remote.object_store_url == str(tmp_path / ".dtx" / "object_store")


def test_crosswalks_are_where_the_legacy_tables_are(settings_of: SettingsOf) -> None:
    assert settings_of(DTX_LEGACY_URL="/exports").crosswalk_url == "/exports"


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("exports", "{project}/exports"),
        ("/abs/ex ports", "/abs/ex ports"),
        ("file:///abs", "/abs"),
        ("file://localhost/abs", "/abs"),
        ("postgres://u@h/db", "postgresql://u@h/db"),
        ("mariadb://u@h/db", "mariadb://u@h/db"),
        ("sqlite:///legacy.db", "sqlite:///{project}/legacy.db"),
        ("sqlite:////abs/legacy.db?mode=ro", "sqlite:////abs/legacy.db?mode=ro"),
        ("s3://bucket", "s3://bucket"),
        ("", "{project}/sample"),
        ("  ", "{project}/sample"),
    ],
)
def test_forms_of_a_location(settings_of: SettingsOf, tmp_path: Path, given: str, understood: str) -> None:
    assert settings_of(DTX_LEGACY_URL=given).legacy_url == understood.replace("{project}", str(tmp_path))


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("2026-12-01T02:00:00Z", datetime(2026, 12, 1, 2, tzinfo=UTC)),
        ("2026-12-01T02:00:00", datetime(2026, 12, 1, 2, tzinfo=UTC)),
        ("2026-12-01", datetime(2026, 12, 1, tzinfo=UTC)),
        ("2026-12-01 02:00:00.5+02:00", datetime(2026, 12, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_cutover_instants(settings_of: SettingsOf, given: str, understood: datetime) -> None:
    settings = settings_of(DTX_CUTOVER_AT=given)
    assert (settings.cutover_at, settings.cutover_at and settings.cutover_at.tzinfo) == (understood, UTC)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("LEGACY_URL", f"oracle://u:{SECRET}@h/db", "mysql://user:password@host/database"),
        ("LEGACY_URL", f"mysql:/u:{SECRET}@h/db", "mysql://user:password@host/database"),
        ("LEGACY_URL", f"mysql://u:{SECRET}@h", "mysql://user:password@host/database"),
        ("LEGACY_URL", f"mysql://u:{SECRET}@h:port/db", "mysql://user:password@host/database"),
        ("LEGACY_URL", f"mysql://u:{SECRET}@[::1/db", "mysql://user:password@host/database"),
        ("LEGACY_URL", "sqlite://", "sqlite:///file"),
        ("LEGACY_URL", "sqlite:///:memory:", "sqlite:///file"),
        ("LEGACY_URL", "s3://", "s3://bucket/prefix"),
        ("LEGACY_URL", "s3:bucket", "s3://bucket/prefix"),
        ("LEGACY_URL", "file://host/dir", "file://"),
        ("LEGACY_URL", "ftp://host/dir", "a directory or file"),
        ("CROSSWALK_URL", f"s3://AKIA:{SECRET}@bucket/x", "s3://bucket/prefix"),
        ("TARGET_URL", f"mysql://u:{SECRET}@h/db", "postgresql://user:password@host/database"),
        ("TARGET_URL", "./some/directory", "postgresql://user:password@host/database"),
        ("TARGET_URL", "file:///dir", "postgresql://user:password@host/database"),
        ("TARGET_URL", f"host=h password={SECRET} dbname=d", "postgresql://user:password@host/database"),
        ("TARGET_URL", f"postgresql://h/?password={SECRET}", "postgresql://user:password@host/database"),
        ("TARGET_URL", f"postgresql://u:p/{SECRET}@h/db", "postgresql://user:password@host/database"),
        ("FILES_URL", "gs://bucket/files", "a directory or file"),
        ("OBJECT_STORE_URL", "postgresql://h/db", "s3://bucket/prefix"),
        ("ARCHIVE_URL", "sqlite:///x.db", "s3://bucket/prefix"),
        ("LAKE_URL", "gs://bucket", "s3://bucket/prefix"),
        ("HOME", "s3://bucket/home", "a directory or file"),
        ("DECISIONS", "missing.yaml", "a file that is there"),
        ("CUTOVER_AT", "tomorrow", "ISO 8601"),
        ("CUTOVER_AT", "2026-02-30", "ISO 8601"),
        ("CUTOVER_AT", "9999-12-31T23:59:59-05:00", "ISO 8601"),
        ("LEGACY_TIMEZONE", "EST/EDT", "an IANA time zone"),
        ("LEGACY_TIMEZONE", "../etc/passwd", "an IANA time zone"),
        ("LEGACY_TIMEZONE", "US", "an IANA time zone"),
        ("BATCH_ROWS", "0", "a whole number from 1"),
        ("BATCH_ROWS", "-5", "a whole number from 1"),
        ("BATCH_ROWS", "1e5", "a whole number from 1"),
        ("BATCH_ROWS", "٣", "a whole number from 1"),
        ("BATCH_ROWS", "99999999999", "to 10000000"),
        ("LOAD_CONNECTIONS", "0", "a whole number from 1 to 8"),
        ("LOAD_CONNECTIONS", "9", "a whole number from 1 to 8"),
        ("MODE", "live", "rehearsal or cutover"),
    ],
)
def test_bad_values_are_refused_by_name(settings_of: SettingsOf, name: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        settings_of(**{f"DTX_{name}": value})
    assert told.value.what.startswith(f"DTX_{name} is {mask_url(value)!r}; allowed: ")
    assert allowed in told.value.what
    assert told.value.remedy
    assert SECRET not in str(told.value)


def test_a_zone_that_is_nearly_right_is_suggested(settings_of: SettingsOf) -> None:
    with pytest.raises(ConfigurationError, match="did you mean America/New_York"):
        settings_of(DTX_LEGACY_TIMEZONE="america/new york")


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("DTX_LEGAY_URL", "DTX_LEGACY_URL"),
        ("DTX_LEGACY_URI", "DTX_LEGACY_URL"),
        ("DTX_TARGETURL", "DTX_TARGET_URL"),
        ("dtx_target_url", "DTX_TARGET_URL"),
        ("DTX_BATCH_ROW", "DTX_BATCH_ROWS"),
        ("DTX_CUTOVER_ATT", "DTX_CUTOVER_AT"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_right_name(settings_of: SettingsOf, misspelt: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{misspelt} means nothing, and looks like {meant}") as told:
        settings_of(**{misspelt: SECRET})
    assert SECRET not in str(told.value)


def test_other_variables_are_none_of_its_business(settings_of: SettingsOf) -> None:
    assert settings_of(DTX_PG_BIN="/x", DTX_FAILPOINT="y", PAD_LEGAY_URL="z", HOME="/h").batch_rows == 100_000


def test_the_repr_and_the_masked_fields_show_no_secret(settings_of: SettingsOf) -> None:
    settings = settings_of(
        DTX_LEGACY_URL=f"mysql://reader:{SECRET}@old/legacy",
        DTX_TARGET_URL=f"postgresql://u:a@{SECRET}@new/db?sslpassword={SECRET}&sslmode=require",
    )
    for shown in (repr(settings), str(settings), f"{settings.masked()}"):
        assert SECRET not in shown
        assert "mysql://reader:***@old/legacy" in shown
        assert "postgresql://u:***@new/db?sslpassword=***&sslmode=require" in shown


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:p@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://u:p%40w@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p@w@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p/w?x#y@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p:w@h/db", "postgresql://u:***@h/db"),
        ("postgresql://:p@h/db", "postgresql://:***@h/db"),
        ("mysql+pymysql://u:@h/db", "mysql+pymysql://u:***@h/db"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("postgresql:/u:p@h/db", "postgresql:/u:***@h/db"),
        ("u:p@h/db", "u:***@h/db"),
        ("mysql://h/db?user=u&password=p&ssl=1", "mysql://h/db?user=u&password=***&ssl=1"),
        ("mysql://h/db?p%61ssword=p", "mysql://h/db?p%61ssword=***"),
        ("s3://b/k?X-Amz-Signature=abc&X-Amz-Date=1", "s3://b/k?X-Amz-Signature=***&X-Amz-Date=1"),
        ("host=h password='p w\\'x' user=u", "host=h password=*** user=u"),
        ("host=h password = p", "host=h password = ***"),
        ("/a/path:with@signs", "/a/path:***@signs"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("", ""),
    ],
)
def test_mask_url(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_the_order_of_environment_files(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=base\nB=base\nC=base\n# a comment\nexport D='with space # and hash'\nE=${A}\n")
    (tmp_path / ".env.qa").write_text("\ufeffB=qa\nC=qa\n")
    read = read_environment({"APP_ENV": "qa", "C": "real"}, tmp_path)
    assert read == {"A": "base", "B": "qa", "C": "real", "D": "with space # and hash", "E": "${A}", "APP_ENV": "qa"}
    assert read_environment({}, tmp_path)["B"] == "base"


def test_settings_come_from_environment_files(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("APP_ENV=qa\nDTX_BATCH_ROWS=1\nDTX_MODE=cutover\n")
    (tmp_path / ".env.qa").write_text("DTX_BATCH_ROWS=2\n")

    def read(**environ: str) -> tuple[int, str]:
        settings = Settings.from_environment("dtx", environ=environ, project_dir=tmp_path, sample_dir=tmp_path)
        return settings.batch_rows, settings.mode

    assert read() == (2, "cutover")
    assert read(DTX_BATCH_ROWS="3") == (3, "cutover")
    assert read(DTX_MODE="") == (2, "rehearsal")


@pytest.mark.parametrize("app_env", ["missing", "../secret", "a/b", "."])
def test_app_env_without_a_file_is_refused(tmp_path: Path, app_env: str) -> None:
    with pytest.raises(ConfigurationError, match="no such environment file"):
        read_environment({"APP_ENV": app_env}, tmp_path)


@pytest.mark.parametrize("line", [f"DTX_TARGET_URL='{SECRET}", SECRET, f"not a name={SECRET}"])
def test_a_bad_line_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(f"A=1\n\n{line}\n")
    with pytest.raises(ConfigurationError) as told:
        read_environment({}, tmp_path)
    assert told.value.where == f"{tmp_path / '.env'}, line 3"
    assert SECRET not in str(told.value)


def test_an_environment_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe" + SECRET.encode())
    with pytest.raises(ConfigurationError, match="cannot be read") as told:
        read_environment({}, tmp_path)
    assert SECRET not in str(told.value)


def test_environment_files_reach_other_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("AWS_REGION=from-file\nAWS_PROFILE=from-file\n")
    monkeypatch.setenv("AWS_REGION", "real")
    monkeypatch.setenv("AWS_PROFILE", "to be removed")
    monkeypatch.delenv("AWS_PROFILE")
    apply_environment_files(tmp_path)
    assert (os.environ["AWS_REGION"], os.environ["AWS_PROFILE"]) == ("real", "from-file")


@pytest.mark.parametrize("example", [".env.example", ".env.qa.example", ".env.prod.example"])
def test_the_examples_name_every_variable_and_no_other_one(settings_of: SettingsOf, example: str) -> None:
    text = (Path(__file__).parents[3] / example).read_text()
    named = [line.removeprefix("# ").partition("=") for line in text.splitlines() if "DTX_" in line]
    assert [name for name, _, _ in named] == [f"DTX_{name}" for name in VARIABLES if name not in DERIVED_VARIABLES]
    settings_of(**{name: value.strip("'") for name, _, value in named})
