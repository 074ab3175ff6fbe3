"""What is asked on the night of the cutover: which runs there were, what an undo takes back, what to send to whom.

One library is migrated once for all of it; what a test does to it, it says.
"""

import csv
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from typing import Any

import psycopg
import pytest
import yaml

from dtx_assets.cli.console import harmless
from dtx_assets.machinery.checks.obstacles import REMEDIES
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.patience import PATIENCE
from dtx_assets_tests.tutorial_system import a_library

BOOKS = """\
book_id,branch_id,title,genre,donor_email,added
1,10,Kept,novel,anna@example.com,2019-03-01 10:00:00
2,10,=cmd(),horror,bob@example.com,2019-03-01 10:00:00
3,10,Odd,horror,,2019-03-01 10:00:00
4,99,Nowhere,novel,,2019-03-01 10:00:00
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory, postgres_server) -> Iterator[Command]:
    """Rehearsed once; then a cutover was tried, and refused."""
    directory = tmp_path_factory.mktemp("night")
    dtx = a_library(directory, postgres_server.create_database("night"))
    (directory / "legacy" / "book.csv").write_text(BOOKS)
    done = dtx("run")
    assert done.returncode == 3, done.stdout + done.stderr
    refused = dtx("run", "--mode", "cutover")
    assert refused.returncode == 1
    assert len(refused.stdout.splitlines()) <= 2 + 12, refused.stdout
    assert refused.stdout.splitlines()[-1].startswith("Next: `dtx todo`")
    yield dtx
    postgres_server.drop_database("night")


def on_a_terminal(dtx: Command, answer: str, *arguments: str) -> tuple[int, str]:
    """What a command that is answered on a terminal ends with, and says."""
    ours, its = pty.openpty()
    environment = {**os.environ, **dtx.environment}
    done = subprocess.Popen(
        [sys.executable, "-m", "dtx_assets.cli.main", *arguments],
        cwd=dtx.directory, env=environment, stdin=its, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    os.write(ours, f"{answer}\n".encode())
    said, _ = done.communicate(timeout=PATIENCE)
    os.close(ours)
    os.close(its)
    return done.returncode, said


def page(dtx: Command) -> str:
    """The cutover page as it lies there now, without its tags."""
    [file] = dtx.directory.rglob("cutover.html")
    return " ".join(re.sub(r"<[^>]+>", " ", file.read_text()).split())


def query_of(dtx: Command, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dtx.environment["LIBRARY_TARGET_URL"]) as connection:
        return connection.execute(statement.encode()).fetchall()


def books(dtx: Command) -> int:
    [(count,)] = query_of(dtx, "SELECT count(*) FROM book")
    return count


def test_the_page_says_that_a_cutover_was_refused_and_how_long_the_rehearsal_took(library):
    """It is written anew when a run has ended: the run itself is no longer running on it."""
    told = page(library)
    assert "No-go" in told
    assert re.search(r"The last cutover, of \S+ \S+ UTC by \S+ was refused before it wrote anything: \d", told), told
    assert "The only whole run took" in told
    assert " running " not in told


def test_runs_that_loaded_and_that_were_refused_are_listed(library):
    refused, rehearsal = json.loads(library("runs", "--json").stdout)
    assert (rehearsal["mode"], rehearsal["state"], rehearsal["by"] != "") == ("rehearsal", "succeeded", True)
    assert (rehearsal["read"], rehearsal["rejected"], rehearsal["inserted"], rehearsal["updated"]) == (4, 3, 1, 0)
    assert rehearsal["ended"] == f"{rehearsal['failed_checks']} checks failed"
    assert (refused["mode"], refused["ended"]) == ("cutover", "refused: 1 question to answer")
    shown = library("runs").stdout
    first, second, rows, last = shown.splitlines()
    assert first.startswith(refused["run_id"][:8])
    assert first.endswith("refused: 1 question to answer")
    assert second.startswith(f"{rehearsal['run_id'][:8]}  ")
    assert rows.strip() == "4 read, 3 rejected, 1 inserted, 0 updated"
    assert f"`dtx rollback {rehearsal['run_id'][:8]}`" in last
    assert [run["run_id"] for run in json.loads(library("runs", "--last", "1", "--json").stdout)] == [refused["run_id"]]


def test_an_undo_says_what_it_is_going_to_undo_and_asks(tmp_path, database_url):
    dtx = a_library(tmp_path, database_url)
    assert dtx("runs").stdout.startswith("No run has loaded anything yet")
    assert dtx("run").returncode == 3
    [run] = json.loads(dtx("runs", "--json").stdout)
    told = f"run {run['run_id'][:8]}: {run['started_at'][:10]}"
    code, said = on_a_terminal(dtx, "n", "rollback", "last")
    assert (code, books(dtx)) == (1, 3), said
    assert told in said
    assert f"UTC, rehearsal by {run['by']}, 3 rows inserted and 0 updated\n" in said
    assert "Undo it? [y/N]" in said
    assert "Nothing was undone." in said
    code, said = on_a_terminal(dtx, "n", "rollback", "last", "--dry-run")
    assert (code, "Undo it?" in said, books(dtx)) == (0, False, 3), said
    code, said = on_a_terminal(dtx, "y", "rollback", "last")
    assert (code, books(dtx)) == (0, 0), said
    [undone] = json.loads(dtx("runs", "--json").stdout)
    assert (undone["run_id"], undone["ended"]) == (run["run_id"], "rolled back")
    # A script has nobody to ask, and on a terminal one can say so.
    assert dtx("run").returncode == 3
    code, said = on_a_terminal(dtx, "", "rollback", "last", "--yes")
    assert (code, books(dtx)) == (0, 0), said
    assert "Undo it?" not in said


def test_rejected_rows_are_told_by_owner_with_the_remedy_and_masked(library):
    done = library("rejected")
    assert done.returncode == 3, done.stderr
    shown = done.stdout.splitlines()
    place = shown.index("  book → Book: 2 rows, unmapped_value")
    assert shown[place + 1] == "    do: Add the value to the value map that is named, or correct it in the source."
    assert shown[place + 2].startswith("    2: genre: horror is not listed")
    assert "  book → Book: 1 row, orphan_reference" in shown
    assert shown[-1] == "Next: `dtx rejected --csv FILE` writes all of them, to send."
    one = library("rejected", "library", "book", "--reason", "orphan_reference").stdout
    assert ("orphan_reference" in one, "unmapped_value" in one) == (True, False)
    assert library("rejected", "book", "--owner", "nobody").returncode == 3
    unknown = library("rejected", "--owner", "compliance")
    assert (unknown.returncode, "one of: nobody named" in unknown.stderr) == (2, True)
    nowhere = library("rejected", "library", "site_plan")
    assert (nowhere.returncode, "there is no table 'site_plan'" in nowhere.stderr) == (2, True)


def test_what_is_sent_is_masked_unless_asked_and_no_spreadsheet_runs_it(library):
    file = library.directory / "to-mend.csv"
    for options, address in (((), False), (("--unmasked",), True)):
        done = library("rejected", "--csv", str(file), *options)
        assert (done.returncode, done.stdout) == (3, f"3 rows for nobody named written to {file}.\n"), done.stderr
        rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
        assert [(row["table"], row["key"], row["target"], row["reasons"]) for row in rows] == [
            ("book", "2", "Book", "unmapped_value"),
            ("book", "3", "Book", "unmapped_value"),
            ("book", "4", "Book", "orphan_reference"),
        ]
        assert {row["what to do"] for row in rows} == {REMEDIES["unmapped_value"], REMEDIES["orphan_reference"]}
        assert json.loads(rows[0]["row"])["title"] == "=cmd()"
        assert ("bob@example.com" in file.read_text()) is address
        assert file.stat().st_mode & 0o077 == 0, "for its owner's eyes only"


@pytest.mark.parametrize("text", ["=1+1", "+a", "-a", "@a", "\ta", "\ra"])
def test_a_cell_that_a_spreadsheet_would_run_is_made_harmless(text):
    assert str(harmless(text)).lstrip("\t\r").startswith("'")


def test_the_status_is_a_dozen_lines_and_the_rest_is_asked_for(library):
    states = json.loads(library("status", "--json").stdout)
    failed = [check for check in states["checks"] if check["state"] == "failed"]
    warned = [check for check in states["checks"] if check["state"] == "warned"]
    told = library("status").stdout.splitlines()
    assert len(told) <= 12
    made = [asset for asset in states["assets"] if asset["at"]]
    assert told[0].startswith(f"{len(made)} of {len(states['assets'])} assets of library made, the last at ")
    assert f", {len(failed)} failed" in told[1]
    for check, line in zip(failed[:5], told[2:], strict=False):
        assert line.startswith(f"  {check['asset']}: {check['name']}")
    assert told[-1].startswith("Next: ")
    table = library("status", "--failed").stdout
    assert [line for line in table.splitlines() if line.startswith("│ ") and " passed " in line] == []
    assert table.count("│ failed") == len(failed)
    assert table.count("│ warned") == len(warned)
    everything = library("status", "--all").stdout
    assert all(asset["asset"] in everything for asset in states["assets"])
    assert everything.count("│ failed") == len(failed)
    [asset, *_] = sorted({check["asset"] for check in failed})
    alone = json.loads(library("status", asset, "--json").stdout)
    assert [each["asset"] for each in alone["assets"]] == [asset]
    assert {check["asset"] for check in alone["checks"]} == {asset}
    unknown = library("status", f"{asset}s")
    assert unknown.returncode == 2
    assert asset in unknown.stderr


def test_a_run_may_demand_that_it_does_what_a_plan_said(library):
    """A row that changes is told as such, though nothing is counted otherwise; nothing is written then."""
    table = library.directory / "legacy" / "book.csv"
    planned = library("plan", "--out", "plan.json")
    assert planned.returncode == 0, planned.stderr
    assert library("plan", "--out", "plan.json").returncode == 2
    done = library("run", "--as-planned", "plan.json")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "As planned at " in done.stdout
    before = query_of(library, "SELECT * FROM book ORDER BY 1")
    whole = table.read_text()
    try:
        table.write_text(whole.replace("Kept", "Kept and changed"))
        refused = library("run", "--as-planned", "plan.json")
        assert refused.returncode == 1, refused.stdout + refused.stderr
        assert re.search(r"Book: 0 updated planned, 1 now", refused.stdout + refused.stderr)
    finally:
        table.write_text(whole)
    assert query_of(library, "SELECT * FROM book ORDER BY 1") == before
    some = library("run", "--as-planned", "plan.json", "--select", "target/Book")
    assert (some.returncode, "a run of some" in some.stderr) == (2, True)


def test_what_is_accepted_stands_in_a_file_that_a_plan_began(library):
    """It ends in the cutover, so that it is the last test of this file."""
    file = library.directory / "accepts.yaml"
    planned = library("plan", "--accepts", file.name)
    assert planned.returncode == 0, planned.stderr
    ending = planned.stdout[planned.stdout.index("No-go: ") :].splitlines()
    assert len(ending) <= 12
    assert "Next: `dtx todo` lists all of it by owner; `dtx run` rehearses." in ending
    assert library("plan", "--accepts", file.name).returncode == 2
    todo = json.loads(library("todo", "--json").stdout)
    written = yaml.safe_load(file.read_text())["accepts"]
    assert {entry["name"] for entry in written} == {obstacle["name"] for obstacle in todo}
    assert {(entry["reason"], entry["by"], entry["until"]) for entry in written} == {("", "", None)}

    def cut_over(entries):
        file.write_text(yaml.safe_dump({"accepts": entries}))
        return library("run", "--mode", "cutover", "--restore-point", "snapshot-7", "--accepts", file.name)

    whole = [entry | {"reason": "agreed", "by": "the owner", "until": date(2999, 1, 1)} for entry in written]
    first, *rest = whole
    for fault, line, says in (
        ({"reason": " "}, "reason", "has no reason"),
        ({"by": ""}, "by", "nobody who answers for it"),
        ({"until": None}, "until", "has no day"),
        ({"until": date(2020, 1, 1)}, "until", "was accepted until 2020-01-01"),
        ({"name": "nothing of that name"}, "", "there is no check and no question"),
    ):
        refused = cut_over([first | fault, *rest])
        assert refused.returncode == 2, fault
        assert says in refused.stderr
        assert not line or f"{file.name}:" in refused.stderr
    twice = cut_over([*whole, first])
    assert twice.returncode == 2
    assert "is accepted twice" in twice.stderr
    done = cut_over([entry for entry in whole if entry["name"] != "restore_point"])
    assert "Cut over." in done.stdout, done.stdout + done.stderr
    accepting = "SELECT accepted FROM migration.run WHERE mode = 'cutover' ORDER BY started_at DESC LIMIT 1"
    [(accepted,)] = query_of(library, accepting)
    assert {said["reason"] for said in accepted.values()} == {"agreed (accepted by the owner until 2999-01-01)"}
    told = page(library)
    assert re.search(r"Cut over at \S+ \S+ UTC by", told), told
    [(run_id,)] = query_of(library, "SELECT run_id FROM migration.run WHERE mode = 'cutover' AND status = 'succeeded'")
    assert f"dtx rollback {run_id[:8]} --system library" in told
    assert "The whole target can be put back to what it was before: its restore point is snapshot-7 ." in told
    assert "were made after their load" not in told
    assert library("rollback", run_id, "--system", "library", "--yes").returncode == 0
    assert re.search(r"The last cutover, of .* was rolled back", page(library))
    # A cutover that finds what a rehearsal wrote stands on it, and on nothing else.
    library("run")
    table = library.directory / "legacy" / "book.csv"
    table.write_text(f"{BOOKS}5,10,Later,novel,,2019-03-01 10:00:00\n")
    library("run")
    # Its last step had gathered what the page says, and only the runs were asked anew: the rest is as all of it anew.
    there = page(library)
    assert library("report", "library").returncode == 0

    def untimed(told: str) -> str:
        """Without the moment at which it was made, which it says at its head and at its foot."""
        return re.sub(r"(as of|Dagster history at) \S+ \S+ UTC|\b(now|\d+ min)\b", "", told)

    assert untimed(page(library)) == untimed(there)
    done = cut_over([entry for entry in whole if entry["name"] != "restore_point"])
    assert "Cut over. It wrote nothing: the page says which runs had written what it stands on." in done.stdout
    assert "undoes this run" not in done.stdout
    told = page(library)
    assert "Cut over at" in told
    assert re.search(
        r"It stands on rows that earlier runs had written, too: 1 of \w{8} , 1 of \w{8} \. Who undoes", told
    ), told
    undone = library("rollback", "last", "--system", "library", "--yes")
    assert "stands on these rows" in undone.stdout
    told = page(library)
    assert "Undone in part The cutover no longer stands as it was" in told
    assert re.search(r"these were undone since, the last at \S+ \S+ UTC : 1 of Book", told), told
    stands = next(run for run in json.loads(library("runs", "--json").stdout) if run["mode"] == "cutover")
    assert stands["undone"] == {"Book": 1}
    # What is known of a run that another Dagster history has is the bookkeeping's.
    elsewhere = json.loads(library("runs", "--json", LIBRARY_HOME="elsewhere").stdout)
    [again] = [run for run in elsewhere if run["run_id"] == stands["run_id"]]
    assert (again["by"], again["failed_checks"], again["undone"]) == (stands["by"], None, {"Book": 1})
    assert (again["restore_point"], again["indexes_after"]) == ("snapshot-7", False)
    assert again["ended"].startswith("loaded; another Dagster history knows")
    undone = library("rollback", "last", "--system", "library", "--yes")
    assert re.search(r"run \w{8}: .*, rehearsal", undone.stdout), undone.stdout
    assert re.search(r"run \w{8}, .* UTC, cutover .*, 0 rows inserted .* stands on these rows", undone.stdout)
    assert re.search(r"The last cutover, of .* was rolled back", page(library))
