"""The cutover page after rehearsals with the sample, in a real browser: what it says equals what the databases say.

What each of its numbers has to be is `report_queries`.
"""

import csv
import dataclasses
import html
import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import dagster as dg
import psycopg
import pytest
import yaml
from playwright.sync_api import Browser, Page
from pydantic import BaseModel

from dtx_assets.dtx.definitions import SYSTEM, defs
from dtx_assets.dtx.system import load_other_areas
from dtx_assets.machinery.checks.obstacles import Obstacle
from dtx_assets.machinery.checks.standard import check_groups
from dtx_assets.machinery.dagster.load_checks import NONE_REJECTED
from dtx_assets.machinery.dagster.run import open_instance
from dtx_assets.machinery.dagster.verification import VERIFIED
from dtx_assets.machinery.load import create_target
from dtx_assets.machinery.postgres.embedded import EmbeddedPostgres
from dtx_assets.machinery.report import Report, gather, write_page
from dtx_assets.machinery.report.figures import Figures, read_figures
from dtx_assets.machinery.report.render import SECTIONS, script_hash
from dtx_assets_tests.dtx.report_queries import Told, told_by_the_history, told_by_the_plan, told_by_the_target
from dtx_assets_tests.forking import run_dtx
from dtx_assets_tests.patience import PATIENCE

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
    """A target database after some rehearsals, and the page."""

    url: str
    home: Path
    page: Path
    command: Callable[..., subprocess.CompletedProcess[str]]

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode()).fetchall()

    def report(self, obstacles: list[Obstacle], accepted: Mapping[str, str] = MappingProxyType({})) -> Report:
        """The page with these obstacles, as if the last run had accepted these."""
        figures = read_figures(self.url, "dtx")
        runs = tuple(dataclasses.replace(run, accepted=dict(accepted)) for run in figures.runs)
        with open_instance(self.home) as instance:
            return gather(
                SYSTEM,
                defs.resolve_asset_graph(),
                instance,
                dataclasses.replace(figures, runs=runs),
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

    legacy = Path(shutil.copytree(SYSTEM.sample_dir, directory / "legacy"))

    def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            **clean,
            "DTX_LEGACY_URL": str(legacy),
            "DTX_TARGET_URL": url,
            "DTX_HOME": str(home),
            "DTX_FILES_PREFIX": SECRET,
            **environment,
        }
        return run_dtx(*arguments, directory=directory, environment=given, seconds=PATIENCE)

    # A rehearsal, one that dies before it loads, one of changed data, and one of an area that is undone.
    done = command("run")
    assert done.returncode == 3, done.stdout + done.stderr
    assert command("run", DTX_FAILPOINT="prepare.before_publish").returncode == -signal.SIGKILL
    remove_keywords(legacy)
    done = command("run")
    assert done.returncode == 3, done.stdout + done.stderr
    reword_letters(legacy)
    done = command("run", "--select", 'group:"notifications"')
    assert done.returncode == 3, done.stdout + done.stderr
    for arguments in (("rollback", "last"), ("report",)):
        done = command(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    yield Migrated(url, home, home / "report" / "cutover.html", command)
    postgres_server.drop_database(name)


def remove_keywords(legacy: Path) -> None:
    header, *lines = (legacy / "keyword.csv").read_bytes().splitlines(keepends=True)
    (legacy / "keyword.csv").write_bytes(b"".join([header, *lines[8:]]))


def reword_letters(legacy: Path) -> None:
    letters = (legacy / "letter.csv").read_bytes()
    (legacy / "letter.csv").write_bytes(letters.replace(b"compliance desk", b"claims desk"))


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


# --- every number is that of a query ----------------------------------------------------------------------------------


def figures_of(page: Page) -> dict[str, set[str]]:
    """What the page shows, by the name of the figure."""
    shown: dict[str, set[str]] = {}
    for name, text in page.evaluate(
        "[...document.querySelectorAll('[data-figure]')].map(e => [e.dataset.figure, e.textContent])"
    ):
        shown.setdefault(name, set()).add(text)
    return shown


@pytest.fixture(scope="module")
def told(page: Page, migrated: Migrated) -> Told:
    """What every figure has to be."""
    now = datetime.fromisoformat(page.locator("header time").get_attribute("datetime"))
    status = json.loads(migrated.command("status", "--json").stdout)
    return {
        **told_by_the_plan(),
        **told_by_the_history(migrated.home, migrated.url, status, in_the_way(status), now),
        **(of_target := told_by_the_target(migrated.url)),
        **told_of_points(migrated, status, of_target),
    }


def told_of_points(migrated: Migrated, status: Mapping[str, Any], of_target: Told) -> Told:
    """What is in the way, put together of the files of the plan, the target database and the states of the checks."""
    plan = yaml.safe_load((SYSTEM.mappings_dir / "decisions.yaml").read_text("utf-8"))
    models = {model for (model,) in migrated.ask("SELECT DISTINCT model FROM migration.load")}
    concerning = [
        entry
        for entry in plan["decisions"]
        # Which bit is which day matters where the bitmap is kept, and it is not.
        if entry["key"] != "dow_bit_order" and (models & set(entry["affects"]) or entry["key"] in ARCHIVED_BY_DECISION)
    ]
    rows: Told = {
        entry["key"]: of_target[f"affected {entry['key']}"] for entry in concerning if entry["status"] == "open"
    }
    kinds = Counter(decision=len(rows))
    waited_for = {entry.get("blocking_action") for entry in concerning}
    undone = [action["id"] for action in plan["actions"] if action["blocking"] and action["id"] in waited_for]
    asked = ["restore_point", *(question["name"] for question in plan["questions"])]
    rows |= dict.fromkeys([*undone, *asked], "–")
    kinds.update(action=len(undone), question=len(asked))
    names = dict(migrated.ask("SELECT DISTINCT target_table, model FROM migration.load"))
    for target, source, reason, many in migrated.ask(
        "SELECT target_table, source_table, reasons[1], count(*)::int FROM migration.rejected"
        " WHERE NOT partial AND reasons[1] <> 'target_conflict' GROUP BY 1, 2, 3"
    ):
        rows[f"{names[target]}/{source}/{reason}"] = many
        kinds.update(rejected=1)
    finer = r".*:(decisions_are_confirmed|blocking_actions_are_done|no_\w+_row_is_rejected|rows_satisfy_schemas)"
    for name in (name for name in in_the_way(status) if not re.fullmatch(finer, name)):
        rows[name] = rows_of_check(migrated, name)
        kinds.update(check=1)
    return {
        "points": len(rows),
        **{f"points rows {name}": many for name, many in rows.items()},
        **{f"points {kind}": many for kind, many in kinds.items()},
        **{f"points of owner {owner}": many for owner, many in owners_of(migrated).items()},
    }


ARCHIVED_BY_DECISION = ("envelope", "imap_upload", "vornado_feed")


def rows_of_check(migrated: Migrated, name: str) -> int | str:
    """The `rows` of the last evaluation; of what a target does not hold as mapped, how many rows it are."""
    asset, _, check = name.partition(":")
    key = dg.AssetCheckKey(dg.AssetKey(["dtx", *asset.split("/")]), check)
    with open_instance(migrated.home) as instance:
        execution = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    metadata = execution.event.asset_check_evaluation.metadata
    found = metadata.get("count" if check == VERIFIED else "rows")
    return "–" if found is None else found.value


def owners_of(migrated: Migrated) -> Counter[str]:
    """How much each owner has to do; which that is, is a test of its own."""
    return Counter(obstacle["owner"] for obstacle in json.loads(migrated.command("todo", "--json").stdout))


def todo_rows(page: Page) -> list[dict[str, str]]:
    places = page.evaluate("[...document.querySelectorAll('.owners a')].map(a => a.hash.slice(1))")
    return [row for place in places for row in rows_of(page, place)]


def in_the_way(status: Mapping[str, Any]) -> dict[str, str]:
    """The checks that keep the load of a cutover back, by name; here all were evaluated."""
    closing = {
        f"{'/'.join(group.asset)}:{spec.name}"
        for group in check_groups(SYSTEM)
        for spec in group.specs
        if spec.blocking or spec.structure
    }
    failed = {f"{check['asset']}:{check['name']}" for check in status["checks"] if check["state"] == "failed"}
    unlike = {name for name in failed if name.endswith(f":{VERIFIED}")}
    refused = {name for name in failed if name.endswith(f":{NONE_REJECTED}")}
    return dict.fromkeys(failed & closing | refused, "failed") | dict.fromkeys(unlike, "not as mapped")


def test_every_number_of_the_page_is_that_of_a_query(page, told):
    shown = figures_of(page)
    assert len(shown) > 1_000
    asked = {name: {f"{value:,}" if isinstance(value, int) else value} for name, value in told.items()}
    assert {name: (texts, asked.get(name)) for name, texts in shown.items() if texts != asked.get(name)} == {}


def test_no_figure_is_left_out(page, told):
    """But of rejected rows there are a few examples, and of assets those that are rows."""
    left_out = {name.split(" ")[0] for name in told.keys() - figures_of(page).keys() if "rejected like" not in name}
    assert left_out <= {"asset", "made"}
    assert {name for name in told if name.startswith("asset target/")} <= figures_of(page).keys()


def test_what_was_rejected_and_dropped_and_what_a_run_undid_is_there_to_be_told(migrated, told):
    """Else the tests above would compare nothing."""
    assert told["points"] > 10
    for name in ("rejected whole", "rejected part", "conflicts", "vanished", "coerced", "dropped by", "drawn"):
        assert [figure for figure, value in told.items() if figure.startswith(name) and value], name
    runs = dict(migrated.ask("SELECT run_id, status FROM migration.run ORDER BY started_at"))
    assert list(runs.values()) == ["succeeded", "succeeded", "rolled back"]
    assert told[f"run updated {list(runs)[-1]}"] > 0
    assert told["window of runs"] == 2
    assert len({name for name in told if name.startswith("run took")}) == 4


def test_no_number_is_on_the_page_that_is_not_a_figure_or_of_a_text_of_the_plan(page, migrated, browser, tmp_path):
    """Were all texts of the report without digits, the page would have digits in figures and pictures only."""
    report = changed(
        migrated.report([Obstacle("check", "a/b:c", "a/b", "failed")]), lambda text: re.sub(r"\d", "n", text)
    )
    bare = browser.new_page()
    bare.goto(write_page(report, tmp_path / "bare.html").as_uri())
    texts = bare.evaluate(
        """() => {
            document.querySelectorAll('[data-figure], title, style, script').forEach(element => element.remove())
            return document.body.textContent.split("\\n").filter(line => /\\d/.test(line)).map(line => line.trim())
        }"""
    )
    bare.close()
    assert {text for text in texts if not re.search(CONSTANTS, text)} == set()


CONSTANTS = r"50 % are added in reserve|A check warns above 1 % of them|A\d+ #n"
"""Numbers that the product chooses, not the data, and those of the plan's areas."""


def test_the_pictures_say_of_each_box_and_ribbon_what_the_figures_say(page, told):
    boxes = page.evaluate(
        """[...document.querySelectorAll('svg .box')].map(box =>
            [box.getAttribute('aria-label'), box.querySelector('[data-figure]')?.textContent])"""
    )
    assert len(boxes) > 100
    for label, rows in boxes:
        assert rows is None or f" {rows} rows" in label
    ribbons: Counter[str] = Counter()
    for title in page.evaluate("[...document.querySelectorAll('[id^=flow-] .line title')].map(t => t.textContent)"):
        table, fate, rows = re.fullmatch(r"(\S+) → (.*): ([\d,]+) rows", title).groups()
        ribbons.update({table: number(rows), fate: number(rows)})
    areas = {table.name: table.area for table in SYSTEM.legacy_tables.values()}
    for table, area in areas.items():
        assert ribbons[table] == told[f"drawn {area} table {table}"]
    assert ribbons["Rejected: unparseable"] == sum(
        told[f"drawn {area} rejected unparseable"] for area in set(areas.values())
    )
    assert ribbons["Dropped: expired"] == told["drawn file_repository dropped expired"] > 0


def test_the_list_of_rejected_rows_says_what_the_flow_counts(told):
    """Two ways to the same number: of each flow what the accounting says, and what is listed."""
    listed: Counter[str] = Counter()
    for name, value in told.items():
        if found := re.fullmatch(r"rejected whole (\S+ \S+) \S+", name):
            listed[found[1]] += value
    assert {f"rejected {flow}": rows for flow, rows in listed.items()} == {
        name: rows
        for name, rows in told.items()
        if re.fullmatch(r"rejected (?!whole|part|of|like|kinds)\S+ \S+", name) and rows
    }


# --- decisions --------------------------------------------------------------------------------------------------------


def test_decisions_have_text_options_choice_status_who_confirms_and_the_blocking_action(page):
    text = page.locator("#decision-timing_semantics").inner_text()
    decision = SYSTEM.decisions.entry("timing_semantics")
    for told in (decision.title, decision.text, "open", decision.confirm_by, "A8-1: Confirm timing semantics"):
        assert told in text
    assert "incremental (chosen) · cumulative" in text
    assert page.locator("article.decision").count() == len(SYSTEM.decisions.entries)


# --- readiness --------------------------------------------------------------------------------------------------------


def test_the_page_says_no_go_for_what_the_gate_finds(page, migrated):
    way = in_the_way(json.loads(migrated.command("status", "--json").stdout))
    assert page.title() == "No-go: cutover of dtx"
    todo = json.loads(migrated.command("todo", "--json").stdout)
    assert f"{len(todo)} points stand in the way" in page.locator("h1").inner_text()
    assert {row["What"].split(" ")[0] for row in todo_rows(page)} == {obstacle["name"] for obstacle in todo}
    assert {check for obstacle in todo for check in obstacle["checks"]} == set(way)
    areas = ("notifications", "file_repository")
    shown = [row["Check"] for area in areas for row in rows_of(page, f"board-{area}-way")]
    assert {re.search(r"(\S+/\S+): (\w+)", check).expand(r"\1:\2") for check in shown} == set(way)
    asked = {obstacle["name"] for obstacle in todo if obstacle["kind"] == "question"}
    assert asked == {"restore_point", *(question.name for question in SYSTEM.questions)}


def test_each_owner_has_what_that_owner_has_to_do(page, migrated):
    owners = page.evaluate("[...document.querySelectorAll('.owners a')].map(a => [a.textContent, a.hash.slice(1)])")
    todo = json.loads(migrated.command("todo", "--json").stdout)
    assert len(owners) > 5
    assert {owner for owner, _ in owners} == {obstacle["owner"] for obstacle in todo}
    for owner, place in owners:
        theirs = {obstacle["name"] for obstacle in todo if obstacle["owner"] == owner}
        assert {row["What"].split(" ")[0] for row in rows_of(page, place)} == theirs
    alone = json.loads(migrated.command("todo", "--owner", "compliance", "--json").stdout)
    assert {obstacle["name"] for obstacle in alone} == {
        obstacle["name"] for obstacle in todo if "compliance lead" in obstacle["owner"].split(", ")
    }
    nobody = migrated.command("todo", "--owner", "nobody of that name")
    assert nobody.returncode == 2
    assert "compliance lead" in nobody.stderr


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
    report = migrated.report([Obstacle("check", "a/b:unheard_of", "a/b", "failed")])
    assert not report.readiness.go
    assert [obstacle.finding for obstacle in report.readiness.todo] == ["failed"]
    assert migrated.report([]).readiness.go


def test_a_target_that_does_not_hold_what_the_mapping_gives_is_no_go_until_that_is_accepted(migrated):
    name = f"target/EmailTemplate:{VERIFIED}"
    unlike = [Obstacle("check", name, "target/EmailTemplate", "1 changed", checks=frozenset([name]))]
    readiness = migrated.report(unlike).readiness
    assert (readiness.go, readiness.todo) == (False, tuple(unlike))
    assert migrated.report(unlike, {name: "mended by hand"}).readiness.go


def test_target_rows_that_were_left_because_their_source_rows_are_gone_are_a_warning(migrated):
    states = json.loads(migrated.command("status", "--json").stdout)["checks"]
    [check] = [check for check in states if (check["asset"], check["name"]) == ("target/AccountMeta", VERIFIED)]
    assert check["state"] == "warned"
    assert check["count"] == migrated.ask("SELECT count(*) FROM migration.vanished")[0][0] > 0


def test_what_a_question_asks_is_shown_and_does_not_make_it_no_go(migrated):
    report = migrated.report([Obstacle("question", SYSTEM.questions[0].name, "asked at the cutover", "has it?")])
    assert report.readiness.go
    assert [obstacle.finding for obstacle in report.readiness.todo] == ["has it?"]


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
    assert page.evaluate(CONTRAST) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(246, 247, 249)"
    assert dark == (scheme == "dark")
    context.close()


CONTRAST = """() => {
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
            .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        return .2126 * r + .7152 * g + .0722 * b
    }
    const under = element => {
        const drawn = element.closest('.box')?.querySelector('rect')
        if (drawn && element.closest('[id^=graph-]')) return getComputedStyle(drawn).fill
        const colour = getComputedStyle(element).backgroundColor
        return colour === "rgba(0, 0, 0, 0)" ? under(element.parentElement) : colour
    }
    const wrong = new Set()
    for (const element of document.querySelectorAll("body *")) {
        const said = [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim())
        if (!said || !element.checkVisibility() || element.localName === "title") continue
        const style = getComputedStyle(element)
        const colour = element.closest("svg") ? style.fill : style.color
        const pair = [light(colour), light(under(element))].sort((a, b) => b - a)
        if ((pair[0] + .05) / (pair[1] + .05) < 4.5) wrong.add(element.localName + " " + element.className)
    }
    return [...wrong]
}"""
"""Which elements say something in a colour too near to that behind them (WCAG 2.2, AA: 4.5 to 1)."""


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


def test_tables_and_pictures_can_be_read_aloud(page):
    assert page.evaluate("[...document.querySelectorAll('th:not([scope])')].length") == 0
    headless = (
        """[...document.querySelectorAll('tbody tr')].filter(row => !row.querySelector('th[scope=row]')).length"""
    )
    assert page.evaluate(headless) == 0
    assert (
        page.evaluate("[...document.querySelectorAll('table')].filter(table => !table.tBodies[0].rows.length).length")
        == 0
    )
    captions = page.evaluate("[...document.querySelectorAll('caption')].map(caption => caption.textContent)")
    assert len(captions) == len(set(captions))
    unnamed = """[...document.querySelectorAll('svg, svg .box, [role], section, nav')]
        .filter(e => !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby')).length"""
    assert page.evaluate(unnamed) == 0
    assert page.evaluate("[...document.querySelectorAll('svg g.box')].every(box => box.getAttribute('role') == 'img')")
    assert page.evaluate("document.documentElement.lang") == "en"


def test_all_that_can_be_used_is_reached_by_keyboard_in_order_and_seen_when_it_is(browser, migrated):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(migrated.page.as_uri())
    # With the boards of checks closed, else it takes a minute.
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = false)")
    usable = page.evaluate(
        """() => {
            window.usable = [...document.querySelectorAll('a[href], summary, input, [tabindex="0"]')]
                .filter(element => element.checkVisibility())
            return usable.length
        }"""
    )
    assert usable > 150
    reached, unseen = [], set()
    for _ in range(usable):
        page.keyboard.press("Tab")
        place, seen, name = page.evaluate(
            """() => {
                const element = document.activeElement, box = element.querySelector(':scope > rect')
                const style = getComputedStyle(box ?? element)
                const seen = box ? parseFloat(style.strokeWidth) >= 3 : parseFloat(style.outlineWidth) >= 2
                return [usable.indexOf(element), seen, element.outerHTML.slice(0, 80)]
            }"""
        )
        reached.append(place)
        if not seen:
            unseen.add(name)
    page.close()
    assert reached == list(range(usable))
    assert unseen == set()


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


