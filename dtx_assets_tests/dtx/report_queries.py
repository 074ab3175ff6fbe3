"""What each figure of the cutover page has to be, by its name: asked of the databases, with queries of their own.

The target database says what became of the rows, Dagster's history when things were made and how long they took, the
files of the plan what is declared. Values are numbers, or texts as they have to stand there.
"""

import csv
import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import yaml

from dtx_assets.dtx.definitions import SYSTEM, defs
from dtx_assets.machinery.base.progress import duration_text
from dtx_assets.machinery.report.render import age

Told = dict[str, int | str]

# --- the target database ----------------------------------------------------------------------------------------------

VIEWS = """
CREATE TEMP TABLE plan (source_table text, area text);
CREATE TEMP TABLE called (target_table text, model text);
CREATE TEMP VIEW kept AS
    SELECT entry.* FROM migration.accounting AS entry JOIN migration.run USING (run_id) WHERE status <> 'rolled back';
CREATE TEMP VIEW counted AS
    SELECT * FROM migration.accounting LEFT JOIN pg_temp.plan USING (source_table)
    LEFT JOIN pg_temp.called USING (target_table)
    WHERE run_id = (SELECT run_id FROM migration.run WHERE status = 'succeeded' ORDER BY started_at DESC LIMIT 1);
CREATE TEMP VIEW ruled AS SELECT * FROM pg_temp.counted, jsonb_each_text(dropped) AS each (rule, rows);
CREATE TEMP VIEW refused AS
    SELECT *, CASE WHEN partial THEN 'part' ELSE 'whole' END AS how, array_to_string(reasons, '+') AS why
    FROM migration.rejected LEFT JOIN pg_temp.plan USING (source_table) LEFT JOIN pg_temp.called USING (target_table);
"""
QUERIES = {
    "rows read": "SELECT sum(read) FROM counted",
    "rows rejected": "SELECT sum(rejected) FROM counted",
    "rows of table": "SELECT source_table, sum(read) FROM counted GROUP BY 1",
    "read": "SELECT source_table, target_table, read FROM counted",
    "migrated": "SELECT source_table, target_table, migrated FROM counted",
    "migrated share": """
        SELECT source_table, target_table, CASE WHEN migrated < read AND migrated > 0.999 * read THEN '> 99.9 %'
            ELSE trim(to_char(100.0 * migrated / read, '990.0')) || ' %' END
        FROM counted WHERE read > 0""",
    "rejected": """
        SELECT source_table, target_table, rejected FROM counted
        UNION SELECT how, NULL, count(*) FROM refused GROUP BY 1
        UNION SELECT how, concat_ws(' ', source_table, target_table, why), count(*) FROM refused GROUP BY 1, 2""",
    "rejected kinds": """
        SELECT how, source_table, target_table, why, count(DISTINCT detail) FROM refused GROUP BY 1, 2, 3, 4""",
    "rejected like": """
        SELECT source_key, how, source_table, target_table, why,
            count(*) OVER (PARTITION BY how, source_table, target_table, why, detail)
        FROM refused""",
    "combinations of reasons": "SELECT count(DISTINCT reasons) FROM refused WHERE NOT partial",
    "dropped": "SELECT source_table, target_table, read - migrated - rejected FROM counted",
    "dropped by": "SELECT rule, source_table, target_table, rows::int FROM ruled",
    "drawn": """
        SELECT area, 'table', source_table, sum(read) FROM counted GROUP BY 1, 3
        UNION SELECT area, CASE target_table WHEN 'archive' THEN 'archived' ELSE 'migrated' END, model, sum(migrated)
            FROM counted GROUP BY 1, 2, 3 HAVING sum(migrated) > 0
        UNION SELECT area, 'rejected', array_to_string(reasons, ' + '), count(*)
            FROM refused WHERE NOT partial GROUP BY 1, 3
        UNION SELECT area, 'dropped', rule, sum(rows::int) FROM ruled GROUP BY 1, 3""",
    "coerced": """
        SELECT source_table, target_table, kind, rows::int
        FROM counted, jsonb_each_text(coerced) AS each (kind, rows)""",
    "coerced share": """
        SELECT source_table, target_table, kind, trim(to_char(100.0 * rows::int / migrated, '990.0')) || ' %'
        FROM counted, jsonb_each_text(coerced) AS each (kind, rows)""",
    "conflicts": "SELECT source_table, target_table, cause, count(*) FROM migration.conflict GROUP BY 1, 2, 3",
    "vanished": "SELECT source_table, target_table, cause, count(*) FROM migration.vanished GROUP BY 1, 2, 3",
    "target rows": "SELECT target_table, count(DISTINCT target_id) FROM migration.mapping GROUP BY 1",
    "migrated to": "SELECT target_table, sum(migrated) FROM counted WHERE target_table <> 'archive' GROUP BY 1",
    "share": """
        SELECT CASE target_table WHEN 'archive' THEN 'archived' ELSE 'migrated' END, source_table, model, sum(migrated)
            FROM counted GROUP BY 1, 2, 3 HAVING sum(migrated) > 0
        UNION SELECT 'rejected', source_table, array_to_string(reasons, ' + '), count(*)
            FROM refused WHERE NOT partial GROUP BY 2, 3
        UNION SELECT 'dropped', source_table, rule, sum(rows::int)
            FROM ruled GROUP BY 2, 3 HAVING sum(rows::int) > 0""",
    "asset": """
        SELECT 'target/' || model, count(DISTINCT target_id) FROM migration.mapping JOIN called USING (target_table)
            GROUP BY 1
        UNION SELECT 'rejected/' || model, count(*) FROM refused GROUP BY 1""",
    "run started": """
        SELECT run_id, to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"') FROM migration.run""",
    "run read": "SELECT run_id, sum(read) FROM kept GROUP BY 1",
    "run rejected": "SELECT run_id, sum(rejected) FROM kept GROUP BY 1",
    "run inserted": """
        SELECT run_id, sum(rows_inserted) FROM migration.load JOIN migration.batch ON load_id = load.id GROUP BY 1""",
    "run updated": """
        SELECT run_id, sum(rows_updated) FROM migration.load JOIN migration.batch ON load_id = load.id GROUP BY 1""",
}
AFFECTED = {
    ("notification", "notification_webhook"): (
        *("timing_semantics", "send_hold_override", "dow_bitmap", "dow_bit_order", "activation"),
        "notification_schedules",
    ),
    ("notification", "notification_webhook", "notification_lookup"): ("notification_lookup_dropped",),
    ("notification_audit",): ("notification_audit_archived",),
    ("letter",): ("bilingual_letters", "letter_templates"),
    ("envelope",): ("envelope",),
    ("messagequeue",): ("messagequeue_archived",),
    ("imap_upload",): ("imap_upload",),
    ("form_field",): ("form_field",),
    ("keyword",): ("keyword",),
    ("vornado_feed",): ("vornado_feed",),
    ("repo_file",): ("repo_file_documents",),
    ("repo_file_audit",): ("repo_file_audit_archive",),
    ("repo_throughput",): ("repo_throughput_archive",),
    ("exemption",): ("exemption_overrides",),
    ("reviewer_address",): ("reviewer_addresses",),
    ("notification", "notification_webhook", "reviewer_address"): ("php_string_lengths",),
    ("billing_data", "inactivated_billing_data", "lost_revenue", "prepay_so_list"): ("billing_archive",),
    ("work_log",): ("work_log_archive",),
    ("letter", "notification", "notification_webhook", "exemption", "keyword", "repo_file", "reviewer_address"): (
        "on_target_conflict",
    ),
}
"""The decisions that are about all rows of tables; the one that is about some of a table's is asked for by itself."""
SOME_ROWS = {
    "expired_document_exemption": """
        SELECT read FROM counted WHERE (source_table, model) = ('exemption', 'DocRequirement')"""
}


