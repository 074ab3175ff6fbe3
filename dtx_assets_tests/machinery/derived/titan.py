"""A local server that answers as Bedrock's Titan v2 does, throttles, refuses, breaks and hangs as it is told to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from dtx_assets.machinery.derived.bedrock import MODEL
from dtx_assets.machinery.derived.standin import CHARACTERS_A_TOKEN, StandIn
from dtx_assets_tests.machinery.derived.served import served

MOST_TOKENS = 8_192


@dataclass(frozen=True)
class Says:
    """An answer of the service: an error with its code and message, a body as it is, or nothing."""

    status: int = 200
    code: str | None = None
    message: str = "said the service"
    body: bytes | None = None
    breaks: bool = False
    hangs: bool = False


@dataclass
class Titan:
    """What the server was asked, and what it is to say: `script` first, then `rule` of the text, else a vector."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    script: list[Says] = field(default_factory=list)
    rule: Callable[[str], Says | None] = lambda _text: None
    most_at_once: int = 0
    gate: threading.Event | None = None
    """Where there is one, answers wait until it is set."""
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ends: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str, body: bytes) -> Says:
        given = json.loads(body)
        with self._lock:
            self.asked.append(given)
            self.paths.append(path)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            scripted = self.script.pop(0) if self.script else None
        try:
            if self.gate is not None:
                self.gate.wait(30)
            says = scripted or self.rule(given["inputText"])
            if says is not None and says.hangs:
                self._ends.wait(30)
            return says or self._vector(given)
        finally:
            with self._lock:
                self._at_once -= 1

    def _vector(self, given: dict[str, Any]) -> Says:
        """As the service: no text at all, one that is too long, other keys or dimensions are refused."""
        text = given["inputText"]
        tokens = round(len(text) / CHARACTERS_A_TOKEN)
        wrong = set(given) != {"inputText", "dimensions", "normalize"} or given["dimensions"] not in (256, 512, 1024)
        if wrong or not text:
            return Says(400, "ValidationException", "Malformed input request, please reformat your input.")
        if tokens > MOST_TOKENS or len(text) > 50_000:
            said = f"Too many input tokens. Max input tokens: {MOST_TOKENS}, request input token count: {tokens}"
            return Says(400, "ValidationException", f"400 Bad Request: {said}")
        vector = StandIn(given["dimensions"]).embed(text).vector.astype(float).tolist()
        told = {"embedding": vector, "embeddingsByType": {"float": vector}, "inputTextTokenCount": tokens}
        return Says(body=json.dumps(told).encode())


@contextmanager
def titan() -> Iterator[Titan]:
    """The server, on a free port of 127.0.0.1, until the block ends."""
    told = Titan()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            says = told.answer(unquote(self.path), body)
            if says.hangs or says.breaks:
                self.close_connection = True
                return
            content = says.body
            if content is None:
                content = json.dumps({"message": says.message}).encode()
            self.send_response(says.status)
            if says.code:
                self.send_header("x-amzn-ErrorType", says.code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_said: object) -> None:
            pass

    with served(Handler, told._ends) as url:
        told.url = url
        yield told


INVOKED = f"/model/{MODEL}/invoke"
