"""The code location: what is in the graph, that servers can load it, that each way to run a part of it works.

The snapshot says what reviewers should see when the graph changes: keys first, then everything else. Rewrite it with
`UPDATE_SNAPSHOTS=1 pytest dtx_assets_tests/dtx/test_definitions.py`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg

from dtx_assets.dtx.definitions import SYSTEM, defs
from dtx_assets.machinery.dagster.graph import OTHER_AREAS, REPORTS
from dtx_assets.machinery.dagster.metadata import check_name, closes_gate, own_description
from dtx_assets_tests.patience import PATIENCE
from dtx_assets_tests.servers import free_ports

LAYERS = ("decision", "legacy", "crosswalk", "mapping", "prepared", "rejected", "target", "archive", "report")
PROJECT = Path(__file__).parents[2]
SNAPSHOT = Path(__file__).with_name("asset_graph.json")
BINARIES = Path(sys.executable).parent

SOURCE_TABLES = {
    "notification": "A8 #1",
    "notification_webhook": "A8 #1",
    "notification_lookup": "A8 #2",
    "notification_audit": "A8 #3",
    "letter": "A8 #4",
    "messagequeue": "A8 #5",
    "envelope": "A8 #6",
    "repo_file": "A11 #1",
    "repo_file_audit": "A11 #2",
    "repo_throughput": "A11 #3",
    "imap_upload": "A11 #4",
    "form_field": "A11 #5",
    "keyword": "A11 #6",
    "exemption": "A11 #7",
    "reviewer_address": "A11 #8",
    "billing_data": "A11 #9",
    "inactivated_billing_data": "A11 #9",
    "lost_revenue": "A11 #9",
    "prepay_so_list": "A11 #9",
    "work_log": "A11 #10",
    "vornado_feed": "A11 #11",
}
"""The rows of both plans' table "Source Tables", each with its decision."""

TARGET_MODELS = {
    "NotificationSchedule": ("docutrax_utils", "A8 #1"),
    "EmailLog": ("docutrax_utils", "A8 #5"),
    "NotificationQueue": ("docutrax_utils", "A8 #1"),
    "EmailTemplate": ("docutrax_utils", "A8 #4"),
    # The plan lists them and decides nothing of their own: these are the decisions that come nearest.
    "InAppNotification": ("docutrax_utils", "A8 #8"),
    "CronSetting": ("docutrax_utils", "A8 #7"),
    "Document": ("docutrax_profiles", "A11 #1"),
    "Certificate": ("docutrax_profiles", "A11 #1"),
    "ManualOverride": ("docutrax_profiles", "A11 #7"),
    "WaiverRequest": ("docutrax_profiles", "A11 #7"),
    "DocRequirement": ("docutrax_profiles", "A11 #7"),
    "AccountEmail": ("docutrax_hierarchy", "A11 #8"),
    "AccountMeta": ("docutrax_hierarchy", "A11 #6"),
    "BillingProfile": ("docutrax_billing", "A11 #9"),
    "UserActivityLog": ("docutrax_utils", "A11 #10"),
}
"""The rows of both plans' table "Target Models": app, and the decision that says what becomes of it."""


def name_of(key: dg.AssetKey) -> str:
    return "/".join(key.path)


def describe_graph() -> dict[str, Any]:
    graph = defs.resolve_asset_graph()
    assets = {}
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        assets[name_of(key)] = {
            "group": node.group_name,
            "kinds": sorted(node.kinds),
            "made here": node.is_materializable,
            "needs": sorted(map(name_of, node.parent_keys)),
            "checks": sorted(
                check.name + (" (blocking)" if graph.get_check_spec(check).blocking else "")
                for check in node.check_keys
            ),
        }
    return assets


def test_the_graph_is_the_one_that_was_reviewed():
    found = describe_graph()
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n")
    reviewed = json.loads(SNAPSHOT.read_text())
    assert sorted(found) == sorted(reviewed)
    assert found == reviewed


def test_every_row_of_the_plans_tables_is_an_asset_that_names_its_decision():
    described = {name_of(spec.key): spec.description or "" for spec in defs.resolve_all_asset_specs()}
    named = {
        name: {
            f"A{area} #{number}"
            for area, numbers in re.findall(r"\*\*Decision A(\d+) #([\d, ]+):", text)
            for number in numbers.split(", ")
        }
        for name, text in described.items()
    }
    planned = [(f"legacy/{name}", decision) for name, decision in SOURCE_TABLES.items()]
    planned += [(f"target/{name}", decision) for name, (_, decision) in TARGET_MODELS.items()]
    assert [row for row in planned if row[1] not in named.get(f"dtx/{row[0]}", ())] == []
    assert set(SYSTEM.legacy_tables) == set(SOURCE_TABLES)
    for model, (app, _) in TARGET_MODELS.items():
        assert SYSTEM.target(model).name == f"{app}_{model.lower()}"


def test_every_asset_says_what_it_is_and_whose():
    for spec in defs.resolve_all_asset_specs():
        assert spec.key.path[0] == "dtx"
        assert spec.key.path[1] in LAYERS
        assert spec.description
        assert spec.group_name in ("notifications", "file_repository", f"dtx_{OTHER_AREAS}", f"dtx_{REPORTS}")
        assert spec.key.path[1] in spec.kinds