def test_the_lineage_leads_from_a_box_to_its_columns_to_where_they_come_from_and_back(page):
    def follow(link: str) -> str:
        page.locator(link).first.click()
        target = page.locator(":target")
        assert target.count() == 1
        # A target in a closed part of the page is opened, and is in sight below the bar of sections.
        assert target.bounding_box()["height"] > 5
        assert page.evaluate("document.querySelector(':target').getBoundingClientRect().top") >= 40
        return target.get_attribute("id")

    assert follow("#graph-notifications a[aria-label^='target/NotificationSchedule']") == "book-NotificationSchedule"
    column = "made-NotificationSchedule-notification-is_active"
    assert follow(f"#{column} a:text-is('send_hold')") == "column-notification-send_hold"
    assert follow("#column-notification-send_hold a:text-is('NotificationSchedule.is_active')") == column
    back = "#book-NotificationSchedule a:text-is('Show it in the picture')"
    assert follow(back) == "box-notifications-target-NotificationSchedule"
    assert follow("#graph-notifications a[aria-label^='legacy/letter']") == "table-letter"
    assert follow("#table-letter a:text-is('Show it in the picture')") == "box-notifications-legacy-letter"


def test_the_columns_say_where_they_come_from_and_where_they_go(page):
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
            if source.filled:
                shown = {row["Column"].split(" of part ")[0] for row in rows_of(page, f"book-{model}-{table}")}
                assert shown == {name for name, _ in source.filled}
            if source.dropped:
                dropped = {row["Column"]: row["Why"] for row in rows_of(page, f"dropped-{model}-{table}")}
                assert dropped == dict(source.dropped)
    for name, frame in SYSTEM.mappings.value_maps.items():
        assert len(rows_of(page, f"map-{name}-rows")) == frame.height
    only_archived = {row["Table"] for row in rows_of(page, "archived")}
    assert set(SYSTEM.mappings.archived) <= only_archived


