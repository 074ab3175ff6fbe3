"""The command line: quick help, exit codes, errors without traceback or secret, and what it prints."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dtx_assets.cli import main as cli
from dtx_assets.cli import serving
from dtx_assets.cli.help import GROUPS, first_sentence
from dtx_assets_tests.forking import run_dtx
from dtx_assets_tests.pages import PROJECT
from dtx_assets_tests.patience import PATIENCE


def dtx(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in an empty directory, without the tests' environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DTX_", "DAGSTER_"))}
    return run_dtx(*arguments, directory=cwd, environment={**clean, **environment}, seconds=PATIENCE)


def test_help_needs_neither_dagster_nor_polars(tmp_path):
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom dtx_assets.cli import main as cli\n"
        "shown = CliRunner().invoke(cli.app, ['--help'])\nassert shown.exit_code == 0, shown.output\n"
        "print(sorted({'dagster', 'polars', 'psycopg'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [
        ["run"],
        ["status"],
        ["report"],
        ["target"],
        ["target", "ddl"],
        ["ui"],
        ["sample"],
        ["psql"],
        ["purge"],
        ["archive"],
        ["archive", "list"],
        ["archive", "query"],
    ],
    ids=" ".join,
)
def test_every_command_has_help_and_the_long_ones_examples(command):
    shown = CliRunner().invoke(cli.app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.output
    assert command in (["target"], ["archive"]) or "Example" in shown.output


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["run", "dxt"], {}, "there is no system 'dxt'"),
        (["run", "--select", "target/EmailTemplat"], {}, "did you mean target/EmailTemplate"),
        (["run", "--mode", "dress"], {}, "DTX_MODE"),
        (["run", "--frobnicate"], {}, "No such option"),
        (["run"], {"DTX_CUTOVER_AT": "tomorrow"}, "DTX_CUTOVER_AT"),
        (["run"], {"DTX_TARGET_URL": "mysql://u:planted-secret@h/db"}, "DTX_TARGET_URL"),
        (["status"], {"DTX_DECISIONS": "nowhere.yaml"}, "DTX_DECISIONS"),
        (["status"], {"DTX_LEGACY_URI": "x"}, "DTX_LEGACY_URL"),
    ],
)
def test_wrong_usage_and_configuration_end_with_2_and_say_what_to_do(tmp_path, arguments, environment, says):
    done = dtx(*arguments, cwd=tmp_path, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "planted-secret" not in done.stdout + done.stderr


def test_the_target_ddl_is_sql_that_postgresql_takes(tmp_path, database_url):
    import psycopg

    done = dtx("target", "ddl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(database_url) as connection:
        connection.execute(done.stdout)
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert ("docutrax_utils_notificationschedule",) in tables


def test_a_sample_of_ones_own(tmp_path):
    done = dtx("sample", "--rows", "50", "--seed", "7", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine" / "notification.csv").is_file()
    assert "DTX_LEGACY_URL=mine" in done.stdout


def test_a_free_port_is_found_beside_a_taken_one():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < serving.free_port(port) < port + 100


def test_the_version_is_that_of_the_package():
    shown = CliRunner().invoke(cli.app, ["--version"])
    named = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert (shown.exit_code, shown.output) == (0, f"dtx {named}\n")


# --- help and slips ---------------------------------------------------------------------------------------------------


def commands_of(command: Any, name: str = "dtx") -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, each in getattr(command, "commands", {}).items():
        yield from commands_of(each, f"{name} {word}")


def test_every_command_is_listed_in_one_group_with_its_whole_first_sentence():
    root = typer.main.get_command(cli.app)
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(root.commands)  # type: ignore[attr-defined]
    shown = " ".join(CliRunner().invoke(cli.app, ["--help"]).output.split())
    for title, names in GROUPS.items():
        assert f"{title}: {names[0]} " in shown
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        assert first_sentence(command.help) in shown, name
    assert "..." not in shown.replace("COMMAND [ARGS]...", "")


def test_every_help_is_whole_sentences():
    fragments = []
    for name, command in commands_of(typer.main.get_command(cli.app)):
        told = {name: first_sentence(command.help)}
        told |= {f"{name} {each.opts[0]}": each.help or "" for each in command.params if each.name != "help"}
        fragments += [of for of, text in told.items() if text[-1:] not in (".", "?") or text[:1].islower()]
    assert fragments == []


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("rnu", "'run'"),
        ("archive lst", "'list'"),
        ("run padd", "'pad'"),
        ("run --acept x=y", "--accept"),
        ("plan --mode rehersal", "'rehearsal'"),
        ("errors --format jsn", "'jsonl'"),
        ("errors --table leter", "'letter'"),
        ("errors --reason unmaped_value", "'unmapped_value'"),
        ("rejected LETTERS", "'letter'"),
        ("rejected --reason orphan_refrence", "'orphan_reference'"),
        ("explain emailtemplates 1", "'EmailTemplate'"),
        ("explain --from leter 1", "'letter'"),
        ("search dispatch mesages aligner", "'messages'"),
    ],
)
def test_what_was_meant_by_a_slip_is_told(command, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("DTX_", "DISPATCH_"))]:
        monkeypatch.delenv(name)
    ended = CliRunner().invoke(cli.app, command.split())
    told = f"{ended.output}{ended.exception}{getattr(ended.exception, 'remedy', '')}"
    assert ended.exit_code
    assert re.search(rf"(?i)(did you mean|possible options).*{re.escape(meant)}", told, re.DOTALL), told
    assert not any(tmp_path.iterdir()) or command.startswith("search")
