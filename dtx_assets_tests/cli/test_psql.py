"""psql gets the password without showing it."""

import stat
from urllib.parse import urlsplit

import psycopg

from dtx_assets.cli.psql import find_psql, run_psql, write_password_file
from dtx_assets.machinery.base.settings import Settings


def settings_for(url: str, tmp_path) -> Settings:
    environ = {"DTX_TARGET_URL": url}
    return Settings.from_environment("dtx", environ=environ, project_dir=tmp_path, sample_dir=tmp_path)


def test_the_password_file_is_private_and_escaped(tmp_path):
    file = write_password_file(tmp_path, r"a:b\c")
    assert file.read_text() == "*:*:*:*:a\\:b\\\\c\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_psql_connects_and_its_command_line_has_no_password(tmp_path, database_url):
    seen = tmp_path / "command line"
    look = f"\\! tr '\\0' ' ' < /proc/$PPID/cmdline > '{seen}'"
    code = run_psql(settings_for(database_url, tmp_path), "dtx", ["-X", "-q", "-c", "CREATE TABLE made ()", "-c", look])
    assert code == 0
    assert "CREATE TABLE made" in seen.read_text()
    assert urlsplit(database_url).password not in seen.read_text()
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM made").fetchone() == (0,)


def test_the_exit_code_of_psql_is_passed_on(tmp_path, database_url):
    assert run_psql(settings_for(database_url, tmp_path), "dtx", ["-X", "-q", "-c", "SELECT 1 / 0"]) == 1
    assert find_psql().name == "psql"