def test_on_paper_stand_the_verdict_the_to_do_what_stays_behind_and_the_sums_on_six_sheets(browser, migrated):
    """The rest is folded, and a line says where it is; nothing is cut at the right edge: 186 mm are 703 pixels."""
    page = browser.new_page(viewport={"width": 703, "height": 1000}, color_scheme="dark")
    page.goto(migrated.page.as_uri())
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    shown = {
        caption
        for caption in ("flow", "rejected", "runs", "became")
        if page.locator(f"#{caption}-caption").is_visible()
    }
    assert shown == {"flow", "rejected", "runs", "became"}
    owners = page.locator(".owners a").count()
    assert page.locator(".todo caption:visible").count() == owners > 5
    folded = ("lineage", "decisions", "mapping", "coercions")
    assert [name for name in folded if page.locator(f"#{name}").is_visible()] == []
    assert page.locator("details:visible").count() == 0
    told = page.locator(".on-paper").inner_text()
    assert [title for id_, title in SECTIONS if id_ in folded and title not in told] == []
    assert "cutover.html" in told
    sheets = re.findall(rb"/Type\s*/Page[^s]", page.pdf(format="A4", prefer_css_page_size=True))
    assert 3 <= len(sheets) <= 6
    wide = """[...document.querySelectorAll('table, svg, .card')].filter(e => e.getBoundingClientRect().right > 704)
        .map(e => e.caption?.textContent ?? e.id)"""
    assert page.evaluate(wide) == []
    # Black on white, whatever the screen was.
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(CONTRAST) == []
    page.close()


