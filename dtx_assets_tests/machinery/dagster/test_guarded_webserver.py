"""The guard before the webserver lets through what the UI sends, and nothing else; with a browser: `dtx/test_ui.py`."""

import asyncio
from collections.abc import Callable

import pytest
from starlette.responses import PlainTextResponse

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.dagster.guarded_webserver import Guard, proxied_origin
from dtx_assets.machinery.dagster.served_pages import Pages

PORT = 3000
HOST = ("host", f"127.0.0.1:{PORT}")
JSON = ("content-type", "application/json")
OWN = ("origin", f"http://127.0.0.1:{PORT}")


def answer_of(
    *headers: tuple[str, str],
    method: str = "GET",
    path: str = "/assets",
    kind: str = "http",
    proxied: str | None = None,
) -> tuple[int | str, dict[str, str]]:
    """The status (of a websocket, what was said to it) and the headers with which a request is answered."""
    sent: list[dict] = []

    async def app(scope, receive, send):
        if kind == "websocket":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        return {"type": f"{kind}.request"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": kind,
        "path": path,
        "server": ("127.0.0.1", PORT),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        **({"method": method} if kind == "http" else {}),
    }
    asyncio.run(Guard(app, proxied)(scope, receive, send))
    if kind == "websocket":
        return sent[0]["type"], {}
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],
        [HOST, ("sec-fetch-site", "none")],
        [HOST, OWN, ("sec-fetch-site", "same-origin")],
        [("host", f"localhost:{PORT}"), ("origin", f"http://localhost:{PORT}")],
        [("host", f"LocalHost:{PORT}")],
        [("host", f"[::1]:{PORT}")],
    ],
)
def test_what_the_ui_sends_gets_through(headers):
    assert answer_of(*headers)[0] == 200
    assert answer_of(*headers, JSON, method="POST", path="/graphql")[0] == 200
    assert answer_of(*headers, kind="websocket", path="/graphql")[0] == "websocket.accept"


@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.example"],
        [f"evil.example:{PORT}"],
        [f"127.0.0.1.evil.example:{PORT}"],
        ["127.0.0.1"],
        ["127.0.0.1:80"],
        [f"127.0.0.1:{PORT}0"],
        [f"localhost.:{PORT}"],
        [""],
        [],
        [f"127.0.0.1:{PORT}", "evil.example"],
    ],
)
def test_a_name_that_is_not_its_own_is_refused(hosts):
    headers = [("host", host) for host in hosts]
    assert answer_of(*headers)[0] == 421
    assert answer_of(*headers, JSON, method="POST", path="/graphql")[0] == 421
    assert answer_of(*headers, kind="websocket")[0] == "websocket.close"


@pytest.mark.parametrize(
    "foreign",
    [
        ("origin", "null"),
        ("origin", ""),
        ("origin", "https://evil.example"),
        ("origin", "http://127.0.0.1:8000"),
        ("origin", f"http://localhost:{PORT}"),
        ("origin", f"https://127.0.0.1:{PORT}"),
        ("origin", f"http://127.0.0.1:{PORT}.evil.example"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "cross-site"),
    ],
)
def test_pages_of_other_origins_are_refused(foreign):
    assert answer_of(HOST, foreign)[0] == 403
    assert answer_of(HOST, JSON, foreign, method="POST", path="/graphql")[0] == 403
    assert answer_of(HOST, foreign, kind="websocket", path="/graphql")[0] == "websocket.close"


def test_of_two_origins_both_have_to_be_its_own():
    assert answer_of(HOST, OWN, ("origin", "https://evil.example"))[0] == 403


LINK = [HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]


def test_a_link_on_another_page_opens_a_page_and_nothing_else():
    html = ("accept", "text/html")
    assert answer_of(*LINK, html)[0] == 200
    assert answer_of(*LINK, html, path="/graphql")[0] == 403
    assert answer_of(*LINK, html, method="POST")[0] == 403
    assert answer_of(*LINK[:3], ("sec-fetch-dest", "iframe"), html)[0] == 403


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_graphql_is_not_executed_by_get(method):
    assert answer_of(HOST, OWN, method=method, path="/graphql")[0] == 405
    assert answer_of(HOST, OWN, JSON, method=method, path="/graphql")[0] == 405
    assert answer_of(HOST, OWN, ("accept", "text/html"), method=method, path="/graphql")[0] == 200


