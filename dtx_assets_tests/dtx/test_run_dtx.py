"""The whole graph on the shipped sample, as `dtx run` makes it: what is loaded, what is said, what a second run does.

The rules are tested beside the flows, the load beside the load: here is that they are wired together.
"""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from dtx_assets.cli.shared import environment_of
from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.postgres.embedded import remove_embedded_postgres
from dtx_assets.machinery.prepare.preparation import RunSettings
from dtx_assets_tests.dtx.commands import LOADED, Command, counts
from dtx_assets_tests.machinery.run import cells
from dtx_assets_tests.machinery.run.cells import changed_cells
from dtx_assets_tests.machinery.run.personal import DRY, LOOKS, explained, personal_values, said, values_told
from dtx_assets_tests.pages import PROJECT

OPTIONS: tuple[dict[str, str], ...] = (
    {},
    {
        "timing_semantics": "cumulative",
        "dow_bitmap": "send_days",
        "bilingual_letters": "both_languages",
        "envelope": "response_tracking",
        "imap_upload": "document_metadata",
        "vornado_feed": "seed_records",
        "form_field": "record_internal_id",
        "keyword": "directory_settings",
        "expired_document_exemption": "apply",
    },
    {
        "send_hold_override": "notification_only",
        "dow_bitmap": "metadata",
        "activation": "hold_until_activated",
        "envelope": "aggregate",
        "imap_upload": "model",
        "form_field": "account_meta",
    },
)
"""Every function of a mapping runs under one of them."""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, subprocess.CompletedProcess[str]]]:
    """What a new user sees: no variable set, everything in the state directory."""
    directory = tmp_path_factory.mktemp("new")
    command = Command(directory, {})
    yield command, command("run", "--all")
    remove_embedded_postgres(directory / ".dtx")


def test_a_new_user_sees_the_sample_migrated_with_findings(embedded):
    _, done = embedded
    assert done.returncode == 3, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert re.search(r"Checks: \d+ passed, [1-9]\d* failed, \d+ warned\.", done.stdout)
    assert "migration.rejected" in done.stdout
    for line in ("notification ", "notification_webhook ", "letter ", "exemption "):
        assert re.search(rf"^│ {line}", done.stdout, re.MULTILINE), line


def test_how_long_the_first_run_took_is_on_the_page_that_is_written_after_it(embedded):
    command, _ = embedded
    page = command.directory / ".dtx" / "report" / "cutover.html"
    assert "The only whole run took" in page.read_text()


def test_the_rows_of_the_summary_balance(embedded):
    _, done = embedded
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in done.stdout.splitlines()
        if "docutrax_" in line
    ]
    assert len(rows) == 8
    for source, _, *numbers in rows:
        read, migrated, rejected, dropped = (int(number.replace(",", "")) for number in numbers)
        assert read == migrated + rejected + dropped, source
        assert read >= 50
        assert migrated > 0


def test_what_the_documentation_explains_is_there(embedded):
    command, _ = embedded
    pages = ("README.md", "docs/rehearse.md", "docs/production.md", "docs/reference/commands.md")
    text = "\n".join((PROJECT / page).read_text() for page in pages)
    named = r"(?:dtx explain\s+|; )((?:--from [a-z_]+|[A-Z]\w+) \d+(?: [a-z_]+(?=`|  #|$))?)"
    examples = set(re.findall(named, text, re.MULTILINE))
    assert len(examples) >= 4
    for example in sorted(examples):
        explained = command("explain", *example.split())
        assert explained.returncode == 0, (example, explained.stderr)


@pytest.fixture(scope="module")
def landed(embedded) -> RunSettings:
    """What the run landed and looked up."""
    home = embedded[0].directory / ".dtx"
    settings = Settings.from_environment("dtx", environ={"DTX_HOME": str(home)}, sample_dir=SYSTEM.sample_dir)
    return RunSettings(
        "cells", SYSTEM, settings, SYSTEM.decisions, datetime(2026, 11, 21, tzinfo=UTC), Lake(str(home / "lake"))
    )


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_the_cells_of_a_schedule_are_those_that_change_it_and_no_others(landed, options):
    found = changed_cells(landed, "notification_schedule", rounds=8, **options)
    assert not found.lies
    assert not found.undeclared
    # Each stage of the sample has the cells that the mapping book and the UI say of it.
    assert found.parts > 300
    told = {(column, table, cell) for _, column, table, cell in found.moved}
    assert ("days_after", "notification", "CEEXPAlertSetting") in told
    assert ("email_recipients", "notification_webhook", "webhook") in told
    days = options.get("dow_bitmap")
    assert days is None or (days, "notification", "dow_bitmap") in told
    # A schedule that is held back is not active, whatever its cells say.
    held = {"is_active"} if "activation" in options else set()
    assert not {what for what, times in found.tried.items() if times > 8 and what[1] not in held} - found.moved


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_of_what_no_function_tells_the_cells_are_those_that_the_mapping_declares(landed, options):
    under = SYSTEM.under(replace(SYSTEM.decisions, chosen={**SYSTEM.decisions.chosen, **options}))
    flows = [flow.name for flow in under.flows if flow.name != "notification_schedule"]
    assert len(flows) >= 5
    found = changed_cells(landed, *flows, rounds=2, **options)
    assert not found.lies
    assert found.changed > 30 * len(flows)