def test_the_trend_is_a_picture_of_the_whole_runs_that_says_what_the_table_says(page):
    """Of the two whole runs; neither of the one that was undone nor of the one that died."""
    runs = rows_of(page, "runs")
    whole = [row for row in runs[::-1] if row["In the way"] != "–"]
    assert len(whole) == 2
    for place, column in enumerate(("Rejected", "In the way")):
        panel = page.locator(".trend").nth(place)
        assert panel.locator("text").all_text_contents() == [row[column] for row in whole]
        heights = [float(bar.get_attribute("height")) for bar in panel.locator("rect").all()]
        values = [number(row[column]) for row in whole]
        assert heights == pytest.approx([120 * value / max(values) for value in values], abs=0.1)
        told_in_words = panel.locator("svg").get_attribute("aria-label")
        assert told_in_words.endswith(f"the oldest run first: {', '.join(row[column] for row in whole)}")


def test_a_failed_check_says_what_it_found_what_to_do_and_how_it_was_before(page):
    for area in ("notifications", "file_repository"):
        rows = page.locator(f"#board-{area}-way-caption").locator("xpath=..").locator("tbody tr")
        assert rows.count() == rows.filter(has=page.locator(".do")).count() > 5
    others = rows_of(page, "board-notifications-other")
    states = [row["State"].removesuffix(" blocks") for row in others]
    assert states == sorted(states, key=["failed", "never run", "not finished", "running", "accepted", "warned"].index)
    assert "failed" in states
    failed = [row["Check"] for row in others if row["State"].startswith("failed")]
    assert all(re.search(r"failed \d+ of the last \d+ times", check) for check in failed)


