"""A cutover that cannot be is refused in its first second, once, and what is known of the rows stays known.

Why: today's night is lost where three minutes of extraction end in a refusal for what the files of the plan said.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.data_version import extract_data_provenance_from_entry

from dtx_assets.dtx.definitions import SYSTEM as DTX
from dtx_assets.dtx.definitions import defs as dtx_defs
from dtx_assets.machinery.base.exit_codes import EXIT_OK, EXIT_STEP_FAILED
from dtx_assets.machinery.dagster.attempts import ENTRY_TAG, asked_option
from dtx_assets.machinery.dagster.metadata import asset_name
from dtx_assets.machinery.dagster.resources import run_options
from dtx_assets.machinery.dagster.run import REFUSED_TAG, open_instance
from dtx_assets.machinery.report.history import RunHistory
from dtx_assets.machinery.run.environment import ENVIRONMENT
from dtx_assets_tests.library.definitions import SYSTEM, defs
from dtx_assets_tests.library.place import Library

KIND = "Book/book/unparseable"


@pytest.fixture
def library(tmp_path, database_url, monkeypatch) -> Library:
    return Library(tmp_path, database_url, monkeypatch)


def test_what_needs_no_row_is_asked_before_any_is_read_and_what_was_found_in_rows_is_not_forgotten(library):
    library.write("book", "book_id,branch_id,title,pages,added", ("1,10,A,not a number,",))
    planned = library.plan()
    assert planned.keys() == {"restore_point", KIND}
    lake = sorted(library.home.rglob("*.parquet"))
    refused = library.run(mode="cutover")
    assert refused.exit_code == EXIT_STEP_FAILED
    [failure] = refused.failures
    assert failure.message.startswith("the cutover is refused before anything is read, 1 thing(s)")
    assert "    restore_point: no restore point" in failure.message
    assert f"found before, in rows, 1 (1 kind of rejected rows to mend):\n    {KIND}: 1 row" in failure.message
    assert sorted(library.home.rglob("*.parquet")) == lake
    assert library.sql("SELECT to_regclass('migration.run')") == [(None,)], "nothing was written to the target"
    again = library.run(mode="cutover")
    assert again.failures[0].message == failure.message, "the attempt before took nothing of it away"

    with open_instance(library.home) as instance:
        run = instance.get_run_by_id(refused.run_id)
        assert (run.tags[REFUSED_TAG], asked_option(run, "mode")) == ("1 question to answer", "cutover")
        assert (run.tags["mode"], run.tags["verdict"]) == ("cutover", "no-go")
        [_, early] = RunHistory(SYSTEM, instance).failed_early((), 5)
    assert (early.run_id, early.mode, early.refused) == (refused.run_id, "cutover", "1 question to answer")


def started_in_the_ui(library: Library, **options: object) -> dg.ExecuteInProcessResult:
    """A cutover as a server starts it: nothing says that all of its steps are made by this process."""
    with open_instance(library.home) as instance:
        return defs.resolve_job_def("library_cutover").execute_in_process(
            run_config={"resources": {ENVIRONMENT: {"config": {"mode": "cutover", **options}}}},
            instance=instance,
            raise_on_error=False,
        )


def test_of_a_refused_cutover_that_was_started_in_the_ui_no_step_is_done(library):
    for _ in range(2):
        refused = started_in_the_ui(library)
        assert not refused.success
        assert not [event for event in refused.all_events if event.is_step_success]
        assert not list(library.home.rglob("*.parquet"))
    with open_instance(library.home) as instance:
        run = instance.get_run_by_id(refused.run_id)
    assert run.tags[ENTRY_TAG] == f"refused {refused.run_id[:8]}"
    assert run.tags[REFUSED_TAG] == "1 question to answer"

    let_in = started_in_the_ui(library, restore_point="snap")
    assert let_in.success
    with open_instance(library.home) as instance:
        tags = instance.get_run_by_id(let_in.run_id).tags
    assert (tags["mode"], tags["rejected"]) == ("cutover", "0")
    assert tags["verdict"] in ("go", "no-go")
    assert tags[ENTRY_TAG] == f"asked {let_in.run_id[:8]}"


def test_the_job_of_one_mode_is_refused_by_name_in_another(library):
    def refused(job: str, **options: str) -> str:
        outcome = library.run(job, **options)
        assert outcome.exit_code == EXIT_STEP_FAILED
        [failure] = outcome.failures
        return failure.message

    told = refused("library_rehearsal", mode="cutover", restore_point="snap")
    assert "library_rehearsal is started in the mode cutover, and does nothing but a rehearsal" in told
    assert "at: resources → migration → mode" in told
    assert "do: start library_cutover, or library_rehearsal with `mode: rehearsal`" in told
    assert "start library_rehearsal, or" in refused("library_cutover", mode="rehearsal")
    assert not list(library.home.rglob("*.parquet"))
    assert library.sql("SELECT to_regclass('migration.run')") == [(None,)]


def entry(name: str, **said: str) -> dict[str, str]:
    return {"name": name, "reason": "", "by": "", "until": "", **said}


def test_the_form_of_a_cutover_takes_names_with_reason_who_and_until_when(library):
    library.write("book", "book_id,branch_id,title,pages,added", ("1,10,A,not a number,",))
    day = datetime.now(UTC).date()
    whole = entry(KIND, reason="nobody reads it", by="Ann", until=day.isoformat())
    for entries, told in (
        ([entry(KIND)], f"{KIND}: 1 row"),
        ([{**whole, "by": ""}], "nobody who answers for it"),
        ([{**whole, "until": "soon"}], "'soon' is no day"),
        ([{**whole, "until": (day - timedelta(days=1)).isoformat()}], "was accepted until"),
        ([whole, whole], "accepted twice"),
        ([{**whole, "name": "Book/bock/unparseable"}], "did you mean"),
    ):
        outcome = library.run("library_cutover", mode="cutover", restore_point="snap", accepts=entries)
        assert told in " ".join(failure.message for failure in outcome.failures), (entries, outcome.failures)
    outcome = library.run("library_cutover", mode="cutover", restore_point="snap", accepts=[whole])
    assert outcome.succeeded, outcome.failures
    [(accepted,)] = library.sql(f"SELECT accepted FROM migration.run WHERE run_id = '{outcome.run_id}'")
    assert accepted[KIND]["reason"] == f"nobody reads it (accepted by Ann until {day})"


def test_the_form_of_a_cutover_comes_with_the_names_that_the_declarations_leave_open(dtx_form):
    """The same that the gate finds without a row; a form that is sent as it came accepts none of them."""
    plan = yaml.safe_load((DTX.mappings_dir / "decisions.yaml").read_text("utf-8"))
    given = [each["name"] for each in dtx_form["accepts"]]
    assert len(given) == len(set(given))
    assert {key for key in given if key in {entry["key"] for entry in plan["decisions"]}} == {
        entry["key"] for entry in plan["decisions"] if entry["status"] == "open" and entry["key"] != "dow_bit_order"
    }
    assert {"A8-1", "dtx1_stopped_sending", "dtx2_queue_known"} <= set(given)
    assert all(each == entry(each["name"]) for each in dtx_form["accepts"])
    assert dict(run_options(dtx_form, date(2026, 1, 1)).accept) == {}


@pytest.fixture
def dtx_form() -> Mapping[str, Any]:
    return dtx_defs.resolve_job_def("dtx_cutover").run_config["resources"][ENVIRONMENT]["config"]


def test_a_report_is_shown_after_what_it_tells_of_and_a_run_writes_it_whatever_fails(library):
    key = dg.AssetKey(["library", "report", "cutover"])
    told_of = {asset_name(parent) for parent in defs.resolve_asset_graph().get(key).parent_keys}
    assert {"target/Book", "rejected/Book", "archive/book", "report/extraction"} <= told_of
    assert library.run("library_rehearsal", mode="rehearsal").succeeded
    with open_instance(library.home) as instance:
        made = instance.get_latest_materialization_event(key)
        provenance = extract_data_provenance_from_entry(made)
        versions = {asset: version.value for asset, version in provenance.input_data_versions.items()}
        target = dg.AssetKey(["library", "target", "Book"])
        loaded = instance.get_latest_materialization_event(target)
    # Else Dagster would call it unsynced for ever.
    assert {asset_name(asset) for asset in versions} == told_of
    assert versions[target] == loaded.asset_materialization.tags["dagster/data_version"]
    (library.legacy / "book.csv").unlink()
    for job in ("library_rehearsal", "library"):
        outcome = library.run(job, mode="rehearsal")
        assert not outcome.succeeded
        assert "library_cutover_report" in outcome.seconds_of


def test_what_rows_alone_show_refuses_once_for_all_targets_and_is_noted(library):
    library.write("book", "book_id,branch_id,title,pages,added", ("1,10,A,not a number,",))
    refused = library.cutover()
    told = [failure.message for failure in refused.failures if KIND in failure.message]
    assert len(told) == 1
    others = {failure.message for failure in refused.failures if KIND not in failure.message}
    [first] = re.findall(r"^(\w+) is not loaded, 1 thing", told[0])
    assert others == {f"not loaded either: what is said of {first} is in its way too"}
    with open_instance(library.home) as instance:
        assert RunHistory(SYSTEM, instance).refused(refused.run_id) == "1 kind of rejected rows to mend"
    assert library.sql("SELECT mode, status FROM migration.run") == [("cutover", "failed")]


def test_a_place_that_does_not_answer_refuses_a_cutover_and_no_rehearsal(library, monkeypatch):
    monkeypatch.setenv("LIBRARY_TARGET_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    monkeypatch.setenv("LIBRARY_LEGACY_URL", str(library.directory / "gone"))
    [failure] = library.cutover().failures
    assert "2 thing(s) are in its way that need no row (2 structural faults)" in failure.message
    assert "    source/connection: " in failure.message
    assert "    target/connection: " in failure.message
    assert "it cannot be accepted" in failure.message
    # A rehearsal says it as it comes to it.
    assert [failure.step for failure in library.run().failures] == ["library_extraction"]


def test_a_table_that_may_not_be_written_refuses_the_cutover_that_loads_it(library):
    library.sql("ALTER TABLE book DROP COLUMN pages")
    [failure] = library.cutover().failures
    assert "target/table book (Book).pages: missing column" in failure.message
    # Of a cutover of readers alone it is no matter.
    assert library.cutover(select="+target/Reader").exit_code == EXIT_OK


def test_what_loads_nothing_is_not_asked(library, monkeypatch):
    monkeypatch.setenv("LIBRARY_MODE", "cutover")
    assert library.run(select="legacy/book").exit_code == EXIT_OK
    assert library.run("library_plan").exit_code == EXIT_OK