def test_a_cell_that_nobody_names_is_found(landed, monkeypatch):
    """Else the tests above would find nothing for a wrong reason."""
    real = cells.cells_that_made

    def silent(name, *others):
        made = real(name, *others)
        return replace(made, cells=()) if name == "days_after" else made

    monkeypatch.setattr(cells, "cells_that_made", silent)
    lies = changed_cells(landed, "notification_schedule", rounds=6).lies
    assert {column for _, column, *_ in lies} == {"days_after"}


def test_a_stage_is_explained_by_its_cell_or_by_their_sum(embedded):
    command, _ = embedded
    told = command("explain", "NotificationSchedule", "17", "days_after").stdout
    assert "      CEEXPAlertSetting = 5 → stage document_expiration/alert, of notification, by" in told
    told = command("explain", "NotificationSchedule", "7", "--json").stdout
    columns = json.loads(told)["columns"]
    [way] = columns["days_after"]["ways"]
    assert way["step"] == "CNCFSetting = 14 + CNCSSetting = 14 + CNCAlertSetting = 5 → stage coi_non_compliance/alert"
    assert columns["days_after"]["value"] == "33"
    assert [(cell["column"], cell["value"]) for cell in way["cells"]] == list(way["given"].items())
    [none] = columns["email_recipients"]["ways"]
    assert (none["how"], none["cells"]) == ("none", [])


def test_no_command_tells_a_personal_value_of_the_sample(embedded, monkeypatch):
    command, _ = embedded
    home = command.directory / ".dtx"
    monkeypatch.chdir(command.directory)
    for name, value in {"HOME": home, "TARGET_URL": "", "LEGACY_URL": ""}.items():
        monkeypatch.setenv(f"DTX_{name}", str(value))
    told = dict(said(command, "dtx", *LOOKS))
    told |= {path.name: path.read_text() for kind in ("html", "log") for path in home.rglob(f"*.{kind}")}
    with environment_of("dtx") as environment:
        values = personal_values(environment)
        told |= dict(explained(environment, 3))
    assert len(values) > 1000
    assert len(told) > 40
    assert values_told(values, told) == {}
    shown = "".join(text for name, text in told.items() if name.startswith("explain docutrax_hierarchy_accountemail"))
    assert re.search(r", part [a-z]\*\*\*@[a-z]\*\*\*\.[a-z]+, run", shown)


def test_nothing_personal_is_shown(embedded):
    command, done = embedded
    for text in (
        done.stdout,
        done.stderr,
        *(log.read_text() for log in (command.directory / ".dtx" / "logs").glob("*.log")),
    ):
        assert not re.search(r"[a-z0-9.]{3,}@[a-z0-9-]{3,}\.[a-z]{2,}", text, re.IGNORECASE)
        assert "postgresql://postgres:" not in text


def test_the_server_is_gone_and_everything_lies_in_the_state_directory(embedded):
    command, _ = embedded
    assert {path.name for path in command.directory.iterdir()} == {".dtx"}
    assert not (command.directory / ".dtx" / "postgres" / "cluster" / "data" / "postmaster.pid").exists()
    assert (
        command.directory / ".dtx" / "lake" / "dtx" / "prepared" / "NotificationSchedule" / "manifest.json"
    ).is_file()


def test_status_knows_every_asset_and_check(embedded):
    command, _ = embedded
    states = command.states()
    # A run makes all but the report of a dry run.
    assert [name for name, asset in states["assets"].items() if not asset["at"]] == ["report/plan"]
    assert states["assets"]["target/NotificationSchedule"]["rows"] > 0
    found = {check["state"] for check in states["checks"].values()}
    assert found == {"passed", "failed", "warned"}
    assert states["checks"]["target/EmailLog:untouched"]["state"] == "passed"