def test_a_search_leaves_what_has_the_words_and_gives_back_what_was_there(browser, migrated):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(migrated.page.as_uri())
    opened = "[...document.querySelectorAll('details')].map(details => details.open)"
    before = page.evaluate(opened)
    page.keyboard.press("/")
    page.keyboard.type("SEND_hold")
    # With what they are inside of: of a value map that is called so, all entries are there.
    visible = page.locator("main tbody > tr:visible, main article:visible").evaluate_all(
        "shown => shown.map(each => each.textContent + each.closest('.inside')?.parentElement.textContent)"
    )
    assert page.locator("#found").text_content() == f"{len(visible)} places"
    assert len(visible) > 5
    assert [text for text in visible if "send_hold" not in text.lower()] == []
    assert page.locator("#column-notification-send_hold").is_visible()
    assert not page.locator("#column-letter-letter_id").is_visible()
    # Of a table that is called so, each column.
    page.locator("#search").fill("imap_upload")
    columns = len(SYSTEM.legacy_tables["imap_upload"].columns)
    assert (
        page.locator("#columns-imap_upload-caption").locator("xpath=..").locator("tbody tr:visible").count() == columns
    )
    page.locator("#search").fill("nothing-of-this-name")
    assert page.locator("#found").text_content() == "nothing is called so"
    assert page.locator("main section:visible").count() == 0
    page.keyboard.press("Escape")
    assert page.evaluate(opened) == before
    assert page.locator("main section:visible").count() == len(SECTIONS)
    # What a link leads to is there, whatever was looked for.
    page.locator("#search").fill("send_hold")
    page.locator("main a:visible").last.click()
    assert page.locator(":target").is_visible()
    assert page.locator("#search").input_value() == ""
    page.close()


