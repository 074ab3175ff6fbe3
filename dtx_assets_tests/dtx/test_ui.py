"""The Dagster UI as `dtx ui` serves it, in a real browser: lineage, assets, checks, and the history of runs."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Browser, Page, expect

from dtx_assets.dtx.definitions import defs
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.dagster.run import open_instance
from dtx_assets.machinery.dagster.verification import VERIFIED
from dtx_assets.machinery.postgres.embedded import remove_embedded_postgres
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.patience import PATIENCE
from dtx_assets_tests.servers import free_ports

MADE_OF_ROWS = ("prepared", "rejected", "target")


@contextmanager
def served(home: Path, *options: str) -> Iterator[str]:
    """`dtx ui` in its own process; its address. It must end by itself after a termination."""
    [port] = free_ports(1)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DTX_", "DAGSTER_"))}
    with (home.parent / "ui.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dtx_assets.cli.main", "ui", "--port", str(port), *options],
            cwd=home.parent,
            env={**environment, "DTX_HOME": str(home)},
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{address}/server_info", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (home.parent / "ui.log").read_text()
                assert time.monotonic() < deadline, (home.parent / "ui.log").read_text()
                time.sleep(0.3)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of the UI after two runs of the letters, and the state directory that has them."""
    directory = tmp_path_factory.mktemp("history")
    home = directory / "state"
    dtx = Command(directory, {"DTX_HOME": str(home)})
    for _ in range(2):
        done = dtx("run", "--select", "+target/EmailTemplate or archive/letter")
        assert done.returncode == 3, done.stdout + done.stderr
    with served(home, "--read-only") as address:
        assert f"The cutover page of dtx is at {address}/cutover/dtx" in (directory / "ui.log").read_text()
        yield address, home
    remove_embedded_postgres(home)


@pytest.fixture(scope="module")
def page_of_the_ui(browser: Browser, ui: tuple[str, Path]) -> Iterator[Page]:
    page = browser.new_page(base_url=ui[0], viewport={"width": 2600, "height": 3200})
    yield page
    page.close()


def zoom_out(page: Page) -> None:
    page.mouse.move(1300, 1600)
    page.keyboard.down("Control")
    page.mouse.wheel(0, 200)
    page.keyboard.up("Control")


def test_the_lineage_page_shows_the_assets_of_an_area(page_of_the_ui):
    page_of_the_ui.goto("/locations/dtx/asset-groups/notifications/lineage")
    for name in ("NotificationSchedule", "EmailTemplate", "letter", "notification_webhook"):
        node = page_of_the_ui.get_by_text(re.compile(rf"^{name}$")).first
        # The page draws only the nodes in view, once the layout of the whole group is computed.
        for _ in range(10):
            try:
                expect(node).to_be_visible(timeout=5_000)
                break
            except AssertionError:
                zoom_out(page_of_the_ui)
        expect(node).to_be_visible(timeout=1000 * PATIENCE)


def test_an_asset_page_shows_the_decision_and_the_columns(page_of_the_ui):
    page_of_the_ui.goto("/assets/dtx/target/NotificationSchedule?view=overview")
    expect(page_of_the_ui.get_by_text("Decision A8 #1").first).to_be_visible(timeout=1000 * PATIENCE)
    expect(page_of_the_ui.get_by_text("days_after").first).to_be_visible(timeout=1000 * PATIENCE)


@pytest.fixture(scope="module")
def history(browser: Browser, ui: tuple[str, Path]) -> Iterator[tuple[Page, Path]]:
    """A page of the UI, and the state directory of the runs that it shows."""
    address, home = ui
    page = browser.new_page(base_url=address, viewport={"width": 1600, "height": 3000})
    yield page, home
    page.close()


def test_the_cutover_page_is_served_beside_the_ui_and_the_asset_leads_to_it(history):
    page, _ = history
    page.goto("/assets/dtx/report/cutover?view=overview")
    link = page.locator("a[href$='/cutover/dtx']").first
    expect(link).to_be_visible(timeout=1000 * PATIENCE)
    page.goto(link.get_attribute("href"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("No-go")


def test_row_counts_are_plotted_over_runs(history):
    page, _ = history
    page.goto("/assets/dtx/target/EmailTemplate?view=overview")
    page.get_by_role("button", name="Plots").click(timeout=1000 * PATIENCE)
    for number in ("dagster/row_count", "inserted", "unchanged"):
        expect(page.get_by_text(number, exact=True).first).to_be_visible(timeout=1000 * PATIENCE)


def test_the_verification_is_among_the_checks_of_a_target(history):
    page, _ = history
    page.goto("/assets/dtx/target/EmailTemplate?view=checks")
    page.get_by_text(VERIFIED).first.click(timeout=1000 * PATIENCE)
    expect(page.get_by_text("Each row of the target is compared by value").first).to_be_visible(timeout=1000 * PATIENCE)
    expect(page.get_by_text("owned by others").first).to_be_visible(timeout=1000 * PATIENCE)


@pytest.mark.parametrize("layer", ["legacy/letter", "archive/letter", *(f"{of}/EmailTemplate" for of in MADE_OF_ROWS)])
def test_an_asset_of_rows_tells_its_columns_where_they_come_from_and_its_first_rows(history, layer):
    _, home = history
    key = dg.AssetKey(["dtx", *layer.split("/")])
    with open_instance(home) as instance:
        made = instance.get_latest_materialization_event(key).asset_materialization
    told = {**defs.resolve_asset_graph().get(key).metadata, **made.metadata}
    columns = {column.name: column.description for column in told["dagster/column_schema"].columns}
    assert all(columns.values()), "each says what it is"
    assert told["dagster/row_count"].value > 0
    assert told["dagster/code_references"].code_references
    # A table, which is read without a click.
    preview = told["preview (masked)"].records
    letters = Lake(str(home / "lake")).scan(("dtx", "legacy", "letter")).head(5).collect()
    for body in letters.get_column("letter_body"):
        assert body[:40] not in str(preview)
    assert len(preview) > 3
    if not layer.startswith(("legacy", "rejected")):
        assert set(told["dagster/column_lineage"].column_lineage.deps_by_column) <= set(columns)
        origins = [record.data["from"] for record in told["columns come from"].records]
        assert any("legacy/letter." in origin for origin in origins) or layer.startswith("target")