def test_a_second_run_writes_nothing(embedded):
    command, first = embedded
    again = command("run", "--all")
    assert again.returncode == first.returncode
    loaded = [line for line in again.stdout.splitlines() if re.match(rf"│ ({'|'.join(LOADED)}) ", line)]
    assert len(loaded) == len(LOADED)
    for line in loaded:
        _, inserted, updated, *_ = (cell.strip() for cell in line.strip("│").split("│"))
        assert (inserted, updated) == ("0", "0"), line


def test_no_dry_run_tells_a_personal_value_of_the_sample(embedded, monkeypatch):
    command, _ = embedded
    monkeypatch.chdir(command.directory)
    for name, value in {"HOME": command.directory / ".dtx", "TARGET_URL": "", "LEGACY_URL": ""}.items():
        monkeypatch.setenv(f"DTX_{name}", str(value))
    told = dict(said(command, "dtx", *DRY))
    with environment_of("dtx") as environment:
        values = personal_values(environment)
    assert len(values) > 1000
    assert all(len(text) > 1000 for text in told.values())
    assert values_told(values, told) == {}


def test_a_missing_table_and_a_missing_column_are_named_and_stop_their_flows_only(dtx, export, target):
    (export / "letter.csv").unlink()
    content = (export / "exemption.csv").read_bytes()
    (export / "exemption.csv").write_bytes(content.replace(b"item_name", b"item_title", 1))
    done = dtx("run", DTX_LEGACY_URL=str(export))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "letter" in done.stdout
    assert "could not be extracted" in done.stdout
    assert "item_name" in done.stdout
    assert "exemption" in done.stdout
    loaded = counts(target)
    assert (loaded["EmailTemplate"], loaded["ManualOverride"]) == (0, 0)
    assert loaded["NotificationSchedule"] > 0
    assert loaded["Document"] > 0
    states = dtx.states()
    assert states["assets"]["prepared/EmailTemplate"]["at"] is None
    assert states["assets"]["legacy/letter"]["at"] is None
    assert states["assets"]["legacy/keyword"]["at"]


def test_a_crosswalk_that_contradicts_itself_stops_what_depends_on_it(dtx, export, target):
    with (export / "crosswalk_requirements.csv").open("a") as file:
        file.write("1,1\n1,2\n")
    select = "+target/ManualOverride or +target/EmailTemplate"
    done = dtx("run", "--select", select, DTX_LEGACY_URL=str(export))
    assert done.returncode == 1
    assert "crosswalk_requirements" in done.stdout
    assert counts(target)["ManualOverride"] == 0
    assert counts(target)["EmailTemplate"] > 0


def test_selected_assets_and_what_they_need(dtx, target):
    done = dtx("run", "--select", "+target/EmailTemplate")
    assert done.returncode in (0, 3), done.stdout + done.stderr
    loaded = counts(target)
    assert loaded["EmailTemplate"] > 0
    assert loaded["NotificationSchedule"] == 0
    assert dtx.states()["assets"]["legacy/notification"]["at"] is None


def documents(url: str) -> dict[str, str]:
    """Keys and hashes of the documents that this migration made."""
    ours = (
        "SELECT file, content_hash FROM docutrax_profiles_document JOIN migration.mapping ON target_id = id::text"
        " WHERE target_table = 'docutrax_profiles_document'"
    )
    with psycopg.connect(url) as connection:
        return dict(connection.execute(ours).fetchall())


def objects(dtx: Command) -> dict[str, str]:
    """Keys and hashes of what the object store holds."""
    store = dtx.directory / ".dtx" / "object_store"
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (store / "documents").rglob("*")
        if path.is_file()
    }


def test_every_document_has_its_file_and_verify_finds_one_that_changed_unseen(dtx, target, export):
    def run(*options: str) -> None:
        done = dtx("run", "--select", "+target/Document", *options, DTX_FILES_URL=str(export / "files"))
        assert done.returncode in (0, 3), done.stdout + done.stderr

    run()
    first = documents(target)
    assert first == objects(dtx)
    assert len(first) > 5
    changed = export / "files" / "unlinked" / "certificate_01.pdf"
    before = changed.stat()
    changed.write_bytes(bytes(reversed(changed.read_bytes())))
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    run()
    assert documents(target) == first
    run("--verify")
    assert documents(target).keys() == first.keys()
    assert documents(target) == objects(dtx) != first


def test_a_load_alone_needs_prepared_rows_and_says_so(dtx):
    done = dtx("run", "--select", "target/EmailTemplate")
    assert done.returncode == 1
    assert "has not been materialised" in done.stdout


def test_a_source_that_is_not_there_fails_the_run_in_plain_words(dtx, tmp_path):
    done = dtx("run", DTX_LEGACY_URL=str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "nowhere" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
