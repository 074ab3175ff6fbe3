"""Dagster's webserver with a guard before it: pages of other origins can neither start nor see anything.

The webserver knows no login and takes what any page in the user's browser sends to it, mutations in the address of a
picture too. `python -m dtx_assets.machinery.dagster.guarded_webserver`, which `dtx ui` starts, takes the options of
`dagster-webserver`. Who may use the UI is not decided here. The cutover pages are served beside it.
"""

import os
import re
from collections.abc import Mapping

from dagster_webserver import cli as webserver
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dtx_assets import interrupts
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.settings import mask_url
from dtx_assets.machinery.dagster.served_pages import Pages, pages_of_environment

ORIGIN_VARIABLE = "DTX_UI_ORIGIN"
"""Names the origin that a proxy serves the UI under, `https://migration.example.com`."""
OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
GRAPHQL = "/graphql"
READING = ("GET", "HEAD")
POLICY_VIOLATION = 1008
ANSWER_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""No other page may frame an answer, hold on to its window or take it for a script."""


class Guard:
    """An ASGI application before another one: what is not the UI's own request is refused, with the reason.

    `proxied` is one more origin, that of a proxy; else the UI is what listens on this machine's loopback address.
    """

    def __init__(self, app: ASGIApp, proxied: str | None = None) -> None:
        self.app, self.proxied = app, proxied

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = None if scope["type"] == "lifespan" else self.refusal(scope)
        if refused is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refused[1]})
        else:
            status, why = refused
            answer = PlainTextResponse(f"refused: {why}\n", status)
            await answer(scope, receive, _with_headers(send))

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the reason with which a request is refused; None for one of the UI's own."""
        headers, origins = Headers(scope=scope), self.origins(scope)
        hosts = [host.lower() for host in headers.getlist("host")]
        if len(hosts) != 1 or hosts[0] not in origins:
            return 421, f"the UI is not served under this name; open {next(iter(origins.values()))}"
        if any(origin.lower() != origins[hosts[0]] for origin in headers.getlist("origin")):
            return 403, "this was sent by a page of another origin"
        method = scope.get("method", "GET")
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not _is_link(scope, headers):
            return 403, "this was sent by a page of another site"
        if scope["type"] == "websocket":
            return None
        if method in READING:
            executes = scope["path"] == GRAPHQL and "text/html" not in headers.get("accept", "")
            return (405, "GraphQL is asked by POST here") if executes else None
        # Anything but JSON could be sent by a form of another page, without the browser asking first.
        kinds = [kind.partition(";")[0].strip().lower() for kind in headers.getlist("content-type")]
        return None if kinds == ["application/json"] else (415, "send it as application/json")

    def origins(self, scope: Scope) -> Mapping[str, str]:
        """The origin of the UI by the Host that names it."""
        port = scope["server"][1]
        names = [f"{name}:{port}" for name in OWN_NAMES]
        names += OWN_NAMES if port == 80 else []
        own = {name: f"http://{name}" for name in names}
        return own if self.proxied is None else own | {self.proxied.partition("://")[2]: self.proxied}


def _is_link(scope: Scope, headers: Headers) -> bool:
    """Whether a user followed a link on another page to a page of the UI; it sees nothing of what opens."""
    opens = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return opens and scope["type"] == "http" and scope["method"] in READING and scope["path"] != GRAPHQL


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(ANSWER_HEADERS)
        await send(message)

    return send_with_headers


def proxied_origin(given: str) -> str | None:
    """The origin that a variable names, as browsers write it; None where it names none."""
    origin = given.strip().rstrip("/").lower()
    if origin and not re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?", origin):
        raise ConfigurationError(
            f"{ORIGIN_VARIABLE} is {mask_url(given)!r}, and no origin",
            where=f"environment variable {ORIGIN_VARIABLE}",
            remedy="name scheme and host, and the port if it is not the usual one: https://migration.example.com",
        )
    return re.sub(r"(?<=^https)(://.*):443$|(?<=^http)(://.*):80$", r"\1\2", origin) or None


def main() -> None:
    """What `dagster-webserver` does, guarded."""
    interrupts.leave_quietly()
    make_app = webserver.create_app_from_workspace_process_context
    try:
        proxied = proxied_origin(os.environ.get(ORIGIN_VARIABLE, ""))
    except ConfigurationError as error:
        raise SystemExit(f"error: {error}") from None

    def make_guarded_app(*arguments: object, **options: object) -> Guard:
        return Guard(Pages(make_app(*arguments, **options), pages_of_environment()), proxied)  # type: ignore[arg-type]

    webserver.create_app_from_workspace_process_context = make_guarded_app  # type: ignore[assignment]
    webserver.main()


if __name__ == "__main__":
    main()