@pytest.mark.parametrize("path", ["/graphql", "/report_asset_materialization/dtx/target/EmailTemplate"])
@pytest.mark.parametrize(
    "kinds",
    [
        [],
        ["text/plain"],
        ["text/plain; application/json"],
        ["application/x-www-form-urlencoded"],
        ["multipart/form-data; boundary=application/json"],
        ["application/graphql"],
        ["application/json", "text/plain"],
    ],
)
def test_only_json_is_taken(kinds, path):
    headers = [("content-type", kind) for kind in kinds]
    assert answer_of(HOST, *headers, method="POST", path=path)[0] == 415
    assert answer_of(HOST, ("content-type", "Application/JSON; charset=utf-8"), method="POST", path=path)[0] == 200


def test_answers_cannot_be_framed_and_a_refusal_says_so_too():
    for headers in ([HOST], [("host", "evil.example")]):
        answered = answer_of(*headers)[1]
        assert answered["x-frame-options"] == "DENY"
        assert answered["cross-origin-resource-policy"] == "same-origin"


def test_a_proxy_serves_it_under_one_more_origin():
    proxied, host = "https://migration.example.com", ("host", "migration.example.com")
    assert answer_of(host)[0] == 421
    assert answer_of(host, ("origin", proxied), proxied=proxied)[0] == 200
    assert answer_of(host, OWN, proxied=proxied)[0] == 403
    assert answer_of(host, ("origin", "http://migration.example.com"), proxied=proxied)[0] == 403
    assert answer_of(HOST, ("origin", proxied), proxied=proxied)[0] == 403
    assert answer_of(HOST, OWN, proxied=proxied)[0] == 200


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("", None),
        (" https://Migration.example.com/ ", "https://migration.example.com"),
        ("https://migration.example.com:443", "https://migration.example.com"),
        ("http://migration.example.com:80", "http://migration.example.com"),
        ("http://migration.example.com:443", "http://migration.example.com:443"),
    ],
)
def test_the_origin_of_a_proxy_is_written_as_browsers_do(given, origin):
    assert proxied_origin(given) == origin


@pytest.mark.parametrize("given", ["migration.example.com", "*", "https://a b", "https://u:secret@h", "https://h/path"])
def test_what_is_no_origin_is_refused(given):
    with pytest.raises(ConfigurationError, match="DTX_UI_ORIGIN") as told:
        proxied_origin(given)
    assert "secret" not in str(told.value)


# --- the cutover pages beside the UI ----------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path) -> Callable[..., tuple[int, dict[str, str], str]]:
    """Asks for a path, beside a UI; its answer."""
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "cutover.html").write_text("<p>No-go</p>")
    (tmp_path / "report" / "other.html").write_text("other")
    known = {"zoo": tmp_path / "report" / "cutover.html", "new": tmp_path / "new" / "cutover.html"}
    pages = Pages(PlainTextResponse("the UI"), known)

    def ask(path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
        sent: list[dict] = []

        async def receive():
            return {"type": "http.request"}

        async def send(message):
            sent.append(message)

        asyncio.run(pages({"type": "http", "method": method, "path": path, "headers": []}, receive, send))
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers, b"".join(part.get("body", b"") for part in sent[1:]).decode()

    return ask


def test_a_page_is_served_as_it_was_written_and_may_not_act_as_the_ui(asked):
    status, headers, text = asked("/cutover/zoo")
    assert (status, text) == (200, "<p>No-go</p>")
    assert headers["content-security-policy"] == "sandbox allow-scripts"
    assert headers["content-type"].startswith("text/html")
    assert asked("/cutover/zoo", "HEAD")[0] == 200
    assert asked("/assets")[2] == "the UI"


def test_nothing_else_of_its_directory_is_served_and_nothing_is_written(asked):
    for path in ("/cutover/", "/cutover/other.html", "/cutover/zoo/other.html", "/cutover/../report/other.html"):
        status, _, text = asked(path)
        assert status == 404
        assert "/cutover/zoo" in text
    assert asked("/cutover/new")[2] == "there is no page yet: `dtx report new` writes it\n"
    assert asked("/cutover/zoo", "POST")[0] == 405
    assert asked("/cutover/zoo", "DELETE")[0] == 405
