"""However a URL is misspelt, no part of its password is told: by settings, by the readers, by the load."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.base.errors import ConfigurationError, MigrationError
from dtx_assets.machinery.base.settings import Settings, mask_url, parameters_of, without_secrets
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.sources import open_source
from dtx_assets_tests.bad_inputs.place import dtx

PARTS = ("Planted1", "Planted2")
"""What stands before and behind what is odd in a password: neither may be told."""
FORMS = [
    "{scheme}://user:{password}@127.0.0.1:1/db",
    "{scheme}://user:{password}@127.0.0.1:1",
    "{scheme}://:{password}@127.0.0.1:1/db",
    "{scheme}://user:{password}@/db",
    "{scheme}://user:{password}",
    "{scheme}://user:{password}/db",
    "{scheme}://user%3A{password}@127.0.0.1:1/db",
    "{scheme}://user:{password}@[::1/db",
    "{scheme}://user:{password}@127.0.0.1:port/db",
    "{scheme}://127.0.0.1:1/db?user=user&password={password}",
    "{scheme}://user@127.0.0.1:1/db?sslpassword={password}&sslmode=off",
    "{scheme}:/user:{password}@127.0.0.1:1/db",
    "{scheme}:user:{password}@127.0.0.1:1/db",
    "{scheme}:user:{password}",
    "jdbc:{scheme}://user:{password}@127.0.0.1:1/db",
    '"{scheme}://user:{password}@127.0.0.1:1/db"',
    " {scheme}://user:{password}@127.0.0.1:1/db\n",
    "{scheme} ://user:{password}@127.0.0.1:1/db",
    "user:{password}@127.0.0.1/db",
    "host=127.0.0.1 port=1 user=user password={password} dbname=db",
    "host=127.0.0.1 port=1 user=user password = '{password}' dbname=db",
    "Server=127.0.0.1;Uid=user;Pwd={{{password}}};Database=db",
    "pgsql:host=127.0.0.1;port=1;password={password}",
]
SCHEMES = ("postgresql", "POSTGRES", "postgresql+psycopg", "mysql", "MariaDB+PyMySQL", "s3", "S3", "oracle", "")
odd = st.text(st.sampled_from("@/#%?:&=+;,[]{}()'\"\\ \n\t\u00e9a1"), max_size=4)


def refusal_of(variable: str, url: str, directory: Path) -> str:
    """What is said of a location from the settings to the first connection; all of it for those that are taken."""
    told = []
    try:
        read = Settings.from_environment(
            "dtx", environ={f"DTX_{variable}": url}, project_dir=directory, sample_dir=directory
        )
        told.append(repr(read))
        if variable == "TARGET_URL":
            connect(read.target_url or "").close()
        elif not read.legacy_url.lower().startswith("s3:"):
            with open_source(read.legacy_url) as source:
                source.tables()
    except MigrationError as error:
        told.append(str(error))
    return "\n".join(told)


@settings(max_examples=250)
@given(form=st.sampled_from(FORMS), scheme=st.sampled_from(SCHEMES), between=odd)
@example(form=FORMS[0], scheme="postgresql", between="@")
@example(form=FORMS[0], scheme="mysql", between="@")
@example(form=FORMS[9], scheme="postgresql", between="%")
@example(form="host=127.0.0.1 port=1 user=user password={password} dbname=db", scheme="", between="://")
@pytest.mark.parametrize("variable", ["LEGACY_URL", "TARGET_URL"])
def test_no_part_of_a_password_is_told(tmp_path, variable, form, scheme, between):
    if "{password}@" not in form and "password" not in form.partition("{password}")[0]:
        # Without the host, nobody can tell whether what follows an @ is one.
        between = between.replace("@", "/")
    if "ssword={" in form:
        # So can nobody where one parameter ends and the next begins.
        between = between.replace("=", "-")
    url = form.format(scheme=scheme, password=between.join(PARTS))
    told = refusal_of(variable, url, tmp_path)
    assert told
    for part in PARTS:
        assert part not in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://h:5432/db", "postgresql://h:5432/db"),
        ("postgresql://h:5432,other:5433/db", "postgresql://h:5432,other:5433/db"),
        ("postgresql://[::1]:5432/db", "postgresql://[::1]:5432/db"),
        ("postgresql://user:secret", "postgresql://user:***"),
        ("postgresql://user:secret/db", "postgresql://user:***"),
        ("postgresql://user%3Asecret@h/db", "postgresql://user:***@h/db"),
        ("postgresql://h:5432/db?password=a@b", "postgresql://h:5432/db?password=***"),
        ("Pwd={a;b};Server=h", "Pwd=***;Server=h"),
        ("password=two words host=h", "password=*** host=h"),
    ],
)
def test_what_is_shown_of_a_url(url, masked):
    assert mask_url(url) == masked


def test_what_a_driver_says_is_told_without_the_password():
    said = "no entry for a/b, or a%2Fb, or c"
    assert without_secrets(said, "postgresql://u:a%2Fb@h/db?sslpassword=c") == "no entry for ***, or ***, or ***"


@pytest.mark.parametrize("command", [("psql",), ("run", "--mode", "cutover"), ("activate",), ("diagnose",)])
@pytest.mark.parametrize("between", ["%zz", "@", "/", "?"])
def test_no_command_tells_a_part_of_the_password_of_the_target(tmp_path, monkeypatch, command, between):
    (tmp_path / ".env.prod").touch()
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "APP_ENV": "prod",
        "DTX_LEGACY_URL": str(tmp_path),
        "DTX_TARGET_URL": f"postgresql://user:{between.join(PARTS)}@127.0.0.1:1/db",
    }.items():
        monkeypatch.setenv(name, value)
    shown = dtx(*command)
    assert not any(part in shown.text for part in PARTS)


def test_parameters_that_postgresql_does_not_know_are_told():
    with pytest.raises(ConfigurationError, match="cannot be read") as told:
        parameters_of("postgresql://user:secret@h/db?pasword=secret")
    assert "secret" not in str(told.value)
