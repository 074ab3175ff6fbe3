"""Pages of other origins and the served UI, in a real browser: they start nothing and see nothing; the UI does work."""

import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, expect

from dtx_assets.machinery.postgres.embedded import remove_embedded_postgres
from dtx_assets_tests.dtx.commands import WORKSPACE_OF_DTX
from dtx_assets_tests.dtx.test_ui import served
from dtx_assets_tests.patience import PATIENCE

RUNS = "{ runsOrError { ... on Runs { results { runId jobName } } } }"
LAUNCH = """mutation { launchRun(executionParams: {mode: "default", selector: {repositoryLocationName: "dtx",
 repositoryName: "__repository__", jobName: "dtx_diagnose"}}) { __typename ... on PythonError { message } } }"""
ASSETS = "{ assetsOrError { ... on AssetConnection { nodes { id } } } }"

ATTACK = """
async ([address, mutation, query]) => {
  const [launch, read] = [mutation, query].map(encodeURIComponent).map(text => `${address}/graphql?query=${text}`)
  const body = JSON.stringify({query: mutation})
  const seen = []
  const see = (what, text) => seen.push(`${what}: ${text}`)
  const tag = (name, where) => new Promise(done => {
    const element = document.createElement(name)
    element.onload = () => { if (name !== 'iframe') see(name, 'loaded'); done() }
    element.onerror = done
    element.src = where
    document.body.append(element)
    setTimeout(done, 2000)
  })
  const tries = []
  for (const url of [launch, read, `${address}/server_info`, `${address}/assets`]) {
    tries.push(tag('img', url), tag('script', url), tag('iframe', url))
    tries.push(fetch(url, {mode: 'no-cors', credentials: 'include'}))
    tries.push(fetch(url).then(answer => answer.text()).then(text => see(url, text)))
  }
  const kinds = ['text/plain', 'text/plain; application/json', 'application/x-www-form-urlencoded', 'application/json']
  for (const kind of kinds) {
    for (const mode of ['no-cors', 'cors']) {
      const sent = fetch(launch, {method: 'POST', mode, body, headers: {'Content-Type': kind}})
      tries.push(sent.then(answer => answer.text()).then(text => text && see(kind, text)))
    }
    navigator.sendBeacon(launch, new Blob([body], {type: kind}))
  }
  for (const method of ['get', 'post']) {
    const form = document.createElement('form')
    const frame = document.createElement('iframe')
    frame.name = `into-${method}`
    Object.assign(form, {method, action: launch, enctype: 'text/plain', target: frame.name})
    const field = document.createElement('input')
    Object.assign(field, {name: 'query', value: mutation})
    form.append(field)
    document.body.append(frame, form)
    form.submit()
  }
  window.open(launch)
  tries.push(new Promise(done => {
    const socket = new WebSocket(`${address.replace('http', 'ws')}/graphql`, 'graphql-ws')
    socket.onopen = () => { see('websocket', 'open'); done() }
    socket.onerror = done
  }))
  await Promise.allSettled(tries)
  return seen
}
"""


@contextmanager
def other_site() -> Iterator[int]:
    """A web server with an empty page under every name that leads to this machine; its port."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>Another page</title><body>")

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(address: str, query: str) -> dict:
    request = urllib.request.Request(
        f"{address}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)["data"]


def runs(address: str) -> list[str]:
    return [run["jobName"] for run in ask(address, RUNS)["runsOrError"]["results"]]


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("guarded") / "state"
    (home.parent / "workspace.yaml").write_text(WORKSPACE_OF_DTX)
    with served(home) as address:
        yield address
    remove_embedded_postgres(home)


@pytest.mark.parametrize("name", ["evil.localhost", "127.0.0.1", "localhost"])
def test_a_page_of_another_origin_starts_and_sees_nothing(browser: Browser, ui: str, name: str):
    with other_site() as port:
        page = browser.new_page()
        page.goto(f"http://{name}:{port}/")
        seen = page.evaluate(ATTACK, [ui, LAUNCH, ASSETS])
        page.context.close()
    assert seen == []
    assert runs(ui) == []


def test_a_name_that_was_led_to_this_machine_reaches_nothing(browser: Browser, ui: str):
    """DNS rebinding: the page is of the same origin then, as the browser sees it."""
    page = browser.new_page()
    answer = page.goto(f"http://evil.localhost:{urlsplit(ui).port}/")
    assert answer is not None
    assert answer.status == 421
    assert f"open {ui}" in answer.text()
    launch = """query => fetch('/graphql', {method: 'POST', headers: {'Content-Type': 'application/json'},
        body: JSON.stringify({query})}).then(answer => answer.status)"""
    assert page.evaluate(launch, LAUNCH) == 421
    page.context.close()
    assert runs(ui) == []


def test_a_link_on_another_page_opens_the_ui_but_not_graphql(browser: Browser, ui: str):
    with other_site() as port:
        for path, status in (("/assets", 200), (f"/graphql?query={quote(LAUNCH)}", 403)):
            # Each in a page of its own: the UI, once open, goes on navigating.
            page = browser.new_page()
            page.goto(f"http://localhost:{port}/")
            with page.expect_response(f"{ui}/**") as answer:
                page.evaluate("address => { location.href = address }", f"{ui}{path}")
            assert answer.value.status == status
            page.context.close()


def test_the_ui_launches_a_run_and_shows_it_live(browser: Browser, ui: str):
    """What was refused above is done where the UI itself asks for it."""
    page = browser.new_page(viewport={"width": 1800, "height": 1400})
    refused, frames = [], []
    page.on("response", lambda answer: refused.append(answer.url) if answer.status in (403, 405, 415, 421) else None)
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(str(frame))))
    page.goto(f"{ui}/locations/dtx/jobs/dtx_diagnose/playground")
    page.get_by_role("button", name="Launch Run").click(timeout=1000 * PATIENCE)
    page.wait_for_url("**/runs/*", timeout=1000 * PATIENCE)
    expect(page.get_by_text(re.compile("^(Success|Failure)$")).first).to_be_visible(timeout=1000 * PATIENCE)
    page.wait_for_timeout(500)
    assert any("pipelineRunLogs" in frame for frame in frames), frames[:5]
    page.context.close()
    assert refused == []
    assert runs(ui) == ["dtx_diagnose"]