def test_assets_are_found_by_layer_area_decision_gate_and_owner():
    def found(selection: str) -> set[str]:
        with warnings.catch_warnings():
            # Selecting by tag warns about a parameter of Dagster's own that is in beta.
            warnings.simplefilter("ignore", dg.BetaWarning)
            chosen = dg.AssetSelection.from_string(selection).resolve(defs.resolve_asset_graph())
        return {name_of(key).removeprefix("dtx/") for key in chosen}

    models = {target.model for target in SYSTEM.filled_targets}
    assert found("kind:rejected") == {f"rejected/{model}" for model in models}
    assert {f"target/{model}" for model in models} <= found("kind:target")
    assert {key.partition("/")[0] for key in found('tag:"area"="notifications"')} >= {"legacy", "prepared", "target"}
    assert found('tag:"decision/letter_templates" and kind:prepared') == {"prepared/EmailTemplate"}
    waiting = {f"prepared/{model}" for entry in SYSTEM.decisions.open for model in entry.affects}
    assert waiting & found("kind:prepared") <= found('tag:"decision"="open"')
    assert not waiting & found('tag:"decision"="settled"')
    assert found('owner:"team:DTX 1.0 product owner" and kind:legacy') >= {"legacy/letter", "legacy/keyword"}
    graph = defs.resolve_asset_graph()
    closing = {key.asset_key for key in graph.asset_check_keys if closes_gate(graph.get_check_spec(key))}
    assert found('tag:"gate"="closes"') == {name_of(key).removeprefix("dtx/") for key in closing}


def test_each_check_that_closes_the_gate_says_so_first_and_how_it_is_accepted():
    graph = defs.resolve_asset_graph()
    for key in graph.asset_check_keys:
        spec = graph.get_check_spec(key)
        said = spec.description or ""
        assert said.startswith("**Closes the gate") == closes_gate(spec), key
        assert (f"--accept '{check_name(key)}=why'" in said) == (closes_gate(spec) and not spec.blocking), key
        assert own_description(spec), key
        assert "gate" not in own_description(spec).partition(".")[0]


def test_targets_that_are_not_filled_say_so():
    specs = {name_of(spec.key): spec for spec in defs.resolve_all_asset_specs()}
    filled = {model for flow in SYSTEM.flows for model in flow.targets}
    assert filled == {
        "EmailTemplate",
        "NotificationSchedule",
        "ManualOverride",
        "DocRequirement",
        "AccountEmail",
        "AccountMeta",
        "Document",
    }
    for target in SYSTEM.targets:
        said = specs[f"dtx/target/{target.model}"].metadata["filled"]
        assert said.startswith("no") != (target.model in filled), (target.model, said)
    assert "writes nothing here" in specs["dtx/target/EmailLog"].metadata["filled"]
    assert (
        "envelope = response_tracking would; chosen is archive"
        in specs["dtx/target/ResponseTracking"].metadata["filled"]
    )


def test_no_asset_has_more_checks_than_the_ui_can_show():
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        assert len(graph.get(key).check_keys) <= 25, name_of(key)


def test_the_templates_are_loaded_before_the_schedules():
    """An order, not a dependency: letters that cannot be read must not stop the schedules."""
    job = defs.resolve_job_def("dtx")
    ranks = {node.name: int(node.definition.tags.get("dagster/priority", 0)) for node in job.nodes}
    assert ranks["dtx_load_EmailTemplate"] > ranks["dtx_load_NotificationSchedule"] > ranks["dtx_load_ManualOverride"]
    assert ranks["dtx_prepare_email_template"] > ranks["dtx_prepare_notification_schedule"]


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DTX_", "DAGSTER_", "AWS_"))}
    return {**kept, "DTX_HOME": str(home), "DAGSTER_HOME": str(home), "NO_COLOR": "1", **more}


def command(*arguments: str, home: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    program, *rest = arguments
    return subprocess.run(
        [str(BINARIES / program), *rest],
        cwd=cwd or home,
        env=clean_environment(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def test_the_code_location_loads_as_the_server_loads_it(tmp_path):
    """In a process of its own, over gRPC, from another directory, without database, variables or state."""
    done = command(
        "dagster",
        "definitions",
        "validate",
        "--load-with-grpc",
        "-w",
        str(PROJECT / "workspace.yaml"),
        home=tmp_path / "home",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Validation successful for code location dtx" in done.stdout + done.stderr
    assert not (tmp_path / "home" / "postgres").exists()


def test_dagster_on_the_command_line_makes_selected_assets(tmp_path):
    home = tmp_path / "home"
    done = command(
        "dagster", "asset", "materialize", "-m", "dtx_assets.dtx.definitions",
        "--select", 'key:"dtx/legacy/letter" or key:"dtx/mapping/placeholders"', home=home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (home / "lake" / "dtx" / "legacy" / "letter" / "manifest.json").is_file()
    assert (home / "lake" / "dtx" / "mapping" / "placeholders" / "manifest.json").is_file()
    assert not (home / "lake" / "dtx" / "legacy" / "notification").exists()


def test_dg_launches_selected_assets(tmp_path):
    home = tmp_path / "home"
    done = command("dg", "launch", "--assets", 'key:"dtx/legacy/keyword"', home=home, cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (home / "lake" / "dtx" / "legacy" / "keyword" / "manifest.json").is_file()


def test_dagster_dev_serves_the_graph(tmp_path):
    [port] = free_ports(1)
    log = tmp_path / "dev.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [str(BINARIES / "dagster"), "dev", "-m", "dtx_assets.dtx.definitions", "-h", "127.0.0.1", "-p", str(port)],
            cwd=tmp_path,
            env={**clean_environment(tmp_path / "home"), "DAGSTER_HOME": ""},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    query = json.dumps({"query": "{ assetNodes { assetKey { path } } }"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", data=query, headers={"Content-Type": "application/json"}
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    nodes = json.load(response)["data"]["assetNodes"]
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
    finally:
        # Not SIGINT, which is ignored where a shell runs the tests in the background.
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        # What is left of its servers on a machine that is busy.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert ["dtx", "target", "NotificationSchedule"] in [node["assetKey"]["path"] for node in nodes]
