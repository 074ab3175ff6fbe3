"""The cutover page of a whole run on the sample, in a real browser: what it says equals what the target database says.

The queries here are others than those the page is made with.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import psycopg
import pytest
from playwright.sync_api import Browser, Page
from pydantic import BaseModel

from dtx_assets.dtx.checks import build_check_groups
from dtx_assets.dtx.definitions import SYSTEM, defs
from dtx_assets.dtx.sample import load_other_areas
from dtx_assets.machinery.embedded_postgres import EmbeddedPostgres
from dtx_assets.machinery.gate import Obstacle
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.report import Report, gather, write_page
from dtx_assets.machinery.report.figures import Figures, read_figures
from dtx_assets.machinery.report.render import SECTIONS
from dtx_assets.machinery.run import open_instance

HOSTILE = "<script>document.title='x'</script><img src=x onerror=\"document.title='x'\">{{ 7*7 }}\"'&\u202e"
SECRET = "planted-secret"
KEPT = {
    ("Share", "kind"),
    ("Check", "state"),
    ("Node", "layer"),
    ("Decision", "status"),
    ("Action", "status"),
    ("BookSource", "functions"),
}
"""Fields of which the product knows all values."""


@dataclass
class Migrated:
    """A target database after a run, and the page that the run wrote."""

    url: str
    home: Path
    page: Path
    command: Callable[..., subprocess.CompletedProcess[str]]

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode()).fetchall()

    def report(self, obstacles: list[Obstacle]) -> Report:
        with open_instance(self.home) as instance:
            return gather(
                SYSTEM,
                defs.resolve_asset_graph(),
                instance,
                read_figures(self.url, "dtx"),
                obstacles,
                now=datetime.now(UTC),
                source="s",
                target="t",
            )


@pytest.fixture(scope="module")
def migrated(postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Migrated]:
    directory = tmp_path_factory.mktemp("report")
    name = f"test_{uuid4().hex}"
    url = postgres_server.create_database(name)
    with psycopg.connect(url) as connection:
        create_target(connection, SYSTEM.targets)
        load_other_areas(connection, SYSTEM.sample_dir / "target")
    home = directory / "home"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("DTX_", "DAGSTER_"))}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dtx_assets.cli", *arguments],
            cwd=directory,
            env={**clean, "DTX_TARGET_URL": url, "DTX_HOME": str(home), "DTX_FILES_PREFIX": SECRET},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    done = command("run")
    assert done.returncode == 3, done.stdout + done.stderr
    yield Migrated(url, home, home / "report" / "cutover.html", command)
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def page(browser: Browser, migrated: Migrated) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(migrated.page.as_uri())
    yield page
    page.close()


def rows_of(page: Page, table: str) -> list[dict[str, str]]:
    """The rows of a table by the headings of its columns."""
    return page.evaluate(
        """id => {
            const table = document.getElementById(id + "-caption").closest("table")
            const text = cell => cell.textContent.replace(/\\s+/g, " ").trim()
            const heads = [...table.querySelectorAll("thead th")].map(text)
            return [...table.querySelectorAll("tbody tr")].map(row =>
                Object.fromEntries([...row.children].map((cell, place) => [heads[place], text(cell)])))
        }""",
        table,
    )


def number(text: str) -> int:
    return 0 if text == "–" else int(text.replace(",", ""))


def model_of(table: str) -> str:
    known = {SYSTEM.target(model).name: model for flow in SYSTEM.flows for model in flow.targets}
    return "the archive" if table == "archive" else known[table]


def numbers(text: str) -> list[int]:
    return [number(found) for found in re.findall(r"\d[\d,]*", text)]


# --- every number is that of a query ----------------------------------------------------------------------------------


def test_the_flow_is_the_accounting_of_the_run(page, migrated):
    shown = {
        (row["Legacy table"], row["To"]): (
            *(number(row[name]) for name in ("Read", "Migrated", "Rejected", "Dropped")),
            row["Dropped by rule"],
            row["Balances"],
        )
        for row in rows_of(page, "flow")
    }
    told = {
        (source, model_of(target)): (
            read,
            done,
            rejected,
            sum(dropped.values()),
            ", ".join(f"{rule} {rows}" for rule, rows in dropped.items()),
            "yes",
        )
        for source, target, read, done, rejected, dropped in migrated.ask(
            "SELECT source_table, target_table, read, migrated, rejected, dropped FROM migration.accounting"
        )
    }
    assert len(told) == 22
    assert shown == told


def test_what_the_flow_calls_migrated_and_rejected_is_in_the_mapping_and_the_list(page, migrated):
    mapped = dict(
        migrated.ask(
            "SELECT source_table || ' ' || target_table, count(DISTINCT source_key) FROM migration.mapping GROUP BY 1"
        )
    )
    listed = dict(
        migrated.ask(
            "SELECT source_table || ' ' || target_table, count(*) FROM migration.rejected WHERE NOT partial GROUP BY 1"
        )
    )
    flows = {(row["Legacy table"], row["To"]): row for row in rows_of(page, "flow") if row["To"] != "the archive"}
    assert {key: number(row["Migrated"]) for key, row in flows.items()} == by_model(mapped)
    assert {key: number(row["Rejected"]) for key, row in flows.items()} == by_model(listed)


def by_model(counts: Mapping[str, int]) -> dict[tuple[str, str], int]:
    pairs = {tuple(key.split(" ")): rows for key, rows in counts.items()}
    return {(source, model_of(target)): rows for (source, target), rows in pairs.items()}


def test_the_ribbons_of_the_picture_are_the_rows_of_the_flow(page, migrated):
    titles = page.evaluate("[...document.querySelectorAll('[id^=flow-] .line title')].map(title => title.textContent)")
    ribbons: dict[str, dict[str, int]] = {}
    for title in titles:
        table, fate, rows = re.fullmatch(r"(\S+) → (.*): ([\d,]+) rows", title).groups()
        ribbons.setdefault(table, {})[fate] = number(rows)
    read = dict(migrated.ask("SELECT source_table, sum(read)::int FROM migration.accounting GROUP BY 1"))
    assert {table: sum(fates.values()) for table, fates in ribbons.items()} == read
    [(unparseable,)] = migrated.ask(
        "SELECT count(*) FROM migration.rejected WHERE NOT partial AND reasons = '{unparseable}'"
        " AND source_table = 'notification_webhook'"
    )
    assert ribbons["notification_webhook"]["Rejected: unparseable"] == unparseable > 0
    [(expired,)] = migrated.ask("SELECT sum((dropped->>'expired')::int) FROM migration.accounting")
    assert ribbons["exemption"]["Dropped: expired"] == expired > 0


def test_rejected_rows_are_counted_as_they_are_listed(page, migrated):
    for table, column, partial in (("rejected", "Rows", False), ("partial", "Parts", True)):
        shown = sorted((row["Reasons"], number(row[column])) for row in rows_of(page, table))
        told = sorted(
            (f"{' + '.join(reasons)} in {source} for {model_of(target)}", rows)
            for source, target, reasons, rows in migrated.ask(
                "SELECT source_table, target_table, reasons, count(*) FROM migration.rejected"
                f" WHERE partial = {partial} GROUP BY 1, 2, 3"
            )
        )
        assert shown == told
        assert shown
        caption = page.locator(f"#{table}-caption").inner_text()
        assert numbers(caption)[0] == sum(rows for _, rows in told)
    [(kinds,)] = migrated.ask(
        "SELECT count(DISTINCT detail) FROM migration.rejected WHERE NOT partial AND source_table = 'notification'"
        " AND reasons = '{unparseable}'"
    )
    [row] = [row for row in rows_of(page, "rejected") if row["Reasons"].startswith("unparseable in notification for")]
    assert f"The most frequent of {kinds} kinds" in row["How to mend, and examples (masked)"]


def test_conflicts_and_coercions_are_those_of_the_bookkeeping(page, migrated):
    told = migrated.ask("SELECT source_table, cause, count(*) FROM migration.conflict GROUP BY 1, 2")
    assert [(row["Of"], row["Cause"], number(row["Target rows"])) for row in rows_of(page, "conflicts")] == told
    assert told
    shown = {
        (row["Of"], row["For"], row["Kind"].replace(" ", "_")): number(row["Rows"])
        for row in rows_of(page, "coercions")
    }
    told = migrated.ask(
        "SELECT source_table, target_table, kind.key, kind.value::int FROM migration.accounting,"
        " jsonb_each_text(coerced) AS kind"
    )
    assert shown == {(source, model_of(target), kind): rows for source, target, kind, rows in told}
    assert shown


def test_runs_and_cards_say_what_was_read_and_written(page, migrated):
    [run] = rows_of(page, "runs")
    [(read, rejected)] = migrated.ask("SELECT sum(read)::int, sum(rejected)::int FROM migration.accounting")
    [(inserted, updated)] = migrated.ask("SELECT sum(rows_inserted)::int, sum(rows_updated)::int FROM migration.batch")
    assert [number(run[name]) for name in ("Read", "Rejected", "Inserted", "Updated")] == [
        read,
        rejected,
        inserted,
        updated,
    ]
    rows = page.locator(".card", has=page.get_by_text("Rows", exact=True)).inner_text()
    assert numbers(rows)[:2] == [rejected, read]
    [(combinations,)] = migrated.ask("SELECT count(DISTINCT reasons) FROM migration.rejected WHERE NOT partial")
    assert numbers(rows)[2] == combinations


def test_the_mapping_book_says_how_many_rows_of_the_target_are_ours(page, migrated):
    told = migrated.ask("SELECT target_table, count(DISTINCT target_id) FROM migration.mapping GROUP BY 1")
    assert len(told) == 7
    for table, rows in told:
        summary = page.locator(f"#book-{model_of(table)} > summary").inner_text()
        assert f"{rows:,} rows in the target" in summary, summary


def test_decisions_say_how_many_rows_they_affect(page, migrated):
    rows = dict(migrated.ask("SELECT source_table, sum(read)::int FROM migration.accounting GROUP BY 1"))
    for decision, tables in {
        "timing_semantics": ("notification", "notification_webhook"),
        "bilingual_letters": ("letter",),
        "form_field": ("form_field",),
        "envelope": ("envelope",),
        "messagequeue_archived": ("messagequeue",),
        "billing_archive": ("billing_data", "inactivated_billing_data", "lost_revenue", "prepay_so_list"),
    }.items():
        text = page.locator(f"#decision-{decision} dd", has_text="rows read").inner_text()
        assert numbers(text)[0] == sum(rows[table] for table in tables), decision
        assert all(table in text for table in tables)


def test_decisions_have_text_options_choice_status_who_confirms_and_the_blocking_action(page):
    text = page.locator("#decision-timing_semantics").inner_text()
    decision = SYSTEM.decisions.entry("timing_semantics")
    for told in (decision.title, decision.text, "open", decision.confirm_by, "A8-1: Confirm timing semantics"):
        assert told in text
    assert "incremental (chosen) · cumulative" in text
    assert page.locator("article.decision").count() == len(SYSTEM.decisions.entries)


# --- readiness --------------------------------------------------------------------------------------------------------


def test_the_page_says_no_go_for_what_the_gate_finds(page, migrated):
    states = json.loads(migrated.command("status", "--json").stdout)["checks"]
    failed = {f"{check['asset']}:{check['name']}" for check in states if check["state"] == "failed"}
    closing = {
        f"{'/'.join(group.asset)}:{spec.name}"
        for group in build_check_groups(SYSTEM)
        for spec in group.specs
        if spec.blocking or spec.structure
    }
    assert len(failed & closing) > 10
    assert page.title() == "No-go: cutover of dtx"
    assert f"{len(failed & closing)} points stand in the way" in page.locator("h1").inner_text()
    areas = ("notifications", "file_repository")
    shown = [row["Check"] for area in areas for row in rows_of(page, f"board-{area}-way")]
    assert {re.search(r"(\S+/\S+): (\S+)$", check).expand(r"\1:\2") for check in shown} == failed & closing
    questions = page.locator("#questions + ul").inner_text()
    assert all(question.name in questions for question in SYSTEM.questions)
    assert "restore_point" in questions


def test_the_board_has_every_check_in_the_state_that_status_says(page, migrated):
    states = json.loads(migrated.command("status", "--json").stdout)["checks"]
    boards = page.evaluate("[...document.querySelectorAll('[id^=board-][id$=-caption]')].map(caption => caption.id)")
    rows = [row for board in boards for row in rows_of(page, board.removesuffix("-caption"))]
    shown = {
        re.search(r"(\S+/\S+): (\S+)", row["Check"]).expand(r"\1:\2"): (
            row["State"].removesuffix(" blocks"),
            row["Findings"],
        )
        for row in rows
    }
    assert len(states) > 300
    assert shown == {
        f"{check['asset']}:{check['name']}": (
            check["state"],
            "–" if check["count"] is None else f"{check['count']:,}",
        )
        for check in states
    }


def test_an_obstacle_that_belongs_nowhere_is_still_no_go(migrated):
    report = migrated.report([Obstacle("a/b:unheard_of", "failed")])
    assert not report.readiness.go
    assert [reason.text for reason in report.readiness.reasons] == ["a/b:unheard_of failed"]
    assert migrated.report([]).readiness.go


def test_what_a_question_asks_is_shown_and_does_not_make_it_no_go(migrated):
    report = migrated.report([Obstacle(SYSTEM.questions[0].name, "has it?")])
    assert report.readiness.go
    assert [question.text for question in report.readiness.questions] == ["has it?"]


def test_nothing_loaded_is_no_go(tmp_path):
    with open_instance(tmp_path) as instance:
        empty = gather(SYSTEM, defs.resolve_asset_graph(), instance, Figures(), [], now=datetime.now(UTC))
    assert not empty.readiness.go
    assert empty.readiness.window is None
    assert "Nothing has been loaded yet" in write_page(empty, tmp_path / "page.html").read_text("utf-8")


# --- the page in a browser --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_quiet_fits_and_is_legible(browser, migrated, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(migrated.page.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert asked == [migrated.page.as_uri()]
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CONTRAST, ["h1", "h2", "td", "td .quiet", ".state", "nav a", "caption", "thead th"]) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(246, 247, 249)"
    assert dark == (scheme == "dark")
    context.close()


CONTRAST = """selectors => {
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
            .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        return .2126 * r + .7152 * g + .0722 * b
    }
    const under = element => {
        const colour = getComputedStyle(element).backgroundColor
        return colour === "rgba(0, 0, 0, 0)" ? under(element.parentElement) : colour
    }
    const wrong = new Set()
    for (const selector of selectors) for (const element of document.querySelectorAll(selector)) {
        const pair = [light(getComputedStyle(element).color), light(under(element))].sort((a, b) => b - a)
        if ((pair[0] + .05) / (pair[1] + .05) < 4.5) wrong.add(selector + " " + element.className)
    }
    return [...wrong]
}"""


def test_keyboard_and_screen_readers_find_their_way(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.reload()
    page.keyboard.press("Tab")
    for id_, title in SECTIONS:
        page.keyboard.press("Tab")
        assert page.evaluate("[document.activeElement.textContent, document.activeElement.hash]") == [title, f"#{id_}"]
    assert page.evaluate("document.querySelectorAll('main, header, nav, footer').length") == 4
    assert page.evaluate("[...document.querySelectorAll('table')].filter(table => !table.caption).length") == 0
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(head => +head.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_ids_are_unique_and_every_link_leads_somewhere(page):
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))
    links = page.evaluate("[...document.querySelectorAll('a')].map(link => link.getAttribute('href'))")
    assert len(links) > 500
    assert {link for link in links if link[0] != "#" or link[1:] not in ids} == set()
    labels = page.evaluate(
        "[...document.querySelectorAll('[aria-labelledby]')].map(e => e.getAttribute('aria-labelledby'))"
    )
    assert set(labels) <= set(ids)


def test_a_box_of_the_lineage_leads_to_the_columns(page):
    page.locator("#graph-notifications a[aria-label^='target/NotificationSchedule']").click()
    assert page.evaluate("location.hash") == "#book-NotificationSchedule"
    columns = {row["Column"]: row for row in rows_of(page, "book-NotificationSchedule-notification")}
    assert columns["is_active"]["From"].startswith("send_hold, notification_lookup.coi_send_hold")
    assert "value map send_hold" in columns["is_active"]["How"]
    goes = {row["Column"]: row["Goes to"] for row in rows_of(page, "columns-notification")}
    assert "NotificationSchedule.is_active" in goes["send_hold"]
    lookup = {row["Column"]: row["Else why not"] for row in rows_of(page, "columns-notification_lookup")}
    assert lookup["broker_id"] == "DTX 2.0 has no Broker model (Area 9)"


def test_the_mapping_book_is_whole(page):
    for model, mapping in SYSTEM.mappings.targets.items():
        for table, source in mapping.sources.items():
            if source.columns:
                shown = {row["Column"] for row in rows_of(page, f"book-{model}-{table}")}
                assert shown == set(source.columns)
            if source.dropped:
                dropped = {row["Column"]: row["Why"] for row in rows_of(page, f"dropped-{model}-{table}")}
                assert dropped == dict(source.dropped)
    for name, frame in SYSTEM.mappings.value_maps.items():
        assert len(rows_of(page, f"map-{name}-rows")) == frame.height
    only_archived = {row["Table"] for row in rows_of(page, "archived")}
    assert set(SYSTEM.mappings.archived) <= only_archived


def test_printing_opens_what_is_closed(page):
    page.emulate_media(media="print")
    try:
        assert page.locator("#book-EmailTemplate td").first.bounding_box()["height"] > 5
        assert not page.locator("nav").is_visible()
    finally:
        page.emulate_media(media="screen")


# --- nothing that must not be seen, nothing that runs ---------------------------------------------------------------


def test_personal_data_and_secrets_are_not_on_the_page(page, migrated):
    text = migrated.page.read_text("utf-8")
    assert SECRET not in text
    assert "postgresql://" in text
    assert "Target: postgresql://" in re.sub(r"\s+", " ", text)
    assert re.search(r"://[^:@/]+:(?!\*\*\*)[^@/]+@", text) is None
    addresses = set(re.findall(r"[\w.*+-]+@[\w*-]+\.[A-Za-z]+", text))
    assert addresses == {address for address in addresses if re.fullmatch(r"\w?\*\*\*@\w?\*\*\*\.\w+", address)}
    personal = migrated.ask(
        "SELECT DISTINCT \"row\"->>'letter_body' FROM migration.rejected WHERE source_table = 'letter'"
        " UNION SELECT DISTINCT \"row\"->>'webhook' FROM migration.rejected WHERE source_table = 'notification_webhook'"
        " UNION SELECT DISTINCT \"row\"->>'repo_filepath' FROM migration.rejected WHERE source_table = 'repo_file'"
    )
    held = {value for (value,) in personal if value and len(value) > 8}
    assert len(held) > 20
    shown = page.locator("#rejected").text_content()
    assert {value for value in held if value in shown} == set()


def test_hostile_text_is_text_wherever_it_stands(browser, migrated, tmp_path):
    """Every text of the report is replaced, so that a place that forgets to escape cannot hide."""
    report = spoilt(migrated.report([Obstacle("a/b:c", "failed")]))
    path = write_page(report, tmp_path / "hostile.html")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_timeout(100)
    assert page.title() != "x"
    assert page.evaluate("document.querySelectorAll('script, img, iframe, object').length") == 0
    names = page.evaluate("[...document.querySelectorAll('*')].flatMap(element => element.getAttributeNames())")
    assert {name for name in names if name.startswith("on")} == set()
    shown = page.evaluate("document.body.textContent")
    assert shown.count("<script>") > 1_000
    assert shown.count("{{ 7*7 }}") > 1_000
    assert "\u202e" not in shown
    page.close()


def spoilt(value: Any) -> Any:
    """The same with hostile text behind every text, also where it is a key."""
    if isinstance(value, str):
        return f"{value}{HOSTILE}"
    if isinstance(value, BaseModel):
        name = type(value).__name__
        fields = {key: getattr(value, key) for key in type(value).model_fields}
        return value.model_copy(update={key: spoilt(held) for key, held in fields.items() if (name, key) not in KEPT})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        changed = {
            each.name: spoilt(getattr(value, each.name))
            for each in dataclasses.fields(value)
            if (name, each.name) not in KEPT and each.init
        }
        return dataclasses.replace(value, **changed)
    if isinstance(value, Mapping):
        return {spoilt(key): spoilt(held) for key, held in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return type(value)(map(spoilt, value))
    return value


# --- the command and the asset ---------------------------------------------------------------------------------------


def test_the_command_writes_the_page_where_it_is_asked_to(migrated, tmp_path):
    done = migrated.command("report", "--output", str(tmp_path / "new" / "page.html"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == str(tmp_path / "new" / "page.html")
    assert "No-go" in (tmp_path / "new" / "page.html").read_text("utf-8")


def test_the_run_made_the_asset_last_and_says_the_verdict(migrated):
    with open_instance(migrated.home) as instance:
        key = dg.AssetKey(["dtx", "report", "cutover"])
        [*_, first] = instance.fetch_materializations(key, limit=10).records
        steps = {step.step_key: step for step in instance.get_run_step_stats(first.run_id)}
    metadata = first.asset_materialization.metadata
    assert metadata["verdict"].value == "no-go"
    last = max(steps.values(), key=lambda step: step.start_time)
    assert last.step_key == "dtx_cutover_report"
