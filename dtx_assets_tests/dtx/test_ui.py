"""The Dagster UI as `dtx ui` serves it, in a real browser: the lineage page shows the migration, with its history."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

READY_SECONDS = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(home: Path, *options: str) -> Iterator[str]:
    """`dtx ui` in its own process; its address. It must end within seconds of a termination."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DTX_", "DAGSTER_"))}
    with (home.parent / "ui.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dtx_assets.cli", "ui", "--port", str(port), *options],
            cwd=home.parent,
            env={**environment, "DTX_HOME": str(home)},
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + READY_SECONDS
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
        assert process.wait(timeout=60) == 0


@pytest.fixture(scope="module")
def page_of_the_ui(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with served(tmp_path_factory.mktemp("ui") / "state", "--read-only") as address:
        page = browser.new_page(base_url=address, viewport={"width": 2600, "height": 3200})
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
        expect(node).to_be_visible(timeout=20_000)


def test_an_asset_page_shows_the_decision_and_the_columns(page_of_the_ui):
    page_of_the_ui.goto("/assets/dtx/target/NotificationSchedule?view=overview")
    expect(page_of_the_ui.get_by_text("Decision A8 #1").first).to_be_visible(timeout=60_000)
    expect(page_of_the_ui.get_by_text("days_after").first).to_be_visible(timeout=60_000)