def told_by_the_target(url: str) -> Told:
    """The figures that the target database answers for."""
    models = {SYSTEM.target(model).name: model for flow in SYSTEM.flows for model in flow.targets}
    with psycopg.connect(url) as connection:
        connection.execute(VIEWS)
        for table, rows in (
            ("plan", [(table.name, table.area) for table in SYSTEM.legacy_tables.values()]),
            ("called", [*models.items(), ("archive", "Archive")]),
        ):
            with connection.cursor().copy(f"COPY pg_temp.{table} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        connection.execute("SET LOCAL search_path = pg_temp")

        def ask(query: str, *values: Any) -> list[tuple[Any, ...]]:
            return connection.execute(query, values or None).fetchall()

        told = {
            " ".join([name, *(key for key in keys if key is not None)]): value if isinstance(value, str) else int(value)
            for name, query in QUERIES.items()
            for *keys, value in ask(query)
        }
        for tables, decisions in AFFECTED.items():
            [(rows,)] = ask("SELECT sum(read)::int FROM counted WHERE source_table = ANY(%s)", list(tables))
            told |= dict.fromkeys((f"affected {decision}" for decision in decisions), rows)
        return told | {f"affected {decision}": ask(query)[0][0] for decision, query in SOME_ROWS.items()}


# --- Dagster's history ------------------------------------------------------------------------------------------------


def told_by_the_history(
    home: Path, url: str, status: Mapping[str, Any], in_the_way: Mapping[str, str], now: datetime
) -> Told:
    """The figures that Dagster's history answers for. `status` is what `dtx status --json` says at that time.

    `in_the_way` are the checks that keep the load of a cutover back, by name, with `failed` or `not evaluated`.
    """
    graph = defs.resolve_asset_graph()
    before = partial(age, now)

    def area(check: str) -> str:
        asset = check.partition(":")[0]
        return graph.get(dg.AssetKey(["dtx", *asset.split("/")])).group_name.removeprefix("dtx_")

    told: Told = {"now": f"{now:%Y-%m-%d %H:%M} UTC"}
    counted: Counter[str] = Counter({"checks failed": 0, "checks in the way": len(in_the_way)})
    for check in status["checks"]:
        name = f"{check['asset']}:{check['name']}"
        at = datetime.fromisoformat(check["at"]) if check["at"] else None
        told |= {f"findings {name}": "–" if check["count"] is None else check["count"], f"age {name}": before(at)}
        kind = "way" if name in in_the_way else "passed" if check["state"] == "passed" else "other"
        counted.update(
            [
                "checks",
                f"checks {check['state']}",
                f"checks {check['state']} {area(name)}",
                f"listed {kind} {area(name)}",
            ]
        )
    for asset in status["assets"]:
        at = datetime.fromisoformat(asset["at"]) if asset["at"] else None
        told |= {f"made {asset['asset']}": before(at)} | (
            {} if asset["rows"] is None else {f"asset {asset['asset']}": asset["rows"]}
        )
    return told | counted | told_of_runs(home, url) | told_of_failures(home, status)


def told_of_failures(home: Path, status: Mapping[str, Any]) -> Told:
    """How often each check that fails now has failed of late, where it was evaluated more than once."""
    results: dict[str, list[tuple[float, bool]]] = {}
    for file in (home / "history" / "runs").glob("*-*.db"):
        for event in events(home, file.stem, "ASSET_CHECK_EVALUATION"):
            said = event["dagster_event"]["event_specific_data"]
            failed = not said["success"] and said["severity"]["__enum__"].endswith(".ERROR")
            name = f"{'/'.join(said['asset_key']['path'][1:])}:{said['check_name']}"
            results.setdefault(name, []).append((event["timestamp"], failed))
    told: Told = {}
    for check in status["checks"]:
        name = f"{check['asset']}:{check['name']}"
        last = sorted(results.get(name, []))[-5:]
        if check["state"] == "failed" and len(last) > 1:
            told |= {f"evaluated times {name}": len(last), f"failed times {name}": sum(failed for _, failed in last)}
    return told


def told_of_runs(home: Path, url: str) -> Told:
    with closing(sqlite3.connect(home / "history" / "runs.db")) as history:
        runs = history.execute(
            "SELECT run_id, status, start_time, end_time FROM runs WHERE pipeline_name IN ('dtx', 'dtx_rehearsal')"
        ).fetchall()
    with psycopg.connect(url) as connection:
        flows = dict(connection.execute("SELECT run_id, count(*) FROM migration.accounting GROUP BY 1").fetchall())
        rows = dict(connection.execute("SELECT run_id, sum(read)::int FROM migration.accounting GROUP BY 1").fetchall())
        written = dict(
            connection.execute(
                "SELECT run_id, sum(rows_inserted + rows_updated)::int FROM migration.load"
                " JOIN migration.batch ON load_id = load.id GROUP BY 1"
            ).fetchall()
        )
    told: Told = {}
    whole: list[tuple[float, str, float]] = []
    for run, status, start, end in runs:
        if run not in flows and status != "FAILURE":
            continue  # It was not to load anything, such as `dtx report`.
        told[f"run took {run}"] = duration_text(end - start)
        if run not in flows:
            told[f"run started {run}"] = f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d %H:%M} UTC"
        else:
            told[f"run points {run}"] = points_after(home, run)
            told[f"run checks failed {run}"] = sum(
                not passed and severity == "ERROR" for passed, severity in evaluations(home, run)
            )
        if flows.get(run) == max(flows.values()):
            whole.append((end - start, run, start))
    seconds, longest, _ = max(whole)
    _, last, _ = max(whole, key=lambda run: run[2])
    return (
        told
        | {
            "window": duration_text(seconds * 1.5),
            "window of runs": len(whole),
            "window longest": duration_text(seconds),
            "window read": rows[longest],
            "window written": written[longest],
        }
        | told_of_phases(home, last)
    )


