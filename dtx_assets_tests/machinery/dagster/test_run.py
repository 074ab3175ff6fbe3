"""Running without the UI: one bad table stops only what depends on it, exit codes, selections, the last states.

A graph with the shape of a system's, without its content: what the steps of a real one do is tested beside them.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED, EXIT_OK, EXIT_STEP_FAILED
from dtx_assets.machinery.dagster.run import (
    RunOutcome,
    expand_selection,
    instance_directory,
    latest_states,
    open_instance,
    planned_job,
    run_job,
    select_assets,
)
from dtx_assets.machinery.dagster.run_log import LOGGER, run_log
from dtx_assets_tests.patience import PATIENCE

ACCOUNTING = {
    "source_table": "letter",
    "target_table": "t_letter",
    "read": 5,
    "migrated": 3,
    "rejected": 1,
    "dropped": {"empty": 1},
}


def key(layer: str, name: str) -> dg.AssetKey:
    return dg.AssetKey(["toy", layer, name])


def toy_definitions(*, broken: bool = False, check_passes: bool = True, severity: str = "ERROR") -> dg.Definitions:
    """Two tables, a flow for each; `broken` makes one table fail."""
    specs = [
        dg.AssetSpec(key("legacy", "letter"), skippable=True, group_name="letters"),
        dg.AssetSpec(key("legacy", "other"), skippable=True),
        dg.AssetSpec(key("report", "extraction")),
    ]

    @dg.multi_asset(name="toy_extraction", specs=specs, can_subset=True)
    def extraction(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        for spec in specs:
            if spec.key in context.selected_asset_keys and not (broken and spec.key == key("legacy", "other")):
                yield dg.MaterializeResult(asset_key=spec.key, metadata={"dagster/row_count": 5})

    @dg.asset(key=key("report", "run"), deps=[key("report", "extraction")], op_tags={"dagster/priority": "-10"})
    def toy_run_report() -> None:
        if broken:
            raise dg.Failure("1 table(s) could not be extracted: other", allow_retries=False)

    @dg.asset(key=key("target", "Letter"), deps=[key("legacy", "letter")])
    def toy_load_Letter() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"accounting data": dg.MetadataValue.json([ACCOUNTING]), "inserted": 3})

    @dg.asset(key=key("target", "Other"), deps=[key("legacy", "other")])
    def toy_load_Other() -> None: ...

    external = dg.AssetSpec(key("target", "User"))

    @dg.asset_check(asset=key("target", "Letter"), name="sound")
    def sound() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=check_passes, severity=dg.AssetCheckSeverity[severity], metadata={"count": 7})

    return dg.Definitions(
        assets=[extraction, toy_run_report, toy_load_Letter, toy_load_Other, external],
        asset_checks=[sound],
        jobs=[dg.define_asset_job("toy", dg.AssetSelection.all())],
        loggers={LOGGER: run_log},
        executor=dg.in_process_executor,
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return tmp_path / "state"


def run(definitions: dg.Definitions, home: Path, selection: set[dg.AssetKey] | None = None) -> RunOutcome:
    with open_instance(home) as instance:
        return run_job(planned_job(definitions, "toy", selection), home, instance)


def test_a_sound_run_tells_accounting_loads_and_checks(home):
    outcome = run(toy_definitions(), home)
    assert outcome.exit_code == EXIT_OK
    assert outcome.accounting == [ACCOUNTING]
    assert outcome.loads["Letter"]["inserted"] == 3
    assert [(check.asset, check.name, check.passed, check.count) for check in outcome.checks] == [
        ("target/Letter", "sound", True, 7)
    ]
    assert outcome.not_run == []


def test_one_bad_table_stops_its_dependants_only_and_fails_the_run_at_its_end(home):
    outcome = run(toy_definitions(broken=True), home)
    assert outcome.exit_code == EXIT_STEP_FAILED
    assert [failure.step for failure in outcome.failures] == ["toy__report__run"]
    assert "could not be extracted: other" in outcome.failures[0].message
    assert outcome.not_run == ["toy__target__Other"]
    assert "Letter" in outcome.loads


@pytest.mark.parametrize(("severity", "code"), [("ERROR", EXIT_CHECK_FAILED), ("WARN", EXIT_OK)])
def test_a_failed_error_check_has_its_own_exit_code_and_a_warning_has_none(home, severity, code):
    outcome = run(toy_definitions(check_passes=False, severity=severity), home)
    assert outcome.succeeded
    assert outcome.exit_code == code


def test_the_last_states_know_what_ran_and_what_never_did(home):
    definitions = toy_definitions(check_passes=False)
    outcome = run(definitions, home, {key("target", "Letter")})
    with open_instance(home) as instance:
        assets, checks = latest_states(definitions, instance)
    states = {asset.asset: asset for asset in assets}
    assert states["target/Letter"].run_id == outcome.run_id
    assert states["legacy/letter"].at is None
    assert "target/User" not in states
    assert [(check.state, check.count, check.run_id) for check in checks] == [("failed", 7, outcome.run_id)]


def test_a_check_that_never_ran_is_said_to_be_so(home):
    definitions = toy_definitions()
    with open_instance(home) as instance:
        _, checks = latest_states(definitions, instance)
    assert [check.state for check in checks] == ["never run"]


def test_the_log_file_has_the_events_and_no_addresses(home):
    run(toy_definitions(), home)
    (log,) = (home / "logs").glob("*.log")
    assert "STEP_SUCCESS" in log.read_text()


def test_the_instance_sends_no_telemetry_and_respects_a_dagster_home_of_ones_own(home, tmp_path, monkeypatch):
    with open_instance(home) as instance:
        assert not instance.telemetry_enabled
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "mine"))
    assert instance_directory(home) == tmp_path / "mine"
    # One that has no file of its own: Dagster's defaults would send what is run.
    (tmp_path / "mine").mkdir()
    with open_instance(home) as instance:
        assert not instance.telemetry_enabled
    (tmp_path / "mine" / "dagster.yaml").write_text("telemetry: {enabled: true}\n")
    with open_instance(home) as instance:
        assert instance.telemetry_enabled


def test_a_run_that_was_killed_is_closed_by_the_next_one(home):
    """Killed hard, a run says nothing at its end; the UI would show it as running for ever."""
    script = (
        "import os, signal\nfrom pathlib import Path\nimport dagster as dg\n"
        "from dtx_assets.machinery.dagster.run import open_instance, run_job\n"
        "from dtx_assets.machinery.dagster.run_log import LOGGER, run_log\n"
        "@dg.asset\ndef deadly(): os.kill(os.getpid(), signal.SIGKILL)\n"
        "defs = dg.Definitions([deadly], jobs=[dg.define_asset_job('j')], loggers={LOGGER: run_log})\n"
        f"home = Path({str(home)!r})\n"
        "with open_instance(home) as instance: run_job(defs.resolve_job_def('j'), home, instance)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with open_instance(home) as instance:
        (left,) = instance.get_runs()
        assert left.status == dg.DagsterRunStatus.STARTED
    outcome = run(toy_definitions(), home)
    with open_instance(home) as instance:
        statuses = {each.run_id: each.status for each in instance.get_runs()}
    assert statuses == {left.run_id: dg.DagsterRunStatus.FAILURE, outcome.run_id: dg.DagsterRunStatus.SUCCESS}


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("target/EmailTemplate", 'key:"dtx/target/EmailTemplate"'),
        ("+target/EmailTemplate", '+key:"dtx/target/EmailTemplate"'),
        ("2+dtx/target/EmailTemplate+", '2+key:"dtx/target/EmailTemplate"+'),
        ('key:"dtx/target/EmailTemplate"', 'key:"dtx/target/EmailTemplate"'),
        ("key:dtx/target/EmailTemplate", "key:dtx/target/EmailTemplate"),
        ('+key:"target/EmailTemplate"', '+key:"dtx/target/EmailTemplate"'),
        ("key:target/EmailTemplate+", 'key:"dtx/target/EmailTemplate"+'),
        ('key:"*Template*" or kind:a/b', 'key:"*Template*" or kind:a/b'),
        ('group:"a/b" and not legacy/letter', 'group:"a/b" and not key:"dtx/legacy/letter"'),
        ("prepared/* or rejected/*", 'key:"dtx/prepared/*" or key:"dtx/rejected/*"'),
        ("*", "*"),
    ],
)
def test_the_short_form_of_a_selection(short, full):
    assert expand_selection(short, "dtx") == full


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("target/Letter", {"target/Letter"}),
        ("+target/Letter", {"target/Letter", "legacy/letter", "report/extraction", "report/run"}),
        ('group:"letters"', {"legacy/letter", "report/extraction", "report/run"}),
        ("target/*", {"target/Letter", "target/Other"}),
    ],
)
def test_a_selection_takes_the_extraction_report_along(text, chosen):
    found = select_assets(toy_definitions(), "toy", text)
    assert {"/".join(key.path[1:]) for key in found} == chosen


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("target/Leter", "did you mean target/Letter"),
        ("target/letter", "target/Letter"),
        ("and or", "not a selection"),
        ("target/User", "nothing to do: toy/target/User"),
        ('group:"nothing"', "nothing matches"),
        ("target/Nothing*", "nothing matches"),
        ("", "not a selection"),
    ],
)
def test_a_wrong_selection_is_told_with_what_may_be_meant(text, says):
    with pytest.raises(ConfigurationError) as caught:
        select_assets(toy_definitions(), "toy", text)
    assert says in str(caught.value)
