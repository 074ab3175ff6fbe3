"""The cutover pages beside the UI: `/cutover/SYSTEM` is the page of a system as it was written last; nothing else is.

`dtx ui` says in the environment of what it starts where the pages are, and under what address the UI is.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

PAGES_VARIABLE = "DTX_UI_PAGES"
"""Names, as JSON, the file of each system's page, for the webserver."""
ADDRESS_VARIABLE = "DTX_UI_ADDRESS"
"""Names the address of the UI, for the code locations that it serves and their runs."""
PREFIX = "/cutover/"
READING = ("GET", "HEAD")
HEADERS = {
    # Of an origin of its own: whatever a page might hold, it is not the UI, and may not act as it.
    "Content-Security-Policy": "sandbox allow-scripts",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


def page_address(system: str) -> str | None:
    """Where the UI serves the page of a system; None where there is no UI around."""
    address = os.environ.get(ADDRESS_VARIABLE)
    return f"{address}{PREFIX}{system}" if address else None


class Pages:
    """An ASGI application before the UI, which answers for the pages."""

    def __init__(self, app: ASGIApp, pages: Mapping[str, Path]) -> None:
        self.app, self.pages = app, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self.app(scope, receive, send)
            return
        await self.answer(scope)(scope, receive, send)

    def answer(self, scope: Scope) -> Response:
        system = scope["path"].removeprefix(PREFIX)
        if system not in self.pages:
            return PlainTextResponse(f"no such page; there is {', '.join(map(PREFIX.__add__, self.pages))}\n", 404)
        if scope["method"] not in READING:
            return PlainTextResponse("the page can be read only\n", 405, {"Allow": ", ".join(READING)})
        try:
            page = self.pages[system].read_bytes()
        except FileNotFoundError:
            return PlainTextResponse(f"there is no page yet: `dtx report {system}` writes it\n", 404)
        return Response(page, headers=HEADERS, media_type="text/html")


def pages_of_environment() -> dict[str, Path]:
    return {system: Path(page) for system, page in json.loads(os.environ.get(PAGES_VARIABLE, "{}")).items()}