def test_one_number_has_one_name_rows_of_the_source_or_of_the_target(page, told):
    """Else 310 rows of the source and the thousands of the target that they became are both `rows`."""
    became = {row["Target"]: row for row in rows_of(page, "became")}
    row = became["NotificationSchedule"]
    assert number(row["Of the source"]) < number(row["Of the target"]) == told["asset target/NotificationSchedule"]
    drawn = page.locator("[id^=flow-] .box[aria-label^='NotificationSchedule']").get_attribute("aria-label")
    assert drawn == f"NotificationSchedule: {row['Of the source']} rows of the source"
    box = page.locator("#graph-notifications a[aria-label^='target/NotificationSchedule']").get_attribute("aria-label")
    assert box == f"target/NotificationSchedule, {row['Of the target']} rows of the target"


STAGES_SHOWN = {
    "document_expiration/alert": ["CEEXPAlertSetting", "CEEXPAlertSetting", "CEEXPAlertTiming"],
    "coi_non_compliance/final": ["CNCSSetting", "CNCFSetting + CNCSSetting", "a constant"],
    "document_request/initial": ["a constant", "a constant", "a constant"],
}


def test_on_a_phone_tables_are_lists_with_the_names_of_the_columns(browser, migrated):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(migrated.page.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    cut = """[...document.querySelectorAll('.stacked')].filter(e => e.scrollWidth > e.clientWidth)
        .map(e => e.querySelector('caption').textContent)"""
    assert page.evaluate(cut) == []
    # Bars in place of pictures that would be cut; of each table all its rows.
    assert page.locator(".picture:visible").count() == 0
    bars = page.locator(".bars:visible li")
    assert bars.count() > 10
    widths = """[...document.querySelectorAll('.bars .bar')].map(bar =>
        Math.abs([...bar.children].reduce((all, part) => all + parseFloat(part.style.width), 0) - 100))"""
    assert max(page.evaluate(widths)) < 1
    assert page.evaluate(
        "[...document.querySelectorAll('.trend svg')].every(svg => svg.getBoundingClientRect().right <= 390)"
    )
    label = "getComputedStyle(document.querySelector('#runs-caption + * + tbody tr').cells[3], '::before').content"
    assert page.evaluate(label) == '"Took"'
    # A remedy that stands beside several rows is that of each of them.
    again = page.locator("td.again")
    assert again.count() > 5
    assert again.locator("visible=true").count() == again.count()
    page.set_viewport_size({"width": 1280, "height": 844})
    assert again.locator("visible=true").count() == 0
    page.close()


def test_what_most_rows_are_rejected_for_comes_first(browser, migrated):
    page = browser.new_page()
    page.goto(migrated.page.as_uri())
    tables = [
        [number(text) for text in body.locator("> tr > td.n").all_inner_texts()]
        for body in page.locator("#rejected table > tbody").all()
    ]
    assert tables == [sorted(counts, reverse=True) for counts in tables]
    assert tables[0][0] > tables[0][-1]
    page.close()


def test_the_mapping_book_says_which_cells_make_a_schedule_stage_by_stage(browser, migrated):
    page = browser.new_page()
    page.goto(migrated.page.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    row = page.locator("#made-NotificationSchedule-notification-days_after")
    listed = page.locator(row.get_by_role("link", name="by stage, below").get_attribute("href"))
    cells = {stage: listed.locator("tr", has_text=stage).locator("td") for stage in STAGES_SHOWN}
    assert {stage: found.all_inner_texts() for stage, found in cells.items()} == STAGES_SHOWN
    place = cells["document_expiration/alert"].nth(1).get_by_role("link").get_attribute("href")
    assert page.locator(place).get_by_text("CEEXPAlertSetting").count() == 1
    page.close()


# --- nothing that must not be seen, nothing that runs ---------------------------------------------------------------


def test_no_secret_is_in_the_file(migrated):
    text = migrated.page.read_text("utf-8")
    password = urlsplit(migrated.url).password
    assert password
    assert password not in text
    assert SECRET not in text
    assert "Target: postgresql://" in re.sub(r"\s+", " ", text)
    assert re.search(r"://[^:@/]+:(?!\*\*\*)[^@/]+@", text) is None


def test_nothing_personal_is_in_the_file(migrated):
    """Nothing of the rows that were rejected, of which it shows some, nor of any other row of the legacy files."""
    text = html.unescape(migrated.page.read_text("utf-8"))
    addresses = set(re.findall(r"[\w.*+-]+@[\w*-]+\.[A-Za-z]+", text))
    assert addresses == {address for address in addresses if re.fullmatch(r"\w?\*\*\*@\w?\*\*\*\.\w+", address)}
    assert addresses
    held = set()
    for table, row in migrated.ask('SELECT source_table, "row" FROM migration.rejected'):
        held |= {row[column] for column in SYSTEM.legacy_tables[table].personal}
    for table in SYSTEM.legacy_tables.values():
        if table.personal:
            with (SYSTEM.sample_dir / f"{table.name}.csv").open(newline="", encoding="latin-1") as file:
                held |= {row[column] for row in csv.DictReader(file) for column in table.personal}
    said = {value for value in held if value and len(value) > 10}
    assert len(said) > 500
    assert {value for value in said if value in text} == set()


def test_hostile_text_is_text_wherever_it_stands(browser, migrated, tmp_path):
    """Every text of the report is replaced, so that a place that forgets to escape cannot hide."""
    report = changed(migrated.report([Obstacle("check", "a/b:c", "a/b", "failed")]), lambda text: text + HOSTILE)
    path = write_page(report, tmp_path / "hostile.html")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_timeout(100)
    assert page.title() != "x"
    assert page.evaluate("document.querySelectorAll('img, iframe, object').length") == 0
    # One script is the page's own; the policy lets no other run.
    [script] = page.evaluate("[...document.querySelectorAll('script')].map(script => script.textContent)")
    assert script == files("dtx_assets.machinery.report").joinpath("templates", "search.js").read_text("utf-8")
    policy = page.locator("meta[http-equiv='Content-Security-Policy']").get_attribute("content")
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src '{script_hash(script)}';" in policy
    assert policy.count("script-src") == 1
    names = page.evaluate("[...document.querySelectorAll('*')].flatMap(element => element.getAttributeNames())")
    assert {name for name in names if name.startswith("on")} == set()
    shown = page.evaluate("document.body.textContent")
    assert shown.count("<script>") > 1_000
    assert shown.count("{{ 7*7 }}") > 1_000
    assert "\u202e" not in shown
    page.close()


def changed(value: Any, change: Callable[[str], str]) -> Any:
    """The same with every text changed, also where it is a key."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, BaseModel):
        name = type(value).__name__
        fields = {key: getattr(value, key) for key in type(value).model_fields}
        return value.model_copy(
            update={key: changed(held, change) for key, held in fields.items() if (name, key) not in KEPT}
        )
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        fields = {
            each.name: changed(getattr(value, each.name), change)
            for each in dataclasses.fields(value)
            if (name, each.name) not in KEPT and each.init
        }
        return dataclasses.replace(value, **fields)
    if isinstance(value, Mapping):
        return {changed(key, change): changed(held, change) for key, held in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return type(value)(changed(held, change) for held in value)
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