def events(home: Path, run: str, kind: str) -> list[dict[str, Any]]:
    """The events of a kind of a run, as Dagster wrote them down."""
    with closing(sqlite3.connect(home / "history" / "runs" / f"{run}.db")) as history:
        found = history.execute(
            "SELECT event FROM event_logs WHERE dagster_event_type = ? ORDER BY id", (kind,)
        ).fetchall()
    return [json.loads(event) for (event,) in found]


def points_after(home: Path, run: str) -> int | str:
    """What a run's report says to be in the way; a part of a run may have none."""
    for event in events(home, run, "ASSET_MATERIALIZATION"):
        made = event["dagster_event"]["event_specific_data"]["materialization"]
        if made["asset_key"]["path"] == ["dtx", "report", "cutover"]:
            return {entry["label"]: entry["entry_data"] for entry in made["metadata_entries"]}["points in the way"][
                "value"
            ]
    return "–"


def evaluations(home: Path, run: str) -> list[tuple[bool, str]]:
    said = [event["dagster_event"]["event_specific_data"] for event in events(home, run, "ASSET_CHECK_EVALUATION")]
    return [(entry["success"], entry["severity"]["__enum__"].rpartition(".")[2]) for entry in said]


def told_of_phases(home: Path, run: str) -> Told:
    steps: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    started = {event["step_key"]: event["timestamp"] for event in events(home, run, "STEP_START")}
    for event in events(home, run, "STEP_SUCCESS"):
        phase = event["step_key"].removeprefix("dtx_").split("_")[0]
        steps[phase] += 1
        seconds[phase] += event["timestamp"] - started[event["step_key"]]
    return {f"phase steps {phase}": many for phase, many in steps.items()} | {
        f"phase took {phase}": duration_text(spent) for phase, spent in seconds.items()
    }


# --- the files of the plan --------------------------------------------------------------------------------------------


def told_by_the_plan() -> Told:
    """The figures that the files of the plan answer for."""
    plan = yaml.safe_load((SYSTEM.mappings_dir / "decisions.yaml").read_text("utf-8"))
    still_open: Counter[str] = Counter()
    for entry in plan["decisions"]:
        if entry["status"] == "open":
            still_open.update(["decisions open"])
    for action in plan["actions"]:
        if action["blocking"] and action.get("status", "open") == "open":
            still_open.update(["actions open"])
    told: Told = {**still_open, "known issues": len(plan["known_issues"])}
    for name in SYSTEM.mappings.value_maps:
        with (SYSTEM.mappings_dir / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            told[f"entries {name}"] = sum(1 for _ in csv.DictReader(file))
    columns = {name: len(table.columns) for name, table in SYSTEM.legacy_tables.items() if table.columns}
    return told | {f"columns {name}": many for name, many in columns.items()}
